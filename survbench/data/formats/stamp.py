"""STAMP: <slide>.h5 in any subfolder, float16 features, coordinates in micrometers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from survbench.data.formats.base import ENCODER, PATCH_PX, PatchEdge
from survbench.data.formats.hdf5 import Hdf5Format, positive_number

__all__ = ["Stamp"]

MICROMETERS_PER_PX = 0.5  # at 20x


class Stamp(Hdf5Format):
    """`feats`, or `patch_embeddings` of a multiplex extractor; the size of a tile is an attribute of the file."""

    name = "stamp"

    def recognizes(self, content: Any) -> bool:
        return "feats" in content or "patch_embeddings" in content

    def edge(self, content: Any, file: Path) -> PatchEdge:
        """As STAMP 2.1 and later stores it, then 2.0; older files have pixels at a stride of 224."""
        if (size := positive_number(content.attrs.get("tile_size_um"))) is not None:
            return PatchEdge(size, "um")
        if (size := positive_number(content.attrs.get("tile_size"))) is not None:
            return PatchEdge(size, "um" if content.attrs.get("unit") == "um" else "")
        return PatchEdge(224.0, "")

    def path(self, slide: str) -> str:
        return f"{slide}.h5"

    def fill(self, content: Any, folder: Path, slide: str, features: np.ndarray, coords: np.ndarray) -> None:
        content.create_dataset("feats", data=features.astype(np.float16))
        content.create_dataset("coords", data=(coords * MICROMETERS_PER_PX).astype(np.float32))
        content.attrs.update(
            {
                "stamp_version": "2.5.0",
                "extractor": ENCODER,
                "unit": "um",
                "tile_size_um": PATCH_PX * MICROMETERS_PER_PX,
                "tile_size_px": PATCH_PX,
                "code_hash": "",
                "feat_type": "tile",
            }
        )
