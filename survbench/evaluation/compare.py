"""Whether one model is better than another: paired by fold and patient, with the uncertainty (protocol rule 13).

Two intervals, because there are two sources of chance. The corrected resampled t covers how the difference would move
with other training patients; the patient bootstrap, how it would move with other test patients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "Difference",
    "FoldPair",
    "bootstrap_cindex",
    "comparable",
    "compare",
    "corrected_t",
    "holm",
    "mean_difference",
    "paired",
    "resampled_cindices",
    "unknown",
]

LEVEL = 0.95
RESAMPLES = 1000
TIE = 1e-8  # risks this close are tied, as in scikit-survival


@dataclass(frozen=True)
class FoldPair:
    """Test patients of one fold with two models' risks.

    Attributes
    ----------
    time : (patients,), months.
    event : (patients,), True = died.
    first : (seeds, patients), risks of the first model, higher = worse.
    second : the same of the second model, paired by seed.
    """

    time: np.ndarray
    event: np.ndarray
    first: np.ndarray
    second: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Difference:
    """First minus second, in C-index.

    Attributes
    ----------
    mean : over folds, of the mean over seeds.
    low : lower end of the 95 % interval by the corrected resampled t.
    high : its upper end.
    p : of the corrected resampled t test.
    patient_low : lower end of the 95 % interval by the patient bootstrap inside folds.
    patient_high : its upper end.
    per_fold : (folds,).
    resampled : (resamples,) of the bootstrap.
    reason : why the numbers are NaN; with one fold only those of the corrected t are.
    """

    mean: float
    low: float
    high: float
    p: float
    patient_low: float
    patient_high: float
    per_fold: tuple[float, ...] = ()
    resampled: np.ndarray | None = None
    reason: str = ""

    @property
    def clear(self) -> bool:
        """Whether both intervals exclude zero."""
        return (self.low > 0 and self.patient_low > 0) or (self.high < 0 and self.patient_high < 0)


def compare(folds: Sequence[FoldPair], seed: int = 0) -> Difference:
    """Paired difference of two models over the folds of one cohort; see `paired`."""
    both = [(fold.time, fold.event, np.vstack([fold.first, fold.second])) for fold in folds]
    split = [np.split(one, [len(fold.first)]) for fold, one in zip(folds, resampled_cindices(both, seed), strict=True)]
    return paired([first for first, _ in split], [second for _, second in split])


def resampled_cindices(folds: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], seed: int = 0) -> list[np.ndarray]:
    """(models, 1 + resamples) per fold: each model's C-index, then that of resampled patients of the fold.

    The same folds and the same seed resample the same patients, so that models may be resampled one by one and paired.

    Parameters
    ----------
    folds : time, event (patients,) and risks (models, patients) of each.
    seed : of the resampling.
    """
    generator, cindices = np.random.default_rng(seed), []
    for time, event, risks in folds:
        weights = np.vstack([np.ones(len(time)), _resampled(generator, len(time))])
        cindices.append(_weighted_cindex(time, event, risks, weights))
    return cindices


def paired(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> Difference:
    """Difference of two models from the `resampled_cindices` of both, (seeds, 1 + resamples) per fold.

    Seeds share the test patients, so they are averaged inside each fold and do not count as folds of their own.

    Parameters
    ----------
    first : of the first model.
    second : of the second model, on the same resamples.
    """
    differences = np.stack([(a - b).mean(axis=0) for a, b in zip(first, second, strict=True)])
    per_fold = differences[:, 0]
    undefined = [str(fold) for fold in np.flatnonzero(np.isnan(per_fold))]
    if undefined:
        return unknown(f"fold {', '.join(undefined)} has no comparable pair")
    resampled = np.ma.masked_invalid(differences[:, 1:]).mean(axis=0)  # a resample may leave a fold without a pair
    return _with_patients(*corrected_t(per_fold), resampled.filled(np.nan), tuple(per_fold.tolist()))


def mean_difference(cohorts: Sequence[Difference]) -> Difference:
    """Mean over independent cohorts; the variances add up, degrees of freedom after Welch and Satterthwaite."""
    from scipy.stats import t

    reasons = [d.reason for d in cohorts if d.reason]
    if reasons or not cohorts:
        return unknown(reasons[0] if reasons else "there is no cohort")
    if len(cohorts) == 1:
        return cohorts[0]
    mean = float(np.mean([d.mean for d in cohorts]))
    freedom = np.array([len(d.per_fold) - 1 for d in cohorts])
    resampled = np.mean([d.resampled for d in cohorts if d.resampled is not None], axis=0)
    if (freedom < 1).any():
        return _with_patients(mean, math.nan, math.nan, math.nan, resampled)
    variances = np.array([_corrected_variance(np.array(d.per_fold)) for d in cohorts]) / len(cohorts) ** 2
    total = variances.sum()
    if total == 0:
        return _with_patients(mean, mean, mean, 0.0 if mean else 1.0, resampled)
    degrees = total**2 / (variances**2 / freedom).sum()
    reach = float(t.ppf(0.5 + LEVEL / 2, degrees) * math.sqrt(total))
    p = float(2 * t.sf(abs(mean) / math.sqrt(total), degrees))
    return _with_patients(mean, mean - reach, mean + reach, p, resampled)


def corrected_t(differences: np.ndarray) -> tuple[float, float, float, float]:
    """Mean, 95 % interval and p of a corrected resampled t test (Nadeau & Bengio, Mach Learn 2003;52:239).

    Parameters
    ----------
    differences : one per fold of a K-fold cross-validation, whose test share is 1 / (K - 1) of the rest.
    """
    from scipy.stats import t

    mean, folds = float(differences.mean()), len(differences)
    if folds < 2:
        return mean, math.nan, math.nan, math.nan
    error = math.sqrt(_corrected_variance(differences))
    if error < 1e-12:  # rounding
        return mean, mean, mean, 1.0 if abs(mean) < 1e-12 else 0.0
    reach = float(t.ppf(0.5 + LEVEL / 2, folds - 1)) * error
    return mean, mean - reach, mean + reach, float(2 * t.sf(abs(mean) / error, folds - 1))


def bootstrap_cindex(
    time: np.ndarray, event: np.ndarray, risks: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """(models, resamples) C-indices of models on the same resamples of patients.

    Parameters
    ----------
    time : (patients,), months.
    event : (patients,), True = died.
    risks : (models, patients), higher = worse.
    resamples : of the patients.
    seed : of the resampling.
    """
    return _weighted_cindex(time, event, risks, _resampled(np.random.default_rng(seed), len(time), resamples))


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values (Holm 1979); NaN stays NaN and is no comparison."""
    known = sorted((value, name) for name, value in p.items() if not math.isnan(value))
    adjusted, floor = dict(p), 0.0
    for rank, (value, name) in enumerate(known):
        floor = max(floor, min(1.0, (len(known) - rank) * value))
        adjusted[name] = floor
    return adjusted


