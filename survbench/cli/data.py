"""Commands about data: `survbench data ...`, and what cohorts and folds a data root has."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from survbench import api
from survbench.cli import options

__all__ = ["cohorts", "data", "folds"]


@click.command(epilog=options.examples("survbench cohorts", "survbench cohorts --data DATA --json"))
@options.data
@options.as_json
@click.pass_obj
def cohorts(registry: tuple[Path, ...], data: Path | None, as_json: bool) -> None:
    """Cohorts of the data root and those that the registry knows."""
    from survbench.data.demo import open_root
    from survbench.registry import open_registry
    from survbench.report import listings

    rows = listings.cohort_rows(open_registry(registry), open_root(data))
    if as_json:
        options.print_json(rows)
    else:
        listings.show_cohorts(rows)


@click.command(
    epilog=options.examples(
        "survbench folds --cohort stad", "survbench folds --cohort stad --data DATA --folds official"
    )
)
@options.all_cohorts
@options.data
@options.folds
@options.endpoint
@options.as_json
@click.pass_obj
def folds(registry: tuple[Path, ...], /, scheme: str, as_json: bool, **chosen: Any) -> None:
    """Patients, events, comparable pairs, follow-up and shared sites of every fold; warns where they are few."""
    from survbench.report.listings import show_folds

    tables = api.fold_summaries(scheme=scheme, registry=registry, **chosen)
    if as_json:
        options.print_json({name: json.loads(table.to_json(orient="records")) for name, table in tables.items()})
    else:
        for name, table in tables.items():
            show_folds(name, scheme, table)


@click.group(epilog=options.examples("survbench data import FOLDER --out DATA", "survbench data check --data DATA"))
def data() -> None:
    """Bring data in, look at them, pack them, or make simulated ones."""


@data.command(
    "import",
    epilog=options.examples(
        "survbench data import SURVPATH_REPOSITORY --out DATA                     labels, expression, pathways, folds",
        "survbench data import SURVPATH_REPOSITORY --out DATA --slides FEATURES   and patch features",
        "survbench data import MY_COHORT --layout tables --pathways h.all.gmt --out DATA",
    ),
)
@click.argument("source", type=options.PATH)
@click.option("--out", type=options.PATH, required=True, help="Data root to write to.")
@click.option(
    "--layout",
    type=click.Choice(["auto", "survpath", "tables"]),
    default="auto",
    show_default=True,
    help="survpath: datasets_csv/ and splits/. tables: labels.csv, expression.csv, pathways.gmt per cohort.",
)
@click.option("--slides", type=options.PATH, help="Folder of patch features: CLAM, TRIDENT or STAMP files, unchanged.")
@click.option("--pathways", type=options.PATH, help="GMT or wide CSV of pathways, instead of the source's own.")
@click.option(
    "--families",
    type=options.PATH,
    help="GMT or wide CSV of gene families, which MCAT and its kin need: MCAT's signatures.csv.",
)
@options.cohorts()
@click.option(
    "--drop-invalid", is_flag=True, help="Leave out labels that cannot be right (time 0, half a label) and list them."
)
@click.option("--overwrite", is_flag=True, help="Replace cohorts that are already there.")
@click.pass_obj
def import_(registry: tuple[Path, ...], /, source: Path, out: Path, cohorts: tuple[str, ...], **chosen: Any) -> None:
    """Read the files you already have, unchanged, into a data root."""
    from survbench.data.importers import import_data
    from survbench.registry import open_registry
    from survbench.report.listings import show_import

    known = open_registry(registry)
    chosen |= {"cohorts": list(cohorts) or None, "aliases": known.aliases(), "expected": known.expected()}
    show_import(import_data(source, out, **chosen), out)


@data.command(epilog=options.examples("survbench data check --data DATA", "survbench data check --data DATA --json"))
@options.cohorts()
@options.data
@options.as_json
def check(as_json: bool, **chosen: Any) -> None:
    """Count what is there and list what is missing or wrong; the paper's Table 1 stands beside. Exits 2 on problems."""
    from survbench.console import stdout
    from survbench.data.check import render

    report = api.check_data(**chosen)
    if as_json:
        options.print_json(report.to_json())
    else:
        stdout().print(render(report))
    if report.problems:
        sys.exit(2)


@data.command(
    epilog=options.examples(
        "survbench data pack --data DATA", "survbench data pack --data DATA --cohort stad --dtype float32"
    )
)
@options.cohorts()
@options.data
@click.option("--dtype", type=click.Choice(["float16", "float32"]), help="Default: as before, at first float16.")
@click.option("--repack", is_flag=True, help="Pack again even if nothing changed.")
def pack(**chosen: Any) -> None:
    """Put all bags of a cohort into one memory-mapped array. `run` does this by itself when needed."""
    api.pack_data(**chosen)


@data.command(epilog=options.examples("survbench data demo", "survbench data demo --out DEMO"))
@click.option("--out", type=options.PATH, help="Where to; by default the user's cache.")
def demo(out: Path | None) -> None:
    """Build the demo root: five simulated cohorts with a known truth."""
    from survbench.data.demo import build_demo, demo_root

    click.echo(demo_root() if out is None else build_demo(out))


@data.command(
    epilog=options.examples(
        "survbench data simulate --data DATA", "survbench data simulate --data DATA --layout clam-h5 --patches 200"
    )
)
@click.option(
    "--data", "data", type=options.PATH, envvar="SURVBENCH_DATA", required=True, help="Data root of real patients."
)
@options.cohorts()
@click.option(
    "--layout", type=click.Choice(["trident", "clam-h5", "clam-pt", "stamp"]), default="trident", show_default=True
)
@click.option(
    "--patches", type=click.IntRange(1), default=64, show_default=True, help="Mean number of patches per slide."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace slides that were simulated before.")
def simulate(data: Path, cohorts: tuple[str, ...], **chosen: Any) -> None:
    """Write simulated slide features for the real patients of a data root, to rehearse slide models on real labels.

    Everything computed on them says so. Real feature files are never replaced.
    """
    from survbench.data.simulate import simulate_slides
    from survbench.report.listings import show_simulation

    show_simulation(simulate_slides(data, cohorts=list(cohorts) or None, **chosen))
