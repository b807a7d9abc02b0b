"""All bags of a cohort in one memory-mapped array, packed once, slide by slide.

packed/features.bin (patches x width), coords.bin (patches x 2), index.csv (patient, slide, start, stop), store.json.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from survbench.console import note, print_line, relayed, shown, track
from survbench.data.delimited import read_table
from survbench.data.formats import SlideFeatures
from survbench.data.precision import float16_loss
from survbench.data.reading_process import headers, read_all
from survbench.data.root import CohortFolder, read_info, write_info
from survbench.errors import BadFeatures, BadFile, MissingFile, SurvbenchError
from survbench.files import lock

__all__ = ["FEW", "BagStore", "fingerprint", "is_current", "pack"]

STORED = ("dim", "dtype", "patches", "content_hash", "encoder", "simulated")  # in store.json
FEW = 2  # feature files of one row each, which a test may have
SCRATCH, OLD = ".packing.scratch", ".packing.old"  # beside the store, while it is made and exchanged
ARRAYS = ("features.bin", "coords.bin")
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

    One slide is in memory at a time. The result appears by one rename, and the one before stays until then; of two
    processes one packs and the other waits. A store that is up to date is opened without a lock and nothing is written;
    so is one whose feature files are all as they were or gone.

    Parameters
    ----------
    folder : of the cohort.
    dtype : float16 or float32; by default the one of last time, at first float16 unless that loses the features.
    repack : pack even if nothing has changed.

    Raises
    ------
    MissingFile : a feature file does not exist, or the cohort has none.
    BadFeatures : files that cannot be read, widths or encoders that differ, or values that do not fit float16.
    BadFile : the folder cannot be written, or its disk is full.
    """
    slides = folder.slides()
    slides = slides[slides["file"].notna()].sort_values("patient", kind="stable")
    if slides.empty:
        raise MissingFile(f"cohort {folder.name} has no feature files", "import it with --slides FOLDER")
    target = folder.path / "packed"
    if not repack and is_current(folder, slides, dtype):
        _remove_leftovers(folder)
        return BagStore.open(target)
    try:
        with lock(folder.path / ".packing"):
            _mend_killed(folder)
            if repack or not is_current(folder, slides, dtype):
                _replace_store(folder, slides, dtype)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        what = f"{folder.path} cannot be written ({error.strerror}), and its features are not packed as they are now"
        raise BadFile(
            what, "let its owner run survbench data pack, or copy the data root to where you may write"
        ) from None
    return BagStore.open(target)


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
    info = _info(folder.path / "packed")
    if info is None or (dtype or info["dtype"]) != info["dtype"]:
        return False
    found = [_status(file) for file in slides["file"]]
    names = [str(file) for file in slides["file"]]
    gone = [name for name, status in zip(names, found, strict=True) if status is None]
    if not gone:
        return bool(info["fingerprint"] == fingerprint(slides, info["dtype"], found))
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


def _replace_store(folder: CohortFolder, slides: pd.DataFrame, dtype: str | None) -> None:
    """Pack, then put the new store in the place of the old one, which stays until then."""
    info = _info(folder.path / "packed")
    chosen = np.dtype(dtype or (info["dtype"] if info else "float16"))
    scratch, target, old = (folder.path / name for name in (SCRATCH, "packed", OLD))
    try:
        scratch.mkdir()
        try:
            _write(scratch, folder.name, slides, chosen, measured=dtype is None)
        except _LosesFeatures as loss:
            note(f"{folder.name}: packed as float32, because {loss}")
            shutil.rmtree(scratch)
            scratch.mkdir()
            _write(scratch, folder.name, slides, np.dtype(np.float32), measured=False)
        if target.exists():
            os.rename(target, old)
        os.rename(scratch, target)
    except BaseException as error:
        shutil.rmtree(scratch, ignore_errors=True)
        if old.exists() and not target.exists():
            os.rename(old, target)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BadFile(f"no space is left in {folder.path}", f"free {_needed(slides, chosen)} there") from None
        raise
    shutil.rmtree(old, ignore_errors=True)


def _needed(slides: pd.DataFrame, dtype: np.dtype[Any]) -> str:
    counts = [count for _, count in headers(slides["file"]) if not isinstance(count, SurvbenchError)]
    size = sum(patches * (width * dtype.itemsize + 8) for patches, width, _ in counts)
    return f"{size / 1e9:.1f} GB" if size > 1e9 else f"{size / 1e6 + 0.1:.1f} MB"


def _mend_killed(folder: CohortFolder) -> None:
    """Undo what a killed process left behind; the caller holds the lock."""
    scratch, target, old = (folder.path / name for name in (SCRATCH, "packed", OLD))
    if old.exists() and not target.exists():
        os.rename(old, target)
    for left in (scratch, old):
        if left.exists():
            shutil.rmtree(left, ignore_errors=True)


def _remove_leftovers(folder: CohortFolder) -> None:
    if any((folder.path / name).exists() for name in (SCRATCH, OLD, ".packing.lock")):
        with suppress(OSError), lock(folder.path / ".packing", wait=False) as held:
            if held:
                _mend_killed(folder)


class _LosesFeatures(Exception):
    """Half precision does not hold what single precision does."""


