"""The table of models on the page: what `wording` has, cell by cell, with intervals and values to sort by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest

from survbench.evaluation.compare import Difference
from survbench.evaluation.metrics import METRICS, Metric
from survbench.leaderboard.board import Line, Row, Table
from survbench.leaderboard.comparison import MEAN
from survbench.report.wording import Block, Kind, blocks, headers

__all__ = ["Cell", "ModelRow", "Part", "View", "model_table"]

Interval = Callable[[Row], Difference]


@dataclass(frozen=True)
class Part:
    """One line of a cell.

    Attributes
    ----------
    kind : `measured`, `interval`, `detail` or `published`, a class of page.css.
    label : before the text; empty for what is measured.
    text : as it is shown.
    """

    kind: str
    label: str
    text: str


@dataclass(frozen=True)
class Cell:
    """A figure of a model on one cohort, or its mean over cohorts.

    Attributes
    ----------
    parts : lines of the cell.
    value : that it is sorted by; None sorts last.
    best : whether the model is distinguished from every other model.
    """

    parts: tuple[Part, ...]
    value: float | None
    best: bool


@dataclass(frozen=True)
class ModelRow:
    """A model.

    Attributes
    ----------
    place : its order in the grouped table.
    block : its names.
    cells : one per header of the table.
    parameters : their number, the largest where it depends on the cohort; None where it is not recorded.
    """

    place: int
    block: Block
    cells: tuple[Cell, ...]
    parameters: int | None


@dataclass(frozen=True)
class View:
    """All models of a table by one metric.

    Attributes
    ----------
    name : of the metric.
    headers : of the columns of cells.
    rows : models in the order of the table.
    """

    name: str
    headers: tuple[str, ...]
    rows: tuple[ModelRow, ...]

    @property
    def metric(self) -> Metric:
        return METRICS[self.name]

    @property
    def kinds(self) -> frozenset[str]:
        """What its cells hold and a reader may want to hide."""
        return frozenset(part.kind for row in self.rows for cell in row.cells for part in cell.parts)

    @property
    def groups(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.block.group for row in self.rows))


def model_table(table: Table, metric: str, interval: Interval, best: Mapping[str, Line | None]) -> View:
    """All lines of a table; the average over cohorts is the last of the cells where there are several columns.

    Parameters
    ----------
    table : of the leaderboard.
    metric : a key of METRICS.
    interval : the C-index of a row with its intervals.
    best : by label of a column, or MEAN: the line that is distinguished from all others.
    """
    rows = []
    for place, (line, block) in enumerate(zip(table.lines, blocks(table, metric), strict=True)):
        counts = [row.parameters for row in line.rows.values() if row.parameters is not None]
        cells = tuple(_cells(line, block, table, metric, interval, best))
        rows.append(ModelRow(place, block, cells, max(counts, default=None)))
    return View(metric, tuple(headers(table)), tuple(rows))


def _cells(
    line: Line, block: Block, table: Table, metric: str, interval: Interval, best: Mapping[str, Line | None]
) -> Iterator[Cell]:
    texts = zip(*(figure.cells for figure in block.figures), strict=True)
    for column, of in zip_longest(table.columns, texts):
        row = None if column is None else line.rows.get(column)
        value = line.average(metric, table.columns) if column is None else _value(row, metric)
        parts = []
        for figure, text in zip(block.figures, of, strict=True):
            if text:
                label = "" if figure.kind is Kind.MEASURED else figure.label
                parts.append(Part(figure.kind.name.lower(), label, text))
                parts += _intervals(row, metric, interval) if figure.kind is Kind.MEASURED else ()
        yield Cell(tuple(parts), value, best.get(MEAN if column is None else column.label) is line)


def _value(row: Row | None, metric: str) -> float | None:
    return None if row is None or row.failed or math.isnan(row.metrics[metric].mean) else row.metrics[metric].mean


def _intervals(row: Row | None, metric: str, interval: Interval) -> Iterator[Part]:
    if row is None or row.failed or metric != "cindex":
        return
    difference = interval(row)
    bounds = {"patients": (difference.patient_low, difference.patient_high), "folds": (difference.low, difference.high)}
    for label, (low, high) in bounds.items():
        if not math.isnan(low):
            yield Part("interval", label, f"[{low:.2f}, {high:.2f}]")
