"""What a format is: how one tool stores the patch features of a slide. Each is a class in a file of this package.

To add one, write such a class and enter it in `FORMATS` of `__init__.py`; no other file knows a tool.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

__all__ = ["ENCODER", "MAGNIFICATION", "PATCH_PX", "Format", "PatchEdge", "SlideFeatures"]

MAGNIFICATION = 20  # of what is written: level 0
PATCH_PX = 256  # edge of its patches in level-0 pixels
ENCODER = "uni_v1"


@dataclass(frozen=True)
class SlideFeatures:
    """Features of one slide.

    Attributes
    ----------
    features : (patches, width), float16 or float32 as stored.
    coords : (patches, 2) float32, x and y of the top left corner in units of a patch's edge; NaN where unknown.
    encoder : name of the patch encoder, where the file has it.
    simulated : whether the file is marked as simulated.
    in_edges : whether the file says how large a patch is; otherwise the user or the grid of its patches does.
    """

    features: np.ndarray
    coords: np.ndarray
    encoder: str | None = None
    simulated: bool = False
    in_edges: bool = True


@dataclass(frozen=True)
class PatchEdge:
    """Edge of a patch.

    Attributes
    ----------
    size : in the unit of the file's coordinates.
    unit : `px` of the slide's level 0, `um`, or empty where the file does not say what its coordinates are.
    """

    size: float
    unit: str


class Format(Protocol):
    """How one tool stores the patch features of a slide; formats with the same suffix share `open` and `shape`.

    Attributes
    ----------
    name : as options spell it.
    suffix : of its files, lower case, with the dot.
    """

    name: str
    suffix: str

    def open(self, file: Path, fix: str) -> AbstractContextManager[Any]:
        """Open a file; what this gives, by default the path, is the `content` of the other methods.

        Raises
        ------
        BadFile : it cannot be read; `fix` is what the user can do about it.
        """
        return nullcontext(file)

    def recognizes(self, content: Any) -> bool:
        """Whether this tool wrote the file; the first format of `FORMATS` that says so reads it."""
        return True

    def shape(self, content: Any, file: Path) -> tuple[int, ...] | None:
        """Shape of the features as stored, without reading them; None where that is not possible."""
        return None

    def has_coords(self, content: Any, file: Path) -> bool:
        """Whether the file has coordinates, as far as that is known without reading it."""
        return False

    def edge(self, content: Any, file: Path) -> PatchEdge | None:
        """Edge of a patch of a file with coordinates; None where it does not say."""
        return None

    def read(self, content: Any, file: Path) -> SlideFeatures:
        """Features and coordinates as stored; the caller checks them. No coordinates are an empty array."""

    def encoder(self, content: Any, file: Path) -> str | None:
        """Name of the patch encoder, where the file has it."""
        return None

    def is_marked(self, content: Any, file: Path) -> bool:
        """Whether the file says that its features are simulated."""
        return False

    def path(self, slide: str) -> str:
        """Where the tool keeps a slide's file, below its folder of features."""

    def write(self, file: Path, slide: str, features: np.ndarray, coords: np.ndarray, simulated: bool) -> None:
        """Write a slide as the tool would.

        Parameters
        ----------
        file : to write, in the folder that `path` names; it is renamed afterwards.
        slide : identifier without suffix.
        features : (N, D), of any floating-point type.
        coords : (N, 2) integers, (x, y) of the top left corner in level-0 pixels.
        simulated : mark the file, where the format has a place for that.
        """
