"""Dropout and alpha dropout whose random numbers are cheap on a CPU, where torch's take a fifth of a training step.

Sixteen random bits decide on an element and four elements share one random number, so the rate is met to 1 in 130,000.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["AlphaDropout", "Dropout"]

LOWEST = -1.7580993408473766  # -(scale x alpha) of SELU


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`; on a CPU with other random numbers."""

    def forward(self, rows: Tensor) -> Tensor:
        """Any shape."""
        kept = _kept(rows, self.p) if self.training else None
        return super().forward(rows) if kept is None else rows * kept.to(rows.dtype).mul_(1 / (1 - self.p))


class AlphaDropout(nn.AlphaDropout):
    """`torch.nn.AlphaDropout` (Klambauer et al. 2017); on a CPU with other random numbers.

    Dropped elements take SELU's lowest value, and mean and variance stay.
    """

    def forward(self, rows: Tensor) -> Tensor:
        """Any shape."""
        kept = _kept(rows, self.p) if self.training else None
        if kept is None:
            return super().forward(rows)
        scale = ((1 - self.p) * (1 + self.p * LOWEST**2)) ** -0.5
        return torch.where(kept, rows * scale, LOWEST * scale).sub_(self.p * LOWEST * scale)


def _kept(rows: Tensor, rate: float) -> Tensor | None:
    """Which elements dropout keeps; None where torch's own random numbers serve."""
    cut = round(rate * 2**16)
    if cut in (0, 2**16) or rows.device.type != "cpu":
        return None
    numbers = torch.empty(-(-rows.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    return numbers.view(torch.int16)[: rows.numel()].view(rows.shape) >= cut - 2**15
