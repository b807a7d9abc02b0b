"""Jobs side by side: the same results, and a process that dies takes nothing with it but its own epoch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from experiments.conftest import TINY

from survbench.data.root import DataRoot
from survbench.experiments.job import Job
from survbench.experiments.plan import Request, plan
from survbench.experiments.schedule import Summary, _next, run_jobs
from survbench.experiments.study import all_jobs, find_study, plan_study
from survbench.experiments.tracking import Mirror
from survbench.experiments.workers import sensible_workers
from survbench.registry import load_registry

FRAGILE = """
import os, signal
from pathlib import Path
from torch import nn
from survbench.model import Inputs, Modality, ModelCard, ModelGroup, Prediction, SurvivalModel

class Fragile(SurvivalModel):
    '''Its process is killed in the first epoch, where there is room for one more file in a folder.'''
    card = ModelCard(name="fragile", title="Fragile", modality=ModelGroup.OMICS,
                     train_inputs=(Modality.EXPRESSION,), inference_inputs=(Modality.EXPRESSION,))

    def __init__(self, inputs: Inputs, outputs: int, *, deaths: int = 1, folder: str = "") -> None:
        super().__init__()
        self.head, self.deaths, self.folder = nn.Linear(len(inputs.genes), outputs), deaths, Path(folder)

    def forward(self, batch):
        if self.training and len(list(self.folder.iterdir())) < self.deaths:
            (self.folder / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Prediction(self.head(batch.expression))
"""


def planned(root: DataRoot, models: list[str], folds: tuple[int, ...] = (), **settings: object) -> list[Job]:
    request = Request(models, ["stad"], "os", "event-stratified", folds=folds, overrides={**TINY, **settings})
    return plan(request, load_registry(), root)


def side_by_side(jobs: list[Job], out: Path, workers: int) -> Summary:
    return run_jobs(jobs, out, torch.device("cpu"), Mirror(out, "test", enabled=False), workers=workers)


def contents(out: Path) -> dict[str, bytes]:
    """Everything that a job computes; job.json has its seconds besides."""
    return {
        f"{folder.name}/{file}": (folder / file).read_bytes()
        for folder in out.glob("jobs/*/*/*")
        for file in ("model.safetensors", "fitted.json", "history.parquet", "predictions.parquet", "metrics.json")
    }


def test_results_do_not_depend_on_the_number_of_workers(small_root: DataRoot, tmp_path: Path) -> None:
    jobs = [*planned(small_root, ["amkd"], (0,)), *planned(small_root, ["snn", "coxnet_pathways"], (1,))]
    for workers in (1, 2):
        summary = side_by_side(jobs, tmp_path / str(workers), workers)
        assert (summary.done, summary.skipped, summary.failed) == (3, 0, [])
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert side_by_side(jobs, tmp_path / "2", 2).skipped == 3
    assert not list((tmp_path / "2" / "scratch").iterdir())
    records = [json.loads(file.read_text()) for file in tmp_path.glob("*/jobs/*/*/*/job.json")]
    assert {record["hardware"]["threads"] for record in records} == {1}


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_killed_process_costs_at_most_its_own_job(
    small_root: DataRoot, tmp_path: Path, deaths: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed once, the job is done all the same; killed twice, it is a failure that the leaderboard can show."""
    (tmp_path / "fragile.py").write_text(FRAGILE)
    (tmp_path / "killed").mkdir()
    model = str(tmp_path / "fragile.py")
    fragile = planned(small_root, [model], (0,), deaths=deaths, folder=str(tmp_path / "killed"))
    summary = side_by_side([*fragile, *planned(small_root, ["snn"])], tmp_path / "out", 2)
    assert len(list((tmp_path / "killed").iterdir())) == deaths
    assert "goes on in a new one" in capsys.readouterr().err
    assert summary.done == (6 if deaths == 1 else 5)
    assert [failure.partition(": ")[2][:11] for failure in summary.failed] == ["its process"] * (deaths - 1)
    assert len(list((tmp_path / "out").glob("failures/fragile/*/*.json"))) == deaths - 1


def test_a_failure_in_a_worker_is_recorded_as_anywhere(
    small_root: DataRoot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [
        *planned(small_root, ["snn"], (0,), width=-1),
        *planned(small_root, ["snn"], (1,), learning_rate=1e12),
        *planned(small_root, ["snn"], (2,)),
    ]
    summary = side_by_side(jobs, tmp_path / "side", 2)
    alone = side_by_side(jobs, tmp_path / "alone", 1)
    assert sorted(summary.failed) == sorted(alone.failed)
    assert (summary.done, alone.done) == (1, 1)
    both = [
        sorted(p.relative_to(tmp_path / out) for p in (tmp_path / out).glob("failures/*/*/*"))
        for out in ("side", "alone")
    ]
    assert both[0] == both[1]
    assert capsys.readouterr().err.count("failed: ") == 4  # a worker's warnings are said by the parent


def test_data_that_change_under_a_command_are_noticed(small_root: DataRoot, tmp_path: Path) -> None:
    jobs = planned(small_root, ["snn"], (0, 1))
    expression = jobs[0].cohort.expression
    assert expression is not None
    changed = replace(jobs[0].cohort, expression=expression + 1)
    summary = side_by_side([replace(job, cohort=changed) for job in jobs], tmp_path, 2)
    assert len(summary.failed) == 2
    assert "changed since the command began" in summary.failed[0]


def test_jobs_that_may_share_a_teacher_are_not_begun_together(small_root: DataRoot) -> None:
    registry = load_registry()
    study = find_study("alpha", "amkd", registry)
    request = Request(["amkd"], ["stad"], "os", "event-stratified", overrides=TINY)
    waiting = all_jobs(plan_study(study, request, registry, small_root))
    first = waiting[:]
    running = [_next(waiting, [])]
    running.append(_next(waiting, running))
    assert [job.fold.index for job in running] == [0, 1]
    assert running[0] is first[0]
    assert len(waiting) == len(first) - 2
    only = [job for job in first if job.fold.index == 0]
    assert _next(list(only), [only[0]]) is only[0]  # better two of one fold than nobody at work


def test_as_many_workers_as_the_machine_can_bear() -> None:
    assert sensible_workers(torch.device("cpu")) >= 1
    assert sensible_workers(torch.device("meta")) == 1
