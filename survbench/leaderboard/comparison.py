"""Models of a results folder set against each other in pairs, and their ranks over cohorts (protocol rule 13).

What `survbench compare` computes; survbench.report shows it.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd

from survbench.console import track
from survbench.errors import BadConfig, UnknownName
from survbench.evaluation.compare import Difference, holm, mean_difference, unknown
from survbench.evaluation.ranks import ALPHA, CriticalDifference, critical_difference
from survbench.experiments.results import JobResult, read_results
from survbench.files import plain
from survbench.leaderboard.aggregate import build
from survbench.leaderboard.board import Column, Leaderboard, Line, Row, Table
from survbench.leaderboard.paired_differences import Resampled, alike, difference_plain, resample, resampled_difference

__all__ = ["MEAN", "Compared", "Comparison", "compare_models", "compare_table", "comparison_frame", "comparison_plain"]

MEAN = "mean over cohorts"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """First minus second on one cohort, or over all of them.

    Attributes
    ----------
    first : a model's name.
    second : the other's.
    cohort : label of the column, or MEAN.
    difference : in C-index.
    p_holm : adjusted within the differences of single cohorts, or within those
    over cohorts.
    """

    first: str
    second: str
    cohort: str
    difference: Difference
    p_holm: float = math.nan

    @property
    def separated(self) -> bool:
        """Whether both intervals leave out zero and the adjusted p is below 5 %: only then one is called higher."""
        return self.difference.clear and self.p_holm < ALPHA


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All pairs of some lines of one table.

    Attributes
    ----------
    table : of the leaderboard.
    lines : one per model.
    differences : every pair on every cohort.
    ranks : over the cohorts; None for fewer than three models or two cohorts.
    notes : which configurations were chosen, what is missing.
    """

    table: Table
    lines: tuple[Line, ...]
    differences: tuple[Compared, ...]
    ranks: CriticalDifference | None
    notes: tuple[str, ...] = ()

    def both_ways(self, cohort: str) -> dict[tuple[str, str], tuple[float, Compared]]:
        """(first, second) -> mean difference on a cohort, first minus second, and the pair that it is of."""
        pairs = [one for one in self.differences if one.cohort == cohort]
        turned = {(one.second, one.first): (-one.difference.mean, one) for one in pairs}
        return {(one.first, one.second): (one.difference.mean, one) for one in pairs} | turned


