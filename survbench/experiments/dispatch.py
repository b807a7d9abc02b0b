"""All jobs of a command: what is left to run goes to an executor, outcomes are counted, shown and mirrored.

The result of a job does not depend on how many run at once. MLflow is written to from here alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from survbench.console import progress_bars
from survbench.experiments.execute import Outcome, record_failure, run_job
from survbench.experiments.executors.gpu_admission import admission_of
from survbench.experiments.executors.local import LocalExecutor
from survbench.experiments.folders import result_folder
from survbench.experiments.job import Job, JobSpec
from survbench.experiments.mlflow.tracking import Mirror
from survbench.experiments.results import JobResult
from survbench.training.clock import STEPS, Clock, shares

__all__ = ["Summary", "run_jobs"]

SHOWN = 0.005  # of the time; what is less would be shown as 0 %


@dataclass(kw_only=True)
class Summary:
    """What became of the jobs.

    Attributes
    ----------
    done : jobs that were run now.
    skipped : jobs that were done before.
    failed : a line for each job that failed.
    spent : seconds by phase of each job that was run now, as its folder records them.
    seconds : of the whole command.
    tracking : seconds of them that MLflow took.
    """

    done: int = 0
    skipped: int = 0
    failed: list[str] = field(default_factory=list)
    spent: list[Mapping[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    tracking: float = 0.0

    def count(self, job: Job, outcome: Outcome, out: Path) -> None:
        """Add a job, whose failure is on record."""
        if outcome.status == "failed":
            self.failed.append(f"{job.title}: {outcome.reason}")
        elif outcome.status == "skipped":
            self.skipped += 1
        elif outcome.status == "done":
            self.done += 1
            self.spent.append(JobResult.of(job, out).record["phases"])

    def where_time_went(self) -> str:
        """In one line; empty where no job was done."""
        if not self.spent:
            return ""
        each = sum(sum(job.values()) for job in self.spent) / len(self.spent)
        parts = [f"{100 * share:.0f} % {phase}" for phase, share in shares(self.spent).items() if share >= SHOWN]
        if any(STEPS in job for job in self.spent):
            parts.append("steps are forward, backward and optimizer, not separated on an accelerator")
        line = [f"time: {', '.join(parts)}", f"{each:.3g} s per job"]
        if self.tracking > SHOWN * self.seconds:
            line.append(f"tracking {100 * self.tracking / self.seconds:.0f} % of the command's own time")
        return "; ".join(line)


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
    jobs : as planned.
    out : folder of the results.
    device : of the training.
    mirror : of finished jobs in MLflow.
    workers : processes at once; None takes what suits the machine and, on CUDA, what its memory holds.
    threads : of each job, on which its last digits depend on a CPU; None takes one, so that they don't depend on the
        machine. Jobs that share an accelerator would take the cores from each other with more.
    """
    summary, clock, bars = Summary(), Clock(), progress_bars()
    waiting = [job for job in jobs if not result_folder(job, out).exists()]
    planned = {job.id: job for job in waiting}
    admission = admission_of(workers, device, len(waiting))
    total = bars.add_task("jobs", total=len(jobs))
    rows = [bars.add_task("", total=None, visible=False) for _ in range(admission.most)]

    def on_message(slot: int, shown: Mapping[str, Any]) -> None:
        bars.update(rows[slot], visible=bool(shown), **shown)

    def count(job: Job, outcome: Outcome) -> None:
        summary.count(job, record_failure(job, out, outcome) if outcome.status == "lost" else outcome, out)
        if outcome.status in ("done", "skipped"):
            with clock("tracking"):
                mirror.log(result_folder(job, out))
        bars.advance(total)

    with bars:
        for job in jobs:
            if job.id not in planned:
                count(job, run_job(job, out, device, lambda _: None))
        specs = [JobSpec.of(job, out, str(device), threads or 1) for job in waiting]
        with closing(LocalExecutor(admission, on_message).run(specs)) as outcomes:
            for spec, outcome in outcomes:
                count(planned[spec.id], outcome)
    summary.seconds, summary.tracking = clock.total, clock.seconds().get("tracking", 0.0)
    return summary
