"""The critical-difference diagram: models on the axis of their average rank, a bar over those not distinguished."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from survbench.evaluation.ranks import ALPHA, CriticalDifference

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_ranks", "ranks_text"]

_BAR, _INK = "#b3261e", "#1f2933"
_TICKS = 12  # numbers on the axis, at most


def plot_ranks(difference: CriticalDifference, axes: Axes) -> None:
    """Plot into axes; names are shown as they are, tied models share a place and a label.

    The axes need 0.22 inches of height per two models and one more inch.
    """
    axes.axis("off")
    if difference.ranks.isna().any() or difference.ranks.empty:
        axes.text(0.5, 0.5, f"no ranks: {difference.reason}", ha="center", va="center", transform=axes.transAxes)
        return
    models = len(difference.ranks)
    places = [(rank, list(same.index)) for rank, same in difference.ranks.groupby(difference.ranks.round(9))]
    left = (len(places) + 1) // 2
    bars = 0.35 * len(difference.groups)
    axes.set_xlim(1 - 0.9 * (models - 1), models + 0.9 * (models - 1))
    axes.set_ylim(-(bars + 0.9 * left + 0.8), 1.6)
    axes.plot([1, models], [0, 0], color=_INK, linewidth=1.2)
    for tick in _ticks(models):
        axes.plot([tick, tick], [0, 0.15], color=_INK, linewidth=1.0)
        axes.text(tick, 0.25, str(tick), ha="center", va="bottom", fontsize="small", color=_INK)
    _plot_distance(difference, axes, models)
    for level, group in enumerate(difference.groups):
        ends = difference.ranks[group[0]], difference.ranks[group[-1]]
        axes.plot(
            [ends[0] - 0.04, ends[1] + 0.04], [-0.3 - 0.35 * level] * 2, color=_BAR, linewidth=4, solid_capstyle="butt"
        )
    for i, (rank, names) in enumerate(places):
        first = i < left
        height = -(bars + 0.8 + 0.9 * (i if first else len(places) - 1 - i))
        edge = 1 - 0.15 * (models - 1) if first else models + 0.15 * (models - 1)
        axes.plot([rank, rank, edge], [0, height, height], color=_INK, linewidth=0.8)
        label = " = ".join(names) + f"  {rank:.2f}" + (" (tied)" if len(names) > 1 else "")
        axes.text(
            edge,
            height,
            f"{label} " if first else f" {label}",
            ha="right" if first else "left",
            va="center",
            fontsize="small",
            parse_math=False,
        )


def _ticks(models: int) -> list[int]:
    """First and last rank and round ones between them, few enough for their numbers to stand apart."""
    from matplotlib.ticker import MaxNLocator

    places = MaxNLocator(_TICKS, integer=True, steps=[1, 2, 5, 10]).tick_values(1, models)
    step = places[1] - places[0]
    between = [int(place) for place in places if 1 + step / 2 < place < models - step / 2]
    return list(dict.fromkeys([1, *between, models]))


def _plot_distance(difference: CriticalDifference, axes: Axes, models: int) -> None:
    text, height = f"no critical difference: {difference.reason}", 1.1
    if not math.isnan(difference.distance):
        text, height = ranks_text(difference), 1.15
        end = 1 + min(difference.distance, models - 1.0)
        axes.plot([1, end], [1.0, 1.0], color=_INK, linewidth=1.5)
        for edge in (1.0, end):
            axes.plot([edge, edge], [0.9, 1.1], color=_INK, linewidth=1.5)
    axes.text(1, height, text, fontsize="small", va="bottom", parse_math=False)


def ranks_text(difference: CriticalDifference) -> str:
    """What the diagram's scale and test say, in a line."""
    if math.isnan(difference.distance):
        return difference.reason
    test = difference.reason if math.isnan(difference.p) else f"Friedman p = {difference.p:.2g}"
    beyond = ", wider than the axis" if difference.distance > len(difference.ranks) - 1 else ""
    verdict = "" if difference.p < ALPHA else ": nothing is distinguished"
    return f"critical difference {difference.distance:.2f}{beyond} ({difference.cohorts} cohorts); {test}{verdict}"
