"""Statistics of one fold's predictions, through scikit-survival; what is undefined is NaN with a reason.

Nothing here looks at a model. The censoring distribution comes from training patients (protocol rules 3, 11, 12).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from survbench.evaluation.calibration import Calibration, d_calibration

__all__ = [
    "METRICS",
    "Concordance",
    "FoldPredictions",
    "Metric",
    "Value",
    "dynamic_auc",
    "fold_predictions",
    "harrell",
    "integrated_brier",
    "prediction_grid",
    "prediction_horizon",
    "score_fold",
    "uno",
]

GRID_POINTS = 64


@dataclass(frozen=True)
class Value:
    """A metric; NaN comes with its reason."""

    value: float
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Concordance:
    """Harrell's C with the pairs that it was counted from.

    Attributes
    ----------
    value : the index.
    comparable : pairs compared.
    concordant : pairs in the right order.
    tied : pairs of equal risk, half right.
    reason : why the value is NaN.
    """

    value: float
    comparable: int = 0
    concordant: int = 0
    tied: int = 0
    reason: str = ""


def harrell(time: np.ndarray, event: np.ndarray, risk: np.ndarray) -> Concordance:
    """Harrell's concordance index (Harrell et al. 1982).

    Parameters
    ----------
    time : (patients,), months.
    event : (patients,), True = died.
    risk : (patients,), higher = worse. Risks within 1e-8 of each other count as tied.
    """
    from sksurv.metrics import concordance_index_censored

    time, event, risk = _arrays(time, event, risk)
    reason = _unusable(event, risk)
    if reason:
        return Concordance(value=math.nan, reason=reason)
    try:
        with np.errstate(invalid="ignore"):  # deaths at one identical time give 0 / 0, a NaN that is handled below
            value, concordant, discordant, tied, _ = concordance_index_censored(event, time, risk)
    except ValueError:  # scikit-survival has its own error for this, of this kind
        return Concordance(
            value=math.nan, reason="no comparable pair: nobody is known to have outlived a patient who died"
        )
    pairs = int(concordant + discordant + tied)
    if pairs == 0:
        return Concordance(
            value=math.nan, reason="no comparable pair: nobody is known to have outlived a patient who died"
        )
    return Concordance(value=float(value), comparable=pairs, concordant=int(concordant), tied=int(tied))


def uno(
    train_time: np.ndarray,
    train_event: np.ndarray,
    time: np.ndarray,
    event: np.ndarray,
    risk: np.ndarray,
    horizon: float,
) -> Value:
    """Uno's concordance index truncated at the horizon (Uno et al. 2011).

    Parameters
    ----------
    train_time : (training patients,), months; the censoring distribution is theirs.
    train_event : (training patients,), True = died.
    time : (patients,), months.
    event : (patients,), True = died.
    risk : (patients,), higher = worse.
    horizon : months.
    """
    from sksurv.metrics import concordance_index_ipcw

    time, event, risk = _arrays(time, event, risk)
    reason = _unusable(event, risk)
    if not reason and not (event & (time < horizon)).any():
        reason = f"nobody died before the horizon of {horizon:.1f} months"
    if reason:
        return Value(math.nan, reason)
    try:
        value = concordance_index_ipcw(_outcome(train_time, train_event), _outcome(time, event), risk, tau=horizon)[0]
    except ValueError as error:
        return Value(math.nan, _one_line(error))
    return Value(float(value)) if math.isfinite(value) else Value(math.nan, "no comparable pair before the horizon")


def integrated_brier(
    train_time: np.ndarray,
    train_event: np.ndarray,
    time: np.ndarray,
    event: np.ndarray,
    survival: np.ndarray,
    grid: np.ndarray,
) -> Value:
    """Integrated Brier score over the grid (Graf et al. 1999), as far as the test follow-up reaches.

    Parameters
    ----------
    train_time : (training patients,), months; the censoring distribution is theirs.
    train_event : (training patients,), True = died.
    time : (patients,), months.
    event : (patients,), True = died.
    survival : (patients, times of the grid), probabilities.
    grid : (times,), months.
    """
    from sksurv.metrics import integrated_brier_score

    usable = _inside(time, train_time, grid)
    if usable.sum() < 2:
        return Value(math.nan, "the test follow-up covers fewer than two times of the grid")
    if not np.isfinite(survival).all():
        return Value(math.nan, "the survival curve is NaN for some patient")
    try:
        value = integrated_brier_score(
            _outcome(train_time, train_event), _outcome(time, event), survival[:, usable], grid[usable]
        )
    except ValueError as error:
        return Value(math.nan, _one_line(error))
    return Value(float(value)) if math.isfinite(value) else Value(math.nan, "the censoring weights are not finite")


def dynamic_auc(
    train_time: np.ndarray,
    train_event: np.ndarray,
    time: np.ndarray,
    event: np.ndarray,
    risk: np.ndarray,
    times: np.ndarray,
) -> Value:
    """Mean of the cumulative/dynamic AUC over the times at which somebody has died and somebody is still observed.

    Parameters
    ----------
    train_time : (training patients,), months; the censoring distribution is theirs.
    train_event : (training patients,), True = died.
    time : (patients,), months.
    event : (patients,), True = died.
    risk : (patients,), higher = worse.
    times : months.
    """
    from sksurv.metrics import cumulative_dynamic_auc

    time, event, risk = _arrays(time, event, risk)
    reason = _unusable(event, risk)
    if reason:
        return Value(math.nan, reason)
    usable = _inside(time, train_time, times) & (times >= time[event].min())
    if not usable.any():
        return Value(math.nan, "at no time of the grid has somebody died while another is still observed")
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # an undefined time is NaN, which is handled below
            _, mean = cumulative_dynamic_auc(
                _outcome(train_time, train_event), _outcome(time, event), risk, times[usable]
            )
    except ValueError as error:
        return Value(math.nan, _one_line(error))
    return Value(float(mean)) if math.isfinite(mean) else Value(math.nan, "the censoring weights are not finite")


def prediction_horizon(train_time: np.ndarray, train_event: np.ndarray) -> float:
    """Months up to which a fold is judged: the 80th percentile of the training follow-up, at most the last death.

    Fixed from training patients before any prediction is made; beyond it too few are observed for a censoring weight.
    """
    last_death = float(np.max(train_time[train_event.astype(bool)]))
    return min(float(np.quantile(train_time, 0.8)), last_death)


def prediction_grid(horizon: float) -> np.ndarray:
    """Equally spaced times in (0, horizon] at which survival curves are stored."""
    return horizon * np.arange(1, GRID_POINTS + 1) / GRID_POINTS


Outcomes = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldPredictions:
    """What a metric is computed from: predictions of one fold's test patients, and the outcomes of those trained on.

    Attributes
    ----------
    train : times in months and events (True = died), each (training patients,).
    test : the same of the test patients.
    risk : (test patients,), higher = worse.
    survival : (test patients, times of the grid); without times where there are no curves.
    grid : (times,), months.
    horizon : months.
    """

    train: Outcomes
    test: Outcomes
    risk: np.ndarray
    survival: np.ndarray
    grid: np.ndarray
    horizon: float

    @cached_property
    def concordance(self) -> Concordance:
        return harrell(*self.test, self.risk)

    @cached_property
    def calibration(self) -> Calibration:
        return d_calibration(*self.test, self.survival, self.grid)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric of one fold; an entry of METRICS is all that a new one takes to appear in every output.

    Attributes
    ----------
    title : for tables.
    meaning : what it says, for a note below the table.
    larger_is_better : None where models are not ranked by it.
    compute : of one fold.
    needs_training : it takes the censoring from training patients, of whom somebody must have died.
    needs_curves : it is a metric of survival curves.
    """

    title: str
    meaning: str
    larger_is_better: bool | None
    compute: Callable[[FoldPredictions], Value]
    needs_training: bool = False
    needs_curves: bool = False

    def score(self, fold: FoldPredictions) -> Value:
        """The metric, or NaN with the reason why it is undefined."""
        if not len(fold.risk):
            return Value(math.nan, "no test patient")
        if self.needs_curves and not fold.survival.size:
            return Value(math.nan, "there are no survival curves")
        if self.needs_training and not len(fold.train[1]):
            return Value(math.nan, "there are no training patients to take the censoring from")
        if self.needs_training and not fold.train[1].any():
            return Value(math.nan, "nobody died among the training patients")
        return self.compute(fold)


