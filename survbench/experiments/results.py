"""Result folders: the only place that knows where they are, what is in them and whether it is what was written.

A job's folder appears by one rename, with a manifest of digests. Folders of the first edition, which have none, are
read and called unsealed. `docs/results-schema.md` describes every file.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from survbench.cards import ModelGroup
from survbench.console import note, warn
from survbench.errors import BadConfig, BadFile, SurvbenchError
from survbench.experiments import forms
from survbench.experiments.forms import Identified
from survbench.files import atomic_folder, digest, file_digest, write_json

if TYPE_CHECKING:
    import torch

    from survbench.data.cohort import Cohort, ExpressionScaler
    from survbench.experiments.job import Job
    from survbench.model import Inputs, Objective, SurvivalModel
    from survbench.registry import Registry

__all__ = [
    "FittedState",
    "JobResult",
    "ResultWriter",
    "Unreadable",
    "ValidationResult",
    "failure_file",
    "find_results",
    "labels_digest",
    "read_results",
    "read_validations",
    "result_folder",
    "scratch_folder",
    "stages_folder",
    "tune_folder",
    "validation_folder",
    "write_cohort",
    "write_failure",
    "write_validation",
]

AGAIN = "delete the folder and run the job again"
_MANIFEST, _RECORD = "manifest.json", "job.json"
_PREDICTIONS, _METRICS, _HISTORY = "predictions.parquet", "metrics.json", "history.parquet"
_FITTED, _WEIGHTS = "fitted.json", "model.safetensors"
_FILES = (_RECORD, _PREDICTIONS, _METRICS, _HISTORY, _FITTED, _WEIGHTS)
_VALIDATION, _VALIDATED = "external_validation.json", "external_validation.parquet"
_FIRST_VALIDATION = ("external.json", "predictions.parquet")


def _place(job: Job) -> Path:
    task = f"{job.cohort.name}-{job.cohort.endpoint}-{job.scheme}"
    return Path(job.card.name, task, f"fold{job.fold.index}-seed{job.seed}-{job.id[:10]}")


def result_folder(job: Job, out: Path) -> Path:
    """Where the result is once it is done; see `JobResult.is_done`."""
    return out / "jobs" / _place(job)


def failure_file(job: Job, out: Path) -> Path:
    """Where a failure is recorded."""
    place = out / "failures" / _place(job)
    return place.with_name(f"{place.name}.json")


def scratch_folder(job: Job, out: Path) -> Path:
    """Where checkpoints are while the job is not done."""
    return out / "scratch" / job.id[:16]


def stages_folder(out: Path) -> Path:
    """Where trained stages are kept for other jobs."""
    return out / "stages"


def tune_folder(out: Path) -> Path:
    """Where studies of settings are kept."""
    return out / "tune"


@dataclass(frozen=True, kw_only=True)
class FittedState:
    """What was fitted on the training split beside the weights.

    Attributes
    ----------
    inputs : what the model was built from.
    scaler : of expression; None without expression.
    objective : state of the objective.
    horizon : months.
    grid : months at which survival curves are predicted.
    """

    inputs: Inputs
    scaler: ExpressionScaler | None
    objective: Mapping[str, Any]
    horizon: float
    grid: tuple[float, ...]

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "genes": list(self.inputs.genes),
            "inputs": {key: value for key, value in vars(self.inputs).items() if key != "genes"},
            "expression_mean": [] if self.scaler is None else self.scaler.mean.tolist(),
            "expression_scale": [] if self.scaler is None else self.scaler.scale.tolist(),
            "objective": self.objective,
            "horizon": self.horizon,
            "grid": list(self.grid),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> FittedState:
        """The state of `plain` values."""
        from survbench.data.cohort import ExpressionScaler
        from survbench.model import Inputs

        given = plain["inputs"]
        sets = {key: {name: tuple(of) for name, of in given[key].items()} for key in ("pathways", "families")}
        scaler = None
        if plain["expression_mean"]:
            scaler = ExpressionScaler(np.array(plain["expression_mean"]), np.array(plain["expression_scale"]))
        return cls(
            inputs=Inputs(given["feature_width"], tuple(plain["genes"]), **sets, clinical=tuple(given["clinical"])),
            scaler=scaler,
            objective=plain["objective"],
            horizon=plain["horizon"],
            grid=tuple(plain["grid"]),
        )


class ResultWriter:
    """A result in the making, in the job's scratch folder; `finish` makes it appear."""

    def __init__(self, job: Job, out: Path) -> None:
        self.job, self.out = job, out
        self.folder = scratch_folder(job, out) / "result"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def save_model(self, weights: Mapping[str, Any], fitted: FittedState) -> None:
        """Weights by name, and what was fitted beside them."""
        from safetensors.torch import save_file

        save_file({name: value.contiguous() for name, value in weights.items()}, self.folder / _WEIGHTS)
        write_json(self.folder / _FITTED, fitted.plain())

    def load_model(self) -> tuple[dict[str, Any], FittedState]:
        """What `save_model` saved, read from the disk."""
        return _weights(self.folder), _fitted(self.folder)

    def save_predictions(self, predictions: pd.DataFrame, metrics: Mapping[str, Any]) -> None:
        """Predictions of all splits, and metrics of the test split: name -> (value, reason)."""
        predictions.to_parquet(self.folder / _PREDICTIONS)
        values = {n: {"value": v if math.isfinite(v) else None, "reason": why} for n, (v, why) in metrics.items()}
        write_json(self.folder / _METRICS, values)

    def save_history(self, history: Any) -> None:
        """A row per stage and epoch."""
        pd.DataFrame(history).to_parquet(self.folder / _HISTORY)

    def finish(self, record: Mapping[str, Any]) -> None:
        """Write the record and the manifest, then rename; a result that another process finished first stays."""
        write_json(self.folder / _RECORD, {**_about(self.job), **record})
        _seal(self.folder, self.job.id)
        target = result_folder(self.job, self.out)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(self.folder, target)
        except OSError:
            if not target.is_dir():
                raise


