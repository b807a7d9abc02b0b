"""The page's figures, drawn with matplotlib from the leaderboard's own objects.

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
from survbench.leaderboard.board import Column, Line, Row
from survbench.report.page.svg import inline_svg, tooltip
from survbench.report.plots.ablation import ablation_figure
from survbench.report.plots.figures import subplots
from survbench.report.plots.kaplan_meier import draw_curves, group_handles, logrank_text, risk_groups
from survbench.report.plots.ranks import draw_ranks, ranks_text
from survbench.report.plots.transfer import transfer_figure
from survbench.report.wording import GROUPS
from survbench.studies.ablation import MEAN
from survbench.studies.transfer import Transfer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MplFigure

__all__ = [
    "COSTS",
    "Cost",
    "Drawing",
    "calibration_drawing",
    "costs_drawing",
    "ranks_drawing",
    "risk_drawing",
    "study_drawing",
    "transfer_drawing",
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
class Drawing:
    """A figure: what it shows in one line, how to read it, and what it says in words for those who do not see it."""

    svg: Markup
    title: str
    caption: str


@dataclass(frozen=True)
class Cost:
    """A model as a point: `number` is what it is called in the figure. low, high : interval of `score`, if known."""

    number: int
    name: str
    group: ModelGroup | None
    score: float
    low: float
    high: float
    values: Mapping[str, float | None]


def costs_drawing(points: Sequence[Cost], name: str, about: str, kind: str) -> Drawing | None:
    """C-index against what a model costs; None where no cost is known."""
    from matplotlib.lines import Line2D

    known = [key for key in COSTS if any((p.values[key] or 0) > 0 for p in points)]
    if not known:
        return None
    figure, axes = subplots(1, len(known), figsize=(0.6 + 2.95 * len(known), 3.7), sharey=True, squeeze=False)
    for axis, key in zip(axes[0], known, strict=True):
        _scatter(axis, [p for p in points if (p.values[key] or 0) > 0], key)
    axes[0][0].set_ylabel(f"C-index, {about}")
    shown = [group for group in GROUPS if any(p.group is group for p in points)]
    handles = [Line2D([], [], marker=_LOOKS[g][0], color=_LOOKS[g][1], linestyle="", label=GROUPS[g]) for g in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(shown), fontsize="small")
    title = f"C-index ({about}) against {', '.join(COSTS[key] for key in known)} · {kind}"
    lacking = [p.name for p in points if any(not (p.values[key] or 0) > 0 for key in known)]
    caption = (
        "Each number is a model of the table below the figure; upright lines are 95 % patient bootstrap intervals. "
        "Horizontal axes are logarithmic."
    )
    if lacking:
        caption += f" Missing in a panel, as nothing is recorded or it is zero: {', '.join(lacking)}."
    return Drawing(inline_svg(figure, name, title, caption), title, caption)


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
        spot = axis.plot(value, p.score, marker, color=color, markersize=5.5, zorder=2)[0]
        tooltip(spot, f"{p.name}: {p.score:.3f}, {value:,.4g} {COSTS[key]}")
        axis.annotate(
            str(p.number), (value, p.score), (4.5, 2.5), textcoords="offset points", fontsize=8, color=color, zorder=3
        )
    axis.set_xlabel(COSTS[key])


def risk_drawing(line: Line, columns: Sequence[Column], name: str, label: str, kind: str) -> Drawing | None:
    """Kaplan-Meier curves of one model, one panel per cohort; None where no row has risk groups."""
    shown = [(c, line.rows[c]) for c in columns if c in line.rows and _has_groups(line.rows[c])]
    if not shown:
        return None
    figure, panels = _panels(len(shown), heights=(2.2, 0.42), gap=0.12, legend=0.25)
    said = []
    for place, ((above, below), (column, row)) in enumerate(zip(panels, shown, strict=True)):
        patients, pooled, stratified = risk_groups(row, row.seeds[0])
        draw_curves(patients, above, below)
        below.sharex(above)
        above.tick_params(labelbottom=False)
        above.set_title(column.label)
        below.set_xlabel("months, number at risk")
        if place % ACROSS == 0:
            above.set_ylabel("survival")
        else:
            below.tick_params(labelleft=False)
        said.append(_risk_words(column, patients, pooled, stratified))
    first = panels[0][0].get_position().x0  # above the panel that a phone shows first
    figure.legend(
        handles=group_handles(),
        loc="upper left",
        bbox_to_anchor=(first, 1),
        ncols=2,
        fontsize="small",
        borderaxespad=0.2,
    )
    title = f"{label}: survival of low and high risk · {kind}"
    return Drawing(inline_svg(figure, name, title, " ".join(said)), title, " ".join(said))


def calibration_drawing(line: Line, columns: Sequence[Column], name: str, label: str, kind: str) -> Drawing | None:
    """D-calibration of one model, one panel per cohort; None where every row failed or has no curves."""
    found = [(c, line.rows[c].calibration) for c in columns if c in line.rows and not line.rows[c].failed]
    shown = [(column, one) for column, one in found if not any(map(math.isnan, one.counts))]
    if not shown:
        return None
    figure, panels = _panels(len(shown), heights=(1.3,), gap=0)
    edges = np.arange(BINS) / BINS
    for place, ((axis,), (column, one)) in enumerate(zip(panels, shown, strict=True)):
        axis.bar(edges, 100 * np.array(one.counts) / one.patients, 1 / BINS, align="edge", color="#1f4e79", alpha=0.6)
        axis.axhline(100 / BINS, color="#b3261e", linewidth=1)
        axis.set_title(column.label)
        axis.set_xlabel("probability at own time")
        if place % ACROSS == 0:
            axis.set_ylabel("% of patients")
    said = [f"{column.label}: " + (one.reason or f"p {one.p:.3f}, {one.patients} patients") for column, one in shown]
    said += [f"{column.label}: {one.reason}" for column, one in found if (column, one) not in shown]
    title = f"{label}: D-calibration · {kind}"
    caption = f"The line is where every bar of a calibrated model stands. {'; '.join(said)}."
    return Drawing(inline_svg(figure, name, title, caption), title, caption)


def _panels(
    count: int, heights: Sequence[float], gap: float, legend: float = 0.0
) -> tuple[MplFigure, list[list[Axes]]]:
    """A figure with `count` panels, each a stack of axes of these heights (inches); placed by hand, which is quick.

    `legend` is the room for one above all panels.
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
        panels.append(axes)
    return figure, panels


