"""Nystrom attention and TransMIL: the plain form of one bag, bag by bag as on a CPU, and all at once as on a GPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from baselines.kernels import nystrom, ragged
from baselines.kernels.nystrom import NystromAttention
from baselines.kernels.ragged import gather_rows, line_places
from baselines.transmil import TransMIL
from baselines.transmil_survpath import TransMILSurvPath
from support.builders import batch, inputs
from survbench.batch import ranges

SHORT = (3, 1, 2, 15, 16, 17, 33, 100, 40)
LONG = (257, 1, 5, 700, 255, 256, 1024)


@contextmanager
def all_at_once(most: int | None = None) -> Iterator[None]:
    """Takes the path of other devices on a CPU. most : numbers in a matrix of bags that are computed together."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ragged, "BAG_BY_BAG", frozenset())
        if most is not None:
            patch.setattr(nystrom, "MOST", most)
        yield


def with_gradients(module: nn.Module, given: Tensor, compute: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """What is computed, and the gradients of what is given and of every parameter."""
    given = given.detach().requires_grad_()
    ours = compute(given)
    weight = torch.arange(ours.numel(), dtype=ours.dtype).sin().view_as(ours)
    wanted = [given, *module.parameters()]
    return [ours, *torch.autograd.grad((ours * weight).sum(), wanted, materialize_grads=True)]


def assert_same(expected: Sequence[Tensor], ours: Sequence[Tensor]) -> None:
    for one, other in zip(expected, ours, strict=True):
        torch.testing.assert_close(other, one, atol=1e-9, rtol=1e-9)


def outcome(model: nn.Module, sizes: Sequence[int], seed: int = 0) -> list[Tensor]:
    """Logits and gradients for a batch."""
    bags = batch(sizes, seed=seed, dtype=torch.float64)

    def logits(x: Tensor) -> Tensor:
        bags.x = x
        return model(bags).logits

    return with_gradients(model, bags.x, logits)


def transmil(landmarks: int, kernel: int, heads: int = 2) -> TransMIL:
    torch.manual_seed(0)
    return TransMIL(inputs(), 4, width=16, heads=heads, landmarks=landmarks, kernel=kernel).double().eval()


def transmil_survpath(landmarks: int, heads: int = 2) -> TransMILSurvPath:
    torch.manual_seed(0)
    return TransMILSurvPath(inputs(), 4, width=16, heads=heads, head_width=8, landmarks=landmarks).double().eval()


MODELS: dict[str, tuple[Callable[[], nn.Module], Sequence[int]]] = {
    "transmil, few landmarks": (lambda: transmil(16, 5), SHORT),
    "transmil, long kernel": (lambda: transmil(16, 33), SHORT),
    "transmil, small squares": (lambda: transmil(8, 33), (1, 2, 9, 17, 25)),
    "transmil": (lambda: transmil(256, 33, heads=1), LONG),
    "transmil_survpath, few landmarks": (lambda: transmil_survpath(16), SHORT),
    "transmil_survpath": (lambda: transmil_survpath(256, heads=1), LONG),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_the_same_whether_bags_come_together_or_not(name: str) -> None:
    build, sizes = MODELS[name]
    model = build()
    expected = outcome(model, sizes)
    with all_at_once():
        ours = outcome(model, sizes)
    assert_same(expected, ours)


@settings(max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    landmarks=st.sampled_from([1, 4, 16]),
    kernel=st.sampled_from([0, 1, 5, 33]),
    most=st.sampled_from([1, 2**11, 2**29]),
)
@example(sizes=[40], landmarks=16, kernel=33, most=2**29)
@example(sizes=[16, 16], landmarks=16, kernel=0, most=2**29)
def test_a_layer_gives_the_same_whether_bags_come_together_or_not(
    sizes: list[int], landmarks: int, kernel: int, most: int
) -> None:
    torch.manual_seed(sum(sizes))
    layer = NystromAttention(6, 2, 4, landmarks=landmarks, kernel=kernel).double()
    rows = torch.randn(sum(sizes), 6, dtype=torch.float64)
    for form in (layer.forward, layer.first, *((layer.mean,) if not kernel else ())):

        def compute(given: Tensor, form: Callable[[Tensor, Sequence[int]], Tensor] = form) -> Tensor:
            return form(given, sizes)

        expected = with_gradients(layer, rows, compute)
        with all_at_once(most):
            ours = with_gradients(layer, rows, compute)
        assert_same(expected, ours)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=9), st.integers(1, 10_000))
