"""Commands about what has been measured: the leaderboard and comparisons of its models."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from survbench.cli_options import examples, json_option, names, open_root, out_option, print_json
from survbench.errors import BadConfig

if TYPE_CHECKING:
    from rich.table import Table

    from survbench.leaderboard.board import Leaderboard, Refusal, Row
    from survbench.leaderboard.comparison import Compared, Comparison
    from survbench.leaderboard.external import ExternalRow

__all__ = ["Part", "compare", "leaderboard", "show"]


@click.command(
    epilog=examples(
        "survbench leaderboard",
        "survbench leaderboard --format markdown > table.md",
        "survbench leaderboard --format json --cohort stad | jq '.rows[].metrics.cindex.mean'",
        "survbench leaderboard --predictions theirs.csv --endpoint os",
        "survbench leaderboard --predictions theirs.csv --data DATA --endpoint os     labels from the data root",
        "survbench leaderboard --html leaderboard.html",
        "survbench leaderboard --write leaderboards/mine",
        "survbench leaderboard --check leaderboards/mine",
    )
)
@out_option
@click.option(
    "--format", "form", type=click.Choice(["rich", "markdown", "csv", "json"]), default="rich", show_default=True
)
@click.option("--metric", help="cindex (Harrell, the default), uno_c, ibs, auc or d_calibration.")
@click.option("--cohort", "-c", "cohorts", callback=names, default="", help="Only these cohorts.")
@click.option("--model", "-m", "models", callback=names, default="", help="Only these models.")
@click.option("--endpoint", help="Only this outcome; with --predictions, the outcome that they predict.")
@click.option("--folds", "scheme", help="Only these folds.")
@click.option(
    "--predictions",
    type=click.Path(path_type=Path),
    help="A CSV of predictions made elsewhere: model, cohort, fold, case, risk, and time, event (or --data DATA).",
)
@click.option("--data", type=click.Path(path_type=Path), help="Data root with the labels of --predictions.")
@click.option("--censorship", metavar="COLUMN", help="The column of --predictions that is 1 for censored patients.")
@click.option(
    "--time-unit",
    type=click.Choice(["months", "days"]),
    default="months",
    show_default=True,
    help="Of the times in --predictions; a month has 30.4375 days.",
)
@click.option(
    "--write", "target", type=click.Path(path_type=Path), help="Write it to this folder as Markdown, CSV and JSON."
)
@click.option(
    "--check",
    "written",
    type=click.Path(path_type=Path),
    help="Recompute a written leaderboard (folder or JSON file) and list what differs; exit code 1 if anything does.",
)
@click.option(
    "--html", "page", type=click.Path(path_type=Path), help="Write it to this file as one page that needs no network."
)
def leaderboard(
    out: Path,
    form: str,
    metric: str | None,
    cohorts: tuple[str, ...],
    models: tuple[str, ...],
    endpoint: str | None,
    scheme: str | None,
    predictions: Path | None,
    data: Path | None,
    censorship: str | None,
    time_unit: str,
    target: Path | None,
    written: Path | None,
    page: Path | None,
) -> None:
    """Tables of what has been measured, computed from the stored predictions; published figures stand beside.

    Rows on different data, endpoints, folds or simulated and real data are never ranked together. External predictions
    share a column with measured rows of exactly the same patients, labels and folds, and no other.
    """
    from survbench.console import note

    if predictions is None and (data, censorship, time_unit) != (None, None, "months"):
        raise BadConfig("--data, --censorship and --time-unit are about --predictions", "name its file, too")
    if written is not None and (target is not None or page is not None):
        other = "--write" if target is not None else "--html"
        raise BadConfig(f"{other} and --check exclude each other", "give one of them")
    brought = _Brought() if predictions is None else _read(predictions, data, endpoint, censorship, time_unit)
    part = Part(metric or "cindex", cohorts, models, endpoint and endpoint.lower(), scheme)
    if written is not None:
        _check(out, written, part, brought)
        return
    board, external = part.build(out, brought)
    if page is not None:
        from survbench.leaderboard.page import write_page

        write_page(page, board, external, out, part.metric)
    if target is not None:
        from survbench.leaderboard.written import write_leaderboard

        for file in write_leaderboard(target, board, external, part.metric, vars(part)):
            note(f"wrote {file}")
    if page is None and target is None:
        show(board, external, form, part.metric)


@click.command(
    epilog=examples(
        "survbench compare amkd abmil",
        "survbench compare amkd amkd_teacher amkd_student --cohort stad,hnsc",
        "survbench compare amkd snn --set alpha=0.5     the configuration with this weight, where there are several",
        "survbench compare all --json > differences.json",
    )
)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@out_option
@click.option("--cohort", "-c", "cohorts", callback=names, default="", help="Only these cohorts.")
@click.option("--endpoint", help="Only this outcome.")
@click.option("--folds", "scheme", help="Only these folds.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Of several configurations those with this setting."
)
@json_option
def compare(
    models: tuple[str, ...],
    out: Path,
    cohorts: tuple[str, ...],
    endpoint: str | None,
    scheme: str | None,
    overrides: tuple[str, ...],
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
    settings = _settings(overrides)
    found, board = compare_models(out, wanted, cohorts or None, endpoint and endpoint.lower(), scheme, settings)
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


def _settings(overrides: tuple[str, ...]) -> dict[str, Any]:
    """Read as `run` reads them; what reads them is slow to import."""
    if not overrides:
        return {}
    from survbench.experiments.plan import parse_overrides

    return parse_overrides(overrides)


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
    if found.table.invented:
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


@dataclass(frozen=True)
class Part:
    """Which part of a results folder is shown, and by which metric."""

    metric: str = "cindex"
    cohorts: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    endpoint: str | None = None
    scheme: str | None = None

    def build(self, out: Path, brought: _Brought | None = None) -> tuple[Leaderboard, list[ExternalRow]]:
        """The leaderboard, and the external validation that stands below it."""
        from survbench.leaderboard.aggregate import build
        from survbench.leaderboard.external import external_rows

        more = brought or _Brought()
        cohorts, models = list(self.cohorts) or None, list(self.models) or None
        board = build(out, cohorts=cohorts, models=models, endpoint=self.endpoint, folds=self.scheme, brought=more.rows)
        return replace(board, refused=(*board.refused, *more.refused)), external_rows(out, models)


@dataclass(frozen=True)
class _Brought:
    """External predictions as rows, and what makes none."""

    rows: Sequence[Row] = ()
    refused: Sequence[Refusal] = ()


def _read(file: Path, data: Path | None, endpoint: str | None, censorship: str | None, time_unit: str) -> _Brought:
    from survbench.leaderboard.brought import read_brought

    root = None if data is None else open_root(data)
    return _Brought(*read_brought(file, root, endpoint, censorship=censorship, time_unit=time_unit))


def show(board: Leaderboard, external: Sequence[ExternalRow], form: str, metric: str) -> None:
    """Print a leaderboard and the external validation below it, in one of the forms."""
    from survbench.console import stdout
    from survbench.leaderboard import render
    from survbench.leaderboard.external import external_markdown, external_rich
    from survbench.leaderboard.written import document

    if form == "rich":
        stdout().print(render.to_rich(board, metric))
        if external:
            stdout().print(external_rich(external))
    elif form == "markdown":
        click.echo(render.to_markdown(board, metric))
        if external:
            click.echo(external_markdown(external))
    elif form == "csv":
        click.echo(render.to_csv(board, metric))
    else:
        print_json(document(board, external, metric))


def _check(out: Path, written: Path, part: Part, brought: _Brought) -> None:
    """Print what differs; a document says itself what was asked of it, unless that is asked anew."""
    from rich.table import Table
    from rich.text import Text

    from survbench.console import stdout
    from survbench.leaderboard.written import check_written, read_written

    file, found = read_written(written)
    if part == Part():
        part = replace(part, **found.get("asked", {}))
    board, external = part.build(out, brought)
    mismatches = check_written(written, found, board, external, part.metric)
    if not mismatches:
        click.echo(f"{file} is what the predictions in {out} give: {len(found['rows'])} rows")
        return
    shown = Table(title=Text(f"Differences between {file} and the predictions in {out}: {len(mismatches)}"))
    for header in ("row", "figure", "written", "recomputed"):
        shown.add_column(header, overflow="fold")
    for one in mismatches:
        shown.add_row(*map(Text, (one.row, one.what, one.written, one.recomputed)))
    stdout().print(shown)
    sys.exit(1)
