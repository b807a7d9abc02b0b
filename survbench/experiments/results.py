"""What is in a result folder, as objects: a job's result while it is written and when it is read.

A job's folder appears by one rename, with a manifest of digests. Folders of the first edition, which have none, are
read and called unsealed. `docs/results-schema.md` describes every file.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from survbench.cards import ModelGroup
from survbench.console import note
from survbench.errors import BadConfig, BadFile
from survbench.experiments import folders, schema
from survbench.experiments.cohort_labels import contradiction
from survbench.experiments.folders import AGAIN, Unreadable, digests_of, read_record, read_table, readable
from survbench.experiments.schema import Identified
from survbench.experiments.versions import code_version, unversioned
from survbench.files import write_json

if TYPE_CHECKING:
    import torch

    from survbench.data.cohort import ExpressionScaler
    from survbench.experiments.job import Job
    from survbench.model import Inputs, Objective, SurvivalModel
    from survbench.registry import Registry

__all__ = ["FittedState", "JobResult", "ResultWriter", "find_results", "read_results", "write_failure"]


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

        inputs = plain["inputs"]
        sets = {key: {name: tuple(of) for name, of in inputs[key].items()} for key in ("pathways", "families")}
        mean, scale = np.array(plain["expression_mean"]), np.array(plain["expression_scale"])
        return cls(
            inputs=Inputs(
                inputs["feature_width"], genes=tuple(plain["genes"]), **sets, clinical=tuple(inputs["clinical"])
            ),
            scaler=ExpressionScaler(mean, scale) if len(mean) else None,
            objective=plain["objective"],
            horizon=plain["horizon"],
            grid=tuple(plain["grid"]),
        )


class ResultWriter:
    """A result in the making, in the job's scratch folder; `finish` makes it appear."""

    def __init__(self, job: Job, out: Path) -> None:
        self.job, self.out = job, out
        self.folder = folders.scratch_folder(job, out) / "result"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def save_model(self, weights: Mapping[str, Any], fitted: FittedState) -> None:
        """Weights by name, and what was fitted beside them."""
        from safetensors.torch import save_file

        save_file({name: value.contiguous() for name, value in weights.items()}, self.folder / folders.WEIGHTS)
        write_json(self.folder / folders.FITTED, fitted.plain())

    def load_model(self) -> tuple[dict[str, Any], FittedState]:
        """What `save_model` saved, read from the disk."""
        return _weights(self.folder), _fitted(self.folder)

    def save_predictions(self, predictions: pd.DataFrame, metrics: Mapping[str, Any]) -> None:
        """Predictions of all splits, and metrics of the test split: name -> (value, reason)."""
        predictions.to_parquet(self.folder / folders.PREDICTIONS)
        values = {n: {"value": v if math.isfinite(v) else None, "reason": why} for n, (v, why) in metrics.items()}
        write_json(self.folder / folders.METRICS, values)

    def save_history(self, history: Any) -> None:
        """A row per stage and epoch."""
        pd.DataFrame(history).to_parquet(self.folder / folders.HISTORY)

    def finish(self, record: Mapping[str, Any]) -> None:
        """Write the record and the manifest, then rename; a result that another process finished first stays."""
        write_json(self.folder / folders.RECORD, {**_shared_fields(self.job), **record})
        folders.seal(self.folder, self.job.id)
        target = folders.result_folder(self.job, self.out)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(self.folder, target)
        except OSError:
            if not target.is_dir():
                raise


