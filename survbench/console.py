"""What is printed: progress, notes and warnings on standard error, results on standard output."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

__all__ = [
    "note",
    "print_line",
    "progress_bars",
    "relay_lines",
    "relayed",
    "shown",
    "stderr",
    "stdout",
    "track",
    "visible",
    "warn",
]

T = TypeVar("T")

# What a terminal obeys instead of showing it: control characters but line feed and tab, and marks that turn text round.
_OBEYED = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069]")


def visible(text: str) -> str:
    """Text with what a terminal would obey written out, such as `\\x1b`: names come from files of strangers."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def shown(names: Sequence[str], most: int = 3, longest: int = 60) -> str:
    """The first names, each cut where it is longer than any name is, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    clipped = (name if len(name) <= longest else f"{name[:longest]}…" for name in names[:most])
    return (", ".join(clipped) or "nothing") + more


@cache
def stderr() -> Console:
    """Console for progress, notes and warnings."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def stdout() -> Console:
    """Console for results; wide when piped, so that tables are not squeezed."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout and sys.stdout.isatty() else 160)


_relay: list[Callable[[str, str], None]] = []


def relay_lines(relay: Callable[[str, str], None]) -> None:
    """Send this process's lines to another one, whose progress bars they would run into; show no bars here.

    Parameters
    ----------
    relay : takes each line and its style.
    """
    _relay[:] = [relay]


def relayed() -> bool:
    """Whether this process's lines go to another one."""
    return bool(_relay)


def print_line(text: str, style: str) -> None:
    """Print a line on standard error, or where `relay_lines` sends it."""
    if _relay:
        _relay[0](visible(text), style)
    else:
        stderr().print(visible(text), style=style, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """Print something that is not the command's result."""
    print_line(text, "dim")


def warn(text: str) -> None:
    """Print something that the user should act on or know when reading the result."""
    print_line(f"warning: {text}", "yellow")


def progress_bars() -> Progress:
    """A live set of progress bars on standard error, with elapsed and remaining time."""
    from rich import progress

    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=stderr(),
        disable=bool(_relay) or not stderr().is_terminal,
        transient=True,
    )


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a progress bar; silent when standard error is not a terminal."""
    with progress_bars() as progress:
        yield from progress.track(items, description=visible(description), total=total)
