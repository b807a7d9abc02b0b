"""The simulated patients are what the trainer takes, and a step of the harness is the trainer's."""

from __future__ import annotations

import pytest
import torch

from benchmarks import patients
from survbench.registry import load_registry
from survbench.training import steps

CPU = torch.device("cpu")


def test_a_step_is_one_of_the_trainer_over_all_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = patients.train_epoch

    def spy(stage: object, objective: object, split: object, *rest: object) -> object:
        seen.extend(batch for batch in split.batches(1, ()))  # type: ignore[attr-defined]
        return real(stage, objective, split, *rest)  # type: ignore[arg-type]

    assert real is steps.train_epoch
    monkeypatch.setattr(patients, "train_epoch", spy)
    (card,) = load_registry().select_models(["abmil"])
    patients.training(card, 5, 3, CPU)()
    (batch,) = seen
    assert (batch.sizes, batch.ptr.tolist(), len(batch.x)) == ((5, 5, 5), [0, 5, 10, 15], 15)
    assert batch.x.std() > 0.5
    assert len(set(batch.time.tolist())) == 3
    assert batch.event[0]
    assert batch.pin_memory() is batch


def test_a_step_moves_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    monkeypatch.setattr(patients, "import_target", lambda target: _kept(built, target))
    (card,) = load_registry().select_models(["snn"])
    step = patients.training(card, 1, 4, CPU)
    before = [p.clone() for p in built[0].parameters()]
    step()
    assert any((a != b).any() for a, b in zip(before, built[0].parameters(), strict=True))


def _kept(built: list[torch.nn.Module], target: str) -> object:
    from survbench.registry import import_target

    def build(*arguments: object, **config: object) -> torch.nn.Module:
        built.append(import_target(target)(*arguments, **config))
        return built[-1]

    return build
