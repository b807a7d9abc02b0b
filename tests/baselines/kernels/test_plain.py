"""Every kernel over several bags against its plain meaning for one, in double precision, bag by bag and all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.kernels import bags, ragged, squares

SIZES = (5, 1, 9, 4, 4)
PTR = torch.tensor([0, *SIZES]).cumsum(0)
BAG = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))
ROWS = sum(SIZES)
SIDES = (3, 1, 3, 2, 2)
SQUARES = tuple(1 + side * side for side in SIDES)

Case = tuple[Callable[[], Tensor], Callable[[int], Tensor]]
"""All bags by the kernel, and bag number i by its plain meaning."""


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(queries, width), (keys, width) -> (queries, width)."""
    return (query @ key.T * key.shape[-1] ** -0.5).softmax(-1) @ value


def cases() -> dict[str, Case]:
    torch.manual_seed(0)
    scores, columns, rows, others = normal(ROWS), normal(ROWS, 2), normal(ROWS, 3), normal(ROWS, 3)
    query, key, value = normal(5, 4, 3), normal(5, 6, 3), normal(5, 6, 3)
    first, token, images = normal(5, 3), normal(1, 1, 3), normal(sum(SQUARES), 3)
    convolutions = nn.ModuleList(nn.Conv2d(3, 3, k, padding=k // 2, groups=3) for k in (5, 3)).double()

    def own(numbers: Tensor, bag: int) -> Tensor:
        return numbers[bag == BAG]

    def image(bag: int) -> Tensor:
        tokens, *square = images.split(SQUARES)[bag].split([1, SQUARES[bag] - 1])
        picture = square[0].T.unflatten(1, (SIDES[bag], SIDES[bag]))
        return torch.cat([tokens, (picture + sum(c(picture) for c in convolutions)).flatten(1).T])

    def heads(numbers: Tensor) -> Tensor:
        return numbers.unsqueeze(-2)

    return {
        "pool": (lambda: bags.pool_bags(scores, rows, PTR), lambda i: own(scores, i) @ own(rows, i)),
        "mean": (lambda: bags.mean_bags(rows, PTR), lambda i: own(rows, i).mean(0)),
        "softmax": (lambda: bags.softmax_bags(columns, PTR), lambda i: own(columns, i).softmax(0)),
        "first maximum": (
            lambda: bags.first_maximum(columns, PTR, BAG),
            lambda i: PTR[i] + own(columns, i).argmax(0),
        ),
        "own products": (
            lambda: bags.own_products(rows, query, SIZES, BAG),
            lambda i: own(rows, i) @ query[i].T,
        ),
        "attend bags": (
            lambda: bags.attend_bags(query.unsqueeze(1), heads(rows), heads(others), SIZES)[0].squeeze(1),
            lambda i: attend(query[i], own(rows, i), own(others, i)),
        ),
        "attend bags beside tokens": (
            lambda: bags.attend_bags(query.unsqueeze(1), heads(rows), heads(others), SIZES, (heads(key), heads(value)))[
                0
            ].squeeze(1),
            lambda i: attend(query[i], torch.cat([key[i], own(rows, i)]), torch.cat([value[i], own(others, i)])),
        ),
        "attend rows": (
            lambda: bags.attend_rows(query, rows, SIZES)[0],
            lambda i: attend(query[i], own(rows, i), own(rows, i)),
        ),
        "attend tokens": (
            lambda: bags.attend_tokens(rows, key, value, SIZES),
            lambda i: attend(own(rows, i), key[i], value[i]),
        ),
        "attend within": (
            lambda: bags.attend_within_bags(*map(heads, (rows, others, rows)), SIZES, SIZES).squeeze(1),
            lambda i: attend(own(rows, i), own(others, i), own(rows, i)),
        ),
        "first rows": (lambda: ragged.first_rows(rows, SIZES), lambda i: own(rows, i)[0]),
        "with first rows": (
            lambda: ragged.with_first_rows(first, rows, SIZES),
            lambda i: torch.cat([first[i : i + 1], own(rows, i)]),
        ),
        "squared": (
            lambda: squares.squared(token, rows, SIZES, SIDES),
            lambda i: torch.cat([token[0], own(rows, i), own(rows, i)[: SIDES[i] ** 2 - SIZES[i]]]),
        ),
        "class tokens": (lambda: squares.class_tokens(images, SQUARES), lambda i: images.split(SQUARES)[i][0]),
        "add convolutions": (lambda: squares.add_convolutions(images, SIDES, convolutions), image),
    }


@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize("devices", [{"cpu"}, set()], ids=["bag by bag", "all at once"])
def test_a_kernel_means_the_same_for_one_bag(name: str, devices: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ragged, "BAG_BY_BAG", frozenset(devices))
    together, plain = cases()[name]
    each = [plain(bag) for bag in range(len(SIZES))]
    result = together()
    expected = torch.stack(each) if len(result) == len(SIZES) else torch.cat(each)
    torch.testing.assert_close(result, expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("devices", [{"cpu"}, set()], ids=["bag by bag", "all at once"])
def test_each_set_is_multiplied_by_its_own_weights(devices: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ragged, "BAG_BY_BAG", frozenset(devices))
    sizes = (1, 2, 2, 5)
    members, weights = normal(3, sum(sizes)), normal(sum(sizes), 4)
    pairs: Any = zip(members.split(sizes, 1), weights.split(sizes), strict=True)
    expected = torch.stack([own @ weight for own, weight in pairs])
    torch.testing.assert_close(ragged.set_products(members, weights, sizes), expected, atol=1e-12, rtol=1e-12)


def test_attention_of_rows_is_that_of_projected_keys_and_values() -> None:
    """What spares projecting every row."""
    query, rows, keys, values = normal(5, 4, 2), normal(ROWS, 3), nn.Linear(3, 2).double(), nn.Linear(3, 6).double()
    mixed, _, weights = bags.attend_rows(query @ keys.weight * (3 / 2) ** 0.5, rows, SIZES)
    each = [attend(query[i], keys(own), values(own)) for i, own in enumerate(rows.split(SIZES))]
    torch.testing.assert_close(F.linear(mixed, values.weight, values.bias), torch.stack(each))
    torch.testing.assert_close(weights.weighted_sums(rows), mixed)
