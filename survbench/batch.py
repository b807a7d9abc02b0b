"""Batches as models receive them: patients one after another with the granted modalities, and parts of batches.

How a batch is made from a cohort is data/batches.py's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from survbench.cards import Modality
from survbench.errors import ModalityDenied

__all__ = ["on_device", "patches_of", "patient_batch", "ranges", "starts", "take_patients"]

_GRANTED_BY = {
    **dict.fromkeys(("x", "pos", "ptr", "batch", "sizes", "slide"), Modality.SLIDES),
    "expression": Modality.EXPRESSION,
    "clinical": Modality.CLINICAL,
}


def _granted(key: str) -> property:
    """Torch-geometric returns None for some missing fields, which a model could mistake for an empty modality."""
    return property(lambda self: self._store[key] if key in self._store else self.__getattr__(key))


class PatientData(Data):
    """Storage of a batch whose errors name the modality that was not granted."""

    x, pos, batch, time = (_granted(key) for key in ("x", "pos", "batch", "time"))

    def __getattr__(self, key: str) -> Any:
        try:
            return super().__getattr__(key)
        except AttributeError:
            if key in _GRANTED_BY:
                raise ModalityDenied(
                    f"the model reads `{key}`, but this batch was not granted {_GRANTED_BY[key]}",
                    "declare it in the card's train_inputs or inference_inputs",
                ) from None
            if key in ("time", "event"):
                raise ModalityDenied(f"the model reads `{key}`, but predictions are made without labels") from None
            raise


def patient_batch(content: Mapping[str, Any], patients: int) -> Batch:
    """A batch of so many patients with this content and no more.

    Reading anything else raises `ModalityDenied`.

    Parameters
    ----------
    content : tensors and tuples by the names that `SurvivalModel` lists.
    patients : number of them.
    """
    batch = Batch(_base_cls=PatientData, **content)
    batch._num_graphs = patients
    return batch


def take_patients(batch: Batch, rows: Sequence[int]) -> Batch:
    """Some patients of a batch, in order, with everything that the batch carries.

    Parameters
    ----------
    batch : of any patients.
    rows : positions of patients in it.

    Returns
    -------
    A batch of len(rows) patients. `batch.x[patches_of(batch, rows)]` are its patches.
    """
    chosen: dict[str, Any] = {}
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
    return patient_batch(chosen, len(rows))


def patches_of(batch: Batch, rows: Sequence[int]) -> Tensor:
    """Positions in the batch of the patches of the patients at `rows`, patient after patient."""
    begin = starts(batch.sizes)
    return ranges(tuple(begin[row] for row in rows), tuple(batch.sizes[row] for row in rows), batch.x.device)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def ranges(begin: tuple[int, ...], counts: tuple[int, ...], device: torch.device) -> Tensor:
    """Consecutive numbers for every bag, one bag after another.

    Parameters
    ----------
    begin : first number of each bag.
    counts : numbers of each bag.
    device : where the result is needed.

    Returns
    -------
    (sum of counts,)
    """
    shift = tuple(number - start for number, start in zip(begin, starts(counts), strict=True))
    repeats, shifts = on_device((counts, shift), device)
    rows = sum(counts)
    return torch.arange(rows, device=device) + shifts.repeat_interleave(repeats, output_size=rows)


def starts(sizes: Sequence[int]) -> tuple[int, ...]:
    """Where each bag begins when bags of these sizes stand one after another."""
    return tuple(accumulate(sizes[:-1], initial=0))


def on_device(numbers: Sequence[Any], device: torch.device) -> Tensor:
    """A tensor of numbers from the host, made without waiting for the device."""
    return torch.tensor(numbers).to(device, non_blocking=True)
