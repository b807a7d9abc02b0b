"""What figures that are written to files have in common."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["title_figure"]

_LETTERS_PER_INCH = 11  # as wide as letters come


def title_figure(figure: Figure, text: str) -> None:
    """A title over the whole figure, each of its lines broken where the figure ends, for matplotlib would cut it off.

    Names may hold anything; dollars in them are no formulas.
    """
    width = int(_LETTERS_PER_INCH * figure.get_figwidth())
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, width)]
    figure.suptitle("\n".join(lines), fontsize="medium", parse_math=False)
