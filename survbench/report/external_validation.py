"""Tables of external validation: each model alone, all of them as one ensemble, and the paper's Table 4 beside.

Computed from the predictions that `survbench run --train ... --test ...` stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from survbench.console import warn
from survbench.evaluation.compare import bootstrap_cindex
from survbench.evaluation.groups import logrank
from survbench.evaluation.metrics import harrell
from survbench.experiments.folders import Unreadable
from survbench.experiments.validation_results import ValidationResult, read_validations
from survbench.files import digest, plain
from survbench.leaderboard.board import KINDS
from survbench.leaderboard.published import published_cindex
from survbench.leaderboard.rows import grouped
from survbench.report.sheet import Sheet

__all__ = [
    "ExternalRow",
    "ExternalTable",
    "external_markdown",
    "external_plain",
    "external_rows",
    "external_tables",
]


@dataclass(frozen=True)
class ExternalRow:
    """One model with one configuration, trained on one cohort and applied to another.

    Attributes
    ----------
    models : how many were applied (folds x seeds). mean, sd, low, high : of their C-indices, with a 95 % patient
    bootstrap interval of the mean. ensemble... : of the mean of their risks, each standardized on its own training
    patients. logrank_p : of the groups that most models' training medians make. problem : why there are no figures.
    as_registered : with every setting as the registry has it.
    """

    train: str
    test: str
    endpoint: str
    folds: str
    simulated: str
    model: str
    title: str
    reconstruction: str
    selected: str
    patients: int = 0
    events: int = 0
    models: int = 0
    seeds: int = 0
    mean: float = math.nan
    sd: float = math.nan
    low: float = math.nan
    high: float = math.nan
    ensemble: float = math.nan
    ensemble_low: float = math.nan
    ensemble_high: float = math.nan
    logrank_p: float = math.nan
    genes_absent: int = 0
    config: str = ""
    problem: str = ""
    as_registered: bool = False

    @property
    def published(self) -> float | None:
        """C-index of the paper's Table 4 for this pair of cohorts, where the models are run as registered."""
        return self.printed if self.as_registered else None

    @property
    def printed(self) -> float | None:
        """The same, whatever the settings."""
        found = published_cindex(self.model, self.test, "external")
        return found[0] if found is not None and self.test.removeprefix("cptac-") == self.train else None


@dataclass(frozen=True, kw_only=True)
class ExternalTable(Sheet):
    """Rows of one pair of cohorts."""

    simulated: str


def external_rows(out: Path, models: Sequence[str] | None = None) -> list[ExternalRow]:
    """Rows of a results folder, newest code of each configuration; incomplete ones say what is missing."""
    found = []
    for result in read_validations(out):
        if isinstance(result, Unreadable):
            warn(f"{result.path} is not used: {result.reason}")
        elif models is None or result.identity["model"] in models:
            found.append(result)
    rows = []
    for same in grouped(found, _setup):
        versions = grouped(same, lambda result: (result.identity["model_version"], result.code))
        rows.append(_row(max(versions, key=lambda results: max(result.modified for result in results))))
    return sorted(rows, key=lambda r: (r.train, r.test, r.endpoint, r.folds, r.model, r.config))


def external_plain(rows: Iterable[ExternalRow]) -> list[dict[str, Any]]:
    """The same as JSON values, with `published`; NaN is None."""
    return [plain({**vars(row), "published": row.published}) for row in rows]


def external_tables(rows: Iterable[ExternalRow]) -> list[ExternalTable]:
    """One table per pair of cohorts, endpoint and kind of data; these are never mixed."""
    return [_sheet(same) for same in grouped(rows, _pair)]


def _sheet(rows: Sequence[ExternalRow]) -> ExternalTable:
    title, cells, notes = _title(rows[0]), [*map(_cells, rows)], _notes(rows)
    return ExternalTable(title=title, headers=_HEADERS, rows=cells, notes=notes, simulated=rows[0].simulated)


def external_markdown(rows: Sequence[ExternalRow]) -> str:
    """As Markdown."""
    return "\n".join(table.to_markdown() for table in external_tables(rows))


_HEADERS = ("model", "models", "C-index of each [95 %]", "ensemble [95 %]", "log-rank p", "published")


