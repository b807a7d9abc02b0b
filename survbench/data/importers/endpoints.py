"""Time and event of every endpoint, by the column names that tools and archives use.

A name says what its column means; nothing is guessed from values.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from survbench.data.importers.labels import MONTHS, as_event, blanked
from survbench.data.text import Say
from survbench.errors import BadLabels

__all__ = ["DAYS_PER_MONTH", "Pair", "as_months", "endpoint_columns", "known_pairs"]

DAYS_PER_MONTH = MONTHS["days"]
ENDPOINTS = ("os", "dss", "pfi", "dfi", "pfs", "dfs")
ROUNDING = 0.02  # two columns of one time may differ so much: days / 30 beside days / 30.4375, and rounded months
ROUNDED = 0.1  # months


@dataclass(frozen=True)
class Pair:
    """Columns of one endpoint in one convention.

    Attributes
    ----------
    endpoint : such as `os`.
    time : column of the times.
    flag : column of the events, or of the censorships.
    divisor : of the times, to give months.
    """

    endpoint: str
    time: str
    flag: str
    divisor: float = 1.0

    @property
    def censorship(self) -> bool:
        """Whether a flag of 1 means censored."""
        return "cens" in self.flag.lower()


def known_pairs() -> list[Pair]:
    """Conventions of the tools named in the module that follows each."""
    pairs = [Pair("os", "survival_months", "censorship"), Pair("os", "t", "e")]  # MCAT and SurvPath, VLSA
    for endpoint in ENDPOINTS:
        upper = endpoint.upper()
        pairs += [
            Pair(endpoint, f"{endpoint}_months", f"{endpoint}_event"),  # ours
            Pair(endpoint, f"survival_months_{endpoint}", f"censorship_{endpoint}"),  # SurvPath
            Pair(endpoint, f"{endpoint}_survival_days", f"{endpoint}_censorship", DAYS_PER_MONTH),  # MMP
            Pair(endpoint, f"{upper}_days", f"{upper}_event", DAYS_PER_MONTH),  # Patho-Bench
            Pair(endpoint, f"{upper}.time", upper, DAYS_PER_MONTH),  # TCGA-CDR, Xena
            Pair(endpoint, f"{upper}_MONTHS", f"{upper}_STATUS"),  # cBioPortal
        ]
    return pairs


def endpoint_columns(
    table: pd.DataFrame, file: Path, unit: str | None, say: Say
) -> tuple[dict[str, pd.Series], set[str]]:
    """`<endpoint>_months` and `<endpoint>_event` of every endpoint that a table has in a known convention.

    Parameters
    ----------
    table : of text.
    file : it is from.
    unit : of all times, whatever the names of the columns say; None goes by the names.
    say : takes remarks.

    Returns
    -------
    The columns, and the names of the table's columns that were used.

    Raises
    ------
    BadLabels : no known pair, or two pairs of one endpoint that disagree.
    """
    columns: dict[str, pd.Series] = {}
    used: set[str] = set()
    for endpoint in ENDPOINTS:
        pairs = [p for p in known_pairs() if p.endpoint == endpoint and {p.time, p.flag} <= set(table.columns)]
        if not pairs:
            continue
        months = [as_months(table[p.time], p.divisor, unit) for p in pairs]
        events = [as_event(table[p.flag], censorship=p.censorship) for p in pairs]
        for pair, time, event in zip(pairs[1:], months[1:], events[1:], strict=True):
            _agree(table, file, (pairs[0].flag, events[0]), (pair.flag, event), endpoint)
            _agree(table, file, (pairs[0].time, _rounded(months[0], time)), (pair.time, time), endpoint)
            say(f"{endpoint}: {pairs[0].time} and {pair.time} agree; {pairs[0].time} is used")
        columns |= {f"{endpoint}_months": months[0], f"{endpoint}_event": events[0]}
        used |= {name for pair in pairs for name in (pair.time, pair.flag)}
    if not columns:
        conventions = "; ".join(f"{p.time} + {p.flag}" for p in known_pairs()[:4])
        raise BadLabels(
            f"{file} has no known pair of time and event among its columns {', '.join(table.columns)}",
            f"rename them, for example to os_months and os_event; known pairs: {conventions}; ...",
        )
    return columns, used


def as_months(values: pd.Series, divisor: float, unit: str | None = None) -> pd.Series:
    """Times as text in months; text that is no number is kept, to be refused by name later.

    Parameters
    ----------
    values : as the source has them.
    divisor : that gives months, by the name of the column.
    unit : months, days or years: what the user says that they are.
    """
    values, divisor = blanked(values), divisor if unit is None else MONTHS[unit]
    if divisor == 1:
        return values
    numbers = pd.to_numeric(values.replace("", None), errors="coerce") / divisor
    return numbers.map(repr).where(numbers.notna(), values).astype(object)


def _rounded(one: pd.Series, other: pd.Series) -> pd.Series:
    """`one`, but as in `other` where the two differ by rounding alone."""
    a, b = (pd.to_numeric(of.replace("", None), errors="coerce") for of in (one, other))
    close = np.abs(a - b) <= np.maximum(ROUNDED, ROUNDING * np.abs(a))
    return one.mask(close, other)


def _agree(
    table: pd.DataFrame, file: Path, one: tuple[str, pd.Series], other: tuple[str, pd.Series], endpoint: str
) -> None:
    (first, a), (second, b) = one, other
    differing = table.index[(a.to_numpy() != b.to_numpy())]
    if len(differing):
        row = differing[0]
        raise BadLabels(
            f"{file}, row {row + 2}: {first} and {second} disagree on {endpoint} ('{table[first][row]}' and "
            f"'{table[second][row]}')",
            "remove the pair of columns that is wrong",
        )
