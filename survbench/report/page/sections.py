"""One table of the leaderboard on the page: its parts, ready for the template.

Nothing is computed here that the leaderboard's own modules can compute.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

import numpy as np

from survbench.console import track
from survbench.evaluation.metrics import METRICS
from survbench.leaderboard.board import Column, Table
from survbench.leaderboard.comparison import MEAN, Comparison, compare_table
from survbench.report.page import charts
from survbench.report.page.charts import COSTS, Cost, Picture
from survbench.report.page.differences import Matrix, Resampling, best_line, matrices, pairs_data, ranks_by_title
from survbench.report.page.provenance import JobsByRow, Provenance, provenance, seconds_per_job
from survbench.report.page.tables import View, model_table
from survbench.report.sheet import Sheet
from survbench.report.wording import GROUPS, apart, contrast_rows, footnotes, line_name, simulation

__all__ = ["ModelPictures", "Pairs", "Section", "section"]

MOST_FIGURES = 40
MOST_COMPARED = 60  # a matrix of more is no longer read by anybody


@dataclass(frozen=True)
class Pairs:
    """Differences between all pairs of models.

    Attributes
    ----------
    problem : why there are none.
    notes : on how the models were compared.
    matrices : of the mean over cohorts and of each cohort.
    data : of every pair, for choosing one.
    """

    problem: str
    notes: Sequence[str] = ()
    matrices: Sequence[Matrix] = ()
    data: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class ModelPictures:
    """Risk groups and calibration of a model.

    Attributes
    ----------
    name : of the model, and what sets this configuration of it apart.
    group : name of the model's group.
    open : whether the pictures are shown at first.
    pictures : cohorts side by side.
    """

    name: str
    group: str
    open: bool
    pictures: Sequence[Picture]


@dataclass(frozen=True, kw_only=True)
class Section:
    """What the page shows of one table; None and empty where there is nothing to show.

    Attributes
    ----------
    id : start of the names of the section's elements.
    table : of the leaderboard.
    simulation : what has to be known of simulated data.
    models : by the metric that comes first.
    others : by the other metrics that rank models.
    footnotes : to the table of models.
    published : figures of models that were not run as registered.
    contrasts : differences between models that belong beside each other.
    pairs : differences between all models.
    ranks : over cohorts.
    costs : C-index against costs.
    cost_table : the same as a table.
    figures : of each model, at most MOST_FIGURES.
    folds : patients, events and pairs.
    provenance : of the jobs.
    """

    id: str
    table: Table
    simulation: str
    models: View
    others: Sequence[View]
    footnotes: Sequence[str]
    published: Sheet
    contrasts: Sheet
    pairs: Pairs
    ranks: Picture | None
    costs: Picture | None
    cost_table: Sheet
    figures: Sequence[ModelPictures]
    folds: Sheet
    provenance: Provenance

    @property
    def title(self) -> str:
        """The table's, where no mark beside it names the kind of data."""
        version = f" · protocol version {self.table.protocol_version}" if self.table.protocol_version != 1 else ""
        kind = f" · {self.table.kind}" if self.table.simulated == "" else ""
        return f"{self.table.endpoint} · {self.table.folds} folds{version}{kind}"

    @property
    def figures_left(self) -> int:
        """Models without figures."""
        return max(0, len(self.table.lines) - MOST_FIGURES)


def section(table: Table, metric: str, place: int, jobs: JobsByRow) -> Section:
    """Everything about one table.

    Parameters
    ----------
    table : of the leaderboard.
    metric : that comes first, a key of METRICS.
    place : number of the table on the page.
    jobs : of each row.
    """
    identifier, resampling = f"table-{place}", Resampling()
    comparison = compare_table(table, resampling) if 1 < _models(table) <= MOST_COMPARED else None
    ranks = None
    if comparison is not None and comparison.ranks is not None:
        titled = ranks_by_title(comparison.ranks, comparison.lines)
        ranks = charts.rank_picture(titled, f"{identifier}-rank", table.kind)
    points = _costs(table, jobs, resampling)
    models, *others = _views(table, metric, comparison, resampling)
    return Section(
        id=identifier,
        table=table,
        simulation=" ".join(simulation(table)),
        models=models,
        others=others,
        footnotes=footnotes(table, metric),
        published=_published(table, metric),
        contrasts=_contrasts(table),
        pairs=_pairs(comparison, table),
        ranks=ranks,
        costs=charts.cost_picture(points, f"{identifier}-cost", _labels(table)[-1], table.kind),
        cost_table=_cost_table(points, table),
        figures=_figures(table, identifier),
        folds=_folds(table),
        provenance=provenance(table, jobs),
    )


def _models(table: Table) -> int:
    return len({line.model for line in table.lines})


def _labels(table: Table) -> list[str]:
    """Of the columns, and of the mean where there are several."""
    labels = [column.label for column in table.columns]
    return [*labels, MEAN] if len(labels) > 1 else labels


