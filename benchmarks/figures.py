"""From raw rounds to figures: which rounds count, medians with their spread, shares of the matrix-product peak.

Pure arithmetic, so that it can be tested with made-up rounds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Figure", "Round", "figure", "kept", "share", "speedup"]

SLOW_PROBE = 1.25  # a matrix product this much slower than the best of its race had company
OUTSIDE = 0.25  # cores that other processes may use meanwhile


@dataclass(frozen=True)
class Round:
    """One measurement.

    Attributes
    ----------
    seconds : of one call.
    before : seconds of the matrix product before it.
    after : seconds of the matrix product after it.
    outside : cores that other processes kept busy meanwhile.
    """

    seconds: float
    before: float
    after: float
    outside: float = 0.0

    @property
    def cost(self) -> float:
        """Time in units of the faster matrix product beside it: what survives a change of machine or of clock."""
        return self.seconds / min(self.before, self.after)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A contestant's figures in one cell.

    Attributes
    ----------
    seconds : median of one call.
    low : lower quartile.
    high : upper quartile.
    cost : median time in matrix products.
    kept : rounds that count.
    dropped : rounds with load from outside.
    loaded : every round had load from outside, so none could be dropped.
    """

    seconds: float
    low: float
    high: float
    cost: float
    kept: int
    dropped: int
    loaded: bool


def kept(rounds: Sequence[Round], best: float) -> list[Round]:
    """Rounds without load from outside; `best` is the fastest matrix product of the race, in seconds."""
    return [r for r in rounds if max(r.before, r.after) <= SLOW_PROBE * best and r.outside <= OUTSIDE]


def figure(rounds: Sequence[Round], best: float) -> Figure:
    """Medians over the rounds that count; over all of them, and marked, where outside load left none."""
    clean = kept(rounds, best)
    used = clean or list(rounds)
    seconds = sorted(r.seconds for r in used)
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else (seconds[0],) * 3
    return Figure(
        seconds=statistics.median(seconds),
        low=low,
        high=high,
        cost=statistics.median(r.cost for r in used),
        kept=len(used),
        dropped=len(rounds) - len(used),
        loaded=not clean,
    )


def share(measured: Figure, flops: int | None, probe_flops: float) -> float:
    """Share of the matrix-product peak that a call's own matrix products reach; NaN where none were counted."""
    return flops / (measured.cost * probe_flops) if flops else math.nan


def speedup(before: Figure, after: Figure, units_before: int = 1, units_after: int = 1) -> float:
    """How many times faster, in matrix products per unit, so that two machines or two days can be compared."""
    return (before.cost / units_before) / (after.cost / units_after)