def _row(results: Sequence[ValidationResult]) -> ExternalRow:
    content, identity, first = results[0].record, results[0].identity, results[0].table
    about = ExternalRow(
        train=identity["cohort"],
        test=content["test_cohort"],
        endpoint=content["endpoint"],
        folds=identity["folds"],
        simulated=content["simulated"],
        model=identity["model"],
        title=content["card"]["title"],
        reconstruction=content["card"]["reconstruction"],
        selected=results[0].selected,
        as_registered=all(r.record.get("as_registered") is True for r in results),
        patients=len(first),
        events=int(first["event"].sum()),
        models=len(results),
        seeds=len({r.seed for r in results}),
        genes_absent=len(content["genes_absent"]),
        config=digest([identity["config"], identity["training"], identity["objective"]])[:6],
    )
    places = {(r.seed, r.fold) for r in results}
    missing = [f"fold {f} of seed {s}" for s in {s for s, _ in places} for f in range(identity["n_folds"])]
    missing = [name for name in missing if name not in {f"fold {f} of seed {s}" for s, f in places}]
    if missing:
        return replace(about, problem=f"{', '.join(missing)} missing; give the same command again")
    tables = [r.table.sort_values("patient") for r in results]
    if any(list(t["patient"]) != list(tables[0]["patient"]) for t in tables):
        return replace(about, problem="its models were applied to different patients")
    return _scored(about, tables)


def _scored(about: ExternalRow, tables: Sequence[pd.DataFrame]) -> ExternalRow:
    time, event = tables[0]["time"].to_numpy(float), tables[0]["event"].to_numpy(bool)
    risks = np.stack([t["risk"].to_numpy(float) for t in tables])
    together = np.mean([t["standardized"].to_numpy(float) for t in tables], axis=0)
    each = [harrell(time, event, risk) for risk in risks]
    if each[0].reason:
        return replace(about, problem=each[0].reason)
    drawn = bootstrap_cindex(time, event, np.vstack([risks, together]))
    low, high = np.nanpercentile(drawn[:-1].mean(axis=0), [2.5, 97.5])
    ensemble_low, ensemble_high = np.nanpercentile(drawn[-1], [2.5, 97.5])
    votes = np.mean([t["high"].to_numpy(float) for t in tables], axis=0)
    values = np.array([c.value for c in each])
    return replace(
        about,
        mean=float(values.mean()),
        sd=float(values.std()),
        low=float(low),
        high=float(high),
        ensemble=harrell(time, event, together).value,
        ensemble_low=float(ensemble_low),
        ensemble_high=float(ensemble_high),
        logrank_p=logrank(time, event, votes > 0.5).p,
    )


def _setup(result: ValidationResult) -> str:
    identity = {k: v for k, v in result.identity.items() if k not in ("fold", "seed", "model_version")}
    return digest([identity, result.record["test_hash"], result.record["endpoint"], result.selected])


def _pair(row: ExternalRow) -> tuple[str, ...]:
    return row.train, row.test, row.endpoint, row.folds, row.simulated


def _title(row: ExternalRow) -> str:
    where = f"trained on {row.train}, tested on {row.test} · {row.endpoint} · {row.folds} folds"
    return f"External: {where} · {KINDS[row.simulated]}"


def _cells(row: ExternalRow) -> tuple[str, ...]:
    name = row.title + (" †" if row.reconstruction else "") + (f", {row.selected}" if row.selected != "default" else "")
    count = f"{row.models} ({row.seeds} seed{'s' if row.seeds > 1 else ''})"
    published = "" if row.published is None else f"{row.published:.3f}"
    if row.problem:
        return name, count, row.problem, "", "", published
    return (
        name,
        count,
        f"{row.mean:.3f} ± {row.sd:.3f} [{row.low:.3f}, {row.high:.3f}]",
        f"{row.ensemble:.3f} [{row.ensemble_low:.3f}, {row.ensemble_high:.3f}]",
        "undefined" if math.isnan(row.logrank_p) else f"{row.logrank_p:.3f}",
        published,
    )


def _notes(rows: Sequence[ExternalRow]) -> list[str]:
    first = rows[0]
    notes = [
        f"{first.patients} patients, {first.events} events; models of all folds and seeds, frozen, with the training "
        "cohort's genes, scaler and risk cut.",
        "C-index of each: mean ± SD (ddof 0) over the models; ensemble: mean of their risks, each standardized on its "
        "own training patients. Intervals: patient bootstrap of the test cohort.",
        "log-rank p: high risk where most models say so, each by its training median.",
    ]
    if any(row.published is not None for row in rows):
        notes.append("published: Table 4 of AMKD's paper, on real patients; one figure, without a spread.")
    shown = {row.model for row in rows if row.published is not None}
    others = {row.title: row.printed for row in rows if row.model not in shown and row.printed is not None}
    if others:
        printed = ", ".join(f"{name} {value:.3f}" for name, value in others.items())
        notes.append(f"published (Table 4 of AMKD's paper, real patients), for other settings than here: {printed}.")
    if first.simulated:
        notes.append(f"{KINDS[first.simulated]}: the figures say nothing about a cancer.")
    notes += [
        f"{row.title}: {row.genes_absent} training genes were not measured and stand at their training mean."
        for row in rows
        if row.genes_absent
    ]
    notes += [f"† {t} is a reconstruction: {w}." for t, w in {r.title: r.reconstruction for r in rows}.items() if w]
    return notes
