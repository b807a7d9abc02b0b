"""From rows to a leaderboard: what is read, which rows share a table, what is refused.

Everything is computed from stored predictions, never from stored metrics; nothing is shown here.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from survbench.cards import ModelGroup
from survbench.console import track
from survbench.data.folds import FEW_EVENTS, FEW_PAIRS
from survbench.experiments.folders import Unreadable
from survbench.experiments.results import JobResult, read_results
from survbench.files import digest
from survbench.leaderboard.board import UNKNOWN, Column, Leaderboard, Line, Refusal, Row, Table
from survbench.leaderboard.external_predictions import match_measured
from survbench.leaderboard.paired_differences import beside
from survbench.leaderboard.published import published_cohorts, published_models
from survbench.leaderboard.rows import PLACE, grouped, make_rows, place_of, refuse_other_patients, score

__all__ = ["build"]

_ORDER = {"": 0, "slides": 1, "all": 2, None: 3, UNKNOWN: 4}  # real patients first
_VARIANT_SETTINGS = 3
R = TypeVar("R", JobResult, JobResult | Row)
DEFAULT = "default"


def build(
    out: Path,
    *,
    cohorts: Sequence[str] | None = None,
    models: Sequence[str] | None = None,
    endpoint: str | None = None,
    folds: str | None = None,
    only: Collection[Path] | None = None,
    external_predictions: Sequence[Row] = (),
) -> Leaderboard:
    """Leaderboard of a results folder.

    Parameters
    ----------
    out : folder that `survbench run --out` wrote to; a missing or empty one gives an empty leaderboard.
    cohorts : names, wildcards or `all`.
    models : the same of models.
    endpoint : only this outcome.
    folds : only this fold scheme.
    only : folders of these jobs.
    external_predictions : rows that join the measured ones where they may.
    """
    results = [job for job in read_results(out) if only is None or job.path in only]
    refused = [Refusal({"path": str(r.path)}, r.reason) for r in results if isinstance(r, Unreadable)]
    records, repeated = _unique(_with_known_data([r for r in results if isinstance(r, JobResult)]))
    wanted = {"model": models, "cohort": cohorts, "endpoint": endpoint and [endpoint]}
    candidates: list[JobResult | Row] = [*records, *external_predictions]
    chosen, notes = _choose(candidates, wanted)
    jobs, more = _choose([r for r in chosen if isinstance(r, JobResult)], {"folds": folds and [folds]})
    scored = [score(record) for record in track(jobs, "Scoring predictions")]
    rows, incomplete = make_rows(scored)
    external, unmatched = match_measured([r for r in chosen if isinstance(r, Row)], rows)
    external = [r for r in external if folds is None or _matches(r.identity["folds"], folds)]
    rows, other_patients = refuse_other_patients([*rows, *external])
    tables, lacking = _tables(rows)
    return Leaderboard(
        source=str(out),
        tables=tables,
        rows=tuple(row for table in tables for line in table.lines for row in line.rows.values()),
        refused=(*incomplete, *other_patients, *repeated, *refused),
        notes=(*notes, *more, *unmatched, *lacking, *_why_separate(tables)),
    )


def _with_known_data(records: Sequence[JobResult]) -> list[JobResult]:
    """A failure that did not record what its data are takes it from a finished job on the same content."""
    known = {r.identity["cohort_hash"]: r.simulated for r in records if r.simulated is not None}
    return [
        r if r.simulated is not None else replace(r, simulated=known.get(r.identity["cohort_hash"])) for r in records
    ]


def _unique(records: Sequence[JobResult]) -> tuple[list[JobResult], list[Refusal]]:
    """A copied folder is not a second measurement; a failure counts only until the job has succeeded."""
    kept: dict[str, JobResult] = {}
    repeated = []
    for record in records:
        first = kept.setdefault(digest(record.identity), record)
        if first is not record and not record.error:
            repeated.append(Refusal({"path": str(record.path)}, f"it is the same job as {first.path}"))
    return list(kept.values()), repeated


def _choose(records: Sequence[R], wanted: Mapping[str, Sequence[str] | None]) -> tuple[list[R], list[str]]:
    """Those that match, and a note on each pattern that matches nothing."""
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


def _tables(rows: Sequence[Row]) -> tuple[tuple[Table, ...], list[str]]:
    tables: list[Table] = []
    notes: list[str] = []
    for same in grouped(rows, lambda r: _task(r)):
        endpoint, folds, version, _ = _task(same[0])
        columns = _columns(same)
        lines, shown = _lines(same, columns), tuple(columns.values())
        contrasts, lacking = beside(lines, shown)
        notes += lacking
        table = Table(
            endpoint=endpoint,
            folds=folds,
            protocol_version=version,
            simulated=same[0].simulated,
            columns=shown,
            lines=lines,
            contrasts=contrasts,
        )
        tables.append(table)
    ordered = sorted(tables, key=lambda t: (_ORDER[t.simulated], t.endpoint, t.folds, -t.protocol_version))
    return tuple(ordered), list(dict.fromkeys(notes))


def _task(row: Row) -> tuple[str, str, int, int]:
    of = row.identity
    return of["endpoint"], of["folds"], of["protocol_version"], _ORDER[row.simulated]


def _columns(rows: Sequence[Row]) -> dict[str, Column]:
    """Columns by the key of their rows, in the paper's order of cohorts."""
    columns = {}
    order = published_cohorts()
    places = {place_of(row): row for row in sorted(rows, key=lambda r: (_rank(r.cohort, order), r.cohort, place_of(r)))}
    cohorts = [row.cohort for row in places.values()]
    for key, first in places.items():
        members = [r for r in rows if place_of(r) == key and not r.failed]
        columns[key] = Column(
            cohort=first.cohort,
            key=key,
            content=first.identity["cohort_hash"],
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
    for same_model in grouped(rows, lambda r: (r.model, r.source)):
        variants = _variants(same_model)
        labels = _variant_labels([_settings(v[0]) for v in variants])
        for variant, label in zip(variants, labels, strict=True):
            first = variant[0]
            by_place = {place_of(r): r for r in variant}
            cells = {column: by_place[key] for key, column in columns.items() if key in by_place}
            model = {name: getattr(first, name) for name in ("model", "title", "group", "reconstruction")}
            lines.append(Line(**model, variant=label, rows=cells))
    groups, order = [*ModelGroup, None], published_models()
    return tuple(sorted(lines, key=lambda n: (groups.index(n.group), _rank(n.model, order), n.model, n.variant)))


def _variants(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of one configuration together; tuned ones too, whose settings may differ from cohort to cohort."""
    variants = []
    for same in grouped(rows, lambda r: [r.selected, r.identity["objective"].get("name", "")]):
        places = [place_of(row) for row in same]
        together = same[0].selected.startswith("tuned") and len(set(places)) == len(places)
        variants += [same] if together else list(grouped(same, _configuration))
    return variants


def _rank(name: str, order: Sequence[str]) -> int:
    return order.index(name) if name in order else len(order)


def _variant_labels(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """What sets each configuration of a model apart from the others, in few words."""
    keys = sorted({key for one in settings for key in one})
    differing = [k for k in keys if len({json.dumps(one.get(k), sort_keys=True, default=str) for one in settings}) > 1]
    labels = []
    for one in settings:
        parts = [f"{key}={_short(one[key])}" for key in differing if key in one and key != "selected"]
        more = len(parts) - _VARIANT_SETTINGS
        label = ", ".join(parts[:_VARIANT_SETTINGS]) + (f", +{more} ({digest(one)[:6]})" if more > 0 else "")
        chosen = one["selected"] if one["selected"] != DEFAULT else ""  # `tuned (n trials)`, said always
        labels.append("; ".join(part for part in (chosen, label) if part))
    return labels


def _configuration(row: Row) -> str:
    """Everything that sets a row apart but its data and its code."""
    kept = {k: v for k, v in row.identity.items() if k not in PLACE}
    return digest([kept, row.selected])


def _settings(row: Row) -> dict[str, Any]:
    """The same, flat and for reading: `alpha`, `learning_rate`, `objective`."""
    flat: dict[str, Any] = {}
    for key, value in row.identity.items():
        if key in ("config", "training"):
            flat |= value
        elif key == "objective":
            flat |= {"objective" if k == "name" else f"objective.{k}": v for k, v in value.items()}
        elif key not in (*PLACE, "model", "model_version"):
            flat[key] = value
    return flat | {"selected": row.selected}


def _short(value: Any) -> str:
    if isinstance(value, Mapping) and "model" in value:  # another model that a setting names
        return str(value["model"])
    return f"{value:g}" if isinstance(value, float) else str(value)


def _why_separate(tables: Sequence[Table]) -> list[str]:
    notes = []
    if len(tables) > 1:
        aspects = {
            "endpoint": [t.endpoint for t in tables],
            "folds": [t.folds for t in tables],
            "protocol version": [str(t.protocol_version) for t in tables],
            "data": [t.kind for t in tables],
        }
        differing = [f"{k} ({', '.join(dict.fromkeys(v))})" for k, v in aspects.items() if len(set(v)) > 1]
        notes.append(f"{len(tables)} separate tables, never ranked together: they differ in {' and '.join(differing)}.")
    for table in tables:
        twice = sorted({c.cohort for c in table.columns if c.ambiguous})
        notes += [
            f"{table.title}: {cohort} stands in several columns because its patients, features or folds "
            f"differ ({_contents(table, cohort)}); compare inside a column only."
            for cohort in twice
        ]
    return notes


def _contents(table: Table, cohort: str) -> str:
    return ", ".join(column.label for column in table.columns if column.cohort == cohort)
