"""Commands that show results: the leaderboard, comparisons of its models, and their risk groups."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from survbench import api
from survbench.cli import options
from survbench.console import note, stdout, warn
from survbench.errors import BadConfig

__all__ = ["compare", "km", "leaderboard"]


@click.command(cls=options.Command)
@options.out
@click.option(
    "--format", "form", type=click.Choice(["rich", "markdown", "csv", "json"]), default="rich", show_default=True
)
@click.option(
    "--metric",
    default="cindex",
    show_default=True,
    help="cindex (Harrell), uno_c, ibs, auc, d_calibration or comparable_pairs.",
)
@options.cohorts()
@options.models("Only these models: names or wildcards, separated by commas.", default="")
@click.option("--endpoint", help="Only this outcome; with --predictions, the outcome that they predict.")
@options.only_scheme
@click.option(
    "--predictions",
    type=options.PATH,
    help="A CSV of predictions made elsewhere: model, cohort, fold, case, risk, and time, event (or --data DATA).",
)
@click.option("--data", type=options.PATH, help="Data root with the labels of --predictions.")
@click.option("--censorship", metavar="COLUMN", help="The column of --predictions that is 1 for censored patients.")
@click.option(
    "--time-unit",
    type=click.Choice(["months", "days"]),
    default="months",
    show_default=True,
    help="Of the times in --predictions; a month has 30.4375 days.",
)
@click.option("--write", "target", type=options.PATH, help="Write it to this folder as Markdown, CSV and JSON.")
@click.option(
    "--check",
    "written",
    type=options.PATH,
    help="Recompute a written leaderboard (folder or JSON file) and list what differs; exit code 1 if anything does.",
)
@click.option("--html", "page", type=options.PATH, help="Write it to this file as one page that needs no network.")
def leaderboard(
    out: Path,
    form: str,
    metric: str,
    predictions: Path | None,
    data: Path | None,
    censorship: str | None,
    time_unit: str,
    target: Path | None,
    written: Path | None,
    page: Path | None,
    **selection: Any,
) -> None:
    """Tables of all results, computed from the stored predictions; published figures stand beside.

    Rows on different data, endpoints, folds or simulated and real data are never ranked together. External predictions
    share a column with measured rows of exactly the same patients, labels and folds, and no other.

    Examples:
      survbench leaderboard
      survbench leaderboard --format markdown > table.md
      survbench leaderboard --format json --cohort stad | jq '.rows[].metrics.cindex.mean'
      survbench leaderboard --predictions theirs.csv --endpoint os
      survbench leaderboard --predictions theirs.csv --data DATA --endpoint os     labels from the data root
      survbench leaderboard --html leaderboard.html
      survbench leaderboard --write leaderboards/mine
      survbench leaderboard --check leaderboards/mine
    """
    if predictions is None and (data, censorship, time_unit) != (None, None, "months"):
        raise BadConfig("--data, --censorship and --time-unit are about --predictions", "name its file, too")
    if written is not None and (target is not None or page is not None):
        other = "--write" if target is not None else "--html"
        raise BadConfig(f"{other} and --check exclude each other", "name one of them")
    results = api.load_results(out).select(**selection)
    if predictions is not None:
        results = results.add_predictions(
            predictions, data=data, endpoint=selection["endpoint"], censorship=censorship, time_unit=time_unit
        )

    from survbench.report.tables import mismatch_sheet
    from survbench.report.terminal import show_board

    if written is not None:
        checked = results.check(written, metric)
        if not checked.mismatches:
            click.echo(f"{checked.file} is what the predictions in {out} give: {checked.rows} rows")
            return
        stdout().print(mismatch_sheet(checked.mismatches, checked.file, out).to_rich())
        sys.exit(1)
    if page is not None:
        results.write_page(page, metric)
    for file in results.write(target, metric) if target is not None else ():
        note(f"wrote {file}")
    if page is None and target is None:
        show_board(results.board, results.external_validation, form, metric)


@click.command(cls=options.Command)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@options.out
@options.cohorts()
@options.only_endpoint
@options.only_scheme
@options.settings("Of several configurations those with this setting.")
@options.as_json
def compare(models: tuple[str, ...], out: Path, settings: dict[str, Any], as_json: bool, **selection: Any) -> None:
    """Differences in C-index between finished models, all pairs, with their uncertainty.

    MODEL is a name, a wildcard or `all`. Differences are paired by fold, seed and patient. A model is called higher
    only where both intervals leave out zero and the Holm-adjusted p is below 5 %. Three models and two cohorts are
    ranked, too. Figures go to OUT/figures.

    Examples:
      survbench compare amkd abmil
      survbench compare amkd amkd_teacher amkd_student --cohort stad,hnsc
      survbench compare amkd snn --set alpha=0.5     the configuration with this weight, where there are several
      survbench compare all --json > differences.json
    """
    wanted = [part for model in models for part in model.split(",") if part]
    compared, board = api.load_results(out).select(**selection).comparisons(*wanted, settings=settings)

    from survbench.leaderboard.comparison import comparison_plain
    from survbench.report.plots.comparison import plot_comparison
    from survbench.report.tables import comparison_sheet

    pairs = [(one, plot_comparison(one, out / "figures")) for one in compared]
    plain = [{**comparison_plain(one), "figures": [str(file) for file in files]} for one, files in pairs]
    document = {"comparisons": plain, "notes": list(board.notes)}
    options.print_result(as_json, document, *(comparison_sheet(*pair) for pair in pairs))
    for remark in (*board.notes, *(f"not compared: {refusal.label}: {refusal.reason}" for refusal in board.refused)):
        warn(remark)


@click.command(cls=options.Command)
@options.models(default="all", show_default=True)
@options.cohorts("Names, wildcards or `all`, separated by commas.", default="all")
@options.out
@options.only_endpoint
@options.only_scheme
@options.as_json
def km(out: Path, as_json: bool, **selection: Any) -> None:
    """Kaplan-Meier curves of low and high risk, with numbers at risk and log-rank p, one figure per model and cohort.

    High risk is above the median of the fold's training patients. The p is stratified by fold; the pooled one, which
    the paper prints, stands beside it. Figures go to OUT/figures.

    Examples:
      survbench km --model amkd
      survbench km --model 'amkd,abmil' --cohort stad --json > groups.json
    """
    records = api.load_results(out).select(**selection).write_km()
    if not records:
        raise BadConfig(f"no finished row in {out}", "make one with: survbench run --model MODEL --cohort COHORT")

    from survbench.report.tables import risk_group_sheet

    options.print_result(as_json, records, risk_group_sheet(records))
