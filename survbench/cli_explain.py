"""The `explain` commands: what trained models looked at."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from survbench.cli_options import Asked, about_jobs, examples, json_option, names, print_json
from survbench.console import note, warn
from survbench.errors import BadConfig, SurvbenchError, UnknownName

if TYPE_CHECKING:
    from survbench.data.cohort import Cohort
    from survbench.experiments.job import Job
    from survbench.explain.patches import PatchAttention
    from survbench.explain.pathways import PathwayRanking

__all__ = ["explain"]

models_option = click.option("--model", "-m", "models", callback=names, required=True, help="Names or wildcards.")
patient_option = click.option(
    "--patient", "patients", callback=names, default="", help="These patients; by default those of highest risk."
)
highest_option = click.option(
    "--highest",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Without --patient: so many test patients of highest risk, against the training patients of their fold.",
)
slide_option = click.option(
    "--slide",
    "slides",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Slide file to draw on, named as the slide is; needs the extra `wsi`. Once for each slide.",
)


@click.group(
    epilog=examples(
        "survbench explain pathways --model amkd",
        "survbench explain heatmap --model amkd --cohort stad",
    )
)
def explain() -> None:
    """What trained models looked at, each asked about patients it never saw."""


@explain.command(
    epilog=examples(
        "survbench explain pathways --model amkd",
        "survbench explain pathways --model survpath --cohort stad --data DATA --json",
    )
)
@models_option
@json_option
@about_jobs
def pathways(asked: Asked, models: tuple[str, ...], as_json: bool) -> None:
    """The five most and the five least attended pathways per cohort, and how far the folds agree.

    Takes the options of the `run` whose models are asked, each about its own test patients. AMKD's teacher is asked:
    its student knows no pathways. Tables and figures go to OUT/figures.
    """
    from survbench.explain.pathways import pathway_attention
    from survbench.explain.report import plain_ranking, show_ranking

    found = [
        (ranking, _keep_ranking(ranking, place.with_name(f"pathways-{place.name}.png")))
        for ranking, place in _for_each(asked, models, lambda jobs: pathway_attention(jobs, asked.out, asked.device))
    ]
    if as_json:
        print_json([plain_ranking(ranking, file) for ranking, file in found])
    else:
        for ranking, file in found:
            show_ranking(ranking, file)


@explain.command(
    epilog=examples(
        "survbench explain attribution --model snn",
        "survbench explain attribution --model 'amkd_teacher,survpath' --cohort stad --steps 128 --json",
    )
)
@models_option
@click.option("--steps", type=click.IntRange(2), default=64, show_default=True, help="Points on the path of gradients.")
@json_option
@about_jobs
def attribution(asked: Asked, models: tuple[str, ...], steps: int, as_json: bool) -> None:
    """How much each pathway moves the risk: integrated gradients of expression, for any model that predicts from it.

    Attributions of genes are summed inside pathways; the path starts at the training mean. Ranked by the mean absolute
    value over each fold's test patients. It is checked that attributions add up to the change of risk. Tables and
    figures go to OUT/figures.
    """
    from survbench.explain.attribution import TOLERANCE, pathway_attribution
    from survbench.explain.report import plain_ranking, show_ranking

    found = []
    answers = _for_each(asked, models, lambda jobs: pathway_attribution(jobs, asked.out, asked.device, steps))
    for (ranking, complete), place in answers:
        if not complete.holds:
            warn(
                f"{ranking.model} on {ranking.cohort}: attributions miss the change of risk by up to "
                f"{complete.gap:.1%}, more than {TOLERANCE:.0%}; take more --steps"
            )
        found.append((ranking, complete, _keep_ranking(ranking, place.with_name(f"attribution-{place.name}.png"))))
    if as_json:
        print_json([plain_ranking(ranking, file, complete) for ranking, complete, file in found])
    else:
        for ranking, complete, file in found:
            show_ranking(ranking, file, complete)


@explain.command(
    epilog=examples(
        "survbench explain heatmap --model amkd --cohort stad",
        "survbench explain heatmap --model abmil,amkd --cohort stad --data DATA --patient TCGA-B7-5816",
        "survbench explain heatmap --model amkd --cohort stad --data DATA --patient P --slide P-01Z-00-DX1.svs --json",
    )
)
@models_option
@patient_option
@highest_option
@slide_option
@json_option
@about_jobs
def heatmap(
    asked: Asked,
    models: tuple[str, ...],
    patients: tuple[str, ...],
    highest: int,
    slides: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Which patches a model attends to; where it learned from a teacher, the teacher's maps against its own.

    A patient is shown under the model of the fold in which it was a test patient. The five highest patches of each map
    are numbered, and it is counted how many two maps share. Figure, CSV, and GeoJSON for QuPath where the patches' size
    in pixels is known, go to OUT/figures.
    """
    from survbench.explain.patches import patch_heatmap

    def show(job: Job, patient: str) -> PatchAttention:
        return patch_heatmap(job, patient, asked.out, asked.device)

    _heatmaps(asked, models, patients, highest, slides, as_json, "heatmap", show)


