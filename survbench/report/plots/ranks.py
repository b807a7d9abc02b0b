"""The critical-difference diagram: models on the axis of their average rank, a bar over those not told apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from survbench.evaluation.ranks import ALPHA, CriticalDifference

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_ranks", "ranks_text"]

_BAR, _INK = "#b3261e", "#1f2933"
_TICKS = 12  # at most about so many numbers on the axis


def draw_ranks(found: CriticalDifference, axes: Axes) -> None:
    """Draw into axes; names are drawn as text, tied models share a place and a label.

    The axes need about 0.22 inches of height per two models and one more inch.
    """
    axes.axis("off")
    if found.ranks.isna().any() or found.ranks.empty:
        axes.text(0.5, 0.5, f"no ranks: {found.reason}", ha="center", va="center", transform=axes.transAxes)
        return
    models = len(found.ranks)
    places = [(rank, list(same.index)) for rank, same in found.ranks.groupby(found.ranks.round(9))]
    left = (len(places) + 1) // 2
    bars = 0.35 * len(found.groups)
    axes.set_xlim(1 - 0.9 * (models - 1), models + 0.9 * (models - 1))
    axes.set_ylim(-(bars + 0.9 * left + 0.8), 1.6)
    axes.plot([1, models], [0, 0], color=_INK, linewidth=1.2)
    for tick in _ticks(models):
        axes.plot([tick, tick], [0, 0.15], color=_INK, linewidth=1.0)
        axes.text(tick, 0.25, str(tick), ha="center", va="bottom", fontsize="small", color=_INK)
    _draw_distance(found, axes, models)
    for level, group in enumerate(found.groups):
        ends = found.ranks[group[0]], found.ranks[group[-1]]
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


def _draw_distance(found: CriticalDifference, axes: Axes, models: int) -> None:
    if math.isnan(found.distance):
        axes.text(1, 1.1, f"no critical difference: {found.reason}", fontsize="small", va="bottom", parse_math=False)
        return
    shown = min(found.distance, models - 1.0)
    axes.plot([1, 1 + shown], [1.0, 1.0], color=_INK, linewidth=1.5)
    for edge in (1.0, 1 + shown):
        axes.plot([edge, edge], [0.9, 1.1], color=_INK, linewidth=1.5)
    axes.text(1, 1.15, ranks_text(found), fontsize="small", va="bottom", parse_math=False)


def ranks_text(found: CriticalDifference) -> str:
    """What the diagram's scale and test say, in a line."""
    if math.isnan(found.distance):
        return found.reason
    test = found.reason if math.isnan(found.p) else f"Friedman p = {found.p:.2g}"
    beyond = ", wider than the axis" if found.distance > len(found.ranks) - 1 else ""
    verdict = "" if found.p < ALPHA else ": nothing is told apart"
    return f"critical difference {found.distance:.2f}{beyond} ({found.cohorts} cohorts); {test}{verdict}"
