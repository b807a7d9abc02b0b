"""What can be asked for from Python: the commands call these functions, too.

Arguments are read and checked here and in experiments/plan.py; what they start is elsewhere. Importing this is light.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

from survbench.api.arguments import (
    filled,
    mapping,
    names,
    numbers,
    of_kind,
    path,
    paths,
    renamed,
    text,
    whole,
    writing,
)
from survbench.api.results import Results, with_job
from survbench.console import note, track, warn
from survbench.errors import BadConfig, SurvbenchError, UnknownName
from survbench.registry import Registry, load_registry, open_registry

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from survbench.data.check import CheckReport
    from survbench.data.cohort import Cohort
    from survbench.data.root import DataRoot
    from survbench.experiments.collect import Summary
    from survbench.experiments.forecast import Calibration, Forecast
    from survbench.experiments.job import Job
    from survbench.experiments.mlflow.tracking import Mirror
    from survbench.experiments.plan import Request
    from survbench.explain.attribution import Completeness
    from survbench.explain.patches import PatchAttention
    from survbench.explain.pathways import PathwayRanking
    from survbench.profiling import Cost
    from survbench.studies.ablation import Study
    from survbench.studies.tuning import Outcome

__all__ = ["Results", "ablate", "compare", "load_cohort", "load_results", "predict", "run", "tune"]

OUT = "survbench-runs"
SCHEME = "event-stratified"
T = TypeVar("T")
Place = str | Path
Data = Place | None
Models = Place | type | Sequence[Place | type]
Names = str | Sequence[str]
Numbers = int | Sequence[int]
Registries = Place | Sequence[Place]
Choice = Mapping[str, Any] | None


class JobOptions(TypedDict, total=False):
    """Options of every function about jobs; `run` says what they mean."""

    data: Data
    out: Place
    endpoint: str | None
    scheme: str
    only_folds: Numbers
    seeds: Numbers
    objective: str
    preset: Place | None
    settings: Choice
    device: str
    registry: Registries


class RunOptions(JobOptions, total=False):
    """Options of functions that run jobs side by side."""

    workers: int | None
    threads: int | None
    mlflow: bool | Place


def load_cohort(name: str, *, data: Data = None, endpoint: str | None = None, registry: Registries = ()) -> Cohort:
    """Patients of one cohort with an outcome and no modality missing.

    Parameters
    ----------
    name : of the cohort, or a name that files use for it.
    data : data root; None is the demo, whose patients are simulated.
    endpoint : os, dss, pfi, ... as the cohort has them; None is os.
    registry : registry files of your own.

    Raises
    ------
    UnknownName : there is no such cohort or endpoint.
    BadLabels, BadExpression, BadFeatures : its files cannot be right.

    Examples
    --------
    >>> survbench.load_cohort("stad")
    Cohort stad: 115 patients, 45 events (os); clinical, expression, slides; simulated
    """
    from survbench.data import cohort

    root, known = _open_root(data), _registry(registry)
    found = known.select_cohorts([text(name, "name")], root.cohorts())
    if len(found) > 1:
        raise UnknownName(f"cohort '{name}' names {len(found)} cohorts", "name one")
    return cohort.load_cohort(root, found[0], _endpoint(endpoint), _expected(known, found[0], root))


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
    how = (data, out, endpoint, scheme, only_folds, seeds, objective, preset, settings, device, registry)
    setup = _setup(models, cohorts, *how, workers, threads, mlflow)
    jobs, external = _plan(setup, test)
    request = setup.request
    about = (",".join(request.models), ",".join(request.cohorts), request.endpoint, request.scheme, setup.root.name)
    summary, mirror = _run_jobs(setup, jobs, about)
    if external is not None:
        from survbench.studies.external_validation import apply_frozen

        apply_frozen(jobs, external, setup.out, setup.device)
    results = setup.results(jobs, summary)
    if mlflow:
        from survbench.report.tables import to_markdown

        mirror.attach_text("leaderboard.md", to_markdown(results.board))
    return results


@renamed(folds="scheme")
def estimate(
    models: Models, cohorts: Names = "all", *, test: str | None = None, **options: Unpack[RunOptions]
) -> Forecast:
    """What `run` would take for the jobs that remain, from a few timed steps of each; nothing is written.

    Parameters
    ----------
    models, cohorts, test, options : as of `run`.
    """
    from survbench.experiments.collect import job_threads, remaining
    from survbench.experiments.executors.local import sensible_workers
    from survbench.experiments.forecast import Calibration, calibrations, forecast, groups

    setup = _setup(models, cohorts, **options)
    jobs, _ = _plan(setup, test)
    left = remaining(jobs, setup.out)
    grouped = groups(left)
    timed: list[Calibration | str] = []
    measured = calibrations(grouped, setup.device, job_threads(setup.threads))
    for of, known in track(zip(grouped, measured, strict=True), "timing a few steps", len(grouped)):
        if not isinstance(known, Calibration):
            warn(f"{of[0].card.name} on {of[0].cohort.name} could not be timed: {known}")
        timed.append(known)
    number = setup.workers or sensible_workers(setup.device)
    return forecast(grouped, timed, len(jobs) - len(left), setup.out, number)


@renamed(folds="scheme")
def tune(
    models: Models,
    cohorts: Names = "all",
    *,
    trials: int = 50,
    search: Mapping[str, Mapping[str, Any]] | None = None,
    name: str | None = None,
    **options: Unpack[JobOptions],
) -> list[Outcome]:
    """Choose settings by the validation splits alone: mean over folds of the lowest validation loss.

    Processes that tune the same share the study. `run(..., preset="tuned")` uses the winner.

    Parameters
    ----------
    models, cohorts : as of `run`.
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
    setup = _setup(models, cohorts, starts_jobs=False, **options)
    from survbench.experiments.plan import tuned_name
    from survbench.studies.tuning import Tuning
    from survbench.studies.tuning import tune as search_settings

    pairs = setup.pairs()
    space, number = mapping(search, "search"), whole(trials, "trials", 1)
    for key, entry in space.items():
        of_kind(entry, f"search of {key}", "{'low': ..., 'high': ...} or {'choices': [...]}", Mapping)
    if name is not None and (text(name, "name") != Path(name).name or name in ("", "..") or "\0" in name):
        raise BadConfig(f"name is {name!r}", "give the name of a folder, without its place")
    if name is not None and len(pairs) > 1:
        raise BadConfig(f"--name {name} for {len(pairs)} studies", "name one model and one cohort")
    _make_out(setup.out)

    def of(request: Request) -> Outcome:
        place = name or tuned_name(request.models[0], request.cohorts[0], request.endpoint, request.scheme)
        tuning = Tuning(request, number, space, place, request.seeds[0])
        return search_settings(tuning, setup.registry, setup.root, setup.out, setup.device)

    try:
        return [outcome for _, outcome in _each(pairs, of)]
    except KeyboardInterrupt:
        note("\ninterrupted; nothing is lost: the same command goes on with the trial that was under way")
        raise


