"""Result folders: what is written comes back, what was altered is named, and nothing in them is obeyed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from support.job_folders import seal
from support.toy import cohort, job, run
from survbench.errors import BadConfig, BadFile, BadModel
from survbench.experiments.cohort_labels import write_cohort
from survbench.experiments.dispatch import run_jobs
from survbench.experiments.folders import result_folder
from survbench.experiments.job import Job
from survbench.experiments.mlflow.tracking import Mirror
from survbench.experiments.results import JobResult, find_results, read_results
from survbench.experiments.versions import versions_of
from survbench.files import digest
from survbench.registry import load_registry

CPU = torch.device("cpu")


def planned(model: str = "snn", **changes: Any) -> Job:
    made = replace(job(cohort(), model), **changes)
    return replace(made, versions=versions_of(made.card, made.config, made.objective, load_registry()))


@pytest.mark.parametrize("model", ["snn", "amkd", "abmil_cat", "cox_clinical"])
def test_a_result_says_and_predicts_what_the_job_did(model: str, tmp_path: Path) -> None:
    made = planned(model)
    run(tmp_path, made)
    (result,) = read_results(tmp_path)
    assert isinstance(result, JobResult)
    assert (result.identity, result.unsealed, result.selected) == (made.identity, False, "default")
    assert set(result.history()["stage"]) == set(result.record["selection"]["epochs"])
    predictions = result.predictions().set_index("patient")
    assert sorted(predictions.index) == list(made.cohort.patients.index)
    assert result.provenance["code"] == result.code
    assert {"torch", "scikit-survival"} <= set(result.provenance["versions"])
    assert result.provenance["hardware"]["threads"] == 1
    by_name, objective = result.load_model(CPU)
    by_job, _ = result.load_model(CPU, job=made)
    split = made.cohort.split(made.fold.test, result.fitted_state.scaler)
    for net in (by_name, by_job):
        with torch.no_grad():
            logits = torch.cat([net(b).logits for b in split.in_order(made.card.inference_inputs)]).double()
        np.testing.assert_allclose(objective.risk(logits).numpy(), predictions.loc[list(made.fold.test), "risk"], 1e-6)


@pytest.mark.parametrize(
    ("name", "ask"),
    [
        ("predictions.parquet", lambda r: r.predictions()),
        ("history.parquet", lambda r: r.history()),
        ("metrics.json", lambda r: r.metrics()),
        ("fitted.json", lambda r: r.fitted_state),
        ("model.safetensors", lambda r: r.load_model(CPU)),
    ],
)
def test_an_altered_file_is_named(name: str, ask: Any, tmp_path: Path) -> None:
    made = planned()
    run(tmp_path, made)
    file = result_folder(made, tmp_path) / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(BadFile, match=f"{name} was altered"):
        ask(JobResult.of(made, tmp_path))
    file.unlink()
    with pytest.raises(BadFile, match="missing"):
        ask(JobResult.of(made, tmp_path))


def test_who_was_scored_is_kept_once_for_all_jobs(tmp_path: Path) -> None:
    made = planned()
    run(tmp_path, made, planned("abmil"))
    (file,) = (tmp_path / "cohorts").iterdir()
    content = json.loads(file.read_text())
    assert file.stem == made.cohort.content_hash
    assert content["patients"] == list(made.cohort.patients.index)
    assert content["simulated"] == "all"


def forged(out: Path, made: Job, **changes: Any) -> JobResult:
    """Edited, and sealed again by whoever did it."""
    file = result_folder(made, out) / "job.json"
    record = json.loads(file.read_text()) | changes
    file.write_text(json.dumps(record | {"id": digest(record["identity"])}))
    seal(file.parent)
    return JobResult.open(file.parent)


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that tells when it is imported."""
    (tmp_path / "trap").mkdir()
    (tmp_path / "trap" / "sprung.py").write_text("class Thing: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path / "trap"))
    return "sprung:Thing"


def test_no_string_of_a_record_is_imported(tmp_path: Path, trap: str) -> None:
    made = planned("amkd")
    run(tmp_path / "out", made)
    assert forged(tmp_path / "out", made, target=trap).load_model(CPU)  # what it says of its target is not asked
    for config, said in (
        ({"teacher": {"model": "mcat", "target": trap, "config": {"x": trap}, "training": {}}}, "sprung:Thing"),
        ({"teacher": {"model": "sprung", "target": trap}}, "model sprung"),
        ({"pooling": trap}, "sprung:Thing"),
        ({"head": [trap]}, "sprung:Thing"),
    ):
        result = forged(tmp_path / "out", made, config={**made.config, **config})
        with pytest.raises(BadModel, match=said):
            result.load_model(CPU)
    objective = {**made.identity["objective"], "name": trap}
    with pytest.raises(BadModel, match="objective"):
        forged(
            tmp_path / "out", made, config=made.config, identity={**made.identity, "objective": objective}
        ).load_model(CPU)
    with pytest.raises(BadModel, match="not registered"):
        forged(tmp_path / "out", made, identity={**made.identity, "model": trap}).load_model(CPU)
    assert "sprung" not in sys.modules


def test_a_model_of_another_version_is_not_loaded(tmp_path: Path) -> None:
    made = planned()
    run(tmp_path, made)
    registry = load_registry()
    registry.models["snn"] = replace(registry.models["snn"], version=2)
    with pytest.raises(BadModel, match="version snn@1, here it is snn@2"):
        JobResult.of(made, tmp_path).load_model(CPU, registry=registry)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    made = [planned(), planned("abmil")]
    run(tmp_path, made[0])
    with pytest.raises(BadConfig, match=r"1 of 2 jobs have no result .* first abmil .* survbench run --model abmil"):
        find_results(made, tmp_path)
    with pytest.raises(BadFile):
        JobResult.open(tmp_path)


def test_curves_stand_at_the_grid(tmp_path: Path) -> None:
    made = planned()
    run(tmp_path, made)
    result = JobResult.of(made, tmp_path)
    curves = np.stack(result.predictions()["survival"].tolist())
    assert curves.shape == (len(made.cohort.patients), len(result.grid))
    assert result.grid == result.fitted_state.grid
    assert result.horizon == pytest.approx(result.grid[-1])
    assert isinstance(result.predictions(), pd.DataFrame)


def test_a_folder_of_another_job_is_refused(tmp_path: Path) -> None:
    made = [replace(planned(), seed=seed) for seed in (0, 1)]
    run(tmp_path, *made)
    folders = [result_folder(job, tmp_path) for job in made]
    folders[0].rename(tmp_path / "kept")
    folders[1].rename(folders[0])
    (tmp_path / "kept").rename(folders[1])
    with pytest.raises(BadFile, match=r"holds fold 0 seed 1 of snn on toy, not snn toy fold 0 seed 0"):
        JobResult.of(made[0], tmp_path)
    assert len(run(tmp_path, *made).failed) == 2


def empty_folder(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


@pytest.mark.parametrize(
    "harm",
    [
        empty_folder,
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "model.safetensors").write_bytes(b""),
        lambda folder: os.truncate(folder / "model.safetensors", 200),
        lambda folder: (folder / "metrics.json").write_text("{}"),
        lambda folder: (folder / "history.parquet").unlink() or seal(folder),
    ],
)
def test_what_is_not_whole_is_neither_done_nor_deleted(harm: Any, tmp_path: Path) -> None:
    made = planned()
    run(tmp_path, made)
    folder = result_folder(made, tmp_path)
    harm(folder)
    left = sorted(folder.iterdir())
    summary = run_jobs([made], tmp_path, CPU, Mirror(tmp_path, "x", enabled=False))
    assert (summary.done, summary.skipped) == (0, 0)
    (reason,) = summary.failed
    assert str(folder) in reason
    assert "delete the folder and run the job again" in reason
    assert sorted(folder.iterdir()) == left
    shutil.rmtree(folder)
    assert run(tmp_path, made).done == 1
    assert run(tmp_path, made).skipped == 1


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"genes": 5}'])
def test_damaged_files_of_the_first_edition_are_named(content: bytes | None, tmp_path: Path) -> None:
    out = shutil.copytree(Path(__file__).parents[1] / "fixtures" / "first_edition" / "out", tmp_path / "out")
    result = JobResult.open(next((out / "jobs" / "snn").glob("*/*")))
    for name, ask in (
        ("history.parquet", lambda: result.history()),
        ("fitted.json", lambda: result.fitted_state),
        ("fitted.json", lambda: result.load_model(CPU)),
        ("model.safetensors", lambda: result.weights()),
        ("model.safetensors", lambda: result.load_model(CPU)),
    ):
        file = result.path / name
        before = file.read_bytes()
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(BadFile, match=name):
            ask()
        file.write_bytes(before)


@pytest.mark.parametrize("odd", ["{}", "", "[" * 100_000])
def test_a_cohort_file_that_differs_is_written_again(odd: str, tmp_path: Path) -> None:
    made = planned()
    write_cohort(made.cohort, tmp_path)
    (file,) = (tmp_path / "cohorts").iterdir()
    before = file.read_bytes()
    file.write_text(odd)
    write_cohort(made.cohort, tmp_path)
    assert file.read_bytes() == before
