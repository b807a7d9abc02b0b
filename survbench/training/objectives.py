"""What is minimized, and how logits become risks and survival curves. The same for every model.

Risk always means: higher is worse (protocol rule 9).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from survbench.errors import BadConfig, BadLabels

__all__ = ["Cox", "DiscreteNLL"]

FLOOR = 1e-7
FARTHEST = 12.0  # log hazard ratios beyond this change no curve visibly, and sums with them would lose the others


class Cox:
    """Cox's negative log partial likelihood, divided by the number of deaths (Cox 1972; Breslow 1974; Efron 1977).

    Everyone with at least the time of a death is at risk, those censored at that very time included. Without a death
    the loss is 0. O(n log n).
    """

    outputs = 1
    risk_name = "log hazard ratio (Cox)"

    def __init__(self, ties: Literal["efron", "breslow"] = "efron") -> None:
        if ties not in ("efron", "breslow"):
            raise BadConfig(f"objective cox: ties is '{ties}'", "choose from efron, breslow")
        self.ties = ties
        self.name = "cox" if ties == "efron" else "cox-breslow"

    def fit(self, time: np.ndarray, event: np.ndarray) -> Self:
        """Nothing is fitted: the partial likelihood needs no constants."""
        return self

    def state(self) -> dict[str, Any]:
        return {}

    def from_state(self, state: Mapping[str, Any]) -> Self:
        return self

    def loss(self, logits: Tensor, time: Tensor, event: Tensor) -> Tensor:
        # no branch and no shape depends on the data: an accelerator would have to finish all its work first
        order = torch.argsort(time, descending=True, stable=True)
        risk, time, event = _full_precision(logits)[:, 0][order], time[order], event[order].bool()
        tie = F.pad(time[1:] != time[:-1], (1, 0)).cumsum(0)  # patients of equal time have equal numbers
        last = torch.zeros_like(tie).index_add(0, tie, torch.ones_like(tie)).cumsum(0) - 1
        at_risk = torch.logcumsumexp(risk, 0)[last][tie]
        if self.ties == "efron":
            at_risk = at_risk + _efron(risk, at_risk, tie, event)
        return torch.where(event, at_risk - risk, 0).sum() / event.sum().clamp(min=1)

    def risk(self, logits: Tensor) -> Tensor:
        return logits[:, 0]

    def survival(
        self, train_logits: Tensor, train_time: np.ndarray, train_event: np.ndarray, logits: Tensor, grid: np.ndarray
    ) -> np.ndarray:
        """With Breslow's baseline of the training patients."""
        from sksurv.linear_model.coxph import BreslowEstimator

        train_risk = train_logits[:, 0].double().numpy()
        center = np.median(train_risk)  # which the baseline absorbs
        train_risk, risk = (
            np.clip(r - center, -FARTHEST, FARTHEST) for r in (train_risk, logits[:, 0].double().numpy())
        )
        baseline = BreslowEstimator().fit(train_risk, train_event, train_time).cum_baseline_hazard_
        steps = np.searchsorted(baseline.x, grid, side="right")
        cumulative = np.where(steps > 0, baseline.y[np.maximum(steps - 1, 0)], 0.0)
        return np.exp(-np.exp(risk)[:, None] * cumulative[None, :])


def _efron(risk: Tensor, at_risk: Tensor, tie: Tensor, event: Tensor) -> Tensor:
    """log(1 - l/d D/R) for the l-th of d tied deaths, whose hazards sum to D in a risk set that sums to R; else 0."""
    died = event.to(risk)
    share = torch.zeros_like(risk).index_add(0, tie, died * torch.exp(risk - at_risk))[tie]
    deaths = torch.zeros_like(risk).index_add(0, tie, died)
    rank = died.cumsum(0) - died - (deaths.cumsum(0) - deaths)[tie]  # l counts from 0
    return torch.log1p(-died * rank / deaths[tie].clamp(min=1) * share)


