"""The one fit loop: stages, mini-batches of patients, Adam, early stopping on validation, a checkpoint per epoch.

It is given a training and a validation split and nothing else; test patients cannot reach it (protocol rule 1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from survbench.data.batches import Split
from survbench.errors import BadFolds
from survbench.model import Estimation, Objective, Sample, Stage, SurvivalModel
from survbench.training.checkpoint import Progress, load_checkpoint, load_stage, save_checkpoint, save_stage
from survbench.training.clock import Clock
from survbench.training.device import keep_freed_memory
from survbench.training.settings import Settings
from survbench.training.stage_cache import StageCache, TrainedStage
from survbench.training.steps import collect, prepared, seed_everything, stage_optimizer, train_epoch, validation_loss

__all__ = ["EpochReport", "FitResult", "fit", "learners", "stage_identity"]


@dataclass(frozen=True)
class EpochReport:
    """Where training is after an epoch, for the progress display."""

    stage: str
    epoch: int
    epochs: int
    val_loss: float

    def describe(self, title: str) -> str:
        """One line for a progress bar."""
        return f"{title}: {self.stage}, validation loss {self.val_loss:.3f}"


@dataclass(frozen=True)
class FitResult:
    """The record of a training.

    Attributes
    ----------
    history : one row per stage and epoch.
    selected : stage -> epoch whose weights were kept, counted from 1.
    weights : stage -> digests of the whole model when the stage began and after its best weights were restored.
    reused : stages that another job had trained before.
    """

    history: list[dict[str, Any]]
    selected: dict[str, int]
    weights: dict[str, dict[str, str]]
    reused: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What is the same for all stages; see `fit`."""

    model: SurvivalModel
    objective: Objective
    train: Split
    val: Split
    settings: Settings
    seed: tuple[int, ...]
    device: torch.device
    scratch: Path
    report: Callable[[EpochReport], None]
    stage_cache: StageCache | None
    clock: Clock

    def checkpoint(self, progress: Progress) -> None:
        progress.seconds = self.clock.seconds()
        with self.clock("checkpoints"):
            save_checkpoint(self.scratch, progress)


def fit(
    model: SurvivalModel,
    stages: Sequence[Stage | Estimation],
    objective: Objective,
    train: Split,
    val: Split,
    settings: Settings,
    *,
    seed: tuple[int, ...],
    device: torch.device,
    scratch: Path,
    report: Callable[[EpochReport], None] = lambda _: None,
    stage_cache: StageCache | None = None,
    clock: Clock | None = None,
) -> FitResult:
    """Train a model in place, stage after stage, each left at its epoch of lowest validation loss.

    Parameters
    ----------
    model : on `device`; its weights are changed.
    stages : of this model, in order.
    objective : fitted on `train`.
    train : patients to learn from.
    val : patients to select the epoch with.
    settings : of the trainer; a stage may override some for itself.
    seed : numbers from which every epoch derives its own random numbers.
    device : where to compute.
    scratch : folder of the checkpoints; training goes on from the last one there.
    report : called after each epoch.
    stage_cache : where stages with `decided_by` are shared with other jobs.
    clock : measures the phases, those before an interruption included.

    Raises
    ------
    BadFolds : training or validation patients without a death, so that nothing can be learned or selected.
    TrainingFailed : the loss became NaN or infinite.
    """
    _refuse_without_deaths(train, val)
    keep_freed_memory()
    job = _Job(
        model=model,
        objective=objective,
        train=train,
        val=val,
        settings=settings,
        seed=seed,
        device=device,
        scratch=scratch,
        report=report,
        stage_cache=stage_cache,
        clock=clock or Clock(separable=device.type == "cpu"),
    )
    progress = load_checkpoint(scratch) or Progress()
    job.clock.resume(progress.seconds)
    for stage in stages[: progress.stage]:
        stage.trained.load_state_dict(load_stage(scratch, stage.name))
    for stage in stages[progress.stage :]:
        progress = _complete(job, stage, progress)
        job.checkpoint(progress)
    return FitResult(progress.history, progress.selected, progress.weights, tuple(progress.reused))


def _refuse_without_deaths(train: Split, val: Split) -> None:
    for name, split in (("training", train), ("validation", val)):
        if not split.event.any():
            raise BadFolds(f"no {name} patient of this fold died, so there is nothing to compare", "use other folds")


