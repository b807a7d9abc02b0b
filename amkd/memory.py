"""What a frozen teacher said of each training patient: asked once, remembered for every epoch of the student."""

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

BUDGET = 512 << 20  # bytes; who comes after it is full is asked anew in every epoch

Answer = tuple[Tensor, Tensor | None]  # of one patient: logits (1, outputs), guided (patches, width) or none


class Memory:
    """A teacher that does not ask itself twice.

    Remembered are patients with all their patches; a bag that is sampled down is another one in every epoch. What is
    remembered comes from batches that no epoch decides, so that a run which goes on after a kill remembers the same.

    Parameters
    ----------
    teach : batch -> the teacher's prediction, without gradient.
    """

    def __init__(self, teach: Callable[[Batch], Prediction]) -> None:
        self._teach, self._answers = teach, dict[int, Answer]()

    @contextmanager
    def filled(self, batches: Iterable[Batch]) -> Iterator[None]:
        """Ask of each whole patient until the budget is spent, and forget it all at the end; on a CPU alone."""
        left = BUDGET
        try:
            for batch in batches:
                if left <= 0 or all_at_once(batch.time):  # an accelerator answers sooner than it would look up
                    break
                rows = [row for row, number in enumerate(batch.whole) if number is not None]
                answers = self._ask(take_patients(batch, rows)) if rows else []
                self._answers |= {batch.whole[row]: answer for row, answer in zip(rows, answers, strict=True)}
                left -= sum(part.nbytes for answer in answers for part in answer if part is not None)
            yield
        finally:
            self._answers = {}

    def __call__(self, batch: Batch) -> Prediction:
        """As `teach` would say it: logits (B, outputs), and `guided` (patches, width) where the teacher has it."""
        if not self._answers:
            return self._teach(batch)
        unknown = [row for row, number in enumerate(batch.whole) if number not in self._answers]
        asked = dict(zip(unknown, self._ask(take_patients(batch, unknown)) if unknown else (), strict=True))
        answers = [asked[row] if row in asked else self._answers[n] for row, n in enumerate(batch.whole)]
        guided = [rows for _, rows in answers if rows is not None]
        aux = {"guided": torch.cat(guided)} if guided else {}
        return Prediction(torch.cat([logits for logits, _ in answers]), aux=aux)

    def _ask(self, batch: Batch) -> list[Answer]:
        said = self._teach(batch)
        guided = said.aux.get("guided")
        rows = [None] * len(said.logits) if guided is None else [own.clone() for own in guided.split(list(batch.sizes))]
        return list(zip(said.logits.split(1), rows, strict=True))
