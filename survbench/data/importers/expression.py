"""The expression table of a source: patients by name, genes by name, values as they are."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from survbench.data.validation import check_expression
from survbench.errors import BadExpression, BadFile, MissingFile

__all__ = ["read_expression"]

DAMAGED_SYMBOL = re.compile(r"^\d{1,2}-(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)$", re.IGNORECASE)


def read_expression(file: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Expression from a CSV (also compressed) whose first column is the patient; the first row of a patient counts.

    Returns
    -------
    (patients, genes) float32, and the patients who have several rows.

    Raises
    ------
    MissingFile : no such file.
    BadFile : it is no table.
    BadExpression : values that are no numbers, genes twice, symbols that a spreadsheet turned into dates.
    """
    try:
        header = pd.read_csv(file, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0].tolist()
        table = pd.read_csv(file, header=None, skiprows=1, index_col=0, dtype={0: str}, low_memory=False)
    except FileNotFoundError:
        raise MissingFile(f"{file} does not exist") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise BadFile(f"{file} is not a table: {error}") from None
    if table.shape[1] != len(header) - 1:
        raise BadFile(f"{file} has {len(header)} column names and {table.shape[1] + 1} columns")
    table.index, table.columns = table.index.astype(str), pd.Index(header[1:])
    damaged = [gene for gene in table.columns if DAMAGED_SYMBOL.match(gene)]
    if damaged:
        raise BadExpression(f"{file}: gene '{damaged[0]}' is a date made by a spreadsheet", "restore the gene symbols")
    text = [gene for gene, kind in table.dtypes.items() if kind.kind == "O" or pd.api.types.is_string_dtype(kind)]
    if text:
        column = pd.to_numeric(table[text[0]], errors="coerce")
        patient = table.index[column.isna()][0]
        raise BadExpression(
            f"{file}: patient {patient}, gene {text[0]} is '{table[text[0]].loc[patient]}', expected a number"
        )
    twice = tuple(sorted(set(table.index[table.index.duplicated()])))
    table = table[~table.index.duplicated()]
    check_expression(table, str(file))
    return table.astype(np.float32), twice
