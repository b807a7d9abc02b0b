"""Simulated patients of the paper's size, and the trainer's own epoch and prediction over one batch of them.

What is timed is `survbench.training.steps` itself; only the split is a stand-in, whose one batch lies in memory, so
that a step is a step and reading is measured elsewhere (suites/data.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch

from benchmarks.errors import NotMeasured
from survbench.cards import Modality, ModelCard
from survbench.complexity.count import one_patient, paper_inputs
from survbench.data.batches import Split
from survbench.model import Objective, Stage, SurvivalModel
from survbench.registry import import_target
from survbench.training.clock import Clock
from survbench.training.device import multiplied
from survbench.training.objectives import Cox, DiscreteNLL
from survbench.training.settings import Settings
from survbench.training.steps import predict_logits, stage_optimizer, train_epoch

__all__ = ["Labels", "features", "inputs", "labels", "predicting", "training"]


@dataclass(frozen=True)
class Labels:
    """time (patients,) months, event (patients,)."""

    time: torch.Tensor
    event: torch.Tensor


inputs = lru_cache(maxsize=1)(paper_inputs)


@lru_cache(maxsize=2)
def features(patches: int, patients: int, width: int, device: torch.device) -> torch.Tensor:
    """(patients, patches, width) float32, the same for all contestants; never zeros, which some code skips."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(patients, patches, width, generator=generator).to(device)


def labels(patients: int, device: torch.device) -> Labels:
    """Distinct times, every other patient died, the first one among them."""
    time = torch.from_numpy(np.random.default_rng(0).permutation(patients) + 1.0).float()
    return Labels(time.to(device), (torch.arange(patients) % 2 == 0).to(device))


@dataclass(frozen=True)
class _OneBatch:
    """Stands in for a split whose patients fill one batch."""

    batch: Any
    patients: int

    def __len__(self) -> int:
        return self.patients

    def batches(self, *_: Any, **__: Any) -> Iterator[Any]:
        yield self.batch

    def in_order(self, *_: Any, **__: Any) -> Iterator[Any]:
        yield self.batch


def _split(granted: tuple[Modality, ...], patches: int, patients: int, parts: int, device: torch.device) -> Split:
    """Patients with bags of equal size, as a peer needs them that would pad."""
    given = inputs()
    batch = one_patient(given, granted, patches).to(device)
    store = batch._store
    if Modality.SLIDES in granted:
        ptr = patches * torch.arange(patients + 1, device=device)
        store["x"] = features(patches, patients, given.feature_width, device).flatten(0, 1).to(multiplied(device))
        store["pos"] = store["pos"].repeat(patients, 1)
        store["slide"] = store["batch"] = torch.arange(patients, device=device).repeat_interleave(patches)
        store["ptr"], store["sizes"] = ptr, (patches,) * patients
    generator = torch.Generator().manual_seed(1)
    for key in ("expression", "clinical"):
        if key in store:
            store[key] = torch.randn(patients, store[key].shape[1], generator=generator).to(device)
    outcome = labels(patients, device)
    store["time"], store["event"] = outcome.time, outcome.event
    if parts:
        store["part"] = tuple(i % parts for i in range(patients))
    batch._num_graphs = patients
    batch.__dict__["pin_memory"] = lambda: batch  # the trainer pins what it copies; this is where it belongs already
    return cast(Split, _OneBatch(batch, patients))


def _objective(patients: int) -> Objective:
    """Cox, the suite's default; one patient has nobody to be compared with, so there the discrete likelihood."""
    return Cox() if patients > 1 else DiscreteNLL().from_state({"cuts": [0.5, 1.5, 2.5]})


def _built(card: ModelCard, patients: int, device: torch.device) -> tuple[SurvivalModel, Stage, Objective]:
    torch.manual_seed(0)
    objective = _objective(patients)
    model: SurvivalModel = import_target(card.target)(inputs(), objective.outputs, **card.config).to(device)
    stage = model.stages(card.train_inputs, card.inference_inputs)[-1]
    if not isinstance(stage, Stage):
        raise NotMeasured("skipped: has no steps, it is estimated at once")
    return model, stage, objective


def training(card: ModelCard, patches: int, patients: int, device: torch.device) -> Callable[[], None]:
    """One optimizer step of the last stage over `patients` patients: the trainer's epoch over a split of one batch.

    Without what the trainer does once before the epochs: AMKD's teacher is run in every step, as for sampled bags.
    """
    model, stage, objective = _built(card, patients, device)
    split = _split(stage.inputs, patches, patients, stage.parts, device)
    settings = Settings(
        epochs=1, patience=1, batch_size=max(2, patients), learning_rate=5e-5, weight_decay=1e-5, patches=patches
    )
    optimizer = stage_optimizer(model, stage, settings, device)
    generator, clock = np.random.default_rng(0), Clock(separable=device.type == "cpu")

    def step() -> None:
        model.eval()
        stage.trained.train()
        train_epoch(stage, objective, split, settings, optimizer, device, generator, clock)

    return step


def predicting(card: ModelCard, patches: int, patients: int, device: torch.device) -> Callable[[], None]:
    """Logits of `patients` patients, as validation and scoring compute them."""
    model, *_ = _built(card, patients, device)
    split = _split(card.inference_inputs, patches, patients, 0, device)
    model.eval()

    def predict() -> None:
        predict_logits(model, split, card.inference_inputs, device)

    return predict
