"""Differences between the models of a table as the page shows them: a matrix, one chosen pair, intervals of a row.

The differences are those of `survbench compare`; here they are put into words and places.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from survbench.evaluation.compare import Difference, paired, unknown
from survbench.evaluation.ranks import CriticalDifference
from survbench.leaderboard.board import Line, Row
from survbench.leaderboard.comparison import MEAN, Compared, Comparison
from survbench.leaderboard.contrasts import Drawn, draw

__all__ = ["MATRIX_RULE", "MatrixCell", "Resampling", "best_line", "matrices", "pairs_data", "ranks_by_title"]

MATRIX_RULE = (
    "Colored and bold: told apart, that is, both 95 % intervals exclude zero and so does the test after Holm's "
    "correction (over the differences on single cohorts together, and over those of the means together); * both "
    "intervals exclude zero, but the correction does not hold. Everything else is not told apart, whatever its sign."
)
_DECIMALS = 4
_TITLE_WIDTH = 40  # letters of a title beside the ranks


class Resampling:
    """Resamples the patients of each row once, for its own interval and for all of its differences."""

    def __init__(self) -> None:
        self._known: dict[int, Drawn] = {}

    def __call__(self, row: Row) -> Drawn:
        if id(row) not in self._known:
            self._known[id(row)] = draw(row)
        return self._known[id(row)]

    def interval(self, row: Row) -> Difference:
        """Mean C-index of a row with both intervals: its difference from nothing, so its p says nothing."""
        drawn = self(row)
        if drawn.problem:
            return unknown(drawn.problem)
        return paired(drawn.folds, [np.zeros_like(fold) for fold in drawn.folds])

    def mean_interval(self, rows: Sequence[Row]) -> tuple[float, float]:
        """Patient bootstrap interval of the mean over cohorts; NaN where a row has none."""
        drawn = [found.draws for found in map(self.interval, rows) if found.draws is not None]
        if len(drawn) < len(rows) or not drawn:
            return math.nan, math.nan
        low, high = np.nanpercentile(np.mean(drawn, axis=0), [2.5, 97.5])
        return float(low), float(high)


@dataclass(frozen=True)
class MatrixCell:
    """look : `up`, `down`, `self` or empty, a class of page.css."""

    text: str
    look: str = ""


def best_line(found: Comparison | None, cohort: str) -> Line | None:
    """The line that is told apart from every other one on a cohort, if there is one."""
    if found is None:
        return None
    pairs = [one for one in found.differences if one.cohort == cohort]
    for line in found.lines:
        own = [one for one in pairs if line.model in (one.first, one.second)]
        gains = [one.found.mean if one.first == line.model else -one.found.mean for one in own]
        if own and all(one.separated for one in own) and min(gains) > 0:
            return line
    return None


def matrices(found: Comparison) -> Iterator[dict[str, Any]]:
    """One for the mean over cohorts, where there are several, and one for each; none where nothing is defined."""
    labels = list(dict.fromkeys(one.cohort for one in found.differences))
    for cohort in sorted(labels, key=lambda label: label != MEAN):
        pairs = {(one.first, one.second): one for one in found.differences if one.cohort == cohort}
        if all(one.found.reason for one in pairs.values()):
            continue
        rows = [
            {"name": row.title, "cells": [_cell(pairs, row.model, column.model) for column in found.lines]}
            for row in found.lines
        ]
        yield {"about": cohort, "names": [line.title for line in found.lines], "rows": rows}


def pairs_data(found: Comparison) -> dict[str, Any]:
    """For choosing two models: mean, both intervals, p and p after Holm of every pair and cohort."""
    models = [line.model for line in found.lines]
    labels = sorted(dict.fromkeys(one.cohort for one in found.differences), key=lambda label: label != MEAN)
    pairs: dict[str, list[list[float | None] | None]] = {}
    for one in found.differences:
        key = f"{models.index(one.first)} {models.index(one.second)}"
        pairs.setdefault(key, [None] * len(labels))[labels.index(one.cohort)] = _numbers(one)
    asked = [c for c in found.table.contrasts if c.first in found.lines and c.second in found.lines]
    first = (models.index(asked[0].first.model), models.index(asked[0].second.model)) if asked else (0, 1)
    return {"names": [line.title for line in found.lines], "columns": labels, "pairs": pairs, "first": first}


def ranks_by_title(found: CriticalDifference, lines: Sequence[Line]) -> CriticalDifference:
    """With titles instead of names, long ones cut, unless two models would look the same."""
    titles = {line.model: textwrap.shorten(line.title, _TITLE_WIDTH, placeholder=" …") for line in lines}
    if len(set(titles.values())) < len(titles):
        return found
    groups = tuple(tuple(titles[name] for name in group) for group in found.groups)
    return replace(found, ranks=found.ranks.rename(titles), groups=groups)


def _cell(pairs: Mapping[tuple[str, str], Compared], row: str, column: str) -> MatrixCell:
    if row == column:
        return MatrixCell("·", "self")
    turned = (row, column) not in pairs
    one = pairs[column, row] if turned else pairs[row, column]
    if one.found.reason or math.isnan(one.found.mean):
        return MatrixCell("–")
    value = -one.found.mean if turned else one.found.mean
    text = f"{value:+.3f}".replace("-", "−")
    if one.separated:
        return MatrixCell(text, "up" if value > 0 else "down")
    return MatrixCell(text + (" *" if one.found.clear else ""))


def _numbers(one: Compared) -> list[float | None] | None:
    of = one.found
    if of.reason or math.isnan(of.mean):
        return None
    sizes = [of.mean, of.low, of.high, of.patient_low, of.patient_high]
    chances = [of.p, one.p_holm]
    return [
        *(None if math.isnan(value) else round(value, _DECIMALS) for value in sizes),
        *(None if math.isnan(value) else float(f"{value:.2g}") for value in chances),
    ]
