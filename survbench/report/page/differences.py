"""Differences between the models of a table as the page shows them: a matrix, one chosen pair, intervals of a row.

The differences are those of `survbench compare`; here they get their texts and places.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from survbench.evaluation.compare import Difference, paired, unknown
from survbench.evaluation.ranks import CriticalDifference
from survbench.leaderboard.board import Line, Row
from survbench.leaderboard.comparison import MEAN, Compared, Comparison
from survbench.leaderboard.paired_differences import Resampled, resample

__all__ = ["Matrix", "MatrixCell", "Resampling", "best_line", "matrices", "pairs_data", "ranks_by_title"]

_DECIMALS = 4
_TITLE_WIDTH = 40  # letters of a title beside the ranks


class Resampling:
    """Resamples the patients of each row once, for its own interval and for all of its differences."""

    def __init__(self) -> None:
        self._known: dict[int, Resampled] = {}

    def __call__(self, row: Row) -> Resampled:
        if id(row) not in self._known:
            self._known[id(row)] = resample(row)
        return self._known[id(row)]

    def interval(self, row: Row) -> Difference:
        """Mean C-index of a row with both intervals: its difference from nothing, so its p has no meaning."""
        resampled = self(row)
        if resampled.problem:
            return unknown(resampled.problem)
        return paired(resampled.folds, [np.zeros_like(fold) for fold in resampled.folds])

    def mean_interval(self, rows: Sequence[Row]) -> tuple[float, float]:
        """Patient bootstrap interval of the mean over cohorts; NaN where a row has none."""
        resampled = [one.resampled for one in map(self.interval, rows) if one.resampled is not None]
        if len(resampled) < len(rows) or not resampled:
            return math.nan, math.nan
        low, high = np.nanpercentile(np.mean(resampled, axis=0), [2.5, 97.5])
        return float(low), float(high)


@dataclass(frozen=True)
class MatrixCell:
    """A difference.

    Attributes
    ----------
    text : as it is shown.
    look : `up`, `down`, `self` or empty, a class of page.css.
    """

    text: str
    look: str = ""


@dataclass(frozen=True)
class Matrix:
    """Row minus column for all pairs of models.

    Attributes
    ----------
    cohort : label of a column of the table, or MEAN.
    rows : title and cells of each model; columns are in the same order.
    """

    cohort: str
    rows: tuple[tuple[str, tuple[MatrixCell, ...]], ...]


def best_line(comparison: Comparison | None, cohort: str) -> Line | None:
    """The line that is distinguished from every other one on a cohort, if there is one."""
    if comparison is None:
        return None
    pairs = comparison.both_ways(cohort)
    for line in comparison.lines:
        own = [pair for (first, _), pair in pairs.items() if first == line.model]
        if own and all(one.separated and mean > 0 for mean, one in own):
            return line
    return None


def matrices(comparison: Comparison) -> Iterator[Matrix]:
    """One for the mean over cohorts, where there are several, and one for each; none where nothing is defined."""
    for cohort in _cohorts(comparison):
        pairs = comparison.both_ways(cohort)
        if not all(one.difference.reason for _, one in pairs.values()):
            yield Matrix(
                cohort,
                tuple(
                    (row.title, tuple(_cell(pairs.get((row.model, column.model))) for column in comparison.lines))
                    for row in comparison.lines
                ),
            )


def pairs_data(comparison: Comparison) -> dict[str, Any]:
    """For choosing two models: mean, both intervals, p and p after Holm of every pair and cohort."""
    models, cohorts = [line.model for line in comparison.lines], _cohorts(comparison)
    pairs: dict[str, list[list[float | None] | None]] = {}
    for one in comparison.differences:
        key = f"{models.index(one.first)} {models.index(one.second)}"
        pairs.setdefault(key, [None] * len(cohorts))[cohorts.index(one.cohort)] = _numbers(one)
    chosen = [
        (models.index(pair.first.model), models.index(pair.second.model))
        for pair in comparison.table.contrasts
        if pair.first in comparison.lines and pair.second in comparison.lines
    ]
    names = [line.title for line in comparison.lines]
    return {"names": names, "columns": cohorts, "pairs": pairs, "first": next(iter(chosen), (0, 1))}


def ranks_by_title(ranks: CriticalDifference, lines: Sequence[Line]) -> CriticalDifference:
    """With titles instead of names, long ones cut, unless two models would look the same."""
    titles = {line.model: textwrap.shorten(line.title, _TITLE_WIDTH, placeholder=" …") for line in lines}
    if len(set(titles.values())) < len(titles):
        return ranks
    groups = tuple(tuple(titles[name] for name in group) for group in ranks.groups)
    return replace(ranks, ranks=ranks.ranks.rename(titles), groups=groups)


def _cohorts(comparison: Comparison) -> list[str]:
    """Labels in the order of the table, the mean first."""
    labels = dict.fromkeys(one.cohort for one in comparison.differences)
    return sorted(labels, key=lambda label: label != MEAN)


def _cell(pair: tuple[float, Compared] | None) -> MatrixCell:
    if pair is None:
        return MatrixCell("·", "self")
    mean, one = pair
    if one.difference.reason or math.isnan(mean):
        return MatrixCell("–")
    text = f"{mean:+.3f}".replace("-", "−")
    if one.separated:
        return MatrixCell(text, "up" if mean > 0 else "down")
    return MatrixCell(text + (" *" if one.difference.clear else ""))


def _numbers(one: Compared) -> list[float | None] | None:
    of = one.difference
    if of.reason or math.isnan(of.mean):
        return None
    sizes = [of.mean, of.low, of.high, of.patient_low, of.patient_high]
    chances = [of.p, one.p_holm]
    return [
        *(None if math.isnan(value) else round(value, _DECIMALS) for value in sizes),
        *(None if math.isnan(value) else float(f"{value:.2g}") for value in chances),
    ]
