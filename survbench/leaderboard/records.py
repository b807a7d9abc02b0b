"""Reading job folders as they lie on disk, whoever left them there; what cannot be used is reported, never fatal.

Knows the format of the files; does not know what a leaderboard is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from survbench.cards import ModelGroup
from survbench.errors import BadFile
from survbench.identity import Identified

__all__ = ["FORMAT", "JobRecord", "Unreadable", "read_jobs", "read_predictions"]

FORMAT = 1
SPLITS = ("train", "val", "test")
_IDENTITY: Mapping[str, type] = {
    "task_version": int,
    "model": str,
    "config": dict,
    "objective": dict,
    "training": dict,
    "cohort": str,
    "cohort_hash": str,
    "endpoint": str,
    "folds": str,
    "fold": int,
    "n_folds": int,
    "seed": int,
    "code": str,
}
_COLUMNS = ("patient", "split", "time", "event", "risk", "survival")


@dataclass(frozen=True)
class Unreadable:
    """A folder or file that is no usable record, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class JobRecord(Identified):
    """One job: done, or failed where `error` is not empty.

    Attributes
    ----------
    identity : everything that decides the result; see `survbench.experiments.job`.
    simulated : "", "slides" or "all"; None where a failure did not get as far as recording it.
    beside : models whose differences are shown with it. as_registered : with every setting as the registry has it.
    grid : months at which survival curves are stored. horizon : months. modified : seconds since 1970.
    """

    path: Path
    identity: Mapping[str, Any]
    title: str
    group: ModelGroup | None
    reconstruction: str
    modified: float
    simulated: str | None
    selected: str = ""
    grid: tuple[float, ...] = ()
    horizon: float = math.nan
    parameters: int | None = None
    fvcore_flops: int | None = None
    error: str = ""
    beside: tuple[str, ...] = ()
    as_registered: bool = False


def read_jobs(out: Path) -> Iterator[JobRecord | Unreadable]:
    """Every finished and every failed job of a results folder, in the order of their paths.

    Parameters
    ----------
    out : folder that `survbench run --out` wrote to; it may be missing or empty.
    """
    for folder in sorted(p for p in (out / "jobs").glob("*/*/*") if p.is_dir()):
        yield _read(folder / "job.json", folder, _finished)
    for file in sorted((out / "failures").glob("*/*/*.json")):
        yield _read(file, file, _failed)


def read_predictions(record: JobRecord) -> pd.DataFrame:
    """Predictions of one job: patient, split, time (months), event, risk (higher = worse), survival.

    Raises
    ------
    BadFile : the file is missing, damaged, incomplete or contradicts the record.
    """
    path = record.path / "predictions.parquet"
    try:
        table = pd.read_parquet(path)
    except Exception as error:  # a damaged parquet file raises whatever its decoder trips over
        raise BadFile(f"{path} cannot be read ({_line(error)})", "delete the job's folder and run it again") from None
    problem = _problem(table, len(record.grid))
    if problem:
        raise BadFile(f"{path}: {problem}", "delete the job's folder and run it again")
    return table.astype({"patient": str, "time": float, "event": bool, "risk": float})


def _read(file: Path, path: Path, build: Any) -> JobRecord | Unreadable:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        _check_format(content)
        return build(path, content, file.stat().st_mtime)
    except FileNotFoundError:
        return Unreadable(path, f"it has no {file.name}")
    except (OSError, ValueError, RecursionError) as error:
        return Unreadable(path, f"{file.name} cannot be used: {_line(error)}")


def _check_format(content: Any) -> None:
    if not isinstance(content, dict):
        raise ValueError("it holds no JSON object")
    found = content.get("format")
    if isinstance(found, int) and found > FORMAT:
        raise ValueError(
            f"it has format {found}, written by a newer survbench; this one reads format {FORMAT}. Update survbench"
        )
    if found != FORMAT:
        raise ValueError(f"its format is {found!r}, expected {FORMAT}")


def _finished(path: Path, content: Mapping[str, Any], modified: float) -> JobRecord:
    simulated = _typed(content, "simulated", str)
    if simulated not in ("", "slides", "all"):
        raise ValueError(f"'simulated' is {simulated!r}, expected '', 'slides' or 'all'")
    grid = np.asarray(_typed(content, "grid", list), dtype=float)
    if grid.ndim != 1 or not np.isfinite(grid).all() or (np.diff(grid) <= 0).any():
        raise ValueError("'grid' is not a list of increasing times")
    return JobRecord(
        path,
        **_common(content),
        modified=modified,
        simulated=simulated,
        selected=str(content.get("selected", "default")),
        grid=tuple(grid.tolist()),
        horizon=float(_typed(content, "horizon", (int, float))),
        parameters=_count(content, "parameters"),
        fvcore_flops=_count(content, "fvcore_flops"),
    )


def _failed(path: Path, content: Mapping[str, Any], modified: float) -> JobRecord:
    error = " ".join(_typed(content, "error", str).split()) or "no reason recorded"
    simulated = content.get("simulated")
    known = simulated if simulated in ("", "slides", "all") else None
    selected = str(content.get("selected", "default"))
    return JobRecord(path, **_common(content), modified=modified, simulated=known, selected=selected, error=error)


def _common(content: Mapping[str, Any]) -> dict[str, Any]:
    identity, card = _typed(content, "identity", dict), _typed(content, "card", dict)
    for key, kind in _IDENTITY.items():
        _typed(identity, key, kind)
    if not 0 <= identity["fold"] < identity["n_folds"]:
        raise ValueError(f"fold {identity['fold']} of {identity['n_folds']} folds does not exist")
    return {
        "identity": identity,
        "title": _typed(card, "title", str),
        "group": ModelGroup(_typed(card, "modality", str)),
        "reconstruction": str(card.get("reconstruction") or ""),
        "beside": tuple(map(str, card.get("beside") or ())),
        "as_registered": content.get("as_registered") is True,
    }


def _typed(content: Mapping[str, Any], key: str, kind: type | tuple[type, ...]) -> Any:
    if key not in content:
        raise ValueError(f"'{key}' is missing")
    value = content[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"'{key}' is {str(value)[:40]!r}, a {type(value).__name__}")
    return value


def _count(content: Mapping[str, Any], key: str) -> int | None:
    return None if content.get(key) is None else int(_typed(content, key, int))


def _problem(table: pd.DataFrame, times: int) -> str:
    """What is wrong with a table of predictions; empty where nothing is. An infinite or NaN risk is for the metrics."""
    lacking = [column for column in _COLUMNS if column not in table]
    if lacking:
        return f"the column '{lacking[0]}' is missing"
    if not table["split"].isin(SPLITS).all():
        return f"a split is {table.loc[~table['split'].isin(SPLITS), 'split'].iloc[0]!r}, expected {', '.join(SPLITS)}"
    if table["patient"].isna().any() or table["patient"].duplicated().any():
        return "a patient stands in it twice or has no name"
    numbers = table[["time", "risk"]].dtypes.map(pd.api.types.is_numeric_dtype)
    if not numbers.all() or not np.isfinite(table["time"]).all() or (table["time"] < 0).any():
        return "a time or a risk is not a number"
    if not table["event"].isin([True, False]).all():
        return "an event is neither true nor false"
    lengths = {np.size(curve) for curve in table["survival"]}
    if lengths - {times}:
        return f"a survival curve has {min(lengths - {times})} values, and the grid of job.json {times}"
    return "" if set(table["split"]) >= {"train", "test"} else "its train or its test split is empty"


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
