"""Talking to the person at the terminal: progress and notes go to standard error, documents to standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

__all__ = ["note", "progress_bars", "stderr", "stdout", "track", "warn"]

T = TypeVar("T")


@cache
def stderr() -> Console:
    """Console for progress, notes and warnings."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def stdout() -> Console:
    """Console for what the command was asked for; wide when piped, so that tables are not squeezed."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def note(text: str) -> None:
    """Say something that is not the command's result."""
    stderr().print(text, style="dim", markup=False, soft_wrap=True)


def warn(text: str) -> None:
    """Say something that the user should act on or know when reading the result."""
    stderr().print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)


def progress_bars() -> Progress:
    """A live set of progress bars on standard error, with elapsed and remaining time."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=stderr(),
        disable=not stderr().is_terminal,
        transient=True,
    )


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a progress bar; silent when standard error is not a terminal."""
    with progress_bars() as progress:
        yield from progress.track(items, description=description, total=total)
