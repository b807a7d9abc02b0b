"""`survbench compare`: pairs, their adjustment, their ranks and their figures."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from support.job_folders import patients, write_job, write_row
from survbench.cli import cli
from survbench.errors import BadConfig, UnknownName
from survbench.evaluation.compare import FoldPair, holm
from survbench.evaluation.compare import compare as compare_folds
from survbench.leaderboard.comparison import MEAN, compare_models, comparison_plain
from survbench.report.plots.comparison import plot_comparison

# C-index of the three folds (3 patients each, who die in order); the mean is what is ranked.
#        stad                     crad              mean rank
#   a    1, 1, 1        (1)       1, 1, 1    (1.5)  1.25
#   b    1, 1, 2/3 = 8/9 (2)      1, 1, 1    (1.5)  1.75
#   c    0, 0, 0        (3)       0.5, ...   (3)    3
RISKS = {
    "a": {"stad": [(3.0, 2, 1)] * 3, "crad": [(3.0, 2, 1)] * 3},
    "b": {"stad": [(3.0, 2, 1), (3.0, 2, 1), (2.0, 3, 1)], "crad": [(6.0, 4, 2)] * 3},
    "c": {"stad": [(1.0, 2, 3)] * 3, "crad": [(0.0, 0, 0)] * 3},
}


def write_by_hand(out: Path, **job: object) -> None:
    for model, cohorts in RISKS.items():
        for cohort, folds in cohorts.items():
            for fold, risks in enumerate(folds):
                write_job(out, model, fold=fold, risks=risks, cohort=cohort, **job)


def write_noisy(out: Path, models: dict[str, float], cohorts: tuple[str, ...] = ("stad", "crad")) -> pd.DataFrame:
    """Signal against noise of size 1, for 150 patients."""
    table = patients(folds=5, per_fold=30)
    rng = np.random.default_rng(0)
    for cohort in cohorts:
        for model, signal in models.items():
            risk = -signal * table["time"] / 30 + rng.normal(size=len(table))
            write_row(
                out, model, n_folds=5, table=table, cohort=cohort, risks=dict(zip(table["patient"], risk, strict=True))
            )
    return table


def test_all_pairs_by_hand(tmp_path: Path) -> None:
    write_by_hand(tmp_path)
    ((found,), _) = compare_models(tmp_path, ["all"])
    means = {(one.first, one.second, one.cohort): one.difference.mean for one in found.differences}
    assert list(means) == [(x, y, c) for x, y in combinations("abc", 2) for c in ("stad", "crad", MEAN)]
    assert means == pytest.approx(
        {
            ("a", "b", "stad"): 1 / 9,
            ("a", "b", "crad"): 0.0,
            ("a", "b", MEAN): 1 / 18,
            ("a", "c", "stad"): 1.0,
            ("a", "c", "crad"): 0.5,
            ("a", "c", MEAN): 0.75,
            ("b", "c", "stad"): 8 / 9,
            ("b", "c", "crad"): 0.5,
            ("b", "c", MEAN): 25 / 36,
        }
    )
    assert found.ranks is not None
    assert found.ranks.ranks.to_dict() == {"a": 1.25, "b": 1.75, "c": 3.0}


def test_holm_is_over_what_is_shown(tmp_path: Path) -> None:
    write_noisy(tmp_path, {"a": 3.0, "b": 1.0, "c": 0.0})
    ((found,), _) = compare_models(tmp_path, ["a", "b", "c"])
    for family in (
        [one for one in found.differences if one.cohort == MEAN],
        [one for one in found.differences if one.cohort != MEAN],
    ):
        expected = holm({str(i): one.difference.p for i, one in enumerate(family)})
        assert [one.p_holm for one in family] == pytest.approx(list(expected.values()))


def test_pairs_resampled_together_are_those_resampled_alone(tmp_path: Path) -> None:
    table = write_noisy(tmp_path, {"a": 3.0, "b": 1.0, "c": 0.0}, ("stad",))
    ((found,), board) = compare_models(tmp_path, ["all"])
    rows = {row.model: row for row in board.rows}
    folds = []
    for fold in range(5):
        ordered = [rows[name].tests[0, fold].sort_values("patient") for name in ("a", "c")]
        labels = table[table["fold"] == fold].sort_values("patient")
        risks = [of["risk"].to_numpy()[None] for of in ordered]
        folds.append(FoldPair(labels["time"].to_numpy(), labels["event"].to_numpy(), *risks))
    alone = compare_folds(folds)
    (pair,) = [one.difference for one in found.differences if (one.first, one.second) == ("a", "c")]
    assert (pair.mean, pair.low, pair.p) == pytest.approx((alone.mean, alone.low, alone.p))
    assert (pair.patient_low, pair.patient_high) == pytest.approx((alone.patient_low, alone.patient_high))


def test_higher_only_where_both_intervals_and_the_adjusted_p_say_so(tmp_path: Path) -> None:
    write_noisy(tmp_path, {"good": 6.0, "bad": 0.0, "worse": 0.0})
    ((found,), _) = compare_models(tmp_path, ["all"])
    over = {(one.first, one.second): one for one in found.differences if one.cohort == MEAN}
    assert over["bad", "good"].separated
    assert not over["bad", "worse"].separated
    for one in found.differences:
        overlapping = (
            one.difference.low <= 0 <= one.difference.high
            or one.difference.patient_low <= 0 <= one.difference.patient_high
        )
        assert not (overlapping and one.separated)
    text = CliRunner().invoke(cli, ["compare", "all", "--out", str(tmp_path)], env={"COLUMNS": "160"}).stdout
    assert "not distinguished" in text
    assert "good" in next(line for line in text.splitlines() if "mean over cohorts" in line).split()[-1]


def test_undefined_pairs_say_why(tmp_path: Path) -> None:
    write_row(tmp_path, "a")
    write_row(tmp_path, "b", seeds=(1,))
    write_row(tmp_path, "c", cohort="crad")
    write_row(tmp_path, "d")
    write_job(tmp_path, "e", fold=0, error="out of memory")
    ((found,), _) = compare_models(tmp_path, ["all"])
    reasons = {(one.first, one.second, one.cohort): one.difference.reason for one in found.differences}
    assert "no seed in common" in reasons["a", "b", "stad"]
    assert reasons["a", "c", "stad"] == "c has no row on stad"
    assert reasons["a", "c", MEAN]
    assert reasons["a", "d", "stad"] == ""
    assert "failed" in reasons["a", "e", "stad"]
    assert found.ranks is None
    assert "without a rank" in found.notes[-1]
    assert all(file.stat().st_size > 5_000 for file in plot_comparison(found, tmp_path / "figures"))
    plain = json.dumps(comparison_plain(found), allow_nan=False)
    assert json.loads(plain)["differences"][0]["reason"]


def test_of_several_configurations_the_one_with_most_cohorts_is_compared_and_said(tmp_path: Path) -> None:
    write_by_hand(tmp_path)
    write_row(tmp_path, "a", config={"width": 8}, risks=(1.0, 2.0, 3.0))
    ((found,), _) = compare_models(tmp_path, ["a", "c"])
    assert next(iter(found.lines[0].rows.values())).identity["config"] == {"width": 256}
    assert "2 configurations; compared is 'width=256'" in found.notes[0]
    assert "not 'width=8'" in found.notes[0]


def test_an_ablation_is_compared_by_its_center_unless_another_arm_is_asked_for(tmp_path: Path) -> None:
    write_row(tmp_path, "b")
    center = {"alpha": 0.5, "tau": 2.0, "gate": 1}
    for changed in ({"alpha": 0.1}, {}, {"tau": 1.0}, {"gate": 2}):
        write_row(tmp_path, "a", config=center | changed)
    ((found,), _) = compare_models(tmp_path, ["all"])
    assert next(iter(found.lines[0].rows.values())).identity["config"] == center
    assert "--set" in found.notes[0]
    ((found,), _) = compare_models(tmp_path, ["all"], settings={"alpha": 0.1})
    assert next(iter(found.lines[0].rows.values())).identity["config"]["alpha"] == 0.1
    assert len(found.lines) == 2
    for settings, text in (({"alpha": 0.9}, "there is 0.1, 0.5"), ({"beta": 1}, "no such setting")):
        with pytest.raises(BadConfig, match=text):
            compare_models(tmp_path, ["all"], settings=settings)
    shown = CliRunner().invoke(cli, ["compare", "all", "--out", str(tmp_path), "--set", "alpha=0.1", "--json"]).stdout
    assert json.loads(shown)["comparisons"][0]["notes"] == []


def test_real_and_simulated_are_compared_apart(tmp_path: Path) -> None:
    write_by_hand(tmp_path)
    write_by_hand(tmp_path, simulated="all", cohort_hash="other")
    found, _ = compare_models(tmp_path, ["all"])
    assert [one.table.kind for one in found] == ["real patients", "demo (simulated)"]
    files = [file for one in found for file in plot_comparison(one, tmp_path / "figures")]
    assert len(set(files)) == 4
    assert sum("demo_simulated" in file.name for file in files) == 2


@pytest.mark.parametrize(
    ("models", "kind", "text"),
    [
        (["nobody"], UnknownName, "There is a, b, c"),
        (["a"], BadConfig, "no two models"),
        (["a", "a"], BadConfig, "no two models"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    tmp_path: Path, models: list[str], kind: type[Exception], text: str
) -> None:
    write_by_hand(tmp_path)
    with pytest.raises(kind, match=text):
        compare_models(tmp_path, models)
    with pytest.raises(BadConfig, match="no results"):
        compare_models(tmp_path / "empty", models)


def test_the_command_writes_json_and_figures(tmp_path: Path) -> None:
    write_by_hand(tmp_path, simulated="all")
    done = CliRunner().invoke(cli, ["compare", "a,b", "c", "--out", str(tmp_path), "--json"])
    (found,) = json.loads(done.stdout)["comparisons"]
    assert found["simulated"] is True
    assert found["ranks"]["average"] == {"a": 1.25, "b": 1.75, "c": 3.0}
    assert [Path(file).name for file in found["figures"]] == [
        "compare-a-b-c-os-event_stratified-demo_simulated.png",
        "ranks-a-b-c-os-event_stratified-demo_simulated.png",
    ]
    assert all(Path(file).stat().st_size > 10_000 for file in found["figures"])
    two = CliRunner().invoke(cli, ["compare", "a", "b", "--out", str(tmp_path)], env={"COLUMNS": "160"}).stdout
    assert "Average ranks" not in two
    assert "demo (simulated): the figures say nothing about a cancer" in two
