"""Bags of several sizes in one computation, for devices on which a launch costs more than some padding."""

from __future__ import annotations

from torch import Tensor

__all__ = ["together"]

BAG_BY_BAG = frozenset({"cpu"})  # types of devices


def together(rows: Tensor) -> bool:
    """Whether bags are better computed all at once."""
    return rows.device.type not in BAG_BY_BAG
