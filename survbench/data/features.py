"""Patch features of one slide, read unchanged from the files of CLAM, TRIDENT, STAMP and their relatives.

Finds out which layout a file has; packing many of them is in store.py.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from survbench.errors import BadFeatures, BadFile, MissingFile

__all__ = [
    "SUFFIXES",
    "PatchEdge",
    "SlideFeatures",
    "find_features",
    "patch_count",
    "patch_edge",
    "read_features",
    "slide_stem",
]

SUFFIXES = (".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".h5", ".pt", ".npy")
READABLE = (".h5", ".pt", ".npy")  # in order of preference: h5 files carry coordinates
KEYS = ("features", "feats", "patch_embeddings")
NOT_PATCHES = ("patches", "slide_features")  # folders of coordinates, and of one vector per slide


@dataclass(frozen=True)
class SlideFeatures:
    """Features of one slide.

    Attributes
    ----------
    features : (patches, width), float16 or float32 as stored.
    coords : (patches, 2) float32, x and y of the top left corner in units of a patch's edge; NaN where unknown.
    encoder : name of the patch encoder, where the file tells. simulated : the file says that it was simulated.
    """

    features: np.ndarray
    coords: np.ndarray
    encoder: str | None = None
    simulated: bool = False


@dataclass(frozen=True)
class PatchEdge:
    """Edge of a patch in the unit of its file's coordinates.

    Attributes
    ----------
    unit : `px` of the slide's level 0, `um`, or empty where the file does not say what its coordinates are.
    """

    size: float
    unit: str


def slide_stem(name: str) -> str:
    """A slide's name without one known suffix; whatever else follows a dot belongs to the name."""
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def find_features(folder: Path) -> dict[str, Path]:
    """Slide stem -> feature file, over all subfolders.

    Raises
    ------
    MissingFile : the folder does not exist or holds no feature file.
    BadFeatures : two files of the same kind for one slide.
    """
    if not folder.is_dir():
        raise MissingFile(f"feature folder {folder} does not exist")
    found: dict[str, Path] = {}
    for file in sorted(f for f in folder.rglob("*") if f.suffix.lower() in READABLE and f.is_file()):
        if any(
            part == NOT_PATCHES[0] or part.startswith(NOT_PATCHES[1]) for part in file.relative_to(folder).parts[:-1]
        ):
            continue
        stem = slide_stem(file.name)
        other = found.get(stem)
        if other is not None and other.suffix == file.suffix:
            raise BadFeatures(
                f"slide {stem} has two feature files, {other} and {file}", "name the folder of one encoder"
            )
        if other is None or READABLE.index(file.suffix.lower()) < READABLE.index(other.suffix.lower()):
            found[stem] = file
    if not found:
        raise MissingFile(f"feature folder {folder} holds no {', '.join(READABLE)} file")
    return found


def read_features(file: Path) -> SlideFeatures:
    """Read one slide's patch features.

    Raises
    ------
    MissingFile, BadFile : the file is not there or cannot be read.
    BadFeatures : not patch features: one vector per slide, NaN, or as many coordinates as there are not patches.
    """
    file = Path(file)
    if not file.is_file():
        raise MissingFile(f"feature file {file} does not exist")
    readers = {".h5": _read_h5, ".pt": _read_pt, ".npy": _read_npy}
    if file.suffix.lower() not in readers:
        raise BadFile(f"{file} is not one of {', '.join(readers)}")
    slide = readers[file.suffix.lower()](file)
    return SlideFeatures(*_checked(slide.features, slide.coords, file), slide.encoder, slide.simulated)


def patch_count(file: Path) -> tuple[int, int]:
    """(patches, width) of a feature file; of an h5 or npy file without reading the features."""
    if file.suffix.lower() == ".h5":
        with _opened(file) as content:
            return _two_dimensional(content[_key(content, file)].shape, file)
    if file.suffix.lower() == ".npy":
        return _two_dimensional(_load_npy(file).shape, file)
    return read_features(file).features.shape


def patch_edge(file: Path) -> PatchEdge | None:
    """What a feature file says of the size of its patches; None where it has no coordinates."""
    if file.suffix.lower() != ".h5":
        return None
    with _opened(file) as content:
        return _patch_edge(content, file) if "coords" in content else None


@contextmanager
def _opened(file: Path, fix: str = "") -> Iterator[Any]:
    try:
        with h5py.File(file, "r") as content:
            yield content
    except OSError as error:
        raise BadFile(f"{file} cannot be read as HDF5: {error}", fix) from None


def _read_h5(file: Path) -> SlideFeatures:
    with _opened(file, "it may be cut off; copy or extract it again") as content:
        key, coords = _key(content, file), np.empty(0)
        features, simulated = content[key][()], bool(content.attrs.get("simulated", False))
        encoder = _text(content[key].attrs.get("encoder")) or _text(content.attrs.get("extractor"))
        if "coords" in content:
            coords = _squeeze(content["coords"][()]).reshape(-1, 2) / _patch_edge(content, file).size
    return SlideFeatures(features, coords, encoder, simulated)


