"""What a leaderboard consists of: rows, the tables they may share, and what was refused.

Descriptions only; `aggregate` fills them, and survbench.report shows them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from survbench.cards import ModelGroup
from survbench.data.barcodes import all_of_tcga
from survbench.evaluation.calibration import Calibration, calibration_bins
from survbench.evaluation.compare import Difference
from survbench.experiments.schema import Identified

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "EXTERNAL",
    "KINDS",
    "MEASURED",
    "UNKNOWN",
    "Column",
    "Contrast",
    "Leaderboard",
    "Line",
    "OfKind",
    "Refusal",
    "Row",
    "Summary",
    "Table",
]

MEASURED, EXTERNAL = "measured", "external predictions"  # where a row comes from
UNKNOWN = "unknown"  # whether the data are simulated, of external predictions that match no cohort

KINDS: Mapping[str | None, str] = {
    "": "real patients",
    "slides": "simulated slides",
    "all": "demo (simulated)",
    None: "failed before it was recorded whether the data are simulated",
    UNKNOWN: "data not known here",
}


class OfKind:
    """What follows from `simulated`, a key of KINDS."""

    simulated: str | None

    @property
    def kind(self) -> str:
        return KINDS[self.simulated]

    @property
    def invented(self) -> bool | None:
        """Whether patients or slides are simulated; None where that is not known."""
        return None if self.simulated in (None, UNKNOWN) else bool(self.simulated)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A metric over the folds of one row.

    Attributes
    ----------
    mean : over folds.
    sd : over folds, ddof 0.
    sd_sample : over folds, ddof 1.
    per_fold : mean over seeds inside each fold.
    sd_seeds : of the seeds' means over folds, ddof 0; None with one seed.
    reason : why `mean` is NaN. One undefined fold makes it NaN: undefined is not averaged away (protocol rule 12).
    """

    mean: float
    sd: float
    sd_sample: float
    sd_seeds: float | None
    per_fold: tuple[float, ...]
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Row(Identified, OfKind):
    """One model with one configuration on one cohort, all folds and seeds.

    Attributes
    ----------
    identity : of its jobs, without fold and seed.
    title : of the model.
    group : of models; None where the model is not known.
    reconstruction : what had to be reconstructed; empty where nothing had to.
    selected : how the settings were chosen.
    simulated : a key of KINDS.
    seeds : of its jobs.
    metrics : by the names of `survbench.evaluation.metrics.METRICS`.
    labels : (fold, patient, time, event) of everyone who was scored.
    logrank_p : of the test patients of all folds, cut at each fold's training median; the median over seeds.
    logrank_p_stratified : the same, stratified by fold.
    logrank_reason : why they are NaN.
    parameters : of what predicts; the largest over folds.
    fvcore_flops : of one patient; the largest over folds.
    beside : models whose paired differences belong to this row.
    tests : (seed, fold) -> test patients with `time`, `event`, `risk` and `high`.
    bins : (seed, fold) -> counts of D-calibration.
    errors : of failed jobs; the row then has no mean.
    source : MEASURED by this suite, or EXTERNAL predictions.
    as_registered : with every setting as the registry has it, so that published figures may stand beside it.
    code : version of the code that ran.
    unsealed : of the first edition, whose files have no digests.
    """

    identity: Mapping[str, Any]
    title: str
    group: ModelGroup | None
    reconstruction: str
    selected: str
    simulated: str | None
    seeds: tuple[int, ...]
    metrics: Mapping[str, Summary]
    labels: frozenset[tuple[int, str, float, bool]]
    logrank_p: float = math.nan
    logrank_p_stratified: float = math.nan
    logrank_reason: str = ""
    parameters: int | None = None
    fvcore_flops: int | None = None
    beside: tuple[str, ...] = ()
    tests: Mapping[tuple[int, int], pd.DataFrame] = field(default_factory=dict)
    bins: Mapping[tuple[int, int], tuple[float, ...]] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    source: str = MEASURED
    as_registered: bool = False
    code: str = ""
    unsealed: bool = False

    @property
    def failed(self) -> bool:
        return bool(self.errors)

    @property
    def of_the_paper(self) -> bool:
        """Whether figures that were published for a cohort of this name are about these patients.

        TCGA's have its barcodes; a hospital's own cohort may have the same name. Beside simulated ones published
        figures stand for orientation, under a line that says so.
        """
        return bool(self.simulated) or all_of_tcga(patient for _, patient, _, _ in self.labels)

    @property
    def calibration(self) -> Calibration:
        """D-calibration of the test patients of all folds; seeds share them and are averaged inside each fold."""
        folds = sorted({fold for _, fold in self.bins})
        of_folds = [[bins for (_, at), bins in self.bins.items() if at == fold] for fold in folds]
        return calibration_bins([np.mean(seeds, axis=0) for seeds in of_folds])


