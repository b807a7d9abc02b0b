"""One file per epoch, from which a killed job goes on to the same result.

Random numbers are not in it: every epoch draws its own from (seed, fold, stage, epoch).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from survbench.console import warn

__all__ = ["Progress", "load_checkpoint", "load_stage", "save_checkpoint", "save_stage"]


@dataclass
class Progress:
    """How far training has come.

    Attributes
    ----------
    stage, epoch : the next epoch to train. selected, weights, reused : of finished stages, as in `FitResult`.
    began : digest of the model when the stage began. seconds : spent so far, by phase.
    current, optimizer : state after the last epoch. best_epoch : the one of the stage's lowest validation loss so far.
    """

    stage: int = 0
    epoch: int = 0
    current: dict[str, Tensor] | None = None
    optimizer: dict[str, Any] | None = None
    best_loss: float = float("inf")
    best_epoch: int = -1
    selected: dict[str, int] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    began: str | None = None
    weights: dict[str, dict[str, str]] = field(default_factory=dict)
    reused: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def save_checkpoint(folder: Path, progress: Progress) -> None:
    """Write by rename, so that a kill leaves the last complete one."""
    _write(folder / "checkpoint.pt", dict(vars(progress)))


def load_checkpoint(folder: Path) -> Progress | None:
    """Last complete checkpoint; None where there is none or it cannot be read."""
    path = folder / "checkpoint.pt"
    if not path.exists():
        return None
    try:
        return Progress(**torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # a damaged checkpoint costs the job's epochs, not the run
        warn(f"{path} cannot be read ({type(error).__name__}); this job starts again")
        return None


def save_stage(folder: Path, name: str, weights: dict[str, Tensor]) -> None:
    """Keep the best weights of a stage so far, when they change instead of in every checkpoint."""
    _write(folder / f"stage-{name}.pt", weights)


def load_stage(folder: Path, name: str) -> dict[str, Tensor]:
    """Weights that `save_stage` kept."""
    return torch.load(folder / f"stage-{name}.pt", map_location="cpu", weights_only=True)


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(content, temporary)
    os.replace(temporary, path)
