"""Commands, options and help. What they do is elsewhere; everything heavy is imported inside the commands."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from survbench import __version__
from survbench.errors import BadConfig, SurvbenchError

if TYPE_CHECKING:
    from survbench.data.root import DataRoot
    from survbench.registry import Registry

__all__ = ["main"]

OUT = Path("survbench-runs")


def names(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(part.strip() for part in (value or "").split(",") if part.strip())


def numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Whole numbers separated by commas."""
    try:
        return tuple(int(part) for part in names(context, parameter, value))
    except ValueError:
        raise click.BadParameter(f"'{value}' is not a list of whole numbers such as 0,1,2") from None


def examples(*lines: str) -> str:
    """An epilog that click leaves as it is."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    envvar="SURVBENCH_DATA",
    show_envvar=True,
    help="Data root. Without one the built-in demo (simulated) is used and built on first use.",
)
out_option = click.option(
    "--out", type=click.Path(path_type=Path), default=OUT, show_default=True, help="Folder of the results."
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON document on standard output, nothing else."
)
cohort_option = click.option(
    "--cohort",
    "-c",
    "cohorts",
    callback=names,
    default="all",
    show_default=True,
    help="Names, wildcards or `all`, separated by commas.",
)
endpoint_option = click.option(
    "--endpoint", help="Outcome: os, dss, pfi, ... as the cohort has them. Default: os, said aloud."
)
folds_option = click.option(
    "--folds",
    "scheme",
    default="event-stratified",
    show_default=True,
    help="event-stratified, site-preserving, or imported ones such as `official`.",
)


@click.group(
    epilog=examples(
        "survbench run --model amkd --cohort all         train and score AMKD on the demo cohorts",
        "survbench leaderboard                           what has been measured so far",
        "survbench data import SURVPATH_FOLDER --out DATA",
        "survbench run --model snn --cohort stad,crad --data DATA --folds official --endpoint dss",
    )
)
@click.version_option(__version__, prog_name="survbench")
@click.option(
    "--registry",
    "registries",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A registry file of your own, laid out like registry.yaml; also SURVBENCH_REGISTRY.",
)
@click.pass_context
def cli(context: click.Context, registries: tuple[Path, ...]) -> None:
    """Cancer survival from slides and transcriptomes: the same folds, features and trainer for every model.

    A row of the leaderboard differs from the next one by its model and by nothing else.
    """
    context.obj = registries


@cli.command(
    epilog=examples(
        "survbench run --model amkd --cohort all",
        "survbench run --model 'abmil,snn' --cohort stad --data DATA --endpoint dss --folds official --seeds 0,1,2",
        "survbench run --model ./my_model.py --cohort stad --set width=128 --set learning_rate=1e-4",
    )
)
@click.option(
    "--model",
    "-m",
    "models",
    callback=names,
    required=True,
    help="Names, wildcards, `all`, or a Python file of your own (my_model.py[:Class]).",
)
@cohort_option
@data_option
@out_option
@folds_option
@endpoint_option
@click.option(
    "--objective", default="cox", show_default=True, help="cox (Efron ties), cox-breslow or nll (discrete time)."
)
@click.option("--seeds", callback=numbers, default="0", show_default=True, help="One run per seed; claims need three.")
@click.option("--fold", "only_folds", callback=numbers, default="", help="Only these outer folds, for example 0,1.")
@click.option("--preset", help="Named settings of the registry, for example `rehearsal`.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting of the model or of the trainer."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option(
    "--mlflow/--no-mlflow", "mlflow", default=True, help="Mirror results in MLflow (MLFLOW_TRACKING_URI is honored)."
)
@click.pass_obj
def run(
    registries: tuple[Path, ...],
    models: tuple[str, ...],
    cohorts: tuple[str, ...],
    data: Path | None,
    out: Path,
    scheme: str,
    endpoint: str | None,
    objective: str,
    seeds: tuple[int, ...],
    only_folds: tuple[int, ...],
    preset: str | None,
    overrides: tuple[str, ...],
    device: str,
    mlflow: bool,
) -> None:
    """Train models on every fold of every cohort and score them on patients they never saw.

    What is done is skipped, what was interrupted goes on where it stopped: just give the same command again.
    """
    from survbench.console import note
    from survbench.experiments.execute import run_jobs
    from survbench.experiments.plan import Request, parse_overrides, plan
    from survbench.experiments.tracking import Mirror
    from survbench.training.device import resolve_device

    registry, root = _registry(registries), _root(data)
    where = resolve_device(device)
    request = Request(
        models, cohorts, _endpoint(endpoint), scheme, objective, seeds, only_folds, preset, parse_overrides(overrides)
    )
    jobs = plan(request, registry, root)
    _make_out(out)
    experiment = f"survbench {','.join(models)} | {','.join(cohorts)} | {request.endpoint} | {scheme} | {root.name}"
    note(f"{len(jobs)} jobs on {where}; results go to {out}")
    try:
        summary = run_jobs(jobs, out, where, Mirror(out, experiment, enabled=mlflow))
    except KeyboardInterrupt:
        note("\ninterrupted; nothing is lost: the same command goes on from the last epoch")
        sys.exit(130)
    note(f"{summary.done} jobs done, {summary.skipped} were done before, {len(summary.failed)} failed")
    _print_leaderboard(
        out,
        "rich",
        "cindex",
        list(dict.fromkeys(j.cohort.name for j in jobs)),
        list(dict.fromkeys(j.card.name for j in jobs)),
        request.endpoint,
        scheme,
    )
    if summary.failed:
        sys.exit(1)


@cli.command(
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
@click.option("--metric", default="cindex", show_default=True, help="cindex (Harrell), uno_c, ibs or auc.")
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
    _print_leaderboard(out, form, metric, list(cohorts) or None, list(models) or None, endpoint, scheme)


@cli.command(epilog=examples("survbench models", "survbench models --json"))
@json_option
@click.pass_obj
def models(registries: tuple[Path, ...], as_json: bool) -> None:
    """Every registered model: what it learns from, what it predicts from, where it comes from."""
    from survbench import listings

    registry = _registry(registries)
    if as_json:
        _print_json([card.public() for card in registry.models.values()])
    else:
        listings.show_models(registry)


@cli.command(
    epilog=examples(
        "survbench complexity",
        "survbench complexity --model survpath,amkd --patches 10000 --device cuda",
        "survbench complexity --json > costs.json",
    )
)
@click.option("--model", "-m", "models", callback=names, default="all", show_default=True, help="Names or wildcards.")
@click.option("--patches", type=click.IntRange(1), default=4096, show_default=True, help="Patches of the one patient.")
@click.option(
    "--pathways", type=click.IntRange(1), default=331, show_default=True, help="Pathways, 29 genes on average."
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1.")
@json_option
@click.pass_obj
def complexity(
    registries: tuple[Path, ...], models: tuple[str, ...], patches: int, pathways: int, device: str, as_json: bool
) -> None:
    """Parameters, operations, memory and time of each model for one patient; the paper's Table 7 stands beside."""
    from survbench import listings
    from survbench.leaderboard.published import published_cost
    from survbench.training.device import resolve_device

    cards = _registry(registries).select_models(models)
    costs = listings.measured_costs(cards, patches, pathways, str(resolve_device(device)))
    if as_json:
        _print_json([cost.to_json(published_cost(cost.model)) for cost in costs])
    else:
        listings.show_costs(costs, patches, pathways)