def _key(content: Any, file: Path) -> str:
    for key in KEYS:
        if key in content:
            return key
    raise BadFeatures(f"{file} holds {', '.join(content) or 'nothing'}, expected one of {', '.join(KEYS)}")


def _patch_edge(content: Any, file: Path) -> PatchEdge:
    """Edge of a patch in the unit of the coordinates: TRIDENT, STAMP (new, 2.0, older), CLAM, in this order."""
    if (edge := _number(content["coords"].attrs.get("patch_size_level0"))) is not None:
        return PatchEdge(edge, "px")
    if "feats" in content or "patch_embeddings" in content:
        for name in ("tile_size_um", "tile_size"):
            if (edge := _number(content.attrs.get(name))) is not None:
                return PatchEdge(edge, "um" if name == "tile_size_um" or content.attrs.get("unit") == "um" else "")
        return PatchEdge(224.0, "")  # before sizes were stored, coordinates were pixels at a stride of 224
    for twin in (file.parents[1] / "patches" / file.name, file.parents[1] / "patches" / f"{file.stem}_patches.h5"):
        if twin.is_file():
            with h5py.File(twin, "r") as patches:
                attributes = patches["coords"].attrs
                size, factor = _number(attributes.get("patch_size")), attributes.get("downsample", 1)
                if size is not None:
                    return PatchEdge(size * float(np.ravel(factor)[0]), "px")
    steps = np.diff(np.unique(_squeeze(content["coords"][()]).reshape(-1, 2)[:, 0]))
    return PatchEdge(float(steps.min()) if len(steps) else 1.0, "")


def _read_pt(file: Path) -> SlideFeatures:
    import torch

    # TRIDENT saves NumPy arrays with torch.save; only what rebuilds an array is let through, and only here
    numpy_only: list[Any] = [np.ndarray, np.dtype, *(type(np.dtype(of)) for of in (np.float32, np.float16, np.float64))]
    try:
        rebuild = np._core.multiarray._reconstruct  # type: ignore[attr-defined]
    except AttributeError:
        rebuild = np.core.multiarray._reconstruct  # type: ignore[attr-defined]
    try:
        with torch.serialization.safe_globals([rebuild, *numpy_only]):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise BadFile(f"{file} cannot be read: {_first_line(error)}", "it may be cut off; copy it again") from None
    except pickle.UnpicklingError:
        raise BadFile(
            f"{file} holds Python objects, expected a tensor or an array",
            "save the features alone; graphs are built from coordinates",
        ) from None
    if isinstance(content, torch.Tensor):
        content = content.detach().to(torch.float32 if content.dtype == torch.bfloat16 else content.dtype).numpy()
    if not isinstance(content, np.ndarray):
        raise BadFeatures(f"{file} holds a {type(content).__name__}, expected a tensor or an array of patches x width")
    return SlideFeatures(content, np.empty(0))


def _read_npy(file: Path) -> SlideFeatures:
    return SlideFeatures(np.array(_load_npy(file)), np.empty(0))


def _load_npy(file: Path) -> np.ndarray:
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadFile(f"{file} cannot be read as NumPy: {_first_line(error)}") from None


def _checked(features: np.ndarray, coords: np.ndarray, file: Path) -> tuple[np.ndarray, np.ndarray]:
    if features.shape[:1] == (0,) and features.ndim == 1:
        features = features.reshape(0, 0)  # how TRIDENT writes a slide without tissue
    features = _squeeze(features)
    patches, _ = _two_dimensional(features.shape, file)
    if features.dtype.kind != "f":
        raise BadFeatures(f"{file} holds {features.dtype}, expected floating-point features")
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        raise BadFeatures(
            f"{file}: {int(bad.sum())} of {patches} patches have NaN or infinite features", "extract the features again"
        )
    if coords.size == 0:
        coords = np.full((patches, 2), np.nan)
    if len(coords) != patches:
        raise BadFeatures(f"{file} has {patches} patches and {len(coords)} coordinates", "extract the features again")
    return features if features.dtype.itemsize <= 4 else features.astype(np.float32), coords.astype(np.float32)


def _two_dimensional(shape: tuple[int, ...], file: Path) -> tuple[int, int]:
    if len(shape) == 3 and shape[0] == 1:
        shape = shape[1:]
    if shape == (0,):
        return 0, 0
    if len(shape) != 2:
        raise BadFeatures(
            f"{file} has features of shape {shape}: one vector for the whole slide, expected patches x width",
            "name the folder of patch features",
        )
    return shape[0], shape[1]


def _squeeze(array: np.ndarray) -> np.ndarray:
    """Without the leading axis of 1 that some published features have."""
    return array[0] if array.ndim == 3 and array.shape[0] == 1 else array


def _number(value: Any) -> float | None:
    """TRIDENT stores a missing number as the text 'None'."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number > 0 else None


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) and value not in ("", "None") else None


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
