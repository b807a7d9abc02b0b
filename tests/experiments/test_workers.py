"""Jobs side by side: the same results, and a process that dies takes nothing with it but its own epoch."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from support.toy import TINY
from survbench.data.root import DataRoot
from survbench.experiments import schedule
from survbench.experiments import workers as processes
from survbench.experiments.job import Job
from survbench.experiments.mlflow.tracking import Mirror
from survbench.experiments.plan import Request, plan
from survbench.experiments.room import MOST, Room
from survbench.experiments.schedule import Summary, _next, _room, _Run, run_jobs
from survbench.experiments.study import all_jobs, find_study, plan_study
from survbench.experiments.workers import CONTEXT, device_memory, sensible_workers
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

GREEDY = """
import os
from pathlib import Path
import torch
from torch import nn
from survbench.experiments import workers
from survbench.model import Inputs, Modality, ModelCard, ModelGroup, Prediction, SurvivalModel

class Greedy(SurvivalModel):
    '''Finds the device full after its first epoch, where there is room for one more file in a folder.'''
    card = ModelCard(name="greedy", title="Greedy", modality=ModelGroup.OMICS,
                     train_inputs=(Modality.EXPRESSION,), inference_inputs=(Modality.EXPRESSION,))

    def __init__(self, inputs: Inputs, outputs: int, *, times: int = 0, folder: str = "",
                 free: int = 90) -> None:
        super().__init__()
        self.head, self.times, self.folder = nn.Linear(len(inputs.genes), outputs), times, Path(folder)
        workers.device_memory = lambda device: (10, free)  # as if there were a device

    def forward(self, batch):
        if not self.training and (found := len(list(self.folder.iterdir()))) < self.times:
            (self.folder / str(found)).touch()
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 is full.")
        return Prediction(self.head(batch.expression))
"""


class Watched(Room):
    """Remembers how many ran at once, each time that one began."""

    def __init__(self, most: int, budget: float | None = None) -> None:
        super().__init__(most, budget)
        self.seen: list[int] = []

    def enter(self, job: str, model: str) -> None:
        super().enter(job, model)
        self.seen.append(len(self))


def planned(root: DataRoot, models: list[str], folds: tuple[int, ...] = (), **settings: object) -> list[Job]:
    request = Request(models, ["stad"], "os", "event-stratified", folds=folds, overrides={**TINY, **settings})
    return plan(request, load_registry(), root)


def side_by_side(jobs: list[Job], out: Path, workers: int) -> Summary:
    return run_jobs(jobs, out, torch.device("cpu"), Mirror(out, "test", enabled=False), workers=workers)


@pytest.fixture
def greedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """File of a model that is short of memory, and says that it holds 10 bytes of a device."""
    monkeypatch.setattr(processes, "device_memory", processes.device_memory)  # for the model replaces it here, too
    (tmp_path / "greedy.py").write_text(GREEDY)
    (tmp_path / "full").mkdir()
    return str(tmp_path / "greedy.py")


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


@pytest.mark.parametrize(
    ("most", "budget", "free", "began"),
    [(3, None, 90, [1, 2, 3]), (8, None, 23, [1, 2]), (8, None, 0, [1, 1]), (2, math.inf, 0, [1, 2])],
)
def test_as_many_jobs_as_a_device_holds(
    small_root: DataRoot, tmp_path: Path, greedy: str, most: int, budget: float | None, free: int, began: list[int]
) -> None:
    """One until it is measured, then as many as fit, and results that do not tell."""
    jobs = planned(small_root, [greedy], folder=str(tmp_path / "full"), epochs=3, free=free)
    room = Watched(most, budget)
    run = _Run(tmp_path / "out", torch.device("cpu"), Mirror(tmp_path / "out", "test", enabled=False), threads=1)
    with run.bars:
        run.bars.add_task("jobs", total=len(jobs))
        run.side_by_side(jobs, room)
    assert (run.summary.done, run.summary.failed) == (5, [])
    assert room.seen[: len(began)] == began
    assert max(room.seen) == began[-1]
    assert len(room) == 0
    side_by_side(jobs, tmp_path / "alone", 1)
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


@pytest.mark.parametrize("times", [1, 2])
def test_a_job_that_finds_the_device_full_is_tried_again_alone(
    small_root: DataRoot, tmp_path: Path, greedy: str, times: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Alone and still without memory it fails, and says what may help."""
    hungry = planned(small_root, [greedy], (0,), times=times, folder=str(tmp_path / "full"))
    jobs = [*hungry, *planned(small_root, ["snn"])]
    summary = side_by_side(jobs, tmp_path / "out", 2)
    assert len(list((tmp_path / "full").iterdir())) == times
    assert capsys.readouterr().err.count("goes on when fewer jobs run beside it") == 1
    assert summary.done == (6 if times == 1 else 5)
    assert len(list((tmp_path / "out").glob("failures/greedy/*/*.json"))) == len(summary.failed) == times - 1
    for failure in summary.failed:
        assert "Tried to allocate 2.50 GiB. try" in failure
        assert "--set batch_size" in failure
        assert "--workers 1" in failure
    side_by_side(jobs, tmp_path / "alone", 1)  # by now the device has room
    both = contents(tmp_path / "out"), contents(tmp_path / "alone")
    assert both[0].items() <= both[1].items()
    assert (both[0] == both[1]) == (times == 1)


