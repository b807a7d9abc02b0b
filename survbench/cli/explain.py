"""`survbench explain ...`: what trained models attend to."""

from __future__ import annotations

from typing import Any

import click

from survbench import api
from survbench.cli import options

__all__ = ["explain"]

patient_option = click.option(
    "--patient",
    "patients",
    callback=options.names,
    default="",
    help="These patients; by default those of highest risk.",
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
    type=options.PATH,
    help="Slide file to draw on, with the slide's name; needs the extra `wsi`. Once for each slide.",
)


@click.group(cls=options.Group)
def explain() -> None:
    """What trained models attend to, each for patients that it never saw.

    Examples:
      survbench explain pathways --model amkd
      survbench explain heatmap --model amkd --cohort stad
    """


@explain.command()
@options.files_too
@options.as_json
@options.of_jobs
def pathways(as_json: bool, **chosen: Any) -> None:
    """The five most and the five least attended pathways per cohort, and how far the folds agree.

    Takes the options of the `run` that trained the models; each one explains its own test patients. Of AMKD it is the
    teacher, as the student has no pathways. Tables and figures go to OUT/figures.

    Examples:
      survbench explain pathways --model amkd
      survbench explain pathways --model survpath --cohort stad --data DATA --json
    """
    from survbench.explain.report import plain_ranking, ranking_sheet

    explained = api.explain_pathways(**chosen)
    sheets = (ranking_sheet(ranking, complete) for ranking, complete, _ in explained)
    options.print_result(as_json, [plain_ranking(*one) for one in explained], *sheets)


@explain.command()
@options.files_too
@click.option("--steps", type=click.IntRange(2), default=64, show_default=True, help="Points on the path of gradients.")
@options.as_json
@options.of_jobs
def attribution(as_json: bool, **chosen: Any) -> None:
    """How much each pathway moves the risk: integrated gradients of expression, for any model that predicts from it.

    Attributions of genes are summed inside pathways; the path starts at the training mean. Ranked by the mean absolute
    value over each fold's test patients. It is checked that attributions add up to the change of risk. Tables and
    figures go to OUT/figures.

    Examples:
      survbench explain attribution --model snn
      survbench explain attribution --model 'amkd_teacher,survpath' --cohort stad --steps 128 --json
    """
    from survbench.explain.report import plain_ranking, ranking_sheet

    explained = api.explain_pathways(**chosen, by="attribution")
    sheets = (ranking_sheet(ranking, complete) for ranking, complete, _ in explained)
    options.print_result(as_json, [plain_ranking(*one) for one in explained], *sheets)


@explain.command()
@options.files_too
@patient_option
@highest_option
@slide_option
@options.as_json
@options.of_jobs
def heatmap(as_json: bool, **chosen: Any) -> None:
    """Which patches a model attends to; where it learned from a teacher, the teacher's maps against its own.

    A patient is shown under the model of the fold in which it was a test patient. The five highest patches of each map
    are numbered, and those that two maps share are counted. Figure, CSV, and GeoJSON for QuPath where the patches' size
    in pixels is known, go to OUT/figures.

    Examples:
      survbench explain heatmap --model amkd --cohort stad
      survbench explain heatmap --model abmil,amkd --cohort stad --data DATA --patient TCGA-B7-5816
      survbench explain heatmap --model amkd --cohort stad --data DATA --patient P --slide P-01Z-00-DX1.svs --json
    """
    from survbench.explain.report import heatmap_sheet, plain_heatmap

    explained = api.explain_heatmaps(**chosen)
    sheets = (heatmap_sheet(attention) for attention, _ in explained)
    options.print_result(as_json, [plain_heatmap(*one) for one in explained], *sheets)


@explain.command()
@options.files_too
@click.option(
    "--pathway", "pathways", multiple=True, required=True, help="Pathway, or gene family of a model that has those."
)
@patient_option
@highest_option
@slide_option
@options.as_json
@options.of_jobs
def pathway_heatmap(as_json: bool, **chosen: Any) -> None:
    """Attention between each patch and one pathway, as `heatmap` shows it; --pathway may be repeated.

    In some models each patch divides its attention among the pathways, in others each pathway or gene family divides
    its own among the patches; the color bar names which.

    Examples:
      survbench explain pathway-heatmap --model amkd --cohort stad --pathway DEMO_STROMA_1
      survbench explain pathway-heatmap --model survpath --cohort stad --data DATA --pathway HALLMARK_HYPOXIA
    """
    from survbench.explain.report import heatmap_sheet, plain_heatmap

    explained = api.explain_heatmaps(**chosen)
    sheets = (heatmap_sheet(attention) for attention, _ in explained)
    options.print_result(as_json, [plain_heatmap(*one) for one in explained], *sheets)