@cli.command(epilog=examples("survbench cohorts", "survbench cohorts --data DATA --json"))
@data_option
@json_option
@click.pass_obj
def cohorts(registries: tuple[Path, ...], data: Path | None, as_json: bool) -> None:
    """Cohorts of the data root and those that the registry knows."""
    from survbench import listings

    rows = listings.cohort_rows(_registry(registries), _root(data))
    if as_json:
        _print_json(rows)
    else:
        listings.show_cohorts(rows)


@cli.command(
    epilog=examples("survbench folds --cohort stad", "survbench folds --cohort stad --data DATA --folds official")
)
@cohort_option
@data_option
@folds_option
@endpoint_option
@json_option
@click.pass_obj
def folds(
    registries: tuple[Path, ...],
    cohorts: tuple[str, ...],
    data: Path | None,
    scheme: str,
    endpoint: str | None,
    as_json: bool,
) -> None:
    """Patients, events, comparable pairs, follow-up and shared sites of every fold; warns where they are few."""
    from survbench import listings
    from survbench.data.cohort import load_cohort
    from survbench.data.folds import summarize
    from survbench.experiments.plan import select_cohorts

    root = _root(data)
    tables = {}
    for name in select_cohorts(cohorts, _registry(registries), root):
        cohort = load_cohort(root, name, _endpoint(endpoint))
        tables[name] = summarize(cohort.folds(scheme), cohort.patients, cohort.sites)
    if as_json:
        _print_json({name: json.loads(table.to_json(orient="records")) for name, table in tables.items()})
    else:
        for name, table in tables.items():
            listings.show_folds(name, scheme, table)


@cli.group(epilog=examples("survbench data import FOLDER --out DATA", "survbench data check --data DATA"))
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

    registry = _registry(registries)
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

    root = _root(data)
    names = list(cohorts) or root.cohorts()
    counts = {name: found for name in names if (found := published_counts(name))}
    report = check_root(root, names, counts)
    if as_json:
        _print_json(report.to_json())
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

    root = _root(data)
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


def main(arguments: list[str] | None = None) -> None:
    """Entry point: a user's mistake is one line and exit code 2; a traceback means a bug."""
    try:
        cli.main(arguments, prog_name="survbench", standalone_mode=True)
    except SurvbenchError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EROFS, errno.ENOTDIR, errno.EISDIR):
            raise
        _fail(f"{error.filename or 'writing'}: {error.strerror}. Check permissions, disk space and the path")


def _fail(message: str) -> None:
    click.echo(f"error: {message}", err=True)
    sys.exit(2)


def _registry(files: tuple[Path, ...]) -> Registry:
    from survbench.console import warn
    from survbench.registry import load_registry

    registry = load_registry(files)
    for problem in registry.problems:
        warn(problem)
    return registry


def _root(path: Path | None) -> DataRoot:
    from survbench.data.demo import demo_root
    from survbench.data.root import DataRoot

    return DataRoot.open(demo_root() if path is None else path)


def _endpoint(endpoint: str | None) -> str:
    from survbench.console import note

    if endpoint is None:
        note("endpoint: os, overall survival (choose with --endpoint)")
        return "os"
    return endpoint.lower()


def _make_out(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise BadConfig(f"--out {out} is a file", "name a folder")
    out.mkdir(parents=True, exist_ok=True)


def _print_leaderboard(
    out: Path,
    form: str,
    metric: str,
    cohorts: list[str] | None,
    models: list[str] | None,
    endpoint: str | None,
    scheme: str | None,
) -> None:
    from survbench.console import stdout
    from survbench.leaderboard import render
    from survbench.leaderboard.aggregate import build

    board = build(out, cohorts=cohorts, models=models, endpoint=endpoint, folds=scheme)
    if form == "rich":
        stdout().print(render.to_rich(board, metric))
    else:
        click.echo({"markdown": render.to_markdown, "csv": render.to_csv, "json": render.to_json}[form](board, metric))


def _print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=1))
