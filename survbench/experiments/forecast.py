"""What the jobs that remain will take: an estimate from a few steps of each model on its own data.

Nothing is trained to an end, nothing is written to the results; every model and cohort is timed in a process of its
own, so that its memory is its own too.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from survbench.console import track, warn
from survbench.data.batches import Split
from survbench.experiments.executors.gpu_admission import sensible_workers
from survbench.experiments.executors.local import TaskFailed, call
from survbench.experiments.folders import stages_folder
from survbench.experiments.job import Job, JobSpec
from survbench.experiments.plan import job_split
from survbench.experiments.results import JobResult
from survbench.experiments.trained_models import build_model, build_objective
from survbench.model import Objective, Stage, SurvivalModel
from survbench.training.checkpoint import Progress, save_checkpoint
from survbench.training.clock import Clock
from survbench.training.device import cpu_threads, keep_freed_memory, peak_memory
from survbench.training.fit import learners, stage_identity
from survbench.training.stage_cache import StageCache
from survbench.training.steps import (
    predict_logits,
    prepared,
    seed_everything,
    stage_optimizer,
    train_step,
    training_batches,
    validation_loss,
)

__all__ = ["Calibration", "Forecast", "Line", "Range", "StageCost", "calibrate", "calibrated", "estimate", "forecast"]

SAMPLE = 8  # patients whose prediction is timed
REPEATS, ENOUGH_SECONDS = 3, 1.0  # work is timed so often, or for so long


@dataclass(frozen=True)
class Range:
    """Seconds: `least` if every stage stops as soon as patience allows, `most` if each runs through all its epochs."""

    least: float = 0.0
    most: float = 0.0

    def __add__(self, other: Range) -> Range:
        return Range(self.least + other.least, self.most + other.most)


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """One stage of a job, as timed.

    Attributes
    ----------
    name : of the stage.
    steps : of an epoch.
    step_seconds : of each.
    validation_seconds : after each epoch.
    checkpoint_seconds : after each epoch.
    least : epochs, if it stops as soon as patience allows.
    most : epochs.
    shared : what decides the stage where jobs share it; else None.
    preparation_seconds : before the first epoch.
    """

    name: str
    steps: int
    step_seconds: float
    validation_seconds: float
    checkpoint_seconds: float
    least: int
    most: int
    shared: Mapping[str, Any] | None = None
    preparation_seconds: float = 0.0

    @property
    def epoch_seconds(self) -> float:
        return self.steps * self.step_seconds + self.validation_seconds + self.checkpoint_seconds

    @property
    def seconds(self) -> Range:
        before = self.preparation_seconds
        return Range(before + self.least * self.epoch_seconds, before + self.most * self.epoch_seconds)


@dataclass(frozen=True)
class Calibration:
    """What was timed for one model on one cohort.

    Attributes
    ----------
    stages : empty for a model that takes no steps, whose time is not estimated.
    prediction_seconds : of all patients of a fold.
    memory : as in `peak_memory`.
    weights_bytes : of the whole model.
    """

    stages: tuple[StageCost, ...]
    prediction_seconds: float = 0.0
    memory: Mapping[str, int] | None = None
    weights_bytes: int = 0

    @property
    def job(self) -> Range:
        """Of a job that finds no stage trained before."""
        return sum((stage.seconds for stage in self.stages), Range(self.prediction_seconds, self.prediction_seconds))


@dataclass(frozen=True, kw_only=True)
class Line:
    """The remaining jobs of one model on one cohort.

    Attributes
    ----------
    model : its name.
    cohort : its name.
    calibration : what was timed; None where that failed.
    each : seconds of every job; one whose teacher is trained before takes less.
    untimed : jobs whose time is not estimated.
    problem : why they could not be timed.
    """

    model: str
    cohort: str
    calibration: Calibration | None
    each: tuple[Range, ...] = ()
    untimed: int = 0
    problem: str = ""

    @property
    def jobs(self) -> int:
        return len(self.each) + self.untimed


@dataclass(frozen=True)
class Forecast:
    """What all remaining jobs take.

    Attributes
    ----------
    lines : one for each model on each cohort.
    done : number of jobs that are not in them.
    workers : processes at once.
    """

    lines: tuple[Line, ...]
    done: int
    workers: int

    @property
    def wall(self) -> Range:
        """Of all jobs that were timed, each begun by the worker that is free first."""
        each = [job for line in self.lines for job in line.each]
        return Range(_wall([job.least for job in each], self.workers), _wall([job.most for job in each], self.workers))

    @property
    def untimed(self) -> int:
        """Jobs whose time is not estimated."""
        return sum(line.untimed for line in self.lines)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the totals beside the lines."""
        return {"estimate": True, "wall_seconds": asdict(self.wall), "untimed": self.untimed, **asdict(self)}


