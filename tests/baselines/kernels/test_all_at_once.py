"""What accelerators compute all at once is what a CPU computes bag by bag: here on a CPU, in double precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch_geometric.data import Batch

from baselines.kernels import ragged
from baselines.kernels.bags import (
    attend_bags,
    attend_within_bags,
    mean_bags,
    pool_bags,
    softmax_bags,
)
from baselines.kernels.ragged import EachBag, gather_rows, padding, with_first_rows
from support.builders import batch, inputs
from survbench.batch import starts
from survbench.cards import ModelCard
from survbench.model import Prediction, Stage, SurvivalModel
from survbench.registry import import_target, load_registry
from survbench.training.objectives import Cox

CARDS = [card for card in load_registry().models.values() if not card.objective]
SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=6).map(tuple)
CPU = torch.device("cpu")


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_step_of_every_model_is_the_same(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    given_batch = batch((3, 1, 11, 5, 5), dtype=torch.float64)
    given_batch["part"], given_batch["whole"] = (0, 1, 0, 1, 0), (0, 1, 2, 3, 4)
    torch.manual_seed(0)
    model: SurvivalModel = import_target(card.target)(inputs(), 1, **card.config).double().train()
    for module in model.modules():  # which would draw other numbers
        if isinstance(module, nn.Dropout | nn.AlphaDropout):
            module.p = 0.0
    for stage in model.stages(card.train_inputs, card.inference_inputs):
        assert isinstance(stage, Stage)
        monkeypatch.setattr(ragged, "BAG_BY_BAG", frozenset({"cpu"}))
        expected = _step(model, stage, given_batch)
        monkeypatch.setattr(ragged, "BAG_BY_BAG", frozenset())
        ours = _step(model, stage, given_batch)
        assert ours.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(ours[name], value, atol=1e-9, rtol=1e-7, msg=lambda text, name=name: name + text)


def _step(model: SurvivalModel, stage: Stage, seen: Batch) -> dict[str, Tensor]:
    """Everything that a stage predicts and loses, and every gradient."""
    torch.manual_seed(1)
    model.zero_grad()
    prediction = stage.predict(seen)
    losses = stage.loss(prediction, seen, Cox())
    losses["total"].backward()
    gradients = {f"gradient of {k}": p.grad for k, p in model.named_parameters() if p.grad is not None}
    return {**dict(losses), **_tensors(prediction), **gradients}


def _tensors(prediction: Prediction) -> dict[str, Tensor]:
    every: Mapping[str, Any] = {"logits": prediction.logits, "attention": prediction.attention, **prediction.aux}
    ragged_ = {name: value.ragged() for name, value in every.items() if isinstance(value, EachBag)}
    return {**ragged_, **{name: value for name, value in every.items() if isinstance(value, Tensor)}}


@settings(max_examples=30, deadline=None)
@given(SIZES, st.integers(0, 99))
def test_layers_over_bags_are_the_same(sizes: tuple[int, ...], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    rows, patients = sum(sizes), len(sizes)
    ptr = torch.tensor([0, *torch.tensor(sizes).cumsum(0).tolist()])
    scores, columns, values = normal(rows), normal(rows, 2), normal(rows, 3)
    query, key, beside = normal(patients, 2, 4, 3), normal(2, rows, 2, 3), normal(2, patients, 5, 2, 3)
    few, tokens = normal(2, patients * 4, 2, 3), (4,) * patients

    def computed() -> list[Tensor]:
        mixed, similarities, weights = attend_bags(query, key[0], key[1], sizes, (beside[0], beside[1]))
        first, others = weights.split(5)
        counted = others.with_counts(lambda part, count: part.cumsum(-1) * count, range(1, patients + 1))
        return [
            softmax_bags(scores, ptr),
            softmax_bags(columns, ptr),
            pool_bags(scores, values, ptr),
            mean_bags(values, ptr),
            mixed,
            similarities.ragged(),
            first,
            others.plus(scores).map(lambda part: part * 2).ragged(),
            counted.ragged(),
            others.weighted_sums(values),
            attend_within_bags(key[0], few[0], few[1], sizes, tokens),
            attend_within_bags(few[0], key[0], key[1], tokens, sizes),
        ]

    expected = computed()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ragged, "BAG_BY_BAG", frozenset())
        for ours, theirs in zip(computed(), expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-10)


@settings(max_examples=30, deadline=None)
@given(SIZES)
def test_padding_loses_no_row(sizes: tuple[int, ...]) -> None:
    rows = torch.arange(sum(sizes) * 2.0).view(-1, 2)
    own = padding(sizes, CPU)
    padded = own.padded(rows)
    for bag, part in enumerate(rows.split(list(sizes))):
        assert torch.equal(padded[bag, : sizes[bag]], part)
        assert not padded[bag, sizes[bag] :].any()
    assert torch.equal(padded[own.alive], rows)
    assert torch.equal(own.ragged(padded), rows)
    heads = -torch.ones(len(sizes), 2)
    expected = [part for bag in rows.split(list(sizes)) for part in (heads[:1], bag)]
    assert torch.equal(with_first_rows(heads, rows, sizes), torch.cat(expected))
    assert starts(sizes) == tuple(sum(sizes[:bag]) for bag in range(len(sizes)))


def test_gradients_pass_through_what_is_gather_rows() -> None:
    rows = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda r: gather_rows(r, torch.tensor([4, 0, 2])), rows)
    assert gradcheck(lambda r: padding((2, 3), CPU).ragged(padding((2, 3), CPU).padded(r) * 2), rows)
