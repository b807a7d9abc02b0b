"""Figures of a comparison: intervals of one pair, a matrix of differences for several, ranks over cohorts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from survbench.leaderboard.comparison import Comparison
from survbench.report.plots.figures import file_name, save_figure, subplots, title_figure
from survbench.report.plots.ranks import plot_ranks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_comparison"]

_NAMED = 3  # more models than this are counted in a file's name instead
_STAR = "* distinguished: both intervals leave out zero, Holm-adjusted p below 5 %"
_FOLDS, _PATIENTS = "#1f4e79", "#b35900"


def plot_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write the figures of one table into a folder; the kind of data is part of title and file name."""
    panels = list(dict.fromkeys(one.cohort for one in comparison.differences))
    if len(comparison.lines) == 2:
        figure, axis = subplots(figsize=(6.4, 1.6 + 0.5 * len(panels)))
        _plot_intervals(comparison, axis)
    else:
        side = 1.2 + 0.42 * len(comparison.lines)
        columns = min(len(panels), 3)
        rows = math.ceil(len(panels) / columns)
        figure, axes = subplots(rows, columns, figsize=(1.4 + side * columns, 0.8 + side * rows), squeeze=False)
        for axis, panel in zip(axes.flat, panels, strict=False):
            _plot_matrix(comparison, panel, axis)
        for axis in axes.flat[len(panels) :]:
            axis.axis("off")
        figure.supxlabel(_STAR, fontsize="small")
    title_figure(figure, f"Differences in C-index · {comparison.table.title}")
    files = [save_figure(figure, folder / _name("compare", comparison))]
    if comparison.ranks is not None:
        height = 1.6 + 0.14 * len(comparison.ranks.ranks) + 0.12 * len(comparison.ranks.groups)
        figure, axis = subplots(figsize=(9, height))
        plot_ranks(comparison.ranks, axis)
        title_figure(figure, f"Ranks by C-index · {comparison.table.title}")
        files.append(save_figure(figure, folder / _name("ranks", comparison)))
    return files


def _plot_intervals(comparison: Comparison, axis: Axes) -> None:
    """Of one pair: a line per cohort, the corrected resampled t above, the patient bootstrap below."""
    first, second = (line.model for line in comparison.lines)
    labels = [one.cohort + (" *" if one.separated else "") for one in comparison.differences]
    for place, one in enumerate(comparison.differences):
        of = one.difference
        if of.reason:
            axis.text(0, place, f"undefined: {of.reason}", ha="center", va="center", fontsize="x-small")
            continue
        axis.plot([of.low, of.high], [place - 0.1] * 2, color=_FOLDS, linewidth=2)
        axis.plot([of.patient_low, of.patient_high], [place + 0.1] * 2, color=_PATIENTS, linewidth=2)
        axis.plot(of.mean, place, "o", color="#1f2933")
    axis.axvline(0, color="0.6", linewidth=0.8, zorder=0)
    axis.set_yticks(range(len(labels)), labels, parse_math=False)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.set_xlabel(
        f"{first} − {second}\n95 % over folds (blue, above) and over patients (orange, below); {_STAR}",
        fontsize="small",
        parse_math=False,
    )
    axis.tick_params(axis="x", labelsize="small")


def _plot_matrix(comparison: Comparison, cohort: str, axis: Axes) -> None:
    """Row minus column; gray where undefined, bold with a star where the two are separated."""
    from matplotlib import colormaps

    names, pairs = [line.model for line in comparison.lines], comparison.both_ways(cohort)
    values = np.array([[pairs[a, b][0] if a != b else math.nan for b in names] for a in names])
    reach = max(0.05, float(np.nanmax(np.abs(values)))) if np.isfinite(values).any() else 0.05
    colors = colormaps["PuOr_r"].with_extremes(bad="#e4e4e4")
    axis.imshow(np.ma.masked_invalid(values), cmap=colors, vmin=-1.8 * reach, vmax=1.8 * reach)  # light enough for ink
    for (row, column), (value, one) in pairs.items():
        style: dict[str, Any] = {"fontweight": "bold"} if one.separated else {}
        text = "–" if math.isnan(value) else f"{value:+.2f}" + ("*" if one.separated else "")
        place, size = (names.index(column), names.index(row)), 6 if len(names) > 8 else 8
        axis.text(*place, text, ha="center", va="center", fontsize=size, **style)
    axis.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize="x-small", parse_math=False)
    axis.set_yticks(range(len(names)), names, fontsize="x-small", parse_math=False)
    axis.tick_params(length=0)
    axis.set_title(f"{cohort}: row − column", fontsize="small", parse_math=False)


def _name(kind: str, comparison: Comparison) -> str:
    models = [line.model for line in comparison.lines]
    named = models if len(models) <= _NAMED else [f"{len(models)}_models"]
    table = comparison.table
    version = "" if table.protocol_version == 1 else f"v{table.protocol_version}"
    return file_name(kind, *named, table.endpoint, table.folds, table.kind, version)
