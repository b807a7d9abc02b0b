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
from torch_geometric.data import Batch, Data

from survbench.cards import Modality
from survbench.data.bags import Bags, PinnedBags, ResidentBags, at_hand, gathered
from survbench.data.ranges import on_device, ranges, starts
from survbench.errors import BadFolds, ModalityDenied

__all__ = ["PatientData", "Split", "device_batch", "patches_of", "take_patients"]

PATCHES, MANY_PATCHES = 65_536, 262_144  # that are predicted at once; many where few launches count

_GRANTED_BY = {
    "x": Modality.SLIDES,
    "pos": Modality.SLIDES,
    "ptr": Modality.SLIDES,
    "batch": Modality.SLIDES,
    "sizes": Modality.SLIDES,
    "slide": Modality.SLIDES,
    "expression": Modality.EXPRESSION,
    "clinical": Modality.CLINICAL,
}


def _granted(key: str) -> property:
    """Torch-geometric answers None for some missing fields, which a model could mistake for an empty modality."""
    return property(lambda self: self._store[key] if key in self._store else self.__getattr__(key))


class PatientData(Data):
    """Storage of a batch that says in words what was not granted."""

    x, pos, batch, time = (_granted(key) for key in ("x", "pos", "batch", "time"))

    def __getattr__(self, key: str) -> Any:
        try:
            return super().__getattr__(key)
        except AttributeError:
            if key in _GRANTED_BY:
                raise ModalityDenied(
                    f"the model asked for `{key}`, but this batch was not granted {_GRANTED_BY[key]}",
                    "declare it in the card's train_inputs or inference_inputs",
                ) from None
            if key in ("time", "event"):
                raise ModalityDenied(f"the model asked for `{key}`, but predictions are made without labels") from None
            raise


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
        content: dict[str, Any] = {"num_graphs": len(rows)}
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
        return _wrap(content)

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
    content = {key: _moved(value, device) for key, value in batch._store.items()}
    return _wrap({**content, "num_graphs": batch.num_graphs})


def _moved(value: Any, device: torch.device) -> Any:
    if not isinstance(value, Tensor) or value.device.type == device.type:
        return value
    return value.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else value.to(device)


def take_patients(batch: Batch, rows: Sequence[int]) -> Batch:
    """The patients at `rows` of a batch, in that order, with everything that the batch carries.

    Returns
    -------
    A batch of len(rows) patients. `batch.x[patches_of(batch, rows)]` are its patches.
    """
    chosen: dict[str, Any] = {"num_graphs": len(rows)}
    for key, value in batch._store.items():
        if key in ("time", "event", "expression", "clinical"):
            chosen[key] = value[list(rows)]
        elif key in ("part", "whole"):
            chosen[key] = tuple(value[row] for row in rows)
    if "x" in batch._store:
        patches = patches_of(batch, rows)
        sizes = tuple(batch.sizes[row] for row in rows)
        counts = on_device(sizes, batch.x.device)
        chosen |= {key: batch._store[key][patches] for key in ("x", "pos", "slide") if key in batch._store}
        chosen["sizes"] = sizes
        chosen["ptr"] = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        bags = torch.arange(len(rows), device=batch.x.device)
        chosen["batch"] = torch.repeat_interleave(bags, counts, output_size=len(patches))
    return _wrap(chosen)


def patches_of(batch: Batch, rows: Sequence[int]) -> Tensor:
    """Positions in the batch of the patches of the patients at `rows`, patient after patient."""
    begin = starts(batch.sizes)
    return ranges(tuple(begin[row] for row in rows), tuple(batch.sizes[row] for row in rows), batch.x.device)


def _wrap(content: dict[str, Any]) -> Batch:
    batch = Batch(_base_cls=PatientData, **{k: v for k, v in content.items() if k != "num_graphs"})
    batch._num_graphs = content["num_graphs"]
    return batch
