"""Altered, damaged, odd and older result folders: refused with the reason, or shown; none harms the others."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from support.job_folders import patients, seal, write_job, write_row
from support.pages import ABOUT
from survbench.files import digest
from survbench.leaderboard.aggregate import build
from survbench.leaderboard.board import Leaderboard, Row
from survbench.report.page.provenance import jobs_of, provenance, seconds_of, seconds_per_job


def row(board: Leaderboard, model: str, cohort: str = "stad") -> Row:
    (found,) = [r for r in board.rows if r.model == model and r.cohort == cohort]
    return found


def reasons(board: Leaderboard) -> str:
    return "\n".join(f"{refusal.label}: {refusal.reason}" for refusal in board.refused)


def first_edition(folder: Path) -> None:
    """What the first edition wrote: another form of the record, and no manifest."""
    record = json.loads((folder / "job.json").read_text())
    identity = record["identity"] | {"task_version": 1, "code": record.pop("code")}
    del identity["protocol_version"], identity["model_version"]
    (folder / "job.json").write_text(json.dumps(record | {"format": 1, "identity": identity}))
    (folder / "manifest.json").unlink(missing_ok=True)


def test_rows_of_the_first_edition_are_shown_and_called_unsealed(tmp_path: Path) -> None:
    write_row(tmp_path, "snn")
    for model, selected in (("abmil", "default"), ("mcat", "tuned (8 trials)")):
        for folder in write_row(tmp_path, model, selected=selected):
            first_edition(folder)
    board = build(tmp_path)
    assert {line.title: line.variant for table in board.tables for line in table.lines} == {
        "ABMIL": "unsealed",
        "SNN": "",
        "MCAT": "tuned (8 trials), unsealed",
    }
    assert [(r.model, r.unsealed) for r in board.rows] == [("abmil", True), ("snn", False), ("mcat", True)]


def test_an_unsealed_row_stands_beside_the_same_one_sealed(tmp_path: Path) -> None:
    for folder in write_row(tmp_path, "snn", risks=(1, 2, 3), cohort_hash="h", train_inputs=[]):
        first_edition(folder)
    write_row(tmp_path, "snn", risks=(3, 2, 1), cohort_hash="h")
    (table,) = build(tmp_path).tables
    assert [line.variant for line in table.lines if not line.variant.startswith("unsealed")] != []
    assert any(line.variant.startswith("unsealed") for line in table.lines)


@pytest.mark.parametrize("key", ["task_version", "code"])
def test_without_a_manifest_only_the_first_editions_form_is_a_result(tmp_path: Path, key: str) -> None:
    """Rule 19, planted: a manifest that was taken away so that an edited prediction goes unnoticed."""
    folders = write_row(tmp_path, "snn")
    (folders[0] / "manifest.json").unlink()
    board = build(tmp_path)
    assert not board.rows
    assert "no manifest.json" in reasons(board)
    first_edition(folders[0])
    record = json.loads((folders[0] / "job.json").read_text())
    kept = record["identity"].pop(key)
    (folders[0] / "job.json").write_text(json.dumps(record))
    board = build(tmp_path)
    assert not board.rows
    assert f"'{key}' is missing" in reasons(board)
    record["identity"][key] = 2 if key == "task_version" else f"{kept}x"
    (folders[0] / "job.json").write_text(json.dumps(record))
    assert "not of the first edition" in reasons(build(tmp_path))


@pytest.mark.parametrize("name", ["job.json", "predictions.parquet"])
def test_an_altered_file_is_named(tmp_path: Path, name: str) -> None:
    """Rule 19, planted."""
    folders = write_row(tmp_path, "snn")
    if name == "job.json":
        record = json.loads((folders[1] / name).read_text())
        (folders[1] / name).write_text(json.dumps(record | {"selected": "tuned (9 trials)"}))
    else:
        table = pd.read_parquet(folders[1] / name)
        table.loc[0, "risk"] += 1e-9
        table.to_parquet(folders[1] / name)
    board = build(tmp_path)
    assert not board.rows
    assert f"{name} was altered after it was written" in reasons(board)
    assert "fold 1 of seed 0 missing" in reasons(board)


@pytest.mark.parametrize(("change", "said"), [("event", "times or events"), ("patient", "patients are not those")])
def test_labels_are_those_of_the_cohort(tmp_path: Path, change: str, said: str) -> None:
    """Rule 5 and 7, planted: predictions and manifest changed alike, in every fold."""
    from survbench.experiments.cohort_labels import labels_digest

    folders = write_row(tmp_path, "snn", cohort_hash="abc")
    everyone = patients()
    content = {"patients": list(everyone["patient"]), "labels": labels_digest(everyone)}
    (tmp_path / "cohorts").mkdir()
    (tmp_path / "cohorts" / "abc.json").write_text(json.dumps(content))
    assert len(build(tmp_path).rows) == 1
    for folder in folders:
        table = pd.read_parquet(folder / "predictions.parquet")
        table.loc[0, change] = False if change == "event" else "X"
        table.to_parquet(folder / "predictions.parquet")
        seal(folder)
    board = build(tmp_path)
    assert not board.rows
    assert said in reasons(board)


def test_a_cohort_file_of_another_form_condemns_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from survbench.experiments.cohort_labels import labels_digest

    write_row(tmp_path, "snn", cohort_hash="abc")
    file = tmp_path / "cohorts" / "abc.json"
    file.parent.mkdir()
    everyone = patients()
    known = {"patients": list(everyone["patient"]), "labels": labels_digest(everyone)}
    for odd in ({}, [], known | {"patients": "P000"}, known | {"patients": [1]}, known | {"labels": 5}):
        file.write_text(json.dumps(odd))
        assert len(build(tmp_path).rows) == 1
        assert "".join(capsys.readouterr().err.split()).count("abc.jsonis") == 1
    file.write_text(json.dumps(known | {"labels": "0" * 64}))  # seen although the file has been read before
    assert f"of the cohort in {file}" in reasons(build(tmp_path))
    assert "predictions.parquet" in reasons(build(tmp_path))
    file.write_text(json.dumps(known))
    assert len(build(tmp_path).rows) == 1


ODD = (None, 5, -1, True, 0.5, "x", [], {}, [{}], {"x": [{"y": None}]}, 10**400, 1e308, "\ud800", ["\ud800"], math.nan)


def odd_ones(record: object) -> Iterator[object]:
    """The record with one leaf or branch replaced by something else, or taken away."""
    items = list(record.items() if isinstance(record, dict) else enumerate(record) if isinstance(record, list) else ())
    for key, value in items:
        for odd in (*ODD, *odd_ones(value)):
            changed = dict(items) | {key: odd}
            yield changed if isinstance(record, dict) else list(changed.values())
        if isinstance(record, dict):
            yield {k: v for k, v in items if k != key}


def named_anew(record: dict[str, object]) -> list[dict[str, object]]:
    """The odd ones, each with the id of its identity where only that would give it away."""
    found = [odd for odd in odd_ones(record) if isinstance(odd, dict)]
    return [odd | ({"id": digest(odd.get("identity"))} if odd.get("id") == record["id"] else {}) for odd in found]


@pytest.mark.parametrize("kind", ["sealed", "first edition", "failure"])
def test_odd_records_are_shown_or_refused(tmp_path: Path, kind: str) -> None:
    """Every leaf and branch of a record, replaced in turn; whatever is read can be put on the page."""
    from survbench.experiments.results import JobResult, read_results

    path = write_job(tmp_path, "snn", error="it broke" if kind == "failure" else "")
    file = path if kind == "failure" else path / "job.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | ABOUT | {"phases": {"data": 1.0}}))
    if kind == "first edition":
        first_edition(path)
    usable = refused = 0
    for odd in named_anew(json.loads(file.read_text()))[::2]:
        file.write_text(json.dumps(odd))
        if kind == "sealed":
            seal(path)
        (found,) = read_results(tmp_path)
        if not isinstance(found, JobResult):
            refused += 1
            continue
        usable += 1
        json.dumps([found.title, found.beside, found.reconstruction, found.selected], ensure_ascii=False).encode()
        seconds_of([found])
    assert usable > 30
    assert refused > 100


def test_odd_records_do_no_harm_to_the_board(tmp_path: Path) -> None:
    folder = write_job(tmp_path, "snn", table=patients(folds=2), fold=0)
    write_job(tmp_path, "snn", table=patients(folds=2), fold=1)
    record = json.loads((folder / "job.json").read_text()) | ABOUT
    for odd in named_anew(record)[::11]:
        edit(folder, **dict.fromkeys(record) | odd)
        board = build(tmp_path)
        assert board.rows or board.refused
        jobs = jobs_of(board, tmp_path)
        for table in board.tables:
            provenance(table, jobs)
            [seconds_per_job(line, jobs) for line in table.lines]


def test_a_record_or_manifest_of_another_id_is_refused(tmp_path: Path) -> None:
    folders = write_row(tmp_path, "snn")
    edit(folders[0], id="0" * 64)
    shutil.copyfile(folders[2] / "manifest.json", folders[1] / "manifest.json")
    said = reasons(build(tmp_path))
    assert "its id is not that of its identity" in said
    assert "manifest.json is of another job" in said


def damage_json(folder: Path) -> None:
    (folder / "job.json").write_text("{not json")


def empty_json(folder: Path) -> None:
    (folder / "job.json").write_text("")


def no_json(folder: Path) -> None:
    (folder / "job.json").unlink()


def list_json(folder: Path) -> None:
    (folder / "job.json").write_text("[]")


def edit(folder: Path, **changes: object) -> None:
    record = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps(record | changes))
    seal(folder)


def future(folder: Path) -> None:
    edit(folder, format=3)


def no_identity(folder: Path) -> None:
    edit(folder, identity={"model": "snn"})


def odd_grid(folder: Path) -> None:
    edit(folder, grid=[1, "x"])


def odd_kind(folder: Path) -> None:
    edit(folder, simulated="perhaps")


def damage_predictions(folder: Path) -> None:
    (folder / "predictions.parquet").write_bytes(b"PAR1 not really")
    seal(folder)


def no_predictions(folder: Path) -> None:
    (folder / "predictions.parquet").unlink()


def short_curves(folder: Path) -> None:
    edit(folder, grid=[1.0, 2.0])


def duplicated_patient(folder: Path) -> None:
    table = pd.read_parquet(folder / "predictions.parquet")
    pd.concat([table, table.tail(1)]).to_parquet(folder / "predictions.parquet")
    seal(folder)


def nan_time(folder: Path) -> None:
    table = pd.read_parquet(folder / "predictions.parquet")
    table.loc[0, "time"] = math.nan
    table.to_parquet(folder / "predictions.parquet")
    seal(folder)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damage_json, "job.json cannot be used"),
        (empty_json, "job.json cannot be used"),
        (no_json, "it has no job.json"),
        (list_json, "no JSON object"),
        (future, "newer survbench"),
        (no_identity, "'protocol_version' is missing"),
        (odd_grid, "job.json cannot be used"),
        (odd_kind, "expected '', 'slides' or 'all'"),
        (damage_predictions, "cannot be read"),
        (no_predictions, "is missing"),
        (short_curves, "a survival curve has 3 values"),
        (duplicated_patient, "stands in it twice"),
        (nan_time, "is not a number"),
    ],
)
def test_a_damaged_job_is_named_and_the_others_are_shown(tmp_path: Path, damage, reason: str) -> None:  # type: ignore[no-untyped-def]
    write_row(tmp_path, "abmil")
    folders = write_row(tmp_path, "snn")
    damage(folders[1])
    board = build(tmp_path)
    assert {r.model for r in board.rows} == {"abmil"}
    assert reason in reasons(board)
    assert "fold 1 of seed 0 missing" in reasons(board)


def test_foreign_files_do_no_harm(tmp_path: Path) -> None:
    write_row(tmp_path)
    (tmp_path / "jobs" / "notes.txt").write_text("mine")
    (tmp_path / "jobs" / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "failures" / "a" / "b").mkdir(parents=True)
    (tmp_path / "failures" / "a" / "b" / "c.json").write_bytes(b"\xff\xfe")
    board = build(tmp_path)
    assert len(board.rows) == 1
    assert len(board.refused) == 2
