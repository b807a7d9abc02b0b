"""Where the figures of a leaderboard come from and what they took: read from the job.json files of the rows shown.

Everything here is about jobs; nothing is scored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from survbench.experiments.results import JobResult, read_results
from survbench.files import digest
from survbench.leaderboard.board import Column, Leaderboard, Line, Row, Table
from survbench.report.sheet import Sheet

__all__ = ["JobsByRow", "Provenance", "jobs_of", "provenance", "seconds_of", "seconds_per_job"]

JobsByRow = Mapping[int, Sequence[JobResult]]  # jobs by the `id` of the row that they made
_HARDWARE = ("device", "name", "precision", "threads", "cores", "platform")


@dataclass(frozen=True)
class Provenance:
    """What the jobs of one table have in common and where they differ.

    Attributes
    ----------
    jobs : how many.
    seconds : that they took together.
    facts : name and values of each, a value with how many jobs have it where there are several.
    cohorts : one row per column of the table: patients, encoder, hashes, who was left out.
    """

    jobs: int
    seconds: float
    facts: tuple[tuple[str, tuple[str, ...]], ...]
    cohorts: Sheet


def jobs_of(board: Leaderboard, out: Path) -> dict[int, list[JobResult]]:
    """Jobs of the rows of a leaderboard, each once."""
    rows = {digest([dict(row.identity), row.selected]): id(row) for row in board.rows if not row.failed}
    jobs: dict[int, dict[str, JobResult]] = {}
    for record in read_results(out):
        if not isinstance(record, JobResult) or record.error:
            continue
        identity = {k: v for k, v in record.identity.items() if k not in ("fold", "seed")}
        row = rows.get(digest([identity, record.selected]))
        if row is not None:
            jobs.setdefault(row, {}).setdefault(digest(record.identity), record)
    return {row: list(unique.values()) for row, unique in jobs.items()}


def seconds_per_job(line: Line, jobs: JobsByRow) -> float | None:
    """Mean time of fitting one fold, over all jobs of a line; None where no record has it."""
    recorded = [_part(job, "seconds") for job in _jobs(line.rows.values(), jobs)]
    fits = [seconds["fit"] for seconds in recorded if "fit" in seconds]
    return sum(fits) / len(fits) if fits else None


def seconds_of(jobs: Iterable[JobResult]) -> float:
    """What jobs took, as far as it is recorded."""
    return sum(float(sum(_part(job, "seconds").values())) for job in jobs)


def provenance(table: Table, jobs: JobsByRow) -> Provenance:
    """Of the rows of one table."""
    own = [job for line in table.lines for job in _jobs(line.rows.values(), jobs)]
    packages = sorted({name for job in own for name in _part(job, "versions")})
    memory = [max(part.values()) for job in own if (part := _part(job, "memory"))]
    facts = {
        "code": _counted(job.code for job in own),
        "seeds": _counted(f"seed {job.identity['seed']}" for job in own),
        "objective": _counted(job.identity["objective"].get("name", "") for job in own),
        "training": _counted(_settings(job.identity["training"]) for job in own),
        "epoch chosen by": _counted(_selection(_part(job, "selection")) for job in own),
        "patients with a missing modality": _counted(job.record.get("policy") or "" for job in own),
        **{f"hardware: {key}": _counted(_part(job, "hardware").get(key, "") for job in own) for key in _HARDWARE},
        "peak memory": (f"up to {max(memory) / 2**30:.2f} GiB a job",) if memory else (),
        **{f"version: {name}": _counted(_part(job, "versions").get(name, "") for job in own) for name in packages},
    }
    rows = [_cohort(table, column, jobs) for column in table.columns]
    headers = ("cohort", "patients", "left out", "encoder", "content hash", "folds hash")
    cohorts = Sheet(title=f"Cohorts · {table.kind}", headers=headers, rows=rows, align="l")
    return Provenance(len(own), seconds_of(own), tuple(item for item in facts.items() if item[1]), cohorts)


def _jobs(rows: Iterable[Row], jobs: JobsByRow) -> list[JobResult]:
    return [job for row in rows for job in jobs.get(id(row), ())]


def _part(job: JobResult, key: str) -> Mapping[str, Any]:
    """A part of a job's record; empty where an older record lacks it."""
    part = job.record.get(key)
    return part if isinstance(part, dict) else {}


def _cohort(table: Table, column: Column, jobs: JobsByRow) -> tuple[str, ...]:
    rows = [line.rows[column] for line in table.lines if column in line.rows]
    own = _jobs(rows, jobs)
    excluded = max((_part(job, "excluded") for job in own), key=lambda of: sum(map(len, of.values())), default={})
    encoders = {str(encoder) for job in own if (encoder := job.record.get("encoder"))}
    return (
        column.label,
        str(column.patients) if column.patients else "unknown",
        "; ".join(f"{len(patients)} {reason}" for reason, patients in excluded.items() if patients) or "nobody",
        ", ".join(sorted(encoders)) or "not recorded",
        column.content,
        str(rows[0].identity.get("folds_hash", "")) or "not recorded",
    )


def _counted(values: Iterable[object]) -> tuple[str, ...]:
    counts = Counter(text for text in map(str, values) if text)
    if len(counts) < 2:
        return tuple(counts)
    return tuple(f"{value} ({count} jobs)" for value, count in counts.most_common())


def _settings(training: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in sorted(training.items()))


def _selection(selection: Mapping[str, Any]) -> str:
    return " on ".join(str(selection[key]) for key in ("rule", "split") if selection.get(key))
