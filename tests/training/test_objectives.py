"""Losses against textbook loops and stored reference values; risks point the right way; nothing leaks into the fit."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from survbench.errors import BadConfig, BadLabels
from survbench.training.objectives import Cox, DiscreteNLL

patients = st.lists(
    st.tuples(st.floats(-4, 4), st.integers(1, 5), st.booleans()), min_size=1, max_size=14
)  # few distinct times, so that ties are the rule


def textbook(risk: np.ndarray, time: np.ndarray, event: np.ndarray, ties: str) -> float:
    """Cox's partial likelihood written out, death by death."""
    total = 0.0
    for t in np.unique(time[event]):
        at_risk = np.exp(risk[time >= t]).sum()
        tied = risk[(time == t) & event]
        for rank, value in enumerate(tied):
            removed = rank / len(tied) * np.exp(tied).sum() if ties == "efron" else 0.0
            total -= value - math.log(at_risk - removed)
    return total / max(1, event.sum())


def tensors(rows: list[tuple[float, int, bool]]) -> tuple[Tensor, Tensor, Tensor]:
    risk, time, event = (np.array(column) for column in zip(*rows, strict=True))
    return (
        torch.tensor(risk, dtype=torch.float64)[:, None],
        torch.tensor(time, dtype=torch.float64),
        torch.tensor(event),
    )


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@given(rows=patients)
def test_cox_equals_the_textbook(ties: str, rows: list[tuple[float, int, bool]]) -> None:
    logits, time, event = tensors(rows)
    expected = textbook(logits[:, 0].numpy(), time.numpy(), event.numpy(), ties)
    assert Cox(ties).loss(logits, time, event).item() == pytest.approx(expected, abs=1e-9)  # type: ignore[arg-type]


