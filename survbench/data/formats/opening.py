"""Which files are opened at all, and what a file is that is none of those formats."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from survbench.errors import BadFile, MissingFile, SurvbenchError

__all__ = ["regular", "walk", "what_it_is"]

HIDDEN = ".git"


def regular(file: Path) -> int:
    """Size of a file in bytes; looked at before it is opened, because a pipe would be waited for.

    Raises
    ------
    MissingFile : no such file.
    BadFile : a folder, pipe or device, or an empty file.
    """
    try:
        found = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFile(f"feature file {file} does not exist", "restore it") from None
    except OSError as error:
        raise BadFile(f"{file} cannot be opened ({error.strerror})", "check its permissions and its disk") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
        raise BadFile(f"{file} is {kind}, expected a file", "name a folder of feature files")
    if found.st_size == 0:
        raise BadFile(f"{file} is empty", "copy or extract it again")
    return found.st_size


@contextmanager
def what_it_is(file: Path) -> Iterator[None]:
    """Any failure of a reader is one line with the file's name; of files of another kind it says what they are."""
    try:
        yield
    except (SurvbenchError, MemoryError) as error:
        if isinstance(error, MemoryError):
            raise BadFile(f"{file} does not fit into memory", "it may be damaged; copy or extract it again") from None
        if isinstance(error, BadFile):
            _of_another_kind(file)
        raise
    except Exception as error:
        _of_another_kind(file)
        lines = str(error).splitlines() or [""]
        what = f"{file} cannot be read ({type(error).__name__}: {lines[0][:200]})"
        raise BadFile(what, "it may be damaged; copy or extract it again") from None


def _of_another_kind(file: Path) -> None:
    with file.open("rb") as handle:
        head = handle.read(64).lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        raise BadFile(f"{file} is a Git LFS pointer, not the file itself", "run git lfs pull") from None
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise BadFile(f"{file} is a web page, not a feature file", "download it again") from None


def walk(folder: Path) -> Iterator[Path]:
    """Files below a folder, sorted; linked folders are followed, each once."""
    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        found = os.stat(place)
        if (found.st_dev, found.st_ino) in seen:
            folders.clear()
            continue
        seen.add((found.st_dev, found.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith(HIDDEN))
        yield from (Path(place, name) for name in sorted(files))
