"""Running one job: train, then load the saved weights and score, then let the result appear by one rename.

What is done is skipped, what was killed goes on, what fails is recorded. Which job runs when and where: executors/.
"""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from survbench.complexity.count import complexity
from survbench.console import warn
from survbench.data.batches import Split
from survbench.data.cohort import POLICY, ExpressionScaler
from survbench.errors import BadModel, SurvbenchError
from survbench.evaluation.groups import risk_cut
from survbench.evaluation.metrics import prediction_grid, prediction_horizon, score_fold
from survbench.experiments.cohort_labels import write_cohort
from survbench.experiments.folders import failure_file, scratch_folder, stages_folder
from survbench.experiments.job import Job, JobSpec
from survbench.experiments.plan import job_split
from survbench.experiments.results import FittedState, JobResult, ResultWriter, write_failure
from survbench.experiments.trained_models import build_model, build_objective
from survbench.experiments.versions import package_versions
from survbench.files import lock
from survbench.model import Objective, SurvivalModel
from survbench.training.clock import Clock
from survbench.training.device import cpu_threads, hardware, peak_memory
from survbench.training.fit import EpochReport, FitResult, fit
from survbench.training.settings import SELECTION_RULE
from survbench.training.stage_cache import StageCache
from survbench.training.steps import predict_logits, seed_everything

__all__ = ["Outcome", "Trained", "out_of_memory", "record_failure", "run_job", "run_spec", "train_model"]


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes
    ----------
    status : done; skipped: it was done before. failed: recorded as such. lost: it failed and is not on record.
        crowded: no memory was left on the device. left: another process runs it.
    reason : why it was not done.
    traceback : of an error that no user can mend.
    """

    status: Literal["done", "skipped", "failed", "lost", "left", "crowded"]
    reason: str = ""
    traceback: str = ""

    @classmethod
    def of(cls, error: Exception) -> Outcome:
        """Lost because of an error."""
        if isinstance(error, SurvbenchError):
            return cls("lost", str(error))
        return cls("lost", f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))


def run_spec(spec: JobSpec, report: Callable[[EpochReport], None]) -> Outcome:
    """Run the job of a spec in this process; anything that can call this can run jobs.

    A job whose code or data changed since it was planned is lost.
    """
    with cpu_threads(spec.threads):
        try:
            job = spec.load()
        except Exception as error:
            return Outcome.of(error)
        return run_job(job, Path(spec.out), torch.device(spec.device), report)


def run_job(job: Job, out: Path, device: torch.device, report: Callable[[EpochReport], None]) -> Outcome:
    """Run a job unless it is done, or another process runs it.

    Where the device has no memory left, the caller decides whether the job failed, who knows what ran beside it; its
    checkpoints are kept.
    """
    scratch = scratch_folder(job, out)
    with lock(scratch, wait=False) as locked:
        if not locked:
            warn(f"{job.title} is being run by another process; left to it")
            return Outcome("left")
        outcome = _try(job, out, device, report)
        if outcome.status != "crowded":  # after an interruption we don't get here, so it keeps its checkpoints, too
            shutil.rmtree(scratch, ignore_errors=True)
        return outcome


def _try(job: Job, out: Path, device: torch.device, report: Callable[[EpochReport], None]) -> Outcome:
    try:
        if JobResult.is_done(job, out):
            return Outcome("skipped")
        _execute(job, out, device, report)
    except Exception as error:  # one model's failure must not take the others' results with it
        if out_of_memory(error):
            return Outcome("crowded", ". ".join(str(error).split(". ")[:2]))  # what, and how much was needed
        return record_failure(job, out, Outcome.of(error))
    failure_file(job, out).unlink(missing_ok=True)
    return Outcome("done")


def out_of_memory(error: Exception) -> bool:
    """Whether a CUDA device is full; contexts and libraries without memory raise errors of their own."""
    signs = ("CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
    full = isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)
    return isinstance(error, torch.cuda.OutOfMemoryError) or full


def record_failure(job: Job, out: Path, lost: Outcome) -> Outcome:
    """Warn that a job failed, and record it, so that boards show it."""
    warn(f"{job.title} failed: {lost.reason}")
    write_failure(job, out, lost.reason, lost.traceback)
    return replace(lost, status="failed")


def _execute(job: Job, out: Path, device: torch.device, report: Any) -> None:
    clock = Clock(separable=device.type == "cpu")
    writer = ResultWriter(job, out)
    fitted = _train(job, device, out, writer, report, clock)
    trained = clock.total
    with clock("evaluation"):
        record = _score(job, device, writer)
    seconds = {"fit": trained, "evaluate": clock.total - trained}
    writer.save_history(fitted.history)
    write_cohort(job.cohort, out)
    writer.finish(
        {
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
        }
    )


@dataclass(frozen=True, kw_only=True)
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
    job : with its data.
    device : of the training.
    scratch : folder of the checkpoints.
    out : folder of results, where shared stages are kept.
    report : called after each epoch.
    clock : that measures the phases.
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
        stage_cache=StageCache(stages_folder(out), job.task),
        clock=clock,
    )
    return Trained(model=model, objective=objective, scaler=scaler, fitted=fitted, train=train)


def _train(job: Job, device: torch.device, out: Path, writer: ResultWriter, report: Any, clock: Clock) -> FitResult:
    """Leave weights and fitted state in the result folder."""
    done = train_model(job, device, scratch_folder(job, out), out, report, clock)
    horizon = prediction_horizon(done.train.time, done.train.event)
    state = FittedState(
        inputs=job.cohort.inputs,
        scaler=done.scaler,
        objective=done.objective.state(),
        horizon=horizon,
        grid=tuple(prediction_grid(horizon).tolist()),
    )
    writer.save_model(done.model.state_dict(), state)
    return done.fitted


def _score(job: Job, device: torch.device, writer: ResultWriter) -> dict[str, Any]:
    """Load what training saved and predict every split; the only place where test patients are read."""
    weights, state = writer.load_model()
    objective = build_objective(job.objective).from_state(state.objective)
    model = build_model(job, objective)
    model.load_state_dict(weights)
    model.to(device).eval()
    splits = {
        name: job_split(job, members, job.cohort.scaler(job.fold), device)
        for name, members in job.fold.splits().items()
    }
    logits = {
        name: _checked(job, predict_logits(model, split, job.card.inference_inputs, device), len(split))
        for name, split in splits.items()
    }
    grid, train = np.array(state.grid), splits["train"]
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
    metrics = score_fold(predictions, grid, state.horizon)
    writer.save_predictions(predictions, {name: (v.value, v.reason) for name, v in metrics.items()})
    cost = complexity(model, job.cohort.inputs, job.card.inference_inputs)
    return {
        "risk_name": objective.risk_name,
        "risk_cut": risk_cut(predictions.loc[predictions["split"] == "train", "risk"].to_numpy()),
        "horizon": state.horizon,
        "grid": list(state.grid),
        "parameters": cost.parameters,
        "fvcore_flops": cost.fvcore_flops,
    }


def _checked(job: Job, logits: Tensor, patients: int) -> Tensor:
    if len(logits) != patients:
        raise BadModel(f"model {job.card.name} gave {len(logits)} predictions for {patients} patients")
    if not torch.isfinite(logits).all():
        raise BadModel(
            f"model {job.card.name} predicted NaN or infinity for "
            f"{int((~torch.isfinite(logits)).any(1).sum())} of {patients} patients"
        )
    return logits