def _about(job: Job) -> dict[str, Any]:
    """What the record of every job says, finished or failed."""
    from survbench.experiments.versions import code_version

    return {
        "format": forms.SCHEMA,
        "id": job.id,
        "identity": job.identity,
        "config": dict(job.config),
        "card": {**job.card.public(), "beside": list(job.card.beside)},
        "target": job.card.target,
        "selected": job.origin,
        "as_registered": job.as_registered,
        "simulated": job.cohort.simulated,
        "code": code_version(),
    }


def _seal(folder: Path, identifier: str) -> None:
    files = {file.name: file_digest(file) for file in sorted(folder.iterdir()) if file.name != _MANIFEST}
    write_json(folder / _MANIFEST, {"format": forms.SCHEMA, "id": identifier, "sha256": files})


def write_failure(job: Job, out: Path, reason: str, traceback: str = "") -> None:
    """Leave a file that says so on the leaderboard; it goes when the job succeeds."""
    write_json(failure_file(job, out), {**_about(job), "error": reason, "traceback": traceback})


def write_cohort(cohort: Cohort, out: Path) -> None:
    """Keep, once, who the patients of a cohort are and a digest of their labels, so that boards need no data root."""
    file = out / "cohorts" / f"{cohort.content_hash}.json"
    labels = cohort.patients[["time", "event"]].rename_axis("patient").reset_index()
    content = {
        "format": forms.SCHEMA,
        "name": cohort.name,
        "endpoint": cohort.endpoint,
        "simulated": cohort.simulated,
        "patients": list(cohort.patients.index),
        "labels": labels_digest(labels),
        "excluded": {reason: list(who) for reason, who in cohort.excluded.items()},
    }
    with suppress(*forms.ODD):
        if forms.read_json(file) == content:
            return
    write_json(file, content)