@dataclass(frozen=True, kw_only=True, repr=False)
class Ablation:
    """What a study of one model found.

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
def ablate(study: str, model: str | None = None, cohorts: Names = "all", **options: Unpack[RunOptions]) -> Ablation:
    """Change one thing at a time, everything else equal, and say what it does, with the uncertainty.

    Table, plot and settings are written to OUT/studies.

    Parameters
    ----------
    study : losses, alpha, temperature, teacher, targets; a model's card lists them.
    model : whose study, where several models have one of that name.
    cohorts, options : as of `run`.

    Raises
    ------
    UnknownName : no such study.
    BadConfig : a setting that the study itself changes.

    Examples
    --------
    >>> survbench.ablate("alpha", cohorts="stad", seeds=[0, 1, 2]).frame
    """
    setup = _setup((), cohorts, **options)
    from survbench.report.studies import write_study
    from survbench.studies.ablation import all_jobs, find_study, plan_study, study_frame

    found = find_study(text(study, "study"), text(model, "model", type(None)), setup.registry)
    request = replace(setup.request, models=[found.model.name])
    jobs = plan_study(found, request, setup.registry, setup.root)
    about = (f"{found.model.name} study {found.name}", ",".join(request.cohorts), request.endpoint, request.scheme)
    every = all_jobs(jobs)
    summary, mirror = _run_jobs(setup, every, about)
    frame, folder = study_frame(found, jobs, setup.out), None
    if not frame.empty:
        name = "-".join((found.model.name, found.name, setup.root.name, request.endpoint, request.scheme))
        folder = setup.out / "studies" / name
        write_study(found, frame, {"data": setup.root.name, **vars(request)}, folder)
        mirror.attach_files(*(file for file in sorted(folder.iterdir()) if file.suffix in (".md", ".png")))
    return Ablation(study=found, frame=frame, folder=folder, results=setup.results(every, summary))


@dataclass(frozen=True, kw_only=True)
class TransferStudy:
    """What `study_transfer` found.

    Attributes
    ----------
    title : of the model.
    curves : a row per cohort and model, see `Transfer`.
    gains : a row per setting and model compared with, see `Transfer`.
    folder : of tables and plot.
    failed : a line for each job that failed.
    """

    title: str
    curves: pd.DataFrame
    gains: pd.DataFrame
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
    **options: Unpack[RunOptions],
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

    card = find_student(model, load_registry(paths(options.get("registry", ()), "registry")))
    grid, out = Grid(traces, patients, event_rates, replicates), path(options.get("out", OUT), "out")
    _make_out(out)
    root = simulated_root(grid, out)
    known: RunOptions = {**options, "data": root.path, "endpoint": "os", "mlflow": False}
    setup = _setup((), "all", **known)
    jobs = plan_transfer(grid, replace(setup.request, models=[card.name]), setup.registry, setup.root)
    every = [job for of in jobs.values() for job in of]
    summary, _ = _run_jobs(setup, every, (f"{card.name} study transfer",))
    folder = out / "studies" / f"{card.name}-transfer"
    found = transfer_map(jobs, card, root, out)
    write_transfer(found, folder)
    return TransferStudy(
        title=card.title, curves=found.curves, gains=found.gains, folder=folder, failed=tuple(summary.failed)
    )


def load_results(out: Place = OUT, *, data: Data = None, registry: Registries = ()) -> Results:
    """Everything in a folder of results.

    Parameters
    ----------
    out : folder that `run` wrote to; a missing or empty one gives no results.
    data : data root for explanations and `predict`; None is the demo. Boards, comparisons, figures and stored
        predictions need none.
    registry : registry files of your own.

    Examples
    --------
    >>> survbench.load_results("survbench-runs").select(cohorts="stad").leaderboard()
    """
    root = None if data is None else path(data, "data")
    return Results(out=path(out, "out"), registry=_registry(registry), data=root)


@renamed(folds="scheme")
def compare(
    models: Names = "all",
    *,
    out: Place = OUT,
    cohorts: Names = (),
    endpoint: str | None = None,
    scheme: str | None = None,
    settings: Choice = None,
) -> pd.DataFrame:
    """Differences in C-index between finished models, all pairs, paired by fold, seed and patient.

    Parameters
    ----------
    models : names, wildcards or `all`.
    out : folder of the results.
    cohorts : only these.
    endpoint : only this outcome.
    scheme : only this fold scheme.
    settings : of several configurations of a model those with these.

    Returns
    -------
    See `Results.compare`.

    Raises
    ------
    UnknownName : a model has no result.
    BadConfig : no two of them can be compared.

    Examples
    --------
    >>> survbench.compare(["amkd", "abmil"], cohorts="stad")
    """
    results = load_results(out).select(cohorts=cohorts, endpoint=endpoint, scheme=scheme)
    return results.compare(models, settings=settings)


def predict(
    results: Results,
    model: Place | type,
    cohort: str | Cohort,
    *,
    train: str | None = None,
    data: Data = None,
    settings: Choice = None,
    device: str = "auto",
) -> pd.DataFrame:
    """Predict a cohort with the frozen models of all folds and seeds of one row.

    Genes, scaler and risk cut are those of the training patients; nothing is fitted. Predictions are stored in
    OUT/external, so that the board shows them as external validation.

    Parameters
    ----------
    results : of the models.
    model : its name, its file or its class.
    cohort : to predict, another one than the models were trained on.
    train : cohort that the models were trained on, where there are several.
    data : data root of the cohort to predict; None is that of the results.
    settings : of several configurations of the model the one with these.
    device : such as cpu or cuda; auto takes what is there.

    Returns
    -------
    A row per model and patient: `model`, `cohort` (trained on), `fold`, `seed`, `patient`, `time`, `event`, `risk`,
    `high` (above the training median) and `standardized` (in standard deviations of the training patients).

    Raises
    ------
    UnknownName, BadConfig : there is no such row or cohort, or the models cannot be applied to it.

    Examples
    --------
    >>> results = survbench.run("snn", "hnsc", preset="rehearsal")
    >>> survbench.predict(results, "snn", "cptac-hnsc")
    """
    import pandas as pd

    from survbench.data.cohort import Cohort
    from survbench.experiments.validation_results import ValidationResult, read_validations
    from survbench.studies.external_validation import apply_frozen, check_external
    from survbench.training.device import resolve_device

    of_kind(results, "results", "what `run` or `load_results` returned", Results)
    of_kind(cohort, "cohort", "a name or what `load_cohort` returned", str, Cohort)
    jobs = results.planned(model, train, settings)
    given = results.data if data is None else data
    if isinstance(cohort, str):
        cohort = load_cohort(cohort, data=given, endpoint=jobs[0].cohort.endpoint)
    check_external(jobs, cohort)
    apply_frozen(jobs, cohort, results.out, resolve_device(device))
    wanted = {(job.id, cohort.content_hash) for job in jobs}
    applied = [found for found in read_validations(results.out) if isinstance(found, ValidationResult)]
    kept = [found for found in applied if (found.record["job"], found.record["test_hash"]) in wanted]
    return pd.concat([with_job(found.table, found) for found in kept], ignore_index=True)


@renamed(folds="scheme")
def explain_pathways(
    models: Models, cohorts: Names = "all", *, by: str = "attention", steps: int = 64, **options: Unpack[JobOptions]
) -> list[tuple[PathwayRanking, Completeness | None, Path]]:
    """Pathways from the most to the least important, for each model on each cohort, and the figure that shows them.

    Parameters
    ----------
    models, cohorts, options : as of the `run` whose models are asked.
    by : attention, or attribution (integrated gradients, with whether they add up).
    steps : points on the path of gradients.
    """
    setup = _setup(models, cohorts, starts_jobs=False, **options)
    from survbench.explain.report import rank, write_ranking

    points = whole(steps, "steps", 1)
    kind, found = {"attention": "pathways"}.get(by, by), []
    for (ranking, complete), place in _explained(setup, lambda jobs: rank(by, jobs, setup.out, setup.device, points)):
        found.append((ranking, complete, write_ranking(ranking, place.with_name(f"{kind}-{place.name}.png"))))
    return found


@renamed(folds="scheme")
def explain_heatmaps(
    models: Models,
    cohorts: Names = "all",
    *,
    patients: Names = (),
    highest: int = 1,
    slides: Sequence[Place] = (),
    pathways: Names = (),
    **options: Unpack[JobOptions],
) -> list[tuple[PatchAttention, dict[str, Any]]]:
    """Attention over patches of some patients, and the files that show it.

    Parameters
    ----------
    models, cohorts, options : as of the `run` whose models are asked.
    patients : whose slides; if none, those of highest risk.
    highest : how many of highest risk.
    slides : slide files of the one patient to draw on.
    pathways : attention between patches and these instead.

    Raises
    ------
    UnknownName : no cohort has such a patient.
    BadConfig : slides without their patient, or nothing that can be shown.
    """
    setup = _setup(models, cohorts, starts_jobs=False, **options)
    from survbench.explain.patches import chosen_patients
    from survbench.explain.report import attention, heatmap_name, write_heatmap

    who, sets = names(patients, "patients"), names(pathways, "pathways")
    if slides and len(who) != 1:
        raise BadConfig(f"--slide with {len(who)} patients", "name the slide's patient with --patient")
    several = len({request.cohorts[0] for request in setup.pairs()}) > 1

    def of(jobs: list[Job]) -> list[tuple[Job, PatchAttention]]:
        ours = [patient for patient in who if not several or patient in jobs[0].cohort.patients.index]
        if who and not ours:
            return []  # they are of other cohorts
        chosen = chosen_patients(jobs, setup.out, ours, highest)
        return [(job, attention(job, patient, sets, setup.out, setup.device)) for job, patient in chosen]

    found = []
    for shown, place in _explained(setup, of):
        for job, maps in shown:
            stem = place.with_name(f"{heatmap_name(sets)}-{place.name}-{maps.patient}")
            found.append((maps, write_heatmap(maps, job.cohort, [Path(file) for file in slides], stem)))
    if strangers := sorted(set(who) - {maps.patient for maps, _ in found}):
        raise UnknownName(f"no cohort has a complete patient '{strangers[0]}'", "name the cohort with --cohort")
    return found


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

    known = _registry(registry)
    cards = known.select_models(_patterns(models, known))
    from survbench.profiling import Cost, measure_all
    from survbench.training.device import resolve_device

    costs, measured = [], measure_all(cards, patches, pathways, str(resolve_device(device)))
    for card, cost in track(zip(cards, measured, strict=True), "measuring", len(cards)):
        if isinstance(cost, Cost):
            costs.append(cost)
        else:
            warn(f"{card.name} could not be measured: {cost}")
    return costs


@renamed(folds="scheme")
def fold_summaries(
    cohorts: Names = "all",
    *,
    data: Data = None,
    scheme: str = SCHEME,
    endpoint: str | None = None,
    registry: Registries = (),
) -> dict[str, pd.DataFrame]:
    """Patients, events, comparable pairs, follow-up and shared sites of every fold and split, by cohort."""
    from survbench.data import cohort
    from survbench.data.folds import summarize

    root, outcome, tables = _open_root(data), None, {}
    for name in _registry(registry).select_cohorts(names(cohorts, "cohorts"), root.cohorts()):
        outcome = outcome or _endpoint(endpoint)
        found = cohort.load_cohort(root, name, outcome)
        tables[name] = summarize(found.folds(scheme), found.patients, found.sites)
    return tables


def check_data(data: Data = None, cohorts: Names = ()) -> CheckReport:
    """Count what a data root holds and list what is missing or wrong, with the paper's counts beside."""
    from survbench.data.check import check
    from survbench.leaderboard.published import published_counts

    root = _open_root(data)
    chosen = list(names(cohorts, "cohorts")) or root.cohorts()
    return check(root, chosen, {name: found for name in chosen if (found := published_counts(name))})