def test_a_job_without_memory_fails_at_once_where_it_is_alone(
    small_root: DataRoot, tmp_path: Path, greedy: str
) -> None:
    hungry = planned(small_root, [greedy], (0,), times=1, folder=str(tmp_path / "full"))
    assert "--set batch_size" in side_by_side(hungry, tmp_path / "out", 1).failed[0]
    assert side_by_side(hungry, tmp_path / "out", 1).done == 1  # given the same command again


def test_data_that_change_under_a_command_are_noticed(small_root: DataRoot, tmp_path: Path) -> None:
    jobs = planned(small_root, ["snn"], (0, 1))
    expression = jobs[0].cohort.expression
    assert expression is not None
    changed = replace(jobs[0].cohort, expression=expression + 1)
    summary = side_by_side([replace(job, cohort=changed) for job in jobs], tmp_path, 2)
    assert len(summary.failed) == 2
    assert "changed since the command began" in summary.failed[0]


def taken(waiting: list[Job], running: list[Job], room: Room) -> Job:
    job = _next(waiting, running, room)
    assert job is not None
    return job


def test_jobs_that_may_share_a_teacher_are_not_begun_together(small_root: DataRoot) -> None:
    registry = load_registry()
    study = find_study("alpha", "amkd", registry)
    request = Request(["amkd"], ["stad"], "os", "event-stratified", overrides=TINY)
    waiting = all_jobs(plan_study(study, request, registry, small_root))
    first = waiting[:]
    room = Room(3, math.inf)
    running = [taken(waiting, [], room)]
    running.append(taken(waiting, running, room))
    assert [job.fold.index for job in running] == [0, 1]
    assert running[0] is first[0]
    assert len(waiting) == len(first) - 2
    only = [job for job in first if job.fold.index == 0]
    assert taken(list(only), [only[0]], room) is only[0]  # better two of one fold than nobody at work
    for number in range(3):
        room.enter(str(number), "amkd")
    assert _next(waiting, running, room) is None


def test_as_many_workers_as_the_machine_can_bear() -> None:
    assert sensible_workers(torch.device("cpu")) >= 1
    assert sensible_workers(torch.device("meta")) == 1


@pytest.mark.parametrize(
    ("workers", "device", "jobs", "most", "measured"),
    [
        (None, "cuda", 100, MOST, True),
        (None, "cuda:1", 3, 3, True),
        (4, "cuda", 100, 4, False),
        (None, "mps", 100, 1, False),
        (None, "cpu", 100, 16, False),
        (20, "cpu", 5, 5, False),
    ],
)
def test_only_on_cuda_and_unasked_memory_is_measured(
    monkeypatch: pytest.MonkeyPatch, workers: int | None, device: str, jobs: int, most: int, measured: bool
) -> None:
    for module in (schedule, processes):
        monkeypatch.setattr(module, "bearable_workers", lambda: 16)
    room = _room(workers, torch.device(device), jobs)
    assert (room.most, room.budget is None) == (most, measured)


def test_what_a_process_holds_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked of a CUDA device that it has used, and of no other."""
    cuda = torch.device("cuda")
    assert device_memory(torch.device("cpu")) == device_memory(cuda) == (0, 0)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", {cuda: 7}.get)
    monkeypatch.setattr(torch.cuda, "mem_get_info", {cuda: (5, 20)}.get)
    assert device_memory(cuda) == (7 + CONTEXT, 5)
    assert device_memory(torch.device("cpu")) == (0, 0)
