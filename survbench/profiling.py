"""`survbench complexity`: every model at the paper's size, each measured in a process of its own.

Counting is complexity.py's; here is time and memory. Seconds are of this machine and mean something only beside each
other; parameters and counts are the model's.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from survbench.cards import ModelCard
from survbench.complexity import complexity, count_macs, one_patient, paper_inputs
from survbench.experiments.executors.local import TaskFailed, call
from survbench.model import Estimation, SurvivalModel
from survbench.registry import import_target
from survbench.training.device import cpu_threads
from survbench.training.objectives import Cox

__all__ = ["Cost", "measure", "measure_all"]

REPEATS = 3
LONG_SECONDS = 1.0  # work that takes this long is done once: warming up would change little


@dataclass(frozen=True)
class Cost:
    """What one model costs for one patient, with one output.

    Attributes
    ----------
    parameters : of the part that predicts; training_parameters : of everything that is trained.
    fvcore_flops, macs : of a prediction, see complexity.py; None where the model cannot be traced.
    forward_seconds : of a prediction. step_seconds : of a forward, backward and optimizer step of the last stage; None
    for models without steps. peak_bytes : memory that such a step adds to the process, weights included.
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


def measure_all(cards: Sequence[ModelCard], patches: int, pathways: int, device: str) -> Iterator[Cost | str]:
    """Costs in the order of the cards; the text of the error for a model that failed."""
    about = {"patches": patches, "pathways": pathways, "device": device}
    for card in cards:
        try:
            yield call(measure_task, {"card": card, "threads": torch.get_num_threads(), **about}, device)
        except TaskFailed as error:  # one model's failure must not hide the others' costs
            yield str(error)


def measure_task(arguments: Mapping[str, Any], send: Callable[..., None]) -> Cost:
    """Measure the model of a card."""
    of = dict(arguments)
    with cpu_threads(of.pop("threads")):
        return measure(**of)


def measure(card: ModelCard, patches: int, pathways: int, device: str) -> Cost:
    """Measure one model in this process; memory is what the process grows by, so it should be a fresh one."""
    where, inputs = torch.device(device), paper_inputs(pathways)
    torch.manual_seed(0)
    before = _peak(where)
    model: SurvivalModel = import_target(card.target)(inputs, 1, **card.config).to(where)
    seen = one_patient(inputs, card.inference_inputs, patches).to(where)
    step = _step(model, card, inputs, patches, where)
    step_seconds = None if step is None else _median_seconds(step, where)
    forward_seconds = _median_seconds(lambda: _predict(model, seen), where)
    peak = _peak(where) - before
    model.requires_grad_(False)  # counters hook into gradients that counting has no use for
    counted = complexity(model, inputs, card.inference_inputs, patches)
    return Cost(
        card.name,
        counted.parameters,
        sum(p.numel() for p in model.parameters()),
        counted.fvcore_flops,
        count_macs(model, seen),
        forward_seconds,
        step_seconds,
        peak,
    )


def _step(model: SurvivalModel, card: ModelCard, inputs: Any, patches: int, where: torch.device) -> Any:
    """One training step of the last stage; None for a model that is estimated."""
    stage = model.stages(card.train_inputs, card.inference_inputs)[-1]
    if isinstance(stage, Estimation):
        return None
    batch = one_patient(inputs, stage.inputs, patches).to(where)
    batch.time, batch.event = torch.ones(1, device=where), torch.ones(1, dtype=torch.bool, device=where)
    model.requires_grad_(False)
    stage.trained.requires_grad_(True)
    optimizer = torch.optim.Adam(stage.trained.parameters(), fused=where.type in ("cpu", "cuda"))
    objective = Cox()

    def step() -> None:
        model.eval()
        stage.trained.train()
        optimizer.zero_grad()
        stage.loss(stage.predict(batch), batch, objective)["total"].backward()
        optimizer.step()

    return step


@torch.no_grad()
def _predict(model: SurvivalModel, batch: Any) -> None:
    model.eval()
    model(batch)


def _median_seconds(work: Any, where: torch.device) -> float:
    """Median of a few runs after one that warms up; of long work the only one."""
    seconds: list[float] = []
    while not seconds or (len(seconds) <= REPEATS and seconds[-1] < LONG_SECONDS):
        started = time.perf_counter()
        work()
        if where.type == "cuda":
            torch.cuda.synchronize(where)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:] or seconds)


def _peak(where: torch.device) -> int:
    """Highest memory so far, in bytes: of the device, or of this process."""
    if where.type == "cuda":
        return torch.cuda.max_memory_allocated(where)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
