"""Delimited text: tables as tools leave them, read as text, and written.

Rows are found first, so that whatever is odd has a line; pandas then reads the cells.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from survbench.console import note
from survbench.data.decimals import with_points
from survbench.data.text import Say, read_text
from survbench.errors import BadFile
from survbench.files import atomic_write

__all__ = ["BLANKS", "BREAK", "Delimited", "read_delimited", "read_table", "write_table"]

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons"}
BLANKS = " \t\u00a0\u200b\u2003\u3000\ufeff"  # around names; some of them nobody sees
BREAK = "\x01"  # stands for a line break inside quotes while rows are found; `read_text` lets no such character in
csv.field_size_limit(2**31 - 1)  # `read_text` limits what is read
UNNAMED = re.compile(r"Unnamed: \d+(\.\d+)?")


@dataclass(frozen=True)
class Delimited:
    """A table's rows, found and counted; its cells are still one text.

    Attributes
    ----------
    file : it is from.
    separator : between cells.
    header : names of the columns; blank where there is none.
    body : the rows below the header, none of them blank, each with as many cells as the header.
    lines : line of the file of each row.
    """

    file: Path
    separator: str
    header: tuple[str, ...]
    body: str
    lines: np.ndarray


def read_delimited(file: Path, say: Say = note, *, ragged: bool = False) -> Delimited:
    """Find a table's separator, header and rows.

    Parameters
    ----------
    file : separated by commas, tabs or semicolons.
    say : takes what the user should know, such as another separator than the comma.
    ragged : whether a row may end early; its other cells are blank.

    Raises
    ------
    MissingFile : no such file.
    BadFile : it is no text, is empty, or has a row with another number of cells than the header.
    """
    text = read_text(file, say)
    rows, lines, declared = _content_rows(text)
    comments = sum(line.lstrip(BLANKS).startswith("#") for line in text.split("\n", 50)[: lines[0] - 1]) if rows else 0
    if comments:
        say(f"{file.name}: {comments} comment {'line' if comments == 1 else 'lines'} above the header left out")
    if not rows:
        raise BadFile(f"{file} is empty", "expected a line with the names of the columns")
    separator = declared or _separator(rows)
    if '"' in text:
        rows, lines = _quoted_rows(file, rows, lines, separator)
    header = [" ".join(name.split(BREAK)).strip(BLANKS) for name in _cells(rows[0], separator)]
    while len(header) > 1 and not header[-1]:
        header.pop()
    if len(header) == 1 and any(re.search(r"\S(\s+|\|)\S", row.strip()) for row in rows[1:2]):
        raise BadFile(f"{file} has a single column, '{header[0][:80]}'", "separate cells by commas, tabs or semicolons")
    if separator != ",":
        say(f"{file.name} is separated by {SEPARATORS[separator]}")
    kept, where = _checked_rows(file, rows[1:], lines[1:], (separator, len(header), ragged), say)
    body = "\n".join(kept).replace(BREAK, "\n")
    return Delimited(file, separator, tuple(header), body, np.array(where, dtype=int))


def read_table(file: Path, say: Say = note, *, ragged: bool = False) -> pd.DataFrame:
    """A table in which every value is text and blanks are empty text, so that identifiers keep their zeros.

    Parameters
    ----------
    file : separated by commas, tabs or semicolons; decimal commas become points where it is not by commas.
    say : takes what the user should know.
    ragged : whether a row may end early.

    Raises
    ------
    MissingFile : no such file.
    BadFile : it is empty, no table, has a column twice, or a row with more or fewer cells than the header.
    """
    found = read_delimited(file, say, ragged=ragged)
    names = [name or f"Unnamed: {number}" for number, name in enumerate(found.header)]
    for number, name in enumerate(names):
        if name in names[:number]:
            if not UNNAMED.fullmatch(name):
                raise BadFile(f"{file} has the column '{name[:80]}' twice", "keep one of them")
            names[number] = f"{name}.{number}"
    table = _parsed(found).set_axis(pd.Index(names, dtype=object), axis=1)
    table = table.apply(lambda column: column.str.strip(BLANKS + "\n")) if len(table) else table
    if found.separator == ",":
        return table
    return with_points(table, file, found.lines, say, certain=found.separator == ";")


def write_table(file: Path, table: pd.DataFrame) -> None:
    atomic_write(file, table.to_csv(index=False, lineterminator="\n"))


def _parsed(found: Delimited) -> pd.DataFrame:
    columns = range(len(found.header))
    if not found.body:
        return pd.DataFrame(columns=columns, dtype=str)
    try:
        return pd.read_csv(
            io.BytesIO(found.body.encode()),
            sep=found.separator,
            header=None,
            names=columns,
            index_col=False,
            dtype=str,
            na_filter=False,
            skip_blank_lines=False,
        )
    except pd.errors.ParserError as error:
        raise BadFile(f"{found.file} is not a table: {error}") from None


def _content_rows(text: str) -> tuple[list[str], list[int], str | None]:
    """Lines from the header on, their numbers, and the separator that Excel's first line declares."""
    rows, declared = text.split("\n"), None
    for number, row in enumerate(rows):
        bare = row.strip(BLANKS)
        if number == 0 and (found := re.fullmatch(r'"?sep=([,;\t])"?', bare + ("\t" if bare == "sep=" else ""))):
            declared = found[1]
        elif bare.strip(',;"') and not bare.startswith("#"):
            return rows[number:], list(range(number + 1, len(rows) + 1)), declared
    return [], [], declared


