"""Packs a cohort's feature files into its store (store.py), slide by slide; the store appears by one rename."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from survbench.console import note, print_line, track
from survbench.data.formats import SlideFeatures
from survbench.data.precision import float16_loss
from survbench.data.reading_process import headers, read_all
from survbench.data.root import CohortFolder, write_info
from survbench.data.store import BagStore, file_status, fingerprint, is_current, store_info
from survbench.errors import BadFeatures, BadFile, MissingFile, SurvbenchError
from survbench.files import LEFTOVER, lock, replaced_folder

__all__ = ["FEW", "pack"]

FEW = 2  # feature files of one row each, which a test may have
OLD = ".packing.old"  # the store before, until the new one stands
ARRAYS = ("features.bin", "coords.bin")


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


def _replace_store(folder: CohortFolder, slides: pd.DataFrame, dtype: str | None) -> None:
    """Pack, then put the new store in the place of the old one, which stays until then."""
    info = store_info(folder.path / "packed")
    chosen = np.dtype(dtype or (info["dtype"] if info else "float16"))
    old = folder.path / OLD
    try:
        with replaced_folder(folder.path / "packed", old) as scratch:
            try:
                _write(scratch, folder, slides, chosen, measured=dtype is None)
            except _LosesFeatures as loss:
                note(f"{folder.name}: packed as float32, because {loss}")
                _write(scratch, folder, slides, np.dtype(np.float32), measured=False)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BadFile(f"no space is left in {folder.path}", f"free {_needed(slides, chosen)} there") from None
        raise
    shutil.rmtree(old, ignore_errors=True)


def _needed(slides: pd.DataFrame, dtype: np.dtype[Any]) -> str:
    counts = [count for _, count in headers(slides["file"]) if not isinstance(count, SurvbenchError)]
    size = sum(patches * (width * dtype.itemsize + 8) for patches, width, _ in counts)
    return f"{size / 1e9:.1f} GB" if size > 1e9 else f"{size / 1e6 + 0.1:.1f} MB"


def _mend_killed(folder: CohortFolder) -> None:
    """Undo what a killed process left behind; the caller holds the lock."""
    target, old = folder.path / "packed", folder.path / OLD
    if old.exists() and not target.exists():
        os.rename(old, target)
    for left in (old, *_scratch(folder)):
        shutil.rmtree(left, ignore_errors=True)


def _scratch(folder: CohortFolder) -> list[Path]:
    """Stores that killed processes had begun."""
    return [left for left in folder.path.glob(".packed.*") if LEFTOVER.fullmatch(left.name)]


def _remove_leftovers(folder: CohortFolder) -> None:
    if _scratch(folder) or any((folder.path / name).exists() for name in (OLD, ".packing.lock")):
        with suppress(OSError), lock(folder.path / ".packing", wait=False) as held:
            if held:
                _mend_killed(folder)


class _LosesFeatures(Exception):
    """Half precision does not hold what single precision does."""


def _write(scratch: Path, folder: CohortFolder, slides: pd.DataFrame, dtype: np.dtype[Any], *, measured: bool) -> None:
    cohort, patch_size = folder.name, folder.info.patch_size
    digest, index, start = hashlib.sha256(), [], 0
    files = [file_status(file) for file in slides["file"]]
    prints = fingerprint(slides, dtype.name, files, patch_size)
    first: tuple[Path, int, str | None] | None = None
    simulated, sized, refused = False, True, list[SurvbenchError]()
    with ExitStack() as opened:
        features, coords = (opened.enter_context((scratch / name).open("wb")) for name in ARRAYS)
        found = opened.enter_context(closing(read_all(slides["file"], patch_size)))
        for row in track(slides.to_dict("records"), f"Packing {cohort}"):
            file, slide = next(found)
            if isinstance(slide, SurvbenchError):
                refused.append(slide)
                continue
            simulated, sized = simulated | slide.simulated, sized and slide.in_edges
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
    if not sized and patch_size is None:
        note(f"{cohort}: files do not say how large a patch is; the step of their grid was taken (or --patch-size)")
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
