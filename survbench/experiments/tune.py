"""Choosing settings on validation patients: each trial trains on every fold and is judged by its validation losses.

The test split is never built here, so no trial can be better for having seen it (protocol rule 2).
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import torch
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from survbench.console import note, progress_bars, warn
from survbench.data.root import DataRoot
from survbench.errors import BadConfig, SurvbenchError
from survbench.experiments.build import build_model, build_objective
from survbench.experiments.execute import train_model
from survbench.experiments.job import Job
from survbench.experiments.plan import Request, altered, plan
from survbench.experiments.trials import SharedStudy
from survbench.registry import Registry
from survbench.training.device import cpu_threads
from survbench.training.fit import EpochReport

__all__ = ["Outcome", "Tuning", "parse_space", "tune", "tune_jobs"]

WARM_TRIALS = 5  # pruning compares with at least this many
_TRAINER_SPACE = {
    "learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
    "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
}  # for models whose card declares no space of their own


@dataclass(frozen=True)
class Tuning:
    """What is searched.

    Attributes
    ----------
    request : one model on one cohort; its overrides hold for every trial. space : empty takes the card's, else that of
    the trainer. name : of the study's folder.
    """

    request: Request
    trials: int
    space: Mapping[str, Mapping[str, Any]]
    name: str
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """A finished study.

    Attributes
    ----------
    preset : file that `survbench run --preset` takes. value : mean over folds of the lowest validation losses.
    default : the same for the model as it is registered, where that was tried.
    """

    model: str
    cohort: str
    trials: int
    pruned: int
    failed: int
    value: float
    default: float | None
    settings: Mapping[str, Any]
    preset: Path


def tune(tuning: Tuning, registry: Registry, root: DataRoot, out: Path, device: torch.device) -> Outcome:
    """Run trials until `tuning.trials` are over, together with any other process that tunes the same.

    Raises
    ------
    BadConfig : impossible space, or a study of another question in the same place.
    SurvbenchError : no trial succeeded.
    """
    return tune_jobs(tuning, plan(tuning.request, registry, root), registry, out, device)


def tune_jobs(tuning: Tuning, jobs: Sequence[Job], registry: Registry, out: Path, device: torch.device) -> Outcome:
    """The same for jobs that are planned already: one model and cohort, one per fold."""
    folder, first = out / "tune" / tuning.name, jobs[0]
    given = tuning.space or first.card.search or _TRAINER_SPACE
    space = _space(given, first)
    about = {key: value for key, value in first.identity.items() if key not in ("fold", "code")}
    task = {"job": about, "space": {k: optuna.distributions.distribution_to_json(d) for k, d in space.items()}}
    pruner = optuna.pruners.MedianPruner(n_startup_trials=WARM_TRIALS, n_warmup_steps=first.settings.epochs)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = SharedStudy(folder, json.loads(json.dumps(task, default=list)), space, seed=tuning.seed, pruner=pruner)
    try:
        _enqueue_default(study, first, space)
        with cpu_threads(1):  # as `run` does; more processes share the study
            _work(study, tuning, jobs, registry, out, device)
    finally:
        study.close()
    return _conclude(study, tuning, first, folder)


def _work(
    study: SharedStudy, tuning: Tuning, jobs: Sequence[Job], registry: Registry, out: Path, device: torch.device
) -> None:
    with progress_bars() as bars:
        overall = bars.add_task(f"tuning {tuning.name}", total=tuning.trials)
        current = bars.add_task("", total=None, visible=False)
        while True:
            bars.update(overall, completed=len(study.finished()))
            trial = study.claim(tuning.trials)
            if trial is None:
                if len(study.finished()) >= tuning.trials:
                    return
                time.sleep(0.5)  # others are at the last ones; should one of them die, its trial is ours
                continue

            def show(text: str, epoch: EpochReport) -> None:
                bars.update(current, description=text, completed=epoch.epoch, total=epoch.epochs, visible=True)

            _try(trial, study, [altered(job, trial.params, registry) for job in jobs], out, device, show)


def _try(
    trial: optuna.Trial,
    study: SharedStudy,
    jobs: Sequence[Job],
    out: Path,
    device: torch.device,
    show: Callable[[str, EpochReport], None],
) -> None:
    """One trial over all folds, told to the study whatever happens to it."""
    values: list[float] = []
    try:
        for number, job in enumerate(jobs):
            values.append(_fold_value(job, trial, number, values, study.folder, out, device, show))
    except optuna.TrialPruned:
        study.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    except SurvbenchError as error:  # such as a learning rate that makes the loss infinite
        trial.set_user_attr("error", str(error))
        warn(f"trial {trial.number} failed: {error}")
        study.study.tell(trial, state=optuna.trial.TrialState.FAIL)
    else:
        trial.set_user_attr("folds", values)
        study.study.tell(trial, sum(values) / len(values))
    for job in jobs:
        shutil.rmtree(_scratch(study.folder, job), ignore_errors=True)


def _fold_value(
    job: Job,
    trial: optuna.Trial,
    number: int,
    before: Sequence[float],
    folder: Path,
    out: Path,
    device: torch.device,
    show: Callable[[str, EpochReport], None],
) -> float:
    """Lowest validation loss of the last stage; remembered, so that a trial begun by a dead process goes on.

    Reported to the pruner after each of that stage's epochs as the mean over the folds so far.
    """
    kept = folder / "folds" / f"{job.id[:24]}.json"
    last, best = _last_stage(job), float("inf")

    def report(epoch: EpochReport) -> None:
        nonlocal best
        show(epoch.told(f"trial {trial.number} {job.title}"), epoch)
        if epoch.stage != last:
            return
        best = min(best, epoch.val_loss)
        trial.report((sum(before) + best) / (number + 1), number * job.settings.epochs + epoch.epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    if kept.exists():
        return float(json.loads(kept.read_text(encoding="utf-8"))["val_loss"])
    fitted = train_model(job, device, _scratch(folder, job), out, report).fitted
    value = min(row["val_loss"] for row in fitted.history if row["stage"] == last)
    kept.parent.mkdir(parents=True, exist_ok=True)
    temporary = kept.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps({"val_loss": value, "epochs": fitted.selected}), encoding="utf-8")
    os.replace(temporary, kept)
    return value


def _last_stage(job: Job) -> str:
    model = build_model(job, build_objective(job.objective))
    return model.stages(job.card.train_inputs, job.card.inference_inputs)[-1].name


def _scratch(folder: Path, job: Job) -> Path:
    return folder / "scratch" / job.id[:24]


def _enqueue_default(study: SharedStudy, job: Job, space: Mapping[str, BaseDistribution]) -> None:
    """The registered settings are a trial like the others, the first, so that the winner can be compared with them."""
    known = {**vars(job.settings), **job.config}
    default = {key: known[key] for key in space}
    if all(d._contains(d.to_internal_repr(default[key])) for key, d in space.items()):
        study.enqueue_first(default)


def _conclude(study: SharedStudy, tuning: Tuning, job: Job, folder: Path) -> Outcome:
    finished = study.finished()
    complete = [t for t in finished if t.state is optuna.trial.TrialState.COMPLETE]
    if not complete:
        reasons = [t.user_attrs["error"] for t in finished if "error" in t.user_attrs]
        raise SurvbenchError(f"none of {len(finished)} trials of {tuning.name} succeeded: {reasons[:1]}")
    best = min(complete, key=lambda t: float(t.value or 0.0))
    default = [t for t in complete if t.user_attrs.get("default")]
    preset = folder / "preset.yaml"
    trainer = set(vars(job.settings))
    content = {
        "model": job.card.name,
        "cohort": job.cohort.name,
        "cohort_hash": job.cohort.content_hash,
        "endpoint": job.cohort.endpoint,
        "folds": job.scheme,
        "objective": job.objective["name"],
        "trials": len(finished),
        "val_loss": best.value,
        "config": {k: v for k, v in best.params.items() if k not in trainer}
        | {k: v for k, v in tuning.request.overrides.items() if k not in trainer},
        "training": vars(job.settings) | {k: v for k, v in best.params.items() if k in trainer},
    }
    temporary = preset.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    os.replace(temporary, preset)
    rows = [
        {"trial": t.number, "state": t.state.name.lower(), "val_loss": _value(t), **t.params, **_about(t)}
        for t in finished
    ]
    pd.DataFrame(rows).to_csv(folder / "trials.csv", index=False)
    _plots(study.study, folder)
    return Outcome(
        job.card.name,
        job.cohort.name,
        len(finished),
        sum(t.state is optuna.trial.TrialState.PRUNED for t in finished),
        sum("error" in t.user_attrs for t in finished),
        float(best.value or 0.0),
        float(default[0].value) if default and default[0].value is not None else None,
        best.params,
        preset,
    )


def _value(trial: optuna.trial.FrozenTrial) -> float | None:
    """What a pruned trial last reported is of fewer folds, and no value."""
    return trial.value if trial.state is optuna.trial.TrialState.COMPLETE else None


def _about(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    seconds = trial.duration.total_seconds() if trial.duration else None
    return {
        "seconds": seconds,
        "default": bool(trial.user_attrs.get("default")),
        "error": trial.user_attrs.get("error"),
    }


def _plots(study: optuna.Study, folder: Path) -> None:
    """history.png and importance.png; importance needs several complete trials that differ."""
    import warnings

    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from optuna.visualization import matplotlib as shown

    drawings: dict[str, Callable[[optuna.Study], Any]] = {
        "history": shown.plot_optimization_history,
        "importance": shown.plot_param_importances,
    }
    for name, draw in drawings.items():
        with warnings.catch_warnings(), mpl.rc_context():  # they set a style for all figures of the process
            warnings.simplefilter("ignore")  # optuna calls these functions experimental
            try:
                axes = draw(study)
            except (ValueError, RuntimeError) as reason:
                note(f"no plot of {name}: {str(reason).splitlines()[0]}")
                continue
            axes.set_title(f"{axes.get_title()} (validation loss)", fontsize="medium")
            axes.figure.savefig(folder / f"{name}.png", dpi=150, bbox_inches="tight")
            plt.close(axes.figure)


def parse_space(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`alpha=0:1`, `tau=0.5:8:log`, `heads=1:8`, `pooling=gated,mean` as entries of a search space."""
    space: dict[str, dict[str, Any]] = {}
    for text in texts:
        key, equals, given = text.partition("=")
        bounds, choices = given.split(":"), given.split(",")
        try:
            if len(choices) > 1:
                space[key] = {"choices": [yaml.safe_load(choice) for choice in choices]}
                continue
            low, high = (_number(bound) for bound in bounds[:2])
            if not equals or len(bounds) > 3 or (len(bounds) == 3 and bounds[2] != "log"):
                raise ValueError
            space[key] = {"low": low, "high": high, "log": len(bounds) == 3}
        except (ValueError, TypeError, yaml.YAMLError):
            raise BadConfig(
                f"--search {text}: expected key=low:high, key=low:high:log or key=one,two,three",
                "for example --search tau=0.5:8:log",
            ) from None
    return space


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _distribution(key: str, entry: Mapping[str, Any], current: Any) -> BaseDistribution:
    """A range of whole numbers where the setting is one now, otherwise of any."""
    try:
        if "choices" in entry:
            return CategoricalDistribution(list(entry["choices"]))
        low, high, log = entry["low"], entry["high"], bool(entry.get("log", False))
        if isinstance(current, int) and not isinstance(current, bool):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(float(low), float(high), log=log)
    except (KeyError, TypeError, ValueError) as error:
        raise BadConfig(
            f"search space of {key} is {dict(entry)} ({error})", "give low and high (and log), or choices"
        ) from None


def _space(given: Mapping[str, Mapping[str, Any]], job: Job) -> dict[str, BaseDistribution]:
    known = {**job.config, **vars(job.settings)}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise BadConfig(f"model {job.card.name} has no setting '{unknown[0]}'", f"its settings: {', '.join(known)}")
    return {key: _distribution(key, entry, known[key]) for key, entry in given.items()}
