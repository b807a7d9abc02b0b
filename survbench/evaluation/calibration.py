"""Whether as many patients die as survival curves predict: D-calibration (protocol rule 11).

Takes survival curves as they are stored, on a grid; discrimination is in `metrics`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

__all__ = ["BINS", "Calibration", "bin_counts", "calibration_bins", "d_calibration", "survival_at"]

BINS = 10


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """D-calibration of some patients.

    Attributes
    ----------
    counts : (10,), patients whose survival probability at their own time lies in [0, 0.1), ..., [0.9, 1]; fractions
        come from censored patients. A calibrated model has as many in each.
    patients : sum of the counts.
    statistic : Pearson's chi-squared with 9 degrees of freedom.
    p : small where the model is not calibrated; a large one is no evidence against calibration, and no evidence for it
        where patients are few or mostly censored.
    reason : why p is NaN.
    """

    counts: tuple[float, ...]
    patients: int
    statistic: float
    p: float
    reason: str = ""


def d_calibration(time: np.ndarray, event: np.ndarray, survival: np.ndarray, grid: np.ndarray) -> Calibration:
    """D-calibration (Haider et al., J Mach Learn Res 2020;21:85) up to the end of the grid.

    Nobody is followed beyond the curves: who died or was censored after the last time of the grid counts as censored
    at it. Censored patients are spread over the bins below their probability, which makes the test conservative.

    Parameters
    ----------
    time : (patients,), months.
    event : (patients,), True = died.
    survival : (patients, times of the grid), probabilities.
    grid : (times,), increasing, months.
    """
    time, event, grid = np.asarray(time, float), np.asarray(event, bool), np.asarray(grid, float)
    survival = np.asarray(survival, float).reshape(len(time), len(grid))
    reason = _unusable(time, event, survival, grid)
    if reason:
        return _undefined(reason, len(time))
    return calibration_bins([bin_counts(time, event, survival, grid)])


def calibration_bins(folds: Iterable[np.ndarray]) -> Calibration:
    """Pool the bins of several folds and test them together.

    Unlike risks, probabilities of different models are on one scale. Every patient must be in one fold only; several
    seeds share their patients and are to be averaged before.

    Parameters
    ----------
    folds : (10,) of each fold, from `bin_counts` or `Calibration.counts`; NaN where a fold is undefined.
    """
    from scipy.stats import chi2

    parts = [np.asarray(counts, float) for counts in folds]
    if not parts:
        return _undefined("there is no fold", 0)
    undefined = [str(i) for i, part in enumerate(parts) if not np.isfinite(part).all()]
    if undefined:
        return _undefined(f"fold {', '.join(undefined)} has no bins", 0)
    counts = np.sum(parts, axis=0)
    patients = round(float(counts.sum()))
    if patients < BINS:
        return _undefined(f"{patients} patients are fewer than the {BINS} bins", patients, counts)
    expected = counts.sum() / BINS
    statistic = float(((counts - expected) ** 2).sum() / expected)
    p = float(chi2.sf(statistic, BINS - 1))
    return Calibration(counts=tuple(counts.tolist()), patients=patients, statistic=statistic, p=p)


def bin_counts(time: np.ndarray, event: np.ndarray, survival: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """(10,) patients per bin of the survival probability at their own time; see `d_calibration`.

    A patient censored at the probability s would have died at one that is uniform below s: the bin of s gets the share
    of s that lies in it, and each bin below gets 0.1 / s.
    """
    died = np.asarray(event, bool) & (time <= grid[-1])
    at = survival_at(time, survival, grid)
    edges = np.arange(BINS + 1) / BINS
    own = np.minimum(np.searchsorted(edges, at, side="right") - 1, BINS - 1)
    counts = np.bincount(own[died], minlength=BINS).astype(float)
    censored, top = at[~died], edges[1:]
    zero = censored == 0
    covered = np.clip(censored[~zero, None] - edges[:-1], 0, top - edges[:-1])  # of [0, s], what each bin has
    counts += (covered / censored[~zero, None]).sum(axis=0)
    counts[0] += zero.sum()
    return counts


def survival_at(time: np.ndarray, survival: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """(patients,) each patient's survival probability at their own time, at the last time of the grid beyond it.

    Linear between the times of the grid and from 1 at time 0. A curve that steps, as Breslow's does, has its step
    somewhere between two times of the grid, and its value at the earlier one would be too high on average.
    """
    times = np.concatenate([[0.0], grid])
    curves = np.column_stack([np.ones(len(survival)), survival])
    return np.array([np.interp(t, times, curve) for t, curve in zip(time, curves, strict=True)])


def _unusable(time: np.ndarray, event: np.ndarray, survival: np.ndarray, grid: np.ndarray) -> str:
    if not len(time) or not len(grid):
        return "there is no patient" if len(grid) else "the curves have no times"
    if not np.isfinite(survival).all():
        return "the survival curve is NaN for some patient"
    if (survival < -1e-9).any() or (survival > 1 + 1e-9).any():
        return "a survival curve leaves [0, 1]"
    return "" if (event & (time <= grid[-1])).any() else f"nobody died within the {grid[-1]:.1f} months of the curves"


def _undefined(reason: str, patients: int, counts: np.ndarray | None = None) -> Calibration:
    shown = (math.nan,) * BINS if counts is None else tuple(counts.tolist())
    return Calibration(counts=shown, patients=patients, statistic=math.nan, p=math.nan, reason=reason)
