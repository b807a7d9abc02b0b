"""The one fit loop: stages, mini-batches of patients, Adam, early stopping on validation, a checkpoint per epoch.

It is given a training and a validation split and nothing else; test patients cannot reach it (protocol rule 1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from survbench.clock import Clock
from survbench.data.batches import Split
from survbench.errors import BadFolds
from survbench.model import Estimation, Objective, Sample, Stage, SurvivalModel
from survbench.training.checkpoint import Progress, load_checkpoint, load_stage, save_checkpoint, save_stage
from survbench.training.device import keep_freed_memory
from survbench.training.settings import Settings
from survbench.training.shared import Learned, SharedStages, Shelf
from survbench.training.steps import (
    collect,
    predict_logits,
    prepared,
    refuse_infinite,
    seed_everything,
    stage_optimizer,
    train_epoch,
    validation_loss,
)

__all__ = ["EpochReport", "FitResult", "fit", "learners", "stage_identity"]


@dataclass(frozen=True)
class EpochReport:
    """What the progress display is told after each epoch."""

    stage: str
    epoch: int
    epochs: int
    val_loss: float

    def told(self, title: str) -> str:
        """In words, for a progress bar."""
        return f"{title}: {self.stage}, validation loss {self.val_loss:.3f}"


@dataclass(frozen=True)
class FitResult:
    """What training left on record.

    Attributes
    ----------
    history : one row per stage and epoch. selected : stage -> epoch whose weights were kept (counted from 1).
    weights : stage -> digests of the whole model when the stage began and after its best weights were restored.
    reused : stages that another job had trained before.
    """

    history: list[dict[str, Any]]
    selected: dict[str, int]
    weights: dict[str, dict[str, str]]
    reused: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Fitting:
    """What is the same for all stages of a job; see `fit`."""

    model: SurvivalModel
    objective: Objective
    val: Split
    seed: tuple[int, ...]
    device: torch.device
    scratch: Path
    report: Callable[[EpochReport], None]
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
    shared: SharedStages | None = None,
    clock: Clock | None = None,
) -> FitResult:
    """Train a model in place, stage after stage, each left at its epoch of lowest validation loss.

    Parameters
    ----------
    seed : numbers from which every epoch derives its own random numbers.
    scratch : folder of the checkpoints; training goes on from what is there.
    shared : where stages that say what they are `decided_by` are kept for other jobs, and found.
    clock : is told where the time goes, and goes on from what the checkpoint says was spent.

    Raises
    ------
    BadFolds : training or validation patients without a death, so that nothing can be learned or selected.
    TrainingFailed : the loss became NaN or infinite.
    """
    for name, split in (("training", train), ("validation", val)):
        if not split.event.any():
            raise BadFolds(f"no {name} patient of this fold died, so there is nothing to compare", "use other folds")
    keep_freed_memory()
    clock = clock or Clock(separable=device.type == "cpu")
    job = _Fitting(model, objective, val, seed, device, scratch, report, clock)
    progress = load_checkpoint(scratch) or Progress()
    clock.resume(progress.seconds)
    for stage in stages[: progress.stage]:
        stage.trained.load_state_dict(load_stage(scratch, stage.name))
    for index in range(progress.stage, len(stages)):
        stage = stages[index]
        if progress.began is None:
            progress.began = digest(model)
        own = replace(settings, **stage.training) if isinstance(stage, Stage) else None
        with _shelf(shared, stage, index, own) as shelf:
            if shelf is not None and shelf.content is not None:
                _restore(stage, shelf.content, scratch, progress)
            else:
                members = learners(train, stage)
                if isinstance(stage, Estimation):
                    with clock("estimation"):
                        _estimate(job, stage, members, progress)
                else:
                    assert own is not None
                    _fit_stage(job, stage, index, members, own, progress)
                if shelf is not None:
                    rows = [row for row in progress.history if row["stage"] == stage.name]
                    shelf.put(Learned(load_stage(scratch, stage.name), rows, progress.best_epoch + 1))
        stage.trained.load_state_dict(load_stage(scratch, stage.name))
        weights = {stage.name: {"began": progress.began, "selected": digest(model)}}
        progress = Progress(
            index + 1,
            history=progress.history,
            selected={**progress.selected, stage.name: progress.best_epoch + 1},
            weights={**progress.weights, **weights},
            reused=progress.reused,
        )
        job.checkpoint(progress)
    return FitResult(progress.history, progress.selected, progress.weights, tuple(progress.reused))


def _shelf(
    shared: SharedStages | None, stage: Stage | Estimation, index: int, settings: Settings | None
) -> AbstractContextManager[Shelf | None]:
    if shared is None or stage.decided_by is None:
        return nullcontext()
    return shared.claim(**stage_identity(stage, index, settings))


def stage_identity(stage: Stage | Estimation, index: int, settings: Settings | None) -> dict[str, Any]:
    """What, beside the task, decides what a stage learns."""
    return {
        "stage": index,
        "decided_by": stage.decided_by,
        "held_out": stage.distillation.held_out,
        "inputs": stage.inputs,
        "training": None if settings is None else vars(settings),
    }


def _restore(stage: Stage | Estimation, learned: Learned, scratch: Path, progress: Progress) -> None:
    """As if the stage had just been trained."""
    save_stage(scratch, stage.name, learned.weights)
    progress.history = [row for row in progress.history if row["stage"] != stage.name]
    progress.history += [{**row, "stage": stage.name} for row in learned.history]
    progress.best_epoch = learned.selected - 1
    progress.reused.append(stage.name)


def learners(train: Split, stage: Stage | Estimation) -> Split:
    """The training patients of a stage: all of them, unless it holds a part out."""
    if stage.distillation.held_out is not None:
        part, parts = stage.distillation.held_out
        divided = train.divided(parts)
        assert divided.part is not None
        return replace(train.take(np.flatnonzero(divided.part != part)), part=None)
    return train.divided(stage.distillation.parts) if stage.distillation.parts else train


def digest(model: torch.nn.Module) -> str:
    """Content hash of all weights and buffers; equal weights, equal digest."""
    content = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        content.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        content.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return content.hexdigest()


def _estimate(job: _Fitting, stage: Estimation, train: Split, progress: Progress) -> None:
    """One step from the numbers of all training patients; recorded as a single epoch."""
    stage.trained.eval()
    generator = seed_everything((*job.seed, progress.stage))
    samples = []
    for split in (train, job.val):
        values = collect(stage.summarize, split, stage.inputs, job.device).numpy()
        samples.append(Sample(values, split.time, split.event))
    stage.estimate(samples[0], samples[1], int(generator.integers(2**31)))
    logits = predict_logits(stage.predict, job.val, stage.inputs, job.device)
    loss = job.objective.loss(logits, torch.tensor(job.val.time), torch.tensor(job.val.event)).item()
    refuse_infinite(stage, "validation loss", loss)
    progress.history.append({"stage": stage.name, "epoch": 1, "val_loss": loss})
    progress.best_epoch = 0
    save_stage(job.scratch, stage.name, stage.trained.state_dict())


def _fit_stage(job: _Fitting, stage: Stage, index: int, train: Split, settings: Settings, progress: Progress) -> None:
    model, objective, device, clock = job.model, job.objective, job.device, job.clock
    optimizer = stage_optimizer(model, stage, settings, device)
    if progress.current is not None and progress.optimizer is not None:
        stage.trained.load_state_dict(progress.current)
        optimizer.load_state_dict(progress.optimizer)
    with prepared(model, stage, train, settings, device, clock):
        while progress.epoch < settings.epochs and progress.epoch - 1 - progress.best_epoch < settings.patience:
            generator = seed_everything((*job.seed, index, progress.epoch))
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
