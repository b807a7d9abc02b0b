"""Predictions of finished jobs' models for cohorts that they were not trained on, as they are stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from survbench.experiments import folders, schema
from survbench.experiments.folders import Unreadable
from survbench.experiments.schema import Identified
from survbench.files import atomic_folder, write_json

__all__ = ["ValidationResult", "read_validations", "write_validation"]


@dataclass(frozen=True, kw_only=True)
class ValidationResult(Identified):
    """A finished job's model applied, frozen, to another cohort.

    Attributes
    ----------
    record : all that is recorded beside the table.
    identity : of the job.
    table : patient, time (months), event, risk, high (above the training median), standardized.
    code : version that trained the model.
    selected : as of `JobResult`.
    modified : seconds since 1970.
    """

    record: Mapping[str, Any]
    identity: Mapping[str, Any]
    table: pd.DataFrame
    code: str
    selected: str
    modified: float


def write_validation(folder: Path, record: Mapping[str, Any], table: pd.DataFrame) -> None:
    """Store what a frozen model predicts, by one rename."""
    with atomic_folder(folder) as scratch:
        table.to_parquet(scratch / folders.VALIDATED)
        write_json(scratch / folders.VALIDATION, {"format": schema.SCHEMA, **record})
        folders.seal(scratch, str(record["job"]))


def read_validations(out: Path) -> Iterator[ValidationResult | Unreadable]:
    """All of a results folder, in the order of their paths."""
    for folder in sorted(p for p in (out / "external").glob("*/*/*") if p.is_dir()):
        record, table = folder / folders.VALIDATION, folder / folders.VALIDATED
        if not record.exists():
            record, table = folder / folders.FIRST_VALIDATION, folder / folders.FIRST_VALIDATED
        yield folders.read_record(record, folder, partial(_validation, table))


def _validation(
    table: Path, folder: Path, content: Mapping[str, Any], first: bool, modified: float
) -> ValidationResult:
    if not first:
        folders.check(table, folders.digests_of(folder, content["job"]))
    shared = schema.common_fields({"code": "", **content}, first, "job")
    for key in ("test_cohort", "test_hash", "endpoint"):
        schema.typed(content, key, str)
    schema.kind_of_data(content)
    schema.texts(content.get("genes_absent"), "genes_absent")
    kept = {key: shared[key] for key in ("identity", "code", "selected")}
    return ValidationResult(record=content, table=folders.read_table(table), modified=modified, **kept)
