"""A metric or a column that is added in one place appears in every output."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from support.job_folders import write_row
from support.pages import external_row
from survbench.evaluation import metrics
from survbench.evaluation.metrics import METRICS, Metric, Value
from survbench.leaderboard.aggregate import build
from survbench.leaderboard.board import Leaderboard
from survbench.report import columns
from survbench.report.columns import RowColumn, to_csv, to_frame, to_plain
from survbench.report.page.write import page_html
from survbench.report.studies import external_markdown
from survbench.report.tables import to_markdown, to_rich
from survbench.studies.external_validation import external_plain


def deaths(fold: metrics.FoldPredictions) -> Value:
    return Value(float(fold.test[1].sum()))


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Leaderboard]:
    """Two models, after a metric was added and then a column."""
    added = Metric(title="Deaths", meaning="test patients who died", larger_is_better=True, compute=deaths)
    monkeypatch.setitem(METRICS, "deaths", added)
    seeds = RowColumn(
        name="first_seed", value=lambda of: of.row.seeds[0], label="first seed", text=lambda row: f"no. {row.seeds[0]}"
    )
    columns.COLUMNS.append(seeds)
    for model in ("snn", "abmil"):
        write_row(tmp_path, model, seeds=(7,))
    yield build(tmp_path)
    columns.COLUMNS.remove(seeds)


def terminal(board: Leaderboard, metric: str) -> str:
    console = Console(file=io.StringIO(), width=120, highlight=False)
    console.print(to_rich(board, metric))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_metric_appears_everywhere(board: Leaderboard, tmp_path: Path) -> None:
    expected = board.rows[0].metrics["deaths"].mean
    assert expected > 0
    for text in (terminal(board, "deaths"), to_markdown(board, "deaths"), page_html(board, [], tmp_path, "deaths")):
        assert "Deaths" in text
        assert "test patients who died" in text
        assert f"{expected:.3f} ±" in text
    (mean, other) = pd.read_csv(io.StringIO(to_csv(board, "deaths")))["mean"]
    assert mean == other == expected
    assert set(to_frame(board, "deaths")["mean"]) == {expected}
    assert [row["metrics"]["deaths"]["mean"] for row in to_plain(board)["rows"] if row["source"] == "measured"] == [
        expected,
        expected,
    ]
    row = replace(external_row(), metrics={"deaths": {"mean": expected, "sd": 0.0, "reason": ""}})
    for text in (external_markdown([row], "deaths"), page_html(board, [row], tmp_path)):
        assert "Deaths" in text  # on the page beside the metric that is shown
    assert external_plain([row])[0]["metrics"]["deaths"]["mean"] == expected


def test_a_column_appears_everywhere(board: Leaderboard, tmp_path: Path) -> None:
    for text in (terminal(board, "cindex"), to_markdown(board), page_html(board, [], tmp_path)):
        assert "first seed" in text
        assert "no. 7" in text
    rows = pd.read_csv(io.StringIO(to_csv(board)))
    assert set(rows.loc[rows["source"] == "measured", "first_seed"]) == {7}
    assert set(to_frame(board)["first_seed"]) == {7}
    assert {row["first_seed"] for row in to_plain(board)["rows"] if row["source"] == "measured"} == {7}