def pack_data(data: Data = None, cohorts: Names = (), *, dtype: str | None = None, repack: bool = False) -> None:
    """Put all bags of each cohort into one memory-mapped array; `run` does this by itself when needed."""
    from survbench.data.store import pack

    root = _open_root(data)
    for name in names(cohorts, "cohorts") or root.cohorts():
        folder = root.cohort(name)
        if folder.slides()["file"].isna().all():
            note(f"{name}: no feature files, nothing to pack")
            continue
        store = pack(folder, dtype=dtype, repack=repack)
        note(
            f"{name}: {len(store.patients)} patients, {store.patches:,} patches x {store.dim} {store.dtype}, "
            f"content {store.content_hash[:12]}"
        )


@dataclass(frozen=True, kw_only=True)
class _Setup:
    """What a call about jobs has opened and checked; models and cohorts in the request are as they were named."""

    registry: Registry
    root: DataRoot
    device: torch.device
    out: Path
    request: Request
    workers: int | None
    threads: int | None
    mlflow: bool | Place

    def pairs(self) -> list[Request]:
        """What is asked of each model on each cohort."""
        cards = self.registry.select_models(filled(self.request.models, "models"))
        cohorts = self.registry.select_cohorts(self.request.cohorts, self.root.cohorts())
        return [replace(self.request, models=[card.name], cohorts=[name]) for name, card in product(cohorts, cards)]

    def results(self, jobs: Sequence[Job], summary: Summary) -> Results:
        """Of the models and cohorts of some jobs."""
        models = tuple(dict.fromkeys(job.card.name for job in jobs))
        cohorts = tuple(dict.fromkeys(job.cohort.name for job in jobs))
        where: dict[str, Any] = {"out": self.out, "registry": self.registry, "data": self.root.path}
        where |= {"endpoint": self.request.endpoint, "scheme": self.request.scheme}
        return Results(**where, models=models, cohorts=cohorts, failures=tuple(summary.failed))