@explain.command(
    epilog=examples(
        "survbench explain pathway-heatmap --model amkd --cohort stad --pathway DEMO_STROMA_1",
        "survbench explain pathway-heatmap --model survpath --cohort stad --data DATA --pathway HALLMARK_HYPOXIA",
    )
)
@models_option
@click.option(
    "--pathway", "sets", multiple=True, required=True, help="Pathway, or gene family of a model that has those."
)
@patient_option
@highest_option
@slide_option
@json_option
@about_jobs
def pathway_heatmap(
    asked: Asked,
    models: tuple[str, ...],
    sets: tuple[str, ...],
    patients: tuple[str, ...],
    highest: int,
    slides: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Attention between each patch and one pathway, as `heatmap` shows it; --pathway may be given several times.

    In some models each patch divides its attention among the pathways, in others each pathway or gene family divides
    its own among the patches; the color bar says which.
    """
    from survbench.explain.patches import gene_set_heatmap

    def show(job: Job, patient: str) -> PatchAttention:
        return gene_set_heatmap(job, patient, sets, asked.out, asked.device)

    _heatmaps(asked, models, patients, highest, slides, as_json, "pathway-heatmap-" + "-".join(map(_slug, sets)), show)


def _for_each(asked: Asked, models: Sequence[str], compute: Callable[[list[Job]], Any]) -> Iterator[tuple[Any, Path]]:
    """What is computed from the jobs of each model on each cohort, and where its files go, without their kind.

    Of several, those that are refused are left out with a warning.
    """
    from survbench.experiments.plan import plan

    cards = asked.registry.select_models(models)
    pairs = list(product(asked.registry.select_cohorts(asked.cohorts, asked.root.cohorts()), cards))
    answered = False
    for cohort, card in pairs:
        request = asked.of([card.name], [cohort])
        try:
            answer = compute(plan(request, asked.registry, asked.root))
        except SurvbenchError as refused:
            if len(pairs) == 1:
                raise
            warn(f"{card.name} on {cohort}: {refused}; left out")
            continue
        answered = True
        yield answer, asked.out / "figures" / f"{card.name}-{cohort}-{request.endpoint}-{request.scheme}"
    if not answered:
        raise BadConfig(f"none of {len(pairs)} pairs of model and cohort can be explained", "see the warnings")


def _heatmaps(
    asked: Asked,
    models: Sequence[str],
    patients: Sequence[str],
    highest: int,
    slides: Sequence[Path],
    as_json: bool,
    kind: str,
    show: Callable[[Job, str], PatchAttention],
) -> None:
    """What both heatmap commands do once they know what to ask a model."""
    from survbench.explain.patches import chosen_patients
    from survbench.explain.report import plain_heatmap, show_heatmap

    several = len(asked.registry.select_cohorts(asked.cohorts, asked.root.cohorts())) > 1
    if slides and len(patients) != 1:
        raise BadConfig(f"--slide with {len(patients)} patients", "name the slide's patient with --patient")

    def of(jobs: list[Job]) -> list[tuple[Job, PatchAttention]]:
        ours = [p for p in patients if not several or p in jobs[0].cohort.patients.index]
        if patients and not ours:
            return []  # they are of other cohorts
        return [(job, show(job, patient)) for job, patient in chosen_patients(jobs, asked.out, ours, highest)]

    told = []
    for answers, place in _for_each(asked, models, of):
        for job, found in answers:
            stem = place.with_name(f"{kind}-{place.name}-{found.patient}")
            told.append((found, _keep_heatmap(found, job.cohort, slides, stem)))
    if strangers := sorted(set(patients) - {found.patient for found, _ in told}):
        raise UnknownName(f"no cohort has a complete patient '{strangers[0]}'", "name the cohort with --cohort")
    if as_json:
        print_json([plain_heatmap(found, files) for found, files in told])
    else:
        for found, files in told:
            show_heatmap(found, files)


def _keep_heatmap(found: PatchAttention, cohort: Cohort, slides: Sequence[Path], stem: Path) -> dict[str, Any]:
    """Write all forms; returns where they are, None where there is none."""
    from survbench.explain.heatmap import draw_heatmap, lay_out, write_geojson, write_table

    canvas = lay_out(found, cohort, slides)
    for why in canvas.unknown:
        note(f"no GeoJSON: {why}")
    figure, table = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.csv")
    write_table(found, canvas, table)
    drawn = draw_heatmap(found, canvas, figure)
    if not drawn:
        note(f"no figure: the features of patient {found.patient} have no coordinates")
    tiles = [str(file) for file in write_geojson(found, canvas, stem)]
    return {"figure": str(figure) if drawn else None, "table": str(table), "geojson": tiles}


def _keep_ranking(found: PathwayRanking, file: Path) -> Path:
    """Write figure and table; warn where the order says little."""
    from survbench.explain.pathways import FEWEST_AGREE, draw_pathways, write_pathways

    if found.agreement < FEWEST_AGREE:
        warn(
            f"{found.model} on {found.cohort}: folds agree with rho = {found.agreement:.2f}; "
            "other training patients give another order of pathways"
        )
    draw_pathways(found, file)
    write_pathways(found, file.with_suffix(".csv"))
    return file


def _slug(name: str) -> str:
    """A name as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:40]
