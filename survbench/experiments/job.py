"""A job: one model on one fold of one cohort with one seed; its identity, and the job as plain values.

Two jobs with the same identity give the same result; anything that could change the result is part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from survbench.cards import ModelCard
from survbench.data.cohort import Cohort, load_cohort
from survbench.data.folds import Fold, folds_hash
from survbench.data.root import DataRoot
from survbench.errors import SurvbenchError
from survbench.experiments.versions import changed, code_version, versioned
from survbench.files import digest
from survbench.training.settings import Settings

__all__ = ["PROTOCOL_VERSION", "Job", "JobSpec"]

PROTOCOL_VERSION = 1  # raised when a number's meaning or value changes for everybody; rows of two never share a table


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be computed.

    Attributes
    ----------
    card : of the model.
    config : every setting of the model, defaults included.
    objective : its registry entry, with its name.
    settings : of the trainer.
    cohort : with its data.
    scheme : of the folds.
    folds : number of outer folds.
    folds_hash : of the patients in them.
    fold : the one of this job.
    seed : of initial weights and batches.
    origin : `default` or `tuned (n trials)` (protocol rule 2).
    as_registered : every setting is the registry's own: published figures belong beside such a job and no other. It
        follows from the settings, so it is no part of the identity.
    versions : of the model and of others that its settings name, see `versions_of`.
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
    versions: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the result, as plain JSON values; where the code stands is no part of it."""
        objective = versioned(self.objective, self.versions)
        return {
            "protocol_version": PROTOCOL_VERSION,
            "model": self.card.name,
            "model_version": self.versions.get(self.card.target, f"{self.card.name}@{self.card.version}"),
            "config": versioned(self.config, self.versions),
            "train_inputs": [str(i) for i in self.card.train_inputs],
            "inference_inputs": [str(i) for i in self.card.inference_inputs],
            "objective": {key: value for key, value in objective.items() if key != "target"},
            "training": dict(vars(self.settings)),
            "cohort": self.cohort.name,
            "cohort_hash": self.cohort.content_hash,
            "endpoint": self.cohort.endpoint,
            "folds": self.scheme,
            "folds_hash": self.folds_hash,
            "n_folds": self.folds,
            "fold": self.fold.index,
            "seed": self.seed,
        }

    @property
    def task(self) -> dict[str, Any]:
        """What every model that is trained here has in common; with a stage's own settings it decides the stage.

        Trained stages are kept for other jobs of the very same code.
        """
        own = ("model", "model_version", "config", "train_inputs", "inference_inputs", "training")
        return {key: value for key, value in self.identity.items() if key not in own} | {"code": code_version()}

    @cached_property
    def id(self) -> str:
        return digest(self.identity)

    @property
    def title(self) -> str:
        return f"{self.card.name} {self.cohort.name} fold {self.fold.index} seed {self.seed}"

    def plain(self) -> dict[str, Any]:
        """As JSON values, the cohort by name and the fold by its number."""
        return {
            **{f.name: getattr(self, f.name) for f in fields(self)},
            "card": asdict(self.card),
            "settings": asdict(self.settings),
            "cohort": self.cohort.name,
            "endpoint": self.cohort.endpoint,
            "fold": self.fold.index,
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], cohort: Cohort) -> Job:
        """The job of `plain` values on its cohort.

        Raises
        ------
        SurvbenchError : the cohort's folds are no longer those the job was planned with.
        """
        folds = cohort.folds(plain["scheme"])
        if folds_hash(folds) != plain["folds_hash"]:
            raise SurvbenchError(f"the folds of {cohort.name} changed since the command began", "run it again")
        of = {key: value for key, value in plain.items() if key != "endpoint"} | {
            "card": ModelCard(**plain["card"]),
            "settings": Settings(**plain["settings"]),
            "cohort": cohort,
            "fold": next(fold for fold in folds if fold.index == plain["fold"]),
        }
        return cls(**of)


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """A job as it is sent to another process or machine: a small JSON value, its data by name.

    Attributes
    ----------
    root : absolute path of the data root.
    out : absolute path of the folder of results.
    device : such as `cpu` or `cuda:1`.
    threads : of the CPU.
    job : values of `Job.plain`.
    id : of the job; code or data have changed where the loaded job has another one.
    title : for people.
    task : digest of what the job shares with jobs that may train a stage for it.
    """

    root: str
    out: str
    device: str
    threads: int
    job: Mapping[str, Any]
    id: str
    title: str
    task: str

    @classmethod
    def of(cls, job: Job, out: Path, device: str, threads: int) -> JobSpec:
        """The spec of a planned job."""
        root = job.cohort.folder.path.resolve().parent
        return cls(
            root=str(root),
            out=str(out.resolve()),
            device=device,
            threads=threads,
            job=job.plain(),
            id=job.id,
            title=job.title,
            task=digest(job.task),
        )

    @property
    def model(self) -> str:
        return str(self.job["card"]["name"])

    def load(self) -> Job:
        """The job with its data.

        Raises
        ------
        SurvbenchError : code or data are no longer those it was planned with.
        """
        altered = changed(self.job["versions"])
        cohort = load_cohort(DataRoot.open(Path(self.root)), self.job["cohort"], self.job["endpoint"])
        job = Job.from_plain(self.job, cohort)
        if job.id != self.id or altered:
            raise SurvbenchError("code or data changed since the command began", "run the same command again")
        return job
