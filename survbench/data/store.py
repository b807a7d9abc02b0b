"""All bags of a cohort in one memory-mapped array, and whether it still holds the feature files as they are.

packed/features.bin (patches x width), coords.bin (patches x 2), index.csv (patient, slide, start, stop), store.json.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from survbench.console import note, relayed, shown
from survbench.data.delimited import read_table
from survbench.data.root import CohortFolder, read_info
from survbench.errors import BadFile, MissingFile

__all__ = ["BagStore", "file_status", "fingerprint", "is_current", "store_info"]

STORED = ("dim", "dtype", "patches", "content_hash", "encoder", "simulated")  # in store.json
_noted = set[str]()  # cohorts whose missing originals were noted


@dataclass(frozen=True, kw_only=True)
class BagStore:
    """Packed bags, opened without reading them.

    Attributes
    ----------
    folder : of the store.
    dim : width of the features.
    dtype : of the features as stored.
    patches : number of patches of all patients.
    content_hash : of patients, slides, features as stored, and coordinates; not of the files they came from.
    encoder : name of the patch encoder, where the files have it.
    simulated : whether a file is marked as simulated.
    """

    folder: Path
    dim: int
    dtype: str
    patches: int
    content_hash: str
    encoder: str | None
    simulated: bool

    @classmethod
    def open(cls, folder: Path) -> BagStore:
        """Open a store of `pack`.

        Raises
        ------
        BadFile : it is damaged or of another version.
        """
        info = store_info(folder)
        if info is None:
            raise BadFile(f"packed features in {folder} cannot be read", "pack again: survbench data pack --repack")
        store = cls(folder=folder, **{key: info[key] for key in STORED})
        expected = store.patches * store.dim * np.dtype(store.dtype).itemsize
        if (folder / "features.bin").stat().st_size != expected:
            raise BadFile(f"{folder / 'features.bin'} is not {expected} bytes long", "pack again: --repack")
        return store

    @cached_property
    def _index(self) -> pd.DataFrame:
        """Table of patient, slide, start, stop; rows from start to before stop are the slide's patches."""
        return read_table(self.folder / "index.csv").astype({"start": int, "stop": int})

    @cached_property
    def stops(self) -> np.ndarray:
        """(slides,) row after the last one of each."""
        return self._index["stop"].to_numpy()

    @cached_property
    def _spans(self) -> dict[str, tuple[int, int]]:
        rows = self._index.groupby("patient").agg({"start": "min", "stop": "max"})
        spans = zip(rows.index, rows["start"].tolist(), rows["stop"].tolist(), strict=True)
        return {patient: (start, stop) for patient, start, stop in spans if stop > start}

    @property
    def patients(self) -> list[str]:
        """Patients with at least one patch, sorted."""
        return sorted(self._spans)

    def span(self, patient: str) -> tuple[int, int]:
        """First row of a patient's bag and the one after its last."""
        return self._spans[patient]

    def size(self, patient: str) -> int:
        """Patches in a patient's bag."""
        start, stop = self._spans[patient]
        return stop - start

    @property
    def slides(self) -> list[str]:
        """Names of the slides, in the order of the numbers of `slide_of`."""
        return self._index["slide"].tolist()

    def slide_of(self, rows: slice | np.ndarray) -> np.ndarray:
        """Number of the slide that each of the store's rows belongs to."""
        numbers = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
        return np.searchsorted(self.stops, numbers, side="right")

    @cached_property
    def features(self) -> np.ndarray:
        """(patches, width), memory-mapped."""
        return np.memmap(self.folder / "features.bin", self.dtype, "r", shape=(self.patches, self.dim))

    @cached_property
    def coords(self) -> np.ndarray:
        """(patches, 2) float32 in units of a patch's edge, memory-mapped."""
        return np.memmap(self.folder / "coords.bin", np.float32, "r", shape=(self.patches, 2))


def is_current(folder: CohortFolder, slides: pd.DataFrame, dtype: str | None = None) -> bool:
    """Whether a cohort's store holds its files as they are, or as they were before all that are missing went.

    Parameters
    ----------
    folder : of the cohort.
    slides : patient, slide and file of each slide that has one, sorted by patient.
    dtype : that the features must have; None takes any.

    Raises
    ------
    MissingFile : some files are gone and others have changed.
    """
    info = store_info(folder.path / "packed")
    if info is None or (dtype or info["dtype"]) != info["dtype"]:
        return False
    found = [file_status(file) for file in slides["file"]]
    names = [str(file) for file in slides["file"]]
    gone = [name for name, status in zip(names, found, strict=True) if status is None]
    if not gone:
        return bool(info["fingerprint"] == fingerprint(slides, info["dtype"], found, folder.info.patch_size))
    before = info.get("files") or [None] * len(found)  # older stores do not say
    index = read_table(folder.path / "packed" / "index.csv")
    same = index[["patient", "slide"]].to_numpy().tolist() == slides[["patient", "slide"]].to_numpy().tolist()
    if not same or len(before) != len(found):
        return False  # packing then names the first that is missing
    pairs = zip(names, found, before, strict=True)
    changed = [name for name, now, then in pairs if now is not None and list(now) != then]
    if changed:
        what = f"cohort {folder.name}: {_some(gone)} are gone, and {_some(changed)} changed since they were packed"
        raise MissingFile(what, "restore them and pack again: survbench data pack --repack")
    if str(folder.path) not in _noted and not relayed():
        _noted.add(str(folder.path))
        note(f"{folder.name}: {_some(gone)} of {len(found)} are gone; the packed features are used")
    return True


def _some(files: list[str]) -> str:
    return f"{len(files)} feature files ({shown(files, longest=300)})"


def file_status(file: Path) -> tuple[int, int] | None:
    """(bytes, time of the last change in ns); None where there is no such file."""
    try:
        status = Path(file).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size, status.st_mtime_ns


def fingerprint(
    slides: pd.DataFrame,
    dtype: str,
    found: list[tuple[int, int] | None] | None = None,
    patch_size: float | None = None,
) -> str:
    """Changes when a feature file is added, removed, replaced or touched.

    Parameters
    ----------
    slides : patient, slide and file.
    dtype : that the features are stored in.
    found : status of each file, where it is known; a network's file system takes long for it.
    patch_size : of the cohort, where the user had to say it.

    Raises
    ------
    MissingFile : a file does not exist.
    """
    digest = hashlib.sha256(dtype.encode() if patch_size is None else f"{dtype}\t{patch_size:g}".encode())
    found = [file_status(file) for file in slides["file"]] if found is None else found
    for row, status in zip(slides.to_dict("records"), found, strict=True):
        if status is None:
            raise MissingFile(
                f"feature file {row['file']} of patient {row['patient']} does not exist",
                "restore it, or import again with --slides FOLDER --overwrite",
            )
        size, changed = status
        digest.update(f"{row['patient']}\t{row['slide']}\t{row['file']}\t{size}\t{changed}\n".encode())
    return digest.hexdigest()


def store_info(folder: Path) -> dict[str, Any] | None:
    """The content of store.json; None where there is none of this version."""
    try:
        return read_info(folder / "store.json")
    except BadFile:
        return None
