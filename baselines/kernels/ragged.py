"""Bags of several sizes in one computation, for devices on which starting a computation costs more than some padding.

Everywhere here `sizes` are the rows of each bag, and rows of bags stand one bag after another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from survbench.batch import on_device, ranges, starts

__all__ = [
    "EachBag",
    "Padding",
    "all_at_once",
    "first_rows",
    "gather_rows",
    "line_places",
    "padding",
    "scatter_rows",
    "set_products",
    "with_first_rows",
]

BAG_BY_BAG = frozenset({"cpu"})  # types of devices


def all_at_once(rows: Tensor) -> bool:
    """Whether bags are better computed all at once.

    A core is faster bag by bag, whose rows stay in its cache. On an accelerator each small computation waits to be
    launched, and there are hundreds of them in a loop over bags.
    """
    return rows.device.type not in BAG_BY_BAG


@dataclass(frozen=True)
class Padding:
    """Where rows stand when every bag is padded to the longest.

    Attributes
    ----------
    sizes : rows of each bag.
    places : (rows,) place of each row among bags x longest.
    alive : (bags, longest), False for padding.
    ptr : (bags + 1,) int32, offsets of the bags.
    """

    sizes: tuple[int, ...]
    places: Tensor
    alive: Tensor
    ptr: Tensor

    def padded(self, rows: Tensor) -> Tensor:
        """(rows, ...) -> (bags, longest, ...), zeros in between."""
        shape = len(self.sizes), max(self.sizes)
        return scatter_rows(rows, self.places, shape[0] * shape[1]).unflatten(0, shape)

    def ragged(self, padded: Tensor) -> Tensor:
        """(bags, longest, ...) -> (rows, ...)."""
        return gather_rows(padded.flatten(0, 1), self.places)


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # kept for training, even if validation needs it first
def padding(sizes: tuple[int, ...], device: torch.device) -> Padding:
    """The padding of bags of these sizes, made without waiting for the device."""
    longest = max(sizes)
    places = ranges(tuple(bag * longest for bag in range(len(sizes))), sizes, device)
    alive = torch.arange(longest, device=device) < on_device(sizes, device).unsqueeze(1)
    return Padding(sizes, places, alive, on_device((*starts(sizes), sum(sizes)), device).int())


def with_first_rows(first: Tensor, rows: Tensor, sizes: Sequence[int]) -> Tensor:
    """Put a row before those of each bag.

    Parameters
    ----------
    first : (bags, width), the row of each bag.
    rows : (rows, width).
    sizes : rows of each bag.

    Returns
    -------
    (bags + rows, width)
    """
    return gather_rows(torch.cat([first.to(rows.dtype), rows]), _first_before(tuple(sizes), rows.device))


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _first_before(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    """Where each row of `with_first_rows` comes from, when the first rows of all bags stand before all others."""
    begin = starts([1 + size for size in sizes])
    first = ranges(begin, (1,) * len(sizes), device)
    others = ranges(tuple(1 + start for start in begin), sizes, device)
    return torch.cat([first, others]).argsort()


def first_rows(rows: Tensor, sizes: Sequence[int]) -> Tensor:
    """The first row of each bag, (rows, width) -> (bags, width)."""
    if all_at_once(rows):
        return gather_rows(rows, ranges(starts(sizes), (1,) * len(sizes), rows.device))
    return torch.stack([bag[0] for bag in rows.split(list(sizes))])  # whose order of sums in gradients figures rest on


def line_places(
    sizes: tuple[int, ...], before: tuple[int, ...], line: tuple[int, ...], lines: int, device: torch.device
) -> Tensor:
    """Places of rows that fill lines of another length in every bag, when all are padded to the longest line.

    Parameters
    ----------
    sizes : rows of each bag.
    before : places of its first line that each bag leaves free.
    line : length of the lines of each bag.
    lines : of every bag.
    device : where the result is wanted.

    Returns
    -------
    (rows,) among bags x lines x longest line places.
    """
    bags, longest = len(sizes), max(line)
    begin = tuple(bag * lines * longest for bag in range(bags))
    shift = tuple(free - start for free, start in zip(before, starts(sizes), strict=True))
    counts, *each = on_device((sizes, shift, line, begin), device)
    shifts, own, offset = torch.stack(each).repeat_interleave(counts, 1, output_size=sum(sizes))
    position = torch.arange(sum(sizes), device=device) + shifts
    return offset + position // own * longest + position % own


def scatter_rows(rows: Tensor, places: Tensor, count: int) -> Tensor:
    """Rows at places that are all different, zeros in between: (rows, ...) -> (count, ...)."""
    return rows.new_zeros(count, *rows.shape[1:]).index_copy_(0, places, rows)


def gather_rows(rows: Tensor, places: Tensor) -> Tensor:
    """`rows[places]` for places that are all different, whose gradient therefore needs no sums."""
    return _Gathered.apply(rows, places)


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.count = len(rows)
        return rows.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        return scatter_rows(gradient, places, ctx.count), None


def set_products(members: Tensor, weights: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Multiply the members of each set by weights of its own.

    Parameters
    ----------
    members : (B, all members), set after set.
    weights : (all members, width).
    sizes : members of each set, ascending.

    Returns
    -------
    (sets, B, width)
    """
    if all_at_once(members):  # one product, in which every set is as large as the largest
        sets = padding(sizes, members.device)
        return torch.bmm(sets.padded(members.T).transpose(1, 2), sets.padded(weights))
    runs = [(size, len(list(same))) for size, same in groupby(sizes)]  # sets of one size are one product
    rows = [size * count for size, count in runs]
    each = zip(runs, members.split(rows, 1), weights.split(rows), strict=True)
    return torch.cat(
        [
            torch.bmm(own.view(-1, count, size).transpose(0, 1), weight.view(count, size, -1))
            for (size, count), own, weight in each
        ]
    )


