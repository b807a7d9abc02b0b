"""Choosing settings on validation patients: each trial trains on every fold and is judged by its validation losses.

The test split is never built here, so no trial can be better for having seen it (protocol rule 2).
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PureWindowsPath
from typing import Any

import optuna
import pandas as pd
import torch
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from survbench.console import note, progress_bars, warn
from survbench.data.root import DataRoot
from survbench.errors import BadConfig, SurvbenchError
from survbench.experiments.execute import train_model
from survbench.experiments.job import Job
from survbench.experiments.plan import Request, altered, plan
from survbench.files import atomic_write, write_json
from survbench.registry import Registry
from survbench.studies.trials import SharedStudy, replayed
from survbench.training.device import cpu_threads
from survbench.training.fit import EpochReport

__all__ = ["Outcome", "Tuning", "parse_space", "tune", "tune_jobs"]

POLL_SECONDS = 0.5  # between two looks at what other processes have finished
_TRAINER_SPACE = {
    "learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
    "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
}  # for models whose card declares no space of their own


@dataclass(frozen=True)
class Tuning:
    """What is searched.

    Attributes
    ----------
    request : one model on one cohort; its overrides hold for every trial.
    trials : that are to be finished when `tune` returns.
    space : empty takes the card's, else that of the trainer.
    name : of the study's folder.
    seed : of the settings that are drawn.

    Raises
    ------
    BadConfig : the name is a path.
    """

    request: Request
    trials: int
    space: Mapping[str, Mapping[str, Any]]
    name: str
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name in ("", "..") or PureWindowsPath(self.name).name != self.name:  # which knows both separators
            raise BadConfig(f"the name of a study is '{self.name}', a path", "give it the plain name of a folder")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A finished study.

    Attributes
    ----------
    value : mean over folds of the lowest validation losses.
    default : the same for the model as it is registered, where that was tried.
    settings : of the best trial.
    preset : file that `survbench run --preset` takes.
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

    At most `GENERATION` processes find something to do at once; the trials are the same with any number of them.

    Raises
    ------
    BadConfig : impossible space, or a study of another question in the same place.
    SurvbenchError : no trial succeeded.
    """
    return tune_jobs(tuning, plan(tuning.request, registry, root), registry, out, device)


def tune_jobs(tuning: Tuning, jobs: Sequence[Job], registry: Registry, out: Path, device: torch.device) -> Outcome:
    """The same for jobs that are planned already: one model and cohort, one per fold."""
    first = jobs[0]
    space = _space(tuning.space or first.card.search or _TRAINER_SPACE, first)
    about = {key: value for key, value in first.identity.items() if key not in ("fold", "code")}
    question = {**about, "seeds_and_folds": [(job.seed, job.fold.index) for job in jobs]}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    default = _default(first, space)
    study = SharedStudy(out / "tune" / tuning.name, question, space, default=default, seed=tuning.seed)
    search = _Search(study=study, jobs=jobs, registry=registry, out=out, device=device)
    with cpu_threads(1), progress_bars() as bars:  # as `run` does; more processes share the study
        overall = bars.add_task(f"tuning {tuning.name}", total=tuning.trials)
        current = bars.add_task("", total=None, visible=False)

        def show(text: str, epoch: EpochReport) -> None:
            bars.update(current, description=text, completed=epoch.epoch, total=epoch.epochs, visible=True)

        while len(done := study.finished().keys() & range(tuning.trials)) < tuning.trials:
            bars.update(overall, completed=len(done))
            with study.claim(tuning.trials) as number:
                if number is None:
                    time.sleep(POLL_SECONDS)  # should another process die, its trial is ours
                else:
                    search.run(number, show)
    return _conclude(study, tuning, first)


@dataclass(frozen=True, kw_only=True)
class _Search:
    """What all trials of a study have in common."""

    study: SharedStudy
    jobs: Sequence[Job]
    registry: Registry
    out: Path
    device: torch.device

    def run(self, number: int, show: Callable[[str, EpochReport], None]) -> None:
        """One trial over all folds, recorded whatever becomes of it."""
        trial, scratch = self.study.ask(number), self.study.folder / "scratch" / str(number)
        value, state = None, None
        try:
            value = self._mean(trial, scratch, show)
        except optuna.TrialPruned:
            state = TrialState.PRUNED
        except SurvbenchError as error:  # such as a learning rate that makes the loss infinite
            trial.set_user_attr("error", str(error))
            warn(f"trial {number} failed: {error}")
            state = TrialState.FAIL
        shutil.rmtree(scratch, ignore_errors=True)
        self.study.record(trial, value, state)

    def _mean(self, trial: optuna.Trial, scratch: Path, show: Callable[[str, EpochReport], None]) -> float:
        """Of the folds' values; after each fold but the last the trial may be pruned by the mean so far."""
        total = 0.0
        for folds, job in enumerate(self.jobs, start=1):
            total += self._fold_value(altered(job, trial.params, self.registry), scratch, show)
            trial.report(total / folds, folds)
            if folds < len(self.jobs) and trial.should_prune():
                raise optuna.TrialPruned
        return total / len(self.jobs)

    def _fold_value(self, job: Job, scratch: Path, show: Callable[[str, EpochReport], None]) -> float:
        """Lowest validation loss of the last stage; remembered, so that a trial begun by a dead process goes on."""
        kept = self.study.folder / "folds" / f"{job.id[:24]}.json"
        if (value := _remembered(kept)) is None:
            title = f"trial {scratch.name} {job.title}"
            fitted = train_model(
                job, self.device, scratch / job.id[:24], self.out, lambda epoch: show(epoch.told(title), epoch)
            ).fitted
            last = fitted.history[-1]["stage"]
            value = float(min(row["val_loss"] for row in fitted.history if row["stage"] == last))
            write_json(kept, {"val_loss": value, "epochs": fitted.selected})
        return value


