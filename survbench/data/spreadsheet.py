"""The first sheet of an Excel workbook (.xlsx) as text: cells as they are stored, dates as their serial numbers.

A workbook is a zip archive of XML. Nothing is extracted; document types, which can define entities, are refused.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

import pandas as pd

from survbench.data.text import Say
from survbench.errors import BadFile, MissingFile

__all__ = ["read_sheet"]

LARGEST = 1 << 29  # bytes of one part of a workbook, unpacked
_CELL = re.compile(r"([A-Z]{1,3})\d+")


def read_sheet(file: Path, say: Say) -> pd.DataFrame:
    """The first sheet of a workbook; every value is text and blanks are empty text.

    Parameters
    ----------
    file : the workbook.
    say : takes the names of sheets that are not read.

    Raises
    ------
    MissingFile : no such file.
    BadFile : it is no workbook, is too large, or its first sheet has no header.
    """
    if not file.is_file():
        raise MissingFile(f"{file} does not exist")
    try:
        with zipfile.ZipFile(file) as book:
            names = [sheet.get("name", "") for sheet in _root(book, "xl/workbook.xml").iter() if _tag(sheet) == "sheet"]
            rows = list(_rows(book, _first_sheet(book), _shared(book)))
    except (zipfile.BadZipFile, ElementTree.ParseError, KeyError, ValueError, EOFError, OSError, RuntimeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise BadFile(f"{file} cannot be read as an Excel workbook ({what})", "save the sheet as CSV") from None
    if len(names) > 1:
        say(f"{file.name}: sheet '{names[0]}' is read; not used: {', '.join(names[1:])}")
    rows = [row for row in rows if any(row.values())]
    if not rows:
        raise BadFile(f"{file}: its first sheet is empty", "expected a line with the names of the columns")
    return _table(file, rows)


def _table(file: Path, rows: list[dict[int, str]]) -> pd.DataFrame:
    header = {at: name.strip() for at, name in rows[0].items() if name.strip()}
    twice = [name for name in header.values() if list(header.values()).count(name) > 1]
    if twice:
        raise BadFile(f"{file} has the column {twice[0]} twice", "keep one of them")
    if stray := [at for row in rows[1:] for at, text in row.items() if text and at > max(header)]:
        raise BadFile(f"{file} has values right of its columns (column {min(stray) + 1})", "remove them")
    return pd.DataFrame({name: [row.get(at, "") for row in rows[1:]] for at, name in header.items()}, dtype=object)


def _open(book: zipfile.ZipFile, name: str) -> IO[bytes]:
    """A part of the workbook, which is no bomb and has no document type."""
    if book.getinfo(name).file_size > LARGEST:
        raise ValueError(f"{name} is larger than {LARGEST >> 20} MB")
    with book.open(name) as part:
        if b"<!DOCTYPE" in part.read(4096):
            raise ValueError(f"{name} has a document type")
    return book.open(name)


def _root(book: zipfile.ZipFile, name: str) -> ElementTree.Element:
    with _open(book, name) as part:
        return ElementTree.parse(part).getroot()


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _first_sheet(book: zipfile.ZipFile) -> str:
    """Name of the part that holds the first sheet."""
    first = next(of for of in _root(book, "xl/workbook.xml").iter() if _tag(of) == "sheet")
    identity = next(value for key, value in first.attrib.items() if key.endswith("}id"))
    targets = {of.get("Id"): of.get("Target", "") for of in _root(book, "xl/_rels/workbook.xml.rels")}
    return "xl/" + targets[identity].removeprefix("/").removeprefix("xl/")


def _shared(book: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in book.namelist():
        return []
    return [_written(item) for item in _root(book, "xl/sharedStrings.xml")]


def _written(item: ElementTree.Element) -> str:
    """The text of a string, without the phonetic reading that East Asian sheets keep beside it."""
    if _tag(item) == "t":
        return item.text or ""
    return "".join(_written(part) for part in item if _tag(part) in ("t", "r"))


def _rows(book: zipfile.ZipFile, sheet: str, shared: list[str]) -> Iterator[dict[int, str]]:
    """Column number -> text of each row."""
    with _open(book, sheet) as part:
        for _, row in ElementTree.iterparse(part):
            if _tag(row) != "row":
                continue
            cells: dict[int, str] = {}
            for cell in row:
                place = _CELL.fullmatch(cell.get("r", ""))
                at = _number(place[1]) if place else max(cells, default=-1) + 1
                cells[at] = _value(cell, shared)
            yield cells
            row.clear()


def _number(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number - 1


def _value(cell: ElementTree.Element, shared: list[str]) -> str:
    kind, parts = cell.get("t", "n"), {_tag(part): part for part in cell}
    if kind == "inlineStr":
        return _written(parts["is"]) if "is" in parts else ""
    text = (parts["v"].text or "") if "v" in parts else ""
    if kind == "s" and text:
        return shared[int(text)]
    if kind == "b":
        return {"1": "TRUE", "0": "FALSE"}.get(text, text)
    return _whole(text) if kind == "n" else text


def _whole(text: str) -> str:
    """A number without what a spreadsheet adds: 55.0 is 55, 0.10000000000000001 is 0.1."""
    try:
        value = float(text)
    except ValueError:
        return text
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
