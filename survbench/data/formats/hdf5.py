"""What the HDF5 files of CLAM, TRIDENT and STAMP have in common."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

import survbench
from survbench.data.formats.base import Format, SlideFeatures
from survbench.errors import BadFeatures, BadFile

__all__ = [
    "KEYS",
    "MOST_COMPRESSED",
    "SPARE",
    "Hdf5Format",
    "check_coords",
    "check_finite",
    "dataset",
    "growable",
    "inside",
    "positive_number",
]

KEYS = ("features", "feats", "patch_embeddings")
SLIDE_LEVEL = ("slide", "patient")
MOST_COMPRESSED, SPARE = 100, 1 << 26  # declared bytes per byte of the file, and beyond: 64 MB


class Hdf5Format(Format, Protocol):
    """One dataset of features, one of coordinates, the rest in attributes."""

    suffix: str = ".h5"

    @contextmanager
    def open(self, file: Path, fix: str) -> Iterator[Any]:
        try:
            with h5py.File(file, "r", locking=False) as content:  # nobody writes it, and not every system has locks
                yield content
        except OSError as error:
            raise BadFile(f"{file} cannot be read as HDF5: {error}", fix) from None

    def shape(self, content: Any, file: Path) -> tuple[int, ...]:
        """Shape of the features; the kind and the number of the coordinates are looked at, too."""
        return self._datasets(content, file)[0].shape

    def has_coords(self, content: Any, file: Path) -> bool:
        return content.get("coords", getlink=True) is not None

    def read(self, content: Any, file: Path) -> SlideFeatures:
        features, places = self._datasets(content, file)
        values, encoder, simulated = features[()], _encoder(content, features), self.is_marked(content, file)
        if places is None:
            return SlideFeatures(values, np.empty(0), encoder, simulated)
        coords = places[()]
        check_finite(coords, file)
        edge = self.edge(content, file)
        size = 1.0 if edge is None else edge.size
        return SlideFeatures(values, coords.reshape(-1, 2) / size, encoder, simulated, in_edges=edge is not None)

    def _datasets(self, content: Any, file: Path) -> tuple[Any, Any]:
        """Features, and coordinates or None, looked at but not read; each is opened once."""
        if (kind := _text(content.attrs.get("feat_type"))) in SLIDE_LEVEL:
            what = f"{file} says feat_type {kind}: one vector for the whole {kind}, expected patches x width"
            raise BadFeatures(what, "name the folder of patch features")
        features, coords = dataset(content, _features_key(content, file), file), None
        if self.has_coords(content, file):
            coords = dataset(content, "coords", file)
            check_coords(coords.shape, features.shape, file)
        return features, coords

    def encoder(self, content: Any, file: Path) -> str | None:
        return _encoder(content, content[_features_key(content, file)])

    def is_marked(self, content: Any, file: Path) -> bool:
        return bool(content.attrs.get("simulated", False))

    def write(self, file: Path, slide: str, features: np.ndarray, coords: np.ndarray, simulated: bool) -> None:
        with h5py.File(file, "w") as content:
            if simulated:
                content.attrs["simulated"] = True
                content.attrs["simulated_by"] = f"survbench {survbench.__version__}"
            self.fill(content, file.parent, slide, features, coords)

    def fill(self, content: Any, folder: Path, slide: str, features: np.ndarray, coords: np.ndarray) -> None:
        """Datasets and attributes of a new file in `folder`; see `write`."""


def _encoder(content: Any, features: Any) -> str | None:
    return _text(features.attrs.get("encoder")) or _text(content.attrs.get("extractor"))


def growable(content: Any, name: str, values: np.ndarray, rows_per_chunk: int) -> Any:
    """A dataset to which rows can be appended, as tools make them that write batch by batch."""
    width = values.shape[1]
    return content.create_dataset(name, data=values, chunks=(rows_per_chunk, width), maxshape=(None, width))


def positive_number(value: Any) -> float | None:
    """An attribute as a number; None where it is missing, which TRIDENT stores as the text 'None'."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 < number < math.inf else None


def _features_key(content: Any, file: Path) -> str:
    for key in KEYS:
        if content.get(key, getlink=True) is not None:
            return key
    raise BadFeatures(f"{file} holds {', '.join(content) or 'nothing'}, expected one of {', '.join(KEYS)}")


