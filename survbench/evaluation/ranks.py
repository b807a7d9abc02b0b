"""Average ranks of models over cohorts and which of them differ (protocol rule 13).

Takes finished scores; where they come from and how ranks are plotted is elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

__all__ = ["ALPHA", "CriticalDifference", "critical_difference"]

ALPHA = 0.05
TIED_DECIMALS = 9  # means over folds that differ by rounding alone are tied


@dataclass(frozen=True, kw_only=True)
class CriticalDifference:
    """Average ranks with what is needed to read them.

    Attributes
    ----------
    ranks : by model, best (1) first; ties share the mean of their ranks. NaN where a score is missing.
    distance : two average ranks at least this far apart are separated (Nemenyi, 5 %).
    p : of the Friedman test.
    groups : models, best first, within which no two are separated; largest sets only, two models and more. All models
        are one group unless the Friedman test rejects at 5 %.
    reason : why something of this is NaN.
    cohorts : how many the ranks are a mean of.
    """

    ranks: pd.Series
    distance: float
    p: float
    groups: tuple[tuple[str, ...], ...]
    reason: str = ""
    cohorts: int = 0


def critical_difference(scores: pd.DataFrame) -> CriticalDifference:
    """Friedman test and Nemenyi's critical difference over cohorts (Demsar, J Mach Learn Res 2006;7:1).

    The Friedman test is the chi-squared one, corrected for ties; with the few cohorts of a usual benchmark it is
    conservative, and so is the separation of models.

    Parameters
    ----------
    scores : (models, cohorts), one defined value each, larger = better.
    """
    from scipy.stats import friedmanchisquare, rankdata

    models, cohorts = scores.shape
    names = [str(name) for name in scores.index]
    values = scores.to_numpy(float).round(TIED_DECIMALS)
    undefined = [
        f"{names[row]} on {scores.columns[column]}" for row, column in np.argwhere(~np.isfinite(values)).tolist()
    ]
    if undefined or not values.size:
        reason = f"there is no figure for {', '.join(undefined)}" if undefined else "there is no figure"
        unranked = pd.Series(math.nan, names)
        return CriticalDifference(
            ranks=unranked, distance=math.nan, p=math.nan, groups=(), reason=reason, cohorts=cohorts
        )
    means = pd.Series(rankdata(-values, axis=0).mean(axis=1), names).sort_values(kind="stable")
    together = (tuple(means.index),) if models > 1 else ()
    ranked = CriticalDifference(ranks=means, distance=math.nan, p=math.nan, groups=together, cohorts=cohorts)
    if models < 3 or cohorts < 2:
        return replace(ranked, reason=f"it takes 3 models and 2 cohorts, and there are {models} and {cohorts}")
    ranked = replace(ranked, distance=_nemenyi(models, cohorts))
    if (values == values[0]).all():
        return replace(ranked, reason="all are tied on every cohort")
    p = float(friedmanchisquare(*values).pvalue)
    return replace(ranked, p=p, groups=_groups(means, ranked.distance) if p < ALPHA else together)


def _nemenyi(models: int, cohorts: int) -> float:
    from scipy.stats import studentized_range

    quantile = float(studentized_range.ppf(1 - ALPHA, models, math.inf)) / math.sqrt(2)
    return quantile * math.sqrt(models * (models + 1) / (6 * cohorts))


def _groups(ranks: pd.Series, distance: float) -> tuple[tuple[str, ...], ...]:
    """Runs of neighbors closer than the distance that are part of no longer run."""
    values = ranks.to_numpy()
    ends = [int(np.searchsorted(values, value + distance - 1e-12)) for value in values]
    return tuple(
        tuple(ranks.index[start:end])
        for start, end in enumerate(ends)
        if end - start > 1 and (start == 0 or end > ends[start - 1])
    )
