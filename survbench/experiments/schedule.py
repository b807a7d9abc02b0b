"""Which job runs when and where: one after another in this process, or side by side in several.

The result of a job does not depend on it. What the jobs do is elsewhere; MLflow is written to from here alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch

from survbench.clock import STEPS, Clock, shares
from survbench.console import note, progress_bars, say, warn
from survbench.errors import SurvbenchError
from survbench.experiments.execute import Outcome, record_failure, run_job
from survbench.experiments.job import Job
from survbench.experiments.mlflow.tracking import Mirror
from survbench.experiments.results import JobResult, result_folder
from survbench.experiments.room import MOST, Room
from survbench.experiments.workers import Worker, bearable_workers, hired, sensible_workers
from survbench.training.device import cpu_threads
from survbench.training.fit import EpochReport

__all__ = ["Summary", "job_threads", "remaining", "run_jobs"]

ATTEMPTS = 2  # of a job whose process is killed
SHOWN = 0.005  # of the time; what is less would be shown as 0 %
TOO_LARGE = "try a smaller --set batch_size=..., and --workers 1 where other programs share the device"
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
    workers : processes; None takes what suits the machine and, on CUDA, what its memory holds. threads : of each job,
    on which its last digits depend on a CPU; None takes one, so that they don't depend on the machine. Jobs that share
    an accelerator would take the cores from each other with more.
    """
    run = _Run(out, device, mirror, job_threads(threads))
    waiting = remaining(jobs, out)
    room = _room(workers, device, len(waiting))
    with run.bars:
        run.bars.add_task("jobs", total=len(jobs))
        for job in jobs:
            if result_folder(job, out).exists():
                run.count(job, run_job(job, out, device, lambda _: None))
        if room.most > 1:
            run.side_by_side(waiting, room)
        else:
            run.one_by_one(waiting)
    run.summary.seconds, run.summary.tracking = run.clock.total, run.clock.seconds().get("tracking", 0.0)
    return run.summary


def remaining(jobs: Sequence[Job], out: Path) -> list[Job]:
    """The jobs that are not done."""
    return [job for job in jobs if not result_folder(job, out).exists()]


def job_threads(asked: int | None) -> int:
    """Threads of each job; see `run_jobs`."""
    return asked or 1


def _room(workers: int | None, device: torch.device, jobs: int) -> Room:
    """For as many as were asked for; if none were, on CUDA for as many as its memory turns out to hold."""
    if workers is None and device.type == "cuda":
        return Room(min(MOST, bearable_workers(), jobs))
    return Room(min(workers or sensible_workers(device), jobs), budget=math.inf)


class _Run:
    """One command's jobs on their way."""

    def __init__(self, out: Path, device: torch.device, mirror: Mirror, threads: int) -> None:
        self.out, self.device, self.mirror, self.threads = out, device, mirror, threads
        self.summary, self.bars, self.clock = Summary(), progress_bars(), Clock()

    def count(self, job: Job, outcome: Outcome) -> None:
        """Note what became of a job and mirror it."""
        self.summary.done += outcome.status == "done"
        self.summary.skipped += outcome.status == "skipped"
        if outcome.status == "failed":
            self.summary.failed.append(f"{job.title}: {outcome.reason}")
        folder = result_folder(job, self.out)
        if outcome.status == "done":
            self.summary.spent.append(JobResult.open(folder).record["phases"])
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

                outcome = run_job(job, self.out, self.device, report)
                self.count(job, self._too_large(job, outcome) if outcome.status == "crowded" else outcome)

    def side_by_side(self, jobs: Sequence[Job], room: Room) -> None:
        """Each job as soon as there is room for it.

        A process that is killed loses its epoch: its job is tried once more and then recorded as failed. A job that
        finds the device full beside others waits until fewer run.
        """
        waiting, killed = list(jobs), Counter[str]()
        running: dict[Future[Outcome], tuple[Worker, Job]] = {}
        news: SimpleQueue[Future[Outcome] | Mapping[str, Any]] = SimpleQueue()  # what ended and what was measured
        rows = [self.bars.add_task("", total=None, visible=False) for _ in range(room.most)]

        def hear(worker: int, told: Mapping[str, Any]) -> None:
            if "say" in told:
                say(told["say"], told["style"])
            elif "text" in told:
                self._show(rows[worker], told["text"], told["epoch"], told["epochs"])
            else:
                news.put(told)

        settled: list[tuple[Job, Outcome]] = []
        with hired(room.most, self.threads, hear) as workers:
            idle = list(workers)
            while waiting or running or settled:
                while idle and (job := _next(waiting, [job for _, job in running.values()], room)):
                    worker = idle.pop()
                    room.enter(job.id, job.card.name)
                    future = worker.give(job, self.out, self.device)
                    running[future] = worker, job
                    future.add_done_callback(news.put)
                if waiting:  # for the memory that idle processes hold
                    for worker in idle:
                        worker.dismiss()
                for known in settled:  # while the workers work
                    self.count(*known)
                settled = []
                if not running:
                    continue
                told = news.get()
                if not isinstance(told, Future):
                    room.measure(told["model"], told["device_bytes"], told["free_bytes"])
                    continue
                worker, job = running.pop(told)
                outcome = self._outcome(told, worker, job, room, killed)
                room.leave(job.id)
                self.bars.update(rows[worker.number], visible=False)
                idle.append(worker)
                if outcome is None:
                    waiting.insert(0, job)
                else:
                    settled.append((job, outcome))

    def _outcome(
        self, future: Future[Outcome], worker: Worker, job: Job, room: Room, killed: Counter[str]
    ) -> Outcome | None:
        """What became of a job; None where it is to be tried again, in a new process."""
        try:
            outcome = future.result()
        except BrokenProcessPool:
            worker.dismiss()
            killed[job.id] += 1
            if killed[job.id] >= ATTEMPTS:
                return record_failure(job, self.out, SurvbenchError(KILLED, "is there enough memory? --workers 1"))
            warn(f"the process that ran {job.title} was killed; the job goes on in a new one")
            return None
        except Exception as error:  # before the job began, such as data that changed under the command
            return record_failure(job, self.out, error)
        if outcome.status != "crowded":
            return outcome
        worker.dismiss()  # with all that it still holds
        if not room.crowded(job.id):
            return self._too_large(job, outcome)
        note(f"{job.title} found no memory left on {self.device}; it goes on when fewer jobs run beside it")
        return None

    def _too_large(self, job: Job, outcome: Outcome) -> Outcome:
        """Record that a job found no memory left on the device though it was alone."""
        found = f"no memory left on {self.device} with no other job of this command beside it: {outcome.reason}"
        return record_failure(job, self.out, SurvbenchError(found.rstrip("."), TOO_LARGE))

    def _show(self, row: Any, text: str, epoch: int, epochs: int) -> None:
        self.bars.update(row, description=text, completed=epoch, total=epochs, visible=True)


def _next(waiting: list[Job], running: Sequence[Job], room: Room) -> Job | None:
    """The first job, among those that fit, whose fold and seed nobody is at, or else the first: jobs of one fold may
    share a teacher, and who comes second waits for it."""
    places = [place for place, job in enumerate(waiting) if room.fits(job.id, job.card.name)]
    under_way = [job.task for job in running]
    free = (place for place in places if waiting[place].task not in under_way)
    return waiting.pop(next(free, places[0])) if places else None
