"""Where the figures of a leaderboard come from and what they took: read from the job.json files of the rows shown.

Everything here is about jobs; nothing is scored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from survbench.experiments.results import JobResult, read_results
from survbench.files import digest
from survbench.leaderboard.board import Leaderboard, Line, Row, Table

__all__ = ["JobAbout", "Provenance", "jobs_of", "provenance", "seconds_per_job"]


@dataclass(frozen=True)
class JobAbout:
    """One job: identity, and what its record says beyond it; empty where an older record says nothing."""

    identity: Mapping[str, Any]
    code: str
    modified: float
    versions: Mapping[str, Any] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, int] = field(default_factory=dict)
    excluded: Mapping[str, Sequence[str]] = field(default_factory=dict)
    selection: Mapping[str, Any] = field(default_factory=dict)
    encoder: str = ""
    policy: str = ""

    @property
    def total_seconds(self) -> float:
        return float(sum(self.seconds.values()))


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


def jobs_of(board: Leaderboard, out: Path) -> dict[int, list[JobAbout]]:
    """Jobs by the `id` of the row that they made."""
    wanted = {digest([dict(row.identity), row.selected]): id(row) for row in board.rows if not row.failed}
    found: dict[int, dict[str, JobAbout]] = {}
    for record in read_results(out):
        if not isinstance(record, JobResult) or record.error:
            continue
        identity = {k: v for k, v in record.identity.items() if k not in ("fold", "seed")}
        row = wanted.get(digest([identity, record.selected]))
        if row is not None:
            found.setdefault(row, {}).setdefault(digest(record.identity), _about(record))
    return {row: list(jobs.values()) for row, jobs in found.items()}


def seconds_per_job(line: Line, jobs: Mapping[int, Sequence[JobAbout]]) -> float | None:
    """Mean time of fitting one fold, over all jobs of a line; None where no record tells it."""
    known = [job.seconds["fit"] for row in line.rows.values() for job in jobs.get(id(row), ()) if "fit" in job.seconds]
    return sum(known) / len(known) if known else None


def provenance(table: Table, jobs: Mapping[int, Sequence[JobAbout]]) -> Provenance:
    """Of the rows of one table."""
    rows = [row for line in table.lines for row in line.rows.values()]
    all_jobs = [job for row in rows for job in jobs.get(id(row), ())]
    packages = sorted({name for job in all_jobs for name in job.versions})
    hardware = ("device", "name", "precision", "threads", "cores", "platform")
    peak = [max(job.memory.values()) for job in all_jobs if job.memory]
    facts = [
        ("code", _counted(job.code for job in all_jobs)),
        ("seeds", _counted(f"seed {job.identity['seed']}" for job in all_jobs)),
        ("objective", _counted(str(job.identity["objective"].get("name", "")) for job in all_jobs)),
        ("training", _counted(_settings(job.identity["training"]) for job in all_jobs)),
        ("epoch chosen by", _counted(_selection(job.selection) for job in all_jobs)),
        ("patients with a missing modality", _counted(job.policy for job in all_jobs)),
        *((f"hardware: {key}", _counted(str(job.hardware.get(key, "")) for job in all_jobs)) for key in hardware),
        ("peak memory", (f"up to {max(peak) / 2**30:.2f} GiB a job",) if peak else ()),
        *((f"version: {name}", _counted(str(job.versions.get(name, "")) for job in all_jobs)) for name in packages),
    ]
    return Provenance(
        len(all_jobs),
        sum(job.total_seconds for job in all_jobs),
        tuple((name, values) for name, values in facts if values),
        tuple(_cohort(table, i, jobs) for i in range(len(table.columns))),
    )


def _about(record: JobResult) -> JobAbout:
    content = record.record
    known: dict[str, Any] = {
        key: content[key]
        for key in ("versions", "hardware", "seconds", "memory", "excluded", "selection")
        if isinstance(content.get(key), dict)
    }
    known |= {key: str(content[key]) for key in ("encoder", "policy") if content.get(key)}
    return JobAbout(record.identity, record.code, record.modified, **known)


def _cohort(table: Table, place: int, jobs: Mapping[int, Sequence[JobAbout]]) -> dict[str, str]:
    column = table.columns[place]
    members: list[Row] = [line.rows[column] for line in table.lines if column in line.rows]
    about = [job for row in members for job in jobs.get(id(row), ())]
    left_out = max((job.excluded for job in about), key=lambda excluded: sum(map(len, excluded.values())), default={})
    return {
        "cohort": column.label,
        "patients": str(column.patients) if column.patients else "unknown",
        "left out": "; ".join(f"{len(who)} {why}" for why, who in left_out.items() if who) or "nobody",
        "encoder": ", ".join(sorted({job.encoder for job in about if job.encoder})) or "not recorded",
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
