"""The page's figures, plotted with matplotlib from the leaderboard's own objects.

What is in them and what stands beside them in words is decided here; how they look on the page is `svg`'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from markupsafe import Markup

from survbench.cards import ModelGroup
from survbench.evaluation.calibration import BINS
from survbench.evaluation.groups import LogRank
from survbench.evaluation.ranks import CriticalDifference
from survbench.leaderboard.board import Column, Line, Row, Table
from survbench.report.page.svg import inline_svg, tooltip
from survbench.report.plots.ablation import ablation_figure
from survbench.report.plots.figures import subplots
from survbench.report.plots.kaplan_meier import group_handles, group_sizes, logrank_text, plot_curves, risk_groups
from survbench.report.plots.ranks import plot_ranks, ranks_text
from survbench.report.plots.transfer import transfer_figure
from survbench.report.wording import GROUPS, line_name
from survbench.studies.ablation import MEAN
from survbench.studies.transfer import Transfer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COSTS",
    "Cost",
    "Picture",
    "ablation_picture",
    "calibration_picture",
    "cost_picture",
    "rank_picture",
    "risk_picture",
    "transfer_picture",
]

ACROSS = 4  # panels beside each other
COSTS = {"parameters": "parameters", "flops": "operations (fvcore)", "seconds": "seconds of training a fold"}
_LOOKS: Mapping[ModelGroup | None, tuple[str, str]] = {
    None: ("P", "#2a7a4b"),  # external predictions
    ModelGroup.WSI: ("o", "#1f4e79"),
    ModelGroup.OMICS: ("s", "#b35900"),
    ModelGroup.MULTIMODAL: ("D", "#7a4fa3"),
    ModelGroup.MISSING: ("^", "#b3261e"),
    ModelGroup.SANITY: ("v", "#808080"),
}


@dataclass(frozen=True)
class Picture:
    """A figure on the page.

    Attributes
    ----------
    svg : an element of its own, described in words for those who do not see it.
    title : what it shows, in one line.
    caption : how to read it.
    """

    svg: Markup
    title: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A model as a point.

    Attributes
    ----------
    number : that marks the point in the figure.
    name : of the model, and what sets this configuration of it apart.
    group : of the model; None for external predictions.
    score : C-index.
    low, high : interval of the score; NaN where it is not known.
    values : by key of COSTS; None where nothing is recorded.
    """

    number: int
    name: str
    group: ModelGroup | None
    score: float
    low: float
    high: float
    values: Mapping[str, float | None]

    def has(self, key: str) -> bool:
        """Whether a cost has a place on a logarithmic axis."""
        return (self.values[key] or 0) > 0


def cost_picture(points: Sequence[Cost], name: str, cohort: str, kind: str) -> Picture | None:
    """C-index against what a model costs; None where no cost is known.

    Parameters
    ----------
    points : one per model.
    name : of the svg element, unique on the page.
    cohort : that the C-index is of.
    kind : of data.
    """
    from matplotlib.lines import Line2D

    known = [key for key in COSTS if any(p.has(key) for p in points)]
    if not known:
        return None
    figure, axes = subplots(1, len(known), figsize=(0.6 + 2.95 * len(known), 3.7), sharey=True, squeeze=False)
    for axis, key in zip(axes[0], known, strict=True):
        _scatter(axis, [p for p in points if p.has(key)], key)
    axes[0][0].set_ylabel(f"C-index, {cohort}")
    groups = [group for group in GROUPS if any(p.group is group for p in points)]
    handles = [Line2D([], [], marker=_LOOKS[g][0], color=_LOOKS[g][1], linestyle="", label=GROUPS[g]) for g in groups]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(groups), fontsize="small")
    title = f"C-index ({cohort}) against {', '.join(COSTS[key] for key in known)} · {kind}"
    lacking = [p.name for p in points if not all(map(p.has, known))]
    caption = (
        "Each number is a model of the table below the figure; upright lines are 95 % patient bootstrap intervals. "
        "Horizontal axes are logarithmic."
    )
    if lacking:
        caption += f" Missing in a panel, as nothing is recorded or it is zero: {', '.join(lacking)}."
    return _picture(figure, name, title, caption)


