"""Rows are complete, computed from predictions, and share a table only with their like."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sksurv.compare import compare_survival
from sksurv.util import Surv

from support.job_folders import patients, seal, write_job, write_row
from survbench.leaderboard.aggregate import build
from survbench.leaderboard.board import Leaderboard, Row


def row(board: Leaderboard, model: str, cohort: str = "stad") -> Row:
    (found,) = [r for r in board.rows if r.model == model and r.cohort == cohort]
    return found


def reasons(board: Leaderboard) -> str:
    return "\n".join(f"{refusal.label}: {refusal.reason}" for refusal in board.refused)


def test_three_models_on_three_folds_by_hand(tmp_path: Path) -> None:
    """Each fold tests three patients, who die at 1, 2 and 3 months: three comparable pairs, (1,2) (1,3) (2,3).

    | model | fold 0: risks, C    | fold 1: risks, C    | fold 2: risks, C    | mean | SD (ddof 0)  |
    | abmil | 3 2 1  -> 3/3 = 1   | 3 2 1  -> 3/3 = 1   | 1 2 3  -> 0/3 = 0   | 2/3  | sqrt(2)/3    |
    | snn   | 2 3 1  -> 2/3       | 1 3 2  -> 1/3       | 5 5 5  -> 1.5/3     | 1/2  | sqrt(1/54)   |
    | null  | 7 7 7  -> 1/2       | 2 2 2  -> 1/2       | 9 9 9  -> 1/2       | 1/2  | 0            |
    """
    risks = {
        "abmil": [(3, 2, 1), (3, 2, 1), (1, 2, 3)],
        "snn": [(2, 3, 1), (1, 3, 2), (5, 5, 5)],
        "null": [(7, 7, 7), (2, 2, 2), (9, 9, 9)],
    }
    for model, folds in risks.items():
        for fold, values in enumerate(folds):
            write_job(tmp_path, model, fold=fold, risks=values)
    board = build(tmp_path)
    assert not board.refused
    (table,) = board.tables
    assert [line.model for line in table.lines] == ["abmil", "snn", "null"]
    found = {model: row(board, model).metrics["cindex"] for model in risks}
    assert found["abmil"].per_fold == (1.0, 1.0, 0.0)
    assert found["abmil"].mean == pytest.approx(2 / 3, abs=1e-15)
    assert found["abmil"].sd == pytest.approx(math.sqrt(2) / 3, abs=1e-15)
    assert found["abmil"].sd_sample == pytest.approx(math.sqrt(1 / 3), abs=1e-15)
    assert found["snn"].per_fold == pytest.approx((2 / 3, 1 / 3, 1 / 2), abs=1e-15)
    assert found["snn"].mean == pytest.approx(1 / 2, abs=1e-15)
    assert found["snn"].sd == pytest.approx(math.sqrt(1 / 54), abs=1e-15)
    assert found["null"].per_fold == (0.5, 0.5, 0.5)
    assert found["null"].sd == 0
    assert {s.sd_seeds for s in found.values()} == {None}
    assert row(board, "snn").metrics["comparable_pairs"].per_fold == (3, 3, 3)


def test_folds_are_averaged_over_seeds_before_their_spread(tmp_path: Path) -> None:
    """Seed 0 scores 1, 1, 0 and seed 1 scores 0, 1, 0: folds 1/2, 1, 0; seeds 2/3 and 1/3."""
    right, wrong = (3, 2, 1), (1, 2, 3)
    for seed, folds in enumerate([(right, right, wrong), (wrong, right, wrong)]):
        for fold, risks in enumerate(folds):
            write_job(tmp_path, fold=fold, seed=seed, risks=risks)
    found = row(build(tmp_path), "snn")
    assert found.seeds == (0, 1)
    assert found.metrics["cindex"].per_fold == (0.5, 1.0, 0.0)
    assert found.metrics["cindex"].mean == pytest.approx(0.5)
    assert found.metrics["cindex"].sd == pytest.approx(np.std([0.5, 1, 0]))
    assert found.metrics["cindex"].sd_seeds == pytest.approx(1 / 6)


def test_stored_metrics_are_not_believed(tmp_path: Path) -> None:
    """metrics.json of the fixture claims 0.999 in every fold."""
    folders = write_row(tmp_path, risks=(1, 2, 3))
    assert json.loads((folders[0] / "metrics.json").read_text())["cindex"]["value"] == 0.999
    assert row(build(tmp_path), "snn").metrics["cindex"].mean == 0.0
    (folders[0] / "metrics.json").unlink()
    assert row(build(tmp_path), "snn").metrics["cindex"].mean == 0.0


def test_a_score_that_only_knows_the_fold_has_no_signal(tmp_path: Path) -> None:
    """Rule 10, planted: folds that die early get a high constant; pooled over folds that would look like skill."""
    table = patients(folds=5, per_fold=8)
    table["time"] += 20.0 * table["fold"]
    for fold in range(5):
        write_job(tmp_path, fold=fold, table=table, risks=[float(10 - fold)] * 8)
    found = row(build(tmp_path), "snn").metrics["cindex"]
    assert found.per_fold == (0.5,) * 5
    assert found.mean == 0.5


def test_a_higher_risk_is_worse_and_nothing_is_flipped(tmp_path: Path) -> None:
    """Rules 5 and 9, planted: the best scores with the wrong sign stay at 0."""
    write_row(tmp_path, "snn", risks=(3, 2, 1))
    write_row(tmp_path, "abmil", risks=(-3, -2, -1))
    board = build(tmp_path)
    assert row(board, "snn").metrics["cindex"].mean == 1.0
    assert row(board, "abmil").metrics["cindex"].mean == 0.0


@settings(max_examples=20, deadline=None)
@given(risks=st.permutations([1.0, 2.0, 3.0, 4.0]), scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_only_the_order_inside_a_fold_counts(tmp_path_factory: pytest.TempPathFactory, risks, scale, shift) -> None:  # type: ignore[no-untyped-def]
    table = patients(folds=2, per_fold=4)
    out = tmp_path_factory.mktemp("out")
    for fold in (0, 1):
        write_job(out, "snn", fold=fold, table=table, risks=risks)
        write_job(out, "abmil", fold=fold, table=table, risks=[scale * r + shift * fold for r in risks])
    board = build(out)
    assert row(board, "snn").metrics["cindex"] == row(board, "abmil").metrics["cindex"]


def test_an_undefined_fold_is_not_averaged_away(tmp_path: Path) -> None:
    """Rule 12, planted: nobody dies in fold 1."""
    table = patients()
    table.loc[table["fold"] == 1, "event"] = False
    write_row(tmp_path, table=table)
    found = row(build(tmp_path), "snn").metrics["cindex"]
    assert found.per_fold[0] == 1.0
    assert math.isnan(found.per_fold[1])
    assert math.isnan(found.mean)
    assert math.isnan(found.sd)
    assert found.reason.startswith("fold 1: ")


def test_a_failed_job_makes_a_row_that_says_failed(tmp_path: Path) -> None:
    write_job(tmp_path, fold=0)
    write_job(tmp_path, fold=1)
    write_job(tmp_path, fold=2, error="the loss became NaN")
    write_row(tmp_path, "abmil")
    board = build(tmp_path)
    found = row(board, "snn")
    assert found.failed
    assert found.errors == ("the loss became NaN",)
    assert math.isnan(found.metrics["cindex"].mean)
    assert found.simulated == ""  # known from the finished jobs on the same content
    assert not row(board, "abmil").failed


def test_a_failure_that_was_mended_is_forgotten(tmp_path: Path) -> None:
    write_row(tmp_path)
    write_job(tmp_path, fold=2, error="the loss became NaN")
    board = build(tmp_path)
    assert not row(board, "snn").failed
    assert not board.refused


def test_a_failure_alone_is_shown_without_a_claim_about_its_data(tmp_path: Path) -> None:
    write_job(tmp_path, fold=0, error="no memory")
    (table,) = build(tmp_path).tables
    assert table.simulated is None
    assert table.lines[0].rows[table.columns[0]].errors == ("no memory",)


def test_incomplete_rows_are_refused_with_what_is_missing(tmp_path: Path) -> None:
    write_row(tmp_path, seeds=(0,), config={"width": 256, "hidden": [8, 4]})
    write_job(tmp_path, fold=1, seed=4, config={"width": 256, "hidden": [8, 4]})
    board = build(tmp_path)
    assert not board.rows
    (refusal,) = board.refused
    assert refusal.row["model"] == "snn"
    assert "fold 0, 2 of seed 4 missing" in refusal.reason
    assert "survbench run --model snn --cohort stad --endpoint os --scheme event-stratified" in refusal.reason
    assert "--seeds 4 --only-folds 0,2" in refusal.reason
    assert "'hidden=[8, 4]'" in refusal.reason


def test_different_content_is_never_in_one_column(tmp_path: Path) -> None:
    """Rules 7 and 20, planted: the same cohort name with another content, or with other folds."""
    write_row(tmp_path, "snn")
    write_row(tmp_path, "abmil", cohort_hash="another")
    write_row(tmp_path, "mcat", folds_hash="other folds")
    board = build(tmp_path)
    (table,) = board.tables
    assert [c.cohort for c in table.columns] == ["stad"] * 3
    assert all(c.ambiguous and c.key[:6] in c.label for c in table.columns)
    assert all(len(line.rows) == 1 for line in table.lines)
    assert len({column for line in table.lines for column in line.rows}) == 3
    assert any("stands in several columns" in note for note in board.notes)
    assert all(line.average("cindex", table.columns) is None for line in table.lines)


@pytest.mark.parametrize(
    "other",
    [
        {"endpoint": "dss"},
        {"folds": "site-preserving"},
        {"protocol_version": 2},
        {"simulated": "all"},
        {"simulated": "slides"},
    ],
)
def test_what_cannot_be_compared_never_shares_a_table(tmp_path: Path, other: dict[str, object]) -> None:
    """Rules 6 and 20, planted; demo and real are two of them."""
    write_row(tmp_path, "snn")
    write_row(tmp_path, "abmil", cohort_hash="another", **other)
    board = build(tmp_path)
    assert len(board.tables) == 2
    assert [len(table.lines) for table in board.tables] == [1, 1]
    assert board.tables[0].simulated == ""
    assert any("never ranked together" in note for note in board.notes)


def test_a_model_scored_on_fewer_patients_is_refused(tmp_path: Path) -> None:
    """Rule 7, planted: a patient without a prediction in any fold, which no fold of this row can show."""
    write_row(tmp_path, "abmil")
    for fold in range(3):
        write_job(tmp_path, "snn", fold=fold, drop=["TCGA-P1-0001"], risks=(3, 2, 1))
    board = build(tmp_path)
    assert {r.model for r in board.rows} == {"abmil"}
    assert "scored on 8 patients, other rows of the same cohort content on 9" in reasons(board)


def test_a_test_patient_without_prediction_is_refused(tmp_path: Path) -> None:
    """Rule 7, planted in the only row: the other folds know that the patient exists."""
    for fold in range(3):
        write_job(tmp_path, fold=fold, drop=["TCGA-P1-0001"] if fold == 1 else [])
    board = build(tmp_path)
    assert not board.rows
    assert "fold 1 has no prediction for 1 of 9 patients, first TCGA-P1-0001" in reasons(board)


def test_a_patient_tested_twice_is_refused(tmp_path: Path) -> None:
    """Rule 4, planted."""
    folders = write_row(tmp_path)
    file = folders[0] / "predictions.parquet"
    table = pd.read_parquet(file)
    table.loc[table["patient"] == "TCGA-P1-0000", "split"] = "test"
    table.to_parquet(file)
    seal(folders[0])
    board = build(tmp_path)
    assert not board.rows
    assert "every patient must be tested once" in reasons(board)


def test_other_labels_under_the_same_hash_are_refused(tmp_path: Path) -> None:
    """Rule 5, planted: one run read the event flag upside down for a patient."""
    write_row(tmp_path, "abmil")
    write_row(tmp_path, "mcat")
    other = patients()
    other.loc[0, "event"] = False
    write_row(tmp_path, "snn", table=other)
    board = build(tmp_path)
    assert {r.model for r in board.rows} == {"abmil", "mcat"}
    assert "1 patients, folds or labels differ" in reasons(board)


def test_of_several_versions_the_newest_complete_one_counts(tmp_path: Path) -> None:
    write_row(tmp_path, model_version="snn@1", risks=(1, 2, 3), modified=1_000)
    write_row(tmp_path, model_version="snn@2", risks=(3, 2, 1), modified=2_000)
    write_job(tmp_path, model_version="snn@3", fold=0, modified=3_000)
    board = build(tmp_path)
    assert row(board, "snn").metrics["cindex"].mean == 1.0
    assert row(board, "snn").identity["model_version"] == "snn@2"
    by_version = {refusal.row["model_version"]: refusal.reason for refusal in board.refused}
    assert by_version["snn@1"].startswith("superseded")
    assert "fold 1, 2 of seed 0 missing" in by_version["snn@3"]


def test_a_version_that_now_fails_does_not_hide_behind_an_older_result(tmp_path: Path) -> None:
    write_row(tmp_path, model_version="snn@1", modified=1_000)
    write_job(tmp_path, model_version="snn@2", fold=0, error="it broke")
    board = build(tmp_path)
    assert row(board, "snn").identity["model_version"] == "snn@1"
    assert "newer version snn@2 failed (it broke)" in reasons(board)


def test_configurations_of_one_model_are_told_apart(tmp_path: Path) -> None:
    write_row(tmp_path, "amkd", config={"width": 256, "alpha": 0.75, "tau": 2.0})
    write_row(tmp_path, "amkd", config={"width": 256, "alpha": 0.5, "tau": 2.0})
    write_row(tmp_path, "snn")
    (table,) = build(tmp_path).tables
    assert [(n.model, n.variant) for n in table.lines] == [("snn", ""), ("amkd", "alpha=0.5"), ("amkd", "alpha=0.75")]


def test_cohorts_stand_side_by_side_in_the_papers_order(tmp_path: Path) -> None:
    for cohort in ("crad", "stad", "mine", "brca"):
        write_row(tmp_path, "snn", cohort=cohort)
    write_row(tmp_path, "abmil", cohort="crad", risks=(1, 2, 3))
    (table,) = build(tmp_path).tables
    assert [c.label for c in table.columns] == ["brca", "stad", "crad", "mine"]
    averages = {line.model: line.average("cindex", table.columns) for line in table.lines}
    assert averages == {"snn": 1.0, "abmil": None}  # no average over some of the cohorts


def test_risk_groups_are_cut_at_the_training_median(tmp_path: Path) -> None:
    """Against scikit-survival on all test patients; training patients have risk 0, so above 0 is high."""
    table = patients(folds=3, per_fold=20)
    rng = np.random.default_rng(0)
    table["event"] = rng.random(60) < 0.7
    risk = dict(zip(table["patient"], rng.normal(size=60) - 0.2 * table["time"] + 2, strict=True))
    for fold in range(3):
        write_job(tmp_path, fold=fold, table=table, risks=risk)
    found = row(build(tmp_path), "snn")
    high = np.array([risk[p] > 0 for p in table["patient"]])
    _, p = compare_survival(Surv.from_arrays(table["event"], table["time"]), high)
    assert found.logrank_p == pytest.approx(p, rel=1e-9)
    assert 0 < found.logrank_p_stratified < 1


def test_thin_folds_are_known(tmp_path: Path) -> None:
    write_row(tmp_path, "snn", cohort="stad")
    wide = patients(folds=3, per_fold=30)  # 435 pairs
    wide.loc[(wide["fold"] == 2) & (wide["time"] > 9), "event"] = False
    for fold in range(3):
        write_job(tmp_path, "snn", fold=fold, cohort="brca", table=wide, risks=np.arange(30.0))
    (table,) = build(tmp_path).tables
    assert {c.cohort: c.thin_folds for c in table.columns} == {"brca": (2,), "stad": (0, 1, 2)}


def test_a_copied_job_is_not_a_second_measurement(tmp_path: Path) -> None:
    folders = write_row(tmp_path)
    shutil.copytree(folders[0], folders[0].with_name("fold0-copy"))
    board = build(tmp_path)
    assert row(board, "snn").metrics["cindex"].per_fold == (1.0, 1.0, 1.0)
    assert "the same job as" in reasons(board)


def test_filters(tmp_path: Path) -> None:
    for model in ("snn", "abmil", "[bold]x"):
        write_row(tmp_path, model)
    write_row(tmp_path, "snn", cohort="brca", endpoint="dss")
    assert {r.model for r in build(tmp_path, models=["ab*"]).rows} == {"abmil"}
    assert {r.model for r in build(tmp_path, models=["[bold]x"]).rows} == {"[bold]x"}
    assert {r.cohort for r in build(tmp_path, cohorts=["brca"]).rows} == {"brca"}
    assert len(build(tmp_path, cohorts=["all"]).rows) == 4
    assert {r.identity["endpoint"] for r in build(tmp_path, endpoint="dss").rows} == {"dss"}
    nothing = build(tmp_path, models=["amdk"])
    assert not nothing.rows
    assert "no result with model 'amdk'" in nothing.notes[0]


@pytest.mark.parametrize("folder", ["missing", "."])
def test_an_empty_folder_is_an_empty_leaderboard(tmp_path: Path, folder: str) -> None:
    board = build(tmp_path / folder)
    assert (board.tables, board.rows, board.refused) == ((), (), ())


def test_a_tuned_row_says_so_and_stands_in_one_line_whatever_was_chosen_per_cohort(tmp_path: Path) -> None:
    for cohort, alpha in (("stad", 0.2), ("crad", 0.9)):
        write_row(tmp_path, "amkd", cohort=cohort, config={"alpha": alpha}, selected="tuned (50 trials)")
    write_row(tmp_path, "amkd", cohort="stad", config={"alpha": 0.75})
    (table,) = build(tmp_path).tables
    lines = {line.variant: [column.cohort for column in line.rows] for line in table.lines}
    assert sorted(lines.values()) == [["stad"], ["stad", "crad"]]
    (said,) = [variant for variant in lines if variant.startswith("tuned (50 trials)")]
    assert len(lines[said]) == 2


def test_a_tuned_row_alone_says_so_too(tmp_path: Path) -> None:
    write_row(tmp_path, "snn", selected="tuned (8 trials)")
    assert build(tmp_path).tables[0].lines[0].variant == "tuned (8 trials)"
