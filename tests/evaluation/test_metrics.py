"""Metrics against loops written from their definitions and stored values of other libraries; NaN where undefined."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from survbench.evaluation.groups import logrank, risk_cut, stratified_logrank
from survbench.evaluation.metrics import (
    dynamic_auc,
    harrell,
    integrated_brier,
    prediction_grid,
    prediction_horizon,
    score_fold,
    uno,
)

Rows = list[tuple[int, bool, int]]
patients = st.lists(st.tuples(st.integers(1, 6), st.booleans(), st.integers(0, 4)), min_size=2, max_size=15)


def arrays(rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    time, event, risk = (np.array(column) for column in zip(*rows, strict=True))
    return time.astype(float), event.astype(bool), risk.astype(float)


def harrell_by_pairs(time: np.ndarray, event: np.ndarray, risk: np.ndarray) -> tuple[float, int]:
    good, pairs = 0.0, 0
    for i in range(len(time)):
        for j in range(len(time)):
            if i != j and event[i] and (time[j] > time[i] or (time[j] == time[i] and not event[j])):
                pairs += 1
                good += 1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0
    return (good / pairs if pairs else math.nan), pairs


def censoring_survival(time: np.ndarray, event: np.ndarray, at: float) -> float:
    """Kaplan-Meier of the censoring times just after `at`; deaths leave before those censored at the same time."""
    survival = 1.0
    for t in np.unique(time[~event]):
        if t <= at:
            survival *= 1 - (~event & (time == t)).sum() / ((time > t) | ((time == t) & ~event)).sum()
    return survival


def cohort(n: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=n)
    death, censoring = rng.exponential(20 * np.exp(-risk)), rng.exponential(30, n)
    return np.minimum(death, censoring) + 0.01, death <= censoring, risk


@given(patients)
def test_harrell_equals_counting_pairs(rows: Rows) -> None:
    time, event, risk = arrays(rows)
    expected, pairs = harrell_by_pairs(time, event, risk)
    computed = harrell(time, event, risk)
    if pairs == 0:
        assert math.isnan(computed.value)
        assert computed.reason
    else:
        assert computed.value == pytest.approx(expected, abs=1e-12)
        assert computed.comparable == pairs


@given(patients)
def test_turning_the_risk_around_turns_c_around(rows: Rows) -> None:
    time, event, risk = arrays(rows)
    assume(harrell_by_pairs(time, event, risk)[1] > 0)
    assert harrell(time, event, -risk).value == pytest.approx(1 - harrell(time, event, risk).value, abs=1e-12)
    assert harrell(time, event, np.exp(3 * risk)).value == pytest.approx(harrell(time, event, risk).value, abs=1e-12)


def test_higher_risk_for_earlier_death_is_perfect() -> None:
    time = np.arange(1.0, 9)
    assert harrell(time, np.ones(8, bool), -time).value == 1.0
    assert harrell(time, np.ones(8, bool), np.zeros(8)).value == 0.5


@pytest.mark.parametrize(
    ("event", "risk", "reason"),
    [
        ([0, 0, 0], [1, 2, 3], "nobody died"),
        ([1, 0, 1], [1, math.nan, 2], "NaN"),
        ([0, 0, 1], [1, 2, 3], "no comparable"),
    ],
)
def test_undefined_is_nan_with_a_reason_never_zero(event: list[int], risk: list[float], reason: str) -> None:
    computed = harrell(np.array([1.0, 2, 3]), np.array(event, bool), np.array(risk))
    assert math.isnan(computed.value)
    assert reason in computed.reason
    assert math.isnan(harrell(np.array([1.0]), np.array([True]), np.array([0.0])).value)
    tied = harrell(np.ones(4), np.ones(4, bool), np.arange(4.0))
    assert math.isnan(tied.value)


def test_uno_equals_its_definition() -> None:
    (train_time, train_event, _), (time, event, risk) = cohort(200, 1), cohort(80, 2)
    horizon = float(np.quantile(time, 0.7))
    good = weight = 0.0
    for i in np.flatnonzero(event & (time < horizon)):
        w = censoring_survival(train_time, train_event, time[i]) ** -2
        for j in np.flatnonzero(time > time[i]):
            weight += w
            good += w * ((risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j]))
    assert uno(train_time, train_event, time, event, risk, horizon).value == pytest.approx(good / weight, abs=1e-9)


def test_brier_equals_its_definition() -> None:
    (train_time, train_event, _), (time, event, risk) = cohort(200, 1), cohort(80, 2)
    grid = np.linspace(np.quantile(time, 0.1), np.quantile(time, 0.7), 9)
    survival = np.exp(-np.exp(risk)[:, None] * grid / 25)
    scores = []
    for k, t in enumerate(grid):
        total = 0.0
        for i in range(len(time)):
            if time[i] <= t and event[i]:
                total += survival[i, k] ** 2 / censoring_survival(train_time, train_event, time[i])
            elif time[i] > t:
                total += (1 - survival[i, k]) ** 2 / censoring_survival(train_time, train_event, t)
        scores.append(total / len(time))
    expected = np.trapezoid(scores, grid) / (grid[-1] - grid[0])
    computed = integrated_brier(train_time, train_event, time, event, survival, grid)
    assert computed.value == pytest.approx(expected, abs=1e-9)


def test_auc_at_one_time_equals_its_definition() -> None:
    (train_time, train_event, _), (time, event, risk) = cohort(200, 1), cohort(80, 2)
    t = float(np.quantile(time, 0.5))
    cases, controls = np.flatnonzero(event & (time <= t)), np.flatnonzero(time > t)
    weights = [1 / censoring_survival(train_time, train_event, time[i]) for i in cases]
    good = sum(
        w * ((risk[i] > risk[controls]) + 0.5 * (risk[i] == risk[controls])).sum()
        for w, i in zip(weights, cases, strict=True)
    )
    computed = dynamic_auc(train_time, train_event, time, event, risk, np.array([t]))
    assert computed.value == pytest.approx(good / sum(weights) / len(controls), abs=1e-9)


def test_degenerate_folds_answer_with_reasons() -> None:
    train_time, train_event, _ = cohort(100, 1)
    grid = prediction_grid(20.0)
    time, risk = np.array([1.0, 2.0]), np.array([1.0, 0.0])
    nobody = np.zeros(2, bool)
    for value in (
        uno(train_time, train_event, time, nobody, risk, 20.0),
        dynamic_auc(train_time, train_event, time, nobody, risk, grid),
        integrated_brier(train_time, train_event, time + 1000, ~nobody, np.ones((2, 64)), grid),
        uno(train_time, train_event, time + 1000, ~nobody, risk, 20.0),
    ):
        assert math.isnan(value.value)
        assert value.reason
    beyond = uno(train_time, train_event, np.array([1.0, 1e4, 1e5]), np.array([True, True, False]), np.zeros(3), 20.0)
    assert beyond.value == pytest.approx(0.5)  # follow-up beyond training's does not matter below the horizon


def test_a_constant_per_fold_predictor_is_a_coin_within_folds_but_not_when_pooled() -> None:
    """Rule 10, planted: pooling across folds makes something out of nothing."""
    folds = []
    for k in range(5):
        time, event, _ = cohort(60, seed=k)
        folds.append((time * (1 + k), event, np.full(60, -float(k))))
    assert all(harrell(*fold).value == 0.5 for fold in folds)
    naive = harrell(*(np.concatenate(column) for column in zip(*folds, strict=True)))
    assert abs(naive.value - 0.5) > 0.05


def test_horizon_and_grid_come_from_training_patients() -> None:
    time, event = np.arange(1.0, 11), np.array([1, 1, 1, 1, 1, 1, 0, 0, 0, 0], bool)
    assert prediction_horizon(time, event) == 6.0  # the last death, before the 80th percentile
    assert prediction_horizon(time, ~event) == pytest.approx(8.2)
    grid = prediction_grid(6.0)
    assert grid[0] > 0
    assert grid[-1] == 6.0
    assert np.allclose(np.diff(grid), grid[0])


def predictions(seed: int = 0) -> pd.DataFrame:
    time, event, risk = cohort(200, seed)
    split = np.repeat(["train", "val", "test"], [120, 30, 50])
    grid = prediction_grid(prediction_horizon(time[:120], event[:120]))
    survival = np.exp(-np.exp(risk)[:, None] * grid / 20)
    return pd.DataFrame(
        {
            "patient": [f"P{i}" for i in range(200)],
            "split": split,
            "time": time,
            "event": event,
            "risk": risk,
            "survival": list(survival),
        }
    )


def test_a_fold_is_scored_on_its_test_patients_with_training_censoring() -> None:
    table = predictions()
    train, test = (table[table["split"] == s] for s in ("train", "test"))
    horizon = prediction_horizon(train["time"].to_numpy(), train["event"].to_numpy())
    grid = prediction_grid(horizon)
    computed = score_fold(table, grid, horizon)
    assert computed["cindex"].value == harrell_by_pairs(*(test[c].to_numpy() for c in ("time", "event", "risk")))[0]
    assert set(computed) == {"cindex", "comparable_pairs", "uno_c", "ibs", "auc", "d_calibration"}
    assert all(math.isfinite(v.value) for v in computed.values())
    moved = table.assign(time=np.where(table["split"] == "val", 1.0, table["time"]))
    assert score_fold(moved, grid, horizon) == computed
    empty = score_fold(table[table["split"] != "test"], grid, horizon)
    assert all(math.isnan(v.value) and v.reason for v in empty.values())


def test_without_training_patients_or_curves_only_what_takes_neither_is_defined() -> None:
    table, grid = predictions(), prediction_grid(20.0)
    full = score_fold(table, grid, 20.0)
    alone = score_fold(table[table["split"] == "test"], grid, 20.0)
    assert alone["cindex"] == full["cindex"]
    assert alone["d_calibration"] == full["d_calibration"]
    assert all("training patients" in alone[name].reason for name in ("uno_c", "auc", "ibs"))
    bare = score_fold(table.drop(columns="survival"), grid, 20.0)
    assert bare["uno_c"] == full["uno_c"]
    assert all("no survival curves" in bare[name].reason for name in ("ibs", "d_calibration"))
    nobody = score_fold(table.assign(event=table["event"] & (table["split"] == "test")), grid, 20.0)
    assert all("nobody died" in nobody[name].reason for name in ("uno_c", "auc", "ibs"))


def stored_cohort() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Times with ties, events, rounded risks and risk groups, made without a random generator."""
    place = np.arange(90)
    hazard = 0.02 * np.exp(2 * ((place * 0.6180339887498949 + 0.05) % 1) - 1)
    death = -np.log((place * 0.4142135623730951 + 0.3) % 1) / hazard / 1.3
    censored = 20 + 60 * ((place * 0.7320508075688772) % 1)
    time = np.ceil(np.minimum(death, censored) / 4) * 4
    return time, death <= censored, np.round(hazard * 100), hazard > np.median(hazard)


