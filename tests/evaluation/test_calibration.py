"""D-calibration by hand, against stored values of SurvivalEVAL, and under models whose calibration is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from survbench.evaluation.calibration import BINS, bin_counts, calibration_bins, d_calibration, survival_at

GRID = np.array([10.0, 20.0])


def golden(count: int, step: float, start: float) -> np.ndarray:
    """Spread over (0, 1) without a random generator, so that stored values stay valid."""
    return (np.arange(count) * step + start) % 1


def cohort(count: int = 90) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Time, event and exponential hazards; the true hazards are 1.3 times as large."""
    hazard = 0.02 * np.exp(2 * golden(count, 0.6180339887498949, 0.05) - 1)
    death = -np.log(golden(count, 0.4142135623730951, 0.3)) / hazard / 1.3
    censored = 20 + 60 * golden(count, 0.7320508075688772, 0.0)
    return np.minimum(death, censored), death <= censored, hazard


def test_probabilities_are_read_off_the_curve_by_hand() -> None:
    """The curve goes through (0, 1), (10, 0.8), (20, 0.4); what lies beyond is read at 20."""
    curves = np.tile([0.8, 0.4], (5, 1))
    computed = survival_at(np.array([0.0, 5.0, 10.0, 15.0, 99.0]), curves, GRID)
    assert computed == pytest.approx([1.0, 0.9, 0.8, 0.6, 0.4])


def test_bins_by_hand() -> None:
    """Deaths at S = 0.95 and S = 0.4 are one each in [0.9, 1] and [0.4, 0.5).

    Censored at S = 0.25: 0.05/0.25 in [0.2, 0.3), 0.1/0.25 in each below. The death at 30 months counts as censored at
    20, S = 0.5: nothing in [0.5, 0.6), a fifth in each below. Censored at S = 0: all of it in the lowest.
    """
    time = np.array([2.5, 20.0, 20.0, 30.0, 20.0])
    event = np.array([True, True, False, True, False])
    curves = np.array([[0.8, 0.4], [0.8, 0.4], [0.8, 0.25], [0.8, 0.5], [0.8, 0.0]])
    computed = bin_counts(time, event, curves, GRID)
    assert computed == pytest.approx([0.4 + 0.2 + 1, 0.4 + 0.2, 0.2 + 0.2, 0.2, 1 + 0.2, 0, 0, 0, 0, 1])


def test_chi_squared_by_hand() -> None:
    """20 deaths, all in the highest bin: 2 expected in each, 18^2 / 2 + 9 * 2^2 / 2 = 180."""
    computed = d_calibration(np.ones(20), np.ones(20, bool), np.tile([0.99, 0.98], (20, 1)), GRID)
    assert computed.counts[-1] == 20
    assert computed.statistic == pytest.approx(180.0)
    assert computed.p < 1e-30
    even = d_calibration(
        np.full(10, 20.0), np.ones(10, bool), np.column_stack([np.ones(10), np.arange(10) / 10 + 0.05]), GRID
    )
    assert (even.statistic, even.p) == pytest.approx((0.0, 1.0))


def test_stored_values_of_survivaleval() -> None:
    """SurvivalEVAL 0.9.0, `SurvivalEvaluator(..., interpolation="Linear").d_calibration()`, highest bin first there.

    It was given the times cut at 40 months and the curves with 1 at 0 in front.
    """
    time, event, hazard = cohort()
    grid = 40 * np.arange(1, 65) / 64
    computed = d_calibration(time, event, np.exp(-hazard[:, None] * grid), grid)
    highest_first = [11.0, 12.076401658761199, 10.514099983197777, 8.970250794827738, 10.0853639592126]
    highest_first += [8.897897719803987, 7.241604801884537, 6.738127027437388, 7.474587479313658, 7.001666575561118]
    assert computed.counts[::-1] == pytest.approx(highest_first, abs=1e-9)
    assert computed.p == pytest.approx(0.9412954509079662, abs=1e-9)


