"""Calls that start jobs: training, tuning, ablations, and what they would cost.

Arguments are checked in setup.py and experiments/plan.py; what the jobs compute is in experiments/ and studies/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from survbench.api import arguments
from survbench.api.arguments import Choice, Data, Models, Names, Numbers, Place, Registries, renamed
from survbench.api.results import Results
from survbench.api.setup import (
    OUT,
    SCHEME,
    Setup,
    make_out,
    open_setup,
    patterns,
    read_registry,
)
from survbench.console import note, track, warn
from survbench.errors import BadConfig
from survbench.registry import load_registry

if TYPE_CHECKING:
    import pandas as pd

    from survbench.complexity.measure import Cost
    from survbench.data.cohort import Cohort
    from survbench.experiments.forecast import Forecast
    from survbench.experiments.job import Job
    from survbench.experiments.plan import Request
    from survbench.studies.ablation import Study
    from survbench.studies.transfer import Transfer
    from survbench.studies.tuning import TuningResult

__all__ = ["Ablation", "TransferStudy", "ablate", "estimate", "measure_costs", "run", "study_transfer", "tune"]


@renamed(folds="scheme")
def run(
    models: Models,
    cohorts: Names = "all",
    *,
    data: Data = None,
    out: Place = OUT,
    endpoint: str | None = None,
    scheme: str = SCHEME,
    only_folds: Numbers = (),
    seeds: Numbers = 0,
    objective: str = "cox",
    preset: Place | None = None,
    settings: Choice = None,
    test: str | None = None,
    allow_other_scale: bool = False,
    device: str = "auto",
    workers: int | None = None,
    threads: int | None = None,
    mlflow: bool | Place = False,
    registry: Registries = (),
) -> Results:
    """Train models on every fold of every cohort and score them on patients they never saw.

    What is done is skipped, what was interrupted goes on where it stopped. A job that fails does not raise: `failed` of
    the results lists it.

    Parameters
    ----------
    models : names, wildcards, `all`, files (`my_model.py`) or classes of a module that can be imported.
    cohorts : names, wildcards or `all`.
    data : data root; None is the demo, whose patients are simulated.
    out : folder of the results.
    endpoint : os, dss, pfi, ... as the cohorts have them; None is os.
    scheme : of the folds: event-stratified, site-preserving, or imported ones such as `official`.
    only_folds : numbers of the outer folds to run; none means all.
    seeds : one run per seed; claims need three.
    objective : cox (Efron ties), cox-breslow or nll (discrete time).
    preset : named settings: of the registry (`rehearsal`), `tuned`, or a file that `tune` wrote.
    settings : of the models or the trainer, by name.
    test : cohort to which the models, trained on one other cohort, are applied frozen.
    allow_other_scale : whether its expression may be on another scale; the rows then say so.
    device : auto, cpu, cuda, cuda:1 or mps.
    workers : processes that run jobs side by side; None is as many as the machine bears.
    threads : CPU threads of each job, on which last digits depend; None is 1.
    mlflow : mirror results in MLflow: at this address, or with True at MLFLOW_TRACKING_URI or in `out`.
    registry : registry files of your own.

    Returns
    -------
    The results of these models, cohorts, endpoint and folds.

    Raises
    ------
    UnknownName : of a model, cohort, fold, preset or objective.
    BadConfig : settings that cannot be.
    BadModel : a model that cannot be used, such as a class that is defined in a notebook.
    KeyboardInterrupt : nothing is lost; the same call goes on.

    Examples
    --------
    >>> results = survbench.run(["abmil", "snn"], "stad", preset="rehearsal")
    >>> results.leaderboard()[["model", "mean", "sd"]]
    """
    setup = open_setup(**locals())
    jobs, external = _plan(setup, test, allow_other_scale)
    request = setup.request
    task = (",".join(request.cohorts), request.endpoint, request.scheme, setup.root.name)
    summary, mirror = setup.run(jobs, (",".join(request.models), *task))
    if external is not None:
        from survbench.studies.external_validation import apply_frozen

        apply_frozen(jobs, external, setup.out, setup.device)
    results = setup.results(jobs, summary)
    if mlflow:
        from survbench.report.tables import to_markdown

        mirror.attach_text("leaderboard.md", to_markdown(results.board))
    return results


@renamed(folds="scheme")
def estimate(models: Models, cohorts: Names = "all", *, test: str | None = None, **options: Any) -> Forecast:
    """What `run` would take for the jobs that remain, from a few timed steps of each; nothing is written.

    Parameters
    ----------
    models : as of `run`.
    cohorts : as of `run`.
    test : as of `run`.
    options : as of `run`.
    """
    from survbench.experiments.forecast import estimate

    setup = open_setup(models=models, cohorts=cohorts, test=test, **options)
    jobs, _ = _plan(setup, test, options.get("allow_other_scale", False))
    return estimate(jobs, setup.out, setup.device, workers=setup.workers, threads=setup.threads)


@renamed(folds="scheme")
def tune(
    models: Models,
    cohorts: Names = "all",
    *,
    trials: int = 50,
    search: Mapping[str, Mapping[str, Any]] | None = None,
    name: str | None = None,
    **options: Any,
) -> list[TuningResult]:
    """Choose settings by the validation splits alone: mean over folds of the lowest validation loss.

    Processes that tune the same share the study. `run(..., preset="tuned")` uses the winner.

    Parameters
    ----------
    models : as of `run`.
    cohorts : as of `run`.
    trials : of each model on each cohort.
    search : setting -> {low, high, log} or {choices}; None takes what the model's card declares.
    name : folder of the study below OUT/tune, of one model on one cohort.
    options : as of `run`.

    Returns
    -------
    The winner of each model on each cohort; of several, those that are refused are left out with a warning.

    Raises
    ------
    BadConfig : impossible space, or a study of another question in the same place.
    SurvbenchError : no trial succeeded.
    KeyboardInterrupt : nothing is lost; the same call goes on.

    Examples
    --------
    >>> (best,) = survbench.tune("abmil", "stad", trials=20, search={"width": {"choices": [128, 256]}})
    >>> best.settings
    """
    setup = open_setup(starts_jobs=False, models=models, cohorts=cohorts, test=None, **options)
    from survbench.experiments.plan import plan, tuned_name
    from survbench.studies import tuning

    pairs = setup.pairs()
    space, number = arguments.mapping(search, "search"), arguments.whole(trials, "trials", 1)
    for key, entry in space.items():
        arguments.of_kind(entry, f"search of {key}", "{'low': ..., 'high': ...} or {'choices': [...]}", Mapping)
    if arguments.text(name, "name", type(None)) is not None and len(pairs) > 1:
        raise BadConfig(f"--name {name} for {len(pairs)} studies", "name one model and one cohort")
    make_out(setup.out)

    def of(request: Request) -> TuningResult:
        folder = tuned_name(request.models[0], request.cohorts[0], request.endpoint, request.scheme)
        folder, seed = folder if name is None else name, request.seeds[0]
        search = tuning.Tuning(request=request, trials=number, space=space, name=folder, seed=seed)
        jobs = plan(request, setup.registry, setup.root)
        return tuning.tune(search, jobs, setup.registry, setup.out, setup.device)

    try:
        return [winner for _, winner in setup.each(of)]
    except KeyboardInterrupt:
        note("\ninterrupted; nothing is lost: the same command goes on with the trial that was under way")
        raise


@dataclass(frozen=True, kw_only=True, repr=False)
class Ablation:
    """A finished study of one model.

    Attributes
    ----------
    study : its arms.
    frame : a row per arm and cohort, see `study_frame`; empty where no arm has all its folds yet.
    folder : of table, plot and settings; None where the frame is empty.
    results : of the model.
    """

    study: Study
    frame: pd.DataFrame
    folder: Path | None
    results: Results

    def __repr__(self) -> str:
        return f"{self.study.model.title}: {self.study.title}, {len(self.study.arms)} arms\n{self.results!r}"


@renamed(folds="scheme")
def ablate(study: str, model: str | None = None, cohorts: Names = "all", **options: Any) -> Ablation:
    """Change one thing at a time, everything else equal, and measure what it does, with the uncertainty.

    Table, plot and settings are written to OUT/studies.

    Parameters
    ----------
    study : losses, alpha, temperature, teacher, targets; a model's card lists them.
    model : whose study, where several models have one of that name.
    cohorts : as of `run`.
    options : as of `run`.

    Raises
    ------
    UnknownName : no such study.
    BadConfig : a setting that the study itself changes.

    Examples
    --------
    >>> survbench.ablate("alpha", cohorts="stad", seeds=[0, 1, 2]).frame
    """
    setup = open_setup(models=(), cohorts=cohorts, test=None, **options)
    from survbench.report.studies import write_study
    from survbench.studies.ablation import all_jobs, find_study, plan_study, study_frame

    chosen = find_study(arguments.text(study, "study"), arguments.text(model, "model", type(None)), setup.registry)
    request = replace(setup.request, models=[chosen.model.name])
    jobs = plan_study(chosen, request, setup.registry, setup.root)
    task = (",".join(request.cohorts), request.endpoint, request.scheme)
    every = all_jobs(jobs)
    summary, mirror = setup.run(every, (f"{chosen.model.name} study {chosen.name}", *task))
    frame, folder = study_frame(chosen, jobs, setup.out), None
    if not frame.empty:
        name = "-".join((chosen.model.name, chosen.name, setup.root.name, request.endpoint, request.scheme))
        folder = setup.out / "studies" / name
        write_study(chosen, frame, {"data": setup.root.name, **vars(request)}, folder)
        mirror.attach_files(*(file for file in sorted(folder.iterdir()) if file.suffix in (".md", ".png")))
    return Ablation(study=chosen, frame=frame, folder=folder, results=setup.results(every, summary))


@dataclass(frozen=True)
class TransferStudy:
    """A finished transfer study.

    Attributes
    ----------
    map : of when distillation pays.
    folder : of tables and plot.
    failed : a line for each job that failed.
    """

    map: Transfer
    folder: Path
    failed: tuple[str, ...]


@renamed(folds="scheme")
def study_transfer(
    model: str | None = None,
    *,
    traces: Sequence[float] = (0, 0.5, 1, 2),
    patients: Sequence[int] = (120, 300),
    event_rates: Sequence[float] = (0.2, 0.5),
    replicates: int = 3,
    **options: Any,
) -> TransferStudy:
    """When does distillation pay? Sweep traces in slides, cohort size and event rate where the truth is known.

    Parameters
    ----------
    model : one whose card puts other models beside it; None is the one registered.
    traces : strengths of the traces; 1 is the demo's.
    patients : sizes of the cohorts.
    event_rates : shares of patients who die.
    replicates : cohorts of each kind.
    options : as of `run`, without what names data; nothing is mirrored in MLflow.
    """
    from survbench.report.studies import write_transfer
    from survbench.studies.transfer import Grid, find_student, plan_transfer, simulated_root, transfer_map

    card = find_student(model, load_registry(arguments.paths(options.get("registry", ()), "registry")))
    grid, out = Grid(traces, patients, event_rates, replicates), arguments.path(options.get("out", OUT), "out")
    make_out(out)
    root = simulated_root(grid, out)
    fixed = {"data": root.path, "endpoint": "os", "mlflow": False}
    setup = open_setup(models=(), cohorts="all", test=None, **{**options, **fixed})
    jobs = plan_transfer(grid, replace(setup.request, models=[card.name]), setup.registry, setup.root)
    every = [job for of in jobs.values() for job in of]
    summary, _ = setup.run(every, (f"{card.name} study transfer",))
    folder = out / "studies" / f"{card.name}-transfer"
    swept = transfer_map(jobs, card, root, out)
    write_transfer(swept, folder)
    return TransferStudy(swept, folder, tuple(summary.failed))


def measure_costs(
    models: Models = "all", *, patches: int = 4096, pathways: int = 331, device: str = "cpu", registry: Registries = ()
) -> list[Cost]:
    """Parameters, operations, memory and time of each model for one patient; models that fail are named and left out.

    Parameters
    ----------
    models : names, wildcards, files or classes.
    patches : of the one patient.
    pathways : with 29 genes on average.
    device : auto, cpu, cuda, cuda:1 or mps.
    registry : registry files of your own.
    """
    known = read_registry(registry)
    cards = known.select_models(patterns(models, known))
    from survbench.complexity.measure import measure_apart
    from survbench.experiments.executors.local import TaskFailed, call
    from survbench.training.device import resolve_device

    costs, where = [], str(resolve_device(device))
    for card in track(cards, "measuring"):
        try:
            costs.append(measure_apart(card, patches, pathways, where, call))
        except TaskFailed as error:  # one model's failure must not hide the others' costs
            warn(f"{card.name} could not be measured: {error}")
    return costs


def _plan(setup: Setup, test: str | None, allow_other_scale: bool = False) -> tuple[list[Job], Cohort | None]:
    """Jobs, and the cohort for external validation; it is refused now if the models cannot be applied to it."""
    from survbench.data import cohort
    from survbench.experiments.plan import plan
    from survbench.studies.external_validation import check_external

    arguments.filled(setup.request.models, "models")
    jobs = plan(setup.request, setup.registry, setup.root)
    if test is None:
        return jobs, None
    (chosen, *more) = setup.registry.select_cohorts([arguments.text(test, "test")], setup.root.cohorts())
    if more or len({job.cohort.name for job in jobs}) > 1:
        raise BadConfig("--train and --test name one cohort each", "give one command for each pair")
    external = cohort.load_cohort(setup.root, chosen, jobs[0].cohort.endpoint)
    check_external(jobs, external, allow_other_scale=allow_other_scale)
    return jobs, external