def comparable(time: np.ndarray, event: np.ndarray) -> np.ndarray:
    """(patients, patients) float32: 1 where the first died while the second was known to live on (Harrell)."""
    earlier = time[:, None] < time[None, :]
    tied = (time[:, None] == time[None, :]) & ~event[None, :]
    return ((earlier | tied) & event[:, None]).astype(np.float32)


def _weighted_cindex(time: np.ndarray, event: np.ndarray, risks: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(models, resamples) Harrell's C, each patient counted `weights` (resamples, patients) times."""
    pairs = comparable(np.asarray(time, float), np.asarray(event, bool))
    counts = weights.astype(np.float32)
    total = ((counts @ pairs) * counts).sum(1, dtype=np.float64)
    values = []
    for risk in np.asarray(risks, float):
        gap = risk[:, None] - risk[None, :]
        right = pairs * np.where(np.abs(gap) <= TIE, 0.5, gap > 0).astype(np.float32)
        values.append(((counts @ right) * counts).sum(1, dtype=np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack(values) / total


def _resampled(generator: np.random.Generator, patients: int, resamples: int = RESAMPLES) -> np.ndarray:
    """(resamples, patients): how often each patient is in each resample."""
    return generator.multinomial(patients, np.full(patients, 1 / patients), size=resamples)


def _corrected_variance(differences: np.ndarray) -> float:
    folds = len(differences)
    return float(differences.var(ddof=1) * (1 / folds + 1 / (folds - 1)))


def _with_patients(
    mean: float, low: float, high: float, p: float, resampled: np.ndarray, per_fold: tuple[float, ...] = ()
) -> Difference:
    tail = 100 * (1 - LEVEL) / 2
    patient_low, patient_high = np.nanpercentile(resampled, [tail, 100 - tail])
    return Difference(
        mean=mean,
        low=low,
        high=high,
        p=p,
        patient_low=float(patient_low),
        patient_high=float(patient_high),
        per_fold=per_fold,
        resampled=resampled,
    )


def unknown(reason: str) -> Difference:
    """No difference, and why."""
    nan = math.nan
    return Difference(mean=nan, low=nan, high=nan, p=nan, patient_low=nan, patient_high=nan, reason=reason)
