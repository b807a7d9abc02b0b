"""What one stage of training is made of: its batches, its optimizer, a step, an epoch, its loss on validation patients.

fit.py puts them together into a job; what estimates or measures a step uses the very same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from survbench.cards import Modality
from survbench.clock import Clock
from survbench.data.batches import Split, device_batch
from survbench.errors import TrainingFailed
from survbench.model import Estimation, Objective, Prediction, Stage, SurvivalModel
from survbench.training.device import autocast, products
from survbench.training.settings import Settings

__all__ = [
    "collect",
    "predict_logits",
    "prepared",
    "refuse_infinite",
    "seed_everything",
    "stage_optimizer",
    "train_epoch",
    "train_step",
    "training_batches",
    "validation_loss",
]


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


@contextmanager
def prepared(
    model: SurvivalModel, stage: Stage, train: Split, settings: Settings, device: torch.device, clock: Clock
) -> Iterator[None]:
    """While the epochs of a stage last: with what it wants done beforehand, also when it goes on after a kill."""
    if stage.distillation.prepare is None:
        yield
        return
    model.eval()
    with ExitStack() as until_the_end:
        with clock("preparation"), torch.no_grad(), autocast(device):
            batches = training_batches(stage, train, settings, device, np.random.default_rng(0))
            until_the_end.enter_context(stage.distillation.prepare(batches))
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
    with clock("backward"), products(device):
        optimizer.zero_grad()
        terms["total"].backward()
    with clock("optimizer"):
        optimizer.step()
    return terms


def train_epoch(
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
    refuse_infinite(stage, "loss", means["train_total"])
    return means


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
    refuse_infinite(stage, "validation loss", loss)
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


def refuse_infinite(stage: Stage | Estimation, what: str, loss: float) -> None:
    if not math.isfinite(loss):
        raise TrainingFailed(
            f"the {what} of stage '{stage.name}' became {loss}", "lower the learning rate (--set learning_rate=...)"
        )


def predict_logits(
    predict: Callable[[Any], Prediction], split: Split, granted: Collection[Modality], device: torch.device
) -> Tensor:
    """(patients, outputs) float64 on the CPU, in the split's order, from all patches and without labels."""
    return collect(lambda batch: predict(batch).logits, split, granted, device)


@torch.no_grad()
def collect(
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
