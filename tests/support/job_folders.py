"""Writes synthetic job folders, as `survbench run` leaves them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from survbench.files import digest, file_digest

CARDS: Mapping[str, Mapping[str, Any]] = {
    "abmil": {"title": "ABMIL", "modality": "wsi"},
    "snn": {"title": "SNN", "modality": "omics"},
    "mcat": {"title": "MCAT", "modality": "multimodal"},
    "amkd": {"title": "AMKD", "modality": "missing", "reconstruction": "the formulas are ours"},
    "null": {"title": "Null", "modality": "sanity"},
}
GRID = [2.0, 4.0, 6.0]


def patients(folds: int = 3, per_fold: int = 3) -> pd.DataFrame:
    """Patients with the fold that tests them; inside a fold they die one after another, at 1, 2, 3, ... months."""
    return pd.DataFrame(
        {
            "patient": [f"TCGA-P{f}-{i:04d}" for f in range(folds) for i in range(per_fold)],
            "fold": np.repeat(np.arange(folds), per_fold),
            "time": np.tile(np.arange(1.0, per_fold + 1), folds),
            "event": True,
        }
    )


def write_job(
    out: Path,
    model: str = "snn",
    *,
    fold: int = 0,
    seed: int = 0,
    risks: Sequence[float] | Mapping[str, float] = (3.0, 2.0, 1.0),
    table: pd.DataFrame | None = None,
    cohort: str = "stad",
    simulated: str = "",
    drop: Sequence[str] = (),
    card: Mapping[str, Any] | None = None,
    modified: float | None = None,
    format_number: int = 2,
    code: str = "0.1.0+0123456789ab",
    selected: str = "default",
    error: str = "",
    as_registered: bool = True,
    **identity: Any,
) -> Path:
    """One job. `risks` are those of the fold's test patients in order; everybody else has 0. `drop`: not predicted."""
    table = patients() if table is None else table
    name = dict(identity)
    full = {
        "protocol_version": 1,
        "model": model,
        "model_version": f"{model}@1",
        "config": {"width": 256},
        "objective": {"name": "cox", "ties": "efron"},
        "training": {"epochs": 100},
        "cohort": cohort,
        "cohort_hash": f"hash-of-{cohort}",
        "endpoint": "os",
        "folds": "event-stratified",
        "fold": fold,
        "n_folds": int(table["fold"].max()) + 1,
        "seed": seed,
    } | name
    identifier = digest(full)
    record = {
        "format": format_number,
        "id": identifier,
        "identity": full,
        "code": code,
        "selected": selected,
        "card": {"name": model, "reconstruction": "", **CARDS.get(model, {"title": model, "modality": "omics"})}
        | dict(card or {}),
        "as_registered": as_registered,
    }
    folder = model.replace("/", "-")
    place = Path(folder, f"{cohort}-{full['endpoint']}-{full['folds']}", f"fold{fold}-seed{seed}-{identifier[:10]}")
    if error:
        file = out / "failures" / place.with_name(f"{place.name}.json")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record | {"error": error}))
        return file
    path = out / "jobs" / place
    path.mkdir(parents=True)
    record |= {
        "simulated": simulated,
        "risk_cut": 0.0,
        "horizon": GRID[-1],
        "grid": GRID,
        "parameters": 803_000,
        "fvcore_flops": 1_690_000_000,
    }
    (path / "job.json").write_text(json.dumps(record))
    _predictions(table, fold, risks, drop).to_parquet(path / "predictions.parquet")
    (path / "metrics.json").write_text(json.dumps({"cindex": {"value": 0.999, "reason": ""}}))
    seal(path)
    if modified is not None:
        os.utime(path / "job.json", (modified, modified))
    return path


def seal(folder: Path) -> None:
    """Write the manifest anew, as whoever altered a file on purpose would."""
    files = {file.name: file_digest(file) for file in sorted(folder.iterdir()) if file.name != "manifest.json"}
    try:
        identifier = json.loads((folder / "job.json").read_text())["id"]
    except (OSError, ValueError, KeyError, TypeError):
        identifier = ""
    (folder / "manifest.json").write_text(json.dumps({"format": 2, "id": identifier, "sha256": files}))


def write_row(
    out: Path, model: str = "snn", *, n_folds: int = 3, seeds: Sequence[int] = (0,), **job: Any
) -> list[Path]:
    """All folds of all seeds."""
    return [write_job(out, model, fold=fold, seed=seed, **job) for seed in seeds for fold in range(n_folds)]


def _predictions(
    table: pd.DataFrame, fold: int, risks: Sequence[float] | Mapping[str, float], drop: Sequence[str]
) -> pd.DataFrame:
    test = (table["fold"] == fold).to_numpy()
    risk = np.zeros(len(table))
    risk[test] = [risks[p] for p in table["patient"][test]] if isinstance(risks, Mapping) else list(risks)
    predicted = table.assign(
        split=np.where(test, "test", np.where(np.arange(len(table)) % 5 == 0, "val", "train")),
        risk=risk,
        survival=[np.exp(-np.array(GRID) / 10)] * len(table),
    ).drop(columns="fold")
    return predicted[~predicted["patient"].isin(drop)].reset_index(drop=True)
