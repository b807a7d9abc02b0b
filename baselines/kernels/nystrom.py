"""Nystrom attention (Xiong et al., AAAI 2021, arXiv 2102.03902) as TransMIL uses it: padding and all.

The published layer puts zero rows in front until the length is a multiple of the number of landmarks, and lets them
take part in landmarks and softmaxes. That is kept, because published weights and figures come from it. Bag by bag on a
CPU, elsewhere in a number of computations that does not grow with the bags, with the same results.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.kernels.bags import HALF, full_precision
from baselines.kernels.convolutions import as_matrices, convolve_rows
from baselines.kernels.dropout import Dropout
from baselines.kernels.ragged import all_at_once, gather_rows, line_places, scatter_rows
from survbench.batch import on_device, ranges, starts

__all__ = ["NystromAttention"]

SIZE_STEP, ROWS_TOGETHER = 8, 4096  # of small bags that are computed together where long ones are computed alone
MOST = 2**29  # numbers in one matrix of all rows and landmarks, of bags that are computed together
EVEN = 4  # rows and columns of small matrices; with one less or one more a product takes a quarter to a third longer


class _Result(Enum):
    """What of a bag's rows is needed. Behind the first softmax all is linear, and only what is needed is computed."""

    ROWS = auto()
    MEAN = auto()
    FIRST = auto()


