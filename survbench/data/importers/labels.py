"""Outcomes and covariates of a source: what their values mean, and which are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from survbench.data.importers.draft import Draft
from survbench.data.root import COVARIATES
from survbench.data.validation import label_problems
from survbench.errors import BadLabels

__all__ = ["as_event", "as_sex", "check_labels", "event_counts", "one_per_patient"]


def check_labels(draft: Draft, drop_invalid: bool) -> dict[str, dict[str, str]]:
    """Sort patients and columns, blank invalid labels if they are dropped; endpoint -> patient -> problem."""
    patients, invalid = draft.patients.sort_values("patient").reset_index(drop=True), {}
    endpoints = [c.removesuffix("_months") for c in map(str, patients.columns) if c.endswith("_months")]
    where = f"{draft.info.source}: cohort {draft.info.name}"
    if not endpoints:
        raise BadLabels(f"{where} has no pair of time and event columns")
    for endpoint in endpoints:
        columns = [f"{endpoint}_months", f"{endpoint}_event"]
        labels = patients.set_index("patient")[columns].set_axis(["time", "event"], axis=1).astype(str)
        problems = label_problems(labels[(labels != "").any(axis=1)])
        for patient, problem in problems.items():
            if not drop_invalid and not _tolerated(str(labels.at[patient, "time"]), str(labels.at[patient, "event"])):
                raise BadLabels(
                    f"{where}, endpoint {endpoint}: patient {patient} {problem}",
                    "correct the table, or add --drop-invalid to leave such labels out",
                )
        if problems:
            invalid[endpoint] = problems
        if drop_invalid and problems:
            patients.loc[patients["patient"].isin(problems), columns] = ""
    order = [
        "patient",
        *(c for c in COVARIATES if c in patients),
        *(c for e in endpoints for c in (f"{e}_months", f"{e}_event")),
    ]
    draft.patients = patients.loc[:, order]
    return invalid


def _tolerated(time: str, event: str) -> bool:
    """Whether a label lacks its time, or has a time of zero, and is valid otherwise: no follow-up at this endpoint."""
    zero_or_blank = time == "" or (pd.notna(number := pd.to_numeric(time, errors="coerce")) and number == 0)
    return event in ("", "0", "1") and (zero_or_blank or event == "")


def event_counts(patients: pd.DataFrame) -> dict[str, int]:
    """Endpoint -> deaths."""
    columns = [c for c in map(str, patients.columns) if c.endswith("_event")]
    return {c.removesuffix("_event"): int((patients[c] == "1").sum()) for c in columns}


def one_per_patient(table: pd.DataFrame, source: Path) -> pd.DataFrame:
    """One row per patient of a table with a row per slide.

    Raises
    ------
    BadLabels : two rows of a patient disagree, naming the patient and the column.
    """
    for column in table.columns.drop("patient"):
        differing = table.groupby("patient")[column].nunique()
        if (differing > 1).any():
            patient = differing.index[differing > 1][0]
            values = sorted(set(table.loc[table["patient"] == patient, column]))
            raise BadLabels(
                f"{source}: the rows of patient {patient} disagree on {column}: {', '.join(values[:3])}",
                "a patient has one outcome",
            )
    return table.drop_duplicates("patient").reset_index(drop=True)


def as_event(values: pd.Series, *, censorship: bool) -> pd.Series:
    """Text flags as `1` (died), `0` (censored) or blank; other texts are kept, to be refused by name later.

    Parameters
    ----------
    values : of the source's column.
    censorship : whether 1 means censored there.
    """
    numbers = pd.to_numeric(values.replace("", np.nan), errors="coerce")
    flags = numbers.map({0.0: "1", 1.0: "0"} if censorship else {0.0: "0", 1.0: "1"})
    return flags.where(flags.notna(), values).astype(object)


def as_sex(is_female: pd.Series) -> pd.Series:
    """F, M or blank."""
    return pd.to_numeric(is_female, errors="coerce").map({1.0: "F", 0.0: "M"}).fillna("")
