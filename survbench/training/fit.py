"""The one fit loop: stages, mini-batches of patients, Adam, early stopping on validation, a checkpoint per epoch.

It is given a training and a validation split and nothing else; test patients cannot reach it (protocol rule 1).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from survbench.cards import Modality
from survbench.clock import Clock
from survbench.data.batches import Split, device_batch
from survbench.errors import BadFolds, TrainingFailed
from survbench.model import Estimation, Prediction, Sample, Stage, SurvivalModel
from survbench.training.checkpoint import Progress, load_checkpoint, load_stage, save_checkpoint, save_stage
from survbench.training.device import autocast, keep_freed_memory
from survbench.training.objectives import Objective
from survbench.training.settings import Settings
from survbench.training.shared import Learned, SharedStages, Shelf

__all__ = [
    "EpochReport",
    "FitResult",
    "fit",
    "learners",
    "predict_logits",
    "prepared",
    "seed_everything",
    "stage_identity",
    "stage_optimizer",
    "train_step",
    "training_batches",
    "validation_loss",
]


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
                        _estimate(stage, objective, members, val, seed, device, scratch, progress)
                else:
                    assert own is not None
                    _fit_stage(
                        model,
                        stage,
                        index,
                        objective,
                        members,
                        val,
                        own,
                        seed,
                        device,
                        scratch,
                        progress,
                        report,
                        clock,
                    )
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
        _checkpoint(scratch, progress, clock)
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
        "held_out": stage.held_out,
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


def _estimate(
    stage: Estimation,
    objective: Objective,
    train: Split,
    val: Split,
    seed: tuple[int, ...],
    device: torch.device,
    scratch: Path,
    progress: Progress,
) -> None:
    """One step from the numbers of all training patients; recorded as a single epoch."""
    stage.trained.eval()
    generator = seed_everything((*seed, progress.stage))
    samples = []
    for split in (train, val):
        values = _collect(stage.summarize, split, stage.inputs, device).numpy()
        samples.append(Sample(values, split.time, split.event))
    stage.estimate(samples[0], samples[1], int(generator.integers(2**31)))
    logits = predict_logits(stage.predict, val, stage.inputs, device)
    loss = objective.loss(logits, torch.tensor(val.time), torch.tensor(val.event)).item()
    _refuse_infinite(stage, "validation loss", loss)
    progress.history.append({"stage": stage.name, "epoch": 1, "val_loss": loss})
    progress.best_epoch = 0
    save_stage(scratch, stage.name, stage.trained.state_dict())


def _fit_stage(
    model: SurvivalModel,
    stage: Stage,
    index: int,
    objective: Objective,
    train: Split,
    val: Split,
    settings: Settings,
    seed: tuple[int, ...],
    device: torch.device,
    scratch: Path,
    progress: Progress,
    report: Callable[[EpochReport], None],
    clock: Clock,
) -> None:
    optimizer = stage_optimizer(model, stage, settings, device)
    if progress.current is not None and progress.optimizer is not None:
        stage.trained.load_state_dict(progress.current)
        optimizer.load_state_dict(progress.optimizer)
    with prepared(model, stage, train, settings, device, clock):
        while progress.epoch < settings.epochs and progress.epoch - 1 - progress.best_epoch < settings.patience:
            generator = seed_everything((*seed, index, progress.epoch))
            model.eval()
            stage.trained.train()
            terms = _train_epoch(stage, objective, train, settings, optimizer, device, generator, clock)
            model.eval()
            with clock("validation"):
                val_loss = validation_loss(stage, objective, val, settings, device)
            progress.history.append({"stage": stage.name, "epoch": progress.epoch + 1, "val_loss": val_loss, **terms})
            if val_loss < progress.best_loss:
                progress.best_loss, progress.best_epoch = val_loss, progress.epoch
                with clock("checkpoints"):
                    save_stage(scratch, stage.name, stage.trained.state_dict())
            progress.epoch += 1
            progress.current, progress.optimizer = stage.trained.state_dict(), optimizer.state_dict()
            _checkpoint(scratch, progress, clock)
            report(EpochReport(stage.name, progress.epoch, settings.epochs, val_loss))


def _checkpoint(scratch: Path, progress: Progress, clock: Clock) -> None:
    progress.seconds = clock.seconds()
    with clock("checkpoints"):
        save_checkpoint(scratch, progress)


def stage_optimizer(model: SurvivalModel, stage: Stage, settings: Settings, device: torch.device) -> torch.optim.Adam:
    """Adam over what a stage trains; everything else of the model is frozen."""
    model.requires_grad_(False)
    stage.trained.requires_grad_(True)
    return torch.optim.Adam(
        stage.trained.parameters(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=device.type in ("cpu", "cuda"),
    )


def _train_epoch(
    stage: Stage,
    objective: Objective,
    train: Split,
    settings: Settings,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    generator: np.random.Generator,
    clock: Clock,
) -> dict[str, float]:
    """One pass over the training patients; mean of every term, weighted by patients."""
    sums: dict[str, Tensor] = {}
    for batch in clock.each("data", training_batches(stage, train, settings, device, generator)):
        terms = train_step(stage, objective, batch, optimizer, device, clock)
        for name, value in terms.items():  # summed on the device, so that no step waits for a number
            sums[name] = sums.get(name, 0) + value.detach() * len(batch.time)
    with clock("optimizer"):  # a device that computes behind our back is waited for here
        means = {f"train_{name}": value.item() / len(train) for name, value in sums.items()}
    _refuse_infinite(stage, "loss", means["train_total"])
    return means


@contextmanager
def prepared(
    model: SurvivalModel, stage: Stage, train: Split, settings: Settings, device: torch.device, clock: Clock
) -> Iterator[None]:
    """While the epochs of a stage last: with what it wants done beforehand, also when it goes on after a kill."""
    if stage.prepare is None:
        yield
        return
    model.eval()
    with ExitStack() as until_the_end:
        with clock("preparation"), torch.no_grad(), autocast(device):
            batches = training_batches(stage, train, settings, device, np.random.default_rng(0))
            until_the_end.enter_context(stage.prepare(batches))
        yield


def training_batches(
    stage: Stage, train: Split, settings: Settings, device: torch.device, generator: np.random.Generator
) -> Iterator[Batch]:
    """The batches of one epoch of a stage, each on the device by the time it is asked for."""
    batches = train.batches(
        settings.batch_size, stage.inputs, labels=True, max_patches=settings.patches, generator=generator
    )
    return (device_batch(batch, device) for batch in batches)


def train_step(
    stage: Stage,
    objective: Objective,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    clock: Clock,
) -> Mapping[str, Tensor]:
    """One step of the optimizer.

    Returns
    -------
    The terms of the loss, on the device.
    """
    with clock("forward"), autocast(device):
        terms = stage.loss(stage.predict(batch), batch, objective)
    with clock("backward"):
        optimizer.zero_grad()
        terms["total"].backward()
    with clock("optimizer"):
        optimizer.step()
    return terms


def validation_loss(stage: Stage, objective: Objective, val: Split, settings: Settings, device: torch.device) -> float:
    """The objective over all validation patients at once: one risk set, however the batches fall.

    A stage that is selected by its own loss is given the same batches, patches and random numbers in every epoch.
    """
    if stage.selected_by == "loss":
        loss = _own_loss(stage, objective, val, settings, device)
    else:
        granted = stage.inputs if stage.validation_inputs is None else stage.validation_inputs
        logits = predict_logits(stage.predict, val, granted, device)
        loss = objective.loss(logits, torch.tensor(val.time), torch.tensor(val.event)).item()
    _refuse_infinite(stage, "validation loss", loss)
    return loss


@torch.no_grad()
def _own_loss(stage: Stage, objective: Objective, val: Split, settings: Settings, device: torch.device) -> float:
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        generator = seed_everything((0,))
        batches = val.batches(
            settings.batch_size, stage.inputs, labels=True, max_patches=settings.patches, generator=generator
        )
        total = 0.0
        for batch in batches:
            moved = device_batch(batch, device)
            with autocast(device):
                total += stage.loss(stage.predict(moved), moved, objective)["total"].item() * len(moved.time)
    return total / len(val)


def _refuse_infinite(stage: Stage | Estimation, what: str, loss: float) -> None:
    if not math.isfinite(loss):
        raise TrainingFailed(
            f"the {what} of stage '{stage.name}' became {loss}", "lower the learning rate (--set learning_rate=...)"
        )


def predict_logits(
    predict: Callable[[Any], Prediction], split: Split, granted: Collection[Modality], device: torch.device
) -> Tensor:
    """(patients, outputs) float64 on the CPU, in the split's order, from all patches and without labels."""
    return _collect(lambda batch: predict(batch).logits, split, granted, device)


@torch.no_grad()
def _collect(
    compute: Callable[[Any], Tensor], split: Split, granted: Collection[Modality], device: torch.device
) -> Tensor:
    """(patients, columns) float64 on the CPU of what is computed from each batch."""
    parts = []
    for batch in split.in_order(granted):
        with autocast(device):
            parts.append(compute(device_batch(batch, device)).double().cpu())
    return torch.cat(parts)


def seed_everything(numbers: tuple[int, ...]) -> np.random.Generator:
    """Seed torch and return a numpy generator, both derived from the same numbers."""
    sequence = np.random.SeedSequence(numbers)
    torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))
    return np.random.default_rng(sequence)
