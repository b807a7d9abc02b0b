"""Plain tables: a folder per cohort with labels.csv, expression.csv, pathways.gmt; families.gmt, slides.csv, folds.csv.

Column names decide what a column means, never a guess at its values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from survbench.data.delimited import read_table
from survbench.data.importers.draft import Draft, first_file, select
from survbench.data.importers.labels import as_event, as_sex, one_per_patient
from survbench.data.root import FOLD_COLUMNS, CohortInfo
from survbench.errors import BadFolds, BadLabels

__all__ = ["DAYS_PER_MONTH", "read", "recognizes"]

DAYS_PER_MONTH = 30.4375
PATIENT = ("patient", "patient_id", "case_id", "PATIENT", "PATIENT_ID", "bcr_patient_barcode", "_PATIENT")
SLIDE = ("slide", "slide_id", "pathology_id", "FILENAME")
COVARIATES = {"site": "site", "age": "age", "sex": "sex", "stage": "stage", "grade": "grade", "is_female": "sex"}
ENDPOINTS = ("os", "dss", "pfi", "dfi", "pfs", "dfs")
EXPRESSION = tuple(f"expression.{kind}{packed}" for kind in ("csv", "tsv", "txt") for packed in ("", ".gz"))
GENE_SETS = (".gmt", ".gmt.gz", ".gmt.txt", ".csv", ".csv.gz", ".tsv")
LIVING = {"0:living": "0", "1:deceased": "1", "0:censored": "0", "1:progression": "1"}


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


def recognizes(source: Path) -> bool:
    """Whether the folder is a cohort with a labels.csv, or holds some."""
    return bool(_cohort_folders(source))


def read(source: Path, aliases: Mapping[str, str], only: list[str] | None, pathways: Path | None) -> list[Draft]:
    """The cohort in this folder, or every cohort in its subfolders; a cohort is named like its folder."""
    folders = ((folder.resolve().name.lower(), folder) for folder in _cohort_folders(source))
    return [_cohort(folder, name, pathways) for _, name, folder in select(folders, aliases, only)]


def _cohort_folders(source: Path) -> list[Path]:
    if (source / "labels.csv").exists():
        return [source]
    return sorted(file.parent for file in source.glob("*/labels.csv"))


def _cohort(folder: Path, name: str, pathways: Path | None) -> Draft:
    file = folder / "labels.csv"
    table = read_table(file)
    if table.empty:
        raise BadLabels(f"{file} has a header and no rows", "expected a row per patient, or per slide")
    patient, slide = _one_of(table, PATIENT, file, "patient"), _any_of(table, SLIDE)
    columns = {"patient": table[patient], **_covariates(table), **_labels(table, file)}
    rows = pd.DataFrame(columns)
    if slide is None and rows["patient"].duplicated().any():
        twice = rows.loc[rows["patient"].duplicated(), "patient"].iloc[0]
        raise BadLabels(f"{file}: duplicate patient {twice}", "keep one row per patient, or add a column slide_id")
    slides = _slides(folder, rows["patient"], None if slide is None else table[slide])
    info = CohortInfo(name=name, title=name.upper(), source=str(folder))
    draft = Draft(info=info, patients=one_per_patient(rows, file), slides=slides)
    if (expression := first_file(folder, *EXPRESSION)) is not None:
        pathways = pathways or first_file(folder, *(f"pathways{ending}" for ending in GENE_SETS))
        families = first_file(folder, *(f"families{ending}" for ending in GENE_SETS))
        draft.add_expression(expression, pathways, families)
    if (folder / "folds.csv").exists():
        _add_folds(draft, folder / "folds.csv")
    return draft


def _covariates(table: pd.DataFrame) -> dict[str, pd.Series]:
    columns = {}
    for column, name in COVARIATES.items():
        if column in table and name not in columns:
            columns[name] = as_sex(table[column]) if column == "is_female" else table[column]
    return columns


def _labels(table: pd.DataFrame, file: Path) -> dict[str, pd.Series]:
    """`<endpoint>_months` and `<endpoint>_event` of every endpoint that the table has in a known convention."""
    columns: dict[str, pd.Series] = {}
    for endpoint in ENDPOINTS:
        pairs = [p for p in known_pairs() if p.endpoint == endpoint and {p.time, p.flag} <= set(table.columns)]
        if not pairs:
            continue
        months = [_months(table[p.time], p.divisor) for p in pairs]
        events = [as_event(table[p.flag].str.lower().replace(LIVING), censorship=p.censorship) for p in pairs]
        for pair, event in zip(pairs[1:], events[1:], strict=True):
            differing = table.index[event.to_numpy() != events[0].to_numpy()]
            if len(differing):
                raise BadLabels(
                    f"{file}, row {differing[0] + 2}: {pairs[0].flag} and {pair.flag} disagree on {endpoint}",
                    "remove the pair of columns that is wrong",
                )
        columns |= {f"{endpoint}_months": months[0], f"{endpoint}_event": events[0]}
    if not columns:
        conventions = "; ".join(f"{p.time} + {p.flag}" for p in known_pairs()[:4])
        raise BadLabels(
            f"{file} has no known pair of time and event among its columns {', '.join(table.columns)}",
            f"rename them, for example to os_months and os_event; known pairs: {conventions}; ...",
        )
    return columns


def _months(values: pd.Series, divisor: float) -> pd.Series:
    """Times as text in months; text that is no number is kept, to be refused by name later."""
    values = values.replace({"#N/A": "", "NA": "", "N/A": "", "nan": ""})
    if divisor == 1:
        return values
    numbers = pd.to_numeric(values.replace("", None), errors="coerce") / divisor
    return numbers.map(repr).where(numbers.notna(), values).astype(object)


def _slides(folder: Path, patients: pd.Series, slides: pd.Series | None) -> pd.DataFrame:
    if (folder / "slides.csv").exists():
        table = read_table(folder / "slides.csv")
        patient = _one_of(table, PATIENT, folder / "slides.csv", "patient")
        slide = _one_of(table, SLIDE, folder / "slides.csv", "slide")
        listed = pd.DataFrame({"patient": table[patient], "slide": table[slide]})
        return listed[listed["patient"].isin(set(patients))].drop_duplicates()
    if slides is None:
        return pd.DataFrame({"patient": [], "slide": []}, dtype=str)
    return pd.DataFrame({"patient": patients, "slide": slides}).drop_duplicates()


def _add_folds(draft: Draft, file: Path) -> None:
    table = read_table(file)
    if not set(FOLD_COLUMNS) <= set(table.columns):
        raise BadFolds(f"{file} has the columns {', '.join(table.columns)}, expected {', '.join(FOLD_COLUMNS)}")
    draft.add_official(table)


def _any_of(table: pd.DataFrame, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in table), None)


def _one_of(table: pd.DataFrame, names: tuple[str, ...], file: Path, what: str) -> str:
    present = [name for name in names if name in table]
    if len(present) != 1:
        problem = f"has the {what} columns {', '.join(present)}" if present else f"has no {what} column"
        raise BadLabels(
            f"{file} {problem}; its columns are {', '.join(table.columns)}", f"keep one of {', '.join(names)}"
        )
    return present[0]
