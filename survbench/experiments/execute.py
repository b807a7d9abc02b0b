"""Running one job: train, then load the saved weights and score, then let the result appear by one rename.

What is done is skipped, what was killed goes on, what fails is recorded. Which job runs when and where: schedule.py.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from survbench.clock import Clock
from survbench.complexity import Complexity, complexity
from survbench.console import warn
from survbench.data.batches import Split
from survbench.data.cohort import POLICY, ExpressionScaler
from survbench.errors import BadModel, SurvbenchError
from survbench.evaluation.groups import risk_cut
from survbench.evaluation.metrics import prediction_grid, prediction_horizon, score_fold
from survbench.experiments.job import Job
from survbench.experiments.plan import build_model, build_objective, job_split
from survbench.experiments.provenance import package_versions
from survbench.model import SurvivalModel
from survbench.training.device import hardware, peak_memory
from survbench.training.fit import EpochReport, FitResult, fit
from survbench.training.objectives import Objective
from survbench.training.settings import SELECTION_RULE
from survbench.training.shared import SharedStages
from survbench.training.steps import predict_logits, seed_everything

__all__ = ["Outcome", "Trained", "record_failure", "run_job", "train_model"]


@dataclass(frozen=True)
class Outcome:
    """What became of a job. crowded : no memory was left on the device. reason : why it failed or was crowded out."""

    status: Literal["done", "skipped", "failed", "left", "crowded"]
    reason: str = ""


def run_job(job: Job, out: Path, device: torch.device, report: Callable[[EpochReport], None]) -> Outcome:
    """Run a job unless it is done, or another process is at it and it is left to that one.

    Where the device has no memory left, whether it failed is for the caller to say, who knows what ran beside it; its
    checkpoints are kept.
    """
    try:
        return _run_owned(job, out, device, report)
    except _Crowded as crowded:
        return Outcome("crowded", str(crowded))


class _Crowded(Exception):
    """No memory left on the device."""


def _run_owned(job: Job, out: Path, device: torch.device, report: Callable[[EpochReport], None]) -> Outcome:
    with _owned(job.scratch(out)) as mine:
        if not mine:
            warn(f"{job.title} is being run by another process; left to it")
            return Outcome("left")
        if job.folder(out).exists():
            return Outcome("skipped")
        try:
            _execute(job, out, device, report)
        except Exception as error:  # one model's failure must not take the others' results with it
            if _out_of_memory(error):
                raise _Crowded(". ".join(str(error).split(". ")[:2])) from None  # what, and how much was asked for
            return record_failure(job, out, error)
        job.failure(out).unlink(missing_ok=True)
        return Outcome("done")


def _out_of_memory(error: Exception) -> bool:
    """Whether a CUDA device is full; a context and the handle of a library that find no place say it their own way."""
    signs = ("CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
    told = isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)
    return isinstance(error, torch.cuda.OutOfMemoryError) or told


def record_failure(job: Job, out: Path, error: Exception) -> Outcome:
    """Say that a job failed, and leave a file that says so on the leaderboard."""
    known = isinstance(error, SurvbenchError)
    reason = str(error) if known else f"{type(error).__name__}: {error}"
    warn(f"{job.title} failed: {reason}")
    record = {
        "format": 1,
        "identity": job.identity,
        "card": job.card.public(),
        "as_registered": job.as_registered,
        "simulated": job.cohort.simulated,
        "error": reason,
        "traceback": "" if known else "".join(traceback.format_exception(error)),
    }
    _write_json(job.failure(out), record)
    return Outcome("failed", reason)


def _execute(job: Job, out: Path, device: torch.device, report: Any) -> None:
    clock = Clock(separable=device.type == "cpu")
    result = job.scratch(out) / "result"
    shutil.rmtree(result, ignore_errors=True)
    result.mkdir(parents=True)
    fitted = _train(job, device, out, result, report, clock)
    trained = clock.total
    with clock("evaluation"):
        record = _score(job, device, result)
    seconds = {"fit": trained, "evaluate": clock.total - trained}
    pd.DataFrame(fitted.history).to_parquet(result / "history.parquet")
    _write_json(
        result / "job.json",
        {
            "format": 1,
            "id": job.id,
            "identity": job.identity,
            "card": {**job.card.public(), "beside": list(job.card.beside)},
            "target": job.card.target,
            "selected": job.origin,
            "as_registered": job.as_registered,
            "simulated": job.cohort.simulated,
            "selection": {
                "rule": SELECTION_RULE,
                "split": "val",
                "epochs": fitted.selected,
                "weights": fitted.weights,
                "reused": fitted.reused,
            },
            "policy": POLICY,
            "excluded": {reason: list(patients) for reason, patients in job.cohort.excluded.items()},
            "encoder": job.cohort.bags.encoder if job.cohort.bags is not None else None,
            "versions": package_versions(),
            "hardware": hardware(device),
            "memory": peak_memory(device),
            "seconds": seconds,
            "phases": clock.seconds(),
            **record,
        },
    )
    target = job.folder(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(result, target)


@dataclass(frozen=True)
class Trained:
    """A model after its stages, with what was fitted beside it on the training split."""

    model: SurvivalModel
    objective: Objective
    scaler: ExpressionScaler | None
    fitted: FitResult
    train: Split


def train_model(
    job: Job, device: torch.device, scratch: Path, out: Path, report: Any, clock: Clock | None = None
) -> Trained:
    """Fit on train and validation. No test patient in reach.

    Parameters
    ----------
    scratch : folder of the checkpoints. out : folder of results, where shared stages are kept.
    """
    scaler = job.cohort.scaler(job.fold)
    train, val = (job_split(job, members, scaler, device) for members in (job.fold.train, job.fold.val))
    objective = build_objective(job.objective).fit(train.time, train.event)
    seed_everything((job.seed, job.fold.index))
    model = build_model(job, objective).to(device)
    fitted = fit(
        model,
        model.stages(job.card.train_inputs, job.card.inference_inputs),
        objective,
        train,
        val,
        job.settings,
        seed=(job.seed, job.fold.index),
        device=device,
        scratch=scratch,
        report=report,
        shared=SharedStages(out / "stages", job.task),
        clock=clock,
    )
    return Trained(model, objective, scaler, fitted, train)


def _train(job: Job, device: torch.device, out: Path, result: Path, report: Any, clock: Clock) -> FitResult:
    """Leave weights and fitted state in the result folder."""
    done = train_model(job, device, job.scratch(out), out, report, clock)
    weights = {name: value.contiguous() for name, value in done.model.state_dict().items()}
    save_file(weights, result / "model.safetensors")
    horizon = prediction_horizon(done.train.time, done.train.event)
    _write_json(
        result / "fitted.json",
        {
            "genes": list(job.cohort.inputs.genes),
            "inputs": {key: value for key, value in vars(job.cohort.inputs).items() if key != "genes"},
            "expression_mean": [] if done.scaler is None else done.scaler.mean.tolist(),
            "expression_scale": [] if done.scaler is None else done.scaler.scale.tolist(),
            "objective": done.objective.state(),
            "horizon": horizon,
            "grid": prediction_grid(horizon).tolist(),
        },
    )
    return done.fitted


def _score(job: Job, device: torch.device, result: Path) -> dict[str, Any]:
    """Load what training saved and predict every split; the only place where test patients are read."""
    state = json.loads((result / "fitted.json").read_text(encoding="utf-8"))
    objective = build_objective(job.objective).from_state(state["objective"])
    model = build_model(job, objective)
    model.load_state_dict(load_file(result / "model.safetensors"))
    model.to(device).eval()
    splits = {
        name: job_split(job, members, job.cohort.scaler(job.fold), device)
        for name, members in job.fold.splits().items()
    }
    logits = {
        name: _checked(job, predict_logits(model, split, job.card.inference_inputs, device), len(split))
        for name, split in splits.items()
    }
    grid, train = np.array(state["grid"]), splits["train"]
    frames = []
    for name, split in splits.items():
        curves = objective.survival(logits["train"], train.time, train.event, logits[name], grid)
        frames.append(
            pd.DataFrame(
                {
                    "patient": split.patients,
                    "split": name,
                    "time": split.time,
                    "event": split.event,
                    "risk": objective.risk(logits[name]).numpy(),
                    "survival": list(curves),
                }
            )
        )
    predictions = pd.concat(frames, ignore_index=True)
    predictions.to_parquet(result / "predictions.parquet")
    metrics = score_fold(predictions, grid, state["horizon"])
    _write_json(
        result / "metrics.json",
        {name: {"value": v.value if np.isfinite(v.value) else None, "reason": v.reason} for name, v in metrics.items()},
    )
    cost = _cost(job, model, objective)
    return {
        "risk_name": objective.risk_name,
        "risk_cut": risk_cut(predictions.loc[predictions["split"] == "train", "risk"].to_numpy()),
        "horizon": state["horizon"],
        "grid": state["grid"],
        "parameters": cost.parameters,
        "fvcore_flops": cost.fvcore_flops,
    }


_COSTS: dict[tuple[str, str, int, str], Complexity] = {}


def _cost(job: Job, model: SurvivalModel, objective: Objective) -> Complexity:
    """Counted once per model and cohort; folds and seeds have the same."""
    key = (job.card.target, json.dumps(job.config, default=list), objective.outputs, job.cohort.content_hash)
    if key not in _COSTS:
        _COSTS[key] = complexity(model, job.cohort.inputs, job.card.inference_inputs)
    return _COSTS[key]


def _checked(job: Job, logits: Tensor, patients: int) -> Tensor:
    if len(logits) != patients:
        raise BadModel(f"model {job.card.name} gave {len(logits)} predictions for {patients} patients")
    if not torch.isfinite(logits).all():
        raise BadModel(
            f"model {job.card.name} predicted NaN or infinity for "
            f"{int((~torch.isfinite(logits)).any(1).sum())} of {patients} patients"
        )
    return logits


@contextmanager
def _owned(scratch: Path) -> Iterator[bool]:
    """Whether this process may work on the job: a lock that the system frees when its holder is killed."""
    scratch.mkdir(parents=True, exist_ok=True)
    lock = scratch.with_name(f"{scratch.name}.lock")
    with lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True  # an interruption leaves from here, and keeps its checkpoints
        shutil.rmtree(scratch, ignore_errors=True)
        lock.unlink(missing_ok=True)


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1, default=list, allow_nan=False), encoding="utf-8")
    os.replace(temporary, path)
