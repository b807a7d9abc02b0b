"""The commands: one JSON document, files at the named places, and one line for what cannot be shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from support.planted import Planted
from survbench.cli import cli
from survbench.errors import SurvbenchError

Explain = Callable[..., None]


@pytest.fixture
def explain(planted: Planted) -> Explain:
    """Runs `survbench explain ...` about the jobs that are trained, in this process."""
    planted.trained("abmil", learning_rate=1e-3)
    planted.trained("snn", epochs=7, learning_rate=1e-3)
    about = ("--data", planted.root.path, "--cohort", "stad", "--out", planted.out, "--only-folds", 0)

    def command(*arguments: object, epochs: int = 10) -> None:
        settings = [f"--set={key}" for key in (f"epochs={epochs}", f"patience={epochs}", "learning_rate=1e-3")]
        cli.main(list(map(str, ("explain", *arguments, *about, *settings))), standalone_mode=False)

    return command


def test_a_heatmap_of_the_patients_of_highest_risk(
    explain: Explain, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    explain("heatmap", "--model", "abmil", "--highest", 2, "--json")
    document = json.loads(capsys.readouterr().out)
    assert len(document) == 2
    for one in document:
        assert one["simulated"] is True
        assert one["patient"] in planted.jobs["abmil"].fold.test
        assert (one["fold"], one["seed"]) == (0, 0)
        (single,) = one["maps"]
        table = pd.read_csv(one["files"]["table"])
        highest = table.sort_values("weight attention", ascending=False)["patch"][:5]
        assert [patch["patch"] for patch in single["top"]] == list(highest)
        assert Path(one["files"]["figure"]).stat().st_size > 10_000
        assert all(json.loads(Path(file).read_text())["features"] for file in one["files"]["geojson"])
    assert document[0]["risk"] > document[1]["risk"]
    explain("heatmap", "--model", "abmil", "--patient", document[1]["patient"])
    shown = capsys.readouterr()
    assert "demo (simulated)" in shown.out
    assert f"patient {document[1]['patient']}, a test patient of fold 0 (seed 0)" in shown.out


def test_a_pathway_matches_whatever_its_case(
    explain: Explain, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    planted.trained("survpath", epochs=7, learning_rate=1e-3)
    explain("pathway-heatmap", "--model", "survpath", "--pathway", "demo_stroma_1", "--json", epochs=7)
    (document,) = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in document["maps"]] == ["DEMO_STROMA_1"]
    assert (document["shares_of"], document["equal_weight"]) == ("gene sets", pytest.approx(1 / 26))
    with pytest.raises(SurvbenchError, match="Did you mean 'DEMO_STROMA_1'"):
        explain("pathway-heatmap", "--model", "survpath", "--pathway", "STROMA_1", epochs=7)


def test_attributions_say_whether_they_add_up(explain: Explain, capsys: pytest.CaptureFixture[str]) -> None:
    explain("attribution", "--model", "snn", "--steps", 16, "--json", epochs=7)
    (document,) = json.loads(capsys.readouterr().out)
    assert document["simulated"] is True
    assert document["agreement"] is None  # of one fold
    assert document["completeness"]["holds"] == (document["completeness"]["gap"] <= 0.01)
    assert len(document["pathways"]) == 26
    assert (pd.read_csv(Path(document["file"]).with_suffix(".csv"))["data"] == "demo (simulated)").all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("heatmap", "--model", "snn"), "sees no slides"),
        (("heatmap", "--model", "abmil", "--patient", "DEMO-TA-9999"), "Did you mean 'DEMO-T"),
        (("heatmap", "--model", "abmil", "--slide", "s.svs"), "--slide with 0 patients"),
        (("heatmap", "--model", "clam_sb"), "1 of 1 jobs have no result"),
        (("pathway-heatmap", "--model", "abmil", "--pathway", "DEMO_STROMA_1"), "no attention between patches"),
        (("attribution", "--model", "abmil"), "predicts from slides"),
        (("pathways", "--model", "abmil"), "attends to no pathways"),
        (("pathways", "--model", "abmil,clam_sb"), "none of 2 pairs of model and cohort"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(
    explain: Explain, arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SurvbenchError) as refused:
        explain(*arguments, epochs=7 if "snn" in arguments else 10)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
