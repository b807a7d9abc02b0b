"""External predictions: what a file may say, what is refused, and where its rows stand."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from rich.console import Console

from support.job_folders import patients, write_row
from survbench.cli import cli
from survbench.data.root import CohortContent, CohortInfo, DataRoot
from survbench.errors import BadFile, BadLabels, SurvbenchError
from survbench.evaluation.metrics import METRICS, harrell
from survbench.leaderboard.aggregate import build
from survbench.leaderboard.board import EXTERNAL, Leaderboard
from survbench.leaderboard.external_file import read_predictions_file
from survbench.leaderboard.external_predictions import NOT_STATED, read_rows
from survbench.report.columns import to_csv, to_plain
from survbench.report.tables import to_markdown, to_rich

TABLE = patients()


def predicted(model: str = "theirs", cohort: str = "stad", table: pd.DataFrame = TABLE) -> pd.DataFrame:
    """Test predictions in perfect order, with the labels of `jobs.patients`."""
    return pd.DataFrame(
        {
            "model": model,
            "cohort": cohort,
            "fold": table["fold"],
            "case": table["patient"],
            "risk": -table["time"],
            "time": table["time"],
            "event": table["event"].astype(int),
        }
    )


def with_training(table: pd.DataFrame) -> pd.DataFrame:
    """Every patient in every fold, on the side where the fold has them."""
    folds = table["fold"].unique()
    return pd.concat(
        [table.assign(fold=fold, split=np.where(table["fold"] == fold, "test", "train")) for fold in folds]
    )


def saved(folder: Path, table: pd.DataFrame) -> Path:
    file = folder / "theirs.csv"
    table.to_csv(file, index=False)
    return file


def board_of(folder: Path, table: pd.DataFrame, endpoint: str | None = None, **options: str) -> Leaderboard:
    rows, refused = read_rows(
        saved(folder, table), None, endpoint, **{"censorship": None, "time_unit": "months"} | options
    )
    assert not refused
    return build(folder, external_predictions=rows)


def test_they_share_the_column_of_exactly_the_same_patients_labels_and_folds(tmp_path: Path) -> None:
    write_row(tmp_path, "snn", risks=(1.0, 2.0, 3.0), simulated="all")
    board = board_of(tmp_path, predicted())
    (table,) = board.tables
    assert table.endpoint == "os"
    assert [(line.model, line.source) for line in table.lines] == [("snn", "measured"), ("theirs", EXTERNAL)]
    theirs = next(row for row in board.rows if row.source == EXTERNAL)
    assert theirs.metrics["cindex"].mean == 1.0
    assert theirs.simulated == "all"
    console = Console(width=160, record=True)
    console.print(to_rich(board))
    for text in (console.export_text(), to_markdown(board), to_csv(board)):
        assert "external predictions" in text
    document = to_plain(board)
    sources = {(row["model"], row["source"]) for row in document["rows"]}
    assert sources == {("snn", "measured"), ("theirs", EXTERNAL), ("snn", "published")}


@pytest.mark.parametrize(
    "changed",
    [
        {"time": lambda t: t["time"] + 0.01},
        {"event": lambda t: np.where(t["case"] == "TCGA-P0-0000", 0, t["event"])},
        {"fold": lambda t: (t["fold"] + (t["case"] == "TCGA-P0-0000") * 1) % 3},
        {"case": lambda t: t["case"].replace("TCGA-P0-0000", "TCGA-P9-9999")},
    ],
    ids=["time", "event", "fold", "patient"],
)
def test_on_any_other_content_they_are_ranked_by_themselves(tmp_path: Path, changed: dict[str, Callable]) -> None:
    """Rule 20, planted: nearly the same is another column and another table."""
    write_row(tmp_path, "snn")
    board = board_of(tmp_path, predicted().assign(**changed))
    assert len(board.tables) == 2
    assert [[line.model for line in table.lines] for table in board.tables] == [["snn"], ["theirs"]]
    assert board.tables[1].endpoint == NOT_STATED
    assert board.tables[1].kind == "data not known here"
    assert any("ranked by themselves" in note for note in board.notes)
    assert any("never ranked together" in note for note in board.notes)
    assert next(row for row in to_plain(board)["rows"] if row["source"] == EXTERNAL)["simulated"] is None


def test_another_outcome_or_simulated_slides_are_another_table(tmp_path: Path) -> None:
    write_row(tmp_path, "snn")
    assert len(board_of(tmp_path, predicted(), endpoint="dss").tables) == 2
    assert len(board_of(tmp_path, predicted(), endpoint="os").tables) == 1
    write_row(tmp_path / "slides", "snn", simulated="slides")
    assert len(board_of(tmp_path / "slides", predicted()).tables) == 2


def test_every_metric_equals_that_of_the_suite_where_training_patients_are_given(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = patients(folds=3, per_fold=40).assign(event=rng.random(120) < 0.6)
    table = table.assign(time=np.round(rng.exponential(20, 120) + 0.1, 3))
    risk = dict(zip(table["patient"], rng.normal(size=120), strict=True))
    given = with_training(predicted(table=table).assign(risk=table["patient"].map(risk)))
    board = board_of(tmp_path, given)
    (row,) = board.rows
    assert math.isfinite(row.metrics["uno_c"].mean)
    assert math.isfinite(row.metrics["auc"].mean)
    assert math.isfinite(row.logrank_p_stratified)
    assert all("no survival curves" in row.metrics[name].reason for name in ("ibs", "d_calibration"))
    first = given[(given["fold"] == 0) & (given["split"] == "test")]
    assert row.metrics["cindex"].per_fold[0] == harrell(first["time"], first["event"], first["risk"]).value
    bare = board_of(tmp_path, given[given["split"] == "test"].drop(columns="split")).rows[0]
    assert bare.metrics["cindex"] == row.metrics["cindex"]
    assert all("no training patients" in bare.metrics[name].reason for name in ("uno_c", "auc"))
    assert "none is made up" in bare.logrank_reason
    assert math.isnan(bare.logrank_p)
    assert set(bare.metrics) == set(METRICS)


def test_censorship_is_inverted_and_days_become_months(tmp_path: Path) -> None:
    mixed = predicted().assign(event=lambda t: (t["time"] < 3).astype(int))
    plain, _ = read_predictions_file(saved(tmp_path, mixed))
    for column in ("censorship", "Censored_at_end"):
        turned = mixed.assign(**{column: 1 - mixed["event"], "time": mixed["time"] * 30.4375}).drop(columns="event")
        found, _ = read_predictions_file(saved(tmp_path, turned), time_unit="days")
        pd.testing.assert_frame_equal(found, plain)
    named = mixed.assign(alive=1 - mixed["event"]).drop(columns="event")
    found, _ = read_predictions_file(saved(tmp_path, named), censorship="alive")
    pd.testing.assert_frame_equal(found, plain)


def test_seeds_and_folds_by_any_name(tmp_path: Path) -> None:
    two = pd.concat([predicted().assign(seed=seed, risk=lambda t, s=seed: t["risk"] * (1 - 2 * s)) for seed in (0, 1)])
    (row,) = board_of(tmp_path, two.assign(fold="fold " + two["fold"].astype(str))).rows
    assert row.seeds == (0, 1)
    assert row.metrics["cindex"].mean == 0.5
    assert row.metrics["cindex"].sd_seeds == 0.5
    (row,) = board_of(tmp_path, predicted().assign(fold=TABLE["fold"] + 9)).rows  # 9, 10, 11
    assert row.labels == frozenset(zip(TABLE["fold"], TABLE["patient"], TABLE["time"], TABLE["event"], strict=True))


def test_models_that_score_other_patients_are_refused(tmp_path: Path) -> None:
    short = predicted("short").iloc[1:]
    seeds = pd.concat([predicted("moving").assign(seed=0), predicted("moving").assign(seed=1).iloc[1:]])
    file = saved(tmp_path, pd.concat([predicted("full").assign(seed=0), short.assign(seed=0), seeds]))
    rows, refused = read_rows(file, None, None, censorship=None, time_unit="months")
    board = build(tmp_path, external_predictions=rows)
    assert [row.model for row in board.rows] == ["full"]
    assert any("8 patients" in refusal.reason for refusal in board.refused)
    assert "its seeds were scored on different patients" in refused[0].reason


def test_a_fold_without_pairs_is_undefined_with_its_reason(tmp_path: Path) -> None:
    alive = predicted().assign(event=lambda t: np.where(t["fold"] == 1, 0, t["event"]))
    (row,) = board_of(tmp_path, alive).rows
    assert math.isnan(row.metrics["cindex"].mean)
    assert row.metrics["cindex"].reason == "fold 1: nobody died"


def test_labels_of_a_known_cohort(tmp_path: Path) -> None:
    people = TABLE.rename(columns={"time": "os_months"}).assign(os_event=1).drop(columns=["fold", "event"])
    root = DataRoot.create(tmp_path / "root", simulated=True)
    info = CohortInfo(name="stad", simulated=True)
    text = people.astype(str).assign(site="", age="", sex="", stage="", grade="")
    nothing = pd.DataFrame(columns=["patient", "slide", "file"])
    root.write(CohortContent(info=info, patients=text, slides=nothing))
    bare = predicted().drop(columns=["time", "event"])
    rows, _ = read_rows(saved(tmp_path, bare), root, "OS", censorship=None, time_unit="months")
    assert rows[0].metrics["cindex"].mean == 1.0
    assert (rows[0].identity["endpoint"], rows[0].simulated) == ("os", "all")
    for changes, endpoint, text_ in (
        ({"case": "nobody"}, "os", "is no patient of stad with a os label"),
        ({"cohort": "luad"}, "os", "luad"),
        ({}, "dss", "dss"),
    ):
        with pytest.raises(SurvbenchError, match=text_):
            read_predictions_file(saved(tmp_path, bare.iloc[:1].assign(**changes)), root=root, endpoint=endpoint)
    with pytest.raises(BadLabels, match="--data DATA --endpoint"):
        read_predictions_file(saved(tmp_path, bare))


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (
            lambda t: t.rename(columns={"risk": "score"}),
            "lacks the column risk; found: model, cohort, fold, case, score",
        ),
        (lambda t: t.assign(hazard=1.0), "unknown column hazard; found: model"),
        (lambda t: t.assign(patient="x"), "names patients in case and patient"),
        (lambda t: t.assign(censorship=0), "says in censorship and event who died"),
        (lambda t: t.drop(columns="event"), "a time, but no event or censorship"),
        (lambda t: t.drop(columns="time"), "no time"),
        (lambda t: t.assign(risk=[*t["risk"][:-1], math.nan]), "line 10 has the risk '', which is not a number"),
        (lambda t: t.assign(risk=math.inf), "which is not a number .8 more lines"),
        (lambda t: t.assign(event=2), "has the event '2', expected 0 or 1"),
        (lambda t: t.assign(time=-1), "time that is not above 0"),
        (lambda t: t.assign(seed=0.5), "not a whole number"),
        (lambda t: t.assign(split="validation"), "other than train, val and test"),
        (lambda t: t.assign(split="train"), "seed 0, fold 0 has no test patient"),
        (lambda t: t.assign(case=""), "has no case"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "line 11 .patient TCGA-P0-0000, theirs. has a second prediction"),
        (lambda t: pd.concat([t, t.iloc[:1].assign(fold=2)]), "is tested in two folds"),
        (
            lambda t: pd.concat([t.assign(split="test"), t.iloc[:1].assign(split="train")]),
            "is in two splits of one fold",
        ),
        (
            lambda t: pd.concat([t, t.iloc[:1].assign(model="other", time=99.0)]),
            "line 11 .patient TCGA-P0-0000, other. has another time or event",
        ),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, spoil: Callable, text: str) -> None:
    file = saved(tmp_path, spoil(predicted()))
    with pytest.raises(BadFile, match=text) as raised:
        read_predictions_file(file)
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(SurvbenchError, match="does not exist"):
        read_predictions_file(tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(BadFile, match="is empty"):
        read_predictions_file(tmp_path / "empty.csv")
    (tmp_path / "header.csv").write_text("model,cohort,fold,case,risk,time,event\n")
    with pytest.raises(BadFile, match="holds no prediction"):
        read_predictions_file(tmp_path / "header.csv")


def test_names_are_text_and_the_command_filters(tmp_path: Path) -> None:
    odd = "[red]m[/red] <script>"
    file = saved(tmp_path, pd.concat([predicted(odd), predicted("other")]))
    base = ["leaderboard", "--out", str(tmp_path), "--predictions", str(file)]
    shown = CliRunner().invoke(cli, base, env={"COLUMNS": "160"}).stdout
    assert "[red]m[/red]" in shown
    assert "<script>" in shown
    markdown = CliRunner().invoke(cli, [*base, "--format", "markdown"]).stdout
    assert "<script>" not in markdown
    only = json.loads(CliRunner().invoke(cli, [*base, "--model", "other", "--format", "json"]).stdout)
    assert [row["model"] for row in only["rows"]] == ["other"]
    assert not any("no result with model" in note for note in only["notes"])
    alone = CliRunner().invoke(cli, ["leaderboard", "--time-unit", "days"])
    assert "are about --predictions" in str(alone.exception)


def test_a_name_that_the_suite_knows_is_no_measured_row_and_borrows_no_published_figure(tmp_path: Path) -> None:
    write_row(tmp_path, "mcat", card={"beside": ["amkd"]})
    board = board_of(tmp_path, predicted("amkd"))
    assert board.tables[0].contrasts == ()
    assert any("should be read beside amkd, not run yet" in note for note in board.notes)
    assert "published" not in next(line for line in to_markdown(board).splitlines() if "amkd" in line)
    published = [row["model"] for row in to_plain(board)["rows"] if row["source"] == "published"]
    assert "amkd" not in published
