"""Risk groups and whether their survival differs (protocol rule 15)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

__all__ = ["LogRank", "logrank", "risk_cut", "stratified_logrank"]


@dataclass(frozen=True)
class LogRank:
    """A log-rank test.

    Attributes
    ----------
    statistic : chi-squared with one degree of freedom.
    p : its p-value.
    reason : why both are NaN.
    """

    statistic: float
    p: float
    reason: str = ""


def risk_cut(train_risk: np.ndarray) -> float:
    """Median risk of the training patients; strictly above it is high risk."""
    return float(np.median(train_risk))


def logrank(time: np.ndarray, event: np.ndarray, high: np.ndarray) -> LogRank:
    """Log-rank test between two groups (Mantel 1966).

    Parameters
    ----------
    time : (patients,), months.
    event : (patients,), True = died.
    high : (patients,), True = high-risk group.
    """
    return stratified_logrank(time, event, high, np.zeros(len(np.asarray(time))))


def stratified_logrank(time: np.ndarray, event: np.ndarray, high: np.ndarray, strata: np.ndarray) -> LogRank:
    """Log-rank test that compares patients inside a stratum only, such as their fold.

    The observed minus expected deaths of the high-risk group and their variance are summed over the strata.

    Parameters
    ----------
    time : (patients,), months.
    event : (patients,), True = died.
    high : (patients,), True = high-risk group.
    strata : (patients,), the stratum of each.
    """
    from scipy.stats import chi2

    time, event = np.asarray(time, float), np.asarray(event, bool)
    high, strata = np.asarray(high, bool), np.asarray(strata)
    if high.all() or not high.any():
        return LogRank(
            math.nan,
            math.nan,
            f"all {len(high)} patients are in the {'high' if len(high) and high.all() else 'low'}-risk group",
        )
    if not event.any():
        return LogRank(math.nan, math.nan, "nobody died")
    parts = [_observed_minus_expected(time[s], event[s], high[s]) for s in _members(strata)]
    difference, variance = sum(p[0] for p in parts), sum(p[1] for p in parts)
    if variance <= 0:
        return LogRank(math.nan, math.nan, "no death while patients of both groups were at risk")
    statistic = difference**2 / variance
    return LogRank(statistic, float(chi2.sf(statistic, 1)))


def _observed_minus_expected(time: np.ndarray, event: np.ndarray, high: np.ndarray) -> tuple[float, float]:
    """Of the high-risk group, through scikit-survival; zero in a stratum without deaths or with one group."""
    from sksurv.compare import compare_survival
    from sksurv.util import Surv

    if not event.any() or high.all() or not high.any():
        return 0.0, 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        try:
            _, _, table, covariance = compare_survival(Surv.from_arrays(event, time), high, return_stats=True)
        except np.linalg.LinAlgError:
            return 0.0, 0.0
    return float(table.loc[True, "statistic"]), float(covariance[1, 1])


def _members(strata: np.ndarray) -> Iterable[np.ndarray]:
    return (strata == value for value in np.unique(strata))
