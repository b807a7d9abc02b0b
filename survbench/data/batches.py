"""Patients as batches: a split of a fold, and its ragged torch-geometric batches.

A split knows its own patients only; a batch carries the granted modalities only (protocol rules 1 and 8).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from survbench.batch import patient_batch
from survbench.cards import Modality
from survbench.data.bags import Bags, PinnedBags, ResidentBags, bags_for, gather
from survbench.errors import BadFolds

__all__ = ["Split", "device_batch"]

PATCHES, MANY_PATCHES = 65_536, 262_144  # that are predicted at once; many where few launches count


@dataclass(frozen=True, kw_only=True)
class Split:
    """The patients of one split with their data.

    Attributes
    ----------
    patients : their identifiers; rows of all arrays are in this order.
    time : (patients,) months.
    event : (patients,) True = died.
    expression : (patients, genes) float32, standardized; None where the cohort has none.
    bags : of the cohort, packed or on the device, read only at this split's patients; None where it has no slides.
    clinical : (patients, columns) float32, NaN = unknown; None where the cohort has none.
    part : (patients,) number of the part that each patient is in; None where the split is not divided.
    """

    patients: tuple[str, ...]
    time: np.ndarray
    event: np.ndarray
    expression: np.ndarray | None
    bags: Bags | None
    clinical: np.ndarray | None = None
    part: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.patients)

    def divided(self, parts: int) -> Split:
        """The same patients, each in one of `parts` parts that have equal shares of events; always the same ones.

        Raises
        ------
        BadFolds : fewer deaths or fewer censored patients than parts.
        """
        from sklearn.model_selection import StratifiedKFold

        fewest = min(int(self.event.sum()), int((~self.event).sum()))
        if fewest < parts:
            raise BadFolds(
                f"{int(self.event.sum())} deaths among {len(self)} training patients cannot be divided by {parts}",
                "cross-fit with fewer parts (--set crossfit=2)",
            )
        part = np.empty(len(self), np.int64)
        folds = StratifiedKFold(parts, shuffle=True, random_state=0).split(part, self.event)
        for number, (_, members) in enumerate(folds):
            part[members] = number
        return replace(self, part=part)

    def take(self, rows: np.ndarray) -> Split:
        """The split with the patients at `rows` alone."""
        arrays = {name: getattr(self, name) for name in ("time", "event", "expression", "clinical", "part")}
        chosen: dict[str, Any] = {name: None if of is None else of[rows] for name, of in arrays.items()}
        return replace(self, patients=tuple(self.patients[row] for row in rows), **chosen)

    def batch(
        self,
        rows: np.ndarray,
        granted: Collection[Modality],
        *,
        labels: bool,
        max_patches: int | None = None,
        generator: np.random.Generator | None = None,
    ) -> Batch:
        """Batch of the patients at `rows`, in that order.

        Parameters
        ----------
        rows : (B,) positions in this split.
        granted : modalities that the batch carries.
        labels : whether it carries time and event; then it also has `whole`, of each patient the row in this split, or
            None where its patches were sampled.
        max_patches : larger bags are sampled down without replacement, in stored order; needs `generator`.
        generator : of the sampling.
        """
        content: dict[str, Any] = {}
        if labels:
            content["time"] = torch.from_numpy(self.time[rows].astype(np.float32))
            content["event"] = torch.from_numpy(self.event[rows])
            content["whole"] = self._whole(rows, granted, max_patches)
            if self.part is not None:
                content["part"] = tuple(self.part[rows].tolist())
        if Modality.EXPRESSION in granted and self.expression is not None:
            content["expression"] = torch.from_numpy(self.expression[rows])
        if Modality.CLINICAL in granted and self.clinical is not None:
            content["clinical"] = torch.from_numpy(self.clinical[rows])
        if Modality.SLIDES in granted and self.bags is not None:
            content |= gather(self.bags, [self.patients[row] for row in rows], max_patches, generator)
        return patient_batch(content, len(rows))

    def on(self, device: torch.device, dtype: torch.dtype) -> Split:
        """The same patients, with their patches in the device's memory, or read ahead for it, where it has its own.

        Parameters
        ----------
        device : where the model is.
        dtype : in which patches are multiplied there.
        """
        return self if self.bags is None else replace(self, bags=bags_for(self.bags, device, dtype))

    def _whole(self, rows: np.ndarray, granted: Collection[Modality], most: int | None) -> tuple[int | None, ...]:
        bags = self.bags if Modality.SLIDES in granted else None
        cut = [bags is not None and most is not None and bags.size(self.patients[row]) > most for row in rows]
        return tuple(None if sampled else row for row, sampled in zip(rows.tolist(), cut, strict=True))

    def batches(
        self,
        size: int,
        granted: Collection[Modality],
        *,
        labels: bool,
        max_patches: int | None = None,
        generator: np.random.Generator | None = None,
    ) -> Iterator[Batch]:
        """All patients in batches of equal sizes up to one, so that no Cox risk set is left with a single patient.

        Parameters
        ----------
        size : patients in a batch, at most.
        granted : see `batch`.
        labels : see `batch`.
        max_patches : see `batch`.
        generator : shuffles the patients and samples patches; None keeps the order.
        """
        order = np.arange(len(self)) if generator is None else generator.permutation(len(self))
        parts = np.array_split(order, max(1, -(-len(self) // size)))
        make = partial(self.batch, granted=granted, labels=labels, max_patches=max_patches, generator=generator)
        return self._in_turn(make, parts)

    def in_order(self, granted: Collection[Modality], patch_budget: int | None = None) -> Iterator[Batch]:
        """All patients in order with all patches and no labels.

        Parameters
        ----------
        granted : see `batch`.
        patch_budget : most patches of a batch, unless one patient has more.
        """
        patch_budget = patch_budget or (MANY_PATCHES if isinstance(self.bags, ResidentBags) else PATCHES)
        bags = self.bags if Modality.SLIDES in granted else None
        parts: list[list[int]] = []
        patches = 0
        for row, patient in enumerate(self.patients):
            size = bags.size(patient) if bags is not None else 0
            if not parts or patches + size > patch_budget:
                parts.append([])
                patches = 0
            parts[-1].append(row)
            patches += size
        return self._in_turn(partial(self.batch, granted=granted, labels=False), map(np.array, parts))

    def _in_turn(self, make: Callable[[np.ndarray], Batch], parts: Iterable[np.ndarray]) -> Iterator[Batch]:
        """One batch after another; for pinned bags, each is made while the one before it is used."""
        if not isinstance(self.bags, PinnedBags):
            yield from map(make, parts)
            return
        with ThreadPoolExecutor(1) as pool:
            waiting = deque[Future[Batch]]()
            for rows in parts:
                waiting.append(pool.submit(make, rows))
                if len(waiting) > 1:
                    yield waiting.popleft().result()
            yield from (last.result() for last in waiting)


def device_batch(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device; the copy overlaps with computing where the device can."""
    if device.type == "cpu":
        return batch
    return patient_batch({key: _moved(value, device) for key, value in batch._store.items()}, batch.num_graphs)


def _moved(value: Any, device: torch.device) -> Any:
    if not isinstance(value, Tensor) or value.device.type == device.type:
        return value
    return value.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else value.to(device)
