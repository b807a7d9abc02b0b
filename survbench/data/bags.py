"""The patches of a batch, read from the memory map or gathered in the memory of an accelerator.

A step on a large GPU takes milliseconds; reading its 32 slides from the memory map and copying them takes hundreds. So
a cohort is copied there once where it fits, and batches are gathered and bags sampled down on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from survbench.batch import on_device, ranges, starts
from survbench.console import note
from survbench.data.store import BagStore

__all__ = ["Bags", "PinnedBags", "ResidentBags", "bags_for", "copied", "gather"]

SHARE = 0.5  # of the device's free memory that features may take; models and other jobs need the rest
ROWS_AT_ONCE = 2**16  # while copying
GIB = 1 << 30


def gather(
    bags: Bags, patients: Sequence[str], most: int | None, generator: np.random.Generator | None
) -> dict[str, Any]:
    """The slides' part of a batch: `x`, `pos`, `slide`, `ptr`, `batch` and `sizes`.

    From the memory map it is one copy into one tensor, patient by patient.

    Parameters
    ----------
    bags : of the cohort.
    patients : of the batch, in order.
    most : larger bags are sampled down to so many patches, without replacement and in stored order; needs `generator`.
    generator : of the sampling.
    """
    if isinstance(bags, ResidentBags):
        return bags.gather(patients, most, generator)
    store, dtype = (bags.store, bags.dtype) if isinstance(bags, PinnedBags) else (bags, torch.float32)
    spans = [store.span(patient) for patient in patients]
    picks: list[Any] = [slice(start, stop) for start, stop in spans]
    sizes = [stop - start for start, stop in spans]
    if most is not None:
        for i, (start, _) in enumerate(spans):
            if sizes[i] > most:
                if generator is None:
                    raise ValueError("sampling patches needs a generator")
                picks[i] = start + np.sort(generator.choice(sizes[i], most, replace=False))
                sizes[i] = most
    ptr = np.concatenate([[0], np.cumsum(sizes)])
    pinned = isinstance(bags, PinnedBags) and torch.cuda.is_available()
    x = torch.empty((int(ptr[-1]), store.dim), dtype=dtype, pin_memory=pinned)
    pos = np.empty((ptr[-1], 2), np.float32)
    slide = np.empty(ptr[-1], np.int64)
    for pick, start, stop in zip(picks, ptr[:-1], ptr[1:], strict=True):
        # torch widens numbers at four times numpy's speed, and refuses memory that is read only
        x[start:stop] = torch.from_numpy(np.require(store.features[pick], requirements="W"))
        pos[start:stop] = store.coords[pick]
        slide[start:stop] = store.slide_of(pick)
    return {
        "x": x,
        "pos": torch.from_numpy(pos),
        "slide": torch.from_numpy(slide),
        "ptr": torch.from_numpy(ptr),
        "batch": torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)),
        "sizes": tuple(int(s) for s in sizes),  # on the host, so that splitting by patient never waits for a device
    }


@dataclass(frozen=True)
class PinnedBags:
    """Bags for a device without enough memory for them: read ahead, and copied by the device itself.

    Attributes
    ----------
    store : to read from.
    dtype : in which patches are multiplied there.
    """

    store: BagStore
    dtype: torch.dtype

    def size(self, patient: str) -> int:
        """Patches in a patient's bag."""
        return self.store.size(patient)


@dataclass(frozen=True)
class ResidentBags:
    """Bags in the memory of a device.

    Attributes
    ----------
    store : that they were copied from.
    features : (patches, width) in the precision in which they are multiplied.
    coords : (patches, 2) float32.
    stops : (slides,) row after the last one of each slide.
    """

    store: BagStore
    features: Tensor
    coords: Tensor
    stops: Tensor

    def size(self, patient: str) -> int:
        """Patches in a patient's bag."""
        return self.store.size(patient)

    def gather(
        self, patients: Sequence[str], most: int | None, generator: np.random.Generator | None
    ) -> dict[str, Any]:
        """See the function `gather`; nothing here waits for the device."""
        spans = [self.store.span(patient) for patient in patients]
        whole = tuple(stop - start for start, stop in spans)
        sizes = tuple(size if most is None else min(size, most) for size in whole)
        device = self.features.device
        rows = ranges(tuple(start for start, _ in spans), whole, device)
        if sizes != whole:
            if generator is None:
                raise ValueError("sampling patches needs a generator")
            rows = rows[_sampled_rows(whole, sizes, int(generator.integers(2**62)), device)]
        return {
            "x": self.features.index_select(0, rows),
            "pos": self.coords.index_select(0, rows),
            "slide": torch.bucketize(rows, self.stops, right=True),
            "ptr": on_device((*starts(sizes), sum(sizes)), device),
            "batch": _owners(sizes, device),
            "sizes": sizes,
        }


def _sampled_rows(whole: tuple[int, ...], sizes: tuple[int, ...], seed: int, device: torch.device) -> Tensor:
    """Of each bag, `sizes` of its `whole` rows, without replacement and in stored order: (sum of sizes,).

    The rows of each bag are ordered by random numbers, and the first ones are kept.
    """
    generator = torch.Generator(device).manual_seed(seed)
    numbers = torch.rand(sum(whole), generator=generator, device=device, dtype=torch.float64)
    order = (_owners(whole, device) + numbers).argsort()
    return order[ranges(starts(whole), sizes, device)].sort().values


def _owners(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    """Of each row the number of its bag."""
    bags = torch.arange(len(sizes), device=device)
    return torch.repeat_interleave(bags, on_device(sizes, device), output_size=sum(sizes))


Bags = BagStore | PinnedBags | ResidentBags

_last: dict[tuple[BagStore, torch.device, torch.dtype], Bags] = {}  # of the last job: the next often has the same


def bags_for(bags: Bags, device: torch.device, dtype: torch.dtype) -> Bags:
    """The bags in the memory of an accelerator where they fit; else read from the memory map, batch by batch.

    Parameters
    ----------
    bags : of the cohort.
    device : where the model is.
    dtype : in which patches are multiplied there.
    """
    if device.type != "cuda" or isinstance(bags, PinnedBags | ResidentBags):
        return bags
    key = bags, device, dtype
    if key not in _last:
        _last.clear()
        torch.cuda.empty_cache()
        needed, free = bags.patches * (bags.dim * dtype.itemsize + 8), torch.cuda.mem_get_info(device)[0]
        fits = needed <= SHARE * free
        if not fits:
            note(f"{needed / GIB:.0f} GiB of features, {free / GIB:.0f} GiB free on {device}: read batch by batch")
        _last[key] = copied(bags, device, dtype) if fits else PinnedBags(bags, dtype)
    return _last[key]


def copied(bags: BagStore, device: torch.device, dtype: torch.dtype) -> ResidentBags:
    """All features of a cohort, on the device."""
    features = torch.empty((bags.patches, bags.dim), dtype=dtype, device=device)
    coords = torch.empty((bags.patches, 2), device=device)
    for start in range(0, bags.patches, ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        for target, source in ((features, bags.features), (coords, bags.coords)):
            target[rows].copy_(torch.from_numpy(np.require(source[rows], requirements="W")).to(device))
    stops = torch.tensor(bags.stops, device=device)
    return ResidentBags(bags, features, coords, stops)
