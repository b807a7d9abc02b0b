"""Bags of several sizes in one computation, for devices on which a launch costs more than some padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from survbench.batch import on_device, ranges, starts

__all__ = [
    "EachBag",
    "Layout",
    "headed",
    "in_lines",
    "laid",
    "layout",
    "of_only_head",
    "owners",
    "spreads",
    "taken",
    "together",
]

BAG_BY_BAG = frozenset({"cpu"})  # types of devices
SPREAD = 2**26  # numbers of the largest matrix of `spreads`


def together(rows: Tensor) -> bool:
    """Whether bags are better computed all at once.

    A core is faster bag by bag, whose rows stay in its cache. On an accelerator each small computation waits to be
    launched, and there are hundreds of them in a loop over bags.
    """
    return rows.device.type not in BAG_BY_BAG


@dataclass(frozen=True)
class Layout:
    """Where the rows of bags that lie one after another stand when every bag is padded to the longest.

    Attributes
    ----------
    places : (rows,) of each row among bags x longest. alive : (bags, longest), False for padding.
    ptr : (bags + 1,) int32, offsets of the bags.
    """

    sizes: tuple[int, ...]
    places: Tensor
    alive: Tensor
    ptr: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Bags, longest."""
        return len(self.sizes), max(self.sizes)

    def padded(self, rows: Tensor) -> Tensor:
        """(rows, ...) -> (bags, longest, ...), zeros in between."""
        bags, longest = self.shape
        return laid(rows, self.places, bags * longest).unflatten(0, (bags, longest))

    def ragged(self, padded: Tensor) -> Tensor:
        """(bags, longest, ...) -> (rows, ...)."""
        return taken(padded.flatten(0, 1), self.places)


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # kept for training, whoever asks first
def layout(sizes: tuple[int, ...], device: torch.device) -> Layout:
    """The layout of bags of these sizes, made without waiting for the device."""
    longest = max(sizes)
    places = ranges(tuple(bag * longest for bag in range(len(sizes))), sizes, device)
    alive = torch.arange(longest, device=device) < on_device(sizes, device).unsqueeze(1)
    return Layout(sizes, places, alive, on_device((*starts(sizes), sum(sizes)), device).int())


