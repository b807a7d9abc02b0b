"""What the HDF5 files of CLAM, TRIDENT and STAMP have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

import survbench
from survbench.data.formats.base import Format, PatchEdge, SlideFeatures
from survbench.errors import BadFeatures, BadFile

__all__ = ["Hdf5Format", "growable", "positive_number"]

KEYS = ("features", "feats", "patch_embeddings")


class Hdf5Format(Format, Protocol):
    """One dataset of features, one of coordinates, the rest in attributes."""

    suffix: str = ".h5"

    @contextmanager
    def open(self, file: Path, fix: str) -> Iterator[Any]:
        try:
            with h5py.File(file, "r") as content:
                yield content
        except OSError as error:
            raise BadFile(f"{file} cannot be read as HDF5: {error}", fix) from None

    def shape(self, content: Any, file: Path) -> tuple[int, ...]:
        return content[_features_key(content, file)].shape

    def patch_edge(self, content: Any, file: Path) -> PatchEdge | None:
        if "coords" not in content:
            return None
        coords = content["coords"]
        if not _has_numbers(coords) or coords.size % 2:
            raise BadFeatures(f"{file} has coordinates that are not pairs of numbers", "extract the features again")
        return self.edge(content, file)

    def edge(self, content: Any, file: Path) -> PatchEdge:
        """Edge of a patch, for a file with coordinates."""

    def read(self, content: Any, file: Path) -> SlideFeatures:
        key, coords = _features_key(content, file), np.empty(0)
        features, simulated = content[key][()], bool(content.attrs.get("simulated", False))
        encoder = _text(content[key].attrs.get("encoder")) or _text(content.attrs.get("extractor"))
        if (edge := self.patch_edge(content, file)) is not None:
            coords = content["coords"][()].reshape(-1, 2) / edge.size
        return SlideFeatures(features, coords, encoder, simulated)

    def write(self, file: Path, slide: str, features: np.ndarray, coords: np.ndarray, simulated: bool) -> None:
        with h5py.File(file, "w") as content:
            if simulated:
                content.attrs["simulated"] = True
                content.attrs["simulated_by"] = f"survbench {survbench.__version__}"
            self.fill(content, file.parent, slide, features, coords)

    def fill(self, content: Any, folder: Path, slide: str, features: np.ndarray, coords: np.ndarray) -> None:
        """Datasets and attributes of a new file in `folder`; see `write`."""


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
    return number if number > 0 else None


def _features_key(content: Any, file: Path) -> str:
    for key in KEYS:
        if key in content:
            if not _has_numbers(content[key]):
                raise BadFeatures(f"{file} holds no array of numbers in {key}", "extract the features again")
            return key
    raise BadFeatures(f"{file} holds {', '.join(content) or 'nothing'}, expected one of {', '.join(KEYS)}")


def _has_numbers(content: Any) -> bool:
    return isinstance(content, h5py.Dataset) and content.dtype.kind in "fiu" and content.shape is not None


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) and value not in ("", "None") else None