def _setup(
    models: Models,
    cohorts: Names,
    data: Data = None,
    out: Place = OUT,
    endpoint: str | None = None,
    scheme: str = SCHEME,
    only_folds: Numbers = (),
    seeds: Numbers = 0,
    objective: str = "cox",
    preset: Place | None = None,
    settings: Choice = None,
    device: str = "auto",
    registry: Registries = (),
    workers: int | None = None,
    threads: int | None = None,
    mlflow: bool | Place = False,
    *,
    starts_jobs: bool = True,
) -> _Setup:
    """Open what is named; a name that is mistyped is answered before torch is loaded."""
    known, root = _registry(registry), _open_root(data)
    wanted, task = filled(names(cohorts, "cohorts"), "cohorts"), (text(scheme, "scheme"), text(objective, "objective"))
    known.select_cohorts(wanted, root.cohorts())
    patterns = _patterns(models, known)
    known.select_models(patterns)
    several = filled(numbers(seeds, "seeds"), "seeds"), numbers(only_folds, "only_folds")
    named = None if preset is None else str(path(preset, "preset"))
    overrides, results = mapping(settings, "settings"), path(out, "out")
    workers, threads = (v if v is None else whole(v, k, 1) for k, v in (("workers", workers), ("threads", threads)))
    mlflow = of_kind(mlflow, "mlflow", "True, False or an address", bool, str, Path)
    if starts_jobs:
        from survbench.experiments.executors.local import start_ahead

        start_ahead()

    from survbench.experiments.folders import tune_folder
    from survbench.experiments.plan import Request
    from survbench.training.device import resolve_device

    where, outcome = resolve_device(device), _endpoint(endpoint)
    request = Request(patterns, wanted, outcome, *task, *several, named, overrides, tune_folder(results))
    opened: dict[str, Any] = {"registry": known, "root": root, "device": where, "out": results, "request": request}
    place = str(mlflow) if isinstance(mlflow, Path) else mlflow
    return _Setup(**opened, workers=workers, threads=threads, mlflow=place)


