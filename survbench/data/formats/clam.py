"""CLAM: h5_files/<slide>.h5 or pt_files/<slide>.pt, both float32, with patches/<slide>.h5 beside them.

Files without marks of their own are read like these, too: SurvPath's and TRIDENT's .pt, other tools' .h5.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from survbench.data.formats.base import PATCH_PX, Format, PatchEdge, SlideFeatures
from survbench.data.formats.hdf5 import Hdf5Format, growable, positive_number
from survbench.errors import BadFeatures, BadFile
from survbench.files import atomic_file

__all__ = ["ClamH5", "ClamPt"]


class ClamH5(Hdf5Format):
    """`features` float32 and `coords` int32 in chunks of 32 rows; the size of a patch is in the file below patches/."""

    name = "clam-h5"

    def recognizes(self, content: Any) -> bool:
        return True

    def edge(self, content: Any, file: Path) -> PatchEdge:
        """From the file of coordinates; without one the smallest step in x."""
        patches = file.parent.parent / "patches"
        for twin in (patches / file.name, patches / f"{file.stem}_patches.h5"):
            if twin.is_file():
                with h5py.File(twin, "r") as coordinates:
                    attributes = coordinates["coords"].attrs if "coords" in coordinates else {}
                    size, factor = positive_number(attributes.get("patch_size")), attributes.get("downsample", 1)
                    if size is not None:
                        return PatchEdge(size * float(np.ravel(factor)[0]), "px")
        steps = np.diff(np.unique(content["coords"][()].reshape(-1, 2)[:, 0]))
        return PatchEdge(float(steps.min()) if len(steps) else 1.0, "")

    def path(self, slide: str) -> str:
        return f"h5_files/{slide}.h5"

    def fill(self, content: Any, folder: Path, slide: str, features: np.ndarray, coords: np.ndarray) -> None:
        growable(content, "features", features.astype(np.float32), 32)
        growable(content, "coords", coords.astype(np.int32), 32)
        _write_patches(folder.parent, slide, coords)


class ClamPt(Format):
    """One tensor by `torch.save`, or a NumPy array as TRIDENT saves it; no coordinates."""

    name, suffix = "clam-pt", ".pt"

    def read(self, content: Any, file: Path) -> SlideFeatures:
        import torch

        features = _load(file)
        if isinstance(features, torch.Tensor):
            dtype = torch.float32 if features.dtype == torch.bfloat16 else features.dtype
            features = features.detach().to(dtype).numpy()
        if not isinstance(features, np.ndarray):
            kind = type(features).__name__
            raise BadFeatures(f"{file} holds a {kind}, expected a tensor or an array of patches x width")
        return SlideFeatures(features, np.empty(0))

    def path(self, slide: str) -> str:
        return f"pt_files/{slide}.pt"

    def write(self, file: Path, slide: str, features: np.ndarray, coords: np.ndarray, simulated: bool) -> None:
        import torch

        torch.save(torch.from_numpy(features.astype(np.float32)), file)
        _write_patches(file.parent.parent, slide, coords)


def _load(file: Path) -> Any:
    """What a .pt file holds; of pickled objects only those that make up an array are allowed, and only here."""
    import torch

    dtypes: list[Any] = [type(np.dtype(of)) for of in (np.float32, np.float16, np.float64)]
    rebuild: Any = np.empty(0).__reduce__()[0]  # NumPy's own function, whose place depends on its version
    try:
        with torch.serialization.safe_globals([rebuild, np.ndarray, np.dtype, *dtypes]):
            return torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile) as error:
        what = (str(error) or type(error).__name__).splitlines()[0]
        raise BadFile(f"{file} cannot be read: {what}", "it may be cut off; copy it again") from None
    except pickle.UnpicklingError:
        raise BadFile(
            f"{file} holds Python objects, expected a tensor or an array",
            "save the features alone; graphs are built from coordinates",
        ) from None


def _write_patches(folder: Path, slide: str, coords: np.ndarray) -> None:
    """The file of coordinates: the only place where CLAM keeps the size of a patch."""
    file = folder / "patches" / f"{slide}.h5"
    size = [int(edge) + PATCH_PX for edge in coords.max(axis=0)] if len(coords) else [PATCH_PX, PATCH_PX]
    with atomic_file(file) as scratch, h5py.File(scratch, "w") as content:
        growable(content, "coords", coords.astype(np.int32), 1).attrs.update(
            {
                "patch_size": PATCH_PX,
                "patch_level": 0,
                "downsample": [1.0, 1.0],
                "downsampled_level_dim": size,
                "level_dim": size,
                "name": slide,
                "save_path": file.parent.name,
            }
        )