METRICS = {
    "cindex": Metric(
        title="C-index",
        meaning="Harrell's C: share of comparable pairs in the right order",
        larger_is_better=True,
        compute=lambda of: Value(of.concordance.value, of.concordance.reason),
    ),
    "uno_c": Metric(
        title="Uno's C",
        meaning="C weighted by the training patients' censoring, up to the horizon",
        larger_is_better=True,
        compute=lambda of: uno(*of.train, *of.test, of.risk, of.horizon),
        needs_training=True,
    ),
    "ibs": Metric(
        title="IBS",
        meaning="integrated Brier score of the survival curve up to the horizon",
        larger_is_better=False,
        compute=lambda of: integrated_brier(*of.train, *of.test, of.survival, of.grid),
        needs_training=True,
        needs_curves=True,
    ),
    "auc": Metric(
        title="AUC(t)",
        meaning="time-dependent AUC, mean over the grid up to the horizon",
        larger_is_better=True,
        compute=lambda of: dynamic_auc(*of.train, *of.test, of.risk, of.grid),
        needs_training=True,
    ),
    "d_calibration": Metric(
        title="D-calibration",
        meaning="p of the chi-squared test that the survival curves are calibrated; a small one speaks against it, a "
        "large one is no evidence of anything, and neither ranks a model",
        larger_is_better=None,
        compute=lambda of: Value(of.calibration.p, of.calibration.reason),
        needs_curves=True,
    ),
    "comparable_pairs": Metric(
        title="pairs",
        meaning="comparable pairs behind Harrell's C",
        larger_is_better=None,
        compute=lambda of: Value(float(of.concordance.comparable)),
    ),
}


