"""A job: one model on one fold of one cohort with one seed; its identity and the places of its files.

Two jobs with the same identity give the same result; anything that could change the result is part of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import survbench
from survbench.cards import ModelCard
from survbench.data.cohort import Cohort
from survbench.data.folds import Fold
from survbench.registry import source_files
from survbench.training.settings import Settings

__all__ = ["TASK_VERSION", "Job", "code_version"]

TASK_VERSION = 1  # raised when the protocol changes what a number means; older rows then get a table of their own
_DECISIVE = ("data", "training", "evaluation", "model.py")  # parts of the suite whose code decides a result


@dataclass(frozen=True)
class Job:
    """What is to be computed.

    Attributes
    ----------
    config : every setting of the model, defaults included. objective : its registry entry, with its name.
    origin : `default` or `tuned (n trials)` (protocol rule 2).
    as_registered : every setting is the registry's own: published figures belong beside such a job and no other. It
    follows from the settings, so it is no part of the identity.
    """

    card: ModelCard
    config: Mapping[str, Any]
    objective: Mapping[str, Any]
    settings: Settings
    cohort: Cohort
    scheme: str
    folds: int
    folds_hash: str
    fold: Fold
    seed: int
    origin: str = "default"
    as_registered: bool = False

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the result, as plain JSON values."""
        return {
            "task_version": TASK_VERSION,
            "model": self.card.name,
            "config": dict(self.config),
            "train_inputs": [str(i) for i in self.card.train_inputs],
            "inference_inputs": [str(i) for i in self.card.inference_inputs],
            "objective": dict(self.objective),
            "training": dict(vars(self.settings)),
            "cohort": self.cohort.name,
            "cohort_hash": self.cohort.content_hash,
            "endpoint": self.cohort.endpoint,
            "folds": self.scheme,
            "folds_hash": self.folds_hash,
            "n_folds": self.folds,
            "fold": self.fold.index,
            "seed": self.seed,
            "code": code_version(self.card.target, *_targets(self.config)),
        }

    @property
    def task(self) -> dict[str, Any]:
        """What every model that is trained here has in common; with a stage's own settings it decides the stage."""
        own = ("model", "config", "train_inputs", "inference_inputs", "training")
        return {key: value for key, value in self.identity.items() if key not in own}

    @cached_property
    def id(self) -> str:
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True, default=list).encode()).hexdigest()

    @property
    def title(self) -> str:
        return f"{self.card.name} {self.cohort.name} fold {self.fold.index} seed {self.seed}"

    def _place(self) -> Path:
        task = f"{self.cohort.name}-{self.cohort.endpoint}-{self.scheme}"
        return Path(self.card.name, task, f"fold{self.fold.index}-seed{self.seed}-{self.id[:10]}")

    def folder(self, out: Path) -> Path:
        """Where the result is once it is done; its existence means done."""
        return out / "jobs" / self._place()

    def failure(self, out: Path) -> Path:
        """Where a failure is recorded."""
        place = out / "failures" / self._place()
        return place.with_name(f"{place.name}.json")

    def scratch(self, out: Path) -> Path:
        """Where checkpoints are while it is not."""
        return out / "scratch" / self.id[:16]


def _targets(config: Mapping[str, Any]) -> list[str]:
    """Other models that the settings name."""
    return [v["target"] for v in config.values() if isinstance(v, Mapping) and "target" in v]


@cache
def code_version(*targets: str) -> str:
    """Version of the suite plus a digest of the code that decides results: the suite's and the models' own."""
    home = Path(survbench.__file__).parent
    suite = [file for part in _DECISIVE for file in _python_files(home / part)]
    digest = hashlib.sha256()
    for file in dict.fromkeys([*suite, *(file for target in targets for file in source_files(target))]):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return f"{survbench.__version__}+{digest.hexdigest()[:12]}"


def _python_files(path: Path) -> Iterable[Path]:
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]