def dataset(content: Any, name: str, file: Path) -> Any:
    """A dataset of numbers that are in this file, before any of them is read.

    Raises
    ------
    BadFeatures : a group, a link out of the file, values that are kept elsewhere or were never written, text, or more
        than a file of this size can hold.
    """
    found = inside(content, name, file)
    if not isinstance(found, h5py.Dataset):
        what = "a group" if found is not None else "a link to nothing"
        raise BadFeatures(f"{file}: {name} is {what}, expected an array of numbers", "extract the features again")
    if found.external or found.is_virtual:
        raise BadFeatures(f"{file}: the values of {name} are kept in other files", "copy the values into it")
    if found.dtype.kind not in "fiu" or found.shape is None:
        kind = "nothing" if found.shape is None else "text" if found.dtype.kind in "SOU" else str(found.dtype)
        raise BadFeatures(f"{file}: {name} holds {kind}, expected an array of numbers", "extract the features again")
    declared, size = found.size * found.dtype.itemsize, file.stat().st_size
    if declared > size * MOST_COMPRESSED + SPARE:
        what = f"{file}: {name} declares {declared / 1e9:.3g} GB, the file has {size / 1e6:.3g} MB"
        raise BadFeatures(what, "it is damaged; copy or extract it again")
    stored = found.id.get_storage_size()
    if found.size and stored == 0:
        raise BadFeatures(f"{file}: {name} was never written", "extract the features again")
    if found.chunks and found.size and _chunks_missing(found, stored):
        raise BadFeatures(f"{file}: {name} was written in part, the rest reads as zeros", "extract the features again")
    return found


def _chunks_missing(found: Any, stored: int) -> bool:
    """Whether parts of a dataset were never written; chunks are counted only where the stored bytes leave that open."""
    needed = math.prod(-(-rows // chunk) for rows, chunk in zip(found.shape, found.chunks, strict=True))
    if stored >= needed * math.prod(found.chunks) * found.dtype.itemsize:
        return False
    return bool(found.id.get_num_chunks() < needed)


def inside(content: Any, name: str, file: Path, hops: int = 8) -> Any:
    """What a name leads to within this file; None where it leads to nothing. Nothing outside the file is opened.

    Raises
    ------
    BadFeatures : a link on the way, of the name itself or of a group, leads to another file.
    """
    place = content
    for part in (part for part in name.split("/") if part not in ("", ".")):
        link = place.get(part, getlink=True) if isinstance(place, h5py.Group) else None
        if isinstance(link, h5py.ExternalLink):
            raise BadFeatures(f"{file}: {name} is a link to another file ({link.filename})", "copy the values into it")
        if isinstance(link, h5py.SoftLink):
            start = content.file["/"] if link.path.startswith("/") else place
            place = inside(start, link.path, file, hops - 1) if hops else None
        else:
            place = place[part] if link is not None else None
    return place


def check_finite(coords: np.ndarray, file: Path) -> None:
    """Refuse coordinates that are no places; a file without coordinates is fine."""
    if coords.dtype.kind != "f" or np.isfinite(coords).all():
        return
    rows = coords.reshape(-1, coords.shape[-1])
    if bad := int((~np.isfinite(rows)).any(axis=-1).sum()):
        what = f"{file}: {bad} of {len(rows)} patches have NaN or infinite coordinates"
        raise BadFeatures(what, "extract the features again")


def check_coords(coords: tuple[int, ...], features: tuple[int, ...], file: Path) -> None:
    """(N, 2), or (1, N, 2) where tools keep a leading axis, with as many rows as there are patches."""
    shape = coords[1:] if len(coords) == 3 and coords[0] == 1 else coords
    patches = features[1] if len(features) == 3 and features[0] == 1 else features[0] if features else 0
    if 0 in coords and patches == 0:
        return
    if len(shape) != 2 or shape[1] != 2:
        what = f"{file}: coords have the shape {coords}, expected ({patches}, 2): x and y of each patch"
        raise BadFeatures(what, "extract the features again")
    if len(features) > 1 and shape[0] != patches:
        raise BadFeatures(f"{file} has {patches} patches and {shape[0]} coordinates", "extract the features again")


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) and value not in ("", "None") else None
