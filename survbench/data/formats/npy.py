"""NumPy: <slide>.npy, one array, as torchmil and scripts of one's own write it."""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from survbench.data.formats.base import Format, SlideFeatures
from survbench.errors import BadFile

__all__ = ["Npy"]

MARK = b"\nsimulated-by-survbench\n"


class Npy(Format):
    """Features of any float type; no coordinates."""

    name, suffix = "npy", ".npy"

    def shape(self, content: Any, file: Path) -> tuple[int, ...]:
        return _mapped(file).shape

    def read(self, content: Any, file: Path) -> SlideFeatures:
        return SlideFeatures(np.array(_mapped(file)), np.empty(0), simulated=self.is_marked(content, file))

    def is_marked(self, content: Any, file: Path) -> bool:
        with file.open("rb") as handle:
            handle.seek(-len(MARK), 2)
            return handle.read() == MARK

    def path(self, slide: str) -> str:
        return f"{slide}.npy"

    def write(self, file: Path, slide: str, features: np.ndarray, coords: np.ndarray, simulated: bool) -> None:
        with file.open("wb") as handle:  # given a name, NumPy would add a suffix
            np.save(handle, features)
            if simulated:
                handle.write(MARK)  # after the array, where NumPy does not look


def _mapped(file: Path) -> np.ndarray:
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, OverflowError, SyntaxError, TokenError) as error:
        what = (str(error) or type(error).__name__).splitlines()[0]
        raise BadFile(f"{file} cannot be read as NumPy: {what}") from None
