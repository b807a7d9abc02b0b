"""Which job runs when and where: one after another in this process, or side by side in several.

The result of a job does not depend on it. What the jobs do is elsewhere; MLflow is written to from here alone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from survbench.clock import STEPS, Clock, shares
from survbench.console import progress_bars, say, warn
from survbench.errors import SurvbenchError
from survbench.experiments.execute import Outcome, record_failure, run_job
from survbench.experiments.job import Job
from survbench.experiments.tracking import Mirror
from survbench.experiments.workers import Worker, hired, sensible_workers
from survbench.training.device import cpu_threads
from survbench.training.fit import EpochReport

__all__ = ["Summary", "job_threads", "remaining", "run_jobs"]

ATTEMPTS = 2  # of a job whose process is killed
SHOWN = 0.005  # of the time; what is less would be shown as 0 %
KILLED = f"its process was killed {ATTEMPTS} times"


@dataclass
class Summary:
    """What became of the jobs.

    Attributes
    ----------
    spent : seconds by phase of each job done now, as its folder says. seconds, tracking : of the whole command, and of
    what it gave to MLflow.
    """

    done: int = 0
    skipped: int = 0
    failed: list[str] = field(default_factory=list)
    spent: list[Mapping[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    tracking: float = 0.0

    def where_time_went(self) -> str:
        """In one line; empty where no job was done."""
        if not self.spent:
            return ""
        each = sum(sum(job.values()) for job in self.spent) / len(self.spent)
        parts = [f"{100 * share:.0f} % {phase}" for phase, share in shares(self.spent).items() if share >= SHOWN]
        if any(STEPS in job for job in self.spent):
            parts.append("steps are forward, backward and optimizer, not separated on an accelerator")
        told = [f"time: {', '.join(parts)}", f"{each:.3g} s per job"]
        if self.tracking > SHOWN * self.seconds:
            told.append(f"tracking {100 * self.tracking / self.seconds:.0f} % of the command's own time")
        return "; ".join(told)


def run_jobs(
    jobs: Sequence[Job],
    out: Path,
    device: torch.device,
    mirror: Mirror,
    *,
    workers: int | None = 1,
    threads: int | None = None,
) -> Summary:
    """Run what is not done yet; show progress; mirror every finished job.

    Parameters
    ----------
    workers : processes; None takes what suits the machine. threads : of each job, on which its last digits depend; None
    takes one on a CPU, so that they don't depend on the machine, and leaves it to torch elsewhere.
    """
    run = _Run(out, device, mirror, job_threads(threads, device))
    waiting = remaining(jobs, out)
    number = min(workers or sensible_workers(device), len(waiting))
    with run.bars:
        run.bars.add_task("jobs", total=len(jobs))
        for job in jobs:
            if job.folder(out).exists():
                run.count(job, run_job(job, out, device, lambda _: None))
        if number > 1:
            run.side_by_side(waiting, number)
        else:
            run.one_by_one(waiting)
    run.summary.seconds, run.summary.tracking = run.clock.total, run.clock.seconds().get("tracking", 0.0)
    return run.summary


def remaining(jobs: Sequence[Job], out: Path) -> list[Job]:
    """The jobs that are not done."""
    return [job for job in jobs if not job.folder(out).exists()]


def job_threads(asked: int | None, device: torch.device) -> int | None:
    """Threads of each job; see `run_jobs`."""
    return asked if asked or device.type != "cpu" else 1


class _Run:
    """One command's jobs on their way."""

    def __init__(self, out: Path, device: torch.device, mirror: Mirror, threads: int | None) -> None:
        self.out, self.device, self.mirror, self.threads = out, device, mirror, threads
        self.summary, self.bars, self.clock = Summary(), progress_bars(), Clock()

    def count(self, job: Job, outcome: Outcome) -> None:
        """Note what became of a job and mirror it."""
        self.summary.done += outcome.status == "done"
        self.summary.skipped += outcome.status == "skipped"
        if outcome.status == "failed":
            self.summary.failed.append(f"{job.title}: {outcome.reason}")
        folder = job.folder(self.out)
        if outcome.status == "done":
            self.summary.spent.append(json.loads((folder / "job.json").read_text(encoding="utf-8"))["phases"])
        if folder.exists():
            with self.clock("tracking"):
                self.mirror.log(folder)
        self.bars.advance(self.bars.task_ids[0])

    def one_by_one(self, jobs: Sequence[Job]) -> None:
        current = self.bars.add_task("", total=None, visible=False)
        with cpu_threads(self.threads):
            for job in jobs:

                def report(epoch: EpochReport, title: str = job.title) -> None:
                    self._show(current, epoch.told(title), epoch.epoch, epoch.epochs)

                self.count(job, run_job(job, self.out, self.device, report))

    def side_by_side(self, jobs: Sequence[Job], number: int) -> None:
        """A process that is killed loses its epoch: its job is tried once more and then recorded as failed."""
        waiting, tried = list(jobs), Counter[str]()
        running: dict[Future[Outcome], tuple[Worker, Job]] = {}
        rows = [self.bars.add_task("", total=None, visible=False) for _ in range(number)]

        def hear(worker: int, told: Mapping[str, Any]) -> None:
            if "say" in told:
                say(told["say"], told["style"])
            else:
                self._show(rows[worker], told["text"], told["epoch"], told["epochs"])

        settled: list[tuple[Job, Outcome]] = []
        with hired(number, self.threads, hear) as workers:
            idle = list(workers)
            while waiting or running or settled:
                while waiting and idle:
                    job, worker = _next(waiting, [job for _, job in running.values()]), idle.pop()
                    tried[job.id] += 1
                    running[worker.give(job, self.out, self.device)] = worker, job
                for known in settled:  # while the workers work
                    self.count(*known)
                settled = []
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    worker, job = running.pop(future)
                    outcome = self._outcome(future, worker, job, last=tried[job.id] >= ATTEMPTS)
                    self.bars.update(rows[worker.number], visible=False)
                    idle.append(worker)
                    if outcome is None:
                        waiting.insert(0, job)
                    else:
                        settled.append((job, outcome))

    def _outcome(self, future: Future[Outcome], worker: Worker, job: Job, *, last: bool) -> Outcome | None:
        """What became of a job; None where its process was killed and the job is to be tried again."""
        try:
            return future.result()
        except BrokenProcessPool:
            worker.replace()
            if last:
                return record_failure(job, self.out, SurvbenchError(KILLED, "is there enough memory? --workers 1"))
            warn(f"the process that ran {job.title} was killed; the job goes on in a new one")
            return None
        except Exception as error:  # before the job began, such as data that changed under the command
            return record_failure(job, self.out, error)

    def _show(self, row: Any, text: str, epoch: int, epochs: int) -> None:
        self.bars.update(row, description=text, completed=epoch, total=epochs, visible=True)


def _next(waiting: list[Job], running: Sequence[Job]) -> Job:
    """The first job whose fold and seed nobody is at, or else the first: jobs of one fold may share a teacher, and who
    comes second waits for it."""
    under_way = [job.task for job in running]
    free = (place for place, job in enumerate(waiting) if job.task not in under_way)
    return waiting.pop(next(free, 0))
