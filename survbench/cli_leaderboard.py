"""Commands about what has been measured: the leaderboard and comparisons of its models."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from survbench.cli_options import examples, json_option, names, out_option, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from survbench.leaderboard.comparison import Compared, Comparison

__all__ = ["compare", "leaderboard", "print_external", "print_leaderboard"]


@click.command(
    epilog=examples(
        "survbench leaderboard",
        "survbench leaderboard --format markdown > table.md",
        "survbench leaderboard --format json --cohort stad | jq '.rows[].metrics.cindex.mean'",
    )
)
@out_option
@click.option(
    "--format", "form", type=click.Choice(["rich", "markdown", "csv", "json"]), default="rich", show_default=True
)
@click.option(
    "--metric", default="cindex", show_default=True, help="cindex (Harrell), uno_c, ibs, auc or d_calibration."
)
@click.option("--cohort", "-c", "cohorts", callback=names, default="", help="Only these cohorts.")
@click.option("--model", "-m", "models", callback=names, default="", help="Only these models.")
@click.option("--endpoint", help="Only this outcome.")
@click.option("--folds", "scheme", help="Only these folds.")
def leaderboard(
    out: Path,
    form: str,
    metric: str,
    cohorts: tuple[str, ...],
    models: tuple[str, ...],
    endpoint: str | None,
    scheme: str | None,
) -> None:
    """Tables of what has been measured, computed from the stored predictions; published figures stand beside.

    Rows on different data, endpoints, folds or simulated and real data are never ranked together.
    """
    print_leaderboard(out, form, metric, list(cohorts) or None, list(models) or None, endpoint, scheme)
    print_external(out, form, list(models) or None)


@click.command(
    epilog=examples(
        "survbench compare amkd abmil",
        "survbench compare amkd amkd_teacher amkd_student --cohort stad,hnsc",
        "survbench compare all --json > differences.json",
    )
)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@out_option
@click.option("--cohort", "-c", "cohorts", callback=names, default="", help="Only these cohorts.")
@click.option("--endpoint", help="Only this outcome.")
@click.option("--folds", "scheme", help="Only these folds.")
@json_option
def compare(
    models: tuple[str, ...],
    out: Path,
    cohorts: tuple[str, ...],
    endpoint: str | None,
    scheme: str | None,
    as_json: bool,
) -> None:
    """Differences in C-index between finished models, all pairs, with their uncertainty.

    MODEL is a name, a wildcard or `all`. Differences are paired by fold, seed and patient. A model is called higher
    only where both intervals leave out zero and the Holm-adjusted p is below 5 %. Three models and two cohorts are
    ranked, too. Figures go to OUT/figures.
    """
    from survbench.console import stdout, warn
    from survbench.leaderboard.comparison import compare_models, comparison_plain
    from survbench.leaderboard.comparison_plot import draw_comparison

    wanted = tuple(part for model in models for part in model.split(",") if part)
    found, board = compare_models(out, wanted, cohorts or None, endpoint, scheme)
    figures = [draw_comparison(one, out / "figures") for one in found]
    if as_json:
        plain = [
            {**comparison_plain(one), "figures": [str(f) for f in files]}
            for one, files in zip(found, figures, strict=True)
        ]
        print_json({"comparisons": plain, "notes": list(board.notes)})
        return
    for one, files in zip(found, figures, strict=True):
        for part in _comparison(one, files):
            stdout().print(part)
    for note in board.notes:
        warn(note)
    for refusal in board.refused:
        warn(f"not compared: {refusal.label}: {refusal.reason}")


def _comparison(found: Comparison, files: list[Path]) -> list[object]:
    """What the terminal shows of one table."""
    from rich.text import Text

    from survbench.evaluation.ranks import ALPHA
    from survbench.leaderboard.ranks_plot import ranks_text

    percent = f"{100 * ALPHA:.0f} %"
    notes = [
        "Paired by fold, seed and patient. Over folds: corrected resampled t (other training patients); over patients: "
        "bootstrap inside folds (other test patients); both 95 %.",
        f"Holm: over the differences on single cohorts together, and over those of the means together. Higher: both "
        f"intervals leave out zero and the adjusted p is below {percent}.",
        *(
            f"undefined: {one.first} − {one.second}, {one.cohort}: {one.found.reason}"
            for one in found.differences
            if one.found.reason
        ),
        *found.notes,
    ]
    if found.table.simulated:
        notes.append(f"{found.table.kind}: the figures say nothing about a cancer.")
    parts: list[object] = [
        Text(f"Differences in C-index · {found.table.title}", style="bold"),
        _differences(found.differences),
    ]
    if found.ranks is not None and not found.ranks.ranks.isna().any():
        ranked = ", ".join(
            f"{' = '.join(same.index)} {rank:.2f}" for rank, same in found.ranks.ranks.groupby(found.ranks.ranks)
        )
        groups = "; ".join(", ".join(group) for group in found.ranks.groups)
        parts.append(Text(f"Average ranks over cohorts: {ranked}"))
        parts.append(Text(f"{ranks_text(found.ranks)}. Not told apart: {groups or 'nobody'}"))
    return [*parts, *(Text(note, style="dim") for note in notes), *(Text(f"figure: {file}") for file in files), Text()]


def _differences(differences: tuple[Compared, ...]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, header in enumerate(
        ("models", "cohort", "difference", "over folds", "over patients", "p", "Holm", "higher")
    ):
        shown.add_column(header, justify="left" if i < 2 or header == "higher" else "right", overflow="fold")
    previous = ""
    for one in differences:
        name, of = f"{one.first} − {one.second}", one.found
        if previous and name != previous:
            shown.add_section()
        label, previous = "" if name == previous else name, name
        if of.reason:
            shown.add_row(*map(Text, (label, one.cohort, "undefined")))
            continue
        higher = (one.first if of.mean > 0 else one.second) if one.separated else "not told apart"
        intervals = _interval(of.low, of.high), _interval(of.patient_low, of.patient_high)
        cells = (label, one.cohort, f"{of.mean:+.3f}", *intervals, _p(of.p), _p(one.p_holm), higher)
        shown.add_row(*map(Text, cells))
    return shown


def _interval(low: float, high: float) -> str:
    return "undefined" if math.isnan(low) else f"[{low:+.3f}, {high:+.3f}]"


def _p(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def print_external(out: Path, form: str, models: list[str] | None) -> None:
    """External validation, in the form of the leaderboard that it stands below; nothing where there is none."""
    from survbench.console import stdout
    from survbench.leaderboard.external import external_markdown, external_rich, external_rows

    rows = external_rows(out, models)
    if rows and form == "rich":
        stdout().print(external_rich(rows))
    elif rows and form == "markdown":
        click.echo(external_markdown(rows))


def print_leaderboard(
    out: Path,
    form: str,
    metric: str,
    cohorts: list[str] | None,
    models: list[str] | None,
    endpoint: str | None,
    scheme: str | None,
) -> None:
    """The leaderboard of a results folder, in one of its forms."""
    from survbench.console import stdout
    from survbench.leaderboard import render
    from survbench.leaderboard.aggregate import build
    from survbench.leaderboard.external import external_plain, external_rows

    board = build(out, cohorts=cohorts, models=models, endpoint=endpoint, folds=scheme)
    if form == "rich":
        stdout().print(render.to_rich(board, metric))
    elif form == "json":
        print_json(
            {**json.loads(render.to_json(board, metric)), "external": external_plain(external_rows(out, models))}
        )
    else:
        click.echo({"markdown": render.to_markdown, "csv": render.to_csv}[form](board, metric))