def fold_predictions(predictions: pd.DataFrame, grid: np.ndarray, horizon: float) -> FoldPredictions:
    """One fold's predictions as metrics take them.

    Parameters
    ----------
    predictions : columns split (train, val, test), time, event, risk, survival (a value per time of the grid; the
        column may be absent).
    grid : (times,), months.
    horizon : months.
    """
    train, test = (predictions[predictions["split"] == split] for split in ("train", "test"))
    curves = len(test) and "survival" in test
    return FoldPredictions(
        train=(train["time"].to_numpy(float), train["event"].to_numpy(bool)),
        test=(test["time"].to_numpy(float), test["event"].to_numpy(bool)),
        risk=test["risk"].to_numpy(float),
        survival=np.stack(test["survival"].tolist()).astype(float) if curves else np.empty((len(test), 0)),
        grid=np.asarray(grid, dtype=np.float64),
        horizon=horizon,
    )


def score_fold(predictions: pd.DataFrame, grid: np.ndarray, horizon: float) -> dict[str, Value]:
    """Every metric of METRICS for the test patients of one fold; see `fold_predictions`."""
    fold = fold_predictions(predictions, grid, horizon)
    return {name: metric.score(fold) for name, metric in METRICS.items()}


def _arrays(time: np.ndarray, event: np.ndarray, risk: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.asarray(time, float), np.asarray(event, bool), np.asarray(risk, float)


def _unusable(event: np.ndarray, risk: np.ndarray) -> str:
    if len(event) < 2:
        return f"{len(event)} patients cannot be compared"
    if not np.isfinite(risk).all():
        return f"the risk is NaN or infinite for {int((~np.isfinite(risk)).sum())} patients"
    return "" if event.any() else "nobody died"


def _inside(time: np.ndarray, train_time: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Times inside the test follow-up and before the training follow-up ends, where censoring weights exist."""
    return (times >= np.min(time)) & (times < np.max(time)) & (times < np.max(train_time))


def _outcome(time: np.ndarray, event: np.ndarray) -> np.ndarray:
    from sksurv.util import Surv

    return Surv.from_arrays(np.asarray(event, bool), np.asarray(time, float))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
