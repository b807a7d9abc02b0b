"""Small batches and splits for tests, built without any file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Batch

from survbench.batch import patient_batch
from survbench.data.batches import Split
from survbench.model import Inputs

PATHWAYS = {"A": (0, 1, 2), "B": (2, 3), "C": (4, 5, 6, 7), "D": (1,)}
FAMILIES = {"I": (0, 3, 5), "II": (1, 2), "III": (4, 6, 7)}
CLINICAL = ("age", "sex", "stage")
GENES = tuple(f"G{i}" for i in range(8))


def inputs(width: int = 16) -> Inputs:
    return Inputs(width, GENES, PATHWAYS, FAMILIES, CLINICAL)


@dataclass
class MemoryBags:
    """Stands in for a packed store, in memory."""

    bags: dict[str, np.ndarray]
    read: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.patients = list(self.bags)
        stops = np.cumsum([len(bag) for bag in self.bags.values()])
        self.spans = {p: (int(s - len(b)), int(s)) for (p, b), s in zip(self.bags.items(), stops, strict=True)}
        self.features = np.concatenate(list(self.bags.values()))
        self.coords = np.random.default_rng(0).integers(0, 6, (len(self.features), 2)).astype(np.float32)
        self.dim = self.features.shape[1]

    def span(self, patient: str) -> tuple[int, int]:
        self.read.append(patient)
        return self.spans[patient]

    @property
    def slides(self) -> list[str]:
        """Every bag is one slide, named as its patient."""
        return self.patients

    def slide_of(self, rows: slice | np.ndarray) -> np.ndarray:
        wanted = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
        return np.searchsorted([stop for _, stop in self.spans.values()], wanted, side="right")

    def size(self, patient: str) -> int:
        start, stop = self.spans[patient]
        return stop - start


def split(patients: int = 12, width: int = 16, seed: int = 0, prefix: str = "P", signal: float = 0.0) -> Split:
    """Patients with everything; `signal` plants their risk in the first feature, the first gene and the age."""
    rng = np.random.default_rng(seed)
    names = tuple(f"{prefix}{i:03d}" for i in range(patients))
    risk = rng.normal(size=patients)
    bags = {n: rng.normal(size=(int(rng.integers(1, 9)), width)).astype(np.float32) for n in names}
    for name, value in zip(names, risk, strict=True):
        bags[name][:, 0] += signal * value
    expression = rng.normal(size=(patients, len(GENES))).astype(np.float32)
    expression[:, 0] += signal * risk
    clinical = np.stack([60 + 10 * rng.normal(size=patients), rng.random(patients) < 0.5, rng.integers(1, 5, patients)])
    clinical[0] += 10 * signal * risk
    clinical[2, ::7] = np.nan
    time = np.exp(-risk + 0.3 * rng.normal(size=patients)) * 20
    event = rng.random(patients) < 0.7
    event[:2] = True, False
    bag_store: Any = MemoryBags(bags)
    return Split(
        patients=names,
        time=time,
        event=event,
        expression=expression,
        bags=bag_store,
        clinical=clinical.T.astype(np.float32),
    )


def batch(
    sizes: Sequence[int] = (3, 1, 5), width: int = 16, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Batch:
    """A batch with everything granted."""
    generator = torch.Generator().manual_seed(seed)
    patients, patches = len(sizes), sum(sizes)
    content = {
        "x": torch.randn(patches, width, generator=generator, dtype=dtype),
        "pos": torch.randint(0, 6, (patches, 2), generator=torch.Generator().manual_seed(seed)).to(dtype),
        "ptr": torch.tensor([0, *np.cumsum(sizes)]),
        "batch": torch.repeat_interleave(torch.arange(patients), torch.tensor(sizes)),
        "slide": torch.repeat_interleave(torch.arange(patients), torch.tensor(sizes)),
        "sizes": tuple(sizes),
        "expression": torch.randn(patients, len(GENES), generator=generator, dtype=dtype),
        "clinical": torch.randn(patients, len(CLINICAL), generator=generator, dtype=dtype),
        "time": torch.rand(patients, generator=generator, dtype=dtype) * 30 + 1,
        "event": torch.rand(patients, generator=generator) < 0.6,
    }
    return patient_batch(content, patients)
