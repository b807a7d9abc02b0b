"""From job folders to a leaderboard, computed from stored predictions and never from stored metrics.

Decides which jobs make a row, which rows share a table, and what is refused; shows nothing.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import math
import shlex
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from survbench.cards import ModelGroup
from survbench.console import track
from survbench.data.folds import FEW_EVENTS, FEW_PAIRS
from survbench.errors import BadFile
from survbench.evaluation.groups import logrank, risk_cut, stratified_logrank
from survbench.evaluation.metrics import METRICS, Value, score_fold
from survbench.leaderboard.board import Column, Leaderboard, Line, Refusal, Row, Summary, Table
from survbench.leaderboard.published import published_cohorts, published_models
from survbench.leaderboard.records import JobRecord, Unreadable, read_jobs, read_predictions

__all__ = ["build"]

T = TypeVar("T")
_PLACE = ("cohort", "cohort_hash", "folds_hash", "n_folds", "endpoint", "folds", "task_version")
_ORDER = {None: 3, "": 0, "slides": 1, "all": 2}  # real patients first
_VARIANT_SETTINGS = 3


@dataclass(frozen=True)
class Scored:
    """One job with what its predictions say.

    Attributes
    ----------
    values : every metric of the test split. test : patient, time, event, high (risk above the training median).
    everyone : patients of all three splits. unreadable : why the predictions cannot be used.
    """

    record: JobRecord
    values: Mapping[str, Value]
    test: pd.DataFrame
    everyone: frozenset[str] = frozenset()
    unreadable: str = ""


def build(
    out: Path,
    *,
    cohorts: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    endpoint: str | None = None,
    folds: str | None = None,
) -> Leaderboard:
    """Leaderboard of a results folder.

    Parameters
    ----------
    out : folder that `survbench run --out` wrote to; a missing or empty one gives an empty leaderboard.
    cohorts, models : names, wildcards or `all`. endpoint, folds : only these.
    """
    found = list(read_jobs(out))
    refused = [Refusal({"path": str(f.path)}, f.reason) for f in found if isinstance(f, Unreadable)]
    records, repeated = _unique(_with_known_data([f for f in found if isinstance(f, JobRecord)]))
    chosen, notes = _choose(
        records, {"model": models, "cohort": cohorts, "endpoint": endpoint and [endpoint], "folds": folds and [folds]}
    )
    scored = [_score(record) for record in track(chosen, "Scoring predictions")]
    rows, incomplete = _rows(scored)
    rows, strangers = _refuse_other_patients(rows)
    tables = _tables(rows)
    return Leaderboard(
        str(out),
        tables,
        tuple(row for table in tables for line in table.lines for row in line.rows.values()),
        (*incomplete, *strangers, *repeated, *refused),
        (*notes, *_why_separate(tables)),
    )


def _with_known_data(records: Sequence[JobRecord]) -> list[JobRecord]:
    """A failure that did not record what its data are takes it from a finished job on the same content."""
    known = {r.identity["cohort_hash"]: r.simulated for r in records if r.simulated is not None}
    return [
        r if r.simulated is not None else replace(r, simulated=known.get(r.identity["cohort_hash"])) for r in records
    ]


def _unique(records: Sequence[JobRecord]) -> tuple[list[JobRecord], list[Refusal]]:
    """A copied folder is not a second measurement; a failure counts only until the job has succeeded."""
    kept: dict[str, JobRecord] = {}
    repeated = []
    for record in records:
        first = kept.setdefault(_digest(record.identity), record)
        if first is not record and not record.error:
            repeated.append(Refusal({"path": str(record.path)}, f"it is the same job as {first.path}"))
    return list(kept.values()), repeated


def _choose(
    records: Sequence[JobRecord], wanted: Mapping[str, Sequence[str] | str | None]
) -> tuple[list[JobRecord], list[str]]:
    notes: list[str] = []
    for key, patterns in wanted.items():
        if not patterns or "all" in patterns:
            continue
        present = sorted({str(r.identity[key]) for r in records})
        absent = [p for p in patterns if present and not any(_matches(name, p) for name in present)]
        notes += [f"no result with {key} '{pattern}'; there is {', '.join(present)}" for pattern in absent]
        records = [r for r in records if any(_matches(r.identity[key], p) for p in patterns)]
    return list(records), notes


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


def _score(record: JobRecord) -> Scored:
    none = pd.DataFrame(columns=["patient", "time", "event", "high"])
    if record.error:
        return Scored(record, dict.fromkeys(METRICS, Value(math.nan, f"failed: {record.error}")), none)
    try:
        predictions = read_predictions(record)
    except BadFile as error:
        return Scored(record, dict.fromkeys(METRICS, Value(math.nan, str(error))), none, unreadable=str(error))
    cut = risk_cut(predictions.loc[predictions["split"] == "train", "risk"].to_numpy())
    test = predictions.loc[predictions["split"] == "test", ["patient", "time", "event"]]
    return Scored(
        record,
        score_fold(predictions, np.array(record.grid), record.horizon),
        test.assign(high=predictions["risk"] > cut),
        frozenset(predictions["patient"]),
    )


def _rows(scored: Sequence[Scored]) -> tuple[list[Row], list[Refusal]]:
    """Rows of the newest code that has all folds of all seeds; every other attempt is refused with its reason."""
    rows: list[Row] = []
    refused: list[Refusal] = []
    for versions in _grouped(scored, lambda s: _setup(s.record)):
        attempts = sorted(
            _grouped(versions, lambda s: str(s.record.identity["code"])),
            key=lambda jobs: max((s.record.modified, s.record.identity["code"]) for s in jobs),
            reverse=True,
        )
        problems = [_incomplete(jobs) for jobs in attempts]
        failures = [any(s.record.error for s in jobs) for jobs in attempts]
        usable = [i for i, problem in enumerate(problems) if not problem]
        shown = min(usable, key=lambda i: (failures[i], i), default=None)
        for i, jobs in enumerate(attempts):
            if i == shown:
                rows.append(_row(jobs))
            elif problems[i]:
                refused.append(_refusal(jobs[0].record, problems[i]))
            elif shown is not None:
                refused.append(_refusal(jobs[0].record, _passed_over(jobs, newer=i < shown)))
    return rows, refused


def _passed_over(jobs: Sequence[Scored], *, newer: bool) -> str:
    errors = [s.record.error for s in jobs if s.record.error]
    code = jobs[0].record.identity["code"]
    if newer and errors:
        return f"newer code {code} failed ({errors[0]}); the row shown is of older code"
    return f"superseded: of code {code}, and there is a newer result"


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
        return " ".join(
            [
                f"incomplete: {what} missing.",
                *unreadable,
                f"Make them with: {_command(jobs[0].record, missing)}",
            ]
        )
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
    for same_seed in _grouped(jobs, lambda s: s.record.seed):
        tested = [p for s in same_seed for p in s.test["patient"]]
        if len(tested) != len(everyone) or set(tested) != everyone:
            return (
                f"seed {same_seed[0].record.seed} scores {len(set(tested))} of {len(everyone)} patients in "
                f"{len(tested)} test predictions; every patient must be tested once"
            )
    if len({_labels(same_seed) for same_seed in _grouped(jobs, lambda s: s.record.seed)}) > 1:
        return "its seeds were scored on different patients, folds or labels"
    return ""


def _labels(jobs: Iterable[Scored]) -> frozenset[tuple[int, str, float, bool]]:
    return frozenset(
        (job.record.fold, patient, time, event)
        for job in jobs
        for patient, time, event in job.test[["patient", "time", "event"]].itertuples(index=False)
    )


def _row(jobs: Sequence[Scored]) -> Row:
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
        labels=_labels(jobs),
        logrank_p=pooled,
        logrank_p_stratified=stratified,
        logrank_reason=reason,
        parameters=max((r.parameters or 0 for r in costs), default=None),
        fvcore_flops=max(flops, default=None),
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
    results = []
    for same_seed in _grouped(jobs, lambda s: s.record.seed):
        patients = pd.concat([s.test.assign(fold=s.record.fold) for s in same_seed])
        columns = [patients[c].to_numpy() for c in ("time", "event", "high", "fold")]
        results.append((logrank(*columns[:3]), stratified_logrank(*columns)))
    reasons = [test.reason for pair in results for test in pair if test.reason]
    if reasons:
        return math.nan, math.nan, reasons[0]
    pooled, stratified = (statistics.median(pair[i].p for pair in results) for i in (0, 1))
    return pooled, stratified, ""


def _refuse_other_patients(rows: Sequence[Row]) -> tuple[list[Row], list[Refusal]]:
    """Rows of one content must be scored on the same patients with the same labels (protocol rule 7).

    The most patients that any row was scored on are the cohort: leaving some out is the fault to catch.
    """
    kept, refused = [], []
    for same in _grouped(rows, lambda r: _digest([r.simulated, _key(r)])):
        complete = [r.labels for r in same if not r.failed]
        reference = max(complete, key=lambda labels: (len(labels), complete.count(labels)), default=frozenset())
        for row in same:
            if row.failed or row.labels == reference:
                kept.append(row)
                continue
            refused.append(
                Refusal(
                    _names(row.identity, row.title),
                    f"scored on {len(row.labels)} patients, other rows of the same cohort content on {len(reference)}; "
                    f"{len(reference - row.labels)} patients, folds or labels differ. Run it again on the whole cohort",
                )
            )
    return kept, refused


def _tables(rows: Sequence[Row]) -> tuple[Table, ...]:
    tables = []
    for same in _grouped(rows, lambda r: _task(r)):
        endpoint, folds, version, _ = _task(same[0])
        columns = _columns(same)
        tables.append(
            Table(endpoint, folds, version, same[0].simulated, tuple(columns.values()), _lines(same, columns))
        )
    return tuple(sorted(tables, key=lambda t: (_ORDER[t.simulated], t.endpoint, t.folds, -t.task_version)))


def _task(row: Row) -> tuple[str, str, int, int]:
    of = row.identity
    return of["endpoint"], of["folds"], of["task_version"], _ORDER[row.simulated]


def _columns(rows: Sequence[Row]) -> dict[str, Column]:
    """Columns by the key of their rows, in the paper's order of cohorts."""
    columns = {}
    order = published_cohorts()
    places = {_key(row): row for row in sorted(rows, key=lambda r: (_rank(r.cohort, order), r.cohort, _key(r)))}
    cohorts = [row.cohort for row in places.values()]
    for key, first in places.items():
        members = [r for r in rows if _key(r) == key and not r.failed]
        columns[key] = Column(
            first.cohort,
            key[:6],
            ambiguous=cohorts.count(first.cohort) > 1,
            patients=len(members[0].labels) if members else 0,
            thin_folds=_thin_folds(members),
        )
    return columns