def _write(scratch: Path, cohort: str, slides: pd.DataFrame, dtype: np.dtype[Any], *, measured: bool) -> None:
    digest, index, start = hashlib.sha256(), [], 0
    files = [_status(file) for file in slides["file"]]
    prints = fingerprint(slides, dtype.name, files)
    first: tuple[Path, int, str | None] | None = None
    simulated, refused = False, list[SurvbenchError]()
    with ExitStack() as opened:
        features, coords = (opened.enter_context((scratch / name).open("wb")) for name in ARRAYS)
        found = opened.enter_context(closing(read_all(slides["file"])))
        for row in track(slides.to_dict("records"), f"Packing {cohort}"):
            file, slide = next(found)
            if isinstance(slide, SurvbenchError):
                refused.append(slide)
                continue
            simulated |= slide.simulated
            try:
                if len(slide.features):
                    first = first or (file, slide.features.shape[1], slide.encoder)
                    _same_kind(*first, other=file, slide=slide)
            except BadFeatures as error:
                refused.append(error)
            if refused:
                continue
            values = np.ascontiguousarray(_cast(slide.features, dtype, file, measured=measured))
            places = np.ascontiguousarray(slide.coords, np.float32)
            content = values.tobytes(), places.tobytes()
            features.write(content[0])
            coords.write(content[1])
            digest.update(f"{row['patient']}\t{row['slide']}\t{values.shape}\n".encode())
            digest.update(content[0])
            digest.update(content[1])
            index.append((row["patient"], row["slide"], start, start + len(values)))
            start += len(values)
    _raise(refused, cohort, len(slides))
    if first is None:
        raise BadFeatures(f"cohort {cohort}: not one of its {len(slides)} feature files holds a patch")
    if len(index) > FEW and start == len(index) and all(stop - begin == 1 for _, _, begin, stop in index):
        what = f"each of the {len(index)} feature files of cohort {cohort} has one row: vectors of whole slides"
        raise BadFeatures(what, "name the folder of patch features")
    pd.DataFrame(index, columns=["patient", "slide", "start", "stop"]).to_csv(scratch / "index.csv", index=False)
    info = {
        "dim": first[1],
        "dtype": dtype.name,
        "patches": start,
        "content_hash": digest.hexdigest(),
        "encoder": first[2],
        "simulated": simulated,
        "fingerprint": prints,
        "files": files,
    }
    write_info(scratch / "store.json", info)


def _raise(refused: list[SurvbenchError], cohort: str, slides: int) -> None:
    """The error of the only file that is refused; of several, every one is printed first."""
    if len(refused) == 1:
        raise refused[0]
    for error in refused:
        print_line(f"error: {error}", "red")
    if refused:
        what = f"cohort {cohort}: {len(refused)} of {slides} feature files, named above, cannot be packed"
        raise BadFeatures(what, "mend them, or take them out of the cohort; nothing was packed")


def _same_kind(one: Path, width: int, encoder: str | None, other: Path, slide: SlideFeatures) -> None:
    for first, second in ((f"width {width}", f"width {slide.features.shape[1]}"), (encoder, slide.encoder)):
        if first and second and first != second:
            what = f"{one} has features of {first}, {other} of {second}"
            raise BadFeatures(what, "one cohort has features of one encoder")


def _cast(features: np.ndarray, dtype: np.dtype[Any], file: Path, *, measured: bool) -> np.ndarray:
    """As `dtype`; where half precision was not asked for, what it loses is no error but a reason for another."""
    with np.errstate(over="ignore"):
        values = features.astype(dtype, copy=False)
    loss = ""
    if not np.isfinite(values).all():
        loss = f"{file} has features up to {np.abs(features).max():.3g}, too large for {dtype.name}"
    elif dtype == np.float16 and features.dtype != np.float16:
        loss = float16_loss(features) or ""
        loss = loss and f"{file} would lose its features as float16: {loss}"
    if loss and measured:
        raise _LosesFeatures(loss)
    if loss:
        raise BadFeatures(loss, "pack with --dtype float32")
    return values


def _status(file: Path) -> tuple[int, int] | None:
    """(bytes, time of the last change in ns); None where there is no such file."""
    try:
        status = Path(file).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size, status.st_mtime_ns


def fingerprint(slides: pd.DataFrame, dtype: str, found: list[tuple[int, int] | None] | None = None) -> str:
    """Changes when a feature file is added, removed, replaced or touched.

    Parameters
    ----------
    slides : patient, slide and file.
    dtype : that the features are stored in.
    found : status of each file, where it is known; a network's file system takes long for it.

    Raises
    ------
    MissingFile : a file does not exist.
    """
    digest = hashlib.sha256(dtype.encode())
    found = [_status(file) for file in slides["file"]] if found is None else found
    for row, status in zip(slides.to_dict("records"), found, strict=True):
        if status is None:
            raise MissingFile(
                f"feature file {row['file']} of patient {row['patient']} does not exist",
                "restore it, or import again with --slides FOLDER --overwrite",
            )
        size, changed = status
        digest.update(f"{row['patient']}\t{row['slide']}\t{row['file']}\t{size}\t{changed}\n".encode())
    return digest.hexdigest()


def _info(folder: Path) -> dict[str, Any] | None:
    try:
        return read_info(folder / "store.json")
    except BadFile:
        return None
