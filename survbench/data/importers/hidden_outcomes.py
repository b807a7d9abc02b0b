"""Genes that are the outcome under another name: a model would read the answer off them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from survbench.errors import BadExpression

__all__ = ["refuse_hidden_outcomes"]

PATIENTS = 10  # with fewer, a gene may follow a time by chance
GENES = 2_000  # at once
FOLLOWS = 0.99999  # correlation with a time, with its logarithm, or with a flag: a copy in other units


def refuse_hidden_outcomes(expression: pd.DataFrame, patients: pd.DataFrame, file: Path) -> None:
    """Refuse genes that follow a time or an event of the labels exactly.

    Parameters
    ----------
    expression : (patients, genes).
    patients : text, with the column patient and `<endpoint>_months`, `<endpoint>_event`.
    file : of the expression, for the message.

    Raises
    ------
    BadExpression : naming the gene and the outcome.
    """
    labels = patients.set_index("patient")
    labels = labels.loc[labels.index.isin(expression.index)]
    mine = expression.loc[labels.index]
    known = _outcomes(labels)
    flags = 15 + np.log2(mine.shape[1] + 1)  # patients; among many genes of two values one may be an event by chance
    for start in range(0, mine.shape[1], GENES):
        values = mine.iloc[:, start : start + GENES].to_numpy(np.float64)
        for column, outcome in known:
            if np.isfinite(outcome).sum() < (PATIENTS if column.endswith("_months") else flags):
                continue
            if (gene := _follower(values, outcome)) is not None:
                raise BadExpression(
                    f"{file}: column '{mine.columns[start + gene]}' follows {column} of the labels in all patients; it "
                    "is an outcome, not a gene",
                    "take such columns out of the expression table",
                )


def _outcomes(labels: pd.DataFrame) -> list[tuple[str, np.ndarray]]:
    """Times, their logarithms, and events, as numbers."""
    known = []
    for column in map(str, labels.columns):
        if column.endswith(("_months", "_event")):
            values = pd.to_numeric(labels[column], errors="coerce").to_numpy(np.float64)
            known.append((column, values))
            if column.endswith("_months"):
                known.append((column, np.log(np.where(values > 0, values, np.nan))))
    return known


def _follower(values: np.ndarray, known: np.ndarray) -> int | None:
    """The first column that is a multiple of the known values, up to a constant."""
    finite = np.isfinite(known)
    if np.std(known[finite]) < 1e-9:
        return None
    centered = known[finite] - known[finite].mean()
    genes = values[finite] - values[finite].mean(axis=0)
    spread = np.sqrt((genes**2).sum(axis=0) * (centered**2).sum())
    share = np.abs(centered @ genes) / np.where(spread > 1e-9, spread, np.inf)
    best = int(np.argmax(share)) if share.size else 0
    return best if share.size and share[best] > FOLLOWS else None