def labels_digest(table: pd.DataFrame) -> str:
    """Digest of who (patient) was followed for how long (time, months) and died (event)."""
    ordered = table.sort_values("patient")
    return digest(
        [[str(p), float(t), bool(e)] for p, t, e in ordered[["patient", "time", "event"]].to_numpy().tolist()]
    )


@lru_cache(maxsize=64)
def _cohort_file(file: Path, modified: int) -> tuple[frozenset[str], str] | None:
    """Patients and digest of labels; `modified` is there for the cache to notice that the file is another one."""
    try:
        content = forms.read_json(file)
        return frozenset(forms.texts(content["patients"], "patients")), forms.typed(content, "labels", str)
    except forms.ODD as error:
        warn(f"{file} is no list of a cohort's patients and is not used: {forms.line(error)}")
        return None  # results without it are judged by what they say of each other


@dataclass(frozen=True)
class Unreadable:
    """A folder or file that is no usable record, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, kw_only=True)
class JobResult(Identified):
    """One job as its folder says: done, or failed where `error` is not empty.

    Attributes
    ----------
    path : its folder, or the file that records the failure.
    record : all of job.json.
    identity : everything that decides the result; see `survbench.experiments.job`.
    unsealed : of the first edition, so that nothing says whether a file was altered.
    code : version of the code that ran.
    modified : seconds since 1970.
    simulated : "", "slides" or "all"; None where a failure did not get as far as recording it.
    selected : where the settings are from, and `unsealed`.
    grid : months at which survival curves are stored.
    horizon : months.
    beside : models whose differences are shown with it.
    as_registered : with every setting as the registry has it.
    """

    path: Path
    record: Mapping[str, Any]
    identity: Mapping[str, Any]
    unsealed: bool
    code: str
    modified: float
    title: str
    group: ModelGroup | None
    reconstruction: str
    simulated: str | None
    selected: str
    grid: tuple[float, ...] = ()
    horizon: float = math.nan
    parameters: int | None = None
    fvcore_flops: int | None = None
    error: str = ""
    beside: tuple[str, ...] = ()
    as_registered: bool = False

    @classmethod
    def open(cls, folder: Path) -> JobResult:
        """The result in a folder.

        Raises
        ------
        BadFile : it is none, or was altered.
        """
        found = _read(folder / _RECORD, folder, _finished)
        if isinstance(found, Unreadable):
            raise BadFile(f"{found.path}: {found.reason}", AGAIN)
        return found

    @classmethod
    def of(cls, job: Job, out: Path) -> JobResult:
        """The result of a planned job, of whichever edition.

        Raises
        ------
        BadConfig : there is none; it names the job. BadFile : it was altered, or is that of another job.
        """
        folder = result_folder(job, out)
        if folder.exists():
            found = cls.open(folder)
            if found.record.get("id") != job.id:
                held = f"fold {found.fold} seed {found.seed} of {found.model} on {found.cohort}"
                raise BadFile(f"{folder} holds {held}, not {job.title}", AGAIN)
            return found
        for other in sorted(folder.parent.glob(f"fold{job.fold.index}-seed{job.seed}-*")):
            found = _read(other / _RECORD, other, _finished)
            if isinstance(found, JobResult) and found.unsealed and _same_job(found.identity, job):
                return found
        raise BadConfig(
            job.title,
            f"survbench run --model {job.card.name} --cohort {job.cohort.name}, with the same options",
        )

    @classmethod
    def is_done(cls, job: Job, out: Path) -> bool:
        """Whether a job's result is there and whole; of weights, only the length is looked at.

        Raises
        ------
        BadFile : there is a folder, but it is not as it was written.
        """
        if not result_folder(job, out).exists():
            return False
        result = cls.of(job, out)
        for name in {*_FILES, *result._digests} - {_WEIGHTS}:
            result._intact(name)
        with _readable(result.path / _WEIGHTS) as path:
            from safetensors import safe_open

            safe_open(path, "np")
        return True

    def predictions(self) -> pd.DataFrame:
        """Of all patients: patient, split, time (months), event, risk (higher = worse), survival (at `grid`).

        Raises
        ------
        BadFile : the file is missing, damaged, altered, incomplete, or contradicts the record or the cohort.
        """
        path = self._intact(_PREDICTIONS)
        table = _read_table(path)
        problem = forms.problem(table, len(self.grid)) or self._contradiction(table)
        if problem:
            raise BadFile(f"{path}: {problem}", AGAIN)
        return table.astype({"patient": str, "time": float, "event": bool, "risk": float})

    def history(self) -> pd.DataFrame:
        """A row per stage and epoch: stage, epoch (from 1), val_loss, and the terms of the training loss."""
        return _read_table(self._intact(_HISTORY))

    def metrics(self) -> dict[str, float | None]:
        """Metrics of the test split as they were stored; None where undefined. Boards compute their own."""
        with _readable(self._intact(_METRICS)) as path:
            return {name: score["value"] for name, score in forms.read_json(path).items()}

    @property
    def fitted_state(self) -> FittedState:
        """What was fitted beside the weights."""
        self._intact(_FITTED)
        return _fitted(self.path)

    @property
    def provenance(self) -> dict[str, Any]:
        """What the number comes from: code, versions, hardware, seconds, memory, selection, and who was left out."""
        keys = ("versions", "hardware", "seconds", "phases", "memory", "selection", "encoder", "policy", "excluded")
        return {"code": self.code, **{key: self.record[key] for key in keys if key in self.record}}

    def weights(self) -> dict[str, Any]:
        """Name -> tensor."""
        self._intact(_WEIGHTS)
        return _weights(self.path)

    def load_model(
        self, device: torch.device, *, job: Job | None = None, registry: Registry | None = None
    ) -> tuple[SurvivalModel, Objective]:
        """The trained model in evaluation mode and its fitted objective; see `build.load_trained`."""
        from survbench.experiments.build import load_trained

        model, objective = load_trained(self, job, registry)
        return model.to(device), objective

    def files(self, *, weights: bool = True) -> dict[str, Path]:
        """What is in the folder, by name, without the manifest; `weights`: with them."""
        left_out = {_MANIFEST} if weights else {_MANIFEST, _WEIGHTS}
        return {file.name: file for file in sorted(self.path.iterdir()) if file.name not in left_out}

    def copy_model(self, folder: Path) -> None:
        """Put what `load_model` needs into a new folder, and no patient's outcome."""
        folder.mkdir(parents=True)
        for name in (_MANIFEST, _RECORD, _FITTED, _WEIGHTS):
            shutil.copyfile(self.path / name, folder / name)

    @cached_property
    def _digests(self) -> Mapping[str, str]:
        return {} if self.unsealed else _manifest(self.path, self.record["id"])

    def _intact(self, name: str) -> Path:
        path = self.path / name
        if not self.unsealed:
            _check(path, self._digests)
        return path

    def _contradiction(self, table: pd.DataFrame) -> str:
        """What of the table is not as the cohort's file has it; empty where nothing is, or there is no such file."""
        out = self.path.parents[3] if len(self.path.parents) > 3 else self.path
        file = out / "cohorts" / f"{self.identity['cohort_hash']}.json"
        known = _cohort_file(file, file.stat().st_mtime_ns) if file.exists() else None
        if known is None:
            return ""
        patients, labels = known
        if unlike := patients ^ frozenset(table["patient"]):
            return f"its patients are not those of the cohort in {file}, first {min(map(str, unlike))}"
        return "" if labels_digest(table) == labels else f"its times or events are not those of the cohort in {file}"