def _plan(setup: _Setup, test: str | None) -> tuple[list[Job], Cohort | None]:
    """Jobs, and the cohort for external validation; it is refused now if the models cannot be applied to it."""
    from survbench.data import cohort
    from survbench.experiments.plan import plan
    from survbench.studies.external_validation import check_external

    filled(setup.request.models, "models")
    jobs = plan(setup.request, setup.registry, setup.root)
    if test is None:
        return jobs, None
    (chosen, *more) = setup.registry.select_cohorts([text(test, "test")], setup.root.cohorts())
    if more or len({job.cohort.name for job in jobs}) > 1:
        raise BadConfig("--train and --test name one cohort each", "give one command for each pair")
    external = cohort.load_cohort(setup.root, chosen, jobs[0].cohort.endpoint)
    check_external(jobs, external)
    return jobs, external


def _run_jobs(setup: _Setup, jobs: Sequence[Job], about: Sequence[str]) -> tuple[Summary, Mirror]:
    """Run jobs with their progress; an interruption says how to go on."""
    from survbench.experiments.collect import run_jobs
    from survbench.experiments.mlflow.tracking import Mirror

    address = setup.mlflow if isinstance(setup.mlflow, str) else os.environ.get("MLFLOW_TRACKING_URI")
    mirror = Mirror(setup.out, f"survbench {' | '.join(about)}", enabled=bool(setup.mlflow), address=address)
    _make_out(setup.out)
    note(f"{len(jobs)} jobs on {setup.device}; results go to {setup.out}")
    how = {"workers": setup.workers, "threads": setup.threads}
    try:
        summary = run_jobs(jobs, setup.out, setup.device, mirror, **how)
    except KeyboardInterrupt:
        note("\ninterrupted; nothing is lost: the same command goes on from the last epoch")
        raise
    finally:
        mirror.close()
    note(f"{summary.done} jobs done, {summary.skipped} were done before, {len(summary.failed)} failed")
    if line := summary.where_time_went():
        note(line)
    return summary, mirror


