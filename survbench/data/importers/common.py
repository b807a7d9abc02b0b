"""What all importers share: drafts of cohorts, the rules for labels and expression, the report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from survbench.data.formats import slide_stem
from survbench.data.root import COVARIATES, FOLD_COLUMNS, CohortContent, read_gmt, read_table
from survbench.data.validation import check_expression, label_problems, match_genes
from survbench.errors import BadExpression, BadFile, BadLabels, MissingFile

__all__ = [
    "CohortReport",
    "Draft",
    "ImportReport",
    "as_event",
    "as_sex",
    "finish",
    "first_file",
    "one_per_patient",
    "read_expression",
    "read_pathways",
    "select",
]

DAMAGED_SYMBOL = re.compile(r"^\d{1,2}-(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)$", re.IGNORECASE)


@dataclass(kw_only=True)
class Draft(CohortContent):
    """A cohort as it is in its source, until `finish` has checked it: all values are text, slides have no file.

    Attributes
    ----------
    duplicated_expression : patients with several rows in the expression table.
    unlabeled_in_folds : patients that are in the folds and not in the label table.
    """

    duplicated_expression: tuple[str, ...] = ()
    unlabeled_in_folds: tuple[str, ...] = ()

    def add_expression(self, expression: Path, pathways: Path | None, families: Path | None) -> None:
        """Read an expression table, and gene sets where there are files of them."""
        self.expression, self.duplicated_expression = read_expression(expression)
        self.pathways = read_pathways(pathways) if pathways is not None else {}
        self.families = read_pathways(families) if families is not None else {}

    def add_official(self, folds: pd.DataFrame) -> None:
        """Keep folds as published, without the patients who have no label; these are listed."""
        labeled = folds["patient"].isin(self.patients["patient"])
        self.unlabeled_in_folds = tuple(sorted(set(folds.loc[~labeled, "patient"])))
        self.folds = {"official": folds.loc[labeled, list(FOLD_COLUMNS)]}


def select(
    places: Iterable[tuple[str, Path]], aliases: Mapping[str, str], only: Sequence[str] | None
) -> list[tuple[str, str, Path]]:
    """Cohorts to import.

    Parameters
    ----------
    places : (stem, path) of each cohort in the source.
    aliases : stem -> name of the cohort, where they differ.
    only : stems or names; None for all.

    Returns
    -------
    (stem, name, path) of each.
    """
    named = [(stem, aliases.get(stem, stem), place) for stem, place in places]
    return [of for of in named if only is None or of[0] in only or of[1] in only]


def first_file(folder: Path, *names: str) -> Path | None:
    """The first of these files that exists."""
    return next((file for name in names if (file := folder / name).exists()), None)


@dataclass(frozen=True, kw_only=True)
class CohortReport:
    """What was imported, and what was not.

    Attributes
    ----------
    name : of the cohort.
    patients : number of patients.
    slides : number of slides.
    slides_with_features : number of slides with a feature file.
    events : endpoint -> deaths.
    genes : number of genes in the expression table.
    pathways : number of pathways.
    families : number of functional gene families.
    folds : scheme -> number of folds.
    without_expression : patients without expression, where the cohort has some.
    expression_only : number of rows of the expression table whose patient has no label.
    duplicated_expression : see `Draft`.
    unlabeled_in_folds : see `Draft`.
    invalid : endpoint -> patient -> what is wrong with the label.
    dropped : whether invalid labels were left out.
    notes : for the user.
    """

    name: str
    patients: int
    slides: int
    slides_with_features: int
    events: Mapping[str, int]
    genes: int
    pathways: int
    families: int
    folds: Mapping[str, int]
    without_expression: tuple[str, ...]
    expression_only: int
    duplicated_expression: tuple[str, ...]
    unlabeled_in_folds: tuple[str, ...]
    invalid: Mapping[str, Mapping[str, str]]
    dropped: bool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ImportReport:
    """One report per cohort."""

    cohorts: tuple[CohortReport, ...]


def finish(draft: Draft, files: Mapping[str, str], drop_invalid: bool) -> CohortReport:
    """Check a draft and complete it in place, so that it can be written.

    Parameters
    ----------
    draft : to check.
    files : slide without suffix -> feature file.
    drop_invalid : leave out labels that cannot be right.

    Raises
    ------
    BadLabels : a negative time, or an event that is not 0 or 1. Times of zero and half labels, which public tables have
        at single endpoints, are kept and reported; using that endpoint is then an error.
    BadExpression : a pathway or family without measured genes.
    """
    invalid, name = _check_labels(draft, drop_invalid), draft.info.name
    labeled = measured = set(draft.patients["patient"])
    if draft.expression is None:
        draft.families = {}  # gene sets mean nothing without it
    else:
        measured = set(draft.expression.index)
        draft.expression = draft.expression.loc[draft.expression.index.isin(labeled)].sort_index()
        draft.pathways = match_genes(draft.pathways, draft.expression.columns, name)
        draft.families = match_genes(draft.families, draft.expression.columns, name)
    stems = draft.slides["slide"].map(slide_stem)
    if stems.duplicated().any():
        raise BadLabels(
            f"{draft.info.source}: cohort {name} lists slide {draft.slides['slide'][stems.duplicated()].iloc[0]} twice",
            "a slide belongs to one patient, or it could be learned from and scored on",
        )
    slides = draft.slides.assign(file=[files.get(stem, "") for stem in stems])
    draft.slides = slides.loc[:, ["patient", "slide", "file"]].sort_values(["patient", "slide"], ignore_index=True)
    return CohortReport(
        name=name,
        patients=len(draft.patients),
        slides=len(draft.slides),
        slides_with_features=int((draft.slides["file"] != "").sum()),
        events=_event_counts(draft.patients),
        genes=0 if draft.expression is None else draft.expression.shape[1],
        pathways=len(draft.pathways),
        families=len(draft.families),
        folds={scheme: table["fold"].nunique() for scheme, table in draft.folds.items()},
        without_expression=tuple(sorted(labeled - measured)),
        expression_only=len(measured - labeled),
        duplicated_expression=draft.duplicated_expression,
        unlabeled_in_folds=draft.unlabeled_in_folds,
        invalid=invalid,
        dropped=drop_invalid,
        notes=draft.info.notes,
    )


def _check_labels(draft: Draft, drop_invalid: bool) -> dict[str, dict[str, str]]:
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


def _event_counts(patients: pd.DataFrame) -> dict[str, int]:
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


def read_expression(file: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Expression from a CSV (also compressed) whose first column is the patient; the first row of a patient counts.

    Returns
    -------
    (patients, genes) float32, and the patients who have several rows.

    Raises
    ------
    MissingFile : no such file.
    BadFile : it is no table.
    BadExpression : values that are no numbers, genes twice, symbols that a spreadsheet turned into dates.
    """
    try:
        header = pd.read_csv(file, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0].tolist()
        table = pd.read_csv(file, header=None, skiprows=1, index_col=0, dtype={0: str}, low_memory=False)
    except FileNotFoundError:
        raise MissingFile(f"{file} does not exist") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise BadFile(f"{file} is not a table: {error}") from None
    if table.shape[1] != len(header) - 1:
        raise BadFile(f"{file} has {len(header)} column names and {table.shape[1] + 1} columns")
    table.index, table.columns = table.index.astype(str), pd.Index(header[1:])
    damaged = [gene for gene in table.columns if DAMAGED_SYMBOL.match(gene)]
    if damaged:
        raise BadExpression(f"{file}: gene '{damaged[0]}' is a date made by a spreadsheet", "restore the gene symbols")
    text = [gene for gene, kind in table.dtypes.items() if kind.kind == "O" or pd.api.types.is_string_dtype(kind)]
    if text:
        column = pd.to_numeric(table[text[0]], errors="coerce")
        patient = table.index[column.isna()][0]
        raise BadExpression(
            f"{file}: patient {patient}, gene {text[0]} is '{table[text[0]].loc[patient]}', expected a number"
        )
    twice = tuple(sorted(set(table.index[table.index.duplicated()])))
    table = table[~table.index.duplicated()]
    check_expression(table, str(file))
    return table.astype(np.float32), twice


def read_pathways(file: Path) -> dict[str, list[str]]:
    """Pathways of a GMT file, or of a wide CSV: a column is a pathway, its cells are genes, ragged with blanks."""
    if file.suffix.lower() == ".gmt":
        return read_gmt(file)
    table = read_table(file)
    return {name: [gene for gene in dict.fromkeys(table[name]) if gene] for name in table.columns}
