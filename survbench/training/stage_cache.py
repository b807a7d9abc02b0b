"""Stages that several jobs have in common, trained once: a sweep over a student's settings needs each teacher once.

What a stage learned is kept under a digest of everything that decides it. The folder may be deleted at any time; the
next job that needs a stage trains it again, to the same weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from survbench.console import note, warn
from survbench.files import atomic_file, digest, lock

__all__ = ["StageCache", "TrainedStage"]


@dataclass(frozen=True)
class TrainedStage:
    """The outcome of a stage.

    Attributes
    ----------
    weights : best weights, by name.
    history : the stage's rows of the history.
    selected : epoch whose weights were kept, counted from 1.
    """

    weights: dict[str, Tensor]
    history: list[dict[str, Any]]
    selected: int


@dataclass(frozen=True)
class StageCache:
    """Trained stages in a folder.

    Attributes
    ----------
    folder : made when the first stage is trained.
    task : what all stages of a job depend on: data, fold, seed, objective, code.
    """

    folder: Path
    task: Mapping[str, Any]

    def file(self, **stage: Any) -> Path:
        """File of the stage with this identity, whether it exists or not."""
        return self.folder / f"{digest({**self.task, **stage})[:24]}.safetensors"

    def load_or_train(self, train: Callable[[], TrainedStage], **stage: Any) -> tuple[TrainedStage, bool]:
        """Load a stage that another job trained, or train it and keep it; a second process waits for the first.

        Parameters
        ----------
        train : called where the stage is not in the cache.
        stage : its identity.

        Returns
        -------
        The stage, and whether another job had trained it.
        """
        file = self.file(**stage)
        on_wait = partial(note, "another process is training a stage that this job shares; waiting for it")
        with lock(file.with_name(f".{file.stem}"), on_wait=on_wait):
            if (cached := _read(file)) is not None:
                return cached, True
            trained = train()
            _write(file, trained)
            return trained, False


def _write(file: Path, trained: TrainedStage) -> None:
    with atomic_file(file) as temporary:
        weights = {name: value.contiguous() for name, value in trained.weights.items()}
        metadata = {"history": json.dumps(trained.history), "selected": str(trained.selected)}
        save_file(weights, temporary, metadata=metadata)


def _read(file: Path) -> TrainedStage | None:
    if not file.exists():
        return None
    try:
        with safe_open(file, "pt") as content:
            metadata = content.metadata()
            weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118, it is no mapping
        return TrainedStage(weights, json.loads(metadata["history"]), int(metadata["selected"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        warn(f"{file} cannot be read ({type(error).__name__}); this stage is trained again")
        return None