def _scatter(axis: Axes, points: Sequence[Cost], key: str) -> None:
    from matplotlib.ticker import EngFormatter, NullFormatter

    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.axhline(0.5, color="#bfbfbf", linewidth=0.8, zorder=0)
    for p in points:
        value, (marker, color) = float(p.values[key] or 0), _LOOKS[p.group]
        if not math.isnan(p.low):
            axis.plot([value, value], [p.low, p.high], color=color, linewidth=0.8, alpha=0.45, zorder=1)
        point = axis.plot(value, p.score, marker, color=color, markersize=5.5, zorder=2)[0]
        tooltip(point, f"{p.name}: {p.score:.3f}, {value:,.4g} {COSTS[key]}")
        axis.annotate(
            str(p.number), (value, p.score), (4.5, 2.5), textcoords="offset points", fontsize=8, color=color, zorder=3
        )
    axis.set_xlabel(COSTS[key])


def risk_picture(line: Line, table: Table, name: str) -> Picture | None:
    """Kaplan-Meier curves of one model, one panel per cohort; None where no row has risk groups.

    Parameters
    ----------
    line : of the model.
    table : in which it stands.
    name : of the svg element, unique on the page.
    """
    shown = [(c, line.rows[c]) for c in table.columns if c in line.rows and _has_groups(line.rows[c])]
    if not shown:
        return None
    figure, panels = _panels(len(shown), "survival", heights=(2.2, 0.42), gap=0.12, legend=0.25)
    words = []
    for place, ((above, below), (column, row)) in enumerate(zip(panels, shown, strict=True)):
        patients, pooled, stratified = risk_groups(row, row.seeds[0])
        plot_curves(patients, above, below)
        below.sharex(above)
        above.tick_params(labelbottom=False)
        above.set_title(column.label)
        below.set_xlabel("months, number at risk")
        below.tick_params(labelleft=place % ACROSS == 0)
        words.append(_risk_words(column, patients, pooled, stratified))
    corner = (panels[0][0].get_position().x0, 1)  # above the panel that a phone shows first
    looks = {"ncols": 2, "fontsize": "small", "borderaxespad": 0.2}
    figure.legend(handles=group_handles(), loc="upper left", bbox_to_anchor=corner, **looks)
    return _picture(figure, name, f"{line_name(line)}: survival of low and high risk · {table.kind}", " ".join(words))


def calibration_picture(line: Line, table: Table, name: str) -> Picture | None:
    """D-calibration of one model, one panel per cohort; None where every row failed or has no survival curves.

    Parameters are those of `risk_picture`.
    """
    known = [(c, line.rows[c].calibration) for c in table.columns if c in line.rows and not line.rows[c].failed]
    shown = [(column, one) for column, one in known if not any(map(math.isnan, one.counts))]
    if not shown:
        return None
    figure, panels = _panels(len(shown), "% of patients", heights=(1.3,), gap=0)
    edges = np.arange(BINS) / BINS
    for (axis,), (column, one) in zip(panels, shown, strict=True):
        axis.bar(edges, 100 * np.array(one.counts) / one.patients, 1 / BINS, align="edge", color="#1f4e79", alpha=0.6)
        axis.axhline(100 / BINS, color="#b3261e", linewidth=1)
        axis.set_title(column.label)
        axis.set_xlabel("probability at own time")
    words = [f"{column.label}: " + (one.reason or f"p {one.p:.3f}, {one.patients} patients") for column, one in shown]
    words += [f"{column.label}: {one.reason}" for column, one in known if (column, one) not in shown]
    caption = f"The line is where every bar of a calibrated model stands. {'; '.join(words)}."
    return _picture(figure, name, f"{line_name(line)}: D-calibration · {table.kind}", caption)