def find_results(jobs: Sequence[Job], out: Path) -> list[JobResult]:
    """The results of planned jobs, of whichever edition.

    Raises
    ------
    BadConfig : a job has none. BadFile : one was altered.
    """
    found: list[JobResult] = []
    missing: list[BadConfig] = []
    for job in jobs:
        try:
            found.append(JobResult.of(job, out))
        except BadConfig as error:
            missing.append(error)
    if missing:
        raise BadConfig(
            f"{len(missing)} of {len(jobs)} jobs have no result in {out}, first {missing[0].what}", missing[0].fix
        )
    if unsealed := sum(result.unsealed for result in found):
        note(f"{unsealed} of {len(found)} results are unsealed: of the first edition, whose files have no digests")
    return found


def read_results(out: Path) -> Iterator[JobResult | Unreadable]:
    """Every finished and every failed job of a results folder, in the order of their paths.

    Parameters
    ----------
    out : folder that `survbench run --out` wrote to; it may be missing or empty.
    """
    for folder in sorted(p for p in (out / "jobs").glob("*/*/*") if p.is_dir()):
        yield _read(folder / _RECORD, folder, _finished)
    for file in sorted((out / "failures").glob("*/*/*.json")):
        yield _read(file, file, _failed)


def _weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    with _readable(folder / _WEIGHTS) as path:
        return load_file(path)


