"""Titles of figures are readable whole and their files have plain names, whatever stands in them."""

from __future__ import annotations

import io

import pytest
from matplotlib import pyplot as plt

from survbench.report.plots.figures import file_name, subplots, title_figure


@pytest.mark.parametrize("inches", [3, 5, 14])
def test_a_title_stays_inside_its_figure_and_off_its_panels(inches: int) -> None:
    figure, axes = plt.subplots(figsize=(inches, 4), layout="constrained")
    title_figure(figure, "AMKD on stad, $a$ test patient of fold 0 WITH MANY WIDE LETTERS " * 3 + "\nsecond line")
    figure.canvas.draw()
    title, panel = figure._suptitle.get_window_extent(), axes.get_tightbbox()
    assert title.x0 >= 0
    assert title.x1 <= figure.bbox.x1
    assert title.y0 >= panel.y1
    assert "$a$" in figure.get_suptitle().replace("\n", " ")
    assert figure.get_suptitle().endswith("\nsecond line")
    plt.close(figure)


def test_files_have_plain_names() -> None:
    assert file_name("km", "my/model", "", "dropout=0.5 (half)", "a.b+c") == "km-my_model-dropout_0.5_half-a.b+c.png"


def test_names_in_a_figure_are_no_formulas() -> None:
    figure, axis = subplots(figsize=(3, 3))
    axis.set_title("mode=$\\foo{$")
    axis.set_yticks([0], ["$a$"])
    axis.plot([0, 1], [0, 1], label="$\\frac{$")
    axis.legend()
    figure.savefig(io.BytesIO())
    assert not any(text.get_parse_math() for text in axis.get_legend().get_texts())
    assert axis.get_yticklabels()[0].get_text() == "$a$"
