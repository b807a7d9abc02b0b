"""Whether a cohort is another one than that of the training, and measured on its scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from survbench.cards import Modality
from survbench.console import shown, warn
from survbench.data.barcodes import person
from survbench.data.expression_scale import expression_scale, same_scale
from survbench.errors import BadConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

    from survbench.data.cohort import Cohort
    from survbench.experiments.job import Job

__all__ = ["other_scale", "refuse_other_scale", "refuse_shared_patients"]

FAR = 20.0  # standard deviations of the training patients; no cohort of people is so far from another


def refuse_shared_patients(train: Cohort, test: Cohort) -> None:
    """Refuse patients that are in both: by identifier, or by the same follow-up and the same expression.

    In cohorts that are simulated as a whole, identifiers are running numbers, and only those with one label are shared.

    Raises
    ------
    BadConfig : counts and names them.
    """
    known = {_person(name): name for name in map(str, train.patients.index)}
    shared = [name for name in map(str, test.patients.index) if _person(name) in known]
    if "all" in (train.simulated, test.simulated):
        labels = {name: _label(train, known[_person(name)]) for name in shared}
        shared = [name for name in shared if labels[name] == _label(test, name)]
    why = "the same identifiers"
    if not shared:
        shared, why = _same_content(train, test), "other identifiers with the same follow-up and expression"
    if shared:
        raise BadConfig(
            f"{len(shared)} of the {len(test.patients)} patients of {test.name} are also in {train.name}, "
            f"on which the models are trained ({why}): {shown(shared)}",
            f"leave them out of {test.name} and import it again",
        )


def refuse_other_scale(jobs: Iterable[Job], test: Cohort, *, allowed: bool) -> None:
    """Refuse expression on another scale than the models were trained on; values that are far from it are said.

    Parameters
    ----------
    allowed : whether another scale is a warning only.

    Raises
    ------
    BadConfig : names both scales.
    """
    job = next((job for job in jobs if Modality.EXPRESSION in job.card.inference_inputs), None)
    if job is None:
        return
    if differs := other_scale(job.cohort, test):
        if not allowed:
            raise BadConfig(
                f"expression of {test.name}: {differs}",
                "bring both cohorts to one scale, or give --allow-other-scale, which the table then says",
            )
        warn(f"expression of {test.name}: {differs}")
    gene, far = _farthest(job.cohort.expression, test.expression)
    if far > FAR:
        warn(
            f"expression of {test.name}: gene {gene} lies {far:,.0f} standard deviations from its mean in "
            f"{job.cohort.name}; such predictions mean little"
        )


def other_scale(train: Cohort, test: Cohort) -> str:
    """Both scales in words; empty where they are one, or cannot be recognised."""
    if train.expression is None or test.expression is None:
        return ""
    one, other = expression_scale(train.expression), expression_scale(test.expression)
    return "" if same_scale(one, other) else f"looks like {other}, the models are trained on {one} ({train.name})"


def _person(name: str) -> str:
    return person(name) or name.strip()


def _label(cohort: Cohort, name: str) -> tuple[float, bool]:
    return float(cohort.patients["time"][name]), bool(cohort.patients["event"][name])


def _same_content(train: Cohort, test: Cohort) -> list[str]:
    if train.expression is None or test.expression is None:
        return []
    genes = [gene for gene in train.expression.columns if gene in test.expression.columns]
    if len(genes) < 10:  # few numbers may be the same by chance
        return []
    seen = set(_rows(train, genes).values())
    return [name for name, row in _rows(test, genes).items() if row in seen]


def _rows(cohort: Cohort, genes: list[str]) -> dict[str, tuple[float, bool, bytes]]:
    assert cohort.expression is not None
    table = cohort.expression[genes].astype(np.float32)
    table = table[table.std(axis=1) > 0]
    return {
        str(name): (*_label(cohort, name), values.tobytes())
        for name, values in zip(table.index, table.to_numpy(), strict=True)
        if name in cohort.patients.index
    }


def _farthest(train: pd.DataFrame | None, test: pd.DataFrame | None) -> tuple[str, float]:
    """The gene whose median in the test cohort is farthest from its training mean, in standard deviations."""
    if train is None or test is None:
        return "", 0.0
    genes = train.columns.intersection(test.columns)
    spread = train[genes].std(ddof=0)
    genes = spread.index[spread > 1e-6]
    if genes.empty:
        return "", 0.0
    far = ((test[genes].median() - train[genes].mean()) / spread[genes]).abs()
    return str(far.idxmax()), float(far.max())
