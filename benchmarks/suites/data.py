"""Suites of the data path: `data`, an epoch over slides however they are stored, and `packing`, making the store.

Files lie in the system's cache, as in every epoch after the first; a cold disk is not measured.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import h5py
import numpy as np
import pandas as pd
import torch

from benchmarks.rounds import Contestant, Race, Work
from survbench.cards import Modality
from survbench.data.batches import Split
from survbench.data.formats import read_features, write_features
from survbench.data.packing import pack
from survbench.data.root import CohortFolder
from survbench.data.store import BagStore

__all__ = ["data", "packing"]

WIDTH = 1024
FORMATS = ("clam-pt", "clam-h5", "trident", "stamp")


def data(patches: int, slides: int, batch_size: int) -> Iterator[Race]:
    """An epoch over all patients; one patient is one slide."""
    with tempfile.TemporaryDirectory() as folder:
        files = {form: _write(Path(folder) / form, form, patches, slides) for form in FORMATS}
        delivered = slides * patches * WIDTH * 4  # float32, whatever is on disk
        split = _split(pack(_folder(Path(folder) / "clam-pt", files["clam-pt"])))
        ways: dict[str, Callable[[], Work]] = {
            f"packed store, batches of {batch_size}": partial(_epoch, split, batch_size, None),
            "packed store, patient by patient": partial(_epoch, split, 1, None),
            f"packed store, {patches // 2:,} patches sampled": partial(_epoch, split, batch_size, patches // 2),
            "torch.load, a .pt per slide": partial(_load_pt, files["clam-pt"]),
        }
        ways |= {f"h5py, a {name} file per slide": partial(_load_h5, files[name]) for name in FORMATS[1:]}
        ways["survbench's reader, a trident file per slide"] = partial(_load_checked, files["trident"])
        contestants = [
            Contestant(name=name, prepare=way, units=slides, bytes=delivered // 2 if "sampled" in name else delivered)
            for name, way in ways.items()
        ]
        yield Race(suite="data", cell={"patches": patches, "slides": slides}, contestants=contestants, unit="patient")


def packing(patches: int, slides: int) -> Iterator[Race]:
    """Reading, checking, hashing and writing every slide once."""
    with tempfile.TemporaryDirectory() as folder:
        contestants = []
        for form in FORMATS:
            files = _write(Path(folder) / form, form, patches, slides)
            work = partial(_pack, _folder(Path(folder) / form, files))
            contestants.append(
                Contestant(name=f"from {form}", prepare=work, units=slides, bytes=slides * patches * WIDTH * 2)
            )
        yield Race(suite="packing", cell={"patches": patches, "slides": slides}, contestants=contestants, unit="slide")


def _write(folder: Path, form: str, patches: int, slides: int) -> list[Path]:
    rng = np.random.default_rng(0)
    coords = 256 * np.stack(np.divmod(np.arange(patches), 64), 1)
    return [
        write_features(
            folder, f"S{i:03d}", rng.standard_normal((patches, WIDTH), np.float32), coords, form, simulated=False
        )
        for i in range(slides)
    ]


@dataclass(frozen=True)
class _Folder:
    """Stands in for a cohort's folder: all that packing needs of one."""

    path: Path
    files: list[Path]
    name: str = "simulated"

    def slides(self) -> pd.DataFrame:
        names = [file.stem for file in self.files]
        return pd.DataFrame({"patient": names, "slide": names, "file": self.files})


def _folder(path: Path, files: list[Path]) -> CohortFolder:
    return cast(CohortFolder, _Folder(path, files))


def _split(store: BagStore) -> Split:
    count = len(store.patients)
    time, event = np.arange(1.0, count + 1), np.ones(count, bool)
    return Split(patients=tuple(store.patients), time=time, event=event, expression=None, bags=store)


def _epoch(split: Split, size: int, most: int | None) -> Work:
    def work() -> None:
        generator = np.random.default_rng(0)
        for batch in split.batches(size, (Modality.SLIDES,), labels=True, max_patches=most, generator=generator):
            del batch

    return work


def _load_pt(files: list[Path]) -> Work:
    def work() -> None:
        for file in files:
            torch.load(file, weights_only=True)

    return work


def _load_h5(files: list[Path]) -> Work:
    """The features as float32, without any check."""

    def work() -> None:
        for file in files:
            with h5py.File(file) as content:
                features = content["features"] if "features" in content else content["feats"]
                torch.from_numpy(np.squeeze(features[:]).astype(np.float32, copy=False))

    return work


def _load_checked(files: list[Path]) -> Work:
    def work() -> None:
        for file in files:
            read_features(file)

    return work


def _pack(folder: CohortFolder) -> Work:
    def work() -> None:
        pack(folder, repack=True)

    return work
