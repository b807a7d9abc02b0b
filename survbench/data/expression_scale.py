"""On which scale the values of an expression table are, as far as values can tell."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import pandas as pd

__all__ = ["Scale", "expression_scale", "same_scale", "scale_remark"]

FLOOR = float(np.log2(0.001))  # where log2(TPM + 0.001) puts a gene that was not seen: -9.9658
LARGEST_LOG = 30.0  # 2 to the power of 30 is more reads than anybody sequences
PATIENTS, GENES = 400, 2_000  # enough to tell, and quick on any table


class Scale(StrEnum):
    """A scale that values show; the value is its wording."""

    COUNTS = "raw counts"
    LINEAR = "values that are not logs (TPM, FPKM, expected counts)"
    LOG = "logs, such as log2(TPM + 1)"
    LOG_FLOOR = "log2(TPM + 0.001)"
    LOG_SIGNED = "logs with many negative values"
    STANDARDIZED = "z-scores of each gene"
    CENTERED = "differences from each gene's mean"
    UNIT = "values scaled to 0 ... 1 or -1 ... 1"
    UNKNOWN = "an unknown scale"


def expression_scale(table: pd.DataFrame) -> Scale:
    """The scale of an expression table; quick on any size, and the same for the same table.

    Parameters
    ----------
    table : patients in rows, genes in columns, numbers. NaN and infinity are left aside.
    """
    values = _sample(table)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return Scale.UNKNOWN
    low, high = (float(edge) for edge in np.quantile(finite, [0.005, 0.995]))  # one cell's typing error decides nothing
    if low >= 0:
        if high > LARGEST_LOG:
            return Scale.COUNTS if bool((finite == np.round(finite)).all()) else Scale.LINEAR
        if float(finite.max()) <= 1:
            return Scale.UNIT
        return Scale.UNKNOWN if bool((finite == np.round(finite)).all()) else Scale.LOG
    if float(np.abs(finite).max()) <= 1:
        return Scale.UNIT
    if int((np.abs(finite - FLOOR) < 2e-3).sum()) > 1 and low > FLOOR - 2e-3:
        return Scale.LOG_FLOOR
    if (centered := _centered(values)) is not None:
        return centered
    return Scale.LINEAR if high > LARGEST_LOG else Scale.LOG_SIGNED


def same_scale(one: Scale, other: Scale) -> bool:
    """Whether a model that was fitted on one may be applied to the other; an unknown scale may be any.

    Logs with many negative values may be log2(TPM + 0.001) of genes that everybody expresses.
    """
    return one == other or Scale.UNKNOWN in (one, other) or {one, other} == {Scale.LOG_FLOOR, Scale.LOG_SIGNED}


def scale_remark(table: pd.DataFrame) -> str:
    """One line for the user: the range of the values, what they look like, and whether that is unusual."""
    values = table.to_numpy()
    span = f"expression: values from {_number(float(values.min()))} to {_number(float(values.max()))}"
    scale = expression_scale(table)
    if scale in (Scale.COUNTS, Scale.LINEAR):
        return f"{span} look like {scale}; models expect logs, for example log2(x + 1), and nothing is logged here"
    if scale is Scale.UNKNOWN:
        return f"{span}; their scale is not recognised"
    return f"{span} look like {scale}"


def _sample(table: pd.DataFrame) -> np.ndarray:
    rows = np.unique(np.linspace(0, max(len(table) - 1, 0), min(len(table), PATIENTS)).astype(int))
    columns = np.unique(np.linspace(0, max(table.shape[1] - 1, 0), min(table.shape[1], GENES)).astype(int))
    return table.iloc[rows, columns].to_numpy(np.float64)


def _centered(values: np.ndarray) -> Scale | None:
    """Whether the genes' means are 0, as far as a cohort can tell that was cut out of a larger one."""
    if len(values) < 5:
        return None
    genes = values[:, np.isfinite(values).all(axis=0)]
    genes = genes[:, genes.std(axis=0) > 1e-9]
    if genes.size == 0:
        return None
    spread = genes.std(axis=0)
    if float(np.median(np.abs(genes.mean(axis=0)) / spread)) > 0.25 + 1 / np.sqrt(len(values)):
        return None
    return Scale.STANDARDIZED if 0.7 <= float(np.median(spread)) <= 1.4 else Scale.CENTERED


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"
