"""Who the patients of a cohort are and a digest of their labels, kept once beside the results, so that boards need no
data root and an altered label is noticed."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from survbench.console import warn
from survbench.experiments import schema
from survbench.files import digest, write_json

if TYPE_CHECKING:
    from survbench.data.cohort import Cohort

__all__ = ["contradiction", "labels_digest", "write_cohort"]


def _file(content_hash: str, out: Path) -> Path:
    return out / "cohorts" / f"{content_hash}.json"


def write_cohort(cohort: Cohort, out: Path) -> None:
    """Keep a cohort's patients and labels, unless they are there."""
    file = _file(cohort.content_hash, out)
    labels = cohort.patients[["time", "event"]].rename_axis("patient").reset_index()
    content = {
        "format": schema.SCHEMA,
        "name": cohort.name,
        "endpoint": cohort.endpoint,
        "simulated": cohort.simulated,
        "patients": list(cohort.patients.index),
        "labels": labels_digest(labels),
        "excluded": {reason: list(patients) for reason, patients in cohort.excluded.items()},
    }
    with suppress(*schema.MALFORMED):
        if schema.read_json(file) == content:
            return
    write_json(file, content)


def labels_digest(table: pd.DataFrame) -> str:
    """Digest of who (patient) was followed for how long (time, months) and died (event)."""
    ordered = table.sort_values("patient")
    return digest(
        [[str(p), float(t), bool(e)] for p, t, e in ordered[["patient", "time", "event"]].to_numpy().tolist()]
    )


def contradiction(table: pd.DataFrame, content_hash: str, out: Path) -> str:
    """What of a table is not as the cohort's file has it; empty where nothing is, or there is no such file."""
    file = _file(content_hash, out)
    known = _known(file, file.stat().st_mtime_ns) if file.exists() else None
    if known is None:
        return ""
    patients, labels = known
    if unlike := patients ^ frozenset(table["patient"]):
        return f"its patients are not those of the cohort in {file}, first {min(map(str, unlike))}"
    return "" if labels_digest(table) == labels else f"its times or events are not those of the cohort in {file}"


@lru_cache(maxsize=64)
def _known(file: Path, modified: int) -> tuple[frozenset[str], str] | None:
    """Patients and digest of labels; `modified` is there for the cache to notice that the file is another one."""
    try:
        content = schema.read_json(file)
        return frozenset(schema.texts(content["patients"], "patients")), schema.typed(content, "labels", str)
    except schema.MALFORMED as error:
        warn(f"{file} is no list of a cohort's patients and is not used: {schema.one_line(error)}")
        return None  # results without it are compared with each other alone
