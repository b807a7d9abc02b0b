"""The estimate of a dry run: its arithmetic with a clock of its own, what is counted once, what is left out."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch

from support.toy import SETTINGS, cohort, job
from survbench.data.root import DataRoot
from survbench.experiments.dispatch import run_jobs
from survbench.experiments.forecast import (
    SAMPLE,
    Calibration,
    Line,
    Range,
    StageCost,
    calibrate,
    calibrated,
    estimate,
    forecast,
    grouped,
    some_patients,
)
from survbench.experiments.mlflow.tracking import Mirror
from survbench.experiments.plan import Request, plan
from survbench.registry import load_registry
from survbench.report.listings import forecast_sheet

CPU = torch.device("cpu")
LONG = replace(SETTINGS, epochs=20, patience=3)


KILLED = """
import os, signal
from torch import nn
from survbench.model import Inputs, Modality, ModelCard, ModelGroup, Prediction, SurvivalModel

class Killed(SurvivalModel):
    card = ModelCard(name="killed", title="Killed", modality=ModelGroup.OMICS,
                     train_inputs=(Modality.EXPRESSION,), inference_inputs=(Modality.EXPRESSION,))

    def __init__(self, inputs: Inputs, outputs: int):
        super().__init__()
        self.head = nn.Linear(len(inputs.genes), outputs)

    def forward(self, batch):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def ticking() -> float:
    """A clock on which whatever is timed takes one second."""
    return float(next(TICKS))


TICKS = count()


def test_a_job_takes_from_patience_to_all_epochs_of_each_stage() -> None:
    made = job(cohort(), "amkd", settings=LONG)
    known = calibrate(made, CPU, ticking)
    sampled = len(some_patients(made.cohort.split(made.fold.val, made.cohort.scaler(made.fold))))
    steps = -(-len(made.fold.train) // LONG.batch_size)
    epoch = steps + len(made.fold.val) / sampled + 1  # steps, validation of all from that of some, a checkpoint
    predicted = len(made.fold.patients) / sampled
    assert [stage.name for stage in known.stages] == ["teacher", "student"]
    assert [stage.epoch_seconds for stage in known.stages] == pytest.approx([epoch, epoch])
    asked = 1  # the teacher, before the student's first epoch
    assert [stage.preparation_seconds for stage in known.stages] == [0, asked]
    assert known.job.least == pytest.approx(2 * 4 * epoch + asked + predicted)
    assert known.job.most == pytest.approx(2 * 20 * epoch + asked + predicted)
    assert known.weights_bytes > 0


def test_patience_beyond_the_epochs_leaves_no_range() -> None:
    known = calibrate(job(cohort(), "snn", settings=replace(LONG, patience=50)), CPU, ticking)
    assert known.job.least == known.job.most


def test_calibrating_reads_no_test_patient_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = cohort()
    made = job(data, "amkd")
    calibrate(made, CPU)
    assert not set(made.fold.test) & set(data.bags.read)  # type: ignore[union-attr]
    assert not list(tmp_path.iterdir())


def test_a_model_without_steps_is_not_estimated(tmp_path: Path) -> None:
    jobs = [job(cohort(), "cox_clinical", fold=fold) for fold in range(2)]
    result = forecast([jobs], [calibrate(jobs[0], CPU)], 0, tmp_path, 1)
    assert result.untimed == 2
    assert result.wall == Range()
    assert "not estimated" in forecast_sheet(result, "cpu").to_markdown()


def known(seconds: float, least: int = 2, most: int = 5, **shared: str) -> Calibration:
    epochs = {"least": least, "most": most}
    stage = StageCost(
        name="fit", steps=1, step_seconds=seconds, validation_seconds=0.0, checkpoint_seconds=0.0, **epochs
    )
    return Calibration((replace(stage, shared=shared or None),))


def test_done_jobs_are_not_counted_and_the_rest_is_divided_among_workers(tmp_path: Path) -> None:
    jobs = [job(cohort(), "snn", fold=fold) for fold in range(4)]
    left = jobs[1:]
    result = forecast(grouped(left), [known(10.0)], 1, tmp_path, 2)
    assert [(line.model, line.jobs) for line in result.lines] == [("snn", 3)]
    assert result.wall == Range(40.0, 100.0)  # two side by side, then the third
    assert forecast(grouped(left), [known(10.0)], 1, tmp_path, 9).wall == Range(20.0, 50.0)
    plain = json.loads(json.dumps(result.to_json()))
    assert (plain["done"], plain["wall_seconds"]) == (1, {"least": 40.0, "most": 100.0})


def test_a_teacher_that_jobs_share_is_counted_once_for_each_fold(tmp_path: Path) -> None:
    jobs = [job(cohort(), "amkd", fold=fold, config={"alpha": alpha}) for alpha in (0.1, 0.2) for fold in (0, 1)]
    result = forecast([jobs], [known(10.0, decided_by="teacher")], 0, tmp_path, 1)
    assert [spent.most for spent in result.lines[0].each] == [50.0, 50.0, 0.0, 0.0]


def test_a_model_that_fails_hides_no_other(tmp_path: Path) -> None:
    jobs = [job(cohort(), "snn"), job(cohort(), "mlp")]
    result = forecast(grouped(jobs), ["ValueError: no", known(1.0)], 0, tmp_path, 1)
    assert result.lines[0] == Line(model="snn", cohort="toy", calibration=None, untimed=1, problem="ValueError: no")
    assert result.wall == Range(2.0, 5.0)
    told = forecast_sheet(result, "cpu").to_markdown()
    assert "failed" in told
    assert "2.0 s to 5.0 s" in told
    assert "an estimate" in told


def test_a_process_that_is_killed_hides_no_other_model(
    small_root: DataRoot, request_on_stad: Request, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "killed.py").write_text(KILLED)
    wanted = replace(request_on_stad, models=[f"{tmp_path / 'killed.py'}:Killed", "snn"], folds=[0])
    jobs = plan(wanted, load_registry(), small_root)
    killed, timed = (calibrated(planned, CPU, 1) for planned in jobs)
    assert isinstance(killed, str)
    assert isinstance(timed, Calibration)
    assert timed.memory
    assert timed.job.most > 0
    result = estimate(jobs, tmp_path, CPU)
    assert [line.problem for line in result.lines] == [killed, ""]
    assert "killed on stad could not be timed" in capsys.readouterr().err
    assert run_jobs(jobs[1:], tmp_path, CPU, Mirror(tmp_path, "x", enabled=False)).done == 1
    again = estimate(jobs, tmp_path, CPU)
    assert ([line.model for line in again.lines], again.done) == (["killed"], 1)


def test_nothing_left_is_said(tmp_path: Path) -> None:
    nothing = forecast_sheet(forecast([], [], 7, tmp_path, 1), "cpu")
    assert "Nothing is left to run: all 7 jobs are done." in nothing.to_markdown()


def test_the_sample_of_patients_has_deaths_and_is_small() -> None:
    made = job(cohort())
    split = made.cohort.split(made.fold.train, made.cohort.scaler(made.fold))
    sample = some_patients(split)
    assert sample.event.sum() >= 2
    assert SAMPLE <= len(sample) <= SAMPLE + 2
    assert np.isin(sample.patients, split.patients).all()