def test_stored_values_of_lifelines() -> None:
    """lifelines 0.30.3: `concordance_index(time, -risk, event)` and `logrank_test`, with ties in time and risk."""
    time, event, risk, high = stored_cohort()
    assert harrell(time, event, risk).value == pytest.approx(0.6369010578718108, abs=1e-9)
    assert logrank(time, event, high).statistic == pytest.approx(8.425720356236344, abs=1e-9)
    assert logrank(time, event, high).p == pytest.approx(0.0036995005076548106, abs=1e-9)


def logrank_by_tables(time: np.ndarray, event: np.ndarray, high: np.ndarray) -> tuple[float, float]:
    difference = variance = 0.0
    for t in np.unique(time[event]):
        at_risk, n_high = time >= t, (time >= t) & high
        n, n1, d = at_risk.sum(), n_high.sum(), (event & (time == t)).sum()
        difference += (event & high & (time == t)).sum() - d * n1 / n
        variance += d * n1 / n * (1 - n1 / n) * (n - d) / (n - 1) if n > 1 else 0
    return difference, variance


@given(st.lists(st.tuples(st.integers(1, 6), st.booleans(), st.booleans(), st.integers(0, 2)), min_size=4, max_size=30))
def test_logrank_equals_its_tables_plain_and_stratified(rows: list[tuple[int, bool, bool, int]]) -> None:
    time, event, high, stratum = (np.array(column) for column in zip(*rows, strict=True))
    time = time.astype(float)
    parts = [logrank_by_tables(time[s], event[s], high[s]) for s in (stratum == k for k in np.unique(stratum))]
    for computed, (difference, variance) in (
        (logrank(time, event, high), logrank_by_tables(time, event, high)),
        (stratified_logrank(time, event, high, stratum), (sum(p[0] for p in parts), sum(p[1] for p in parts))),
    ):
        if high.all() or not high.any() or not event.any() or variance < 1e-12:
            assert math.isnan(computed.p)
            assert computed.reason
        else:
            assert computed.statistic == pytest.approx(difference**2 / variance, rel=1e-9, abs=1e-12)