@dataclass(frozen=True)
class EachBag:
    """Numbers for every row of every bag, such as weights (heads, queries, rows): the last axis is the bag's rows.

    Attributes
    ----------
    sizes : rows of each bag.
    parts : a tensor for each bag; or one for all of them, bags first, the rows padded as by `padding`.
    """

    sizes: tuple[int, ...]
    parts: tuple[Tensor, ...] | Tensor

    def map(self, compute: Callable[[Tensor], Tensor]) -> EachBag:
        """The same for every bag; the last axis, and axes before those of `compute`, must stay where they are."""
        if isinstance(self.parts, Tensor):
            return EachBag(self.sizes, compute(self.parts))
        return EachBag(self.sizes, tuple(map(compute, self.parts)))

    def with_counts(self, compute: Callable[[Tensor, Any], Tensor], counts: Sequence[int]) -> EachBag:
        """As `map`, with a number of each bag that can be compared with the last axis."""
        if isinstance(self.parts, Tensor):
            numbers = on_device(tuple(counts), self.parts.device).view(-1, *(1,) * (self.parts.dim() - 1))
            return EachBag(self.sizes, compute(self.parts, numbers))
        return EachBag(self.sizes, tuple(map(compute, self.parts, counts)))

    def plus(self, numbers: Tensor) -> EachBag:
        """With numbers (all rows,) added to the last axis of each bag."""
        if isinstance(self.parts, Tensor):
            padded = padding(self.sizes, numbers.device).padded(numbers)
            return EachBag(self.sizes, self.parts + padded.view(len(padded), *(1,) * (self.parts.dim() - 2), -1))
        return EachBag(self.sizes, tuple(map(torch.add, self.parts, numbers.split(list(self.sizes)))))

    def split(self, first: int) -> tuple[Tensor, EachBag]:
        """The first so many rows of every bag (bags, ..., first), and the others."""
        others = tuple(size - first for size in self.sizes)
        if isinstance(self.parts, Tensor):
            return self.parts[..., :first], EachBag(others, self.parts[..., first:])
        rest = tuple(part[..., first:] for part in self.parts)
        return torch.stack([part[..., :first] for part in self.parts]), EachBag(others, rest)

    def ragged(self) -> Tensor:
        """(..., all rows), bag after bag."""
        if not isinstance(self.parts, Tensor):
            return torch.cat(self.parts, dim=-1)
        own = padding(self.sizes, self.parts.device)
        return own.ragged(self.parts.movedim(-1, 1)).movedim(0, -1)

    def weighted_sums(self, rows: Tensor) -> Tensor:
        """Sums of rows with these numbers as weights.

        Parameters
        ----------
        rows : (all rows, width).

        Returns
        -------
        (bags, ..., width), where the numbers are (..., rows) of each bag.
        """
        if not isinstance(self.parts, Tensor):
            bags = rows.split(list(self.sizes))
            return torch.stack([part @ own.to(part.dtype) for part, own in zip(self.parts, bags, strict=True)])
        padded = padding(self.sizes, rows.device).padded(rows).to(self.parts.dtype)
        return self.parts @ padded.view(len(padded), *(1,) * (self.parts.dim() - 3), *padded.shape[1:])
