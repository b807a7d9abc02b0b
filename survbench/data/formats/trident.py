"""TRIDENT: <magnification>x_<px>px_<overlap>px_overlap/features_<encoder>/<slide>.h5, coordinates in level-0 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from survbench.data.formats.base import ENCODER, MAGNIFICATION, PATCH_PX, PatchEdge
from survbench.data.formats.hdf5 import Hdf5Format, growable, inside, positive_number

__all__ = ["Trident"]

EDGE = "patch_size_level0"  # of the coordinates; no other tool stores it


class Trident(Hdf5Format):
    """`features` of any float type and `coords` int64, both in chunks of one row."""

    name = "trident"

    def recognizes(self, content: Any) -> bool:
        coords = inside(content, "coords", Path(content.filename))
        return isinstance(coords, h5py.Dataset) and positive_number(coords.attrs.get(EDGE)) is not None

    def edge(self, content: Any, file: Path) -> PatchEdge:
        return PatchEdge(float(content["coords"].attrs[EDGE]), "px")

    def path(self, slide: str) -> str:
        return f"{MAGNIFICATION}x_{PATCH_PX}px_0px_overlap/features_{ENCODER}/{slide}.h5"

    def fill(self, content: Any, folder: Path, slide: str, features: np.ndarray, coords: np.ndarray) -> None:
        described = {"name": slide, "savetodir": folder.name}
        width, height = (coords.max(axis=0) + PATCH_PX) if len(coords) else (PATCH_PX, PATCH_PX)
        grid: dict[str, Any] = {
            "patch_size": PATCH_PX,
            EDGE: float(PATCH_PX),
            "level0_magnification": MAGNIFICATION,
            "target_magnification": MAGNIFICATION,
            "overlap": 0,
            "level0_width": int(width),
            "level0_height": int(height),
        }
        growable(content, "features", features, 1).attrs.update({**described, "encoder": ENCODER})
        growable(content, "coords", coords.astype(np.int64), 1).attrs.update({**grid, **described})