def headed(first: Tensor, rows: Tensor, sizes: Sequence[int]) -> Tensor:
    """A row of its own before each bag's.

    Parameters
    ----------
    first : (bags, width). rows : (rows, width) of bags one after another.

    Returns
    -------
    (bags + rows, width)
    """
    return taken(torch.cat([first.to(rows.dtype), rows]), _heads_before(tuple(sizes), rows.device))


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def _heads_before(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    """Where each row of `headed` comes from, when the heads of all bags lie before all rows."""
    own = tuple(1 + size for size in sizes)
    heads = ranges(starts(own), (1,) * len(sizes), device)
    others = ranges(tuple(1 + start for start in starts(own)), sizes, device)
    return torch.cat([heads, others]).argsort()


def owners(ptr: Tensor, rows: int) -> Tensor:
    """(bags, rows): which rows belong to which bag. ptr : (bags + 1,) offsets."""
    row = torch.arange(rows, device=ptr.device)
    return (row >= ptr[:-1].unsqueeze(1)) & (row < ptr[1:].unsqueeze(1))


def spreads(rows: Tensor, ptr: Tensor) -> bool:
    """Whether sums over bags are taken as products with a matrix (bags, rows), most of whose numbers are zeros."""
    return together(rows) and len(rows) * len(ptr) <= SPREAD


def in_lines(
    sizes: tuple[int, ...], before: tuple[int, ...], line: tuple[int, ...], lines: int, device: torch.device
) -> Tensor:
    """Places (rows,) of rows that fill lines of another length in every bag, when all are padded to the longest line.

    Parameters
    ----------
    sizes : rows of each bag. before : places of its first line that it leaves free. line : length of its lines.
    lines : of every bag, which are bags x lines x longest line places.
    """
    bags, longest = len(sizes), max(line)
    begin = tuple(bag * lines * longest for bag in range(bags))
    shift = tuple(free - start for free, start in zip(before, starts(sizes), strict=True))
    counts, *each = on_device((sizes, shift, line, begin), device)
    shifts, own, offset = torch.stack(each).repeat_interleave(counts, 1, output_size=sum(sizes))
    position = torch.arange(sum(sizes), device=device) + shifts
    return offset + position // own * longest + position % own


def laid(rows: Tensor, places: Tensor, count: int) -> Tensor:
    """Rows at places that are all different, zeros in between: (rows, ...) -> (count, ...)."""
    return rows.new_zeros(count, *rows.shape[1:]).index_copy_(0, places, rows)


def taken(rows: Tensor, places: Tensor) -> Tensor:
    """`rows[places]` for places that are all different, whose gradient therefore needs no sums."""
    chosen: Tensor = _Taken.apply(rows, places)
    return chosen


class _Taken(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.count = len(rows)
        return rows.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        return laid(gradient, places, ctx.count), None


@dataclass(frozen=True)
class EachBag:
    """Numbers for every row of every bag, such as weights (heads, queries, rows): the last axis is the bag's rows.

    Attributes
    ----------
    parts : a tensor for each bag; or one for all of them, bags first, the rows padded as in `layout`.
    """

    sizes: tuple[int, ...]
    parts: tuple[Tensor, ...] | Tensor

    def map(self, compute: Callable[[Tensor], Tensor]) -> EachBag:
        """The same for every bag. It must leave the last axis where it is, and any axes before those it speaks of."""
        if isinstance(self.parts, Tensor):
            return EachBag(self.sizes, compute(self.parts))
        return EachBag(self.sizes, tuple(compute(part) for part in self.parts))

    def with_counts(self, compute: Callable[[Tensor, Any], Tensor], counts: Sequence[int]) -> EachBag:
        """As `map`, with a number of each bag that can be compared with the last axis."""
        if isinstance(self.parts, Tensor):
            numbers = on_device(tuple(counts), self.parts.device).view(-1, *(1,) * (self.parts.dim() - 1))
            return EachBag(self.sizes, compute(self.parts, numbers))
        pairs = zip(self.parts, counts, strict=True)
        return EachBag(self.sizes, tuple(compute(part, count) for part, count in pairs))

    def plus(self, numbers: Tensor) -> EachBag:
        """With numbers (all rows,) added to the last axis of each bag."""
        if isinstance(self.parts, Tensor):
            padded = layout(self.sizes, numbers.device).padded(numbers)
            return EachBag(self.sizes, self.parts + padded.view(len(padded), *(1,) * (self.parts.dim() - 2), -1))
        pairs = zip(self.parts, numbers.split(list(self.sizes)), strict=True)
        return EachBag(self.sizes, tuple(part + own for part, own in pairs))

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
        own = layout(self.sizes, self.parts.device)
        return own.ragged(self.parts.movedim(-1, 1)).movedim(0, -1)

    def mixed(self, rows: Tensor) -> Tensor:
        """Sums of rows with these numbers as weights: (..., queries, rows), (all rows, width) -> (bags, ..., queries,
        width).
        """
        if not isinstance(self.parts, Tensor):
            bags = rows.split(list(self.sizes))
            return torch.stack([part @ own.to(part.dtype) for part, own in zip(self.parts, bags, strict=True)])
        padded = layout(self.sizes, rows.device).padded(rows).to(self.parts.dtype)
        return self.parts @ padded.view(len(padded), *(1,) * (self.parts.dim() - 3), *padded.shape[1:])


def of_only_head(numbers: Tensor) -> Tensor:
    """(..., 1, queries, rows) -> (..., queries, rows), for `EachBag.map`."""
    return numbers.squeeze(-3)
