"""The table of models as the page shows it: what `layout` says, cell by cell, with intervals and values to sort by."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from survbench.evaluation.compare import Difference
from survbench.evaluation.metrics import METRICS
from survbench.leaderboard.board import Line, Row, Table
from survbench.leaderboard.comparison import MEAN
from survbench.report.wording import Block, Kind, blocks, headers

__all__ = ["Cell", "ModelRow", "Part", "View", "model_table"]

Interval = Callable[[Row], Difference]


@dataclass(frozen=True)
class Part:
    """One line of a cell. kind : `measured`, `interval`, `detail` or `published`, a class of page.css."""

    kind: str
    label: str
    text: str


@dataclass(frozen=True)
class Cell:
    """A cell with the number that it is sorted by; None sorts last. best : told apart from every other model."""

    parts: tuple[Part, ...]
    value: float | None
    best: bool = False


@dataclass(frozen=True)
class ModelRow:
    """A model; `place` is its order in the grouped table."""

    place: int
    block: Block
    cells: tuple[Cell, ...]
    parameter_count: int | None


@dataclass(frozen=True)
class View:
    """A table of one metric."""

    metric: str
    title: str
    headers: tuple[str, ...]
    rows: tuple[ModelRow, ...]
    larger_is_better: bool

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
    best : by label of a column, or MEAN: the line that is told apart from all others.
    """
    rows = []
    for place, (line, block) in enumerate(zip(table.lines, blocks(table, metric), strict=True)):
        cells = [
            _cell(block, i, line.rows.get(column), metric, interval, best.get(column.label) is line)
            for i, column in enumerate(table.columns)
        ]
        if len(table.columns) > 1:
            text = block.figures[0].cells[-1]
            parts = (Part("measured", "", text),) if text else ()
            cells.append(Cell(parts, line.average(metric, table.columns), best.get(MEAN) is line))
        counts = [row.parameters for row in line.rows.values() if row.parameters is not None]
        rows.append(ModelRow(place, block, tuple(cells), max(counts, default=None)))
    return View(
        metric,
        METRICS[metric].title,
        tuple(headers(table)),
        tuple(rows),
        METRICS[metric].larger_is_better is not False,
    )


def _cell(block: Block, i: int, row: Row | None, metric: str, interval: Interval, best: bool) -> Cell:
    parts = []
    for figure in block.figures:
        if not figure.cells[i]:
            continue
        if figure.kind is Kind.MEASURED:
            parts.append(Part("measured", "", figure.cells[i]))
            parts += _intervals(row, metric, interval)
        else:
            parts.append(Part(figure.kind.name.lower(), figure.label, figure.cells[i]))
    value = None if row is None or row.failed else row.metrics[metric].mean
    return Cell(tuple(parts), None if value is None or math.isnan(value) else value, best)


def _intervals(row: Row | None, metric: str, interval: Interval) -> list[Part]:
    if row is None or row.failed or metric != "cindex":
        return []
    found = interval(row)
    if found.reason:
        return []
    return [
        Part("interval", label, f"[{low:.2f}, {high:.2f}]")
        for label, low, high in (("patients", found.patient_low, found.patient_high), ("folds", found.low, found.high))
        if not math.isnan(low)
    ]