def _panels(
    count: int, label: str, *, heights: Sequence[float], gap: float, legend: float = 0.0
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with panels that are stacks of axes; placed by hand, which is quick.

    Parameters
    ----------
    count : panels.
    label : of the vertical axis of the first panel beside others.
    heights : of the axes of a panel from above, in inches.
    gap : between them, in inches.
    legend : free above all panels, in inches.
    """
    from matplotlib.figure import Figure

    across, down = min(count, ACROSS), math.ceil(count / ACROSS)
    left, wide, top, bottom, between = 0.8, 1.9, 0.35, 0.55, 0.36
    stack = top + sum(heights) + gap * (len(heights) - 1) + bottom
    width, height = left + across * (wide + between) - between + 0.2, down * stack + legend
    figure = Figure(figsize=(width, height))
    panels = []
    for place in range(count):
        x = left + (place % across) * (wide + between)
        y = height - legend - (place // across) * stack - top
        axes = []
        for tall in heights:
            y -= tall
            axes.append(figure.add_axes((x / width, y / height, wide / width, tall / height)))
            y -= gap
        if place % across == 0:
            axes[0].set_ylabel(label)
        panels.append(axes)
    return figure, panels


def _has_groups(row: Row) -> bool:
    """External predictions without training patients have no cut."""
    return not row.failed and not any(table["high"].isna().any() for table in row.tests.values())


def _risk_words(column: Column, patients: pd.DataFrame, pooled: LogRank, stratified: LogRank) -> str:
    groups = [f"{label} {size} patients, {events} events" for label, size, events in group_sizes(patients) if size]
    test = f"log-rank p {logrank_text(stratified)} stratified by fold, {logrank_text(pooled)} pooled"
    return f"{column.label}: {', '.join(groups)}; {test}."


def rank_picture(ranks: CriticalDifference, name: str, kind: str) -> Picture:
    """The critical-difference diagram."""
    height = 1.2 + 0.13 * len(ranks.ranks) + 0.12 * len(ranks.groups)
    figure, axes = subplots(figsize=(9.5, height))
    plot_ranks(ranks, axes)
    for text in axes.texts:
        text.set_parse_math(False)
    title = f"Average rank over {ranks.cohorts} cohorts, best first · {kind}"
    listed = ", ".join(f"{model} {rank:.2f}" for model, rank in ranks.ranks.items() if not math.isnan(rank))
    words = ranks_text(ranks)
    caption = f"{words[:1].upper()}{words[1:]}. A bar joins models that are not distinguished."
    return _picture(figure, name, title, caption, f" Ranks: {listed or 'none'}.")


def ablation_picture(frame: pd.DataFrame, name: str, title: str) -> Picture:
    """Arms of a study."""
    caption = "Mean and SD over folds of every arm; the dotted line is the first arm's mean."
    if frame["published"].notna().any():
        caption += " Hollow diamonds: published figures, from real patients."
    over = frame["cohort"] == MEAN
    means = (frame[over] if over.any() else frame).dropna(subset="mean")
    words = ", ".join(f"{arm} {mean:.3f}" for arm, mean in zip(means["arm"], means["mean"], strict=True))
    return _picture(ablation_figure(frame), name, title, caption, f" {words}.")


def transfer_picture(transfer: Transfer, rows: Sequence[Sequence[str]], name: str) -> Picture:
    """The map of when distillation pays; `rows` are those of its table."""
    caption = (
        "Above: C-index with standard errors against the strength of the traces in slides; the oracles know the true "
        "risk. Below: gain over the undistilled student with both 95 % intervals."
    )
    words = "; ".join(f"{row[0]} patients, {row[1]} events, trace {row[2]}: gain {row[-1]}" for row in rows)
    return _picture(transfer_figure(transfer), name, transfer.title, caption, f" {words}.")


def _picture(figure: Figure, name: str, title: str, caption: str, words: str = "") -> Picture:
    """`words` are read out after the caption; those who see the figure need none of them."""
    return Picture(inline_svg(figure, name, title, caption + words), title, caption)
