"""Nystrom attention (Xiong et al., AAAI 2021, arXiv 2102.03902) as TransMIL uses it: padding and all.

The published layer puts zero rows in front until the length is a multiple of the number of landmarks, and lets them
take part in landmarks and softmaxes. That is kept, because published weights and figures come from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.layers import Dropout, full_precision

__all__ = ["NystromAttention"]


class NystromAttention(nn.Module):
    """Self-attention within each bag, (rows, width) -> the same shape, linear in the rows.

    Parameters
    ----------
    landmarks : groups of neighbouring rows whose means stand for them. iterations : of the pseudo-inverse.
    kernel : taps of the depthwise convolution of the values along the rows; 0 for none.
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
        """Rows of several bags, each attending within itself.

        Projections are one product for all bags; what follows is done bag by bag, because the scale of the
        pseudo-inverse would couple them.
        """
        return self.to_out(torch.cat([self._attend(*bag, averaged=False) for bag in self._bags(rows, sizes)]))

    def mean(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        """The mean of what `forward` gives the rows of each bag, (rows, width) -> (bags, width), without a convolution.

        Everything behind the first softmax is linear, so it is done once for the mean instead of for every row.
        """
        assert self.value_conv is None
        return self.to_out(torch.cat([self._attend(*bag, averaged=True) for bag in self._bags(rows, sizes)]))

    def _bags(self, rows: Tensor, sizes: Sequence[int]) -> Iterator[Tensor]:
        """Query, key and value of each bag, (3, heads, rows, head width)."""
        qkv = self.to_qkv(rows).unflatten(-1, (3, self.heads, -1))
        return (bag.permute(1, 2, 0, 3) for bag in qkv.split(list(sizes)))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, *, averaged: bool) -> Tensor:
        """(heads, rows, head width) each -> (rows, heads x head width), or one row, the mean of these."""
        attend = self._short if query.shape[1] < self.landmarks else self._long
        with torch.autocast(value.device.type, enabled=False):  # the iterated inverse does not survive half precision
            query, key, wide = (full_precision(t) for t in (query, key, value))
            from_rows, mixed = attend(query * query.shape[-1] ** -0.5, key, wide)
            mixed = (from_rows.mean(1, keepdim=True) if averaged else from_rows) @ mixed
        if self.value_conv is not None:  # the zero rows in front are the convolution's own padding
            mixed = mixed + self.value_conv(value.unsqueeze(0)).squeeze(0)
        return mixed.transpose(0, 1).flatten(1)

    def _long(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """(heads, rows, head width) each; landmarks are means of groups of rows.

        Returns
        -------
        What each row takes from the landmarks (heads, rows, landmarks), what these have (heads, landmarks, head width).
        The published order multiplies the square matrix into the former, which is the same product and more work.
        """
        count, group = query.shape[1], math.ceil(query.shape[1] / self.landmarks)
        padded = [F.pad(t, (0, 0, group * self.landmarks - count, 0)) for t in (query, key, value)]
        near_query, near_key = (t.unflatten(1, (self.landmarks, group)).mean(2) for t in padded[:2])
        from_rows = (query @ near_key.mT).softmax(-1)
        between = (near_query @ near_key.mT).softmax(-1)
        to_rows = (near_query @ padded[1].mT).softmax(-1)
        return from_rows, self._inverse(between) @ (to_rows @ padded[2])

    def _short(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Fewer rows than landmarks: every row is its own landmark, and all zero rows in front are one and the same.

        That one row stands for `absent` rows. Every matrix here holds the mass that goes to all copies together, so
        that its products are those of the padded matrices.
        """
        absent = self.landmarks - query.shape[1]
        query, key, value = (F.pad(t, (0, 0, 1, 0)) for t in (query, key, value))
        copies = torch.ones(query.shape[1], dtype=query.dtype, device=query.device)
        copies[0] = absent
        shares = (query @ key.mT + copies.log()).softmax(-1)
        inverse = self._inverse(shares, copies)
        return shares[:, 1:], inverse @ (shares @ value)

    def _inverse(self, matrix: Tensor, copies: Tensor | None = None) -> Tensor:
        """Moore-Penrose inverse by the iteration of Razavi et al., started as published: one scale for all heads.

        copies : how many equal rows and columns each row and column of `matrix` stands for; by default one.
        """
        single = matrix if copies is None else matrix / copies
        weighted = single if copies is None else single * copies.unsqueeze(1)
        start = single.mT if copies is None else single.mT * copies
        scale = matrix.sum(-1).amax() * weighted.sum(-2).amax()
        inverse, identity = start / scale, torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        for _ in range(self.iterations):
            product = matrix @ inverse
            inner = 15 * identity - product @ (7 * identity - product)
            inverse = inverse @ (13 * identity - product @ inner) / 4
        return inverse
