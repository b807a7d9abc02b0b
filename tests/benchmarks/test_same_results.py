"""Two recorded folders against each other, and results folders of different layouts; all made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from benchmarks.same_results.cli import main
from benchmarks.same_results.collected import as_csv, read_external, read_jobs, with_tables
from benchmarks.same_results.suite import option_name

RISKS = (-1.0, 0.0, 1.0)
SETTINGS = {"aa": {"model": "amkd", "config": {"teacher": {"model": "mcat", "target": "baselines.mcat:MCAT"}}}}
DOCUMENT = {
    "rows": [
        {
            "model": "snn",
            "cohort": "hnsc",
            "mean": 0.6,
            "per_fold": [0.5, None, 0.7],
            "cohort_hash": "ab12",
            "code": "1",
        },
        {"model": "amkd", "cohort": "hnsc", "mean": 0.7, "per_fold": [0.7, 0.7, 0.7], "file": "/tmp/a.png"},
    ]
}


def predictions(risks: tuple[float, ...] = RISKS, settings: str = "aa") -> str:
    about = {"model": "amkd", "cohort": "hnsc", "fold": 0, "seed": 0, "settings": settings}
    rows = [
        {**about, "patient": f"P{i}", "split": "test", "time": 2.5, "event": True, "risk": risk, "survival": "1.0 0.5"}
        for i, risk in enumerate(risks)
    ]
    return as_csv(rows)


def part(folder: Path, name: str = "models", **files: Any) -> Path:
    """A recorded part; keyword -> another content of a file."""
    content = {"predictions.csv": predictions(), "settings.json": SETTINGS, "board.json": DOCUMENT}
    content |= {key.replace("_", "."): value for key, value in files.items()}
    (folder / name).mkdir(parents=True)
    for key, value in content.items():
        (folder / name / key).write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


def compared(before: Path, after: Path, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["compare", str(before), str(after), *options])
    return done.exit_code, done.output


@pytest.fixture
def before(tmp_path: Path) -> Path:
    return part(tmp_path / "before")


def test_equal_folders_are_the_same(before: Path, tmp_path: Path) -> None:
    code, printed = compared(before, part(tmp_path / "after"), "--exact")
    assert code == 0
    assert "31 values" in printed  # six of each patient, six of each row of the document, and the order of its rows
    assert "the same" in printed


def test_a_moved_risk_counts_in_standard_deviations(before: Path, tmp_path: Path) -> None:
    """Their SD is 0.816."""
    after = part(tmp_path / "after", predictions_csv=predictions((-1.0, 0.0, 1.00408248)))
    code, printed = compared(before, after)
    assert code == 1
    assert "risk of amkd hnsc fold 0 seed 0 aa P2: 1.0 -> 1.00408248" in printed
    assert "risks in SD 0.005" in printed
    assert compared(before, after, "--tolerance", "0.01")[0] == 0


def test_exact_means_the_last_bit(before: Path, tmp_path: Path) -> None:
    after = part(tmp_path / "after", predictions_csv=predictions((-1.0, 0.0, 1.0 + 2**-52)))
    assert compared(before, after)[0] == 0
    assert compared(before, after, "--exact")[0] == 1


def test_a_missing_row_is_a_difference_on_either_side(before: Path, tmp_path: Path) -> None:
    after = part(tmp_path / "after", predictions_csv=predictions(RISKS[:2]))
    assert compared(before, after, "--tolerance", "9")[0] == 1
    assert "P2 is only before" in compared(before, after, "--show", "99")[1]
    assert "P2 is only after" in compared(after, before, "--show", "99")[1]


def test_a_new_field_is_noted_and_one_that_is_gone_is_a_difference(before: Path, tmp_path: Path) -> None:
    after = part(tmp_path / "after")
    file = after / "models" / "board.json"
    document = json.loads(file.read_text())
    for row in document["rows"]:
        row["deaths"] = {"mean": 3.0}
    file.write_text(json.dumps(document))
    code, printed = compared(before, after, "--exact")
    assert code == 0
    assert "fields that are only after: rows.deaths.mean" in printed
    assert compared(after, before, "--exact")[0] == 1


def test_a_missing_part_or_file_is_a_difference(before: Path, tmp_path: Path) -> None:
    after = part(part(tmp_path / "after"), "losses")
    assert compared(before, after)[0] == 1
    assert compared(before, after, "--only", "models")[0] == 0
    (after / "models" / "board.json").unlink()
    assert "board.json is missing" in compared(before, after, "--only", "models")[1]


def test_numbers_and_the_order_of_documents_are_compared(before: Path, tmp_path: Path) -> None:
    moved = json.loads(json.dumps(DOCUMENT))
    moved["rows"][0]["per_fold"][2] = 0.71
    assert "per_fold: 0.7" in compared(before, part(tmp_path / "moved", board_json=moved))[1]
    undefined = json.loads(json.dumps(DOCUMENT))
    undefined["rows"][1]["mean"] = None
    assert "mean: 0.7" in compared(before, part(tmp_path / "undefined", board_json=undefined))[1]
    turned = {"rows": DOCUMENT["rows"][::-1]}
    assert "order of rows" in compared(before, part(tmp_path / "turned", board_json=turned))[1]


def test_places_hashes_and_versions_are_not_compared(before: Path, tmp_path: Path) -> None:
    other = json.loads(json.dumps(DOCUMENT).replace("/tmp/a.png", "b.png").replace("ab12", "cd34"))
    other["rows"][0] |= {"code": "2", "model_version": "snn@1"}
    assert compared(before, part(tmp_path / "after", board_json=other), "--exact")[0] == 0


def test_settings_may_be_told_in_another_way(before: Path, tmp_path: Path) -> None:
    """The target has become a name with a version, and there is a setting that was not there."""
    renamed = {"bb": {"model": "amkd", "config": {"teacher": {"model": "mcat", "version": "mcat@1"}, "more": 1}}}
    after = part(tmp_path / "after", settings_json=renamed, predictions_csv=predictions(settings="bb"))
    code, printed = compared(before, after, "--exact")
    assert code == 0
    assert "settings differ: config.more" in printed


def test_arms_of_a_study_are_told_apart(tmp_path: Path) -> None:
    def arms(first: str, second: str, **more: int) -> dict[str, Any]:
        return {
            first: {"model": "amkd", "config": {"without": [], **more}},
            second: {"model": "amkd", "config": {"without": ["regulation"], **more}},
        }

    def both(first: str, second: str) -> str:
        return predictions(settings=first) + predictions((4.0, 5.0, 6.0), second).partition("\n")[2]

    old = part(tmp_path / "old", settings_json=arms("a1", "a2"), predictions_csv=both("a1", "a2"))
    new = part(tmp_path / "new", settings_json=arms("b1", "b2", more=1), predictions_csv=both("b1", "b2"))
    crossed = part(tmp_path / "crossed", settings_json=arms("b2", "b1", more=1), predictions_csv=both("b1", "b2"))
    assert compared(old, new, "--exact")[0] == 0
    assert compared(old, crossed)[0] == 1


def test_an_option_is_called_as_the_command_calls_it() -> None:
    old = (
        "Options:\n  --folds TEXT   all of them, see --scheme\n  --fold TEXT  some\n  --mlflow / --no-mlflow  mirror\n"
    )
    new = "Options:\n  -s, --scheme TEXT  all of them\n  --only-folds TEXT  some\n  --format [rich|json]\n"
    assert [option_name(meant, old) for meant in ("scheme", "fold", "no-mlflow")] == [
        "--folds",
        "--fold",
        "--no-mlflow",
    ]
    assert [option_name(meant, new) for meant in ("scheme", "fold", "json")] == [
        "--scheme",
        "--only-folds",
        "--format=json",
    ]


def write_job(folder: Path, document: dict[str, Any], name: str, **more: Any) -> None:
    folder.mkdir(parents=True)
    (folder / name).write_text(json.dumps(document))
    for other, content in more.items():
        (folder / f"{other}.json").write_text(json.dumps(content))
    table = {"patient": ["B", "A"], "split": "test", "time": 1.0, "event": True, "risk": [0.1, 0.2]}
    pd.DataFrame(table | {"survival": [[1.0, 0.25]] * 2}).to_parquet(folder / "predictions.parquet")


def test_jobs_are_read_wherever_their_files_are(tmp_path: Path) -> None:
    identity = {"model": "snn", "cohort": "hnsc", "fold": 1, "seed": 0, "folds": "own", "config": {"width": 8}}
    metrics = {"cindex": {"value": 0.5, "reason": ""}}
    first = {"format": 1, "id": "x", "identity": identity, "risk_cut": 0.5, "selection": {"epochs": {"fit": 3}}}
    second = {"format": 2, "job": {"id": "y", "identity": identity | {"model_version": "snn@1"}}}
    second |= {"fitted": {"risk_cut": 0.5}, "selection": {"epochs": {"fit": 3}}}
    write_job(tmp_path / "1" / "jobs" / "snn" / "a", first, "job.json", metrics=metrics)
    write_job(tmp_path / "2" / "jobs" / "b", second, "job.json", metrics=metrics, manifest={"files": {}})
    write_job(tmp_path / "2" / "external" / "c", {"source": second["job"]}, "applied.json")
    (old,), (new,), (applied,) = (
        read_jobs(tmp_path / "1"),
        read_jobs(tmp_path / "2" / "jobs"),
        read_external(tmp_path / "2" / "external"),
    )
    assert list(old.predictions()) == list(new.predictions()) == list(applied.predictions())
    assert [row["patient"] for row in old.predictions()] == ["A", "B"]
    assert next(old.predictions())["survival"] == "1.0 0.25"
    assert list(old.facts()) == list(new.facts())
    facts = {row["fact"]: row["value"] for row in old.facts()}
    assert facts == {"metric cindex": "0.5", "epoch of fit": "3", "risk_cut": "0.5"}


def test_tables_that_a_document_names_come_with_it(tmp_path: Path) -> None:
    file = tmp_path / "patches.csv"
    file.write_text("patch,weight\n0,0.5\n")
    filled = with_tables([{"files": {"table": str(file)}}])
    assert filled[0]["files"]["rows of table"] == [{"patch": "0", "weight": "0.5"}]
