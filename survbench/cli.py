"""Commands, options and help. What they do is elsewhere; everything heavy is imported inside the commands."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from survbench import __version__
from survbench.cli_data import data
from survbench.cli_experiments import ablate, study, tune
from survbench.cli_explain import explain
from survbench.cli_figures import km
from survbench.cli_leaderboard import Part, compare, leaderboard, show
from survbench.cli_options import (
    Asked,
    about_jobs,
    chosen_endpoint,
    cohort_option,
    data_option,
    endpoint_option,
    examples,
    folds_option,
    json_option,
    mlflow_option,
    names,
    open_registry,
    open_root,
    print_json,
    run_all,
    threads_option,
    workers_option,
)
from survbench.errors import BadConfig, SurvbenchError

if TYPE_CHECKING:
    from survbench.data.cohort import Cohort
    from survbench.experiments.job import Job

__all__ = ["main"]


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
        "survbench run --model amkd,abmil --cohort all --seeds 0,1,2 --dry-run    how long would that take?",
        "survbench run --model amkd,abmil --train hnsc --test cptac-hnsc --seeds 0,1,2     AMKD's Table 4",
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
@click.option("--train", "train", help="Learn on this cohort alone and apply the models, frozen, to --test.")
@click.option("--test", "test", help="Cohort for external validation; no one is trained or tuned on it.")
@mlflow_option
@workers_option
@threads_option
@click.option("--dry-run", is_flag=True, help="Start nothing: time a few steps and estimate what the jobs would take.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: the estimate as one JSON document.")
@about_jobs
def run(
    asked: Asked,
    models: tuple[str, ...],
    train: str | None,
    test: str | None,
    mlflow: bool,
    workers: int | None,
    threads: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Train models on every fold of every cohort and score them on patients they never saw.

    With --train and --test, models of all folds of one cohort are applied, frozen, to another cohort.

    What is done is skipped, what was interrupted goes on where it stopped: just give the same command again.

    With --dry-run no job starts and nothing is written: a few warm steps of each model on each cohort are timed, which
    takes seconds to minutes, and a table says what the jobs that remain would take, from early stopping at once to all
    epochs.
    """
    from survbench.experiments.mlflow.tracking import Mirror
    from survbench.experiments.plan import plan
    from survbench.leaderboard.render import to_markdown

    if (train is None) != (test is None):
        raise BadConfig("--train and --test belong together", "for example --train hnsc --test cptac-hnsc")
    if train is not None and asked.cohorts != ("all",):
        raise BadConfig(f"--cohort {','.join(asked.cohorts)} and --train {train}", "--train names the cohort")
    if as_json and not dry_run:
        raise BadConfig("--json without --dry-run", "for results: survbench leaderboard --format json")
    request = asked.of(models, [train] if train else None)
    jobs = plan(request, asked.registry, asked.root)
    external = _external_cohort(jobs, test, asked) if test else None
    if dry_run:
        _estimate(jobs, asked, workers, threads, as_json=as_json)
        return
    about = (",".join(models), ",".join(request.cohorts), request.endpoint, request.scheme, asked.root.name)
    mirror = Mirror(
        asked.out, f"survbench {' | '.join(about)}", enabled=mlflow, address=os.environ.get("MLFLOW_TRACKING_URI")
    )
    summary = run_all(jobs, asked.out, asked.device, mirror, workers, threads)
    if external is not None:
        from survbench.experiments.external import apply_frozen

        apply_frozen(jobs, external, asked.out, asked.device)
    scored, trained = (tuple(dict.fromkeys(of)) for of in ((j.cohort.name for j in jobs), (j.card.name for j in jobs)))
    part = Part("cindex", scored, trained, request.endpoint, request.scheme)
    board, applied = part.build(asked.out)
    show(board, applied if external is not None else [], "rich", part.metric)
    mirror.attach_text("leaderboard.md", to_markdown(board, part.metric))
    if summary.failed:
        sys.exit(1)


@cli.command(epilog=examples("survbench models", "survbench models --json"))
@json_option
@click.pass_obj
def models(registries: tuple[Path, ...], as_json: bool) -> None:
    """Every registered model: what it learns from, what it predicts from, where it comes from."""
    from survbench import listings

    registry = open_registry(registries)
    if as_json:
        print_json([card.public() for card in registry.models.values()])
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

    cards = open_registry(registries).select_models(models)
    costs = listings.measured_costs(cards, patches, pathways, str(resolve_device(device)))
    if as_json:
        print_json([cost.to_json(published_cost(cost.model)) for cost in costs])
    else:
        listings.show_costs(costs, patches, pathways)


@cli.command(epilog=examples("survbench cohorts", "survbench cohorts --data DATA --json"))
@data_option
@json_option
@click.pass_obj
def cohorts(registries: tuple[Path, ...], data: Path | None, as_json: bool) -> None:
    """Cohorts of the data root and those that the registry knows."""
    from survbench import listings

    rows = listings.cohort_rows(open_registry(registries), open_root(data))
    if as_json:
        print_json(rows)
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

    root = open_root(data)
    tables = {}
    for name in open_registry(registries).select_cohorts(cohorts, root.cohorts()):
        cohort = load_cohort(root, name, chosen_endpoint(endpoint))
        tables[name] = summarize(cohort.folds(scheme), cohort.patients, cohort.sites)
    if as_json:
        print_json({name: json.loads(table.to_json(orient="records")) for name, table in tables.items()})
    else:
        for name, table in tables.items():
            listings.show_folds(name, scheme, table)


cli.add_command(data)
cli.add_command(leaderboard)
cli.add_command(compare)
cli.add_command(ablate)
cli.add_command(tune)
cli.add_command(study)
cli.add_command(km)
cli.add_command(explain)


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


def _estimate(jobs: Sequence[Job], asked: Asked, workers: int | None, threads: int | None, *, as_json: bool) -> None:
    """What `run --dry-run` says."""
    from survbench import listings
    from survbench.experiments.collect import job_threads, remaining
    from survbench.experiments.executors.local import sensible_workers
    from survbench.experiments.forecast import forecast, groups

    left = remaining(jobs, asked.out)
    grouped = groups(left)
    timed = listings.calibrated(grouped, asked.device, job_threads(threads))
    number = workers or sensible_workers(asked.device)
    result = forecast(grouped, timed, len(jobs) - len(left), asked.out, number)
    if as_json:
        print_json(result.to_json())
    else:
        listings.show_forecast(result, str(asked.device))


def _external_cohort(jobs: Sequence[Job], name: str, asked: Asked) -> Cohort:
    """The cohort of --test, refused now if the models cannot be applied to it."""
    from survbench.data.cohort import load_cohort
    from survbench.experiments.external import check_external

    (chosen, *more) = asked.registry.select_cohorts([name], asked.root.cohorts())
    if more or len({job.cohort.name for job in jobs}) > 1:
        raise BadConfig("--train and --test name one cohort each", "give one command for each pair")
    cohort = load_cohort(asked.root, chosen, jobs[0].cohort.endpoint)
    check_external(jobs, cohort)
    return cohort
