"""Decimal commas, which tables that are separated by tabs or semicolons may have, become points."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from survbench.data.text import Say
from survbench.errors import BadFile

__all__ = ["certain_decimals", "with_points"]

COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
WHOLE = re.compile(r"[+-]?\d+")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
CERTAIN = re.compile(r"(?<![\d,])[+-]?(?:\d+,(?:\d{1,2}|\d{4,})|0\d*,\d+|\d{4,},\d+)(?![\d,])")
IDENTIFIER = re.compile(r"patient|case|slide|sample|barcode|path|file|(^|_)id$", re.IGNORECASE)
BLANK = {"", "NA", "N/A", "#N/A", "nan", "NaN", "null", "-"}


def certain_decimals(text: str) -> bool:
    """Whether some number in a text can only have a decimal comma: 1,5 can, 1,500 may be fifteen hundred."""
    return CERTAIN.search(text) is not None


def with_points(table: pd.DataFrame, file: Path, lines: np.ndarray, say: Say, *, certain: bool) -> pd.DataFrame:
    """The table with decimal points, in columns all of whose numbers have commas.

    Parameters
    ----------
    table : text.
    file : for the message.
    lines : line of each row.
    say : takes which columns were changed.
    certain : whether commas divide no thousands, as in files that are separated by semicolons for their sake.

    Raises
    ------
    BadFile : a column that has both, or commas that may divide thousands, naming the cell.
    """
    changed: dict[str, pd.Series] = {}
    doubtful = None
    for column in table.columns:
        if IDENTIFIER.search(str(column)):
            continue
        values = table[column]
        commas = values.map(lambda value: COMMA.fullmatch(value) is not None)
        if not commas.any():
            continue
        rest = values[~commas & ~values.isin(BLANK)]
        odd = rest[~rest.map(lambda value: WHOLE.fullmatch(value) is not None)]
        if len(odd):
            if 2 * len(odd) > commas.sum() + len(rest) and not odd.map(lambda v: NUMBER.fullmatch(v) is not None).any():
                continue  # words, a few of which look like a number
            raise BadFile(
                f"{file}, line {lines[int(np.argmax(values.index == odd.index[0]))]}: {column} is '{odd.iloc[0]}', "
                f"where others have a decimal comma, such as '{values[commas].iloc[0]}'",
                "write all numbers of a column in one way",
            )
        sure = not values[commas].map(lambda value: THOUSANDS.fullmatch(value) is not None).all()
        certain |= sure
        if not sure and doubtful is None:
            first = int(np.argmax(commas.to_numpy()))
            doubtful = f"{file}, line {lines[first]}: {column} is '{values.iloc[first]}'"
        changed[str(column)] = values.where(~commas, values.str.replace(",", ".", regex=False))
    if doubtful is not None and not certain:
        raise BadFile(f"{doubtful}, which may be a decimal comma or thousands", "write numbers with decimal points")
    if changed:
        say(f"{file.name}: decimal commas of {', '.join(list(changed)[:5])} were read as points")
    return table.assign(**changed)
