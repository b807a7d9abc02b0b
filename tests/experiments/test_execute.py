"""Jobs: nothing is fitted on test patients, results appear whole, and what is recorded is what ran."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from support.builders import GENES
from support.toy import SETTINGS, cohort, job, only, run
from survbench.cards import Modality, ModelCard, ModelGroup
from survbench.data import batches
from survbench.data.cohort import Cohort
from survbench.experiments import execute
from survbench.experiments.execute import out_of_memory
from survbench.experiments.plan import job_split


@pytest.mark.parametrize(
    ("model", "objective"),
    [
        *((model, objective) for model in ("snn", "amkd") for objective in ("cox", "nll")),
        *((model, "cox") for model in ("pomp", "ghanet", "cox_clinical", "cox_meanpool", "rsf_pathways")),
    ],
)
def test_nothing_is_fitted_on_test_patients(tmp_path: Path, model: str, objective: str) -> None:
    """Rule 3, planted: whatever happens to the test patients, everything fitted is bit-identical."""
    fold = job(cohort(), fold=0).fold
    run(tmp_path / "plain", job(cohort(), model, objective=objective))
    run(tmp_path / "moved", job(cohort(test_shift=50.0, test=fold.test), model, objective=objective))
    plain, moved = only(tmp_path / "plain"), only(tmp_path / "moved")
    for name in ("fitted.json", "model.safetensors", "history.parquet"):
        assert (plain / name).read_bytes() == (moved / name).read_bytes(), name
    before, after = (json.loads((p / "job.json").read_text()) for p in (plain, moved))
    for key in ("risk_cut", "horizon", "grid", "selection"):
        assert before[key] == after[key]
    assert before["identity"]["cohort_hash"] != after["identity"]["cohort_hash"]
    tables = [pd.read_parquet(p / "predictions.parquet").set_index("patient") for p in (plain, moved)]
    kept = tables[0]["split"] != "test"
    pd.testing.assert_frame_equal(tables[0][kept], tables[1][kept])
    assert (tables[0][~kept]["risk"] != tables[1][~kept]["risk"]).any()  # the move was seen, or nothing was tested


def test_training_reads_no_test_patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 1, planted: until the weights are saved, no split holds a test patient and no bag of one is read."""
    data, asked = cohort(), []
    original = Cohort.split
    monkeypatch.setattr(
        Cohort, "split", lambda self, members, scaler: asked.append(members) or original(self, members, scaler)
    )
    made = job(data, "amkd")
    scored = []

    def score(*arguments: Any) -> Any:
        scored.append((set().union(*asked), set(data.bags.read)))  # type: ignore[union-attr]
        return real(*arguments)

    real = execute._score
    monkeypatch.setattr(execute, "_score", score)
    run(tmp_path, made)
    ((asked_before, read_before),) = scored
    assert not asked_before & set(made.fold.test)
    assert not read_before & set(made.fold.test)
    assert read_before
    assert set(made.fold.test) <= set(data.bags.read)  # type: ignore[union-attr]


def test_the_batches_of_inference_carry_what_the_card_declares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 8: AMKD learns with expression and is scored without it."""
    seen = []
    original = execute.predict_logits
    monkeypatch.setattr(
        execute, "predict_logits", lambda m, s, granted, d: seen.append(granted) or original(m, s, granted, d)
    )
    run(tmp_path, job(cohort(), "amkd"))
    assert seen == [(Modality.SLIDES,)] * 3


@pytest.mark.parametrize(("model", "sees"), [("snn", False), ("abmil", True), ("mcat", True)])
def test_only_models_that_see_patches_have_them_on_the_device(
    model: str, sees: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(batches, "bags_for", lambda bags, *_: asked.append(bags) or bags)
    given = job(cohort(), model)
    job_split(given, given.fold.val, None, torch.device("cpu"))
    assert bool(asked) == sees


def test_every_patient_of_the_cohort_is_predicted(tmp_path: Path) -> None:
    run(tmp_path, job(cohort()))
    predictions = pd.read_parquet(only(tmp_path) / "predictions.parquet")
    assert sorted(predictions["patient"]) == list(cohort().patients.index)
    assert dict(predictions["split"].value_counts()) == pytest.approx({"train": 51, "val": 13, "test": 16}, abs=1)


class Wrong(torch.nn.Module):
    pass


@pytest.mark.parametrize("kind", ["too few", "nan"])
def test_a_model_that_predicts_nonsense_is_recorded_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Rule 7: a missing prediction is an error, not a smaller sample. Rule 12: it is said, not averaged away."""
    original = execute.predict_logits

    def spoiled(*arguments: Any) -> torch.Tensor:
        logits = original(*arguments)
        return (
            logits[1:] if kind == "too few" else torch.where(torch.arange(len(logits))[:, None] == 0, torch.nan, logits)
        )

    monkeypatch.setattr(execute, "predict_logits", spoiled)
    summary = run(tmp_path, job(cohort()))
    assert len(summary.failed) == 1
    (failure,) = tmp_path.glob("failures/*/*/*.json")
    assert "patients" in json.loads(failure.read_text())["error"]
    assert not list(tmp_path.glob("jobs/*/*/*"))
    monkeypatch.undo()
    assert run(tmp_path, job(cohort())).done == 1
    assert not failure.exists()


