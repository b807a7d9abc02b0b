"""Differences beside a row, and the figures of its risk groups."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from support.job_folders import write_row
from survbench.evaluation.groups import logrank, stratified_logrank
from survbench.leaderboard.aggregate import build
from survbench.report.columns import to_plain
from survbench.report.plots.kaplan_meier import plot_risk_groups, risk_groups
from survbench.report.tables import to_markdown, to_rich

BESIDE = {"beside": ["snn"], "title": "AMKD", "modality": "missing"}


def test_a_difference_stands_beside_the_row_that_asks_for_it(tmp_path: Path) -> None:
    """Perfect order against its reverse: 1 - 0 in every fold, without spread."""
    for cohort in ("stad", "crad"):
        write_row(tmp_path, "amkd", cohort=cohort, card=BESIDE, risks=(3.0, 2.0, 1.0))
        write_row(tmp_path, "snn", cohort=cohort, risks=(1.0, 2.0, 3.0))
    (table,) = build(tmp_path).tables
    (pair,) = table.contrasts
    assert (pair.first.model, pair.second.model) == ("amkd", "snn")
    assert [found.mean for found in pair.cohorts.values()] == [1.0, 1.0]
    assert pair.mean is not None
    assert pair.mean.mean == 1.0
    console = Console(width=160, record=True)
    console.print(to_rich(build(tmp_path)))
    for text in (console.export_text(), to_markdown(build(tmp_path))):
        assert "AMKD − SNN" in text
        assert "corrected resampled t" in text
    listed = to_plain(build(tmp_path))["differences"]
    assert {d["cohort"] for d in listed} == {"stad", "crad", "mean over cohorts"}
    assert all(d["first"] == "amkd" and d["second"] == "snn" and d["mean"] == 1.0 for d in listed)


def test_what_was_not_run_is_asked_for(tmp_path: Path) -> None:
    write_row(tmp_path, "amkd", card=BESIDE)
    board = build(tmp_path)
    assert board.tables[0].contrasts == ()
    (note,) = [n for n in board.notes if "beside" in n]
    assert "survbench run --model snn --cohort stad" in note


def test_seeds_are_paired_and_other_seeds_are_not(tmp_path: Path) -> None:
    write_row(tmp_path, "amkd", card=BESIDE, seeds=(0, 1))
    write_row(tmp_path, "snn", seeds=(2,))
    (pair,) = build(tmp_path).tables[0].contrasts
    (found,) = pair.cohorts.values()
    assert "no seed in common" in found.reason


def test_the_figure_says_what_the_tests_say(tmp_path: Path) -> None:
    write_row(tmp_path, "snn", risks=(3.0, -2.0, -1.0), simulated="slides", seeds=(0, 1))
    board = build(tmp_path)
    (row,) = board.rows
    (record,) = plot_risk_groups(board, tmp_path / "figures")
    patients, pooled, stratified = risk_groups(row, 0)
    assert len(patients) == len(row.labels)
    assert record["high"]["patients"] + record["low"]["patients"] == len(patients)
    columns = [patients[c].to_numpy() for c in ("time", "event", "high", "fold")]
    assert record["p_pooled"] == pytest.approx(logrank(*columns[:3]).p) == pooled.p
    assert record["p_stratified"] == pytest.approx(stratified_logrank(*columns).p) == stratified.p
    assert record["simulated"] is True
    assert Path(record["file"]).stat().st_size > 10_000


def test_one_group_alone_is_drawn_and_has_no_p(tmp_path: Path) -> None:
    write_row(tmp_path, "snn", risks=(3.0, 2.0, 1.0))
    (record,) = plot_risk_groups(build(tmp_path), tmp_path / "figures")
    assert record["p_pooled"] is None
    assert "high-risk group" in record["reason"]
