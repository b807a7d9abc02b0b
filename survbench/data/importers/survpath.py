"""The data folders of the SurvPath and MCAT repositories: datasets_csv/ (or dataset_csv/) and splits/5foldcv/.

Labels have a row per slide, `censorship` is 1 for censored, times are months, and the split files' `val` is the
held-out fold. SurvPath keeps expression in files of its own, MCAT in columns beside the labels, zipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from survbench.console import shown
from survbench.data.covariates import covariate_report
from survbench.data.delimited import UNNAMED, read_table
from survbench.data.gene_sets import read_gene_sets
from survbench.data.importers.draft import Draft, first_file, select
from survbench.data.importers.endpoints import as_months
from survbench.data.importers.labels import as_event, as_sex, blanked, one_per_patient
from survbench.data.root import CohortInfo
from survbench.data.validation import check_expression
from survbench.errors import BadExpression, BadFolds, BadLabels, MissingFile

__all__ = ["read", "recognizes"]

ENDPOINTS = {"os": "", "dss": "_dss", "pfi": "_pfi"}
EXPRESSION_SETS = ("combine", "hallmarks", "xena")  # the richest first
PATHWAY_FILES = ("combine_signatures.csv", "hallmarks_signatures.csv", "xena_signatures.csv")
HELD_OUT_NOTE = "official folds: the split files' `val` is the held-out fifth and was imported as test"
LABELS = re.compile(r"tcga_(.+?)(?:_all_clean)?\.csv(?:\.zip)?")
FOLDERS = ("datasets_csv/metadata", "datasets_csv", "dataset_csv")  # SurvPath's, then MCAT's
FAMILIES = (
    "signatures.csv",
    *(f"../{place}signatures.csv" for place in ("", "dataset_csv_sig/", "datasets_csv_sig/")),
)
RNA, OTHER_OMICS = "_rnaseq", ("_cnv", "_mut")


def recognizes(source: Path) -> bool:
    """Whether the folder has these files."""
    return source.is_dir() and bool(_label_files(source))


def read(
    source: Path, aliases: Mapping[str, str], only: list[str] | None, pathways: Path | None, unit: str | None
) -> list[Draft]:
    """Every cohort that has a label table."""
    files = _label_files(source)
    if not files:
        raise MissingFile(f"none of {', '.join(FOLDERS)} in {source} has a tcga_<cohort>.csv")
    chosen = select(files.items(), aliases, only)
    return [_cohort(source, file, stem, name, pathways, unit) for stem, name, file in chosen]


def _label_files(source: Path) -> dict[str, Path]:
    """Stem of a cohort -> its table, of the first folder that has some; of a file and its zip the file."""
    for folder in FOLDERS:
        names = sorted((source / folder).glob("tcga_*.csv*"), key=lambda file: file.name, reverse=True)
        matches = [(LABELS.fullmatch(file.name), file) for file in names]
        if found := {match[1]: file for match, file in matches if match is not None}:
            return dict(sorted(found.items()))
    return {}


def _cohort(source: Path, file: Path, stem: str, name: str, pathways: Path | None, unit: str | None) -> Draft:
    remarks: list[str] = []
    table = read_table(file, remarks.append)
    rows = _labels(table, file, unit)
    slides = rows[["patient", "slide"]]
    twice = slides[slides.duplicated() & (slides["slide"] != "")]
    if len(twice):
        raise BadLabels(
            f"{file}: duplicate row of patient {twice['patient'].iloc[0]}, slide {twice['slide'].iloc[0]}",
            "keep one row per slide",
        )
    slides = slides[slides["slide"] != ""]
    if without := sorted(set(rows["patient"]) - set(slides["patient"])):
        remarks.append(f"patients without a slide ({len(without)}): {shown(without, 5)}")
    patients = _with_clinical(one_per_patient(rows.drop(columns="slide"), file), source, stem)
    info = CohortInfo(name=name, title=f"TCGA-{name.upper()}", source=str(source))
    remarks += covariate_report(patients)
    draft = Draft(info=info, patients=patients, slides=slides, remarks=remarks, unit_stated=unit is not None)
    if any(column.endswith(RNA) for column in table.columns):
        _add_columns(draft, table, rows["patient"], file, pathways)
    else:
        _add_expression(draft, source, file, stem, pathways)
    _add_folds(draft, source / "splits" / "5foldcv" / f"tcga_{stem}")
    return draft


def _add_expression(draft: Draft, source: Path, file: Path, stem: str, pathways: Path | None) -> None:
    """SurvPath's files of expression, and of the gene sets beside the labels."""
    folder = source / "datasets_csv" / "raw_rna_data"
    kinds = [kind for kind in EXPRESSION_SETS if (folder / kind / stem / "rna_clean.csv").exists()]
    if not kinds:
        return
    chosen = pathways or first_file(file.parent, *PATHWAY_FILES)
    if chosen is None:
        what = f"{file.parent} has none of {', '.join(PATHWAY_FILES)}"
        raise MissingFile(what, "name a file with --pathways")
    draft.add_expression(
        folder / kinds[0] / stem / "rna_clean.csv",
        chosen,
        first_file(file.parent, *FAMILIES),
    )
    own = file.parent / f"{kinds[0]}_signatures.csv"
    draft.remarks.append(f"expression is the set '{kinds[0]}', pathways are {chosen.name}")
    if pathways is None and own != chosen and own.exists():
        draft.remarks.append(f"pathways that fit this expression alone: --pathways {own}")


