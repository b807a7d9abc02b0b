"""The teacher is asked once about each whole bag, and what is remembered is what it would say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from amkd import memory as module
from amkd.memory import Memory
from amkd.model import AMKD
from baselines import ragged
from support.builders import inputs, split
from survbench.cards import Modality
from survbench.model import Prediction
from survbench.training.fit import fit
from survbench.training.objectives import Cox
from survbench.training.settings import Settings

BOTH, SLIDES = (Modality.SLIDES, Modality.EXPRESSION), (Modality.SLIDES,)


def drawn(seed: int, most: int | None = 5) -> Iterator[Batch]:
    return split(patients=30).batches(7, BOTH, labels=True, max_patches=most, generator=np.random.default_rng(seed))


@pytest.fixture
def model() -> AMKD:
    torch.manual_seed(0)
    return AMKD(inputs(), 1, teacher_settings={"pathway_width": 16}).eval()


@pytest.mark.parametrize("most", [None, 5, 1])
@pytest.mark.parametrize("budget", [0, 3000, 1 << 30])
@torch.no_grad()
def test_memory_says_what_the_teacher_would_say(
    model: AMKD, most: int | None, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUDGET", budget)
    asked: list[int] = []

    def teach(batch: Batch) -> Prediction:
        asked.append(len(batch.x))
        return model.teach(batch)

    memory = Memory(teach)
    with memory.filled(drawn(0, most)):
        asked.clear()
        for batch in drawn(1, most):
            said, expected = memory(batch), model.teach(batch)
            torch.testing.assert_close(said.logits, expected.logits)
            torch.testing.assert_close(said.aux["guided"], expected.aux["guided"])
    patches = sum(len(batch.x) for batch in drawn(1, most))
    sampled = 0 if most is None else sum(most for batch in drawn(1, most) for row in batch.whole if row is None)
    assert sum(asked) == (patches if budget == 0 else sampled) or (budget == 3000 and sampled < sum(asked) < patches)


@torch.no_grad()
def test_what_was_remembered_is_forgotten(model: AMKD) -> None:
    with model.memory.filled(drawn(0)):
        pass
    other = next(split(patients=30, seed=9).batches(7, BOTH, labels=True))
    torch.testing.assert_close(model.memory(other).logits, model.teach(other).logits)


@torch.no_grad()
def test_an_accelerator_remembers_nothing(model: AMKD, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ragged, "BAG_BY_BAG", frozenset())
    asked: list[int] = []

    def teach(batch: Batch) -> Prediction:
        asked.append(len(batch.time))
        return model.teach(batch)

    memory = Memory(teach)
    with memory.filled(drawn(0)):
        assert not asked
        memory(next(drawn(0)))
    assert asked


def test_training_asks_once(model: AMKD, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And gives the student that a teacher gives who is asked in every epoch, up to rounding."""
    asked: list[int] = []
    teacher = model.teachers[0]
    teacher.register_forward_hook(lambda of, given, _: asked.append(0 if of.training else len(given[0].x)))

    def train(name: str) -> None:
        fit(
            model,
            model.stages(BOTH, SLIDES)[-1:],
            Cox(),
            split(patients=30),
            split(patients=20, seed=2, prefix="V"),
            Settings(epochs=4, patience=4, batch_size=8, learning_rate=1e-3, weight_decay=0.0, patches=100),
            seed=(0,),
            device=torch.device("cpu"),
            scratch=tmp_path / name,
        )

    begin = {key: value.clone() for key, value in model.state_dict().items()}
    after = {}
    for name, budget in (("remembered", 1 << 30), ("asked", 0)):
        monkeypatch.setattr(module, "BUDGET", budget)
        model.load_state_dict(begin)
        asked.clear()
        train(name)
        after[name] = ({key: value.clone() for key, value in model.state_dict().items()}, sum(asked))
    patches = len(split(patients=30).bags.features)
    assert after["remembered"][1] == patches
    assert after["asked"][1] == 4 * patches
    for key, value in after["remembered"][0].items():
        torch.testing.assert_close(value, after["asked"][0][key], atol=1e-5, rtol=1e-4)