def compare_models(
    out: Path,
    models: Sequence[str],
    cohorts: Sequence[str] | None = None,
    endpoint: str | None = None,
    folds: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> tuple[list[Comparison], Leaderboard]:
    """Every pair of the models, in every table where at least two of them stand; and the leaderboard that holds them.

    Parameters
    ----------
    out : folder of results.
    models : names, wildcards or `all`.
    cohorts : the same of cohorts.
    endpoint : only this outcome.
    folds : only this fold scheme.
    settings : of several configurations of a model only those with these.

    Raises
    ------
    UnknownName : a model has no result. BadConfig : no two of them can be compared.
    """
    _check_models(out, models)
    board = build(out, models=models, cohorts=cohorts, endpoint=endpoint, folds=folds)
    _check_settings(board, settings or {})
    tables = [_with_settings(table, settings or {}) for table in board.tables]
    comparisons = [compare_table(table) for table in tables if len({line.model for line in table.lines}) > 1]
    if not comparisons:
        shown = sorted({line.title for table in board.tables for line in table.lines})
        refused = f"; not shown: {'; '.join(f'{r.label}: {r.reason}' for r in board.refused[:3])}" * bool(board.refused)
        raise BadConfig(
            f"no two models to compare in {out}; there {'is' if len(shown) == 1 else 'are'} "
            f"{', '.join(shown) or 'no complete rows'} with the same endpoint, folds and kind of data{refused}",
            "name two models that were run on the same cohorts, or run them",
        )
    return comparisons, board


def comparison_frame(comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """All differences of all tables, one a row.

    Columns: first, second, cohort (or MEAN), endpoint, folds, data; difference (of the C-index, first minus second);
    low and high (95 % over folds), patient_low and patient_high (95 % over patients), p, p_holm; separated: whether
    both intervals leave out zero and p_holm is below 5 %; reason: why a difference is NaN.
    """
    rows = []
    for of in comparisons:
        place = {"endpoint": of.table.endpoint, "folds": of.table.folds, "data": of.table.kind}
        for one in of.differences:
            named = {"first": one.first, "second": one.second, "cohort": one.cohort, **place}
            bounds = {key: getattr(one.difference, key) for key in ("low", "high", "patient_low", "patient_high", "p")}
            verdict = {"p_holm": one.p_holm, "separated": one.separated, "reason": one.difference.reason}
            rows.append({**named, "difference": one.difference.mean, **bounds, **verdict})
    return pd.DataFrame(rows)


def comparison_plain(comparison: Comparison) -> dict[str, Any]:
    """As JSON values; NaN is None."""
    table, ranks = comparison.table, comparison.ranks
    return {
        "endpoint": table.endpoint,
        "folds": table.folds,
        "protocol_version": table.protocol_version,
        "simulated": table.invented,
        "metric": "cindex",
        "models": [{"model": line.model, "title": line.title, "variant": line.variant} for line in comparison.lines],
        "differences": [
            {"first": one.first, "second": one.second, "cohort": one.cohort}
            | {**difference_plain(one.difference), "p_holm": plain(one.p_holm), "separated": one.separated}
            for one in comparison.differences
        ],
        "ranks": None
        if ranks is None
        else {
            "average": plain(ranks.ranks.to_dict()),
            "critical_difference": plain(ranks.distance),
            "friedman_p": plain(ranks.p),
            "groups": plain(ranks.groups),
            "cohorts": ranks.cohorts,
            "reason": ranks.reason,
        },
        "notes": list(comparison.notes),
    }


def _check_models(out: Path, models: Sequence[str]) -> None:
    present = sorted({job.model for job in read_results(out) if isinstance(job, JobResult)})
    if not present:
        raise BadConfig(f"there are no results in {out}", "make some with: survbench run --model MODEL --cohort COHORT")
    for pattern in models:
        if pattern != "all" and not any(fnmatch.fnmatchcase(name, pattern) for name in present):
            raise UnknownName(f"no result of a model '{pattern}' in {out}", f"There is {', '.join(present)}")


def compare_table(table: Table, resample: Callable[[Row], Resampled] = resample) -> Comparison:
    """Every pair of the models of one table, and their ranks.

    Parameters
    ----------
    resample : draws the patients of a row; one that remembers lets others use the same draws.
    """
    lines, notes = _one_line_each(table)
    resampled = {
        (line.model, column.key): resample(row)
        for line in track(lines, "Resampling patients")
        for column, row in line.rows.items()
    }
    names = {line.model: line.title for line in lines}
    single, over = [], []
    for first, second in combinations(names, 2):
        pair = [
            _pair(first, second, column.label, _difference(resampled, first, second, column))
            for column in table.columns
        ]
        single += pair
        if len(table.columns) > 1:
            over.append(_pair(first, second, MEAN, _mean(table, pair)))
    adjusted = {(one.first, one.second, one.cohort): one for one in (*_adjusted(single), *_adjusted(over))}
    ordered = [one for pair in combinations(names, 2) for key, one in adjusted.items() if key[:2] == pair]
    ranks, left_out = _ranks(table, lines)
    notes += left_out
    return Comparison(table=table, lines=lines, differences=tuple(ordered), ranks=ranks, notes=tuple(notes))


def _pair(first: str, second: str, cohort: str, difference: Difference) -> Compared:
    return Compared(first=first, second=second, cohort=cohort, difference=difference)


def _one_line_each(table: Table) -> tuple[tuple[Line, ...], list[str]]:
    """Of a model's configurations one: see `_preference`. What was chosen is said, and how to choose another."""
    chosen, notes = [], []
    for model in dict.fromkeys(line.model for line in table.lines):
        same = [line for line in table.lines if line.model == model]
        others = [line for line in table.lines if line.model != model]
        ranked = sorted(same, key=lambda line: _preference(line, same, others), reverse=True)
        chosen.append(ranked[0])
        if len(same) > 1:
            rest = "; ".join(line.variant for line in ranked[1:])
            notes.append(
                f"{ranked[0].title} has {len(same)} configurations; compared is '{ranked[0].variant}' (most cohorts, "
                f"then most seeds, then most like its other configurations and other models), not '{rest}'. Choose "
                "another with --set."
            )
    return tuple(chosen), notes


def _preference(line: Line, same: Sequence[Line], others: Sequence[Line]) -> tuple[int, ...]:
    """Cohorts, seeds, then likeness: an ablation's arms differ from its first in one setting, so that is the center."""
    rows = [row for row in line.rows.values() if not row.failed]
    likeness = [sum(sum(alike(line, other)) for other in of) for of in (same, others)]
    return len(rows), sum(len(row.seeds) for row in rows), *likeness


def _with_settings(table: Table, settings: Mapping[str, Any]) -> Table:
    """Without the configurations that contradict a setting; a model that does not have it stays as it is."""
    kept = [line for line in table.lines if all(_known(line).get(k, v) == v for k, v in settings.items())]
    return replace(table, lines=tuple(kept))


def _check_settings(board: Leaderboard, settings: Mapping[str, Any]) -> None:
    lines = [line for table in board.tables for line in table.lines]
    for key, value in settings.items():
        values = [_known(line)[key] for line in lines if key in _known(line)]
        if value not in values:
            shown = ", ".join(dict.fromkeys(str(other) for other in values))
            raise BadConfig(
                f"--set {key}={value}: no configuration here has it",
                f"there is {shown}" if values else "no such setting",
            )


def _known(line: Line) -> dict[str, Any]:
    identity = next(iter(line.rows.values())).identity
    return {**identity["training"], **identity["config"], "objective": identity["objective"].get("name")}


def _difference(resampled: dict[tuple[str, str], Resampled], first: str, second: str, column: Column) -> Difference:
    lacking = [name for name in (first, second) if (name, column.key) not in resampled]
    if lacking:
        return unknown(f"{' and '.join(lacking)} {'has' if len(lacking) == 1 else 'have'} no row on {column.label}")
    return resampled_difference(resampled[first, column.key], resampled[second, column.key])


def _mean(table: Table, pair: Sequence[Compared]) -> Difference:
    if any(column.ambiguous for column in table.columns):
        return unknown("a cohort stands in several columns, because its patients, features or folds differ")
    return mean_difference([one.difference for one in pair])


def _adjusted(family: Sequence[Compared]) -> list[Compared]:
    p = holm({str(i): one.difference.p for i, one in enumerate(family)})
    return [replace(one, p_holm=p[str(i)]) for i, one in enumerate(family)]


def _ranks(table: Table, lines: Sequence[Line]) -> tuple[CriticalDifference | None, list[str]]:
    """Over models that have a C-index on every cohort; the others are named."""
    if len(lines) < 3 or len(table.columns) < 2:
        return None, []
    if any(column.ambiguous for column in table.columns):
        return None, ["no ranks: a cohort stands in several columns, because its patients, features or folds differ."]
    scores = pd.DataFrame(
        {
            column.label: {
                line.model: line.rows[column].metrics["cindex"].mean if column in line.rows else math.nan
                for line in lines
            }
            for column in table.columns
        }
    )
    complete = scores.dropna()
    left_out = [name for name in scores.index if name not in complete.index]
    notes = [f"without a rank, for want of a C-index on every cohort: {', '.join(left_out)}."] if left_out else []
    return (critical_difference(complete), notes) if len(complete) > 2 else (None, notes)