def _has_groups(row: Row) -> bool:
    """External predictions without training patients have no cut."""
    return not row.failed and not any(table["high"].isna().any() for table in row.tests.values())


def _risk_words(column: Column, patients: pd.DataFrame, pooled: LogRank, stratified: LogRank) -> str:
    groups = []
    for high, group in patients.groupby("high"):
        groups.append(f"{'high' if high else 'low'} risk {len(group)} patients, {int(group['event'].sum())} events")
    test = f"log-rank p {logrank_text(stratified)} stratified by fold, {logrank_text(pooled)} pooled"
    return f"{column.label}: {', '.join(groups)}; {test}."


def ranks_drawing(found: CriticalDifference, name: str, kind: str) -> Drawing:
    """The critical-difference diagram."""
    height = 1.2 + 0.13 * len(found.ranks) + 0.12 * len(found.groups)
    figure, axes = subplots(figsize=(9.5, height))
    draw_ranks(found, axes)
    for text in axes.texts:
        text.set_parse_math(False)
    title = f"Average rank over {found.cohorts} cohorts, best first · {kind}"
    ranks = ", ".join(f"{model} {rank:.2f}" for model, rank in found.ranks.items() if not math.isnan(rank))
    said = ranks_text(found)
    caption = f"{said[:1].upper()}{said[1:]}. A bar joins models that are not told apart."
    return Drawing(inline_svg(figure, name, title, f"{caption} Ranks: {ranks or 'none'}."), title, caption)


def study_drawing(frame: pd.DataFrame, name: str, title: str) -> Drawing:
    """Arms of a study."""
    figure = ablation_figure(frame)
    caption = "Mean and SD over folds of every arm; the dotted line is the first arm's mean."
    if frame["published"].notna().any():
        caption += " Hollow diamonds: published figures, from real patients."
    means = frame[frame["cohort"] == MEAN] if (frame["cohort"] == MEAN).any() else frame
    said = ", ".join(
        f"{arm} {mean:.3f}" for arm, mean in zip(means["arm"], means["mean"], strict=True) if np.isfinite(mean)
    )
    return Drawing(inline_svg(figure, name, title, f"{caption} {said}."), title, caption)


def transfer_drawing(found: Transfer, rows: Sequence[Sequence[str]], name: str) -> Drawing:
    """The map of when distillation pays, with what the rows of its table say."""
    figure = transfer_figure(found)
    caption = (
        "Above: C-index with standard errors against the strength of the traces in slides; the oracles know the true "
        "risk. Below: gain over the undistilled student with both 95 % intervals."
    )
    said = "; ".join(f"{row[0]} patients, {row[1]} events, trace {row[2]}: gain {row[-1]}" for row in rows)
    return Drawing(inline_svg(figure, name, found.title, f"{caption} {said}."), found.title, caption)
