"""What the commands share: options, how their values are read, and what they open."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from survbench.data.root import DataRoot
    from survbench.registry import Registry

__all__ = [
    "chosen_endpoint",
    "cohort_option",
    "data_option",
    "endpoint_option",
    "examples",
    "folds_option",
    "json_option",
    "names",
    "numbers",
    "open_registry",
    "open_root",
    "out_option",
    "print_json",
]

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


def open_registry(files: tuple[Path, ...]) -> Registry:
    """Everything registered; what could not be read is a warning."""
    from survbench.console import warn
    from survbench.registry import load_registry

    registry = load_registry(files)
    for problem in registry.problems:
        warn(problem)
    return registry


def open_root(path: Path | None) -> DataRoot:
    """The data root that was named, or the demo."""
    from survbench.data.demo import demo_root
    from survbench.data.root import DataRoot

    return DataRoot.open(demo_root() if path is None else path)


def chosen_endpoint(endpoint: str | None) -> str:
    """The endpoint that was named; the default is said aloud."""
    from survbench.console import note

    if endpoint is None:
        note("endpoint: os, overall survival (choose with --endpoint)")
        return "os"
    return endpoint.lower()


def print_json(document: Any) -> None:
    """One document on standard output."""
    click.echo(json.dumps(document, indent=1))
