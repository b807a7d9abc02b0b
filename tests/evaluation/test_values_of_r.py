"""Statistics against values that R gave for one small cohort with tied times, tied risks and censored ties.

R 4.2.2, package survival 3.5-3: `concordance(Surv(time, event) ~ risk, reverse = TRUE)`, the same with
`timewt = "n/G2", ymax = 50`, `survdiff` with and without `strata(fold)`, and
`coxph(Surv(time, event) ~ risk, init = 1, iter.max = 0)` with its `basehaz(centered = FALSE)`.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from survbench.evaluation.groups import logrank, stratified_logrank
from survbench.evaluation.metrics import harrell, uno
from survbench.training.objectives import Cox

TIME = np.array(
    [5, 8, 8, 12, 12, 12, 15, 20, 20, 23, 27, 27, 30, 34, 34, 40, 41, 45, 52, 52, 60, 61, 61, 70], dtype=float
)
EVENT = np.array([1, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 0, 1, 0], dtype=bool)
RISK = 0.1 * np.array([12, 3, -5, 9, 9, 1, -2, 4, 15, -3, 0, 6, 6, -11, 2, -4, 7, -8, 3, -14, -6, -9, 5, -13])
FOLD = np.tile([0, 1, 2], 8)


def test_harrells_c() -> None:
    computed = harrell(TIME, EVENT, RISK)
    assert (computed.concordant, computed.comparable - computed.concordant - computed.tied, computed.tied) == (
        148,
        35,
        2,
    )
    assert computed.value == pytest.approx(0.805405405405405, abs=1e-12)


def test_unos_c() -> None:
    """Censored a quarter later, because at a tie with a death R weights by the censoring curve just before it and
    scikit-survival by the curve at it."""
    time = TIME + np.where(EVENT, 0.0, 0.25)
    assert uno(time, EVENT, time, EVENT, RISK, 50.0).value == pytest.approx(0.787000769154801, abs=1e-9)


def test_logrank() -> None:
    high = np.median(RISK) < RISK
    plain, stratified = logrank(TIME, EVENT, high), stratified_logrank(TIME, EVENT, high, FOLD)
    assert (plain.statistic, plain.p) == pytest.approx((7.18185927219615, 0.00736443514717331), abs=1e-9)
    assert (stratified.statistic, stratified.p) == pytest.approx((7.04463066673331, 0.00795032166795577), abs=1e-9)


@pytest.mark.parametrize(
    ("ties", "value", "score"),
    [("efron", 30.9093567820725, 1.96705800880813), ("breslow", 31.1608531655509, 1.80169928002043)],
)
def test_coxs_likelihood_and_its_slope(ties: str, value: float, score: float) -> None:
    beta = torch.ones(1, dtype=torch.float64, requires_grad=True)
    loss = Cox(ties).loss((torch.tensor(RISK) * beta).unsqueeze(1), torch.tensor(TIME), torch.tensor(EVENT))
    (slope,) = torch.autograd.grad(loss, beta)
    assert loss.item() * EVENT.sum() == pytest.approx(value, abs=1e-9)
    assert slope.item() * EVENT.sum() == pytest.approx(-score, abs=1e-9)


def test_breslows_baseline() -> None:
    at = np.array([5.0, 12.0, 23.0, 45.0, 61.0])
    hazard = [0.0306382409168649, 0.1378388991127624, 0.3040562089946288, 0.9113244522523775, 1.9120979984220465]
    logits = torch.tensor(RISK).unsqueeze(1)
    curve = Cox("breslow").survival(logits, TIME, EVENT, torch.zeros(1, 1), at)
    assert curve[0] == pytest.approx(np.exp(-np.array(hazard)), abs=1e-9)
