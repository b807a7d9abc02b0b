"""Which rounds count, and what is made of them: made-up rounds whose figures can be worked out by hand."""

from __future__ import annotations

import math

import pytest

from benchmarks.figures import Round, figure, kept, share, speedup

BEST = 0.02


def calm(seconds: float) -> Round:
    return Round(seconds, BEST, BEST)


def test_medians_and_quartiles_are_those_of_the_seconds() -> None:
    result = figure([calm(s) for s in (0.5, 0.1, 0.3, 0.2, 0.4)], BEST)
    assert (result.seconds, result.low, result.high) == (0.3, 0.2, 0.4)
    assert (result.kept, result.dropped, result.loaded) == (5, 0, False)


def test_one_round_is_its_own_spread() -> None:
    result = figure([calm(0.1)], BEST)
    assert result.low == result.seconds == result.high == 0.1


def test_a_round_beside_a_slow_matrix_product_is_dropped() -> None:
    rounds = [calm(0.1), Round(0.9, BEST, 1.3 * BEST), Round(0.9, 1.3 * BEST, BEST), calm(0.1)]
    assert kept(rounds, BEST) == [rounds[0], rounds[3]]
    assert (figure(rounds, BEST).seconds, figure(rounds, BEST).dropped) == (0.1, 2)


def test_a_round_while_others_compute_is_dropped() -> None:
    rounds = [calm(0.1), Round(0.9, BEST, BEST, outside=0.5), Round(0.1, BEST, BEST, outside=0.2)]
    assert kept(rounds, BEST) == [rounds[0], rounds[2]]


def test_where_every_round_had_company_all_count_and_the_figure_says_so() -> None:
    result = figure([Round(0.1, BEST, BEST, outside=1.0), Round(0.3, BEST, BEST, outside=1.0)], BEST)
    assert result.loaded
    assert (result.seconds, result.kept, result.dropped) == (pytest.approx(0.2), 2, 0)


def test_share_is_of_the_product_in_the_same_rounds() -> None:
    """2 GFLOP in 20 ms are 100 GFLOP/s; 5 GFLOP in 100 ms are half of it, and remain so when all is twice as slow."""
    fast, slow = figure([calm(0.1)], BEST), figure([Round(0.2, 2 * BEST, 2 * BEST)], 2 * BEST)
    assert share(fast, 5_000_000_000, 2e9) == pytest.approx(0.5)
    assert share(slow, 5_000_000_000, 2e9) == pytest.approx(0.5)
    assert math.isnan(share(fast, None, 2e9))


def test_a_speed_up_compares_products_per_patient() -> None:
    """On a machine of half the speed, 8 patients in 0.4 s are what one patient in 0.1 s is not: four times faster."""
    before, after = figure([calm(0.1)], BEST), figure([Round(0.4, 2 * BEST, 2 * BEST)], 2 * BEST)
    assert speedup(before, after, 1, 8) == pytest.approx(4)
