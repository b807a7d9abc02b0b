"""Options that several commands have, and how their values are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import update_wrapper
from pathlib import Path
from typing import Any

import click

from survbench.api import FOLDS, OUT
from survbench.errors import BadConfig

__all__ = [
    "about_jobs",
    "cohort_option",
    "cohorts_option",
    "data_option",
    "device_option",
    "endpoint_filter",
    "endpoint_option",
    "examples",
    "folds_filter",
    "folds_option",
    "fractions",
    "json_option",
    "mlflow_option",
    "model_option",
    "names",
    "numbers",
    "out_option",
    "preset_option",
    "print_json",
    "seeds_option",
    "set_option",
    "settings",
    "threads_option",
    "workers_option",
]

PATH: Any = click.Path(path_type=Path)
Command = Callable[..., Any]


def names(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(part.strip() for part in (value or "").split(",") if part.strip())


def numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Whole numbers separated by commas."""
    try:
        return tuple(int(part) for part in names(context, parameter, value))
    except ValueError:
        raise click.BadParameter(f"'{value}' is not a list of whole numbers such as 0,1,2") from None


def fractions(context: click.Context, parameter: click.Parameter, value: str) -> tuple[float, ...]:
    """Numbers separated by commas."""
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError:
        option = parameter.opts[0]
        what = f"{option} {value}: expected numbers separated by commas"
        raise BadConfig(what, f"for example {option} 0,0.5") from None


def settings(context: click.Context, parameter: click.Parameter, texts: Sequence[str]) -> dict[str, Any]:
    """`key=value` texts, values read as YAML (`true`, `0.5`, `[508, 256]`)."""
    import yaml

    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise BadConfig(f"--set {text}: expected key=value", "for example --set alpha=0.5")
        try:
            found[key.strip()] = _number(yaml.safe_load(value))
        except yaml.YAMLError:
            raise BadConfig(f"--set {text}: the value cannot be read") from None
    return found


def _number(value: Any) -> Any:
    """YAML reads `1e-4` as text; people mean the number."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _workers(context: click.Context, parameter: click.Parameter, value: str) -> int | None:
    """A number of processes; None for `auto`."""
    if value == "auto":
        return None
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"'{value}' is neither `auto` nor a number from 1")
    return int(value)


def examples(*lines: str) -> str:
    """An epilog that click leaves as it is."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


model_option = click.option("--model", "-m", "models", callback=names, required=True, help="Names, wildcards or `all`.")
data_option = click.option(
    "--data",
    type=PATH,
    envvar="SURVBENCH_DATA",
    show_envvar=True,
    help="Data root. Without one the built-in demo (simulated) is used and built on first use.",
)
out_option = click.option("--out", type=PATH, default=OUT, show_default=True, help="Folder of the results.")
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
cohorts_option = click.option("--cohort", "-c", "cohorts", callback=names, default="", help="Only these cohorts.")
endpoint_option = click.option(
    "--endpoint", help="Outcome: os, dss, pfi, ... as the cohort has them. Default: os, said aloud."
)
endpoint_filter = click.option("--endpoint", help="Only this outcome.")
folds_option = click.option(
    "--folds",
    default=FOLDS,
    show_default=True,
    help="event-stratified, site-preserving, or imported ones such as `official`.",
)
folds_filter = click.option("--folds", help="Only these folds.")
objective_option = click.option(
    "--objective", default="cox", show_default=True, help="cox (Efron ties), cox-breslow or nll (discrete time)."
)
seeds_option = click.option(
    "--seeds", callback=numbers, default="0", show_default=True, help="One run per seed; claims need three."
)
fold_option = click.option("--fold", "only_folds", callback=numbers, default="", help="Only these outer folds: 0,1.")
preset_option = click.option(
    "--preset", help="Named settings: of the registry (`rehearsal`), `tuned`, or a file that `tune` wrote."
)
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    callback=settings,
    metavar="KEY=VALUE",
    help="A setting of the model or of the trainer.",
)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
mlflow_option = click.option(
    "--mlflow/--no-mlflow", "mlflow", default=True, help="Mirror results in MLflow (MLFLOW_TRACKING_URI is honored)."
)
workers_option = click.option(
    "--workers",
    callback=_workers,
    default="auto",
    show_default=True,
    envvar="SURVBENCH_WORKERS",
    show_envvar=True,
    help="Processes that run jobs side by side. auto: one per core and 3 GB of memory; on CUDA, as many "
    "of them as its memory holds, at most 8; on MPS one.",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(1),
    help="CPU threads of each job; last digits depend on it, not on --workers. Default: 1.",
)


def about_jobs(command: Command) -> Command:
    """Give a command the options that say which jobs are meant, named as functions of api.py name them."""

    @click.pass_obj
    def with_registry(registry: tuple[Path, ...], /, **options: Any) -> None:
        command(**options, registry=registry)

    decorated = update_wrapper(with_registry, command)
    for option in (
        device_option,
        set_option,
        preset_option,
        fold_option,
        seeds_option,
        objective_option,
        endpoint_option,
        folds_option,
        out_option,
        data_option,
        cohort_option,
    ):
        decorated = option(decorated)
    return decorated


def print_json(document: Any) -> None:
    """One document on standard output."""
    click.echo(json.dumps(document, indent=1))