class DiscreteNLL:
    """Discrete-time negative log likelihood over intervals of time (Zadeh and Schmid 2020), mean over patients.

    hazard_k = sigmoid(logit_k), S_k = product of (1 - hazard) up to interval k. A death in interval y contributes
    -log S_(y-1) - log hazard_y, a censored patient -(1 - alpha) log S_y.

    Parameters
    ----------
    bins : intervals, cut at quantiles of the uncensored training times and closed on the left.
    alpha : in [0, 1], how much less censored patients count.
    floored : floor every probability at 1e-7 as the published code does, which stops the gradient there; by default the
        likelihood is computed from log-sigmoids and never stops.
    """

    name = "nll"
    risk_name = "minus the sum of the survival curve over the intervals (discrete time)"

    def __init__(self, bins: int = 4, alpha: float = 0.0, floored: bool = False) -> None:
        if bins < 2 or not 0 <= alpha <= 1:
            raise BadConfig(f"objective nll: bins is {bins} and alpha {alpha}", "bins >= 2 and alpha in [0, 1]")
        self.outputs, self.alpha, self.floored = bins, alpha, floored
        self.cuts = np.empty(0)

    def fit(self, time: np.ndarray, event: np.ndarray) -> Self:
        cuts = np.quantile(time[event.astype(bool)], np.arange(1, self.outputs) / self.outputs) if event.any() else []
        if len(np.unique(cuts)) < self.outputs - 1:
            raise BadLabels(
                f"the training times of {int(event.sum())} deaths do not divide into {self.outputs} intervals",
                "use fewer bins or the Cox objective",
            )
        return self.from_state({"cuts": cuts})

    def state(self) -> dict[str, Any]:
        return {"cuts": self.cuts.tolist()}

    def from_state(self, state: Mapping[str, Any]) -> Self:
        fitted = type(self)(self.outputs, self.alpha, self.floored)
        fitted.cuts = np.asarray(state["cuts"], dtype=np.float64)
        return fitted

    def interval(self, time: Tensor) -> Tensor:
        """Index of the interval of each time."""
        # cuts are often the time of some patient: both sides must be rounded alike, whatever precision the time came in
        cuts = torch.as_tensor(self.cuts, dtype=torch.float32, device=time.device)
        return torch.bucketize(time.float(), cuts, right=True)

    def loss(self, logits: Tensor, time: Tensor, event: Tensor) -> Tensor:
        return self.interval_loss(logits, self.interval(time), event).mean()

    def interval_loss(self, logits: Tensor, interval: Tensor, event: Tensor) -> Tensor:
        """Loss of each patient (B,), given the index of the interval instead of the time."""
        logits, at = _full_precision(logits), interval.unsqueeze(1)
        if self.floored:
            hazard = torch.sigmoid(logits)
            alive = F.pad(torch.cumprod(1 - hazard, 1), (1, 0), value=1.0).clamp_min(FLOOR).log()
            log_hazard = hazard.clamp_min(FLOOR).log()
        else:
            alive = F.pad(torch.cumsum(F.logsigmoid(-logits), 1), (1, 0))
            log_hazard = F.logsigmoid(logits)
        died = -(alive.gather(1, at) + log_hazard.gather(1, at)).squeeze(1)
        censored = -(1 - self.alpha) * alive.gather(1, at + 1).squeeze(1)
        return torch.where(event.bool(), died, censored)

    def risk(self, logits: Tensor) -> Tensor:
        return -torch.cumprod(torch.sigmoid(-logits), 1).sum(1)

    def survival(
        self, train_logits: Tensor, train_time: np.ndarray, train_event: np.ndarray, logits: Tensor, grid: np.ndarray
    ) -> np.ndarray:
        """Linear inside an interval; the last one ends with the training follow-up, after which the curve is flat."""
        curve = F.pad(torch.cumprod(torch.sigmoid(-logits.double()), 1), (1, 0), value=1.0).numpy()
        edges = np.concatenate([[0.0], self.cuts, [max(train_time.max(), np.nextafter(self.cuts[-1], np.inf))]])
        return np.stack([np.interp(grid, edges, row) for row in curve])


def _full_precision(logits: Tensor) -> Tensor:
    """Losses are computed in float32 at least; half precision makes similar risks equal."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