class NystromAttention(nn.Module):
    """Self-attention within each bag, (rows, width) -> the same shape, linear in the rows.

    With landmarks Q~ and K~, the means of groups of neighbouring queries and keys, and + the pseudo-inverse:
    softmax(Q K~^T) softmax(Q~ K~^T)^+ softmax(Q~ K^T) V, to which the values' convolution along the rows is added.

    Parameters
    ----------
    width : of the rows.
    heads : of the attention.
    head_width : of queries, keys and values.
    landmarks : of each bag.
    iterations : of the pseudo-inverse.
    kernel : taps of the depthwise convolution of the values; 0 for none.
    dropout : rate behind the output.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        head_width: int,
        *,
        landmarks: int,
        iterations: int = 6,
        kernel: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.landmarks, self.iterations = heads, landmarks, iterations
        self.to_qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * head_width, width), Dropout(dropout))
        self.value_conv = (
            nn.Conv2d(heads, heads, (kernel, 1), padding=(kernel // 2, 0), groups=heads, bias=False) if kernel else None
        )

    def forward(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        """Rows of several bags, each attending within itself."""
        return self.to_out(self._mixed(rows, sizes, _Result.ROWS))

    def mean(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        """The mean of what `forward` gives the rows of each bag, (rows, width) -> (bags, width); no convolution."""
        assert self.value_conv is None
        return self.to_out(self._mixed(rows, sizes, _Result.MEAN))

    def first(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        """What `forward` gives the first row of each bag, (rows, width) -> (bags, width)."""
        return self.to_out(self._mixed(rows, sizes, _Result.FIRST))

    def _mixed(self, rows: Tensor, sizes: Sequence[int], result: _Result) -> Tensor:
        """What the heads see of those rows that `result` names, (those rows, heads x head width)."""
        qkv = self.to_qkv(rows).unflatten(-1, (3, self.heads, -1))
        return (self._together if all_at_once(rows) else self._bag_by_bag)(qkv, tuple(sizes), result)

    def _bag_by_bag(self, qkv: Tensor, sizes: tuple[int, ...], result: _Result) -> Tensor:
        """`_mixed` from queries, keys and values (rows, 3, heads, head width): long bags one after another."""
        bags = qkv.split(list(sizes))
        mixed = list(bags)
        for alike in _of_like_size(sizes, self.landmarks):
            rows_each = self._evened(max(sizes[bag] for bag in alike))
            padded = [F.pad(bags[bag], (0, 0) * 3 + (0, rows_each - sizes[bag])) for bag in alike]
            query, key, value = torch.stack(padded).permute(2, 0, 3, 1, 4)
            seen = self._attend(query, key, value, [sizes[bag] for bag in alike], result)
            for bag, own in zip(alike, seen, strict=True):
                mixed[bag] = own[: sizes[bag]]
        return torch.cat(mixed)

    def _evened(self, rows: int) -> int:
        """As many rows as make matrices of a size that is quickly multiplied, with the zero row of `_short` counted."""
        return rows if rows >= self.landmarks else min(EVEN * -(-(rows + 1) // EVEN), self.landmarks) - 1

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, sizes: Sequence[int], result: _Result) -> Tensor:
        """(bags, heads, rows, head width) each -> (bags, rows that `result` names, heads x head width).

        sizes : rows of each bag; what follows them are zeros.
        """
        counts = torch.tensor(sizes, device=query.device).view(-1, 1, 1, 1)
        alive = torch.arange(query.shape[2], device=query.device).view(1, 1, -1, 1) < counts
        with torch.autocast(value.device.type, enabled=False):  # the iterated inverse does not survive half precision
            query, key, wide = (full_precision(t) for t in (query, key, value))
            query = query * query.shape[-1] ** -0.5
            long = query.shape[2] >= self.landmarks
            rows = slice(1 if result is _Result.FIRST else None)
            attended = self._long(query, key, wide, rows) if long else self._short(query, key, wide, rows, alive)
            from_rows, mixed = attended
            if result is _Result.MEAN:
                from_rows = (from_rows * alive).sum(2, keepdim=True) / counts
            mixed = from_rows @ mixed
        if self.value_conv is not None:  # the zero rows in front are the convolution's own padding
            near = value[:, :, : 1 + self.value_conv.kernel_size[0] // 2] if result is _Result.FIRST else value
            mixed = mixed + self._convolved(near)[:, :, rows]
        return mixed.transpose(1, 2).flatten(2)

    def _convolved(self, value: Tensor) -> Tensor:
        """`value_conv` of (bags, heads, rows, head width)."""
        assert self.value_conv is not None
        rows, kernel = value.shape[2], self.value_conv.weight[..., 0].squeeze(1)
        return as_matrices(kernel, (rows,)) @ value if rows < kernel.shape[1] else self.value_conv(value)

    def _long(self, query: Tensor, key: Tensor, value: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """(bags, heads, rows, head width) each, of equal length; landmarks are means of groups of rows.

        Returns
        -------
        What each of the `rows` takes from the landmarks (bags, heads, rows, landmarks), what these have (.., landmarks,
        head width). The published order multiplies the square matrix into the former: the same product, and more work.
        """
        count, group = query.shape[2], math.ceil(query.shape[2] / self.landmarks)
        padded = [F.pad(t, (0, 0, group * self.landmarks - count, 0)) for t in (query, key, value)]
        near_query, near_key = (t.unflatten(2, (self.landmarks, group)).mean(3) for t in padded[:2])
        from_rows = (query[:, :, rows] @ near_key.mT).softmax(-1)
        between = (near_query @ near_key.mT).softmax(-1)
        to_rows = (near_query @ padded[1].mT).softmax(-1)
        return from_rows, self._inverse(between) @ (to_rows @ padded[2])

    def _short(self, query: Tensor, key: Tensor, value: Tensor, rows: slice, alive: Tensor) -> tuple[Tensor, Tensor]:
        """Fewer rows than landmarks: every row is its own landmark, and all zero rows in front are one and the same.

        That one row stands for as many as are missing, rows that are not alive stand for none. Every matrix here holds
        the mass that goes to all copies together, so that its products are those of the padded matrices.
        """
        real = alive.mT.to(query.dtype)  # (bags, 1, 1, rows)
        copies = torch.cat([self.landmarks - real.sum(-1, keepdim=True), real], dim=-1)
        query, key, value = (F.pad(t, (0, 0, 1, 0)) for t in (query, key, value))
        shares = (query @ key.mT + copies.log()).softmax(-1) * (copies.mT > 0)
        inverse = self._inverse(shares, copies)
        return shares[:, :, 1:][:, :, rows], inverse @ (shares @ value)

    def _together(self, qkv: Tensor, sizes: tuple[int, ...], result: _Result) -> Tensor:
        """The same as `_bag_by_bag`, in a number of computations that does not grow with the bags."""
        runs = list(self.runs(sizes))
        with torch.autocast(qkv.device.type, enabled=False):
            parts = zip(qkv.split([sum(run) for run in runs]), runs, strict=True)
            mixed = torch.cat([self._grouped(part, run, result) for part, run in parts])
        return mixed if self.value_conv is None else mixed + self._near(qkv[:, 2], sizes, result)

    def runs(self, sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """Sizes of neighbouring bags whose matrices, padded to the longest bag, have at most `MOST` numbers."""
        run: list[int] = []
        for size in sizes:
            longest = math.ceil(max([*run, size]) / self.landmarks)
            if run and (len(run) + 1) * self.heads * self.landmarks**2 * longest > MOST:
                yield tuple(run)
                run = []
            run.append(size)
        yield tuple(run)

    def _grouped(self, qkv: Tensor, sizes: tuple[int, ...], result: _Result) -> Tensor:
        """`_mixed` without the convolution, of bags whose groups of rows are all padded to the longest of them.

        A slot of the padding that the published form has too is a zero row. The others get no weight as keys; what they
        give as queries is left out.
        """
        groups = _groups(sizes, self.landmarks, qkv.device)
        padded = scatter_rows(qkv, groups.places, groups.present.numel()).unflatten(0, (len(sizes), -1))
        query, key, value = padded.permute(2, 0, 3, 1, 4)  # (bags, heads, slots, width)
        near_query, near_key = (groups.means(t) for t in (query, key))
        between = (near_query * query.shape[-1] ** -0.5 @ near_key.mT).softmax(-1)
        of_rows = F.scaled_dot_product_attention(near_query.to(key.dtype), key, value, groups.present)
        seen = self._inverse(between) @ of_rows.to(between.dtype)
        if result is _Result.MEAN:
            from_rows = (full_precision(query) * query.shape[-1] ** -0.5 @ near_key.mT).softmax(-1)
            mixed = groups.alive.to(from_rows.dtype) @ from_rows / groups.counts @ seen
        else:
            queries = query.take_along_dim(groups.first, 2) if result is _Result.FIRST else query
            mixed = F.scaled_dot_product_attention(queries, near_key.to(key.dtype), seen.to(key.dtype))
        mixed = mixed.transpose(1, 2).flatten(2).flatten(0, 1)
        return gather_rows(mixed, groups.places) if result is _Result.ROWS else mixed

    def _near(self, value: Tensor, sizes: tuple[int, ...], result: _Result) -> Tensor:
        """`value_conv` of (rows, heads, head width) at rows that `result` names: (those rows, heads x head width).

        Bags stand in one long row, with as many zeros between them as the kernel reaches.
        """
        assert self.value_conv is not None
        kernel = self.value_conv.weight[..., 0].squeeze(1)
        reach = kernel.shape[1] // 2
        if result is _Result.FIRST:  # which sees no further
            seen = tuple(min(size, 1 + reach) for size in sizes)
            value, sizes = gather_rows(value, ranges(starts(sizes), seen, value.device)), seen
        begin = starts([size + reach for size in sizes])
        places = ranges(begin, sizes, value.device)
        convolved = convolve_rows(scatter_rows(value, places, begin[-1] + sizes[-1]), kernel).flatten(1)
        ones = (1,) * len(sizes)
        return gather_rows(convolved, ranges(begin, ones, value.device) if result is _Result.FIRST else places)

    def _inverse(self, matrix: Tensor, copies: Tensor | None = None) -> Tensor:
        """Moore-Penrose inverse by the iteration of Razavi et al., started as published: one scale for all heads.

        copies : (bags, 1, 1, rows), how many equal rows and columns each of `matrix` stands for; by default one.
        """
        single = matrix if copies is None else matrix / copies.clamp(min=1)
        weighted = single if copies is None else single * copies.mT
        start = single.mT if copies is None else single.mT * copies
        scale = matrix.sum(-1).amax((1, 2)) * weighted.sum(-2).amax((1, 2))
        inverse, flat = (start / scale.view(-1, 1, 1, 1)).flatten(0, 1), matrix.flatten(0, 1)
        identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        seven, thirteen, fifteen = 7 / 4 * identity, 13 / 4 * identity, -15 / 4 * identity
        for _ in range(self.iterations):  # Z <- Z (13 - P (15 - P (7 - P))) / 4, P = M Z
            product = flat @ inverse
            inner = torch.baddbmm(fifteen, product, torch.sub(seven, product, alpha=0.25))
            inverse = inverse @ torch.baddbmm(thirteen, product, inner)
        return inverse.view_as(matrix)


def _of_like_size(sizes: Sequence[int], landmarks: int) -> Iterator[list[int]]:
    """Numbers of the bags that are computed together: small ones that need few rows of padding, large ones alone."""
    order = sorted(range(len(sizes)), key=lambda bag: sizes[bag])
    for steps, alike in groupby(order, key=lambda bag: -(-sizes[bag] // SIZE_STEP)):
        bags = list(alike)
        size = steps * SIZE_STEP
        several = max(1, ROWS_TOGETHER // size) if size < landmarks else 1
        yield from (bags[i : i + several] for i in range(0, len(bags), several))


@dataclass(frozen=True, kw_only=True)
class _Groups:
    """Where rows stand when each bag has as many groups as there are landmarks, and all groups are of equal length.

    Attributes
    ----------
    landmarks : groups of each bag; they have `slots` = landmarks x longest group places.
    places : (rows,) place of each row among bags x slots.
    first : (bags, 1, 1, 1) place of the first row among the slots.
    counts : (bags, 1, 1, 1) rows.
    members : (bags, 1, 1, 1) rows of each group, the published zero rows among them.
    alive : (bags, 1, 1, slots), 1 for rows and else 0.
    present : (bags, 1, 1, slots), True for rows and the published zero rows.
    """

    landmarks: int
    places: Tensor
    first: Tensor
    counts: Tensor
    members: Tensor
    alive: Tensor
    present: Tensor

    def means(self, slots: Tensor) -> Tensor:
        """Of each group: (bags, heads, slots, width) -> (bags, heads, landmarks, width)."""
        wide = torch.float32 if slots.dtype in HALF else slots.dtype
        return slots.unflatten(2, (self.landmarks, -1)).sum(3, dtype=wide) / self.members


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # kept for training, even if validation needs it first
def _groups(sizes: tuple[int, ...], landmarks: int, device: torch.device) -> _Groups:
    members = tuple(math.ceil(size / landmarks) for size in sizes)
    before = tuple(own * landmarks - size for own, size in zip(members, sizes, strict=True))
    longest, bags = max(members), len(sizes)
    places = line_places(sizes, before, members, landmarks, device)
    counts, own, missing = on_device((sizes, members, before), device).view(3, bags, 1, 1, 1)
    first = missing // own * longest + missing % own
    alive = scatter_rows(torch.ones(len(places), device=device), places, bags * landmarks * longest).view(
        bags, 1, 1, -1
    )
    present = (torch.arange(longest, device=device) < own).expand(-1, -1, landmarks, -1)
    return _Groups(
        landmarks=landmarks,
        places=places,
        first=first,
        counts=counts,
        members=own,
        alive=alive,
        present=present.flatten(2).unsqueeze(1),
    )
