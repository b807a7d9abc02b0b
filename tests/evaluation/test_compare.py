"""Paired differences against hand-computed numbers, explicit resampling and scikit-survival."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sksurv.metrics import concordance_index_censored

from survbench.evaluation.compare import (
    FoldPair,
    bootstrap_cindex,
    comparable,
    compare,
    corrected_t,
    holm,
    mean_difference,
    unknown,
)
from survbench.evaluation.metrics import harrell


def fold(seed: int, patients: int = 40, better: float = 1.0, seeds: int = 1) -> FoldPair:
    """The first model sees the hazard with noise of size 1, the second with less of the signal."""
    rng = np.random.default_rng(seed)
    hazard = rng.normal(size=patients)
    time = np.ceil(rng.exponential(np.exp(-hazard)) * 10)
    event = rng.random(patients) < 0.6
    noise = rng.normal(size=(2, seeds, patients))
    return FoldPair(time, event, better * hazard + noise[0], hazard + noise[1])


def test_the_corrected_t_equals_the_formula_by_hand() -> None:
    """Of 0.02, 0.04, 0.01, 0.03, 0.05: mean 0.03, s^2 = 0.00025, se = sqrt(0.00025 (1/5 + 1/4)) = 0.0106066."""
    mean, low, high, p = corrected_t(np.array([0.02, 0.04, 0.01, 0.03, 0.05]))
    assert mean == pytest.approx(0.03)
    assert high - mean == pytest.approx(2.7764451 * 0.010606602, rel=1e-6)  # t(0.975, 4)
    assert low == pytest.approx(mean - (high - mean))
    assert p == pytest.approx(0.0473, abs=2e-4)  # t = 2.8284 on 4 degrees of freedom


@pytest.mark.parametrize(("values", "p"), [([0.0, 0.0, 0.0], 1.0), ([0.1, 0.1, 0.1], 0.0)])
def test_no_spread_is_no_uncertainty(values: list[float], p: float) -> None:
    assert corrected_t(np.array(values))[1:] == pytest.approx((values[0], values[0], p))


def test_one_fold_has_no_interval() -> None:
    mean, *rest = corrected_t(np.array([0.1]))
    assert mean == pytest.approx(0.1)
    assert all(map(math.isnan, rest))


def test_the_bootstrap_equals_explicit_resampling() -> None:
    pair = fold(3, patients=30)
    got = bootstrap_cindex(pair.time, pair.event, np.vstack([pair.first, pair.second]), resamples=25, seed=7)
    draws = np.random.default_rng(7).multinomial(30, np.full(30, 1 / 30), size=25)
    for i, counts in enumerate(draws):
        rows = np.repeat(np.arange(30), counts)
        for model, risk in enumerate((pair.first[0], pair.second[0])):
            expected = concordance_index_censored(pair.event[rows], pair.time[rows], risk[rows])[0]
            assert got[model, i] == pytest.approx(expected, abs=1e-6)


@given(st.integers(0, 10_000))
def test_unweighted_it_is_harrells_c(seed: int) -> None:
    pair = fold(seed, patients=15)
    risk = np.round(pair.first[0], 1)  # ties
    expected = harrell(pair.time, pair.event, risk)
    assert comparable(pair.time, pair.event).sum() == expected.comparable
    computed = compare([FoldPair(pair.time, pair.event, risk[None], np.zeros((1, 15)))] * 2)
    if expected.comparable:
        assert computed.mean == pytest.approx(expected.value - 0.5, abs=1e-6)
    else:
        assert "no comparable pair" in computed.reason


@given(st.integers(0, 1000))
def test_swapping_the_models_turns_the_sign(seed: int) -> None:
    folds = [fold(seed + i) for i in range(3)]
    one = compare(folds)
    other = compare([FoldPair(f.time, f.event, f.second, f.first) for f in folds])
    assert one.mean == pytest.approx(-other.mean)
    assert (one.low, one.high, one.p) == pytest.approx((-other.high, -other.low, other.p))
    assert (one.patient_low, one.patient_high) == pytest.approx((-other.patient_high, -other.patient_low))


def test_a_model_does_not_differ_from_itself() -> None:
    folds = [FoldPair(f.time, f.event, f.first, f.first) for f in (fold(1), fold(2))]
    computed = compare(folds)
    assert (computed.mean, computed.low, computed.high, computed.p) == (0.0, 0.0, 0.0, 1.0)
    assert not computed.clear


def test_seeds_do_not_count_as_folds() -> None:
    """Three copies of one seed give the interval of one."""
    folds = [fold(i) for i in range(5)]
    thrice = [FoldPair(f.time, f.event, np.repeat(f.first, 3, 0), np.repeat(f.second, 3, 0)) for f in folds]
    assert compare(thrice).low == pytest.approx(compare(folds).low)


def test_a_large_difference_is_clear_and_noise_is_not() -> None:
    assert compare([fold(i, patients=200, better=6.0) for i in range(5)]).clear
    clear = [compare([fold(100 * i + j, patients=60) for j in range(5)]).clear for i in range(60)]
    assert np.mean(clear) < 0.1


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Under no difference the corrected interval holds 0 at least as often as 95 % within sampling error."""
    held = [(d := compare([fold(1000 * i + j, patients=50) for j in range(5)])).low <= 0 <= d.high for i in range(150)]
    assert np.mean(held) > 0.9


def test_the_mean_over_cohorts_adds_variances() -> None:
    cohorts = [compare([fold(10 * c + i) for i in range(5)], seed=c) for c in range(4)]
    computed = mean_difference(cohorts)
    assert computed.mean == pytest.approx(np.mean([c.mean for c in cohorts]))
    widths = [c.high - c.low for c in cohorts]
    assert computed.high - computed.low < max(widths)
    assert mean_difference(cohorts[:1]) is cohorts[0]
    assert mean_difference([cohorts[0], unknown("why")]).reason == "why"


def test_the_mean_over_cohorts_of_one_fold_each_has_no_interval_over_folds() -> None:
    computed = mean_difference([compare([fold(i, patients=100, better=6.0)]) for i in range(2)])
    assert math.isnan(computed.p)
    assert not computed.clear
    assert computed.patient_low > 0


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": math.nan}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": math.nan}, nan_ok=True
    )
