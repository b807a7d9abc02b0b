"""All bags of a cohort in one memory-mapped array, packed once, slide by slide.

packed/features.bin (patches x width), coords.bin (patches x 2), index.csv (patient, slide, start, stop), store.json.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from survbench.console import track
from survbench.data.delimited import read_table
from survbench.data.formats import SlideFeatures, read_features
from survbench.data.root import CohortFolder, read_info, write_info
from survbench.errors import BadFeatures, BadFile, MissingFile
from survbench.files import lock

__all__ = ["BagStore", "fingerprint", "pack"]

STORED = ("dim", "dtype", "patches", "content_hash", "encoder", "simulated")  # in store.json


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
        info = _info(folder)
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


def pack(folder: CohortFolder, *, dtype: str | None = None, repack: bool = False) -> BagStore:
    """Pack a cohort's feature files, unless that is done and no file has changed since.

    One slide is in memory at a time. The result appears by one rename; of two processes one packs and the other waits.

    Parameters
    ----------
    folder : of the cohort.
    dtype : float16 or float32; by default the one of last time, at first float16.
    repack : pack even if nothing has changed.

    Raises
    ------
    MissingFile : a feature file does not exist, or the cohort has none.
    BadFeatures : widths or encoders differ, or values do not fit float16.
    """
    slides = folder.slides()
    slides = slides[slides["file"].notna()].sort_values("patient", kind="stable")
    if slides.empty:
        raise MissingFile(f"cohort {folder.name} has no feature files", "import it with --slides FOLDER")
    target = folder.path / "packed"
    with lock(folder.path / ".packing"):
        info = _info(target)
        chosen = dtype or (info["dtype"] if info else "float16")
        current = fingerprint(slides, chosen)
        if info is None or repack or info["fingerprint"] != current:
            scratch = folder.path / ".packing.scratch"
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            _write(scratch, folder.name, slides, np.dtype(chosen), current)
            shutil.rmtree(target, ignore_errors=True)
            os.rename(scratch, target)
    return BagStore.open(target)


def _write(scratch: Path, cohort: str, slides: pd.DataFrame, dtype: np.dtype[Any], files: str) -> None:
    digest, rows, start = hashlib.sha256(), [], 0
    first: tuple[Path, int, str | None] | None = None
    simulated = False
    with (scratch / "features.bin").open("wb") as features, (scratch / "coords.bin").open("wb") as coords:
        for row in track(slides.to_dict("records"), f"Packing {cohort}"):
            slide = read_features(row["file"])
            simulated |= slide.simulated
            if len(slide.features):
                first = first or (row["file"], slide.features.shape[1], slide.encoder)
                _same_kind(*first, other=row["file"], slide=slide)
            values = np.ascontiguousarray(_cast(slide.features, dtype, row["file"]))
            places = np.ascontiguousarray(slide.coords, np.float32)
            features.write(values.tobytes())
            coords.write(places.tobytes())
            digest.update(f"{row['patient']}\t{row['slide']}\t{values.shape}\n".encode())
            digest.update(values.tobytes())
            digest.update(places.tobytes())
            rows.append((row["patient"], row["slide"], start, start + len(values)))
            start += len(values)
    if first is None:
        raise BadFeatures(f"cohort {cohort}: not one of its {len(slides)} feature files holds a patch")
    pd.DataFrame(rows, columns=["patient", "slide", "start", "stop"]).to_csv(scratch / "index.csv", index=False)
    info = {
        "dim": first[1],
        "dtype": dtype.name,
        "patches": start,
        "content_hash": digest.hexdigest(),
        "encoder": first[2],
        "simulated": simulated,
        "fingerprint": files,
    }
    write_info(scratch / "store.json", info)


def _same_kind(one: Path, width: int, encoder: str | None, other: Path, slide: SlideFeatures) -> None:
    for first, second in ((f"width {width}", f"width {slide.features.shape[1]}"), (encoder, slide.encoder)):
        if first and second and first != second:
            what = f"{one} has features of {first}, {other} of {second}"
            raise BadFeatures(what, "one cohort has features of one encoder")


def _cast(features: np.ndarray, dtype: np.dtype[Any], file: Path) -> np.ndarray:
    with np.errstate(over="ignore"):
        values = features.astype(dtype)
    if not np.isfinite(values).all():
        raise BadFeatures(
            f"{file} has features up to {np.abs(features).max():.3g}, too large for {dtype.name}",
            "pack with --dtype float32",
        )
    return values


def fingerprint(slides: pd.DataFrame, dtype: str) -> str:
    """Changes when a feature file is added, removed, replaced or touched."""
    digest = hashlib.sha256(dtype.encode())
    for row in slides.to_dict("records"):
        try:
            status = Path(row["file"]).stat()
        except FileNotFoundError:
            raise MissingFile(
                f"feature file {row['file']} of patient {row['patient']} does not exist",
                "restore it, or import again with --slides FOLDER --overwrite",
            ) from None
        digest.update(
            f"{row['patient']}\t{row['slide']}\t{row['file']}\t{status.st_size}\t{status.st_mtime_ns}\n".encode()
        )
    return digest.hexdigest()


def _info(folder: Path) -> dict[str, Any] | None:
    try:
        return read_info(folder / "store.json")
    except BadFile:
        return None