def _fitted(folder: Path) -> FittedState:
    with _readable(folder / _FITTED) as path:
        return FittedState.from_plain(forms.read_json(path))


def _read(file: Path, path: Path, build: Any) -> Any:
    try:
        content = forms.read_json(file)
        first = forms.is_first_edition(content)
        if path.is_dir():
            if (path / _MANIFEST).is_file():
                _check(file, _manifest(path, content.get("job" if file.name == _VALIDATION else "id")))
            elif not first:
                raise ValueError(f"the folder has no {_MANIFEST}, so nothing says that its files are as written")
        return build(path, content, first, file.stat().st_mtime)
    except FileNotFoundError as error:
        name = Path(str(error.filename)).name
        return Unreadable(path, f"it has no {name}")
    except BadFile as error:
        return Unreadable(path, str(error))
    except forms.ODD as error:
        return Unreadable(path, f"{file.name} cannot be used: {forms.line(error)}")


def _manifest(folder: Path, job: object) -> Mapping[str, str]:
    """Digests by the name of the file; BadFile where they are not those of the job with this id."""
    try:
        content = forms.read_json(folder / _MANIFEST)
        found, digests = content["id"], {str(name): str(value) for name, value in content["sha256"].items()}
    except FileNotFoundError:
        raise BadFile(f"{folder} has no {_MANIFEST}", AGAIN) from None
    except forms.ODD:
        raise BadFile(f"{folder / _MANIFEST} is no list of digests", AGAIN) from None
    if found != job:
        raise BadFile(f"{folder / _MANIFEST} is of another job than the record beside it", AGAIN)
    return digests


def _check(path: Path, digests: Mapping[str, str]) -> None:
    """Raise BadFile for a file that is not as it was written."""
    if not path.is_file():
        raise BadFile(f"{path} is missing", AGAIN)
    if digests.get(path.name) != file_digest(path):
        raise BadFile(f"{path.name} was altered after it was written ({path})", AGAIN)


@contextmanager
def _readable(path: Path) -> Iterator[Path]:
    """Raise BadFile for whatever a decoder trips over in a damaged file."""
    try:
        yield path
    except SurvbenchError:
        raise
    except Exception as error:
        raise BadFile(f"{path} cannot be read ({forms.line(error)})", AGAIN) from None


def _read_table(path: Path) -> pd.DataFrame:
    with _readable(path):
        return pd.read_parquet(path)


