"""Choosing settings on validation patients: each trial trains on every fold and is judged by its validation losses.

The test split is never built here, so no trial can be better for having seen it (protocol rule 2).
"""

from __future__ import annotations

import ast
import shutil
import time
from collections import Counter
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
from survbench.errors import BadConfig, SurvbenchError
from survbench.experiments import schema
from survbench.experiments.execute import train_model
from survbench.experiments.folders import tune_folder
from survbench.experiments.job import Job
from survbench.experiments.plan import Request, altered
from survbench.files import atomic_write, write_json
from survbench.foreign.yaml_text import yaml_value
from survbench.registry import Registry
from survbench.studies.trials import SharedStudy, replayed
from survbench.training.device import cpu_threads
from survbench.training.fit import EpochReport

__all__ = ["Tuning", "TuningResult", "parse_space", "tune"]

POLL_SECONDS = 0.5  # between two looks at what other processes have finished
_TRAINER_SPACE = {
    "learning_rate": {"low": 1e-5, "high": 1e-3, "log": True},
    "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
}  # for models whose card declares no space of their own


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """A search for settings of one model on one cohort.

    Attributes
    ----------
    request : its overrides hold for every trial.
    trials : that are finished when `tune` returns.
    space : parameter -> {low, high, log} or {choices}; empty takes the card's, else that of the trainer.
    name : of the study's folder.
    seed : of the sampler.

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
        if self.name in ("", "..") or "\0" in self.name or PureWindowsPath(self.name).name != self.name:  # / and \
            raise BadConfig(f"the name of a study is '{self.name}', a path", "it must be the plain name of a folder")


@dataclass(frozen=True, kw_only=True)
class TuningResult:
    """A finished study.

    Attributes
    ----------
    trials : that were finished.
    pruned : trials that were stopped after some folds.
    failed : trials that raised an error.
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


def tune(tuning: Tuning, jobs: Sequence[Job], registry: Registry, out: Path, device: torch.device) -> TuningResult:
    """Run trials until `tuning.trials` are finished, together with any other process that tunes the same.

    At most `GENERATION` processes run trials at once; the trials are the same with any number of them.

    Parameters
    ----------
    tuning : what is searched.
    jobs : of the request, planned: one per seed and fold.
    registry : where models are looked up.
    out : folder of the results.
    device : of the training.

    Raises
    ------
    BadConfig : impossible space, or a study of another question in the same place.
    SurvbenchError : no trial succeeded.
    """
    first = jobs[0]
    space = _space(tuning.space or first.card.search or _TRAINER_SPACE, first)
    shared = {key: value for key, value in first.identity.items() if key != "fold"}
    question = {**shared, "seeds_and_folds": [(job.seed, job.fold.index) for job in jobs]}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    default = _default(first, space)
    study = SharedStudy(tune_folder(out) / tuning.name, question, space, default=default, seed=tuning.seed)
    with cpu_threads(1), progress_bars() as bars:  # as `run` does; more processes share the study
        overall = bars.add_task(f"tuning {tuning.name}", total=tuning.trials)
        current = bars.add_task("", total=None, visible=False)

        def show(text: str, epoch: EpochReport) -> None:
            bars.update(current, description=text, completed=epoch.epoch, total=epoch.epochs, visible=True)

        search = _Search(study=study, jobs=jobs, registry=registry, out=out, device=device, show=show)
        while len(done := study.finished().keys() & range(tuning.trials)) < tuning.trials:
            bars.update(overall, completed=len(done))
            with study.reserve(tuning.trials) as number:
                if number is None:
                    time.sleep(POLL_SECONDS)  # a trial is free again when the process that runs it dies
                else:
                    search.run(number)
    return _conclude(study, tuning, first)


@dataclass(frozen=True, kw_only=True)
class _Search:
    """What all trials of a study have in common."""

    study: SharedStudy
    jobs: Sequence[Job]
    registry: Registry
    out: Path
    device: torch.device
    show: Callable[[str, EpochReport], None]

    def run(self, number: int) -> None:
        """One trial over all folds; how it ended is recorded."""
        trial, scratch = self.study.ask(number), self.study.folder / "scratch" / str(number)
        value, state = None, None
        try:
            value = self._mean(trial, scratch)
        except optuna.TrialPruned:
            state = TrialState.PRUNED
        except SurvbenchError as error:  # such as a learning rate that makes the loss infinite
            trial.set_user_attr("error", str(error))
            warn(f"trial {number} failed: {error}")
            state = TrialState.FAIL
        shutil.rmtree(scratch, ignore_errors=True)
        self.study.record(trial, value, state)

    def _mean(self, trial: optuna.Trial, scratch: Path) -> float:
        """Of the folds' values; after each fold but the last the trial may be pruned by the mean so far."""
        total = 0.0
        for folds, job in enumerate(self.jobs, start=1):
            total += self._fold_value(altered(job, trial.params, self.registry), scratch)
            trial.report(total / folds, folds)
            if folds < len(self.jobs) and trial.should_prune():
                raise optuna.TrialPruned
        return total / len(self.jobs)

    def _fold_value(self, job: Job, scratch: Path) -> float:
        """Lowest validation loss of the last stage; kept, so that the trial of a killed process goes on."""
        kept = self.study.folder / "folds" / f"{job.id[:24]}.json"
        if (value := _kept_value(kept)) is None:
            title = f"trial {scratch.name} {job.title}"
            checkpoints = scratch / job.id[:24]
            fitted = train_model(
                job, self.device, checkpoints, self.out, lambda epoch: self.show(epoch.describe(title), epoch)
            ).fitted
            last = fitted.history[-1]["stage"]
            value = float(min(row["val_loss"] for row in fitted.history if row["stage"] == last))
            write_json(kept, {"val_loss": value, "epochs": fitted.selected})
        return value


