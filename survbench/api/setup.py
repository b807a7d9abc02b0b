"""What every call about jobs begins with: its arguments are checked, and what they name is opened.

`jobs.run` lists the arguments with their meanings and defaults; other functions take some of them as `options`.
"""

from __future__ import annotations

import errno
import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from survbench.api import arguments
from survbench.api.arguments import Data, Models, Registries
from survbench.api.results import Results
from survbench.console import note, warn
from survbench.errors import BadConfig, SurvbenchError
from survbench.registry import Registry, open_registry

if TYPE_CHECKING:
    import torch

    from survbench.data.root import DataRoot
    from survbench.experiments.dispatch import Summary
    from survbench.experiments.job import Job
    from survbench.experiments.mlflow.tracking import Mirror
    from survbench.experiments.plan import Request

__all__ = ["Setup", "endpoint_name", "make_out", "open_root", "open_setup", "patterns"]

OUT = "survbench-runs"
SCHEME = "event-stratified"
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a call about jobs has opened and checked.

    Attributes
    ----------
    registry : of models, cohorts, objectives and presets.
    root : of the data.
    device : of the training.
    out : folder of the results.
    request : models and cohorts are as they were named.
    workers : processes at once; None is as many as the machine bears.
    threads : of each job; None is 1.
    mlflow : whether results are mirrored, or the address.
    """

    registry: Registry
    root: DataRoot
    device: torch.device
    out: Path
    request: Request
    workers: int | None
    threads: int | None
    mlflow: bool | str

    def pairs(self) -> list[Request]:
        """The request for each model on each cohort."""
        cards = self.registry.select_models(arguments.filled(self.request.models, "models"))
        cohorts = self.registry.select_cohorts(self.request.cohorts, self.root.cohorts())
        return [replace(self.request, models=[card.name], cohorts=[name]) for name, card in product(cohorts, cards)]

    def each(self, compute: Callable[[Request], T]) -> Iterator[tuple[Request, T]]:
        """What is computed for each model on each cohort; of several, refused ones are left out with a warning."""
        pairs = self.pairs()
        for request in pairs:
            try:
                computed = compute(request)
            except SurvbenchError as refused:
                if len(pairs) == 1:
                    raise
                warn(f"{request.models[0]} on {request.cohorts[0]}: {refused}; left out")
            else:
                yield request, computed

    def run(self, jobs: Sequence[Job], description: Sequence[str]) -> tuple[Summary, Mirror]:
        """Run jobs with their progress; an interruption says how to go on."""
        from survbench.experiments.dispatch import run_jobs
        from survbench.experiments.mlflow.tracking import Mirror

        address = self.mlflow if isinstance(self.mlflow, str) else os.environ.get("MLFLOW_TRACKING_URI")
        name = f"survbench {' | '.join(description)}"
        mirror = Mirror(self.out, name, enabled=bool(self.mlflow), address=address)
        make_out(self.out)
        note(f"{len(jobs)} jobs on {self.device}; results go to {self.out}")
        try:
            summary = run_jobs(jobs, self.out, self.device, mirror, workers=self.workers, threads=self.threads)
        except KeyboardInterrupt:
            note("\ninterrupted; nothing is lost: the same command goes on from the last epoch")
            raise
        finally:
            mirror.close()
        note(f"{summary.done} jobs done, {summary.skipped} were done before, {len(summary.failed)} failed")
        if line := summary.where_time_went():
            note(line)
        return summary, mirror

    def results(self, jobs: Sequence[Job], summary: Summary) -> Results:
        """Of the models and cohorts of some jobs."""
        folder = Results(out=self.out, registry=self.registry, data=self.root.path, failures=tuple(summary.failed))
        models = list(dict.fromkeys(job.card.name for job in jobs))
        cohorts = list(dict.fromkeys(job.cohort.name for job in jobs))
        task = {"endpoint": self.request.endpoint, "scheme": self.request.scheme}
        return folder.select(models=models, cohorts=cohorts, **task)


def open_setup(*, starts_jobs: bool = True, **options: Any) -> Setup:
    """Check arguments and open what they name; a name that is mistyped is refused before torch is loaded.

    Parameters
    ----------
    starts_jobs : whether processes will be needed, which are then started ahead.
    options : arguments of `run`, with its defaults where they are missing.
    """
    from survbench.api.jobs import run

    call = inspect.signature(run).bind(**options)
    call.apply_defaults()
    of = SimpleNamespace(**call.arguments)
    registry, root = read_registry(of.registry), open_root(of.data)
    cohorts = arguments.filled(arguments.names(of.cohorts, "cohorts"), "cohorts")
    registry.select_cohorts(cohorts, root.cohorts())
    models = patterns(of.models, registry)
    registry.select_models(models)
    out = arguments.path(of.out, "out")
    if starts_jobs:
        from survbench.experiments.executors.local import start_ahead

        start_ahead()

    from survbench.experiments.folders import tune_folder
    from survbench.experiments.plan import Request
    from survbench.training.device import resolve_device

    mlflow = arguments.of_kind(of.mlflow, "mlflow", "True, False or an address", bool, str, Path)
    return Setup(
        registry=registry,
        root=root,
        device=resolve_device(of.device),
        out=out,
        request=Request(
            models=models,
            cohorts=cohorts,
            endpoint=endpoint_name(of.endpoint),
            scheme=arguments.text(of.scheme, "scheme"),
            objective=arguments.text(of.objective, "objective"),
            seeds=arguments.filled(arguments.numbers(of.seeds, "seeds"), "seeds"),
            folds=arguments.numbers(of.only_folds, "only_folds"),
            preset=None if of.preset is None else str(arguments.path(of.preset, "preset")),
            overrides=arguments.mapping(of.settings, "settings"),
            tuned=tune_folder(out),
        ),
        workers=None if of.workers is None else arguments.whole(of.workers, "workers", 1),
        threads=None if of.threads is None else arguments.whole(of.threads, "threads", 1),
        mlflow=mlflow if isinstance(mlflow, bool) else str(mlflow),
    )


def make_out(out: Path) -> None:
    """The folder of results, or a clear refusal."""
    with arguments.writing(out, "out"):
        if out.exists() and not out.is_dir():
            raise BadConfig(f"--out {out} is a file", "name a folder")
        out.mkdir(parents=True, exist_ok=True)
        if not os.access(out, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def open_root(data: Data) -> DataRoot:
    """A data root; None is the demo."""
    from survbench.simulation.demo import open_root

    return open_root(None if data is None else arguments.path(data, "data"))


def read_registry(files: Registries) -> Registry:
    """What is registered, with the user's own registry files."""
    return open_registry(arguments.paths(files, "registry"))


def patterns(models: Models, registry: Registry) -> list[str]:
    """What a registry takes for names, files and classes."""
    chosen = arguments.names(models, "models", type, Path)
    return [registry.pattern_of(one) if isinstance(one, type) else str(one) for one in chosen]


def endpoint_name(endpoint: str | None) -> str:
    """The endpoint that was named; a default is announced."""
    if endpoint is None:
        note("endpoint: os, overall survival (choose with --endpoint)")
        return "os"
    return arguments.text(endpoint, "endpoint").lower()