def _wall(seconds: Sequence[float], workers: int) -> float:
    free_at = [0.0] * workers
    for spent in seconds:
        heapq.heapreplace(free_at, free_at[0] + spent)
    return max(free_at)


def estimate(
    jobs: Sequence[Job], out: Path, device: torch.device, *, workers: int | None = None, threads: int | None = None
) -> Forecast:
    """What the jobs that are not done would take, from a few timed steps of the first of each model and cohort.

    Parameters
    ----------
    jobs : as planned.
    out : folder of results.
    device : of the training.
    workers : processes at once; None is as many as suit the machine.
    threads : of each job; None is 1.

    Raises
    ------
    BadFile : a job's folder is not as it was written.
    """
    left = [job for job in jobs if not JobResult.is_done(job, out)]
    groups = grouped(left)
    timed: list[Calibration | str] = []
    for first, *_ in track(groups, "timing a few steps"):
        timed.append(calibrated(first, device, threads or 1))
        if isinstance(timed[-1], str):
            warn(f"{first.card.name} on {first.cohort.name} could not be timed: {timed[-1]}")
    return forecast(groups, timed, len(jobs) - len(left), out, workers or sensible_workers(device))


def grouped(jobs: Iterable[Job]) -> list[list[Job]]:
    """Jobs of one model on one cohort together: they differ by fold and seed alone, and cost the same."""
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.card.name, job.cohort.name), []).append(job)
    return list(groups.values())


def forecast(
    groups: Sequence[Sequence[Job]], timed: Sequence[Calibration | str], done: int, out: Path, workers: int
) -> Forecast:
    """From what one job of each group takes to what all of them take; a stage that jobs share is counted once.

    Parameters
    ----------
    groups : jobs that remain, see `grouped`.
    timed : for each group what was timed, or why it could not be.
    done : number of jobs that do not remain.
    out : folder of results, where stages may be trained already.
    workers : processes at once.
    """
    trained: set[Path] = set()
    lines = []
    for jobs, timing in zip(groups, timed, strict=True):
        line = Line(model=jobs[0].card.name, cohort=jobs[0].cohort.name, calibration=None)
        if isinstance(timing, str):
            lines.append(replace(line, untimed=len(jobs), problem=timing))
        elif not timing.stages:
            lines.append(replace(line, calibration=timing, untimed=len(jobs)))
        else:
            each = tuple(_seconds(job, timing, out, trained) for job in jobs)
            lines.append(replace(line, calibration=timing, each=each))
    return Forecast(tuple(lines), done, max(1, min(workers, sum(map(len, groups)))))


def _seconds(job: Job, timing: Calibration, out: Path, trained: set[Path]) -> Range:
    """Of one job; the stages that it trains for others are added to `trained`."""
    cache = StageCache(stages_folder(out), job.task)
    total = Range(timing.prediction_seconds, timing.prediction_seconds)
    for stage in timing.stages:
        if stage.shared is not None:
            file = cache.file(**stage.shared)
            if file in trained or file.exists():
                continue
            trained.add(file)
        total += stage.seconds
    return total


def calibrated(job: Job, device: torch.device, threads: int) -> Calibration | str:
    """What was timed in a process of its own, or why that failed: no model's failure hides the costs of others."""
    try:
        calibration: Calibration = call(calibrate_spec, JobSpec.of(job, Path(), str(device), threads), str(device))
    except TaskFailed as error:
        return str(error)
    return calibration


