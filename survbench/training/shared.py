"""Stages that several jobs have in common, trained once: a sweep over what the student does needs each teacher once.

What a stage learned is kept under a digest of everything that decides it. The folder may be deleted at any time; the
next job that needs a stage trains it again, to the same weights.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from survbench.console import note, warn
from survbench.files import digest, lock

__all__ = ["Learned", "SharedStages", "Shelf"]


@dataclass(frozen=True)
class Learned:
    """What a stage left behind: its best weights, its rows of the history, and the epoch that was kept."""

    weights: dict[str, Tensor]
    history: list[dict[str, Any]]
    selected: int


@dataclass(frozen=True)
class Shelf:
    """Place of one stage. `content` is what is already there."""

    file: Path
    content: Learned | None

    def put(self, learned: Learned) -> None:
        """Keep it, by one rename."""
        temporary = self.file.with_suffix(".tmp")
        about = {"history": json.dumps(learned.history), "selected": str(learned.selected)}
        save_file({name: value.contiguous() for name, value in learned.weights.items()}, temporary, metadata=about)
        os.replace(temporary, self.file)


@dataclass(frozen=True)
class SharedStages:
    """Stages in a folder.

    Attributes
    ----------
    task : what all stages of a job depend on: data, fold, seed, objective, code.
    """

    folder: Path
    task: Mapping[str, Any]

    def file(self, **stage: Any) -> Path:
        """Where a stage is kept, whether it is there or not."""
        return self.folder / f"{digest({**self.task, **stage})[:24]}.safetensors"

    @contextmanager
    def claim(self, **stage: Any) -> Iterator[Shelf]:
        """The shelf of one stage, which no other process uses meanwhile; who comes second waits and then finds it."""
        file = self.file(**stage)
        waits = partial(note, "another process is training a stage that this job shares; waiting for it")
        with lock(file.with_name(f".{file.stem}"), on_wait=waits):
            yield Shelf(file, _read(file))


def _read(file: Path) -> Learned | None:
    if not file.exists():
        return None
    try:
        with safe_open(file, "pt") as content:
            about = content.metadata()
            weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118, it is no mapping
        return Learned(weights, json.loads(about["history"]), int(about["selected"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        warn(f"{file} cannot be read ({type(error).__name__}); this stage is trained again")
        return None