def _remembered(kept: Path) -> float | None:
    """None where nothing is, or nothing that can be read."""
    try:
        value = json.loads(kept.read_text(encoding="utf-8"))["val_loss"]
        if not isinstance(value, float) or not math.isfinite(value):
            raise TypeError(f"val_loss is {value}")
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError) as error:
        warn(f"{kept} cannot be read ({error}); its fold is computed again")
        return None
    return value


def _default(job: Job, space: Mapping[str, BaseDistribution]) -> dict[str, Any] | None:
    """The registered settings, which are tried first so that the winner can be compared with them, if they can be."""
    known = {**vars(job.settings), **job.config}
    default = {key: known[key] for key in space}
    try:
        optuna.trial.create_trial(params=default, distributions=dict(space), value=0.0)
    except (TypeError, ValueError):  # out of a range, or none of the choices
        return None
    return default


def _conclude(study: SharedStudy, tuning: Tuning, job: Job) -> Outcome:
    finished, trainer = study.history(), set(vars(job.settings))
    complete = [t for t in finished if t.state is TrialState.COMPLETE]
    if not complete:
        reasons = [t.user_attrs["error"] for t in finished if "error" in t.user_attrs]
        raise SurvbenchError(f"none of {len(finished)} trials of {tuning.name} succeeded: {reasons[:1]}")
    best = min(complete, key=_value)
    default = [_value(t) for t in complete if t.user_attrs.get("default")]
    preset = study.folder / "preset.yaml"
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
    atomic_write(preset, yaml.safe_dump(content, sort_keys=False))
    rows = [_row(number, trial) for number, trial in enumerate(finished)]
    atomic_write(study.folder / "trials.csv", pd.DataFrame(rows).to_csv(index=False))
    _plots(replayed(finished), study.folder)
    return Outcome(
        model=job.card.name,
        cohort=job.cohort.name,
        trials=len(finished),
        pruned=sum(t.state is TrialState.PRUNED for t in finished),
        failed=sum(t.state is TrialState.FAIL for t in finished),
        value=_value(best),
        default=default[0] if default else None,
        settings=best.params,
        preset=preset,
    )


def _value(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value


def _row(number: int, trial: FrozenTrial) -> dict[str, Any]:
    """Of trials.csv. What a pruned trial last reported is of fewer folds, and no value."""
    complete = trial.state is TrialState.COMPLETE
    return {
        "trial": number,
        "state": trial.state.name.lower(),
        "val_loss": trial.value if complete else None,
        **trial.params,
        "default": bool(trial.user_attrs.get("default")),
        "error": trial.user_attrs.get("error"),
    }


def _plots(study: optuna.Study, folder: Path) -> None:
    """history.png and importance.png; importance needs several complete trials that differ."""
    import warnings

    import matplotlib as mpl
    from matplotlib import pyplot as plt
    from optuna.visualization import matplotlib as shown

    drawings: dict[str, Callable[[optuna.Study], Any]] = {
        "history": shown.plot_optimization_history,
        "importance": shown.plot_param_importances,
    }
    with ExitStack() as after, warnings.catch_warnings(), mpl.rc_context():  # they set a style for all figures
        after.callback(mpl.use, mpl.get_backend(), force=False)  # a notebook's, or one that has no display here
        mpl.use("Agg")
        warnings.simplefilter("ignore")  # optuna calls these functions experimental
        for name, draw in drawings.items():
            try:
                axes = draw(study)
            except (ValueError, RuntimeError) as reason:
                note(f"no plot of {name}: {str(reason).splitlines()[0]}")
                continue
            axes.set_title(f"{axes.get_title()} (validation loss)", fontsize="medium")
            image = BytesIO()
            axes.figure.savefig(image, dpi=150, bbox_inches="tight")
            atomic_write(folder / f"{name}.png", image.getvalue())
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