def _shared_fields(job: Job) -> dict[str, Any]:
    """What finished and failed jobs record alike."""
    return {
        "format": schema.SCHEMA,
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


def write_failure(job: Job, out: Path, reason: str, traceback: str = "") -> None:
    """Record that a job failed, so that boards show it; the file is removed when the job succeeds."""
    write_json(folders.failure_file(job, out), {**_shared_fields(job), "error": reason, "traceback": traceback})


@dataclass(frozen=True, kw_only=True)
class JobResult(Identified):
    """One job as its folder records it: done, or failed where `error` is not empty.

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
        result = read_record(folder / folders.RECORD, folder, _finished)
        if isinstance(result, Unreadable):
            raise BadFile(f"{result.path}: {result.reason}", AGAIN)
        return result

    @classmethod
    def of(cls, job: Job, out: Path) -> JobResult:
        """The result of a planned job, of whichever edition.

        Raises
        ------
        BadConfig : there is none; it names the job.
        BadFile : it was altered, or is that of another job.
        """
        folder = folders.result_folder(job, out)
        if folder.exists():
            result = cls.open(folder)
            if result.record.get("id") != job.id:
                other = f"fold {result.fold} seed {result.seed} of {result.model} on {result.cohort}"
                raise BadFile(f"{folder} holds {other}, not {job.title}", AGAIN)
            return result
        for earlier in sorted(folder.parent.glob(f"fold{job.fold.index}-seed{job.seed}-*")):
            candidate = read_record(earlier / folders.RECORD, earlier, _finished)
            if isinstance(candidate, JobResult) and candidate.unsealed and _same_job(candidate.identity, job):
                return candidate
        command = f"survbench run --model {job.card.name} --cohort {job.cohort.name}"
        raise BadConfig(job.title, f"{command}, with the same options")

    @classmethod
    def is_done(cls, job: Job, out: Path) -> bool:
        """Whether a job's result is there and whole; of weights, only the length is looked at.

        Raises
        ------
        BadFile : there is a folder, but it is not as it was written.
        """
        if not folders.result_folder(job, out).exists():
            return False
        result = cls.of(job, out)
        files = (folders.RECORD, folders.PREDICTIONS, folders.METRICS, folders.HISTORY, folders.FITTED)
        for name in {*files, *result._digests} - {folders.WEIGHTS}:
            result._intact(name)
        with readable(result.path / folders.WEIGHTS) as path:
            from safetensors import safe_open

            safe_open(path, "np")
        return True

    def predictions(self) -> pd.DataFrame:
        """Of all patients: patient, split, time (months), event, risk (higher = worse), survival (at `grid`).

        Raises
        ------
        BadFile : the file is missing, damaged, altered, incomplete, or contradicts the record or the cohort.
        """
        path = self._intact(folders.PREDICTIONS)
        table = read_table(path)
        out = self.path.parents[3] if len(self.path.parents) > 3 else self.path
        cohort = self.identity["cohort_hash"]
        if problem := schema.table_problem(table, len(self.grid)) or contradiction(table, cohort, out):
            raise BadFile(f"{path}: {problem}", AGAIN)
        return table.astype({"patient": str, "time": float, "event": bool, "risk": float})

    def history(self) -> pd.DataFrame:
        """A row per stage and epoch: stage, epoch (from 1), val_loss, and the terms of the training loss."""
        return read_table(self._intact(folders.HISTORY))

    def metrics(self) -> dict[str, float | None]:
        """Metrics of the test split as they were stored; None where undefined. Boards compute their own."""
        with readable(self._intact(folders.METRICS)) as path:
            return {name: score["value"] for name, score in schema.read_json(path).items()}

    @property
    def fitted_state(self) -> FittedState:
        """What was fitted beside the weights."""
        self._intact(folders.FITTED)
        return _fitted(self.path)

    @property
    def provenance(self) -> dict[str, Any]:
        """What the number comes from: code, versions, hardware, seconds, memory, selection, and who was left out."""
        keys = ("versions", "hardware", "seconds", "phases", "memory", "selection", "encoder", "policy", "excluded")
        return {"code": self.code, **{key: self.record[key] for key in keys if key in self.record}}

    def weights(self) -> dict[str, Any]:
        """Name -> tensor."""
        self._intact(folders.WEIGHTS)
        return _weights(self.path)

    def load_model(
        self, device: torch.device, *, job: Job | None = None, registry: Registry | None = None
    ) -> tuple[SurvivalModel, Objective]:
        """The trained model in evaluation mode and its fitted objective; see `trained_models.load_trained`."""
        from survbench.experiments.trained_models import load_trained

        model, objective = load_trained(self, job, registry)
        return model.to(device), objective

    def files(self, *, weights: bool = True) -> dict[str, Path]:
        """What is in the folder, by name, without the manifest; `weights`: with them."""
        left_out = {folders.MANIFEST} if weights else {folders.MANIFEST, folders.WEIGHTS}
        return {file.name: file for file in sorted(self.path.iterdir()) if file.name not in left_out}

    def copy_model(self, folder: Path) -> None:
        """Put what `load_model` needs into a new folder, and no patient's outcome."""
        folder.mkdir(parents=True)
        for name in (folders.MANIFEST, folders.RECORD, folders.FITTED, folders.WEIGHTS):
            shutil.copyfile(self.path / name, folder / name)

    @cached_property
    def _digests(self) -> Mapping[str, str]:
        return {} if self.unsealed else digests_of(self.path, self.record["id"])

    def _intact(self, name: str) -> Path:
        path = self.path / name
        if not self.unsealed:
            folders.check(path, self._digests)
        return path


def find_results(jobs: Sequence[Job], out: Path) -> list[JobResult]:
    """The results of planned jobs, of whichever edition.

    Raises
    ------
    BadConfig : a job has none.
    BadFile : one was altered.
    """
    results: list[JobResult] = []
    missing: list[BadConfig] = []
    for job in jobs:
        try:
            results.append(JobResult.of(job, out))
        except BadConfig as error:
            missing.append(error)
    if missing:
        what = f"{len(missing)} of {len(jobs)} jobs have no result in {out}, first {missing[0].what}"
        raise BadConfig(what, missing[0].fix)
    if unsealed := sum(result.unsealed for result in results):
        note(f"{unsealed} of {len(results)} results are unsealed: of the first edition, whose files have no digests")
    return results


def read_results(out: Path) -> Iterator[JobResult | Unreadable]:
    """Every finished and every failed job of a results folder, which may be missing or empty, ordered by path."""
    for folder in sorted(p for p in (out / "jobs").glob("*/*/*") if p.is_dir()):
        yield read_record(folder / folders.RECORD, folder, _finished)
    for file in sorted((out / "failures").glob("*/*/*.json")):
        yield read_record(file, file, _failed)


def _weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    with readable(folder / folders.WEIGHTS) as path:
        return load_file(path)


def _fitted(folder: Path) -> FittedState:
    with readable(folder / folders.FITTED) as path:
        return FittedState.from_plain(schema.read_json(path))


def _finished(path: Path, content: Mapping[str, Any], first: bool, modified: float) -> JobResult:
    grid = np.asarray(schema.typed(content, "grid", list), dtype=float)
    if grid.ndim != 1 or not np.isfinite(grid).all() or (np.diff(grid) <= 0).any():
        raise ValueError("'grid' is not a list of increasing times")
    return JobResult(
        path=path,
        **schema.common_fields(content, first),
        modified=modified,
        simulated=schema.kind_of_data(content),
        grid=tuple(grid.tolist()),
        horizon=float(schema.typed(content, "horizon", (int, float))),
        parameters=schema.count(content, "parameters"),
        fvcore_flops=schema.count(content, "fvcore_flops"),
    )


def _failed(path: Path, content: Mapping[str, Any], first: bool, modified: float) -> JobResult:
    error = " ".join(schema.typed(content, "error", str).split()) or "no reason recorded"
    simulated = content.get("simulated")
    known = simulated if simulated in ("", "slides", "all") else None
    return JobResult(path=path, **schema.common_fields(content, first), modified=modified, simulated=known, error=error)


def _same_job(identity: Mapping[str, Any], job: Job) -> bool:
    """Whether an identity of the first edition is that of a job; other models count by name, wherever their code is."""
    known = {**job.identity, "config": job.config, "objective": job.objective}
    keys = set(schema.IDENTITY) - {"model_version"} | {"folds_hash", "train_inputs", "inference_inputs"}
    return all(unversioned(identity.get(key)) == unversioned(known[key]) for key in keys)