def calibrate_spec(spec: JobSpec, send: Callable[..., None]) -> Calibration:
    """The task that calibrates the job of a spec."""
    keep_freed_memory()
    with cpu_threads(spec.threads):
        return calibrate(spec.load(), torch.device(spec.device))


def calibrate(job: Job, device: torch.device, now: Callable[[], float] = time.perf_counter) -> Calibration:
    """Time steps, validation, a checkpoint and predictions of one job. No test patient is read."""
    scaler = job.cohort.scaler(job.fold)
    train, val = (job_split(job, members, scaler, device) for members in (job.fold.train, job.fold.val))
    objective = build_objective(job.objective).fit(train.time, train.event)
    seed_everything((job.seed, job.fold.index))
    model = build_model(job, objective).to(device)
    stages = [
        stage
        for stage in model.stages(job.card.train_inputs, job.card.inference_inputs)
        if isinstance(stage, Stage)  # what is estimated by a formula or another library takes no steps
    ]
    if not stages:
        return Calibration(())
    timer, sample = Timer(device, now), some_patients(val)
    costs = tuple(_stage(job, model, i, stage, objective, train, val, timer) for i, stage in enumerate(stages))
    model.eval()
    predicted = timer(lambda: predict_logits(model, sample, job.card.inference_inputs, device))
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    return Calibration(costs, predicted * len(job.fold.patients) / len(sample), peak_memory(device), weights)


@dataclass(frozen=True)
class Timer:
    """Mean seconds of some work once it is warm."""

    device: torch.device
    now: Callable[[], float]

    def __call__(self, work: Callable[[], object]) -> float:
        self._once(work)
        seconds = [self._once(work)]
        while len(seconds) < REPEATS and sum(seconds) < ENOUGH_SECONDS:
            seconds.append(self._once(work))
        return sum(seconds) / len(seconds)

    def _once(self, work: Callable[[], object]) -> float:
        began = self.now()
        work()
        if self.device.type != "cpu":  # its kernels run asynchronously
            getattr(torch, self.device.type).synchronize()
        return self.now() - began


def _stage(
    job: Job,
    model: SurvivalModel,
    index: int,
    stage: Stage,
    objective: Objective,
    train: Split,
    val: Split,
    timer: Timer,
) -> StageCost:
    settings, device = replace(job.settings, **stage.training), timer.device
    members, sample = learners(train, stage), some_patients(val)
    silent, beforehand = Clock(), Clock(now=timer.now)
    optimizer = stage_optimizer(model, stage, settings, device)
    generator = seed_everything((job.seed, job.fold.index, index))
    batches = chain.from_iterable(training_batches(stage, members, settings, device, generator) for _ in count())
    with prepared(model, stage, members, settings, device, beforehand):
        model.eval()
        stage.trained.train()
        step = timer(lambda: train_step(stage, objective, next(batches), optimizer, device, silent))
    model.eval()
    validated = timer(lambda: validation_loss(stage, objective, sample, settings, device))
    progress = Progress(current=stage.trained.state_dict(), optimizer=optimizer.state_dict())
    with TemporaryDirectory() as folder:
        saved = timer(lambda: save_checkpoint(Path(folder), progress))
    return StageCost(
        name=stage.name,
        steps=-(-len(members) // settings.batch_size),
        step_seconds=step,
        validation_seconds=validated * len(val) / len(sample),
        checkpoint_seconds=saved,
        least=min(settings.patience + 1, settings.epochs),
        most=settings.epochs,
        shared=None if stage.decided_by is None else stage_identity(stage, index, settings),
        preparation_seconds=beforehand.seconds().get("preparation", 0.0),
    )


def some_patients(split: Split) -> Split:
    """A few patients from all over a split, among them some who died, so that the sample has a loss."""
    spread = np.linspace(0, len(split) - 1, min(SAMPLE, len(split))).astype(int)
    return split.take(np.union1d(spread, np.flatnonzero(split.event)[:2]))
