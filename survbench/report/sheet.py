"""A table for people; what it holds is decided where it is made, and how each output shows it here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from survbench.console import visible

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["Cell", "Look", "Sheet", "escape_markdown"]


class Look(StrEnum):
    """What a text stands out for, as a style of rich; Markdown sets apart what is published alone."""

    PLAIN = ""
    TITLE = "bold"
    SIMULATED_TITLE = "bold black on yellow"
    GROUP = "bold underline"
    NAME = "bold"
    DETAIL = "dim"
    PUBLISHED = "dim italic cyan"
    SIMULATED = "yellow"
    FAILED = "bold red"


class Cell(NamedTuple):
    """A text and its look."""

    text: str
    look: Look = Look.PLAIN


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Title, headers, rows, and what a reader must know to read them right.

    Attributes
    ----------
    title : above the table.
    headers : one per column.
    rows : cells of each row: values, shown as `str` shows them, or `Cell`s; shorter rows are filled up. A row without
        any cell is a line between groups of rows.
    notes : below the table, each a line or a paragraph.
    align : `l` or `r` per column; the last one is that of all columns that follow.
    look : of the title.
    """

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    notes: Sequence[str] = ()
    align: str = "lr"
    look: Look = Look.TITLE

    def to_rich(self, name_width: int | None = None) -> Group:
        """For the terminal: texts as they are, whatever markup they look like, broken where they are too long.

        Parameters
        ----------
        name_width : where texts of the first column break; None leaves that to the terminal's width.
        """
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        for i, (header, side) in enumerate(zip(self.headers, self.sides, strict=True)):
            width = name_width if i == 0 else None
            table.add_column(
                Text(visible(header)), justify="right" if side == "r" else "left", overflow="fold", max_width=width
            )
        for row in self.rows:
            if row:
                table.add_row(*(Text(visible(cell.text), style=cell.look) for cell in map(_cell, row)))
            else:
                table.add_section()
        notes = (Text(visible(note), style=Look.DETAIL) for note in self.notes)
        return Group(Text(visible(self.title), style=self.look), table, *notes)

    def to_markdown(self, heading: str = "##") -> str:
        """As Markdown, where HTML and Markdown in a text are shown as they are."""
        sides = ["---:" if side == "r" else "---" for side in self.sides]
        rows = [[*map(_markdown, map(_cell, row)), *[""] * (len(sides) - len(row))] for row in self.rows if row]
        table = [f"| {' | '.join(cells)} |" for cells in ([*map(escape_markdown, self.headers)], sides, *rows)]
        notes = [f"- {escape_markdown(note)}" for note in self.notes]
        return "\n".join([f"{heading} {escape_markdown(self.title)}", "", *table, *[""] * bool(notes), *notes])

    @property
    def sides(self) -> str:
        """`l` or `r` of every column."""
        return self.align.ljust(len(self.headers), self.align[-1])[: len(self.headers)]


def escape_markdown(text: str) -> str:
    """Text on one line that Markdown and HTML show as it is."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", text)


def _cell(value: Any) -> Cell:
    return value if isinstance(value, Cell) else Cell(str(value))


def _markdown(cell: Cell) -> str:
    text = escape_markdown(cell.text)
    return f"*{text}*" if text and cell.look is Look.PUBLISHED else text