def _separator(rows: list[str]) -> str:
    """The one that divides the header, and most rows into as many cells; a comma if none does."""
    best, most = ",", (0.0, 0)
    for separator in SEPARATORS:
        cells = len(_cells(rows[0], separator))
        if cells < 2:
            continue
        some = [row for row in rows[1:200] if row.strip(BLANKS + separator)]
        equal = sum(len(_cells(row, separator)) >= cells for row in some) / max(len(some), 1)
        if (equal, cells) > most and (equal > 0 or most == (0.0, 0)):
            best, most = separator, (equal, cells)
    return best


def _cells(row: str, separator: str) -> list[str]:
    if '"' not in row:
        return row.split(separator)
    return next(csv.reader([row], delimiter=separator), [""])


def _quoted_rows(file: Path, rows: list[str], lines: list[int], separator: str) -> tuple[list[str], list[int]]:
    """Join lines that are one row because a cell in quotes goes over several."""
    opening = f'(?<![^{separator}\n])"'
    quoted = re.compile(f'{opening}[^"]*(?:""[^"]*)*"')
    joined = quoted.sub(lambda cell: cell[0].replace("\n", BREAK), "\n".join(rows)).split("\n")
    rest = re.compile(opening)
    numbers, line = [], lines[0]
    for row in joined:
        numbers.append(line)
        if '"' in row and rest.search(quoted.sub("", row)):
            raise BadFile(f"{file}, line {line}: a quotation mark is opened and never closed", "copy or correct it")
        line += 1 + row.count(BREAK)
    return joined, numbers


def _checked_rows(
    file: Path, rows: list[str], lines: list[int], form: tuple[str, int, bool], say: Say
) -> tuple[list[str], list[int]]:
    """Rows that are not blank, as long as the header; anything else is refused by its line."""
    separator, width, ragged = form
    kept, where, blank = [], [], 0
    empty = BLANKS + separator
    for row, line in zip(rows, lines, strict=True):
        cells = row.count(separator) + 1 if '"' not in row else len(_cells(row, separator))
        if cells == width and row[:1] not in ("", separator, " ", "\t", '"'):
            kept.append(row)
            where.append(line)
            continue
        if not row.strip(empty) or (row[0] == '"' and not any(cell.strip(BLANKS) for cell in _cells(row, separator))):
            blank += bool(row.strip(BLANKS))
            continue
        if cells != width:
            row = _resized(f"{file}, line {line}", row, separator, (cells, width), ragged or None)
        kept.append(row)
        where.append(line)
    if blank:
        say(f"{file.name}: {blank} blank {'row was' if blank == 1 else 'rows were'} left out")
    return kept, where


def _resized(where: str, row: str, separator: str, counts: tuple[int, int], ragged: bool | None) -> str:
    (cells, width), start = counts, row[:40].replace(BREAK, " ")
    if cells < width:
        if ragged:
            return row + separator * (width - cells)
        raise BadFile(
            f"{where} ends early: it has {cells} of {width} cells; it begins '{start}'",
            "was the file cut off? Copy it again, or fill in the row",
        )
    content = _cells(row, separator)
    if any(cell.strip(BLANKS) for cell in content[width:]):
        raise BadFile(
            f"{where} has {cells} cells, the header {width}; it begins '{start}'",
            "name every column, also the first one (R: write.csv), and put cells that hold a separator into quotes",
        )
    if '"' not in row:
        return separator.join(content[:width])
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator="").writerow(content[:width])
    return out.getvalue()