def _thin_folds(rows: Sequence[Row]) -> tuple[int, ...]:
    """Folds under the protocol's limits (rule 4); the pairs depend on labels alone, so any defined row tells them."""
    if not rows:
        return ()
    pairs = np.max([r.metrics["comparable_pairs"].per_fold for r in rows], axis=0)
    events = np.zeros(len(pairs), dtype=int)
    for fold, _, _, event in rows[0].labels:
        events[fold] += event
    return tuple(np.flatnonzero((events < FEW_EVENTS) | (pairs < FEW_PAIRS)).tolist())


def _lines(rows: Sequence[Row], columns: Mapping[str, Column]) -> tuple[Line, ...]:
    lines = []
    for same_model in _grouped(rows, lambda r: r.model):
        variants = list(_grouped(same_model, _configuration))
        labels = _variant_labels([_settings(v[0]) for v in variants])
        for variant, label in zip(variants, labels, strict=True):
            first = variant[0]
            cells = {columns[_key(r)]: r for r in variant}
            lines.append(Line(first.model, first.title, first.group, first.reconstruction, label, cells))
    groups, order = list(ModelGroup), published_models()
    return tuple(sorted(lines, key=lambda n: (groups.index(n.group), _rank(n.model, order), n.model, n.variant)))


def _rank(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def _variant_labels(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """What sets each configuration of a model apart from the others, in few words."""
    keys = sorted({key for one in settings for key in one})
    differing = [k for k in keys if len({json.dumps(one.get(k), sort_keys=True, default=str) for one in settings}) > 1]
    labels = []
    for one in settings:
        parts = [f"{key}={_short(one[key])}" for key in differing if key in one]
        more = len(parts) - _VARIANT_SETTINGS
        labels.append(", ".join(parts[:_VARIANT_SETTINGS]) + (f", +{more} ({_digest(one)[:6]})" if more > 0 else ""))
    return labels


def _configuration(row: Row) -> str:
    """Everything that sets a row apart but its data and its code."""
    kept = {k: v for k, v in row.identity.items() if k not in (*_PLACE, "code")}
    return _digest([kept, row.selected])


def _settings(row: Row) -> dict[str, Any]:
    """The same, flat and for reading: `alpha`, `learning_rate`, `objective`."""
    flat: dict[str, Any] = {"selected": row.selected}
    for key, value in row.identity.items():
        if key in ("config", "training"):
            flat |= value
        elif key == "objective":
            flat |= {"objective" if k == "name" else f"objective.{k}": v for k, v in value.items()}
        elif key not in (*_PLACE, "code", "model"):
            flat[key] = value
    return flat


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _why_separate(tables: Sequence[Table]) -> list[str]:
    notes = []
    if len(tables) > 1:
        aspects = {
            "endpoint": [t.endpoint for t in tables],
            "folds": [t.folds for t in tables],
            "task version": [str(t.task_version) for t in tables],
            "data": [t.kind for t in tables],
        }
        differing = [f"{k} ({', '.join(dict.fromkeys(v))})" for k, v in aspects.items() if len(set(v)) > 1]
        notes.append(f"{len(tables)} separate tables, never ranked together: they differ in {' and '.join(differing)}.")
    for table in tables:
        twice = sorted({c.cohort for c in table.columns if c.ambiguous})
        notes += [
            f"{table.title}: {cohort} stands in several columns because its patients, features or folds "
            f"differ ({', '.join('@' + c.content for c in table.columns if c.cohort == cohort)}); compare inside one only."
            for cohort in twice
        ]
    return notes


def _refusal(record: JobRecord, reason: str) -> Refusal:
    return Refusal(_names(record.identity, record.title), reason)


def _names(identity: Mapping[str, Any], title: str) -> dict[str, Any]:
    names = ("model", "cohort", "endpoint", "folds", "cohort_hash", "config", "code")
    return {"title": title, **{name: identity[name] for name in names}}


def _command(record: JobRecord, missing: Mapping[int, Sequence[int]]) -> str:
    """The command that makes the missing jobs, with every setting spelled out: defaults may have changed since."""
    of = record.identity
    folds = sorted({fold for lacking in missing.values() for fold in lacking})
    words = ["survbench", "run", "--model", of["model"], "--cohort", of["cohort"], "--endpoint", of["endpoint"]]
    words += ["--folds", of["folds"], "--objective", str(of["objective"].get("name", "cox"))]
    words += ["--seeds", ",".join(map(str, missing)), "--fold", ",".join(map(str, folds))]
    words += [] if record.simulated == "all" else ["--data", "DATA"]
    for key, value in (*of["config"].items(), *of["training"].items()):
        words += ["--set", f"{key}={json.dumps(value, default=str) if not isinstance(value, str) else value}"]
    return shlex.join(words)


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _setup(record: JobRecord) -> str:
    """What the jobs of one row share, apart from the code."""
    identity = {k: v for k, v in record.identity.items() if k not in ("fold", "seed", "code")}
    return _digest([identity, record.simulated, record.selected])


def _place(identity: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(identity.get(key) for key in _PLACE)


def _key(row: Row) -> str:
    return _digest(_place(row.identity))


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _grouped(items: Iterable[T], key: Any) -> list[list[T]]:
    """Items with equal keys together, groups ordered by key, items in their order."""
    return [list(members) for _, members in groupby(sorted(items, key=key), key=key)]
