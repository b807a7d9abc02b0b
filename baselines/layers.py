"""Layers that several models share, for bags one after another without padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.kernels.bags import pool_bags, softmax_bags
from baselines.kernels.dropout import AlphaDropout, Dropout

__all__ = ["AlphaDropout", "Dropout", "GatedAttention", "relu_layers"]


def relu_layers(dropout: float, *widths: int) -> Iterator[nn.Module]:
    """Linear layers between these widths, each with ReLU and dropout behind it."""
    for before, after in pairwise(widths):
        yield from (nn.Linear(before, after), nn.ReLU(), Dropout(dropout))


class GatedAttention(nn.Module):
    """Gated attention pooling over each bag (Ilse et al. 2018, eq. 9).

    score_n = w . (tanh(V h_n) * sigmoid(U h_n)), softmax over the patches of a bag, weighted sum of its rows.

    Parameters
    ----------
    width : columns of a row h_n.
    hidden : rows of V and U.
    dropout : rate behind tanh and sigmoid.
    """

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.value = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1)
        self.dropout = Dropout(dropout)

    def forward(self, rows: Tensor | Sequence[Tensor], ptr: Tensor) -> tuple[Tensor, Tensor]:
        """Pool the rows of each bag.

        Parameters
        ----------
        rows : (patches, width), or tensors whose columns would stand side by side, so that nobody need join them.
        ptr : (bags + 1,) offsets.

        Returns
        -------
        Pooled rows (bags, width), and weights (patches,) that sum to 1 over each bag.
        """
        parts = (rows,) if isinstance(rows, Tensor) else tuple(rows)
        weight = torch.cat([self.value.weight, self.gate.weight])  # one product, which reads the rows once
        bias = torch.cat([self.value.bias, self.gate.bias])
        first, *others = zip(parts, weight.split([part.shape[1] for part in parts], dim=1), strict=True)
        hidden = F.linear(*first, bias)
        for part, own in others:
            hidden = hidden + F.linear(part, own)
        value, gate = hidden.chunk(2, dim=-1)
        value, gate = self.dropout(torch.tanh(value)), self.dropout(torch.sigmoid(gate))
        scores = self.score(value * gate).squeeze(-1)
        weights = softmax_bags(scores, ptr)
        return torch.cat([pool_bags(weights, part, ptr) for part in parts], dim=-1), weights
