"""From jobs to rows: one model with one configuration on one cohort, every fold and every seed.

Scores predictions, demands completeness and equal patients; does not know which rows share a table.
"""

from __future__ import annotations

import json
import math
import shlex
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from survbench.errors import BadFile
from survbench.evaluation.groups import logrank, risk_cut, stratified_logrank
from survbench.evaluation.metrics import METRICS, Value, fold_predictions
from survbench.experiments.results import JobResult
from survbench.files import digest
from survbench.leaderboard.board import Refusal, Row, Summary

__all__ = [
    "PLACE",
    "Scored",
    "grouped",
    "labels_of",
    "make_row",
    "make_rows",
    "place_of",
    "refuse_other_patients",
    "score",
    "score_predictions",
]

T = TypeVar("T")
PLACE = ("cohort", "cohort_hash", "folds_hash", "n_folds", "endpoint", "folds", "protocol_version")


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One job with what its predictions say.

    Attributes
    ----------
    record : of the job.
    values : every metric of the test split.
    test : patient, time, event, risk, high (above the training median).
    everyone : patients of all three splits.
    unreadable : why the predictions cannot be used.
    bins : of D-calibration.
    """

    record: JobResult
    values: Mapping[str, Value]
    test: pd.DataFrame
    everyone: frozenset[str] = frozenset()
    unreadable: str = ""
    bins: tuple[float, ...] = ()


def score(record: JobResult) -> Scored:
    if record.error:
        return _unscored(record, f"failed: {record.error}")
    try:
        predictions = record.predictions()
    except BadFile as error:
        return replace(_unscored(record, str(error)), unreadable=str(error))
    return score_predictions(record, predictions, np.array(record.grid), record.horizon)


def _unscored(record: JobResult, reason: str) -> Scored:
    nobody = pd.DataFrame(columns=["patient", "time", "event", "risk", "high"])
    return Scored(record=record, values=dict.fromkeys(METRICS, Value(math.nan, reason)), test=nobody)


def score_predictions(record: JobResult, predictions: pd.DataFrame, grid: np.ndarray, horizon: float) -> Scored:
    """Metrics and risk groups of one fold; without training patients there is no cut, and none is made up."""
    train, test = (predictions[predictions["split"] == split] for split in ("train", "test"))
    high = test["risk"] > risk_cut(train["risk"].to_numpy(float)) if len(train) else math.nan
    fold = fold_predictions(predictions, grid, horizon)
    return Scored(
        record=record,
        values={name: metric.score(fold) for name, metric in METRICS.items()},
        test=test[["patient", "time", "event", "risk"]].assign(high=high).reset_index(drop=True),
        everyone=frozenset(predictions["patient"]),
        bins=fold.calibration.counts if fold.survival.size else (),
    )


def make_rows(scored: Sequence[Scored]) -> tuple[list[Row], list[Refusal]]:
    """Rows of the newest version that has all folds of all seeds; every other attempt is refused with its reason."""
    rows: list[Row] = []
    refused: list[Refusal] = []
    for versions in grouped(scored, lambda s: _setup(s.record)):
        attempts = sorted(
            grouped(versions, lambda s: _version(s.record)),
            key=lambda jobs: max((not s.record.unsealed, s.record.modified, _version(s.record)) for s in jobs),
            reverse=True,
        )
        problems = [_incomplete(jobs) for jobs in attempts]
        failures = [any(s.record.error for s in jobs) for jobs in attempts]
        usable = [i for i, problem in enumerate(problems) if not problem]
        shown = min(usable, key=lambda i: (failures[i], i), default=None)
        for i, jobs in enumerate(attempts):
            if i == shown:
                rows.append(make_row(jobs))
            elif problems[i]:
                refused.append(_refusal(jobs[0].record, problems[i]))
            elif shown is not None:
                refused.append(_refusal(jobs[0].record, _passed_over(jobs, newer=i < shown)))
    return rows, refused


def _passed_over(jobs: Sequence[Scored], *, newer: bool) -> str:
    errors = [s.record.error for s in jobs if s.record.error]
    version = _version(jobs[0].record)
    if newer and errors:
        return f"newer {version} failed ({errors[0]}); the row shown is of an older version"
    return f"superseded: of {version}, and there is a newer result"


def _version(record: JobResult) -> str:
    """Of the model; in the first edition that of the whole code."""
    return f"code {record.code}" if record.unsealed else f"version {record.identity['model_version']}"


def _incomplete(jobs: Sequence[Scored]) -> str:
    """Why these jobs make no row: every fold of every seed is required. A failure makes a row that says failed."""
    if any(s.record.error for s in jobs):
        return ""
    unreadable = [s.unreadable for s in jobs if s.unreadable]
    present = {(s.record.seed, s.record.fold) for s in jobs if not s.unreadable}
    seeds = sorted({s.record.seed for s in jobs})
    folds = range(jobs[0].record.identity["n_folds"])
    missing = {seed: [f for f in folds if (seed, f) not in present] for seed in seeds}
    missing = {seed: lacking for seed, lacking in missing.items() if lacking}
    if missing:
        what = "; ".join(f"fold {_listed(lacking)} of seed {seed}" for seed, lacking in missing.items())
        advice = f"Make them with: {_command(jobs[0].record, missing)}"
        return " ".join([f"incomplete: {what} missing.", *unreadable, advice])
    return _inconsistent(jobs)


def _inconsistent(jobs: Sequence[Scored]) -> str:
    """Whether a patient of the cohort was left out or tested twice (protocol rules 4 and 7)."""
    everyone = frozenset().union(*(s.everyone for s in jobs))
    for job in jobs:
        if job.everyone != everyone:
            lacking = sorted(everyone - job.everyone)
            return (
                f"seed {job.record.seed} fold {job.record.fold} has no prediction for {len(lacking)} of "
                f"{len(everyone)} patients, first {lacking[0]}; a missing prediction is an error, not a smaller sample"
            )
    for same_seed in grouped(jobs, lambda s: s.record.seed):
        tested = [p for s in same_seed for p in s.test["patient"]]
        if len(tested) != len(everyone) or set(tested) != everyone:
            return (
                f"seed {same_seed[0].record.seed} scores {len(set(tested))} of {len(everyone)} patients in "
                f"{len(tested)} test predictions; every patient must be tested once"
            )
    if len({labels_of(same_seed) for same_seed in grouped(jobs, lambda s: s.record.seed)}) > 1:
        return "its seeds were scored on different patients, folds or labels"
    return ""


def labels_of(jobs: Iterable[Scored]) -> frozenset[tuple[int, str, float, bool]]:
    """(fold, patient, time, event) of everyone whom these jobs tested."""
    return frozenset(
        (job.record.fold, patient, time, event)
        for job in jobs
        for patient, time, event in job.test[["patient", "time", "event"]].itertuples(index=False)
    )


def make_row(jobs: Sequence[Scored]) -> Row:
    """The row of these jobs, whether or not they are all that it should have."""
    record = max((s.record for s in jobs), key=lambda r: r.modified)
    pooled, stratified, reason = _risk_groups(jobs)
    costs = [s.record for s in jobs if s.record.parameters is not None]
    flops = [r.fvcore_flops for r in costs if r.fvcore_flops is not None]
    return Row(
        identity={k: v for k, v in record.identity.items() if k not in ("fold", "seed")},
        title=record.title,
        group=record.group,
        reconstruction=record.reconstruction,
        selected=record.selected,
        simulated=record.simulated,
        seeds=tuple(sorted({s.record.seed for s in jobs})),
        metrics={name: _summary(jobs, name) for name in METRICS},
        labels=labels_of(jobs),
        logrank_p=pooled,
        logrank_p_stratified=stratified,
        logrank_reason=reason,
        parameters=max((r.parameters or 0 for r in costs), default=None),
        fvcore_flops=max(flops, default=None),
        beside=record.beside,
        as_registered=all(s.record.as_registered for s in jobs),
        code=", ".join(sorted({s.record.code for s in jobs})),
        unsealed=record.unsealed,
        tests={(s.record.seed, s.record.fold): s.test for s in jobs},
        bins={(s.record.seed, s.record.fold): s.bins for s in jobs if s.bins},
        errors=tuple(dict.fromkeys(s.record.error for s in jobs if s.record.error)),
    )


def _summary(jobs: Sequence[Scored], metric: str) -> Summary:
    by_place = {(s.record.seed, s.record.fold): s.values[metric] for s in jobs}
    seeds = sorted({seed for seed, _ in by_place})
    folds = range(jobs[0].record.identity["n_folds"])
    not_run = Value(math.nan, "not run")
    table = [[by_place.get((seed, fold), not_run) for fold in folds] for seed in seeds]
    values = np.array([[cell.value for cell in row] for row in table])  # (seeds, folds)
    per_fold = values.mean(axis=0)
    reasons = [
        f"fold {fold}: {cell.reason}" for row in table for fold, cell in enumerate(row) if math.isnan(cell.value)
    ]
    return Summary(
        mean=float(per_fold.mean()),
        sd=float(per_fold.std()),
        sd_sample=float(per_fold.std(ddof=1)) if len(per_fold) > 1 else math.nan,
        sd_seeds=float(values.mean(axis=1).std()) if len(seeds) > 1 else None,
        per_fold=tuple(per_fold.tolist()),
        reason=next((r for r in reasons if not r.endswith(not_run.reason)), reasons[0] if reasons else ""),
    )


def _risk_groups(jobs: Sequence[Scored]) -> tuple[float, float, str]:
    """Log-rank p of high against low risk, pooled and stratified by fold; the median over seeds (protocol rule 15)."""
    errors = [s.record.error for s in jobs if s.record.error]
    if errors:
        return math.nan, math.nan, f"failed: {errors[0]}"
    if any(s.test["high"].isna().any() for s in jobs):
        return math.nan, math.nan, "there are no training patients to take the cut from, and none is made up"
    results = []
    for same_seed in grouped(jobs, lambda s: s.record.seed):
        patients = pd.concat([s.test.assign(fold=s.record.fold) for s in same_seed])
        columns = [patients[c].to_numpy() for c in ("time", "event", "high", "fold")]
        results.append((logrank(*columns[:3]), stratified_logrank(*columns)))
    reasons = [test.reason for pair in results for test in pair if test.reason]
    if reasons:
        return math.nan, math.nan, reasons[0]
    pooled, stratified = (statistics.median(pair[i].p for pair in results) for i in (0, 1))
    return pooled, stratified, ""


def refuse_other_patients(rows: Sequence[Row]) -> tuple[list[Row], list[Refusal]]:
    """Rows of one content must be scored on the same patients with the same labels (protocol rule 7).

    The most patients that any row was scored on are the cohort: leaving some out is the fault to catch.
    """
    kept, refused = [], []
    for same in grouped(rows, lambda r: digest([r.simulated, place_of(r)])):
        complete = [r.labels for r in same if not r.failed]
        reference = max(complete, key=lambda labels: (len(labels), complete.count(labels)), default=frozenset())
        for row in same:
            if row.failed or row.labels == reference:
                kept.append(row)
                continue
            why = (
                f"scored on {len(row.labels)} patients, other rows of the same cohort content on {len(reference)}; "
                f"{len(reference - row.labels)} patients, folds or labels differ. Run it again on the whole cohort"
            )
            refused.append(_refusal(row, why))
    return kept, refused


def _refusal(of: JobResult | Row, reason: str) -> Refusal:
    names = ("model", "cohort", "endpoint", "folds", "cohort_hash", "config", "model_version")
    return Refusal({"title": of.title, **{name: of.identity[name] for name in names}}, reason)


def _command(record: JobResult, missing: Mapping[int, Sequence[int]]) -> str:
    """The command that makes the missing jobs, with every setting spelled out: defaults may have changed since."""
    of = record.identity
    folds = sorted({fold for lacking in missing.values() for fold in lacking})
    words = ["survbench", "run", "--model", of["model"], "--cohort", of["cohort"], "--endpoint", of["endpoint"]]
    words += ["--scheme", of["folds"], "--objective", str(of["objective"].get("name", "cox"))]
    words += ["--seeds", ",".join(map(str, missing)), "--only-folds", ",".join(map(str, folds))]
    words += [] if record.simulated == "all" else ["--data", "DATA"]
    for key, value in (*of["config"].items(), *of["training"].items()):
        words += ["--set", f"{key}={json.dumps(value, default=str) if not isinstance(value, str) else value}"]
    return shlex.join(words)


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _setup(record: JobResult) -> str:
    """What the jobs of one row share, apart from the code."""
    identity = {k: v for k, v in record.identity.items() if k not in ("fold", "seed", "model_version")}
    return digest([identity, record.simulated, record.selected])


def place_of(row: Row) -> str:
    return digest([row.identity.get(key) for key in PLACE])


def grouped(items: Iterable[T], key: Any) -> list[list[T]]:
    """Items with equal keys together, groups ordered by key, items in their order."""
    return [list(members) for _, members in groupby(sorted(items, key=key), key=key)]
