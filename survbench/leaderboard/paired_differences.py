"""Paired differences between lines of one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from survbench.evaluation.compare import Difference, mean_difference, paired, resampled_cindices, unknown
from survbench.files import plain
from survbench.leaderboard.board import MEASURED, Column, Contrast, Line, Row

__all__ = [
    "Resampled",
    "alike",
    "beside",
    "contrast",
    "difference_columns",
    "difference_of",
    "difference_plain",
    "resample",
    "resampled_difference",
    "row_difference",
]

_COLUMNS = {"difference": "mean", **{name: name for name in ("low", "high", "p", "patient_low", "patient_high")}}


def row_difference(first: Row, second: Row) -> Difference:
    """C-index of one row minus another's, on the seeds that both have; the rows share data and folds."""
    return resampled_difference(resample(first), resample(second))


@dataclass(frozen=True)
class Resampled:
    """A row's C-indices, as they are and on resampled patients, from which any pair is made.

    Attributes
    ----------
    seeds : of the row. folds : (seeds, 1 + resamples) of each. problem : why there are none.
    """

    seeds: tuple[int, ...]
    folds: tuple[np.ndarray, ...]
    problem: str = ""


def resample(row: Row) -> Resampled:
    """Resample the patients of a row; rows of one column get the same patients."""
    if row.failed:
        return Resampled(row.seeds, (), "one of the two failed")
    folds = []
    for fold in sorted({fold for _, fold in row.tests}):
        tables = [row.tests[seed, fold].sort_values("patient") for seed in row.seeds]
        risks = np.stack([table["risk"].to_numpy(float) for table in tables])
        if not np.isfinite(risks).all():
            return Resampled(row.seeds, (), f"fold {fold} has a risk that is no number")
        folds.append((tables[0]["time"].to_numpy(float), tables[0]["event"].to_numpy(bool), risks))
    return Resampled(row.seeds, tuple(resampled_cindices(folds)))


def resampled_difference(first: Resampled, second: Resampled) -> Difference:
    """Paired by fold, seed and patient."""
    problem = first.problem or second.problem
    seeds = sorted(set(first.seeds) & set(second.seeds))
    if problem or not seeds:
        return unknown(problem or "they have no seed in common")
    chosen = ([of.seeds.index(seed) for seed in seeds] for of in (first, second))
    return paired(
        *([fold[at] for fold in of.folds] for of, at in zip((first, second), chosen, strict=True)),
    )


def difference_columns(difference: Difference) -> dict[str, Any]:
    """As columns of a table: difference, its bounds and p."""
    return {column: getattr(difference, name) for column, name in _COLUMNS.items()}


def difference_of(row: Mapping[Any, Any]) -> Difference:
    """Back from such columns and `reason`."""
    numbers: dict[str, Any] = {name: float(row[column]) for column, name in _COLUMNS.items()}
    return Difference(**numbers, reason=str(row["reason"] or ""))


def difference_plain(difference: Difference) -> dict[str, Any]:
    """As JSON values; NaN is None."""
    names = (*_COLUMNS.values(), "per_fold", "reason")
    return dict(plain({name: getattr(difference, name) for name in names}))


def contrast(first: Line, second: Line, columns: Sequence[Column]) -> Contrast:
    """Of two lines, in the columns where both stand."""
    shared = [c for c in columns if c in first.rows and c in second.rows]
    cohorts = {column: row_difference(first.rows[column], second.rows[column]) for column in shared}
    several = len(cohorts) > 1 and not any(column.ambiguous for column in shared)
    return Contrast(first, second, cohorts, mean_difference(list(cohorts.values())) if several else None)


def beside(lines: Sequence[Line], columns: Sequence[Column]) -> tuple[tuple[Contrast, ...], tuple[str, ...]]:
    """Contrasts that the models' cards ask for, and a note where the other model has not been run."""
    contrasts, notes = [], []
    for line in lines:
        rows = list(line.rows.values())
        measured = [other for other in lines if other.source == MEASURED]
        known = {name: [other for other in measured if other.model == name] for name in rows[0].beside}
        contrasts += [contrast(line, _nearest(line, others), columns) for others in known.values() if others]
        lacking = ",".join(name for name, others in known.items() if not others)
        if lacking:
            cohorts = ",".join(dict.fromkeys(row.cohort for row in rows))
            notes.append(
                f"{line.title} should be read beside {lacking.replace(',', ' and ')}, not run yet: "
                f"survbench run --model {lacking} --cohort {cohorts}"
            )
    return tuple(contrasts), tuple(dict.fromkeys(notes))


def alike(first: Line, second: Line) -> tuple[int, int]:
    """How many of trainer and objective, then how many of the settings that both have, agree."""
    one, other = (next(iter(line.rows.values())).identity for line in (first, second))
    same = sum(one[key] == other[key] for key in ("training", "objective"))
    shared = set(one["config"]) & set(other["config"])
    return same, sum(one["config"][key] == other["config"][key] for key in shared)


def _nearest(line: Line, others: Sequence[Line]) -> Line:
    """Of several configurations the one trained most alike."""
    return max(others, key=lambda other: alike(line, other))
