"""`survbench data ...`: options and help of the commands that bring data in; the work is in data/."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from survbench.cli_options import data_option, examples, json_option, names, open_registry, open_root, print_json

__all__ = ["data"]


@click.group(epilog=examples("survbench data import FOLDER --out DATA", "survbench data check --data DATA"))
def data() -> None:
    """Bring data in, look at them, pack them, or make simulated ones."""


@data.command(
    "import",
    epilog=examples(
        "survbench data import SURVPATH_REPOSITORY --out DATA                     labels, expression, pathways, folds",
        "survbench data import SURVPATH_REPOSITORY --out DATA --slides FEATURES   and patch features",
        "survbench data import MY_COHORT --layout tables --pathways h.all.gmt --out DATA",
    ),
)
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Data root to write to.")
@click.option(
    "--layout",
    type=click.Choice(["auto", "survpath", "tables"]),
    default="auto",
    show_default=True,
    help="survpath: datasets_csv/ and splits/. tables: labels.csv, expression.csv, pathways.gmt per cohort.",
)
@click.option(
    "--slides",
    type=click.Path(path_type=Path),
    help="Folder of patch features: CLAM, TRIDENT or STAMP files, unchanged.",
)
@click.option(
    "--pathways", type=click.Path(path_type=Path), help="GMT or wide CSV of pathways, instead of the source's own."
)
@click.option(
    "--families",
    type=click.Path(path_type=Path),
    help="GMT or wide CSV of gene families, which MCAT and its kin need: MCAT's signatures.csv.",
)
@click.option("--cohort", "-c", "cohorts", callback=names, default="", help="Only these cohorts.")
@click.option(
    "--drop-invalid", is_flag=True, help="Leave out labels that cannot be right (time 0, half a label) and list them."
)
@click.option("--overwrite", is_flag=True, help="Replace cohorts that are already there.")
@click.pass_obj
def import_(
    registries: tuple[Path, ...],
    source: Path,
    out: Path,
    layout: str,
    slides: Path | None,
    pathways: Path | None,
    families: Path | None,
    cohorts: tuple[str, ...],
    drop_invalid: bool,
    overwrite: bool,
) -> None:
    """Read the files you already have, unchanged, into a data root."""
    from survbench import listings
    from survbench.data.importers import import_data

    registry = open_registry(registries)
    expected = {name: card.expected for name, card in registry.cohorts.items() if card.expected}
    report = import_data(
        source,
        out,
        layout=layout,
        slides=slides,
        pathways=pathways,
        families=families,
        cohorts=list(cohorts) or None,
        aliases=registry.aliases(),
        expected=expected,
        drop_invalid=drop_invalid,
        overwrite=overwrite,
    )
    listings.show_import(report, out)


@data.command(epilog=examples("survbench data check --data DATA", "survbench data check --data DATA --json"))
@click.option("--cohort", "-c", "cohorts", callback=names, default="", help="Only these cohorts.")
@data_option
@json_option
def check(cohorts: tuple[str, ...], data: Path | None, as_json: bool) -> None:
    """Count what is there and list what is missing or wrong; the paper's Table 1 stands beside. Exits 2 on problems."""
    from survbench.console import stdout
    from survbench.data.check import check as check_root
    from survbench.data.check import render
    from survbench.leaderboard.published import published_counts

    root = open_root(data)
    names = list(cohorts) or root.cohorts()
    counts = {name: found for name in names if (found := published_counts(name))}
    report = check_root(root, names, counts)
    if as_json:
        print_json(report.to_json())
    else:
        stdout().print(render(report))
    if report.problems:
        sys.exit(2)


@data.command(
    epilog=examples("survbench data pack --data DATA", "survbench data pack --data DATA --cohort stad --dtype float32")
)
@click.option("--cohort", "-c", "cohorts", callback=names, default="", help="Only these cohorts.")
@data_option
@click.option("--dtype", type=click.Choice(["float16", "float32"]), help="Default: as before, at first float16.")
@click.option("--repack", is_flag=True, help="Pack again even if nothing changed.")
def pack(cohorts: tuple[str, ...], data: Path | None, dtype: str, repack: bool) -> None:
    """Put all bags of a cohort into one memory-mapped array. `run` does this by itself when needed."""
    from survbench.console import note
    from survbench.data.store import pack as pack_cohort

    root = open_root(data)
    for name in list(cohorts) or root.cohorts():
        folder = root.cohort(name)
        if folder.slides()["file"].isna().all():
            note(f"{name}: no feature files, nothing to pack")
            continue
        store = pack_cohort(folder, dtype=dtype, repack=repack)
        note(
            f"{name}: {len(store.patients)} patients, {store.patches:,} patches x {store.dim} {store.dtype}, "
            f"content {store.content_hash[:12]}"
        )


@data.command(epilog=examples("survbench data demo", "survbench data demo --out DEMO"))
@click.option("--out", type=click.Path(path_type=Path), help="Where to; by default the user's cache.")
def demo(out: Path | None) -> None:
    """Build the demo root: five simulated cohorts with a known truth."""
    from survbench.data.demo import build_demo, demo_root

    click.echo(demo_root() if out is None else build_demo(out))


@data.command(
    epilog=examples(
        "survbench data simulate --data DATA", "survbench data simulate --data DATA --layout clam-h5 --patches 200"
    )
)
@click.option(
    "--data",
    "data",
    type=click.Path(path_type=Path),
    envvar="SURVBENCH_DATA",
    required=True,
    help="Data root of real patients.",
)
@click.option("--cohort", "-c", "cohorts", callback=names, default="", help="Only these cohorts.")
@click.option(
    "--layout", type=click.Choice(["trident", "clam-h5", "clam-pt", "stamp"]), default="trident", show_default=True
)
@click.option(
    "--patches", type=click.IntRange(1), default=64, show_default=True, help="Mean number of patches per slide."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace slides that were simulated before.")
def simulate(data: Path, cohorts: tuple[str, ...], layout: str, patches: int, seed: int, overwrite: bool) -> None:
    """Write simulated slide features for the real patients of a data root, to rehearse slide models on real labels.

    Everything computed on them says so. Real feature files are never replaced.
    """
    from survbench import listings
    from survbench.data.simulate import simulate_slides

    report = simulate_slides(
        data, cohorts=list(cohorts) or None, layout=layout, patches=patches, seed=seed, overwrite=overwrite
    )
    listings.show_simulation(report)
