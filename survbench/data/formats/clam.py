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
from survbench.data.formats.hdf5 import (
    KEYS,
    MOST_COMPRESSED,
    SPARE,
    Hdf5Format,
    check_coords,
    check_finite,
    dataset,
    growable,
    positive_number,
)
from survbench.errors import BadFeatures, BadFile
from survbench.files import atomic_file

__all__ = ["ClamH5", "ClamPt"]

MARK = "simulated-by-survbench"  # name of a member of a .pt file, which is a zip archive


class ClamH5(Hdf5Format):
    """`features` float32 and `coords` int32 in chunks of 32 rows; the size of a patch is in the file below patches/."""

    name = "clam-h5"

    def recognizes(self, content: Any) -> bool:
        return True

    def edge(self, content: Any, file: Path) -> PatchEdge | None:
        """From the file of coordinates beside the folder; the features' own file does not say."""
        size = patch_size_beside(file)
        return None if size is None else PatchEdge(size, "px")

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

        content = _load(file)
        features, coords = content, None
        if isinstance(content, dict):
            key = next((name for name in KEYS if name in content), None)
            if key is None:
                held = ", ".join(map(str, list(content)[:5])) or "nothing"
                raise BadFeatures(f"{file} holds {held}, expected one of {', '.join(KEYS)}")
            features, coords = content[key], content.get("coords")
        if isinstance(features, torch.Tensor):
            _held(features, file)
            dtype = torch.float32 if features.dtype == torch.bfloat16 else features.dtype
            features = features.detach().to(dtype).numpy()
        if not isinstance(features, np.ndarray):
            kind = type(features).__name__
            raise BadFeatures(f"{file} holds a {kind}, expected a tensor or an array of patches x width")
        places, size = _coords(coords, features.shape, file), patch_size_beside(file)
        marked = self.is_marked(content, file)
        return SlideFeatures(features, places / (size or 1.0), simulated=marked, in_edges=size is not None)

    def is_marked(self, content: Any, file: Path) -> bool:
        if not zipfile.is_zipfile(file):
            return False
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith(f"/{MARK}") for name in archive.namelist())

    def path(self, slide: str) -> str:
        return f"pt_files/{slide}.pt"

    def write(self, file: Path, slide: str, features: np.ndarray, coords: np.ndarray, simulated: bool) -> None:
        import torch

        torch.save(torch.from_numpy(features.astype(np.float32)), file)
        if simulated:
            with zipfile.ZipFile(file, "a") as archive:  # torch reads its own members alone
                archive.writestr(f"{archive.namelist()[0].partition('/')[0]}/{MARK}", "")
        _write_patches(file.parent.parent, slide, coords)


def _held(features: Any, file: Path) -> None:
    """Refuse a tensor that repeats few stored values over a large shape."""
    import torch

    if features.layout != torch.strided:
        raise BadFeatures(f"{file} holds a sparse tensor, expected a plain one", "save features.to_dense()")
    declared, size = features.numel() * features.element_size(), file.stat().st_size
    if declared > size * MOST_COMPRESSED + SPARE:
        what = f"{file} declares {declared / 1e9:.3g} GB of features, the file has {size / 1e6:.3g} MB"
        raise BadFeatures(what, "save the features as a plain tensor")


def patch_size_beside(file: Path) -> float | None:
    """Edge of a patch in level-0 pixels, from CLAM's file of coordinates beside the folder of features."""
    patches = file.parent.parent / "patches"
    for twin in (patches / f"{file.stem}.h5", patches / f"{file.stem}_patches.h5"):
        if twin.is_file():
            with h5py.File(twin, "r", locking=False) as coordinates:
                if coordinates.get("coords", getlink=True) is None:
                    continue
                attributes = dataset(coordinates, "coords", twin).attrs
                size, factor = positive_number(attributes.get("patch_size")), attributes.get("downsample", 1)
                if size is not None:
                    return size * float(np.ravel(factor)[0])
    return None


def _coords(coords: Any, shape: tuple[int, ...], file: Path) -> np.ndarray:
    """Coordinates of a dictionary in a .pt file, as stored; empty without them."""
    if coords is None:
        return np.empty(0)
    values = np.asarray(coords)
    if values.dtype.kind not in "fiu":
        raise BadFeatures(f"{file}: coords hold {values.dtype}, expected numbers", "extract the features again")
    check_coords(values.shape, shape, file)
    check_finite(values, file)
    return values.reshape(-1, 2)


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
