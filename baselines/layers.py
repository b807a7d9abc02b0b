"""Layers that several models share, written for ragged batches: bags one after another, no padding.

What is done over bags is in bags.py, what gene sets become in pathways.py, and models are in their own files.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.bags import pool_bags, softmax_bags

__all__ = ["AlphaDropout", "Dropout", "GatedAttention"]


class Dropout(nn.Dropout):
    """Dropout whose random numbers are cheap on a CPU, where torch's take a fifth of a training step.

    Sixteen random bits decide on an element, four elements share one draw, so the rate is met to 1 in 130,000.
    """

    def forward(self, rows: Tensor) -> Tensor:
        """Any shape."""
        kept = _kept(rows, self.p) if self.training else None
        return super().forward(rows) if kept is None else rows * kept.to(rows.dtype).mul_(1 / (1 - self.p))


class AlphaDropout(nn.AlphaDropout):
    """The same for alpha dropout (Klambauer et al. 2017): what is dropped takes SELU's lowest value, mean and variance
    stay.
    """

    def forward(self, rows: Tensor) -> Tensor:
        """Any shape."""
        kept = _kept(rows, self.p) if self.training else None
        if kept is None:
            return super().forward(rows)
        lowest = -1.7580993408473766  # -(scale x alpha) of SELU
        scale = ((1 - self.p) * (1 + self.p * lowest**2)) ** -0.5
        return torch.where(kept, rows * scale, lowest * scale).sub_(self.p * lowest * scale)


def _kept(rows: Tensor, rate: float) -> Tensor | None:
    """Which elements dropout keeps; None where torch's own numbers will do."""
    cut = round(rate * 2**16)
    if cut in (0, 2**16) or rows.device.type != "cpu":
        return None
    draws = torch.empty(-(-rows.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    return draws.view(torch.int16)[: rows.numel()].view(rows.shape) >= cut - 2**15


class GatedAttention(nn.Module):
    """Gated attention pooling over each bag (Ilse et al. 2018, eq. 9).

    score_n = w . (tanh(V h_n) * sigmoid(U h_n)), softmax over the patches of a bag, weighted sum of its rows.
    """

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.value = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1)
        self.dropout = Dropout(dropout)

    def forward(self, rows: Tensor | Sequence[Tensor], ptr: Tensor) -> tuple[Tensor, Tensor]:
        """(patches, width), offsets -> pooled (bags, width), weights (patches,).

        rows : or tensors that would be one side by side, which need not be written out for that.
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
