"""The figures that AMKD's paper prints, for showing beside measured ones; nothing is computed from them.

Source: Xu et al., Comput Biomed 2026;1:202527, doi 10.70401/cbm.2026.0015, Tables 1 to 7.
"""

from __future__ import annotations

import math
from functools import cache

import pandas as pd

from survbench.errors import MissingFile
from survbench.files import shipped

__all__ = [
    "published",
    "published_change",
    "published_cindex",
    "published_cohorts",
    "published_cost",
    "published_counts",
    "published_logrank",
    "published_models",
    "published_parameters",
]

_TEXT = ("table", "model", "cohort", "quantity", "setting", "source")


def published() -> pd.DataFrame:
    """Every published figure, one a row: table, model, cohort, quantity, setting, value, sd, source.

    `value` and `sd` are floats (`sd` is NaN where none is printed); the others are text, empty where they do not apply.
    """
    return _table().copy()


def published_cindex(model: str, cohort: str, setting: str = "cross-validation") -> tuple[float, float] | None:
    """Mean and standard deviation of a C-index; None where the paper has none.

    Parameters
    ----------
    setting : `cross-validation` (Table 2), `external` (Table 4, without a standard deviation: NaN) or one such as
    `alpha=0.5` (Table 6).
    """
    figures = _figures(model=model, cohort=cohort, quantity="cindex", setting=setting)
    return None if figures.empty else (float(figures["value"].iloc[0]), float(figures["sd"].iloc[0]))


def published_change(model: str, setting: str) -> float | None:
    """Change of the mean C-index in percent against the full method (Table 5); None where the paper has none."""
    return _single(_figures(model=model, quantity="cindex_change_percent", setting=setting))


def published_counts(cohort: str) -> dict[str, int]:
    """Patients, slides and patches of a cohort (Table 1); empty for a cohort the paper does not have."""
    counts = _figures(table="Table 1", cohort=cohort)
    return {str(quantity): int(value) for quantity, value in zip(counts["quantity"], counts["value"], strict=True)}


def published_logrank(model: str, cohort: str) -> float | None:
    """Log-rank p of low against high risk (Table 3); None where the paper has none."""
    return _single(_figures(model=model, cohort=cohort, quantity="logrank_p"))


def published_parameters(model: str) -> int | None:
    """Number of parameters (Table 7); None where the paper has none."""
    value = _single(_figures(model=model, quantity="parameters"))
    return None if value is None else int(value)


def published_cost(model: str) -> dict[str, float] | None:
    """`parameters` and `flops` as Table 7 prints them; None for a model that it does not have."""
    figures = _figures(table="Table 7", model=model)
    return dict(zip(figures["quantity"].astype(str), figures["value"].astype(float), strict=True)) or None


def published_models() -> tuple[str, ...]:
    """Registry names of the paper's methods in the order of its Table 2."""
    return tuple(dict.fromkeys(_figures(table="Table 2")["model"]))


def published_cohorts() -> tuple[str, ...]:
    """Names of the paper's cohorts in its order."""
    return tuple(dict.fromkeys(_figures(table="Table 1")["cohort"]))


@cache
def _table() -> pd.DataFrame:
    path = shipped("leaderboards/published.csv")
    if not path.is_file():
        raise MissingFile(f"{path} is missing from this installation", "install survbench again")
    table = pd.read_csv(path, dtype=dict.fromkeys(_TEXT, str), keep_default_na=False, na_values={"value": "", "sd": ""})
    return table.astype({"value": float, "sd": float})


def _figures(**wanted: str) -> pd.DataFrame:
    table = _table()
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table


def _single(figures: pd.DataFrame) -> float | None:
    if figures.empty or math.isnan(figures["value"].iloc[0]):
        return None
    return float(figures["value"].iloc[0])
