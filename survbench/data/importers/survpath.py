"""The data folders of the SurvPath repository: datasets_csv/ and splits/5foldcv/.

Labels have a row per slide, `censorship` is 1 for censored, times are months, and the split files' `val` is the
held-out fold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from survbench.data.delimited import read_table
from survbench.data.importers.draft import Draft, first_file, select
from survbench.data.importers.labels import as_event, as_sex, one_per_patient
from survbench.data.root import CohortInfo
from survbench.errors import BadFolds, BadLabels, MissingFile

__all__ = ["read", "recognizes"]

ENDPOINTS = {"os": "", "dss": "_dss", "pfi": "_pfi"}
EXPRESSION_SETS = ("combine", "hallmarks", "xena")  # the richest first
PATHWAY_FILES = ("combine_signatures.csv", "hallmarks_signatures.csv", "xena_signatures.csv")
HELD_OUT_NOTE = "official folds: the split files' `val` is the held-out fifth and was imported as test"


def recognizes(source: Path) -> bool:
    """Whether the folder has these files."""
    return any((source / "datasets_csv" / "metadata").glob("tcga_*.csv"))


def read(source: Path, aliases: Mapping[str, str], only: list[str] | None, pathways: Path | None) -> list[Draft]:
    """Every cohort that has a label table."""
    files = sorted((source / "datasets_csv" / "metadata").glob("tcga_*.csv"))
    if not files:
        raise MissingFile(f"{source / 'datasets_csv' / 'metadata'} has no tcga_<cohort>.csv")
    chosen = select(((file.stem.removeprefix("tcga_"), file) for file in files), aliases, only)
    return [_cohort(source, file, stem, name, pathways) for stem, name, file in chosen]


def _cohort(source: Path, file: Path, stem: str, name: str, pathways: Path | None) -> Draft:
    table = _labels(file)
    slides = table[["patient", "slide"]]
    twice = slides[slides.duplicated()]
    if len(twice):
        raise BadLabels(
            f"{file}: duplicate row of patient {twice['patient'].iloc[0]}, slide {twice['slide'].iloc[0]}",
            "keep one row per slide",
        )
    patients = _with_clinical(one_per_patient(table.drop(columns="slide"), file), source, stem)
    info = CohortInfo(name=name, title=f"TCGA-{name.upper()}", source=str(source))
    draft = Draft(info=info, patients=patients, slides=slides)
    tables = (f"{kind}/{stem}/rna_clean.csv" for kind in EXPRESSION_SETS)
    if (expression := first_file(source / "datasets_csv" / "raw_rna_data", *tables)) is not None:
        pathways = pathways or first_file(file.parent, *PATHWAY_FILES)
        if pathways is None:
            what = f"{file.parent} has none of {', '.join(PATHWAY_FILES)}"
            raise MissingFile(what, "name a file with --pathways")
        draft.add_expression(expression, pathways, first_file(file.parent, "signatures.csv"))
    _add_folds(draft, source / "splits" / "5foldcv" / f"tcga_{stem}")
    return draft


def _labels(file: Path) -> pd.DataFrame:
    table = read_table(file)
    missing = [c for c in ("case_id", "slide_id", "survival_months", "censorship") if c not in table]
    if missing:
        raise BadLabels(f"{file} has no column {missing[0]}", f"it has: {', '.join(table.columns)}")
    columns = {"patient": table["case_id"], "slide": table["slide_id"]}
    columns |= {c: table[c] for c in ("site", "age") if c in table}
    if "is_female" in table:
        columns["sex"] = as_sex(table["is_female"])
    for endpoint, suffix in ENDPOINTS.items():
        if f"survival_months{suffix}" in table and f"censorship{suffix}" in table:
            columns[f"{endpoint}_months"] = table[f"survival_months{suffix}"]
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
                rows += [(number, patient, split) for patient in table[column] if patient]
    if not rows:
        return
    folds = pd.DataFrame(rows, columns=["fold", "patient", "split"])
    twice = folds[folds.duplicated(["fold", "patient"])]
    if len(twice):
        raise BadFolds(f"{folder}: patient {twice['patient'].iloc[0]} is twice in fold {twice['fold'].iloc[0]}")
    draft.add_official(folds)
    draft.info = replace(draft.info, notes=(HELD_OUT_NOTE,))