def test_one_failure_does_not_stop_the_others(tmp_path: Path) -> None:
    bad = job(cohort(), config={"width": -1})
    summary = run(tmp_path, bad, job(cohort()))
    assert (summary.done, len(summary.failed)) == (1, 1)


def test_what_is_done_is_skipped_and_an_interruption_keeps_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = execute._score
    monkeypatch.setattr(execute, "_score", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, job(cohort()))
    assert list(tmp_path.glob("scratch/*/checkpoint.pt"))
    assert not list(tmp_path.glob("jobs/*/*/*"))
    monkeypatch.setattr(execute, "_score", original)
    assert run(tmp_path, job(cohort())).done == 1
    assert run(tmp_path, job(cohort())).skipped == 1
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"config": {"width": 8}},
        {"settings": replace(SETTINGS, epochs=3)},
        {"scheme": "official"},
        {"folds_hash": "other"},
        {"objective": {"name": "cox-breslow"}},
    ],
)
def test_anything_that_could_change_the_result_changes_the_identity(change: dict[str, Any]) -> None:
    plain = job(cohort())
    assert replace(plain, **change).id != plain.id
    assert job(cohort()).id == plain.id


def test_the_content_hash_is_of_everything_a_result_depends_on() -> None:
    plain = cohort()
    flipped = plain.patients.assign(event=~plain.patients["event"])
    assert plain.content_hash == cohort().content_hash
    for change in (
        {"endpoint": "dss"},
        {"patients": flipped},
        {"patients": plain.patients.iloc[1:]},
        {"expression": plain.expression + 1},
        {"pathways": {"A": GENES}},
        {"bags": None},
    ):
        assert replace(plain, **change).content_hash != plain.content_hash, change


def test_a_third_partys_model_is_recorded_with_its_card(tmp_path: Path) -> None:
    card = ModelCard(
        "theirs", "Theirs", ModelGroup.OMICS, (Modality.EXPRESSION,), (Modality.EXPRESSION,), target="baselines.snn:SNN"
    )
    run(tmp_path, job(cohort(), card=card))
    assert json.loads((only(tmp_path) / "job.json").read_text())["card"]["title"] == "Theirs"


def test_a_job_says_where_its_time_went(tmp_path: Path) -> None:
    began = time.perf_counter()
    summary = run(tmp_path, job(cohort(), "amkd"))
    wall = time.perf_counter() - began
    record = json.loads((only(tmp_path) / "job.json").read_text())
    phases = record["phases"]
    training = {"data", "forward", "backward", "optimizer", "validation", "checkpoints"}
    assert set(phases) == training | {"preparation", "evaluation", "other"}  # AMKD's teacher is asked beforehand
    assert all(seconds > 0 for seconds in phases.values())
    assert sum(phases.values()) == pytest.approx(sum(record["seconds"].values()), rel=0.05)
    assert sum(phases.values()) < wall
    line = summary.where_time_went()
    assert all(f"% {phase}" in line for phase in ("forward", "backward"))
    assert f"{sum(phases.values()):.3g} s per job" in line
    assert not run(tmp_path, job(cohort(), "amkd")).where_time_went()  # it was done before


def test_an_estimated_model_has_phases_of_its_own(tmp_path: Path) -> None:
    run(tmp_path, job(cohort(), "cox_clinical"))
    phases = json.loads((only(tmp_path) / "job.json").read_text())["phases"]
    assert set(phases) == {"estimation", "checkpoints", "evaluation", "other"}


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("CUDA error: out of memory"), False),
    ],
)
def test_how_a_full_device_is_recognized(error: Exception, full: bool) -> None:
    assert out_of_memory(error) is full
