"""Replaces the folder of a cohort so that a reader finds the old one or the new one, whenever a process is killed.

The old folder is renamed, the new one takes its place, what is not this suite's moves over, and the rest is removed.
What a killed process left half way is finished, or taken back, when the root is opened next.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from survbench.errors import BadFile
from survbench.files import LEFTOVER, lock, replaced_folder

__all__ = ["put", "recover", "sweep"]

WRITTEN = (  # in a cohort's folder by this suite, and only by it
    "patients.csv",
    "slides.csv",
    "expression.parquet",
    "pathways.gmt",
    "families.gmt",
    "folds",
    "cohort.json",  # goes last: while it is there, the others are this suite's
)
OLD = re.compile(r"\.(?P<name>.+)\.replaced")  # a cohort's former folder
LOCK = ".writing"


def put(target: Path, write: Callable[[Path], None]) -> None:
    """Write a cohort's folder in place of the one that may be there.

    Parameters
    ----------
    target : the folder; one that is there must be a cohort's.
    write : writes the files of `WRITTEN` into a folder.

    Raises
    ------
    BadFile : the folder that is there is a link, or was not written by this suite.
    """
    with lock(target.parent / LOCK):
        _finish(target.parent)
        sweep(target.parent)
        if target.is_symlink() or (target.exists() and not _ours(target)):
            kind = "is a link" if target.is_symlink() else "was not written by `survbench data import`"
            raise BadFile(f"{target} {kind}; nothing in it is replaced", "rename it, or name another --out")
        old = target.with_name(f".{target.name}.replaced")
        with replaced_folder(target, old) as scratch:
            write(scratch)
        if old.exists():
            _move_over(old, target)


def recover(root: Path) -> None:
    """Finish or take back what a killed process left half way, unless one is at it or the root cannot be written."""
    if not any(_replaced(root)) and not root.joinpath(f"{LOCK}.lock").exists():
        return
    with suppress(OSError), lock(root / LOCK, wait=False) as mine:
        if mine:
            _finish(root)


def sweep(folder: Path) -> None:
    """Remove what killed processes left of files and folders that they had begun."""
    for left in folder.glob(".*"):
        if LEFTOVER.fullmatch(left.name):
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink(missing_ok=True)


def _replaced(root: Path) -> Iterator[tuple[Path, Path]]:
    """A former folder and the cohort's own, of each cohort that is being replaced."""
    for old in sorted(root.glob(".*.replaced")):
        match = OLD.fullmatch(old.name)
        if match and old.is_dir() and not old.is_symlink():
            yield old, root / match["name"]


def _ours(folder: Path) -> bool:
    """Whether its cohort.json is one that this suite writes; another program may have a file of that name."""
    try:
        content = json.loads((folder / "cohort.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"format", "name"} <= set(content)


def _finish(root: Path) -> None:
    for old, target in _replaced(root):
        if target.exists():
            _move_over(old, target)
        elif _ours(old):
            os.rename(old, target)


def _move_over(old: Path, target: Path) -> None:
    """Everything that is not this suite's goes to the new folder; then the former one is removed."""
    sweep(old)
    for entry in sorted(old.iterdir()):
        if entry.name not in WRITTEN and not (target / entry.name).exists():
            os.rename(entry, target / entry.name)
    for name in WRITTEN if _ours(old) else ():
        file = old / name
        if file.is_dir() and not file.is_symlink():
            for table in file.glob("*.csv"):
                if table.read_bytes().startswith(b"fold,patient,split"):  # as this suite writes them
                    table.unlink()
            if any(file.iterdir()):
                continue  # something of the user's: it stays where it is, and is found below
            file.rmdir()
        else:
            file.unlink(missing_ok=True)
    if any(old.iterdir()):
        kept = target / "replaced"
        os.rename(old, kept if not kept.exists() else target / f"replaced-{os.getpid()}")
    else:
        old.rmdir()
