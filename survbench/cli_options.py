"""What the commands share: options, how their values are read, and what they open."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from survbench.errors import BadConfig
from survbench.experiments.executors.local import start_ahead

if TYPE_CHECKING:
    import torch

    from survbench.data.root import DataRoot
    from survbench.experiments.collect import Summary
    from survbench.experiments.job import Job
    from survbench.experiments.mlflow.tracking import Mirror
    from survbench.experiments.plan import Request
    from survbench.registry import Registry

__all__ = [
    "Asked",
    "about_jobs",
    "chosen_endpoint",
    "cohort_option",
    "data_option",
    "device_option",
    "endpoint_option",
    "examples",
    "folds_option",
    "json_option",
    "make_out",
    "mlflow_option",
    "names",
    "numbers",
    "open_registry",
    "open_root",
    "out_option",
    "preset_option",
    "print_json",
    "run_all",
    "seeds_option",
    "set_option",
    "threads_option",
    "workers_option",
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
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting of the model or of the trainer."
)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
mlflow_option = click.option(
    "--mlflow/--no-mlflow", "mlflow", default=True, help="Mirror results in MLflow (MLFLOW_TRACKING_URI is honored)."
)


def _workers(context: click.Context, parameter: click.Parameter, value: str) -> int | None:
    """A number of processes; None for `auto`."""
    if value == "auto":
        return None
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"'{value}' is neither `auto` nor a number from 1")
    return int(value)


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


@dataclass(frozen=True)
class Asked:
    """What every command about jobs is told, opened and checked.

    Attributes
    ----------
    cohorts : names or wildcards. out : folder of the results. request : the same for all models; see `of`.
    """

    registry: Registry
    root: DataRoot
    device: torch.device
    cohorts: tuple[str, ...]
    out: Path
    request: Request

    def of(self, models: Sequence[str], cohorts: Sequence[str] | None = None) -> Request:
        """What is asked of these models, on all cohorts or on some."""
        return replace(self.request, models=models, cohorts=self.cohorts if cohorts is None else cohorts)


def about_jobs(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say which jobs are meant; it gets them as `asked`."""

    @click.pass_obj
    def told(
        registries: tuple[Path, ...],
        /,
        *,
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
        **more: Any,
    ) -> None:
        registry, root = open_registry(registries), open_root(data)
        registry.select_cohorts(cohorts, root.cohorts())
        registry.select_models(more.get("models", ()))  # a slip of the pen is answered before torch is loaded
        if "workers" in more:  # it runs jobs
            start_ahead()

        from survbench.experiments.plan import Request, parse_overrides
        from survbench.training.device import resolve_device

        where, chosen, outcome = resolve_device(device), parse_overrides(overrides), chosen_endpoint(endpoint)
        request = Request((), cohorts, outcome, scheme, objective, seeds, only_folds, preset, chosen, out / "tune")
        command(Asked(registry, root, where, cohorts, out, request), **more)

    options = (
        cohort_option,
        data_option,
        out_option,
        folds_option,
        endpoint_option,
        objective_option,
        seeds_option,
        fold_option,
        preset_option,
        set_option,
        device_option,
    )
    decorated = update_wrapper(told, command)
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


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


def make_out(out: Path) -> None:
    """The folder of results, or a clear refusal."""
    if out.exists() and not out.is_dir():
        raise BadConfig(f"--out {out} is a file", "name a folder")
    out.mkdir(parents=True, exist_ok=True)


def run_all(
    jobs: Sequence[Job], out: Path, device: torch.device, mirror: Mirror, workers: int | None, threads: int | None
) -> Summary:
    """Run jobs with their progress; an interruption says how to go on."""
    from survbench.console import note
    from survbench.experiments.collect import run_jobs

    make_out(out)
    note(f"{len(jobs)} jobs on {device}; results go to {out}")
    try:
        summary = run_jobs(jobs, out, device, mirror, workers=workers, threads=threads)
    except KeyboardInterrupt:
        note("\ninterrupted; nothing is lost: the same command goes on from the last epoch")
        sys.exit(130)
    finally:
        mirror.close()
    note(f"{summary.done} jobs done, {summary.skipped} were done before, {len(summary.failed)} failed")
    if line := summary.where_time_went():
        note(line)
    return summary


def print_json(document: Any) -> None:
    """One document on standard output."""
    click.echo(json.dumps(document, indent=1))
