"""Calls about finished jobs: loading, comparing and predicting with them, and what their models attend to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from survbench.api import arguments
from survbench.api.arguments import Choice, Data, Models, Names, Place, Registries, renamed
from survbench.api.data import load_cohort
from survbench.api.results import Results
from survbench.api.selection import with_job
from survbench.api.setup import OUT, Setup, open_setup, read_registry
from survbench.errors import BadConfig, UnknownName
from survbench.files import file_stem

if TYPE_CHECKING:
    import pandas as pd

    from survbench.data.cohort import Cohort
    from survbench.experiments.job import Job
    from survbench.explain.attribution import Completeness
    from survbench.explain.patches import PatchAttention
    from survbench.explain.pathways import PathwayRanking

__all__ = ["compare", "explain_heatmaps", "explain_pathways", "load_results", "predict"]

T = TypeVar("T")


def load_results(out: Place = OUT, *, data: Data = None, registry: Registries = ()) -> Results:
    """Everything in a folder of results.

    Parameters
    ----------
    out : folder that `run` wrote to; a missing or empty one has no results.
    data : data root for explanations and `predict`; None is the demo. Boards, comparisons, figures and stored
        predictions need none.
    registry : registry files of your own.

    Examples
    --------
    >>> survbench.load_results("survbench-runs").select(cohorts="stad").leaderboard()
    """
    root = None if data is None else arguments.path(data, "data")
    return Results(out=arguments.path(out, "out"), registry=read_registry(registry), data=root)


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

    arguments.of_kind(results, "results", "what `run` or `load_results` returned", Results)
    arguments.of_kind(cohort, "cohort", "a name or what `load_cohort` returned", str, Cohort)
    jobs = results.planned(model, train, settings)
    if isinstance(cohort, str):
        root = results.data if data is None else data
        cohort = load_cohort(cohort, data=root, endpoint=jobs[0].cohort.endpoint)
    check_external(jobs, cohort)
    apply_frozen(jobs, cohort, results.out, resolve_device(device))
    wanted = {(job.id, cohort.content_hash) for job in jobs}
    applied = [result for result in read_validations(results.out) if isinstance(result, ValidationResult)]
    kept = [result for result in applied if (result.record["job"], result.record["test_hash"]) in wanted]
    return pd.concat([with_job(result.table, result) for result in kept], ignore_index=True)


@renamed(folds="scheme")
def explain_pathways(
    models: Models, cohorts: Names = "all", *, by: str = "attention", steps: int = 64, **options: Any
) -> list[tuple[PathwayRanking, Completeness | None, Path]]:
    """Pathways from the most to the least important, for each model on each cohort, and the figure that shows them.

    Parameters
    ----------
    models : as of the `run` that trained them.
    cohorts : as of that `run`.
    by : attention, or attribution (integrated gradients, with whether they add up).
    steps : points on the path of gradients.
    options : as of that `run`.
    """
    setup = open_setup(starts_jobs=False, models=models, cohorts=cohorts, test=None, **options)
    from survbench.explain.report import rank, write_ranking

    points = arguments.whole(steps, "steps", 1)
    kind, rankings = {"attention": "pathways"}.get(by, by), []
    for (ranking, complete), place in _explained(setup, lambda jobs: rank(by, jobs, setup.out, setup.device, points)):
        rankings.append((ranking, complete, write_ranking(ranking, place.with_name(f"{kind}-{place.name}.png"))))
    return rankings


@renamed(folds="scheme")
def explain_heatmaps(
    models: Models,
    cohorts: Names = "all",
    *,
    patients: Names = (),
    highest: int = 1,
    slides: Sequence[Place] = (),
    pathways: Names = (),
    **options: Any,
) -> list[tuple[PatchAttention, dict[str, Any]]]:
    """Attention over patches of some patients, and the files that show it.

    Parameters
    ----------
    models : as of the `run` that trained them.
    cohorts : as of that `run`.
    patients : whose slides; if none, those of highest risk.
    highest : how many of highest risk.
    slides : slide files of the one patient to draw on.
    pathways : attention between patches and these instead.
    options : as of that `run`.

    Raises
    ------
    UnknownName : no cohort has such a patient.
    BadConfig : slides without their patient, or nothing that can be shown.
    """
    setup = open_setup(starts_jobs=False, models=models, cohorts=cohorts, test=None, **options)
    from survbench.explain.patches import chosen_patients, patch_attention
    from survbench.explain.report import heatmap_name, write_heatmap

    chosen, sets = arguments.names(patients, "patients"), arguments.names(pathways, "pathways")
    if slides and len(chosen) != 1:
        raise BadConfig(f"--slide with {len(chosen)} patients", "name the slide's patient with --patient")
    several = len({request.cohorts[0] for request in setup.pairs()}) > 1

    def of(jobs: list[Job]) -> list[tuple[Job, PatchAttention]]:
        own = [patient for patient in chosen if not several or patient in jobs[0].cohort.patients.index]
        if chosen and not own:
            return []  # they are of other cohorts
        tested = chosen_patients(jobs, setup.out, own, highest)
        return [(job, patch_attention(job, patient, setup.out, setup.device, sets)) for job, patient in tested]

    heatmaps = []
    for shown, place in _explained(setup, of):
        for job, maps in shown:
            stem = place.with_name(f"{heatmap_name(sets)}-{place.name}-{file_stem(maps.patient)}")
            heatmaps.append((maps, write_heatmap(maps, job.cohort, [Path(file) for file in slides], stem)))
    if unknown := sorted(set(chosen) - {maps.patient for maps, _ in heatmaps}):
        raise UnknownName(f"no cohort has a complete patient '{unknown[0]}'", "name the cohort with --cohort")
    return heatmaps


def _explained(setup: Setup, compute: Callable[[list[Job]], T]) -> Iterator[tuple[T, Path]]:
    """What is computed from the jobs of each model on each cohort, and where its files go, without their kind."""
    from survbench.experiments.plan import plan

    empty = True
    for request, computed in setup.each(lambda request: compute(plan(request, setup.registry, setup.root))):
        empty = False
        name = "-".join((*request.models, *request.cohorts, request.endpoint, request.scheme))
        yield computed, setup.out / "figures" / name
    if empty:
        raise BadConfig(f"none of {len(setup.pairs())} pairs of model and cohort can be explained", "see the warnings")