def test_stored_values_of_survivaleval_at_the_edges() -> None:
    """SurvivalEVAL 0.9.0, `d_calibration(probabilities, event)`; deaths at 1 and 0.3, censored at 0 and 1 too."""
    at = np.concatenate([golden(60, 0.6180339887498949, 0.05) ** 0.7, [1.0, 0.3, 0.0, 1.0]])
    event = np.concatenate([np.arange(60) % 3 != 0, [True, True, False, False]])
    computed = d_calibration(np.full(64, 20.0), event, np.column_stack([np.ones(64), at]), GRID)
    assert computed.statistic == pytest.approx(1.8333165197751113, abs=1e-9)
    assert computed.p == pytest.approx(0.993837492886092, abs=1e-9)
    assert computed.counts[-1] == pytest.approx(7.153171163872224, abs=1e-9)


def test_true_curves_pass_and_wrong_ones_do_not() -> None:
    """Over 200 cohorts the true curve is rejected no more often than 5 %, one of half the hazard nearly always."""
    rng = np.random.default_rng(0)
    grid = 60 * np.arange(1, 65) / 64
    rejected = {1.0: 0, 0.5: 0}
    for _ in range(200):
        hazard = 0.03 * np.exp(rng.normal(size=200))
        death, censored = rng.exponential(1 / hazard), rng.uniform(10, 120, 200)
        for factor in rejected:
            curves = np.exp(-factor * hazard[:, None] * grid)
            computed = d_calibration(np.minimum(death, censored), death <= censored, curves, grid)
            rejected[factor] += computed.p < 0.05
    assert rejected[1.0] <= 20  # 10 expected at most: censored patients are spread
    assert rejected[0.5] >= 190


def test_folds_are_pooled_bin_by_bin() -> None:
    time, event, hazard = cohort()
    grid = 40 * np.arange(1, 65) / 64
    curves = np.exp(-hazard[:, None] * grid)
    parts = [bin_counts(time[i::3], event[i::3], curves[i::3], grid) for i in range(3)]
    together = calibration_bins(parts)
    assert together.counts == pytest.approx(d_calibration(time, event, curves, grid).counts)
    assert together.p == pytest.approx(d_calibration(time, event, curves, grid).p)
    assert together.patients == 90


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"event": np.zeros(12, bool)}, "nobody died"),
        ({"time": np.full(12, 21.0)}, "nobody died within the 20.0 months"),
        ({"survival": np.full((12, 2), np.nan)}, "NaN"),
        ({"survival": np.full((12, 2), 1.2)}, "leaves [0, 1]"),
        ({"survival": np.empty((12, 0)), "grid": np.empty(0)}, "no times"),
    ],
)
def test_degenerate_folds_have_no_p_and_a_reason(changes: dict[str, np.ndarray], reason: str) -> None:
    fold = {"time": np.ones(12), "event": np.ones(12, bool), "survival": np.full((12, 2), 0.5), "grid": GRID} | changes
    computed = d_calibration(**fold)
    assert math.isnan(computed.p)
    assert reason in computed.reason


def test_few_patients_nobody_and_undefined_folds_have_no_p() -> None:
    few = d_calibration(np.ones(9), np.ones(9, bool), np.full((9, 2), 0.5), GRID)
    assert math.isnan(few.p)
    assert "9 patients" in few.reason
    assert sum(few.counts) == 9
    assert "no patient" in d_calibration(np.empty(0), np.empty(0, bool), np.empty((0, 2)), GRID).reason
    assert "fold 1 has no bins" in calibration_bins([np.ones(BINS), np.full(BINS, math.nan)]).reason
    assert "no fold" in calibration_bins([]).reason


@given(st.lists(st.tuples(st.floats(0, 40), st.booleans(), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30))
def test_every_patient_is_counted_once(rows: list[tuple[float, bool, float, float]]) -> None:
    time, event, first, second = (np.array(column) for column in zip(*rows, strict=True))
    curves = np.column_stack([np.maximum(first, second), np.minimum(first, second)])
    counts = bin_counts(time, event, curves, GRID)
    assert counts.sum() == pytest.approx(len(rows))
    assert (counts >= 0).all()