@given(rows=patients, shift=st.floats(-50, 50), seed=st.integers(0, 9))
def test_cox_knows_neither_order_nor_origin(rows: list[tuple[float, int, bool]], shift: float, seed: int) -> None:
    logits, time, event = tensors(rows)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    plain = Cox().loss(logits, time, event).item()
    assert Cox().loss(logits[order] + shift, time[order], event[order]).item() == pytest.approx(plain, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("objective", [Cox(), Cox("breslow"), DiscreteNLL(4).from_state({"cuts": [1.0, 2.0, 3.0]})])
def test_huge_logits_give_finite_losses_and_gradients(objective: Cox | DiscreteNLL, dtype: torch.dtype) -> None:
    logits = torch.linspace(-1e4, 1e4, 6 * objective.outputs, dtype=dtype).view(6, -1).requires_grad_()
    loss = objective.loss(logits, torch.tensor([1.0, 2, 2, 3, 3, 3]), torch.tensor([1, 1, 1, 0, 1, 1]).bool())
    loss.backward()
    assert math.isfinite(loss.item())
    assert torch.isfinite(logits.grad).all()


def test_without_a_death_cox_is_zero_but_connected() -> None:
    logits = torch.randn(4, 1, requires_grad=True)
    loss = Cox().loss(logits, torch.ones(4), torch.zeros(4, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(4, 1))


def test_half_precision_logits_are_lifted() -> None:
    logits = torch.randn(6, 1).bfloat16()
    assert Cox().loss(logits, torch.arange(6.0), torch.ones(6).bool()).dtype == torch.float32


@pytest.mark.parametrize("objective", [Cox(), Cox("breslow"), DiscreteNLL(3).from_state({"cuts": [1.5, 2.5]})])
def test_gradients_are_right_with_ties(objective: Cox | DiscreteNLL) -> None:
    logits = torch.randn(6, objective.outputs, dtype=torch.float64, requires_grad=True)
    time, event = torch.tensor([1.0, 2, 2, 2, 3, 3]), torch.tensor([1, 1, 1, 0, 1, 0]).bool()
    assert torch.autograd.gradcheck(lambda z: objective.loss(z, time, event), (logits,))


@given(
    rows=st.lists(
        st.tuples(
            st.lists(st.floats(-6, 6), min_size=4, max_size=4), st.integers(0, 3), st.booleans()
        ),  # above the floor
        min_size=1,
        max_size=8,
    )
)
def test_discrete_likelihood_by_hand_and_the_two_forms_agree(rows: list[tuple[list[float], int, bool]]) -> None:
    logits = torch.tensor([r[0] for r in rows], dtype=torch.float64)
    interval, event = torch.tensor([r[1] for r in rows]), torch.tensor([r[2] for r in rows])
    stable = DiscreteNLL(4).interval_loss(logits, interval, event)
    floored = DiscreteNLL(4, floored=True).interval_loss(logits, interval, event)
    for i, (values, y, died) in enumerate(rows):
        hazard = [1 / (1 + math.exp(-v)) for v in values]
        before = math.prod(1 - h for h in hazard[:y])
        expected = -math.log(before) - math.log(hazard[y]) if died else -math.log(before * (1 - hazard[y]))
        assert stable[i].item() == pytest.approx(expected, abs=1e-9)
        factors = [before, hazard[y]] if died else [before * (1 - hazard[y])]
        assert floored[i].item() == pytest.approx(-sum(math.log(max(f, 1e-7)) for f in factors), abs=1e-6)


def test_intervals_are_quartiles_of_the_uncensored_and_closed_on_the_left() -> None:
    time, event = np.array([1.0, 2, 3, 4, 5, 100]), np.array([1, 1, 1, 1, 1, 0], bool)
    fitted = DiscreteNLL(4).fit(time, event)
    assert fitted.cuts.tolist() == [2.0, 3.0, 4.0]
    assert fitted.interval(torch.tensor([0.5, 2.0, 2.9, 3.0, 4.0, 1e6])).tolist() == [0, 1, 1, 2, 3, 3]
    assert np.array_equal(DiscreteNLL(4).from_state(fitted.state()).cuts, fitted.cuts)


def test_a_time_on_a_cut_is_in_the_same_interval_in_either_precision() -> None:
    time = np.random.default_rng(0).exponential(20, 41)
    fitted = DiscreteNLL(4).fit(time, np.ones(41, bool))
    exact, rounded = torch.tensor(time), torch.tensor(time.astype(np.float32))
    assert fitted.interval(exact).tolist() == fitted.interval(rounded).tolist()
    assert np.bincount(fitted.interval(exact)).tolist() == [10, 10, 10, 11]


def test_intervals_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(BadLabels, match="intervals"):
        DiscreteNLL(4).fit(np.array([1.0, 1, 1, 2]), np.ones(4, bool))
    with pytest.raises(BadLabels, match="0 deaths"):
        DiscreteNLL(4).fit(np.arange(1.0, 5), np.zeros(4, bool))
    for wrong in ({"bins": 1}, {"alpha": 2.0}):
        with pytest.raises(BadConfig):
            DiscreteNLL(**wrong)  # type: ignore[arg-type]
    with pytest.raises(BadConfig, match="ties"):
        Cox("exact")  # type: ignore[arg-type]


@pytest.mark.parametrize("objective", [Cox(), DiscreteNLL(4).from_state({"cuts": [5.0, 10.0, 20.0]})])
def test_survival_falls_from_one_and_higher_risk_is_worse(objective: Cox | DiscreteNLL) -> None:
    """Rule 9: higher is worse, for the risk and for the curve alike."""
    rng = np.random.default_rng(0)
    time, event = rng.exponential(10, 50) + 0.1, rng.random(50) < 0.6
    train, logits = torch.randn(50, objective.outputs), torch.linspace(-2, 2, 5)[:, None].repeat(1, objective.outputs)
    curves = objective.survival(train, time, event, logits, np.linspace(0.01, 30, 40))
    assert curves.shape == (5, 40)
    assert ((curves >= 0) & (curves <= 1)).all()
    assert (np.diff(curves, axis=1) <= 1e-12).all()
    assert (np.diff(curves[:, -1]) <= 0).all()
    assert (torch.diff(objective.risk(logits)) > 0).all()


def test_breslows_baseline_by_hand() -> None:
    # risks 0: hazards 1/3 at t=1 and 1/1 at t=3; nothing happens at t=2, who is censored
    curves = Cox().survival(
        torch.zeros(3, 1),
        np.array([1.0, 2, 3]),
        np.array([True, False, True]),
        torch.tensor([[0.0], [math.log(2)]]),
        np.array([0.5, 1.0, 2.9, 3.0, 9.0]),
    )
    steps = np.array([0, 1 / 3, 1 / 3, 4 / 3, 4 / 3])
    np.testing.assert_allclose(curves, [np.exp(-steps), np.exp(-2 * steps)], atol=1e-12)


def test_huge_risks_do_not_overflow_the_curve() -> None:
    risk = torch.tensor([[900.0], [-900.0], [0.0]])
    curves = Cox().survival(risk, np.array([1.0, 2, 3]), np.ones(3, bool), risk, np.array([0.5, 1.5, 2.5]))
    assert np.isfinite(curves).all()


@pytest.mark.shared
def test_losses_equal_the_stored_references(shared: Path) -> None:
    with np.load(shared / "parity" / "losses.npz") as file:
        stored = {key: file[key] for key in file.files}
    compared = 0
    for key, expected in stored.items():
        kind, case, *rest = [*key.split("/"), "", ""]
        if kind == "cox" and rest[0].startswith("ref_") and rest[0].endswith(("_sum", "_per_event")):
            ties = rest[0].split("_")[1]
            event = torch.tensor(stored[f"cox/{case}/event"]).bool()
            logits = torch.tensor(stored[f"cox/{case}/log_hz"], dtype=torch.float64).view(-1, 1).requires_grad_()
            loss = Cox(ties).loss(logits, torch.tensor(stored[f"cox/{case}/time"], dtype=torch.float64), event)  # type: ignore[arg-type]
            scale = int(event.sum()) if rest[0].endswith("_sum") else 1
            assert loss.item() * scale == pytest.approx(float(expected), abs=1e-9), key
            compared += 1
        if kind == "nll" and rest[0].startswith("loss_alpha"):
            alpha, reduction = rest[0].removeprefix("loss_alpha").split("_")
            logits = torch.tensor(stored[f"nll/{case}/h"], dtype=torch.float64).requires_grad_()
            objective = DiscreteNLL(logits.shape[1], float(alpha), floored=True)
            each = objective.interval_loss(
                logits,
                torch.tensor(stored[f"nll/{case}/y"]).long().flatten(),
                torch.tensor(stored[f"nll/{case}/c"]).flatten() == 0,
            )
            loss = each.mean() if reduction == "mean" else each.sum()
            (gradient,) = torch.autograd.grad(loss, logits)
            assert loss.item() == pytest.approx(float(expected), abs=1e-9), key
            np.testing.assert_allclose(gradient, stored[key.replace("loss_", "grad_")], atol=1e-9)
            np.testing.assert_allclose(objective.risk(logits.detach()), stored[f"nll/{case}/risk"].flatten(), atol=1e-9)
            compared += 1
    assert compared > 50


@pytest.mark.shared
def test_bins_equal_the_stored_references(shared: Path) -> None:
    with np.load(shared / "parity" / "labels_and_scaling.npz") as file:
        keys = {key.split("/")[1] for key in file.files if key.startswith("bins/")}
        assert keys
        for case in keys:
            stored = {k.split("/")[-1]: file[k] for k in file.files if k.startswith(f"bins/{case}/")}
            time = next(stored[k] for k in ("time", "times", "months") if k in stored)
            censored = next((stored[k] for k in ("censorship", "c", "censored") if k in stored), None)
            event = stored["event"] if censored is None else 1 - censored
            fitted = DiscreteNLL(4).fit(time.astype(float), event.astype(bool))
            assert fitted.interval(torch.tensor(time.astype(float))).tolist() == stored["label"].astype(int).tolist()


@settings(max_examples=20)
@given(st.integers(0, 100))
def test_what_is_fitted_depends_on_training_patients_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    time, event = rng.exponential(10, 60), rng.random(60) < 0.7
    assert np.array_equal(
        DiscreteNLL(4).fit(time[:40], event[:40]).cuts, DiscreteNLL(4).fit(time[:40].copy(), event[:40]).cuts
    )
    assert DiscreteNLL(4).fit(time[:40], event[:40]).state() != DiscreteNLL(4).fit(time, event).state()
