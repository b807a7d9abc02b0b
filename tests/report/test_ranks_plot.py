"""The critical-difference diagram shows the result of the test."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from survbench.evaluation.ranks import critical_difference
from survbench.report.plots.ranks import plot_ranks


@pytest.fixture
def axes() -> Iterator[Axes]:
    figure = Figure(figsize=(8, 3))
    yield figure.add_subplot()
    figure.canvas.draw()  # every text has a place, whatever it contains


def texts(axes: Axes) -> list[str]:
    return [text.get_text().strip() for text in axes.texts]


def test_ranks_ties_and_the_bars_of_groups(axes: Axes) -> None:
    scores = pd.DataFrame({f"c{i}": [0.7, 0.6, 0.6, 0.2] for i in range(8)}, index=["$x^$", "b", "<c>", "d"])
    ranks = critical_difference(scores)
    plot_ranks(ranks, axes)
    shown = texts(axes)
    assert "$x^$  1.00" in shown
    assert "b = <c>  2.50 (tied)" in shown
    assert "d  4.00" in shown
    assert any(f"critical difference {ranks.distance:.2f}" in text and "Friedman p" in text for text in shown)
    bars = [line.get_xdata() for line in axes.lines if line.get_linewidth() == 4]
    assert [(min(x), max(x)) for x in bars] == [
        pytest.approx((ranks.ranks[g[0]], ranks.ranks[g[-1]]), abs=0.1) for g in ranks.groups
    ]
    assert len(bars) == 2


def test_the_numbers_of_many_ranks_stand_apart(axes: Axes) -> None:
    scores = pd.DataFrame(
        {f"c{i}": [float(k) for k in range(27)] for i in range(4)}, index=[f"m{k}" for k in range(27)]
    )
    plot_ranks(critical_difference(scores), axes)
    canvas = FigureCanvasAgg(axes.get_figure(root=True))
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in axes.texts if text.get_text().isdigit()]
    assert len(boxes) > 4
    assert all(one.x1 + 4 < other.x0 for one, other in pairwise(boxes))


def test_no_verdict_without_a_test(axes: Axes) -> None:
    plot_ranks(critical_difference(pd.DataFrame({"stad": [0.7, 0.6]}, index=["a", "b"])), axes)
    assert any("no critical difference: it takes 3 models" in text for text in texts(axes))


def test_no_ranks_have_a_reason(axes: Axes) -> None:
    plot_ranks(critical_difference(pd.DataFrame({"stad": [0.7, math.nan]}, index=["a", "b"])), axes)
    assert texts(axes) == ["no ranks: there is no figure for b on stad"]
