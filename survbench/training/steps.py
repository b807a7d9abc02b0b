"""What one stage of training is made of: its batches, its optimizer, a step, an epoch, its loss on validation patients.

fit.py puts them together into a job; forecasts, costs and benchmarks measure the same functions.
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
from survbench.data.batches import Split, device_batch
from survbench.errors import TrainingFailed
from survbench.model import Estimation, Objective, Prediction, Stage, SurvivalModel
from survbench.training.clock import Clock
from survbench.training.device import autocast, products
from survbench.training.settings import Settings

__all__ = [
    "collect",
    "predict_logits",
    "prepared",
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
    """Context for the epochs of a stage: its `prepare` is computed first, also when training goes on after a kill."""
    if stage.prepare is None:
        yield
        return
    model.eval()
    with ExitStack() as epochs:
        with clock("preparation"), torch.no_grad(), autocast(device):
            batches = training_batches(stage, train, settings, device, np.random.default_rng(0))
            epochs.enter_context(stage.prepare(batches))
        yield


def training_batches(
    stage: Stage, train: Split, settings: Settings, device: torch.device, generator: np.random.Generator
) -> Iterator[Batch]:
    """The batches of one epoch of a stage, on the device."""
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
    The terms of the loss, on the device. Nothing here waits for an accelerator.
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
    with clock("optimizer"):  # an asynchronous device is waited for here
        means = {f"train_{name}": value.item() / len(train) for name, value in sums.items()}
    _refuse_infinite(stage, "loss", means["train_total"])
    return means


def validation_loss(
    stage: Stage | Estimation, objective: Objective, val: Split, settings: Settings, device: torch.device
) -> float:
    """The objective over all validation patients at once: one risk set, whatever the batches.

    A stage that is selected by its own loss gets the same batches, patches and random numbers in every epoch.

    Raises
    ------
    TrainingFailed : the loss is NaN or infinite.
    """
    if isinstance(stage, Stage) and stage.selected_by == "loss":
        loss = _own_loss(stage, objective, val, settings, device)
    else:
        granted = stage.validation_inputs if isinstance(stage, Stage) else None
        logits = predict_logits(stage.predict, val, stage.inputs if granted is None else granted, device)
        loss = objective.loss(logits, torch.tensor(val.time), torch.tensor(val.event)).item()
    _refuse_infinite(stage, "validation loss", loss)
    return loss


@torch.no_grad()
def _own_loss(stage: Stage, objective: Objective, val: Split, settings: Settings, device: torch.device) -> float:
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        total = 0.0
        for batch in training_batches(stage, val, settings, device, seed_everything((0,))):
            with autocast(device):
                total += stage.loss(stage.predict(batch), batch, objective)["total"].item() * len(batch.time)
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
