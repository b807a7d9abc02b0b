"""Delimited text: tables as tools leave them, read as text, and written."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from survbench.errors import BadFile, MissingFile
from survbench.files import atomic_write

__all__ = ["read_table", "write_table"]


def read_table(file: Path, separator: str = ",") -> pd.DataFrame:
    """A table in which every value is text and blanks are empty text, so that identifiers keep their zeros.

    Raises
    ------
    MissingFile : no such file.
    BadFile : it is empty, or no table.
    """
    try:
        return pd.read_csv(file, sep=separator, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise MissingFile(f"{file} does not exist") from None
    except pd.errors.EmptyDataError:
        raise BadFile(f"{file} is empty") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise BadFile(f"{file} is not a table: {error}") from None


def write_table(file: Path, table: pd.DataFrame) -> None:
    atomic_write(file, table.to_csv(index=False, lineterminator="\n"))
