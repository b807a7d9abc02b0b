"""What figures have in common: made without a window, shown by notebooks, titles that fit."""

from __future__ import annotations

import io
import re
import textwrap
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

__all__ = ["file_name", "save_figure", "subplots", "title_figure"]

_LETTERS_PER_INCH = 11  # as wide as letters come


def subplots(rows: int = 1, columns: int = 1, *, figsize: tuple[float, float], **more: Any) -> tuple[Figure, Any]:
    """A figure and its axes, as pyplot's function gives them, that leaves pyplot and its backend alone."""
    figure = _figure_class()(figsize=figsize, layout="constrained")
    return figure, figure.subplots(rows, columns, **more)


@cache
def _figure_class() -> type[Figure]:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    class NotebookFigure(Figure):
        """Shown where a notebook's cell ends with it, whatever the backend; names in it are no formulas."""

        def draw(self, renderer: Any) -> None:
            for text in self.findobj(Text):
                text.set_parse_math(False)  # names and settings may hold dollars, anywhere
            super().draw(renderer)

        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png")
            return buffer.getvalue()

    return NotebookFigure


def save_figure(figure: Figure, file: Path) -> Path:
    """Write a figure as the file, whose folder is made; returns the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)
    return file


def file_name(*parts: str) -> str:
    """Name of a file from parts that may hold anything; empty ones are left out."""
    return "-".join(re.sub(r"[^\w.+]+", "_", part).strip("_") for part in parts if part) + ".png"


def title_figure(figure: Figure, text: str) -> None:
    """A title over the whole figure, each of its lines broken where the figure ends, for matplotlib would cut it off.

    Names may hold anything; dollars in them are no formulas.
    """
    width = int(_LETTERS_PER_INCH * figure.get_figwidth())
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, width)]
    figure.suptitle("\n".join(lines), fontsize="medium", parse_math=False)
