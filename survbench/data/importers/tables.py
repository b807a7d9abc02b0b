"""Plain tables: a folder per cohort with labels.csv, expression.csv, pathways.gmt; families.gmt, slides.csv, folds.csv.

Column names decide what a column means, never a guess at its values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from survbench.console import shown
from survbench.data.covariates import covariate_columns, covariate_report, site_of, years
from survbench.data.delimited import UNNAMED, read_table
from survbench.data.importers.draft import Draft, first_file, select
from survbench.data.importers.endpoints import endpoint_columns
from survbench.data.importers.identifiers import PATIENT, normal, persons
from survbench.data.importers.labels import as_sex, blanked, one_per_patient
from survbench.data.root import FOLD_COLUMNS, CohortInfo
from survbench.data.spreadsheet import read_sheet
from survbench.data.text import Say
from survbench.errors import BadFolds, BadLabels

__all__ = ["read", "recognizes"]

EXPRESSION = tuple(f"expression.{kind}{packed}" for kind in ("csv", "tsv", "txt") for packed in ("", ".gz"))
GENE_SETS = (".gmt", ".gmt.gz", ".gmt.txt", ".csv", ".csv.gz", ".tsv")
LABELS = ("labels.csv", "labels.tsv", "labels.txt", "labels.xlsx")
COHORT = ("type", "cohort", "cancertype", "projectid")
PATIENT_NAMES = ("patient", "patient_id", "case_id", "PATIENT", "PATIENT_ID", "bcr_patient_barcode", "_PATIENT")
SLIDE = ("slide", "slide_id", "pathology_id", "FILENAME")


def recognizes(source: Path) -> bool:
    """Whether the folder is a cohort with a table of labels, or holds some; or the file is one."""
    return source.is_file() or bool(_cohort_folders(source))


def read(
    source: Path, aliases: Mapping[str, str], only: list[str] | None, pathways: Path | None, unit: str | None
) -> list[Draft]:
    """The cohort in this folder, or every cohort in its subfolders; a cohort is named like its folder.

    A single file is a cohort of its name, or one of each value of its column `type` or `cohort`.
    """
    if source.is_file():
        return _cohorts_of_file(source, aliases, only, unit)
    folders = ((folder.resolve().name.lower(), folder) for folder in _cohort_folders(source))
    return [_cohort(folder, name, pathways, unit) for _, name, folder in select(folders, aliases, only)]


def _cohort_folders(source: Path) -> list[Path]:
    if first_file(source, *LABELS) is not None:
        return [source]
    return sorted({file.parent for name in LABELS for file in source.glob(f"*/{name}")})


def _cohorts_of_file(file: Path, aliases: Mapping[str, str], only: list[str] | None, unit: str | None) -> list[Draft]:
    remarks: list[str] = []
    table = _read(file, remarks.append)
    column = next((name for name in map(str, table) if normal(name) in COHORT), None)
    if column is None:
        parts = {file.name.partition(".")[0].lower(): table}
    else:
        parts = {str(name).lower(): part for name, part in table.groupby(column) if name}
        if blank := int((table[column] == "").sum()):
            remarks.append(f"{blank} rows of {file.name} have no {column} and were left out")
    places = [(name, file) for name in parts]
    drafts = []
    for stem, name, _ in select(places, aliases, only):
        part = parts[stem].drop(columns=[column] if column else []).reset_index(drop=True)
        draft = _labeled(part, file, name, unit, None)
        draft.remarks[:0] = remarks
        drafts.append(draft)
    return drafts


def _read(file: Path, say: Say) -> pd.DataFrame:
    table = read_sheet(file, say) if file.suffix.lower() == ".xlsx" else read_table(file, say)
    if table.empty:
        raise BadLabels(f"{file} has a header and no rows", "expected a row per patient, or per slide")
    return table


def _cohort(folder: Path, name: str, pathways: Path | None, unit: str | None) -> Draft:
    file, remarks = first_file(folder, *LABELS), list[str]()
    assert file is not None
    draft = _labeled(_read(file, remarks.append), file, name, unit, folder)
    draft.remarks[:0] = remarks
    if (expression := first_file(folder, *EXPRESSION)) is not None:
        pathways = pathways or first_file(folder, *(f"pathways{ending}" for ending in GENE_SETS))
        families = first_file(folder, *(f"families{ending}" for ending in GENE_SETS))
        draft.add_expression(expression, pathways, families)
    if (folder / "folds.csv").exists():
        _add_folds(draft, folder / "folds.csv")
    return draft


def _labeled(table: pd.DataFrame, file: Path, name: str, unit: str | None, folder: Path | None) -> Draft:
    """A cohort with labels, covariates and slides."""
    remarks: list[str] = []
    patient, slide = _patient_column(table, file), _any_of(table, SLIDE)
    patients = persons(table[patient], file, remarks.append)
    outcomes, used = endpoint_columns(table, file, unit, remarks.append)
    covariates, named = _covariates(table.drop(columns=[patient, *used]), patients, remarks.append)
    rows = pd.DataFrame({"patient": patients, **covariates, **outcomes})
    if slide is None and (twice := table[patient][table[patient].duplicated()]).size:
        raise BadLabels(
            f"{file}: duplicate patient {twice.iloc[0]}", "keep one row per patient, or add a column slide_id"
        )
    if slide is None and patients.duplicated().any():
        remarks.append("several samples of a person are one patient's")
    slides = _slides(folder, rows["patient"], None if slide is None else table[slide], remarks.append)
    unused = [c for c in map(str, table) if c not in {patient, slide, *used, *named} and not UNNAMED.fullmatch(c)]
    if unused:
        remarks.append(f"columns of {file.name} that were not used ({len(unused)}): {shown(unused, 5)}")
    info = CohortInfo(name=name, title=name.upper(), source=str(folder or file))
    if unit is not None:
        info = replace(info, notes=(f"times were read as {unit}, as was said at the import",))
    kept = one_per_patient(rows, file)
    remarks += covariate_report(kept)
    return Draft(info=info, patients=kept, slides=slides, remarks=remarks, unit_stated=unit is not None)


def _patient_column(table: pd.DataFrame, file: Path) -> str:
    """The column of patients: one of the usual names as they are usually written, else in any spelling."""
    named = [name for name in PATIENT_NAMES if name in table] or [
        name for name in map(str, table) if normal(name) in PATIENT
    ]
    if len(named) > 1 and all(table[name].equals(table[named[0]]) for name in named):
        named = named[:1]
    if len(named) != 1:
        problem = f"has the patient columns {', '.join(named)}" if named else "has no patient column"
        raise BadLabels(
            f"{file} {problem}; its columns are {', '.join(table.columns)}", f"keep one of {', '.join(PATIENT_NAMES)}"
        )
    blank = table.index[blanked(table[named[0]]) == ""]
    if len(blank):
        raise BadLabels(f"{file}, row {blank[0] + 2} has no {named[0]}", "fill it in, or remove the row")
    return named[0]


def _covariates(table: pd.DataFrame, patients: pd.Series, say: Say) -> tuple[dict[str, pd.Series], set[str]]:
    """Covariate -> its values, and the names of the columns they are from."""
    columns = {}
    for covariate, column in (found := covariate_columns(map(str, table))).items():
        values, name = blanked(table[column]), normal(column)
        if covariate == "sex" and name in ("isfemale", "female", "ismale", "male"):
            values = as_sex(values, male=name in ("ismale", "male"))
        columns[covariate] = years(values, say) if covariate == "age" else values
    if "site" not in found and (sites := site_of(patients)) is not None:
        columns["site"] = sites
        say("site: taken from the TCGA barcodes")
    return columns, set(found.values())


def _slides(folder: Path | None, patients: pd.Series, slides: pd.Series | None, say: Say) -> pd.DataFrame:
    if folder is not None and (folder / "slides.csv").exists():
        table = read_table(folder / "slides.csv", say)
        patient = _patient_column(table, folder / "slides.csv")
        slide = _one_of(table, SLIDE, folder / "slides.csv", "slide")
        listed = pd.DataFrame({"patient": persons(table[patient], folder / "slides.csv", say), "slide": table[slide]})
        unknown = listed[~listed["patient"].isin(set(patients))]
        if len(unknown):
            names = sorted(set(unknown["patient"]))
            say(f"slides of patients without a label, not used ({len(unknown)}): of {shown(names, 5)}")
        listed = listed[listed["patient"].isin(set(patients))].drop_duplicates()
    elif slides is None:
        return pd.DataFrame({"patient": [], "slide": []}, dtype=str)
    else:
        listed = pd.DataFrame({"patient": patients, "slide": blanked(slides)}).drop_duplicates()
    given = listed[listed["slide"] != ""]
    if without := sorted(set(patients) - set(given["patient"])):
        say(f"patients without a slide ({len(without)}): {shown(without, 5)}")
    return given


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
