"""Everything that reads a file of somebody else, with valid files of its kind, for fuzzing.py."""

from __future__ import annotations

import gzip
import io
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from support import layouts

__all__ = ["READERS", "Reader"]

SAMPLES = Path(__file__).resolve().parents[2] / "docs" / "samples"


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes
    ----------
    name : for people and for the names of finds.
    file : below the folder of a case, the file whose bytes are changed.
    seeds : makes valid contents, given a folder to work in.
    read : reads the folder of a case.
    around : writes what belongs to a case besides the file.
    """

    name: str
    file: str
    seeds: Callable[[Path], Sequence[bytes]]
    read: Callable[[Path], object]
    around: Callable[[Path], object] = lambda folder: None

    def place(self, folder: Path, content: bytes) -> Path:
        """Write a case; returns its folder."""
        self.around(folder)
        target = folder / self.file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return folder


def _import(folder: Path) -> None:
    """Import the case, and load what was written: what came in must be usable or be refused when it comes in."""
    from survbench.data.importers import import_data
    from survbench.data.root import DataRoot

    slides = folder / "features"
    report = import_data(folder / "source", folder / "DATA", slides=slides if slides.is_dir() else None)
    root = DataRoot.open(folder / "DATA")
    for cohort in report.cohorts:
        written = root.cohort(cohort.name)
        written.patients(), written.slides(), written.expression(), written.pathways()


def _sample(*left_out: str) -> Callable[[Path], object]:
    def write(folder: Path) -> None:
        shutil.copytree(SAMPLES / "mine", folder / "source", ignore=shutil.ignore_patterns(*left_out))

    return write


def _table(name: str, file: str, *contents: Callable[[], bytes], without: str | None = None) -> Reader:
    """A file of a cohort of plain tables, which is the sample cohort otherwise."""
    return Reader(name, f"source/{file}", lambda _: [of() for of in contents], _import, _sample(without or file))


def _text(name: str) -> bytes:
    return (SAMPLES / "mine" / name).read_bytes()


def _other_labels() -> bytes:
    lines = [
        f"TCGA-AA-{i:04d}\tTCGA-AA-{i:04d}-DX1.svs\t{i % 2}:{'DECEASED' if i % 2 else 'LIVING'}\t{i + 1.5}"
        for i in range(20)
    ]
    return "\n".join(["PATIENT_ID\tslide_id\tOS_STATUS\tOS_MONTHS", *lines]).encode()


def _folds() -> bytes:
    lines = [f"{k},S{i:02d},{'test' if i % 5 == k else 'train'}" for k in range(5) for i in range(1, 41)]
    return "\n".join(["fold,patient,split", *lines]).encode()


def _wide() -> bytes:
    sets = [line.split("\t") for line in _text("pathways.gmt").decode().splitlines()]
    rows = max(len(of) for of in sets) - 2
    cells = [[of[0], *of[2:], *[""] * (rows - len(of) + 2)] for of in sets]
    return "\n".join(",".join(row) for row in zip(*cells, strict=True)).encode()


def _survpath(folder: Path) -> list[bytes]:
    return [(layouts.survpath(folder) / "datasets_csv/metadata/tcga_luad.csv").read_bytes()]


def _features(name: str, suffix: str) -> Reader:
    """A file of patch features: its header, then all of it."""

    def seeds(folder: Path) -> list[bytes]:
        x, xy = layouts.features()
        files = [layouts.WRITERS[kind](folder / kind, "S", x, xy) for kind in layouts.WRITERS]
        return [file.read_bytes() for file in files if file.suffix == suffix]

    def read(folder: Path) -> None:
        from survbench.data.formats import patch_count, read_features

        file = folder / f"S{suffix}"
        patch_count(file)
        read_features(file)

    return Reader(name, f"S{suffix}", seeds, read)


def _root_file(name: str, file: str) -> Reader:
    """A file of a data root that this suite wrote, and that somebody passed on."""

    def root(folder: Path) -> Path:
        from survbench.data.importers import import_data

        if not (kept := Path(f"{folder.parent}.{name}.root")).exists():
            import_data(SAMPLES / "mine", kept, slides=SAMPLES / "features")
        return kept

    def read(folder: Path) -> None:
        from survbench.data.check import check
        from survbench.data.cohort import load_cohort
        from survbench.data.root import DataRoot

        opened = DataRoot.open(folder / "DATA")
        check(opened)
        load_cohort(opened, "mine", "os")

    def around(folder: Path) -> None:
        shutil.copytree(root(folder), folder / "DATA")

    return Reader(name, f"DATA/{file}", lambda folder: [(root(folder) / file).read_bytes()], read, around)


def _registry(folder: Path) -> None:
    from survbench.registry import load_registry

    load_registry(folder / "registry.yaml")


def _registries(_: Path) -> list[bytes]:
    model = """models:
  mine:
    target: mine.py:Mine
    title: Mine
    modality: omics
    train_inputs: [expression]
    inference_inputs: [expression]
    config: {width: 4}
    presets: {brief: {training: {epochs: 2}}}
    search: {width: {choices: [4, 8]}}