def _complete(job: _Job, stage: Stage | Estimation, progress: Progress) -> Progress:
    """Train a stage or load it from the cache, and leave the model with its best weights."""
    if progress.began is None:
        progress.began = digest(job.model)
    settings = replace(job.settings, **stage.training) if isinstance(stage, Stage) else job.settings

    def train() -> TrainedStage:
        patients = learners(job.train, stage)
        if isinstance(stage, Stage):
            _fit_stage(job, stage, patients, settings, progress)
        else:
            with job.clock("estimation"):
                _estimate(job, stage, patients, progress)
        rows = [row for row in progress.history if row["stage"] == stage.name]
        return TrainedStage(load_stage(job.scratch, stage.name), rows, progress.best_epoch + 1)

    if job.stage_cache is None or stage.decided_by is None:
        trained, reused = train(), False
    else:
        identity = stage_identity(stage, progress.stage, settings)
        trained, reused = job.stage_cache.load_or_train(train, **identity)
    if reused:
        save_stage(job.scratch, stage.name, trained.weights)
    stage.trained.load_state_dict(trained.weights)
    rows = [row for row in progress.history if row["stage"] != stage.name]
    weights = {"began": progress.began, "selected": digest(job.model)}
    return Progress(
        stage=progress.stage + 1,
        history=rows + [{**row, "stage": stage.name} for row in trained.history],
        selected={**progress.selected, stage.name: trained.selected},
        weights={**progress.weights, stage.name: weights},
        reused=progress.reused + [stage.name] * reused,
    )


def stage_identity(stage: Stage | Estimation, index: int, settings: Settings) -> dict[str, Any]:
    """What, beside the task, decides what a stage learns.

    Parameters
    ----------
    stage : one with `decided_by`.
    index : its place among the model's stages.
    settings : of the trainer, as this stage uses them; an estimation uses none.
    """
    return {
        "stage": index,
        "decided_by": stage.decided_by,
        "held_out": stage.held_out,
        "inputs": stage.inputs,
        "training": vars(settings) if isinstance(stage, Stage) else None,
    }


def learners(train: Split, stage: Stage | Estimation) -> Split:
    """The training patients of a stage: all of them, unless it holds a part out."""
    if stage.held_out is not None:
        part, parts = stage.held_out
        divided = train.divided(parts)
        assert divided.part is not None
        return replace(train.take(np.flatnonzero(divided.part != part)), part=None)
    return train.divided(stage.parts) if isinstance(stage, Stage) and stage.parts else train


def digest(model: torch.nn.Module) -> str:
    """Content hash of all weights and buffers; equal weights, equal digest."""
    content = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        content.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        content.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()


def _estimate(job: _Job, stage: Estimation, train: Split, progress: Progress) -> None:
    """One step from the numbers of all training patients; recorded as a single epoch."""
    stage.trained.eval()
    generator = seed_everything((*job.seed, progress.stage))
    samples = []
    for split in (train, job.val):
        values = collect(stage.summarize, split, stage.inputs, job.device).numpy()
        samples.append(Sample(values, split.time, split.event))
    stage.estimate(samples[0], samples[1], int(generator.integers(2**31)))
    loss = validation_loss(stage, job.objective, job.val, job.settings, job.device)
    progress.history.append({"stage": stage.name, "epoch": 1, "val_loss": loss})
    progress.best_epoch = 0
    save_stage(job.scratch, stage.name, stage.trained.state_dict())


def _fit_stage(job: _Job, stage: Stage, train: Split, settings: Settings, progress: Progress) -> None:
    """Epochs until patience ends; goes on from the epoch that `progress` has reached."""
    model, objective, device, clock = job.model, job.objective, job.device, job.clock
    optimizer = stage_optimizer(model, stage, settings, device)
    if progress.current is not None and progress.optimizer is not None:
        stage.trained.load_state_dict(progress.current)
        optimizer.load_state_dict(progress.optimizer)
    with prepared(model, stage, train, settings, device, clock):
        while progress.epoch < settings.epochs and progress.epoch - 1 - progress.best_epoch < settings.patience:
            generator = seed_everything((*job.seed, progress.stage, progress.epoch))
            model.eval()
            stage.trained.train()
            terms = train_epoch(stage, objective, train, settings, optimizer, device, generator, clock)
            model.eval()
            with clock("validation"):
                val_loss = validation_loss(stage, objective, job.val, settings, device)
            progress.history.append({"stage": stage.name, "epoch": progress.epoch + 1, "val_loss": val_loss, **terms})
            if val_loss < progress.best_loss:
                progress.best_loss, progress.best_epoch = val_loss, progress.epoch
                with clock("checkpoints"):
                    save_stage(job.scratch, stage.name, stage.trained.state_dict())
            progress.epoch += 1
            progress.current, progress.optimizer = stage.trained.state_dict(), optimizer.state_dict()
            job.checkpoint(progress)
            job.report(EpochReport(stage.name, progress.epoch, settings.epochs, val_loss))