def _finished(path: Path, content: Mapping[str, Any], first: bool, modified: float) -> JobResult:
    grid = np.asarray(forms.typed(content, "grid", list), dtype=float)
    if grid.ndim != 1 or not np.isfinite(grid).all() or (np.diff(grid) <= 0).any():
        raise ValueError("'grid' is not a list of increasing times")
    return JobResult(
        path=path,
        **forms.common(content, first),
        modified=modified,
        simulated=forms.kind_of_data(content),
        grid=tuple(grid.tolist()),
        horizon=float(forms.typed(content, "horizon", (int, float))),
        parameters=forms.count(content, "parameters"),
        fvcore_flops=forms.count(content, "fvcore_flops"),
    )


def _failed(path: Path, content: Mapping[str, Any], first: bool, modified: float) -> JobResult:
    error = " ".join(forms.typed(content, "error", str).split()) or "no reason recorded"
    simulated = content.get("simulated")
    known = simulated if simulated in ("", "slides", "all") else None
    return JobResult(path=path, **forms.common(content, first), modified=modified, simulated=known, error=error)


def _same_job(identity: Mapping[str, Any], job: Job) -> bool:
    """Whether an identity of the first edition is that of a job; other models count by name, wherever their code is."""
    from survbench.experiments.versions import unversioned

    known = {**job.identity, "config": job.config, "objective": job.objective}
    keys = set(forms.IDENTITY) - {"model_version"} | {"folds_hash", "train_inputs", "inference_inputs"}
    return all(unversioned(identity.get(key)) == unversioned(known[key]) for key in keys)


@dataclass(frozen=True)
class ValidationResult(Identified):
    """A finished job's model applied, frozen, to another cohort.

    Attributes
    ----------
    record : of external_validation.json.
    identity : of the job. table : patient, time (months), event, risk, high (above the training median), standardized.
    code : version that trained the model. selected : as of `JobResult`. modified : seconds since 1970.
    """

    record: Mapping[str, Any]
    identity: Mapping[str, Any]
    table: pd.DataFrame
    code: str
    selected: str
    modified: float


def validation_folder(job: Job, cohort: Cohort, out: Path) -> Path:
    """Where the predictions of a job's model for another cohort are."""
    identity = digest([job.id, cohort.content_hash])
    task = f"{job.cohort.name}-to-{cohort.name}-{cohort.endpoint}-{job.scheme}"
    return out / "external" / job.card.name / task / f"fold{job.fold.index}-seed{job.seed}-{identity[:10]}"


def write_validation(folder: Path, record: Mapping[str, Any], table: pd.DataFrame) -> None:
    """Store what a frozen model predicts, by one rename."""
    with atomic_folder(folder) as scratch:
        table.to_parquet(scratch / _VALIDATED)
        write_json(scratch / _VALIDATION, {"format": forms.SCHEMA, **record})
        _seal(scratch, str(record["job"]))


def read_validations(out: Path) -> Iterator[ValidationResult | Unreadable]:
    """All of a results folder, in the order of their paths."""
    for folder in sorted(p for p in (out / "external").glob("*/*/*") if p.is_dir()):
        names = (_VALIDATION, _VALIDATED) if (folder / _VALIDATION).exists() else _FIRST_VALIDATION
        file, table = (folder / name for name in names)
        found = _read(file, folder, lambda path, content, first, modified: (content, first, modified))
        if isinstance(found, Unreadable):
            yield found
            continue
        content, first, modified = found
        try:
            if not first:
                _check(table, _manifest(folder, content["job"]))
            about = forms.common(content | {"code": content.get("code", "")}, first, "job")
            for key in ("test_cohort", "test_hash", "endpoint"):
                forms.typed(content, key, str)
            forms.kind_of_data(content)
            forms.texts(content.get("genes_absent"), "genes_absent")
            yield ValidationResult(
                content, about["identity"], _read_table(table), about["code"], about["selected"], modified
            )
        except (BadFile, *forms.ODD) as error:
            yield Unreadable(folder, forms.line(error))
