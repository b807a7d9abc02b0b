"""Suites of models: `step`, `forward`, `peers` and `memory`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from multiprocessing import get_context
from typing import Any

import torch

from benchmarks import patients as simulated
from benchmarks.errors import NotInstalled
from benchmarks.patients import predicting, training
from benchmarks.peers import Peer, Setting, Step
from benchmarks.rounds import Contestant, Limits, Meter, Outcome, Race, Work
from survbench.cards import ModelCard
from survbench.registry import import_target

__all__ = ["Cells", "forwards", "memory", "peers", "steps"]


@dataclass(frozen=True)
class Cells:
    """Sizes of the table: every number of patches with every number of patients per step."""

    patches: tuple[int, ...]
    patients: tuple[int, ...]

    def ascending(self) -> list[tuple[int, int]]:
        """(patches, patients), small ones first, since they tell what large ones will take."""
        return sorted(product(self.patches, self.patients), key=lambda cell: (cell[0] * cell[1], cell))


def steps(cards: Sequence[ModelCard], cells: Cells, device: torch.device) -> Iterator[Race]:
    """One optimizer step of every model."""
    return _races("step", training, cards, cells, device)


def forwards(cards: Sequence[ModelCard], cells: Cells, device: torch.device) -> Iterator[Race]:
    """Predictions of every model."""
    return _races("forward", predicting, cards, cells, device)


def _races(
    suite: str, prepare: Callable[..., Work], cards: Sequence[ModelCard], cells: Cells, device: torch.device
) -> Iterator[Race]:
    for patches, patients in cells.ascending():
        contestants = [
            Contestant(
                name=card.name, prepare=partial(prepare, card, patches, patients, device), units=patients, counted=True
            )
            for card in cards
        ]
        yield _race(suite, patches, patients, contestants)


def _race(suite: str, patches: int, patients: int, contestants: Sequence[Contestant]) -> Race:
    cell = {"patches": patches, "patients": patients}
    return Race(suite=suite, cell=cell, contestants=contestants, unit="patient", size=patches * patients)


def peers(cards: Sequence[ModelCard], others: Sequence[Peer], cells: Cells, device: torch.device) -> Iterator[Race]:
    """Steps of other libraries' models, each right beside ours."""
    steps_of = [(peer, _steps_of(peer)) for peer in others]
    for patches, patients in cells.ascending():
        for card in cards:
            prepare = partial(_peer_work, card=card, patches=patches, patients=patients, device=device)
            beside = [
                Contestant(
                    name=f"{card.name} ({peer.name})", prepare=partial(prepare, steps), units=patients, counted=True
                )
                for peer, steps in steps_of
                if isinstance(steps, NotInstalled) or card.name in steps
            ]
            if beside:
                ours = Contestant(
                    name=card.name,
                    prepare=partial(training, card, patches, patients, device),
                    units=patients,
                    counted=True,
                )
                yield _race("peers", patches, patients, [ours, *beside])


def _steps_of(peer: Peer) -> dict[str, Step] | NotInstalled:
    try:
        return peer.steps()
    except NotInstalled as missing:
        return missing


def _peer_work(
    steps: dict[str, Step] | NotInstalled, card: ModelCard, patches: int, patients: int, device: torch.device
) -> Callable[[], None]:
    if isinstance(steps, NotInstalled):
        raise steps
    labels, width = simulated.labels(patients, device), simulated.inputs().feature_width
    x = simulated.features(patches, patients, width, device)
    torch.manual_seed(0)
    step = steps[card.name](Setting(_config(card), x, labels.time, labels.event))

    def work() -> None:
        step()

    return work


def _config(card: ModelCard) -> dict[str, Any]:
    """All settings of a model: the defaults of its class and what its card changes."""
    parameters = inspect.signature(import_target(card.target)).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    return {**defaults, **card.config}


def memory(
    cards: Sequence[ModelCard], cells: Cells, device: torch.device, meter: Meter, limits: Limits
) -> Iterator[Outcome]:
    """Memory of a first training step on top of weights and batch, each in a process of its own.

    Gradients, the optimizer's state and activations.
    """
    context = get_context("spawn" if device.type == "cuda" else "forkserver")
    context.set_forkserver_preload(["benchmarks.patients", "benchmarks.real"])
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        for card in cards:
            known: tuple[int, int] | None = None
            for patches, patients in cells.ascending():
                outcome = Outcome(
                    suite="memory",
                    contestant=card.name,
                    cell={"patches": patches, "patients": patients},
                    unit="step",
                    units=1,
                )
                size = patches * patients
                needed = known[1] * size / known[0] if known else 0
                if needed > meter.memory():
                    outcome.status = f"skipped: needs about {needed / 2**30:.0f} GiB"
                else:
                    known = _measure(pool, card, patches, patients, device, limits, outcome) or known
                yield outcome


def _measure(
    pool: ProcessPoolExecutor,
    card: ModelCard,
    patches: int,
    patients: int,
    device: torch.device,
    limits: Limits,
    outcome: Outcome,
) -> tuple[int, int] | None:
    """Fill the outcome; (size, bytes) where that worked."""
    waiting = pool.submit(_growth_of_step, card, patches, patients, str(device), torch.get_num_threads())
    try:
        outcome.peak_bytes.append(waiting.result(timeout=max(limits.seconds, 60)))
    except Exception as error:
        outcome.status = f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return None
    return patches * patients, outcome.peak_bytes[0]


def _growth_of_step(card: ModelCard, patches: int, patients: int, device: str, threads: int) -> int:
    from benchmarks.real import DeviceMeter

    torch.set_num_threads(threads)
    meter = DeviceMeter(torch.device(device))
    step = training(card, patches, patients, meter.device)
    return meter.growth(step)
