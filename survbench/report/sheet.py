"""A table in words, which the terminal and Markdown show alike; what is in it is decided where it is made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from survbench.console import make_table

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["Sheet", "markdown_table"]


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
        from rich.text import Text

        right = range(self.left, len(self.headers))
        shown = make_table(self.headers, self.rows, right, box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        return Group(Text(self.title, style=style), shown, *(Text(note, style="dim") for note in self.notes))

    def to_markdown(self) -> str:
        """As Markdown."""
        rows = [[cell.replace("|", "\\|") for cell in row] for row in self.rows]
        notes = [f"- {note}" for note in self.notes]
        return "\n".join([f"## {self.title}", "", *markdown_table(self.headers, rows, self.left), "", *notes]) + "\n"


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> list[str]:
    """Lines of a table of texts that are Markdown already; `left` columns come before those of numbers."""
    sides = ["---"] * left + ["---:"] * (len(headers) - left)
    return [f"| {' | '.join(cells)} |" for cells in (headers, sides, *rows)]
