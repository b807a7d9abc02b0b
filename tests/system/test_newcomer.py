"""A newcomer's first hour: look around, try a model, finish what the board lists as missing, look at the results."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from support.commands import Command

TRIED = ("run", "--model", "snn", "--cohort", "stad", "--preset", "rehearsal", "--no-mlflow")


@pytest.mark.slow
def test_from_an_empty_folder_to_explained_results(survbench: Command, tmp_path: Path) -> None:
    assert "snn" in survbench("models").stdout
    assert "simulated" in survbench("cohorts").stdout
    assert "event-stratified" in survbench("folds", "--cohort", "stad").stdout
    first = survbench(*TRIED, "--scheme", "event-stratified", "--only-folds", "0")
    assert "1 jobs done" in first.stderr
    assert "warning: --fold" not in first.stderr
    older = survbench(*TRIED, "--folds", "event-stratified", "--fold", "0")
    assert "0 jobs done, 1 were done before" in older.stderr
    assert "--folds is now called --scheme" in older.stderr
    assert "--fold is now called --only-folds" in older.stderr

    board = json.loads(survbench("leaderboard", "--format", "json").stdout)
    (refused,) = board["refused"]
    command = shlex.split(refused["reason"][refused["reason"].index("survbench run") :])
    finished = survbench(*command[1:], "--no-mlflow")
    assert "4 jobs done" in finished.stderr
    assert "warning: --" not in finished.stderr
    board = json.loads(survbench("leaderboard", "--format", "json").stdout)
    (row,) = [row for row in board["rows"] if row["source"] == "measured"]
    assert (row["model"], row["simulated"], len(row["metrics"]["cindex"]["per_fold"])) == ("snn", True, 5)

    (groups,) = json.loads(survbench("km", "--json").stdout)
    assert (tmp_path / groups["file"]).exists()
    explained = survbench(
        "explain", "attribution", "--model", "snn", "--cohort", "stad", "--preset", "rehearsal", "--json"
    )
    assert (tmp_path / json.loads(explained.stdout)[0]["file"]).exists()
    survbench("leaderboard", "--html", "board.html")
    assert (tmp_path / "board.html").stat().st_size > 10_000