def _add_columns(draft: Draft, table: pd.DataFrame, patients: pd.Series, file: Path, pathways: Path | None) -> None:
    """MCAT's expression: columns of the label table, a row per slide."""
    columns = [column for column in table.columns if column.endswith(RNA)]
    genes = [column.removesuffix(RNA) for column in columns]
    values = table[columns].set_axis(genes, axis=1).set_axis(patients, axis=0)
    values = values[~values.index.duplicated()]
    numbers = values.apply(pd.to_numeric, errors="coerce")
    if bad := [(patient, gene) for gene in genes for patient in numbers.index[numbers[gene].isna()][:1]]:
        patient, gene = bad[0]
        raise BadExpression(
            f"{file}: patient {patient}, gene {gene} is '{values.loc[patient, gene]}', expected a number",
            "fill it in, or leave the gene out",
        )
    check_expression(numbers, str(file))
    draft.expression = numbers.astype(np.float32).rename_axis(None)
    say, measured = draft.remarks.append, frozenset(genes)
    if pathways is not None:
        draft.pathways = read_gene_sets(pathways, say, measured)
    if (families := first_file(file.parent, *FAMILIES)) is not None:
        draft.families = read_gene_sets(families, say, measured)
    others = [column for column in table.columns if column.endswith(OTHER_OMICS)]
    if others:
        say(f"copy numbers and mutations are not used ({len(others)} columns): {shown(others)}")


def _labels(table: pd.DataFrame, file: Path, unit: str | None) -> pd.DataFrame:
    table = table.drop(columns=[column for column in map(str, table) if UNNAMED.fullmatch(column)])
    if "case_id" not in table and "slide_id" in table:
        table = table.assign(case_id=table["slide_id"].str[:12])
    missing = [c for c in ("case_id", "slide_id", "survival_months", "censorship") if c not in table]
    if missing:
        raise BadLabels(f"{file} has no column {missing[0]}", f"it has: {', '.join(table.columns)}")
    blank = table.index[table["case_id"].str.strip() == ""]
    if len(blank):
        raise BadLabels(f"{file}, row {blank[0] + 2} has no case_id", "fill it in, or remove the row")
    columns = {"patient": table["case_id"], "slide": blanked(table["slide_id"])}
    columns |= {c: table[c] for c in ("site", "age") if c in table}
    if "is_female" in table:
        columns["sex"] = as_sex(table["is_female"])
    for endpoint, suffix in ENDPOINTS.items():
        if f"survival_months{suffix}" in table and f"censorship{suffix}" in table:
            columns[f"{endpoint}_months"] = as_months(table[f"survival_months{suffix}"], 1.0, unit)
            columns[f"{endpoint}_event"] = as_event(table[f"censorship{suffix}"], censorship=True)
    return pd.DataFrame(columns)


def _with_clinical(patients: pd.DataFrame, source: Path, stem: str) -> pd.DataFrame:
    file = source / "datasets_csv" / "clinical_data" / f"tcga_{stem}_clinical.csv"
    if not file.exists():
        return patients
    clinical = read_table(file).drop_duplicates("case_id").set_index("case_id").replace("N/A", "")
    known = clinical.reindex(columns=["stage", "grade"]).reindex(patients["patient"]).fillna("")
    return patients.assign(stage=known["stage"].to_numpy(), grade=known["grade"].to_numpy())


def _add_folds(draft: Draft, folder: Path) -> None:
    rows = []
    for file in sorted(folder.glob("splits_*.csv")):
        number = file.stem.removeprefix("splits_")
        if not number.isdigit():
            continue  # descriptors and boolean copies of the same split
        table = read_table(file)
        if not {"train", "val"} <= set(table.columns):
            raise BadFolds(f"{file} has the columns {list(table.columns)}, expected train and val")
        has_test = "test" in table
        for column, split in (("train", "train"), ("val", "val" if has_test else "test"), ("test", "test")):
            if column in table:
                rows += [(number, patient, split) for patient in table[column] if patient.strip()]
    if not rows:
        return
    folds = pd.DataFrame(rows, columns=["fold", "patient", "split"])
    twice = folds[folds.duplicated(["fold", "patient"])]
    if len(twice):
        raise BadFolds(f"{folder}: patient {twice['patient'].iloc[0]} is twice in fold {twice['fold'].iloc[0]}")
    draft.add_official(folds)
    draft.info = replace(draft.info, notes=(HELD_OUT_NOTE,))