def test_bags_share_a_matrix_of_limited_size(sizes: list[int], most: int) -> None:
    layer = NystromAttention(4, 2, 2, landmarks=8)
    with all_at_once(most):
        runs = list(layer.runs(sizes))
    assert [size for run in runs for size in run] == sizes
    needed = [len(run) * 2 * 8 * 8 * -(-max(run) // 8) for run in runs]
    assert all(len(run) == 1 or own <= most for run, own in zip(runs, needed, strict=True))
    joined = [len(a + b) * 2 * 8 * 8 * -(-max(a + b) // 8) for a, b in pairwise(runs)]
    assert all(own > most for own in joined)


@pytest.mark.parametrize("build", [lambda: transmil(16, 33), lambda: transmil_survpath(16)])
def test_half_precision_comes_as_near_together_as_bag_by_bag(build: Callable[[], nn.Module]) -> None:
    model, bags = build(), batch(SHORT)

    def computed() -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=bags.x.dtype == torch.float32):
            logits = model(bags).logits
        return [logits, *torch.autograd.grad(logits.square().sum(), list(model.parameters()), materialize_grads=True)]

    def off(ours: list[Tensor]) -> Tensor:
        return torch.stack([(a - b).norm() / b.norm() for a, b in zip(ours, exact, strict=True) if b.any()])

    bags.x = bags.x.double()
    exact = computed()
    bags.x = bags.x.float()
    model.float()
    alone = off(computed())
    with all_at_once():
        together = off(computed())
    assert (alone > 1e-4).all()
    assert (together < 2 * alone + 0.01).all()


class Operations(TorchDispatchMode):
    """Counts what is computed, views left out: on a GPU each would be launched."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view:
            self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def operations(model: nn.Module, sizes: Sequence[int]) -> list[str]:
    """Of one training step."""
    model.train()
    bags = batch(sizes, dtype=torch.float64)
    with Operations() as counted:
        model(bags).logits.square().sum().backward()
    return counted.names


@pytest.mark.parametrize("build", [lambda: transmil(16, 33), lambda: transmil_survpath(16)])
def test_more_bags_are_not_more_launches_and_nothing_waits(build: Callable[[], nn.Module]) -> None:
    model = build()
    alone = len(operations(model, range(50, 74)))
    with all_at_once():
        operations(model, [50])  # what is kept for all sizes is made
        few, many = operations(model, range(60, 64)), operations(model, range(50, 74))
    assert len(many) == len(few) < alone / 4
    waiting = ("_local_scalar_dense", "nonzero", "unique", "item", "index_put", "masked_select")
    assert not [name for name in many if any(word in name for word in waiting)]


@pytest.mark.parametrize("build", [lambda: TransMIL(inputs(), 4), lambda: TransMILSurvPath(inputs(), 4)])
def test_nothing_asks_the_device_for_a_number(build: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which a device without numbers lacks
    model, bags = build().to("meta"), batch(range(2900, 3028, 4)).to("meta")
    model(bags).logits.sum().backward()
    assert all(own.grad is not None for own in model.parameters())


def test_what_validation_needed_first_serves_training() -> None:
    model, sizes = transmil(4, 5), (7, 11, 2)
    with all_at_once():
        with torch.inference_mode():
            model(batch(sizes, dtype=torch.float64))
        _, *gradients = outcome(model, sizes)
    assert all(own.abs().sum() > 0 for own in gradients)


def padded_nystrom(attention: NystromAttention, rows: Tensor) -> Tensor:
    """The published form, written out: zero rows in front up to a multiple of the landmarks."""
    heads, marks = attention.heads, attention.landmarks
    group = math.ceil(len(rows) / marks)
    padded = F.pad(rows, (0, 0, group * marks - len(rows), 0))
    query, key, value = attention.to_qkv(padded).view(len(padded), 3, heads, -1).permute(1, 2, 0, 3)
    query = query * query.shape[-1] ** -0.5
    near_query, near_key = (t.reshape(heads, marks, group, -1).mean(2) for t in (query, key))
    one, two = (query @ near_key.mT).softmax(-1), (near_query @ near_key.mT).softmax(-1)
    three = (near_query @ key.mT).softmax(-1)
    inverse = two.mT / (two.abs().sum(-1).max() * two.abs().sum(-2).max())
    identity = torch.eye(marks, dtype=rows.dtype)
    for _ in range(attention.iterations):
        product = two @ inverse
        inner = 15 * identity - product @ (7 * identity - product)
        inverse = inverse @ (13 * identity - product @ inner) / 4
    mixed = one @ inverse @ (three @ value)
    if attention.value_conv is not None:
        mixed = mixed + attention.value_conv(value.unsqueeze(0)).squeeze(0)
    return attention.to_out(mixed.transpose(0, 1).flatten(1))[-len(rows) :]


@pytest.mark.parametrize("count", [1, 2, 7, 15, 16, 17, 40])
@pytest.mark.parametrize("kernel", [0, 5, 33])
def test_equal_rows_of_padding_are_counted_and_not_computed(count: int, kernel: int) -> None:
    torch.manual_seed(count)
    attention = NystromAttention(12, 2, 6, landmarks=16, kernel=kernel).double().eval()
    rows = torch.randn(count, 12, dtype=torch.float64)
    other = torch.randn(5, 12, dtype=torch.float64)
    both = attention(torch.cat([rows, other]), (count, 5))
    torch.testing.assert_close(both[:count], padded_nystrom(attention, rows), atol=1e-9, rtol=0)
    torch.testing.assert_close(both[count:], padded_nystrom(attention, other), atol=1e-9, rtol=0)


def plain_transmil(model: TransMIL, bag: Tensor) -> Tensor:
    """The published network for one bag (patches, features), written out: logits (outputs,)."""
    rows = model.project(bag)
    side = math.ceil(math.sqrt(len(rows)))
    rows = torch.cat([model.token[0], rows, rows[: side * side - len(rows)]])
    rows = rows + padded_nystrom(model.first.attention, model.first.norm(rows))
    image = rows[1:].T.unflatten(1, (side, side))
    image = image + sum(convolve(image) for convolve in model.position.convolutions)
    rows = torch.cat([rows[:1], image.flatten(1).T])
    rows = rows + padded_nystrom(model.second.attention, model.second.norm(rows))
    return model.head(model.norm(rows[0]))


@pytest.mark.parametrize("path", [nullcontext, lambda: all_at_once()], ids=["bag by bag", "all at once"])
def test_transmil_is_the_plain_network_of_each_bag(path: Callable[[], AbstractContextManager[None]]) -> None:
    model, bags = transmil(16, 33), batch(SHORT, dtype=torch.float64)
    expected = torch.stack([plain_transmil(model, bag) for bag in bags.x.split(SHORT)])
    with path():
        torch.testing.assert_close(model(bags).logits, expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("sizes", [(5,), (16, 3, 40), (15, 17)])
def test_the_mean_of_a_nystrom_layer_is_that_of_its_rows(sizes: tuple[int, ...], heads: int) -> None:
    torch.manual_seed(0)
    layer = NystromAttention(12, heads, 8, landmarks=16).double()
    rows = torch.randn(sum(sizes), 12, dtype=torch.float64)
    every = torch.stack([bag.mean(0) for bag in layer(rows, sizes).split(list(sizes))])
    torch.testing.assert_close(layer.mean(rows, sizes), every, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("kernel", [0, 5, 33])
@pytest.mark.parametrize("sizes", [(1, 5), (16, 3, 40), (15, 17)])
def test_the_first_row_of_a_nystrom_layer_is_computed_alone(sizes: tuple[int, ...], kernel: int) -> None:
    torch.manual_seed(0)
    layer = NystromAttention(12, 2, 8, landmarks=16, kernel=kernel).double()
    rows = torch.randn(sum(sizes), 12, dtype=torch.float64, requires_grad=True)
    every = torch.stack([bag[0] for bag in layer(rows, sizes).split(list(sizes))])
    alone = layer.first(rows, sizes)
    torch.testing.assert_close(alone, every, atol=1e-12, rtol=1e-12)
    (expected,), (ours,) = (torch.autograd.grad(t.square().sum(), rows) for t in (every, alone))
    torch.testing.assert_close(ours, expected, atol=1e-11, rtol=1e-9)


def test_gathered_rows_return_their_gradient() -> None:
    rows, places = torch.randn(5, 2, dtype=torch.float64, requires_grad=True), torch.tensor([4, 0, 2])
    assert torch.equal(gather_rows(rows, places), rows[places])
    assert torch.autograd.gradcheck(gather_rows, (rows, places))
    assert torch.autograd.gradgradcheck(gather_rows, (rows, places))


def test_ranges_follow_each_other() -> None:
    cpu = torch.device("cpu")
    assert ranges((5, 0, 7), (2, 0, 3), cpu).tolist() == [5, 6, 7, 8, 9]
    assert ranges((3, 4), (0, 0), cpu).tolist() == []


def test_rows_fill_lines_of_their_bag() -> None:
    places = line_places((3, 5), (1, 0), (2, 3), 2, torch.device("cpu"))
    shown = [["."] * 3 for _ in range(4)]  # two bags of two lines, of which the longest has three places
    for row, place in enumerate(places.tolist()):
        shown[place // 3][place % 3] = "abcdefgh"[row]
    assert ["".join(line) for line in shown] == [".a.", "bc.", "def", "gh."]