def test_the_cut_is_the_median_of_training_and_ties_are_low() -> None:
    cut = risk_cut(np.array([1.0, 2.0, 3.0]))
    assert cut == 2.0
    assert (np.array([1.0, 2.0, 2.5]) > cut).tolist() == [False, False, True]


@pytest.mark.shared
def test_metrics_equal_the_stored_values_of_other_libraries(shared: Path) -> None:
    with np.load(shared / "parity" / "metrics.npz") as file:
        cases = {key.split("/")[1] for key in file.files if key.startswith("m/")}
        assert len(cases) >= 4
        for case in cases:
            m = {k.removeprefix(f"m/{case}/"): file[k] for k in file.files if k.startswith(f"m/{case}/")}
            train = m["train_time"].astype(float), m["train_event"].astype(bool)
            test = m["time"].astype(float), m["event"].astype(bool)
            risk = m["risk"].astype(float)
            assert harrell(*test, risk).value == pytest.approx(float(m["cindex/0"]), abs=1e-9)
            assert harrell(*test, risk).tied == int(m["cindex/3"])
            assert uno(*train, *test, risk, float(m["tau"])).value == pytest.approx(
                float(m["cindex_ipcw_tau/0"]), abs=1e-9
            )
            times = m["brier/0"].astype(float)
            assert integrated_brier(*train, *test, m["surv_prob"].astype(float), times).value == pytest.approx(
                float(m["ibs"]), abs=1e-9
            )
            assert dynamic_auc(*train, *test, risk, times).value == pytest.approx(float(m["auc_static/1"]), abs=1e-9)
            group = m["median_group"].astype(bool)
            assert logrank(*test, group).statistic == pytest.approx(float(m["logrank_stat_sksurv"]), abs=1e-6)
            assert logrank(*test, group).p == pytest.approx(float(m["logrank_p_sksurv"]), abs=1e-6)