def _kept_value(file: Path) -> float | None:
    """None where nothing is kept, or nothing that can be read."""
    try:
        return float(schema.typed(schema.read_json(file), "val_loss", float))
    except FileNotFoundError:
        return None
    except schema.MALFORMED as error:
        warn(f"{file} cannot be read ({error}); its fold is computed again")
        return None


def _default(job: Job, space: Mapping[str, BaseDistribution]) -> dict[str, Any] | None:
    """The registered settings, which are the first trial unless they are outside the space."""
    known = {**vars(job.settings), **job.config}
    default = {key: known[key] for key in space}
    try:
        optuna.trial.create_trial(params=default, distributions=dict(space), value=0.0)
    except (TypeError, ValueError):  # out of a range, or none of the choices
        return None
    return default


def _conclude(study: SharedStudy, tuning: Tuning, job: Job) -> TuningResult:
    history, trainer = study.history(), set(vars(job.settings))
    complete = [trial for trial in history if trial.state is TrialState.COMPLETE]
    if not complete:
        reasons = [trial.user_attrs["error"] for trial in history if "error" in trial.user_attrs]
        raise SurvbenchError(f"none of {len(history)} trials of {tuning.name} succeeded: {reasons[:1]}")
    finished = replayed(history)
    best, preset = finished.best_params, study.folder / "preset.yaml"
    content = {
        "model": job.card.name,
        "cohort": job.cohort.name,
        "cohort_hash": job.cohort.content_hash,
        "endpoint": job.cohort.endpoint,
        "folds": job.scheme,
        "objective": job.objective["name"],
        "trials": len(history),
        "val_loss": finished.best_value,
        "config": {k: v for k, v in {**best, **tuning.request.overrides}.items() if k not in trainer},
        "training": vars(job.settings) | {k: v for k, v in best.items() if k in trainer},
    }
    atomic_write(preset, yaml.safe_dump(content, sort_keys=False))
    rows = [_row(number, trial) for number, trial in enumerate(history)]
    atomic_write(study.folder / "trials.csv", pd.DataFrame(rows).to_csv(index=False))
    _plots(finished, study.folder)
    states = Counter(trial.state for trial in history)
    return TuningResult(
        model=job.card.name,
        cohort=job.cohort.name,
        trials=len(history),
        pruned=states[TrialState.PRUNED],
        failed=states[TrialState.FAIL],
        value=finished.best_value,
        default=next((trial.value for trial in complete if trial.user_attrs.get("default")), None),
        settings=best,
        preset=preset,
    )


def _row(number: int, trial: FrozenTrial) -> dict[str, Any]:
    """Of trials.csv. What a pruned trial last reported is of fewer folds, and no value."""
    return {
        "trial": number,
        "state": trial.state.name.lower(),
        "val_loss": trial.value if trial.state is TrialState.COMPLETE else None,
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
        key, _, values = text.partition("=")
        choices, (*bounds, last) = values.split(","), values.split(":")
        log = last == "log"
        try:
            if len(choices) > 1:
                space[key] = {"choices": [yaml_value(choice) for choice in choices]}
            else:
                low, high = map(ast.literal_eval, bounds if log else (*bounds, last))
                space[key] = {"low": low, "high": high, "log": log}
        except (ValueError, SyntaxError, yaml.YAMLError):
            raise BadConfig(
                f"--search {text}: expected key=low:high, key=low:high:log or key=one,two,three",
                "for example --search tau=0.5:8:log",
            ) from None
    return space


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


def _space(entries: Mapping[str, Mapping[str, Any]], job: Job) -> dict[str, BaseDistribution]:
    known = {**job.config, **vars(job.settings)}
    unknown = sorted(set(entries) - set(known))
    if unknown:
        raise BadConfig(f"model {job.card.name} has no setting '{unknown[0]}'", f"its settings: {', '.join(known)}")
    return {key: _distribution(key, entry, known[key]) for key, entry in entries.items()}