@dataclass(frozen=True, kw_only=True)
class Column:
    """One cohort with one content and one set of folds; rows of different columns are never compared.

    Attributes
    ----------
    cohort : its name.
    key : of data and folds, unique.
    content : of the data, as in job.json.
    ambiguous : the cohort has a second column.
    patients : how many were scored.
    thin_folds : folds whose test split has too few events or comparable pairs to say much.
    """

    cohort: str
    key: str
    content: str
    ambiguous: bool = False
    patients: int = 0
    thin_folds: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.cohort} @{self.key[:6]}" if self.ambiguous else self.cohort


@dataclass(frozen=True, kw_only=True)
class Line:
    """One model with one configuration over the columns of a table.

    Attributes
    ----------
    model : its registry name.
    title : of the model.
    group : of models; None where the model is not known.
    reconstruction : what had to be reconstructed; empty where nothing had to.
    variant : settings in which it differs from other lines of the same model; empty where there is no other.
    rows : by column.
    """

    model: str
    title: str
    group: ModelGroup | None
    reconstruction: str
    variant: str
    rows: Mapping[Column, Row]

    @property
    def source(self) -> str:
        return next(iter(self.rows.values())).source

    def average(self, metric: str, columns: tuple[Column, ...]) -> float | None:
        """Mean over cohorts; None unless every cohort is there, once and defined."""
        if len(columns) < 2 or any(column.ambiguous for column in columns):
            return None
        means = [self.rows[c].metrics[metric].mean if c in self.rows else math.nan for c in columns]
        return None if any(map(math.isnan, means)) else math.fsum(means) / len(means)


@dataclass(frozen=True)
class Contrast:
    """One line minus another, paired by fold, seed and patient.

    Attributes
    ----------
    first : the one.
    second : the other, which is subtracted.
    cohorts : differences by column.
    mean : over cohorts; None with one.
    """

    first: Line
    second: Line
    cohorts: Mapping[Column, Difference]
    mean: Difference | None


@dataclass(frozen=True, kw_only=True)
class Table(OfKind):
    """Lines that may be compared: same endpoint, folds, protocol version and kind of data (protocol rule 20).

    Attributes
    ----------
    endpoint : outcome.
    folds : their scheme.
    protocol_version : of its rows.
    simulated : a key of KINDS.
    columns : cohorts.
    lines : models.
    contrasts : differences that the models' cards ask for.
    """

    endpoint: str
    folds: str
    protocol_version: int
    simulated: str | None
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    contrasts: tuple[Contrast, ...] = ()

    @property
    def title(self) -> str:
        return f"{self.endpoint} · {self.folds} folds · {self.kind}"


@dataclass(frozen=True)
class Refusal:
    """Something that is not shown, and why."""

    row: Mapping[str, Any]
    reason: str

    @property
    def label(self) -> str:
        if "path" in self.row:
            return str(self.row["path"])
        return "{title} on {cohort} ({endpoint}, {folds})".format_map(self.row)


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """Everything that a results folder lets one say.

    Attributes
    ----------
    source : folder of results.
    tables : of rows that may be compared.
    rows : of all tables.
    refused : what is not shown.
    notes : why tables are separate, which filters match nothing.
    """

    source: str
    tables: tuple[Table, ...]
    rows: tuple[Row, ...]
    refused: tuple[Refusal, ...]
    notes: tuple[str, ...] = ()