def _each(pairs: Sequence[Request], compute: Callable[[Request], T]) -> Iterator[tuple[Request, T]]:
    """What is computed of each model on each cohort; of several, those that are refused are left out with a warning."""
    for request in pairs:
        try:
            found = compute(request)
        except SurvbenchError as refused:
            if len(pairs) == 1:
                raise
            warn(f"{request.models[0]} on {request.cohorts[0]}: {refused}; left out")
        else:
            yield request, found


def _explained(setup: _Setup, compute: Callable[[list[Job]], T]) -> Iterator[tuple[T, Path]]:
    """What is computed from the jobs of each model on each cohort, and where its files go, without their kind."""
    from survbench.experiments.plan import plan

    pairs, empty = setup.pairs(), True
    for request, found in _each(pairs, lambda request: compute(plan(request, setup.registry, setup.root))):
        empty = False
        name = "-".join((*request.models, *request.cohorts, request.endpoint, request.scheme))
        yield found, setup.out / "figures" / name
    if empty:
        raise BadConfig(f"none of {len(pairs)} pairs of model and cohort can be explained", "see the warnings")


def _open_root(data: Data) -> DataRoot:
    from survbench.data.demo import open_root

    return open_root(None if data is None else path(data, "data"))


def _registry(files: Registries) -> Registry:
    return open_registry(paths(files, "registry"))


def _make_out(out: Path) -> None:
    """The folder of results, or a clear refusal."""
    with writing(out, "out"):
        if out.exists() and not out.is_dir():
            raise BadConfig(f"--out {out} is a file", "name a folder")
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _endpoint(endpoint: str | None) -> str:
    """The endpoint that was named; the default is said aloud."""
    if endpoint is None:
        note("endpoint: os, overall survival (choose with --endpoint)")
        return "os"
    return text(endpoint, "endpoint").lower()


def _expected(registry: Registry, cohort: str, root: DataRoot) -> Mapping[str, Any] | None:
    """Counts that the card of a cohort of real patients states."""
    card = registry.cohorts.get(cohort)
    return card.expected if card and not root.simulated else None


def _patterns(models: Models, registry: Registry) -> list[str]:
    given = names(models, "models", type, Path)
    return [registry.pattern_of(one) if isinstance(one, type) else str(one) for one in given]
