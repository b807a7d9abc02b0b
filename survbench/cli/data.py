"""Commands about data: `survbench data ...`, and what cohorts and folds a data root has."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from survbench import api
from survbench.cli import options
from survbench.console import stdout

__all__ = ["cohorts", "data", "folds"]


@click.command(cls=options.Command)
@options.data
@options.as_json
@options.registry
def cohorts(as_json: bool, **chosen: Any) -> None:
    """Cohorts of the data root and those that the registry knows.

    Examples:
      survbench cohorts
      survbench cohorts --data DATA --json
    """
    from survbench.report.listings import cohorts_sheet

    rows = api.list_cohorts(**chosen)
    options.print_result(as_json, rows, cohorts_sheet(rows))


@click.command(cls=options.Command)
@options.all_cohorts
@options.data
@options.scheme
@options.endpoint
@options.as_json
@options.registry
def folds(scheme: str, as_json: bool, **chosen: Any) -> None:
    """Patients, events, comparable pairs, follow-up and shared sites of every fold; warns where they are few.

    Examples:
      survbench folds --cohort stad
      survbench folds --cohort stad --data DATA --scheme official
    """
    from survbench.report.listings import folds_sheet

    tables = api.fold_summaries(scheme=scheme, **chosen)
    rows = {name: json.loads(table.to_json(orient="records")) for name, table in tables.items()}
    options.print_result(as_json, rows, *(folds_sheet(name, scheme, table) for name, table in tables.items()))


@click.group(cls=options.Group)
def data() -> None:
    """Import data, count and check them, pack them, or make simulated ones.

    Examples:
      survbench data import FOLDER --out DATA
      survbench data check --data DATA
    """


@data.command("import")
@click.argument("source", type=options.PATH)
@click.option("--out", type=options.PATH, required=True, help="Data root to write to.")
@options.renamed(
    "--layout",
    "--format",
    "layout",
    type=click.Choice(["auto", "survpath", "tables"]),
    default="auto",
    show_default=True,
    help="survpath: folders of SurvPath or MCAT. tables: labels.csv, expression.csv, pathways.gmt per cohort.",
)
@click.option("--slides", type=options.PATH, help="Folder of patch features: CLAM, TRIDENT or STAMP files, unchanged.")
@click.option("--patch-size", type=float, help="Edge of a patch in level-0 pixels, for CLAM files without patches/.")
@click.option("--pathways", type=options.PATH, help="GMT or wide CSV of pathways, instead of the source's own.")
@click.option("--families", type=options.PATH, help="GMT or wide CSV of gene families, for MCAT: its signatures.csv.")
@options.cohorts()
@click.option(
    "--time-unit",
    type=click.Choice(["months", "days", "years"]),
    help="Of all times, whatever their columns' names say.",
)
@click.option(
    "--drop-invalid",
    is_flag=False,
    flag_value="5%",
    type=str,
    metavar="[LIMIT]",
    help="Leave out and list labels that cannot be right (time 0, half a label): at most 5%, or a limit such as 12%.",
)
@click.option("--overwrite", is_flag=True, help="Replace cohorts that are already there.")
@options.registry
def import_(source: Path, out: Path, **chosen: Any) -> None:
    """Read the files you already have, unchanged, into a data root.

    Examples:
      survbench data import SURVPATH_REPOSITORY --out DATA                     labels, expression, pathways, folds
      survbench data import SURVPATH_REPOSITORY --out DATA --slides FEATURES   and patch features
      survbench data import MY_COHORT --format tables --pathways h.all.gmt --out DATA
    """
    from survbench.report.listings import import_sheet

    stdout().print(import_sheet(api.import_data(source, out, **chosen), out).to_rich())
    click.echo(f"next: {shlex.join(['survbench', 'data', 'check', '--data', str(out)])}")  # in one line: it is pasted


@data.command()
@options.cohorts()
@options.data
@click.option("--deep", is_flag=True, help="Read the contents of feature files, too: NaN, damage.")
@options.as_json
def check(as_json: bool, **chosen: Any) -> None:
    """Count a data root and list what is missing or wrong, beside the paper's Table 1; exits 2 on problems.

    Examples:
      survbench data check --data DATA
      survbench data check --data DATA --deep
      survbench data check --data DATA --json
    """
    from survbench.report.data_check import check_sheet

    report = api.check_data(**chosen)
    options.print_result(as_json, report.to_json(), check_sheet(report))
    if report.problems:
        sys.exit(2)


@data.command()
@options.cohorts()
@options.data
@click.option("--dtype", type=click.Choice(["float16", "float32"]), help="Default: as before, at first float16.")
@click.option("--repack", is_flag=True, help="Pack again even if nothing changed.")
def pack(**chosen: Any) -> None:
    """Put all bags of a cohort into one memory-mapped array. `run` does this by itself when needed.

    Examples:
      survbench data pack --data DATA
      survbench data pack --data DATA --cohort stad --dtype float32
    """
    api.pack_data(**chosen)


@data.command()
@click.option("--out", type=options.PATH, help="Folder of the root; by default in the user's cache.")
def demo(out: Path | None) -> None:
    """Build the demo root: five simulated cohorts with a known truth.

    Examples:
      survbench data demo
      survbench data demo --out DEMO
    """
    from survbench.simulation.demo import build_demo, demo_root

    click.echo(demo_root() if out is None else build_demo(out))


@data.command()
@click.option("--data", type=options.PATH, envvar="SURVBENCH_DATA", required=True, help="Data root of real patients.")
@options.cohorts()
@options.renamed(
    "--layout",
    "--format",
    "layout",
    type=click.Choice(["trident", "clam-h5", "clam-pt", "stamp"]),
    default="trident",
    show_default=True,
    help="Of the feature files.",
)
@click.option(
    "--patches", type=click.IntRange(1), default=64, show_default=True, help="Mean number of patches per slide."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace slides that were simulated before.")
def simulate(data: Path, cohorts: tuple[str, ...], **chosen: Any) -> None:
    """Write simulated slide features for the real patients of a data root, to rehearse slide models on real labels.

    Everything computed on them is marked as simulated. Real feature files are never replaced.

    Examples:
      survbench data simulate --data DATA
      survbench data simulate --data DATA --format clam-h5 --patches 200
    """
    from survbench.report.listings import simulation_sheet
    from survbench.simulation.slides import simulate_slides

    report = simulate_slides(data, cohorts=list(cohorts) or None, **chosen)
    stdout().print(simulation_sheet(report).to_rich())