"""
    others = "presets:\n  short: {epochs: 3, patches: 64}\ncohorts:\n  luad: {title: LUAD, aliases: [a, b]}\n"
    return [model.encode(), others.encode()]


def _predictions(folder: Path) -> None:
    from survbench.leaderboard.external_file import read_predictions_file

    read_predictions_file(folder / "predictions.csv")


def _predictions_files(_: Path) -> list[bytes]:
    rows = [f"m,stad,{i % 5},P{i},{i / 7:.3f},{i + 1},{i % 2}" for i in range(40)]
    return ["\n".join(["model,cohort,fold,patient,risk,time,event", *rows]).encode()]


def _board(folder: Path) -> None:
    from survbench.report.written import read_written

    read_written(folder / "leaderboard.json")


def _boards(_: Path) -> list[bytes]:
    row = {"model": "snn", "cohort": "stad", "metric": "cindex", "mean": 0.6}
    choice = {
        "cohorts": ["stad"],
        "models": ["snn"],
        "metric": "cindex",
        "endpoint": "os",
        "scheme": "event-stratified",
    }
    return [json.dumps({"schema_version": 1, "rows": [row], "selection": choice}).encode()]


def _npy(_: Path) -> list[bytes]:
    return [_saved(lambda file: np.save(file, layouts.features()[0]))]


def _pt(_: Path) -> list[bytes]:
    x = torch.from_numpy(layouts.features()[0])
    return [_saved(partial(torch.save, of)) for of in (x, x.numpy(), {"features": x})]


def _saved(save: Callable[[io.BytesIO], object]) -> bytes:
    save(file := io.BytesIO())
    return file.getvalue()


READERS: dict[str, Reader] = {
    reader.name: reader
    for reader in (
        Reader(
            "labels",
            "source/labels.csv",
            lambda _: [_text("labels.csv"), _other_labels()],
            _import,
            _sample("labels.csv", "expression.csv", "pathways.gmt", "slides.csv"),
        ),
        _table("slides", "slides.csv", lambda: _text("slides.csv")),
        _table("folds", "folds.csv", _folds),
        _table("expression", "expression.csv", lambda: _text("expression.csv")),
        _table(
            "expression-gz",
            "expression.csv.gz",
            lambda: gzip.compress(_text("expression.csv")),
            without="expression.csv",
        ),
        _table("gmt", "pathways.gmt", lambda: _text("pathways.gmt")),
        _table("signatures", "pathways.csv", _wide, without="pathways.gmt"),
        Reader(
            "survpath",
            "source/datasets_csv/metadata/tcga_luad.csv",
            _survpath,
            _import,
            lambda f: layouts.survpath(f / "source"),
        ),
        _features("h5", ".h5"),
        Reader("pt", "S.pt", _pt, _features("pt", ".pt").read),
        Reader("npy", "S.npy", _npy, _features("npy", ".npy").read),
        _root_file("root", "root.json"),
        _root_file("cohort", "mine/cohort.json"),
        _root_file("patients", "mine/patients.csv"),
        _root_file("parquet", "mine/expression.parquet"),
        Reader("registry", "registry.yaml", _registries, _registry),
        Reader("predictions", "predictions.csv", _predictions_files, _predictions),
        Reader("board", "leaderboard.json", _boards, _board),
    )
}
