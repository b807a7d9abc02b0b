"""Suites of commands: `startup` and `run`, each call in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

from benchmarks.rounds import Contestant, Race, Work
from survbench.experiments.results import JobResult, read_results

__all__ = ["runs", "startup"]

IMPORTS = ("torch", "torch_geometric", "mlflow", "sksurv.metrics", "pandas", "survbench.cli", "survbench.training.fit")


def startup() -> Iterator[Race]:
    """From the shell to the answer of commands that compute nothing, and what imports cost; files are in the cache."""
    calls = {
        "python, doing nothing": ("-c", "pass"),
        "survbench --help": ("-m", "survbench", "--help"),
        "survbench models": ("-m", "survbench", "models"),
    } | {f"import {module}": ("-W", "ignore", "-c", f"import {module}") for module in IMPORTS}
    contestants = [Contestant(name=name, prepare=_call(*arguments)) for name, arguments in calls.items()]
    yield Race(suite="startup", cell={"what": "wall time"}, contestants=contestants)


def _call(*arguments: str) -> Callable[[], Work]:
    def work() -> None:
        _python(*arguments)

    return lambda: work


def _python(*arguments: str) -> None:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or done.stdout.strip())[-200:])


def runs(models: str = "snn,abmil", cohort: str = "hnsc") -> Iterator[Race]:
    """A whole `survbench run` on a small demo root: its wall time, and what a further job takes beyond fitting."""
    from survbench.simulation.demo import build_demo

    with tempfile.TemporaryDirectory() as folder:
        root = build_demo(Path(folder) / "demo", scale=0.4)
        arguments = ("run", "--model", models, "--cohort", cohort, "--data", str(root), "--preset", "rehearsal")
        contestants = []
        for mirror in ("--no-mlflow", "--mlflow"):
            run = _Run(Path(folder) / mirror.strip("-"), (*arguments, mirror, "--workers", "1"))
            contestants.append(
                Contestant(name=f"a further job beyond fitting, {mirror}", prepare=partial(_same, run.overhead))
            )
        whole = _Run(Path(folder) / "whole", (*arguments, "--mlflow", "--workers", "1"))
        contestants.append(Contestant(name="whole run, --mlflow", prepare=partial(_same, whole.whole)))
        yield Race(suite="run", cell={"models": models, "cohort": f"demo-{cohort}"}, contestants=contestants)


def _same(work: Work) -> Work:
    return work


class _Run:
    """The command, always into a new folder, since it skips what is done."""

    def __init__(self, folder: Path, arguments: tuple[str, ...]) -> None:
        self.folder, self.arguments, self.number = folder, arguments, count()

    def whole(self) -> float:
        """Seconds of wall time."""
        with self._done("0") as (_, wall):
            return wall

    def overhead(self) -> float:
        """Seconds of wall time that a further job takes beyond fitting: start-up is the same for few and for many."""
        (few, short), (many, long) = self._beyond("0"), self._beyond("0,1,2,3")
        return (long - short) / (many - few)

    def _beyond(self, seeds: str) -> tuple[int, float]:
        """How many jobs, and seconds of wall time that were not spent in fitting."""
        with self._done(seeds) as (out, wall):
            jobs = [job for job in read_results(out / "runs") if isinstance(job, JobResult) and not job.error]
            return len(jobs), wall - sum(job.record["seconds"]["fit"] for job in jobs)

    @contextmanager
    def _done(self, seeds: str) -> Iterator[tuple[Path, float]]:
        out = self.folder / str(next(self.number))
        out.mkdir(parents=True)
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{out / 'mlflow.db'}"}
        started = time.perf_counter()
        command = [sys.executable, "-m", "survbench", *self.arguments, "--seeds", seeds, "--out", str(out / "runs")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        wall = time.perf_counter() - started
        if done.returncode:
            raise RuntimeError(done.stderr.strip()[-200:])
        yield out, wall
        shutil.rmtree(out)
