"""A table in words, which the terminal and Markdown show alike; what is in it is decided where it is made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["Sheet"]


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Title, headers, rows of texts, and what a reader must know to read them right.

    Attributes
    ----------
    left : how many columns come before those of numbers.
    """

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]
    left: int = 1

    def to_rich(self, style: str = "bold") -> Group:
        """For the terminal; `style` is that of the title."""
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for i, header in enumerate(self.headers):
            shown.add_column(header, justify="left" if i < self.left else "right", overflow="fold")
        for cells in self.rows:
            shown.add_row(*map(Text, cells))
        return Group(Text(self.title, style=style), shown, *(Text(note, style="dim") for note in self.notes))

    def to_markdown(self) -> str:
        """As Markdown."""
        sides = ["---"] * self.left + ["---:"] * (len(self.headers) - self.left)
        rows = [[cell.replace("|", "\\|") for cell in row] for row in self.rows]
        lines = [_row(cells) for cells in (self.headers, sides, *rows)]
        return "\n".join([f"## {self.title}", "", *lines, "", *(f"- {note}" for note in self.notes)]) + "\n"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
