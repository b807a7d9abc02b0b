"""One file per epoch, from which a killed job goes on to the same result.

Random numbers are not in it: every epoch draws its own from (seed, fold, stage, epoch).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_crc32_options, set_crc32_options

from survbench.console import warn

__all__ = ["Progress", "load_checkpoint", "load_stage", "save_checkpoint", "save_stage"]


@dataclass(kw_only=True)
class Progress:
    """How far training has come.

    Attributes
    ----------
    stage : the stage to go on with, counted from 0.
    epoch : its next epoch, counted from 0.
    current : weights of the trained part after the last epoch; None before the first.
    optimizer : state of the optimizer then.
    best_loss : lowest validation loss of the stage so far.
    best_epoch : epoch of that loss; -1 before the first.
    selected : of finished stages, as in `FitResult`.
    history : of all stages, as in `FitResult`.
    began : digest of the model when the stage began.
    weights : of finished stages, as in `FitResult`.
    reused : finished stages that another job had trained.
    seconds : spent so far, by phase.
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
    """Write the checkpoint by rename, so that a kill leaves the last complete one."""
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
    """Save the best weights of a stage so far; only when they change, so that checkpoints need not hold them."""
    _write(folder / f"stage-{name}.pt", weights)


def load_stage(folder: Path, name: str) -> dict[str, Tensor]:
    """Weights from `save_stage`."""
    return torch.load(folder / f"stage-{name}.pt", map_location="cpu", weights_only=True)


def _write(path: Path, content: Any) -> None:
    """Replace a file by one rename, reusing the pages of the file before the last, which is cheaper than new ones.

    The content is made in memory, because torch turns a Ctrl-C while it writes to an open file into its own error.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    spare, replaced = path.with_suffix(".spare"), path.with_suffix(".replaced")
    made = BytesIO()
    with _no_checksums():
        torch.save(content, made)
    with open(spare, "r+b" if spare.exists() else "wb") as file:
        file.write(made.getbuffer())
        file.truncate()
    replaced.unlink(missing_ok=True)
    with suppress(OSError):  # no file yet, or a file system without hard links: then pages are new each time
        os.link(path, replaced)
    os.replace(spare, path)
    if replaced.exists():
        os.replace(replaced, spare)


@contextmanager
def _no_checksums() -> Iterator[None]:
    """Context without checksums, which take a third of the time of saving and which torch never reads."""
    before = get_crc32_options()
    set_crc32_options(False)
    try:
        yield
    finally:
        set_crc32_options(before)
