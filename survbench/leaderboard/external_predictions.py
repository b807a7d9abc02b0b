"""Rows of a leaderboard from predictions that were made elsewhere, marked `external predictions`.

They get every metric that can be had; nothing that would take training patients is made up without them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from survbench.console import track
from survbench.data.root import DataRoot
from survbench.evaluation.metrics import prediction_grid, prediction_horizon
from survbench.experiments.results import JobResult
from survbench.files import digest
from survbench.leaderboard.board import EXTERNAL, UNKNOWN, Refusal, Row
from survbench.leaderboard.external_file import read_predictions_file
from survbench.leaderboard.rows import PLACE, Scored, grouped, labels_of, make_row, score_predictions

__all__ = ["NOT_STATED", "match_measured", "read_rows", "rows_of_predictions"]

NOT_STATED = "outcome not stated"
FOLDS = "external"
_DIGITS = 6  # of months; a time written with fewer is another label

Labels = frozenset[tuple[int, str, float, bool]]


def read_rows(
    file: Path, root: DataRoot | None, endpoint: str | None, *, censorship: str | None, time_unit: str
) -> tuple[list[Row], list[Refusal]]:
    """Read a file, with the labels that it has or those of a data root, and score it; see `read_predictions_file`."""
    table, known = read_predictions_file(
        file, censorship=censorship, time_unit=time_unit, root=root, endpoint=endpoint and endpoint.lower()
    )
    return rows_of_predictions(table, file, endpoint and endpoint.lower(), known)


def rows_of_predictions(
    table: pd.DataFrame, file: Path, endpoint: str | None, simulated: Mapping[str, str] | None = None
) -> tuple[list[Row], list[Refusal]]:
    """Score predictions.

    Parameters
    ----------
    table : of `read_predictions_file`.
    file : where it was read, for messages.
    endpoint : None where it is not known.
    simulated : a key of KINDS for each cohort whose labels come from a data root.

    Returns
    -------
    Rows, each cohort in a column of its own until `match_measured` has looked for another; and what makes no row.
    """
    rows: list[Row] = []
    refused: list[Refusal] = []
    kinds = dict(simulated or {})
    for cohort, of_cohort in table.groupby("cohort", sort=False):
        numbers = _numbered(of_cohort["fold"])
        shared = {
            "protocol_version": 1,
            "config": {},
            "objective": {},
            "training": {},
            "cohort": str(cohort),
            "endpoint": endpoint or NOT_STATED,
            "folds": FOLDS,
            "n_folds": len(numbers),
            "model_version": "",
        }
        made = []
        for model, of_model in track(list(of_cohort.groupby("model", sort=False)), f"Scoring {cohort}"):
            identity = {**shared, "model": str(model)}
            jobs = [
                _score(part, identity, numbers[str(fold)], int(str(seed)), file, kinds.get(str(cohort), UNKNOWN))
                for (seed, fold), part in of_model.groupby(["seed", "fold"])
            ]
            if len({labels_of(same) for same in grouped(jobs, lambda s: s.record.seed)}) > 1:
                names = {key: identity[key] for key in ("model", "cohort", "endpoint", "folds")}
                reason = "its seeds were scored on different patients, folds or labels"
                refused.append(Refusal({"title": str(model), **names, "source": EXTERNAL}, reason))
                continue
            made.append(replace(make_row(jobs), group=None, source=EXTERNAL))
        rows += _in_one_place(made)
    return rows, refused


def match_measured(rows: Sequence[Row], measured: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Move rows into the column of measured ones with exactly the same patients, labels and folds (protocol rule 20).

    Measured rows on simulated slides have no such column: what was predicted elsewhere cannot have seen them.

    Returns
    -------
    All rows, and a note on those that stand by themselves.
    """
    known: dict[tuple[str, Labels], Row] = {}
    for row in measured:
        if not row.failed and row.simulated != "slides":
            known.setdefault((row.cohort, _rounded(row.labels)), row)
    matched, unmatched = [], []
    for same in grouped(rows, lambda r: r.identity["cohort_hash"]):
        reference = _reference(same)
        other = known.get((same[0].cohort, _rounded(reference)))
        if other is not None and same[0].identity["endpoint"] in (NOT_STATED, other.identity["endpoint"]):
            matched += [_moved(row, other, reference) for row in same]
            continue
        matched += same
        unmatched.append(same[0].cohort)
    if not unmatched:
        return matched, []
    note = "no measured row has exactly these patients, labels and folds, so they are ranked by themselves."
    return matched, [f"external predictions on {', '.join(sorted(unmatched))}: {note}"]


def _score(part: pd.DataFrame, identity: Mapping[str, Any], fold: int, seed: int, file: Path, simulated: str) -> Scored:
    """One fold of one seed, as if it were a job; horizon and cut come from training patients or not at all."""
    record = JobResult(
        path=file,
        record={},
        identity={**identity, "fold": fold, "seed": seed},
        unsealed=False,
        code="",
        title=identity["model"],
        group=None,
        reconstruction="",
        modified=0.0,
        simulated=simulated,
        selected="default",
    )
    train = part[part["split"] == "train"]
    grid, horizon = np.empty(0), math.nan
    if train["event"].any():
        horizon = prediction_horizon(train["time"].to_numpy(float), train["event"].to_numpy(bool))
        grid = prediction_grid(horizon)
    return score_predictions(record, part, grid, horizon)


def _in_one_place(rows: Sequence[Row]) -> list[Row]:
    """The same content for all rows of a cohort; who scored other patients is then refused as any row is."""
    if not rows:
        return []
    content = digest([rows[0].cohort, sorted(_rounded(_reference(rows)))])
    place = {"cohort_hash": content, "folds_hash": content}
    return [replace(row, identity={**row.identity, **place}) for row in rows]


def _moved(row: Row, other: Row, reference: Labels) -> Row:
    """Times may differ from the measured ones in their last digits; then the measured ones count."""
    labels = other.labels if row.labels == reference else row.labels
    place = {key: other.identity[key] for key in PLACE if key in other.identity}
    identity = {key: value for key, value in row.identity.items() if key not in PLACE}
    return replace(row, identity={**identity, **place}, labels=labels, simulated=other.simulated)


def _reference(rows: Sequence[Row]) -> Labels:
    """The most patients that any row was scored on; among several such the most frequent ones."""
    labels_of_rows = [row.labels for row in rows]
    return max(labels_of_rows, key=lambda labels: (len(labels), labels_of_rows.count(labels)))


def _rounded(labels: Labels) -> Labels:
    return frozenset((fold, patient, round(time, _DIGITS), bool(event)) for fold, patient, time, event in labels)


def _numbered(folds: pd.Series) -> dict[str, int]:
    """Folds by any name in their order; 1 to 5 become 0 to 4."""
    names = [str(name) for name in folds.unique()]
    whole = all(name.isdecimal() for name in names)
    return {name: i for i, name in enumerate(sorted(names, key=lambda n: (int(n), n) if whole else (0, n)))}
