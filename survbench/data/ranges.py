"""Where the rows of bags lie that follow one another, as numbers made on a device without waiting for it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

__all__ = ["on_device", "ranges", "starts"]


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def ranges(begin: tuple[int, ...], counts: tuple[int, ...], device: torch.device) -> Tensor:
    """Of every bag as many numbers as it counts, from where it begins, one bag after another: (sum of counts,)."""
    shift = tuple(number - start for number, start in zip(begin, starts(counts), strict=True))
    repeats, shifts = on_device((counts, shift), device)
    rows = sum(counts)
    return torch.arange(rows, device=device) + shifts.repeat_interleave(repeats, output_size=rows)


def starts(sizes: Sequence[int]) -> tuple[int, ...]:
    """Where each bag begins when bags of these sizes lie one after another."""
    return tuple(accumulate(sizes[:-1], initial=0))


def on_device(numbers: Sequence[Any], device: torch.device) -> Tensor:
    """A tensor of numbers that lie on the host, made without waiting for the device."""
    return torch.tensor(numbers).to(device, non_blocking=True)
