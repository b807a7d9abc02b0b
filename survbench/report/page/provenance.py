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
from survbench.leaderboard.board import Leaderboard, Line, Row, Table

__all__ = ["Provenance", "jobs_of", "provenance", "seconds_of", "seconds_per_job"]


@dataclass(frozen=True)
class Provenance:
    """What the jobs of one table have in common and where they differ.

    Attributes
    ----------
    facts : (name, values), each value with how many jobs have it where there are several. cohorts : one mapping per
    column: cohort, patients, hashes, encoder, who was left out.
    """

    jobs: int
    seconds: float
    facts: tuple[tuple[str, tuple[str, ...]], ...]
    cohorts: tuple[Mapping[str, str], ...]


def jobs_of(board: Leaderboard, out: Path) -> dict[int, list[JobResult]]:
    """Jobs by the `id` of the row that they made."""
    wanted = {digest([dict(row.identity), row.selected]): id(row) for row in board.rows if not row.failed}
    found: dict[int, dict[str, JobResult]] = {}
    for record in read_results(out):
        if not isinstance(record, JobResult) or record.error:
            continue
        identity = {k: v for k, v in record.identity.items() if k not in ("fold", "seed")}
        row = wanted.get(digest([identity, record.selected]))
        if row is not None:
            found.setdefault(row, {}).setdefault(digest(record.identity), record)
    return {row: list(jobs.values()) for row, jobs in found.items()}


def seconds_per_job(line: Line, jobs: Mapping[int, Sequence[JobResult]]) -> float | None:
    """Mean time of fitting one fold, over all jobs of a line; None where no record tells it."""
    told = [_told(job, "seconds") for row in line.rows.values() for job in jobs.get(id(row), ())]
    known = [seconds["fit"] for seconds in told if "fit" in seconds]
    return sum(known) / len(known) if known else None


def provenance(table: Table, jobs: Mapping[int, Sequence[JobResult]]) -> Provenance:
    """Of the rows of one table."""
    rows = [row for line in table.lines for row in line.rows.values()]
    all_jobs = [job for row in rows for job in jobs.get(id(row), ())]
    versions, machines = ([_told(job, part) for job in all_jobs] for part in ("versions", "hardware"))
    packages = sorted({name for of in versions for name in of})
    hardware = ("device", "name", "precision", "threads", "cores", "platform")
    peak = [max(_told(job, "memory").values()) for job in all_jobs if _told(job, "memory")]
    facts = [
        ("code", _counted(job.code for job in all_jobs)),
        ("seeds", _counted(f"seed {job.identity['seed']}" for job in all_jobs)),
        ("objective", _counted(str(job.identity["objective"].get("name", "")) for job in all_jobs)),
        ("training", _counted(_settings(job.identity["training"]) for job in all_jobs)),
        ("epoch chosen by", _counted(_selection(_told(job, "selection")) for job in all_jobs)),
        ("patients with a missing modality", _counted(str(job.record.get("policy") or "") for job in all_jobs)),
        *((f"hardware: {key}", _counted(str(of.get(key, "")) for of in machines)) for key in hardware),
        ("peak memory", (f"up to {max(peak) / 2**30:.2f} GiB a job",) if peak else ()),
        *((f"version: {name}", _counted(str(of.get(name, "")) for of in versions)) for name in packages),
    ]
    return Provenance(
        len(all_jobs),
        seconds_of(all_jobs),
        tuple((name, values) for name, values in facts if values),
        tuple(_cohort(table, i, jobs) for i in range(len(table.columns))),
    )


def _told(job: JobResult, key: str) -> Mapping[str, Any]:
    """A part of a job's record; empty where an older record says nothing."""
    found = job.record.get(key)
    return found if isinstance(found, dict) else {}


def seconds_of(jobs: Iterable[JobResult]) -> float:
    """What jobs took, as far as their records tell."""
    return sum(float(sum(_told(job, "seconds").values())) for job in jobs)


def _cohort(table: Table, place: int, jobs: Mapping[int, Sequence[JobResult]]) -> dict[str, str]:
    column = table.columns[place]
    members: list[Row] = [line.rows[column] for line in table.lines if column in line.rows]
    about = [job for row in members for job in jobs.get(id(row), ())]
    excluded, encoders = [_told(job, "excluded") for job in about], {job.record.get("encoder") for job in about}
    left_out = max(excluded, key=lambda of: sum(map(len, of.values())), default={})
    return {
        "cohort": column.label,
        "patients": str(column.patients) if column.patients else "unknown",
        "left out": "; ".join(f"{len(who)} {why}" for why, who in left_out.items() if who) or "nobody",
        "encoder": ", ".join(sorted(map(str, filter(None, encoders)))) or "not recorded",
        "content hash": column.content,
        "folds hash": str(members[0].identity.get("folds_hash", "")) or "not recorded",
    }


def _counted(values: Iterable[str]) -> tuple[str, ...]:
    counts = Counter(value for value in values if value)
    if len(counts) < 2:
        return tuple(counts)
    return tuple(f"{value} ({count} jobs)" for value, count in counts.most_common())


def _settings(training: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in sorted(training.items()))


def _selection(selection: Mapping[str, Any]) -> str:
    return " on ".join(str(selection[key]) for key in ("rule", "split") if selection.get(key))
