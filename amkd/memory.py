"""Predictions of a frozen teacher for the training patients: made once, kept for every epoch of the student."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch_geometric.data import Batch

from baselines.kernels.ragged import all_at_once
from survbench.batch import take_patients
from survbench.model import Prediction

__all__ = ["Memory"]

BUDGET = 512 << 20  # bytes; patients beyond it are predicted anew in every epoch

Kept = tuple[Tensor, Tensor | None]  # of one patient: logits (1, outputs), guided (patches, width) or none


class Memory:
    """A teacher that predicts each whole patient once.

    Only patients with all their patches are kept; a bag that is sampled down is another one in every epoch. What is
    kept comes from batches that no epoch decides, so that a run which goes on after a kill keeps the same.

    Parameters
    ----------
    teach : batch -> the teacher's prediction, without gradient.
    """

    def __init__(self, teach: Callable[[Batch], Prediction]) -> None:
        self._teach, self._kept = teach, dict[int, Kept]()

    @contextmanager
    def filled(self, batches: Iterable[Batch]) -> Iterator[None]:
        """Predict each whole patient until the budget is spent, and forget everything at the end; on a CPU alone."""
        left = BUDGET
        try:
            for batch in batches:
                if left <= 0 or all_at_once(batch.time):  # an accelerator predicts sooner than it would look up
                    break
                rows = [row for row, patient in enumerate(batch.whole) if patient is not None]
                predicted = self._predict(batch, rows)
                self._kept |= {batch.whole[row]: kept for row, kept in predicted.items()}
                left -= sum(part.nbytes for kept in predicted.values() for part in kept if part is not None)
            yield
        finally:
            self._kept = {}

    def __call__(self, batch: Batch) -> Prediction:
        """As `teach` predicts: logits (B, outputs), and `guided` (patches, width) where the teacher has it."""
        if not self._kept:
            return self._teach(batch)
        missing = self._predict(batch, [row for row, patient in enumerate(batch.whole) if patient not in self._kept])
        each = [missing[row] if row in missing else self._kept[patient] for row, patient in enumerate(batch.whole)]
        guided = [rows for _, rows in each if rows is not None]
        aux = {"guided": torch.cat(guided)} if guided else {}
        return Prediction(torch.cat([logits for logits, _ in each]), aux=aux)

    def _predict(self, batch: Batch, rows: list[int]) -> dict[int, Kept]:
        """Of the patients at `rows`, by row."""
        if not rows:
            return {}
        patients = take_patients(batch, rows)
        prediction = self._teach(patients)
        guided = prediction.aux.get("guided")
        parts = [None] * len(rows) if guided is None else [own.clone() for own in guided.split(list(patients.sizes))]
        return dict(zip(rows, zip(prediction.logits.split(1), parts, strict=True), strict=True))