def _views(table: Table, metric: str, comparison: Comparison | None, resampling: Resampling) -> list[View]:
    """The metric that comes first, then all others that rank models."""
    best = {label: best_line(comparison, label) for label in _labels(table)}
    views = [model_table(table, metric, resampling.interval, best if metric == "cindex" else {})]
    for name, other in METRICS.items():
        if name != metric and other.larger_is_better is not None:
            views.append(model_table(table, name, resampling.interval, {}))
    return views


def _published(table: Table, metric: str) -> Sheet:
    rows = [(block.name, figure.label, *figure.cells) for block in apart(table, metric) for figure in block.figures]
    headers = ["model", "figure", *(column.label for column in table.columns)]
    return Sheet(title="Published figures, real patients", headers=headers, rows=rows, align="llr")


def _contrasts(table: Table) -> Sheet:
    title = f"Differences in C-index that the models' cards ask for · {table.kind}"
    return Sheet(title=title, headers=("models", "cohort", "difference"), rows=contrast_rows(table), align="llr")


def _pairs(comparison: Comparison | None, table: Table) -> Pairs:
    """All pairs, where there are two models and not too many."""
    if _models(table) < 2:
        return Pairs("there is one model only, and nothing to compare it with")
    if comparison is None:
        return Pairs(f"{_models(table)} models are too many for a matrix; choose some with --model")
    shown = list(matrices(comparison))
    problem = "" if shown else f"undefined, {comparison.differences[0].difference.reason}"
    return Pairs(problem, comparison.notes, shown, pairs_data(comparison))


def _costs(table: Table, jobs: JobsByRow, resampling: Resampling) -> list[Cost]:
    """Of the lines with a figure on every cohort, so that all points are means of the same things."""
    points: list[Cost] = []
    for line in table.lines:
        rows = [line.rows[c] for c in table.columns if c in line.rows]
        score = line.average("cindex", table.columns) if len(table.columns) > 1 else rows[0].metrics["cindex"].mean
        if score is None or math.isnan(score):
            continue
        low, high = resampling.mean_interval(rows)
        values = {
            "parameters": max((r.parameters for r in rows if r.parameters is not None), default=None),
            "flops": max((r.fvcore_flops for r in rows if r.fvcore_flops is not None), default=None),
            "seconds": seconds_per_job(line, jobs),
        }
        number, name = len(points) + 1, line_name(line)
        points.append(Cost(number=number, name=name, group=line.group, score=score, low=low, high=high, values=values))
    return points


def _cost_table(points: Sequence[Cost], table: Table) -> Sheet:
    rows = []
    for p in points:
        interval = "" if math.isnan(p.low) else f"[{p.low:.3f}, {p.high:.3f}]"
        costs = ["" if v is None else f"{v:,.0f}" if v >= 10 else f"{v:.2g}" for v in p.values.values()]
        rows.append((p.name, p.number, f"{p.score:.3f}", interval, *costs))
    headers = ["model", "number", "C-index", "95 %, patients", *COSTS.values()]
    return Sheet(title=f"C-index and costs · {table.kind}", headers=headers, rows=rows)


def _figures(table: Table, identifier: str) -> list[ModelPictures]:
    """Models that belong beside others are open, or else the first one."""
    shown = []
    first = [line for line in table.lines if any(row.beside for row in line.rows.values())] or table.lines[:1]
    plots = {"risk": charts.risk_picture, "calibration": charts.calibration_picture}
    for i, line in enumerate(track(table.lines[:MOST_FIGURES], "Plotting risk groups and calibration")):
        made = [plot(line, table, f"{identifier}-{what}-{i}") for what, plot in plots.items()]
        if pictures := [picture for picture in made if picture is not None]:
            shown.append(ModelPictures(line_name(line), GROUPS[line.group], line in first, pictures))
    return shown


def _folds(table: Table) -> Sheet:
    counts = zip_longest(*(_fold_counts(table, column) for column in table.columns), fillvalue=("", "", ""))
    headers = [f"{column.label} {what}" for column in table.columns for what in ("patients", "events", "pairs")]
    return Sheet(
        title=f"Test patients, events and comparable pairs of every fold · {table.kind}",
        headers=["fold", *headers],
        rows=[(f"fold {fold}", *chain(*cells)) for fold, cells in enumerate(counts)],
    )


def _fold_counts(table: Table, column: Column) -> list[tuple[str, str, str]]:
    """Patients, events and pairs of each fold."""
    rows = [line.rows[column] for line in table.lines if column in line.rows and not line.rows[column].failed]
    if not rows:
        return []
    pairs = np.fmax.reduce([row.metrics["comparable_pairs"].per_fold for row in rows])  # NaN where no row has any
    patients = Counter(fold for fold, *_ in rows[0].labels)
    events = Counter(fold for fold, _, _, event in rows[0].labels if event)
    return [
        (
            str(patients[fold]),
            f"{events[fold]}{' ‡' if fold in column.thin_folds else ''}",
            "undefined" if math.isnan(pairs[fold]) else f"{pairs[fold]:,.0f}",
        )
        for fold in sorted(patients)
    ]
