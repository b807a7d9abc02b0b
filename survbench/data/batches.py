"""Patients as batches: a split of a fold, and the ragged torch-geometric batches drawn from it.

A split knows its own patients only; a batch carries the granted modalities only (protocol rules 1 and 8).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
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
from survbench.data.bags import Bags, PinnedBags, ResidentBags, at_hand, gathered
from survbench.errors import BadFolds

__all__ = ["Split", "device_batch"]

PATCHES, MANY_PATCHES = 65_536, 262_144  # that are predicted at once; many where few launches count


@dataclass(frozen=True)
class Split:
    """The patients of one split with their data.

    Attributes
    ----------
    expression : (patients, genes) float32, standardized; None where the cohort has none.
    clinical : (patients, columns) float32, NaN = unknown; None where the cohort has none.
    bags : of the cohort, packed or on the device, read only at this split's patients; None where it has no slides.
    time : (patients,) months. event : (patients,), True = died.
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

        def of(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[rows]

        return replace(
            self,
            patients=tuple(self.patients[row] for row in rows),
            time=self.time[rows],
            event=self.event[rows],
            expression=of(self.expression),
            clinical=of(self.clinical),
            part=of(self.part),
        )

    def rows(self, patients: Sequence[str]) -> np.ndarray:
        """Positions of patients; asking for somebody of another split is refused."""
        position = {patient: row for row, patient in enumerate(self.patients)}
        strangers = [p for p in patients if p not in position]
        if strangers:
            raise BadFolds(f"patient {strangers[0]} is not in this split")
        return np.array([position[p] for p in patients])

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

        With labels it also carries `whole`, of each patient the row in this split, or None where patches are missing.

        Parameters
        ----------
        max_patches : larger bags are sampled down without replacement, in stored order; needs `generator`.
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
            content |= gathered(self.bags, [self.patients[row] for row in rows], max_patches, generator)
        return patient_batch(content, len(rows))

    def on(self, device: torch.device, dtype: torch.dtype) -> Split:
        """The same patients; where the device has memory of its own, their patches are there, or on their way in time.

        Parameters
        ----------
        dtype : in which patches are multiplied there.
        """
        return self if self.bags is None else replace(self, bags=at_hand(self.bags, device, dtype))

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
        """All patients in batches: shuffled when a generator is given, else in order.

        Shuffled batches have equal sizes up to one, so that no Cox risk set is left with a single patient.
        """
        order = np.arange(len(self)) if generator is None else generator.permutation(len(self))
        parts = np.array_split(order, max(1, -(-len(self) // size)))
        make = partial(self.batch, granted=granted, labels=labels, max_patches=max_patches, generator=generator)
        return self._made(make, parts)

    def in_order(self, granted: Collection[Modality], patch_budget: int | None = None) -> Iterator[Batch]:
        """All patients in order with all patches and no labels, as many at a time as the budget of patches allows."""
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
        return self._made(partial(self.batch, granted=granted, labels=False), map(np.array, parts))

    def _made(self, make: Callable[[np.ndarray], Batch], parts: Iterable[np.ndarray]) -> Iterator[Batch]:
        """One batch after another; each while the one before it is used, where an accelerator would wait for it."""
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
    """The batch on the device where the model is; overlaps the copy with work where the device can."""
    if device.type == "cpu":
        return batch
    return patient_batch({key: _moved(value, device) for key, value in batch._store.items()}, batch.num_graphs)


def _moved(value: Any, device: torch.device) -> Any:
    if not isinstance(value, Tensor) or value.device.type == device.type:
        return value
    return value.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else value.to(device)
