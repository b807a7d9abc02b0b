"""Which labels, expression values, gene sets and counts are refused, wherever they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from survbench.errors import BadExpression, BadLabels

__all__ = ["check_counts", "check_expression", "label_problems"]


def check_counts(cohort: str, patients: int, events: Mapping[str, int], expected: Mapping[str, Any]) -> None:
    """Refuse a cohort that does not have the counts its card states, usually because a flag was read the wrong way.

    Parameters
    ----------
    cohort : its name.
    patients : number of patients in the data.
    events : endpoint -> deaths in the data.
    expected : `patients` and `events` of the card, as far as it states them.

    Raises
    ------
    BadLabels : they differ.
    """
    stated = {"patients": (expected.get("patients"), patients)}
    stated |= {f"{of} events": (count, events.get(of, 0)) for of, count in dict(expected.get("events", {})).items()}
    for what, (count, in_data) in stated.items():
        if count is not None and in_data != count:
            raise BadLabels(
                f"cohort {cohort} has {in_data} {what}, its card expects {count}",
                "check the polarity of the event column, or correct the card",
            )


def label_problems(labels: pd.DataFrame) -> dict[str, str]:
    """Patient -> what is wrong with the label.

    Parameters
    ----------
    labels : columns time and event as text, indexed by patient.
    """
    time = pd.to_numeric(labels["time"].replace("", np.nan), errors="coerce")
    event = pd.to_numeric(labels["event"].replace("", np.nan), errors="coerce")
    problems = {}
    for patient in labels.index[~((time > 0) & np.isfinite(time)) | ~event.isin([0, 1])]:
        months, died = labels.loc[patient, "time"], labels.loc[patient, "event"]
        if "" in (months, died):
            problems[str(patient)] = f"has half a label (time '{months}', event '{died}')"
        elif not (time[patient] > 0 and np.isfinite(time[patient])):
            problems[str(patient)] = f"has time {months}, expected a positive number of months"
        else:
            problems[str(patient)] = f"has event {died}, expected 0 (censored) or 1 (died)"
    return problems


def check_expression(table: pd.DataFrame, source: str) -> None:
    """Refuse NaN, infinity, and patients or genes that are there twice."""
    for kind, names in (("patient", table.index), ("gene", table.columns)):
        twice = names[names.duplicated()]
        if len(twice):
            raise BadExpression(f"{source}: {kind} {twice[0]} is there twice", f"keep one entry per {kind}")
    values = table.to_numpy(np.float64)
    bad = ~(np.abs(values) <= np.finfo(np.float32).max)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        value = float(values[row, column])
        raise BadExpression(
            f"{source}: patient {table.index[row]}, gene {table.columns[column]} is "
            f"{'blank or NA (nan)' if np.isnan(value) else value} ({int(bad.sum())} such values)",
            "expression must be finite; leave the gene or the patient out",
        )
