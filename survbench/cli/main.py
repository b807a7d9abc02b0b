"""The command itself: what is registered, and how a command ends. Everything heavy is imported inside the commands."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import click

from survbench import __version__, api
from survbench.cli import options
from survbench.cli.data import cohorts, data, folds
from survbench.cli.explain import explain
from survbench.cli.results import compare, km, leaderboard
from survbench.cli.run import ablate, run, study, tune
from survbench.console import visible
from survbench.errors import SurvbenchError

__all__ = ["cli", "main"]

_MISTAKES = (errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)


class _Commands(options.Group):
    """Ctrl-C ends them with exit code 130; the function that was interrupted has printed what it means for the work."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except KeyboardInterrupt:
            sys.exit(130)


@click.group(cls=_Commands)
@click.version_option(__version__, prog_name="survbench")
@click.option(
    "--registry",
    "registries",
    multiple=True,
    type=options.PATH,
    help="A registry file of your own, written like registry.yaml; also SURVBENCH_REGISTRY.",
)
@click.pass_context
def cli(context: click.Context, registries: tuple[Path, ...]) -> None:
    """Cancer survival from slides and transcriptomes: the same folds, features and trainer for every model.

    A row of the leaderboard differs from the next one by its model and by nothing else.

    Examples:
      survbench run --model amkd --cohort all         train and score AMKD on the demo cohorts
      survbench leaderboard                           what has been measured so far
      survbench data import SURVPATH_FOLDER --out DATA
      survbench run --model snn --cohort stad,crad --data DATA --scheme official --endpoint dss
    """
    context.obj = registries


@cli.command()
@options.as_json
@options.registry
def models(registry: tuple[Path, ...], as_json: bool) -> None:
    """Every registered model: what it learns from, what it predicts from, where it comes from.

    Examples:
      survbench models
      survbench models --json
    """
    from survbench.registry import open_registry
    from survbench.report.listings import models_sheet

    known = open_registry(registry)
    options.print_result(as_json, [card.public() for card in known.models.values()], models_sheet(known))


@cli.command()
@options.models(default="all", show_default=True)
@click.option("--patches", type=click.IntRange(1), default=4096, show_default=True, help="Patches of the one patient.")
@click.option(
    "--pathways", type=click.IntRange(1), default=331, show_default=True, help="Pathways, 29 genes on average."
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1.")
@options.as_json
@options.registry
def complexity(patches: int, pathways: int, as_json: bool, **chosen: Any) -> None:
    """Parameters, operations, memory and time of each model for one patient; the paper's Table 7 stands beside.

    Examples:
      survbench complexity
      survbench complexity --model survpath,amkd --patches 10000 --device cuda
      survbench complexity --json > costs.json
    """
    costs = api.measure_costs(patches=patches, pathways=pathways, **chosen)

    from survbench.leaderboard.published import published_cost
    from survbench.report.listings import costs_sheet

    rows = [cost.to_json(published_cost(cost.model)) for cost in costs]
    options.print_result(as_json, rows, costs_sheet(costs, patches, pathways))


for command in (run, cohorts, folds, data, leaderboard, compare, ablate, tune, study, km, explain):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: a user's mistake is one line and exit code 2; a traceback means a bug."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, and the next file to be opened would take its place
            setattr(sys, name, open(os.open(os.devnull, os.O_RDWR), "r+"))  # noqa: SIM115
            os.set_inheritable(getattr(sys, name).fileno(), True)
    old_names = "name the fields|Asking"  # in model files of users, who would not see a DeprecationWarning otherwise
    warnings.filterwarnings("default", old_names, DeprecationWarning)
    try:
        os.getcwd()  # fails where it was deleted, and libraries would end the process
        cli.main(arguments, prog_name="survbench", standalone_mode=True)
    except SurvbenchError as error:
        _fail(str(error))
    except UnicodeEncodeError as error:
        _fail(f"the output is not {error.encoding}: {error.reason}. Set PYTHONIOENCODING=utf-8 or a UTF-8 locale")
    except OSError as error:
        if error.errno not in _MISTAKES and (error.errno, error.filename) != (errno.ENOENT, None):
            raise
        place = "the current folder" if error.errno == errno.ENOENT else "writing"
        _fail(f"{error.filename or place}: {error.strerror}. Check permissions, disk space and the path")


def _fail(message: str) -> None:
    click.echo(visible(f"error: {message}"), err=True)
    sys.exit(2)
