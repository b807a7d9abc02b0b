"""`survbench complexity`: every model at the paper's size, each measured in a process of its own.

Seconds are of this machine and mean something only beside each other; parameters and counts are the model's.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from survbench.cards import ModelCard
from survbench.complexity.count import complexity, count_macs, one_patient, paper_inputs
from survbench.model import Estimation, Inputs, SurvivalModel
from survbench.registry import import_target
from survbench.training.clock import Clock
from survbench.training.device import cpu_threads, peak_memory
from survbench.training.objectives import Cox
from survbench.training.settings import Settings
from survbench.training.steps import stage_optimizer, train_step

__all__ = ["Cost", "measure", "measure_apart"]

REPEATS = 3
LONG_SECONDS = 1.0  # work that takes this long is done once: warming up would change little
SETTINGS = Settings(epochs=1, patience=1, batch_size=2, learning_rate=5e-5, weight_decay=1e-5, patches=1)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one model costs for one patient, with one output.

    Attributes
    ----------
    model : its name.
    parameters : of the part that predicts.
    training_parameters : of everything that is trained.
    fvcore_flops : of a prediction, see count.py; None where the model cannot be traced.
    macs : multiply-accumulates of a prediction, see count.py.
    forward_seconds : of a prediction.
    step_seconds : of a forward, backward and optimizer step of the last stage; None for models without steps.
    peak_bytes : memory that such a step adds to the process, or to the CUDA device, weights included.
    """

    model: str
    parameters: int
    training_parameters: int
    fvcore_flops: int | None
    macs: int | None
    forward_seconds: float
    step_seconds: float | None
    peak_bytes: int

    def to_json(self, published: dict[str, float] | None) -> dict[str, Any]:
        """The fields that other programs read."""
        return {**asdict(self), "published": published}


def measure_apart(card: ModelCard, patches: int, pathways: int, device: str, call: Callable[..., Any]) -> Cost:
    """Measure a model in a process of its own, as `measure` does.

    Parameters
    ----------
    call : (task, arguments, device) runs a task in a new process and returns its result.
    """
    size = {"patches": patches, "pathways": pathways, "device": device}
    return call(measure_task, {"card": card, "threads": torch.get_num_threads(), **size}, device)


def measure_task(arguments: Mapping[str, Any], send: Callable[..., None]) -> Cost:
    """Measure the model of a card, as a task of a new process."""
    of = dict(arguments)
    with cpu_threads(of.pop("threads")):
        return measure(**of)


def measure(card: ModelCard, patches: int, pathways: int, device: str) -> Cost:
    """Measure a model in this process, which should be a new one: memory is what the process grows by.

    Parameters
    ----------
    card : of the model.
    patches : of the one patient.
    pathways : with 29 genes on average.
    device : a name that torch knows.
    """
    where, inputs = torch.device(device), paper_inputs(pathways)
    torch.manual_seed(0)
    before = _peak_bytes(where)
    model: SurvivalModel = import_target(card.target)(inputs, 1, **card.config).to(where)
    batch = one_patient(inputs, card.inference_inputs, patches).to(where)
    step = _training_step(model, card, inputs, patches, where)
    step_seconds = None if step is None else _median_seconds(step, where)
    forward_seconds = _median_seconds(lambda: _predict(model, batch), where)
    peak = _peak_bytes(where) - before
    model.requires_grad_(False)  # counters hook into gradients that counting has no use for
    counted = complexity(model, inputs, card.inference_inputs, patches)
    return Cost(
        model=card.name,
        parameters=counted.parameters,
        training_parameters=sum(p.numel() for p in model.parameters()),
        fvcore_flops=counted.fvcore_flops,
        macs=count_macs(model, batch),
        forward_seconds=forward_seconds,
        step_seconds=step_seconds,
        peak_bytes=peak,
    )


def _training_step(
    model: SurvivalModel, card: ModelCard, inputs: Inputs, patches: int, where: torch.device
) -> Callable[[], object] | None:
    """The trainer's step of the last stage; None for a model that is estimated."""
    stage = model.stages(card.train_inputs, card.inference_inputs)[-1]
    if isinstance(stage, Estimation):
        return None
    batch = one_patient(inputs, stage.inputs, patches).to(where)
    batch.time, batch.event = torch.ones(1, device=where), torch.ones(1, dtype=torch.bool, device=where)
    optimizer = stage_optimizer(model, stage, SETTINGS, where)
    model.eval()
    stage.trained.train()
    return lambda: train_step(stage, Cox(), batch, optimizer, where, Clock())


@torch.no_grad()
def _predict(model: SurvivalModel, batch: Any) -> None:
    model.eval()
    model(batch)


def _median_seconds(work: Callable[[], object], where: torch.device) -> float:
    """Median of a few runs after one that warms up; of long work the only one."""
    seconds: list[float] = []
    while not seconds or (len(seconds) <= REPEATS and seconds[-1] < LONG_SECONDS):
        started = time.perf_counter()
        work()
        if where.type == "cuda":
            torch.cuda.synchronize(where)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:] or seconds)


def _peak_bytes(where: torch.device) -> int:
    """Highest memory so far where tensors are: on the CUDA device, else in this process."""
    peak = peak_memory(where)
    return peak.get("device_bytes", peak["process_bytes"])
