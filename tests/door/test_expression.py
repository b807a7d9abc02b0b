"""Expression tables as people have them: each patient gets their own values, or one line says what is wrong."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from support import door
from survbench.data.cohort import load_cohort
from survbench.data.root import DataRoot

RIGHT = {(patient, gene): float(door.value(row, place)) for row, patient in enumerate(door.PATIENTS)
         for place, gene in enumerate(door.GENES)}  # fmt: skip


def own_values(content: pd.DataFrame, patients: list[str] = door.PATIENTS) -> bool:
    """Whether every patient has the values that were made for them, under the right genes."""
    rows = dict(zip(patients, door.PATIENTS, strict=True))
    return set(content.columns) == set(door.GENES) and all(
        content.loc[patient, gene] == np.float32(RIGHT[rows[patient], gene])
        for patient in content.index
        for gene in door.GENES
    )


def before(numbers: list[int], head: str) -> str:
    """A column of row numbers before the patient's; patients have numbers for names, in another order."""
    lines = door.table(door.NUMBERED).splitlines()
    rows = lines[1:]
    random.Random(1).shuffle(rows)
    return "\n".join([f"{head},{lines[0]}", *(f"{n},{row}" for n, row in zip(numbers, rows, strict=True)), ""])


DROPPED = "expression.csv: column {} only numbers the rows and was left out"
NUMBERED = {"labels_csv": door.labels(door.NUMBERED)}
BARCODES = {"labels_csv": door.labels(door.TCGA)}


@pytest.mark.parametrize(
    ("numbers", "head", "column"),
    [
        (list(range(20)), "", "1, which has no name,"),
        (list(range(1, 21)), '""', "1, which has no name,"),
        ([3 * n + 4 for n in range(20)], "", "1, which has no name,"),
        (list(range(20)), "Unnamed: 0", "'Unnamed: 0'"),
        (list(range(20)), "index", "'index'"),
        (list(range(1, 21)), "X", "'X'"),
        (list(range(1, 21)), "...1", "'...1'"),
    ],
)
def test_row_numbers_are_nobody(tmp_path: Path, numbers: list[int], head: str, column: str) -> None:
    content, said = door.expression(tmp_path, expression_csv=before(numbers, head), **NUMBERED)
    assert own_values(content, door.NUMBERED)
    assert DROPPED.format(column) in said


@pytest.mark.parametrize(
    "head",
    ["patient", "Patient ID", "case_id", "PATIENT", "_PATIENT", "bcr_patient_barcode", "sampleID", "id", "", "who"],
)
def test_the_patients_column_by_name_or_by_its_patients(tmp_path: Path, head: str) -> None:
    content, _ = door.expression(tmp_path, expression_csv=door.table(head=head))
    assert own_values(content)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (door.at_the_end(door.table()), ""),
        (door.table([f"{p},{p}" for p in door.PATIENTS], head="patient,case_id"), "column 'case_id' was left out"),
        (door.table([f"{p},{p}-T" for p in door.PATIENTS], head="patient,sample"), "column 'sample' was left out"),
        (door.table(separator="\t"), "expression.csv is separated by tabs"),
        (door.table(separator=";").replace(".", ","), "expression.csv is separated by semicolons"),
        (door.table(separator="\t").replace(".", ","), "expression.csv is separated by tabs"),
        (door.table().replace("\n", ",,\n"), ""),
        (door.table() + ",,,\n", "expression.csv: 1 blank row was left out"),
        (door.transposed(door.PATIENTS), "expression.csv has genes in rows and patients in columns; it was transposed"),
        (door.transposed(door.PATIENTS, head="sample", separator="\t"), "it was transposed"),
        (door.transposed(door.PATIENTS, head=""), "it was transposed"),
    ],
)
def test_forms_of_one_table(tmp_path: Path, text: str, said: str) -> None:
    content, remarks = door.expression(tmp_path, expression_csv=text)
    assert own_values(content)
    assert len(content) == 20
    assert any(said in line for line in remarks)


def test_commas_in_names_are_no_decimals(tmp_path: Path) -> None:
    names = [f"Doe, {p}" for p in door.PATIENTS]
    labels = door.labels(door.PATIENTS).replace(",", "\t").replace("P0", "Doe, P0")
    content, _ = door.expression(tmp_path, labels_csv=labels, expression_csv=door.table(names, separator="\t"))
    assert own_values(content, names)


@pytest.mark.parametrize("name", ["expression_csv_gz", "expression_tsv", "expression_tsv_gz", "expression_txt"])
def test_names_of_the_file(tmp_path: Path, name: str) -> None:
    text = door.table(separator="," if "csv" in name else "\t").encode()
    content, _ = door.expression(tmp_path, **{name: gzip.compress(text, mtime=0) if name.endswith("gz") else text})
    assert own_values(content)


@pytest.mark.parametrize(
    ("ending", "form"),
    [
        ("-01", door.table),
        ("-01A-11R-A32Y-07", door.table),
        ("-06A", door.table),
        ("-01", door.transposed),
        (".01A", lambda names: door.transposed([name.replace("-", ".") for name in names])),
    ],
)
def test_samples_of_tcga_are_their_patients(tmp_path: Path, ending: str, form: Callable[[list[str]], str]) -> None:
    content, said = door.expression(tmp_path, expression_csv=form([p + ending for p in door.TCGA]), **BARCODES)
    assert own_values(content, door.TCGA)
    assert any(
        line.startswith("expression.csv: samples are joined by their first 12 characters (20): ") for line in said
    )


@pytest.mark.parametrize("form", [door.table, door.transposed])
def test_of_several_samples_the_primary_tumour_is_taken(tmp_path: Path, form: Callable[[list[str]], str]) -> None:
    """Values stand in the order of the rows, so whose they are can be told."""
    names = ["TCGA-ZZ-0001-11A", "TCGA-ZZ-0001-06A", "TCGA-ZZ-0001-01B", "TCGA-ZZ-0001-01A", "TCGA-ZZ-0002-11A"]
    content, said = door.expression(tmp_path, expression_csv=form([*names, *door.TCGA[2:]]), **BARCODES)
    assert content.loc["TCGA-ZZ-0001", "TP53"] == np.float32(door.value(3, 0))
    assert "TCGA-ZZ-0002" not in content.index
    assert len(content) == 19
    assert (
        "expression.csv: of several samples of a patient (1 patients) the primary tumour, and the first in order, is "
        "taken: of TCGA-ZZ-0001 TCGA-ZZ-0001-01A, not TCGA-ZZ-0001-01B, TCGA-ZZ-0001-06A"
    ) in said
    assert ("expression.csv: patients who have samples of normal tissue only, not used (1): TCGA-ZZ-0002") in said


def test_row_numbers_before_genes(tmp_path: Path) -> None:
    lines = door.transposed(door.PATIENTS).splitlines()
    text = "\n".join([f",{lines[0]}", *(f"{n},{line}" for n, line in enumerate(lines[1:]))])
    content, said = door.expression(tmp_path, expression_csv=text)
    assert own_values(content)
    assert DROPPED.format("1, which has no name,") in said


def test_numbers_of_genes_are_no_patients(tmp_path: Path) -> None:
    """Entrez numbers, and patients who have numbers for names."""
    genes = tuple(door.NUMBERED[:15])
    content, _ = door.expression(tmp_path, expression_csv=door.table(door.NUMBERED[5:9], genes=genes), **NUMBERED)
    assert content.loc["6", "2"] == np.float32(door.value(0, 1))
    assert content.shape == (4, 15)


def test_columns_that_are_no_patients(tmp_path: Path) -> None:
    """cBioPortal's second column is a number; it is nobody's expression."""
    text = door.transposed(["Entrez_Gene_Id", *(f"{p}-01" for p in door.TCGA)], head="Hugo_Symbol", separator="\t")
    content, said = door.expression(tmp_path, expression_csv=text, **BARCODES)
    assert len(content) == 20
    assert content.loc[door.TCGA[0], "TP53"] == np.float32(door.value(1, 0))
    assert "expression.csv: columns that are no patients of the labels, left out (1): Entrez_Gene_Id" in said


def test_few_matches_and_what_differs_are_said(tmp_path: Path) -> None:
    names = [*door.PATIENTS[:4], "p005", *(f"Q{n}" for n in range(9))]
    content, said = door.expression(tmp_path, expression_csv=door.table(names))
    assert set(content.index) == set(door.PATIENTS[:4])
    assert (
        "expression.csv: names that differ from patients of the labels by upper and lower case alone (1): "
        "'p005' and 'P005'"
    ) in said
    assert (
        "expression.csv: only 4 of 20 patients of the labels have expression; without are P005, P006, P007 and 13 "
        "more; rows of nobody are p005, Q0, Q1 and 7 more"
    ) in said


def test_numbers_that_may_be_row_numbers_are_patients_only_if_all_are(tmp_path: Path) -> None:
    content, said = door.expression(tmp_path, expression_csv=door.table(door.NUMBERED, head=""), **NUMBERED)
    assert own_values(content, door.NUMBERED)
    assert (
        "expression.csv: the column without a name holds 1, 2, 3 and 17 more, read as the patients of the labels"
        in said
    )


@pytest.mark.shared
def test_another_patients_expression_is_never_given(shared: Path, tmp_path: Path) -> None:
    case = shared / "cases/01-expression-row-numbers"
    for name in ("in", "right"):
        assert door.command("data", "import", case / name, "--out", tmp_path / "D")[0] == 0
    found = [load_cohort(DataRoot.open(tmp_path / "D"), name, "os") for name in ("in", "right")]
    pd.testing.assert_frame_equal(found[0].expression, found[1].expression)
    raw = pd.read_csv(case / "right/expression.csv", dtype={"patient": str}).set_index("patient")
    content = found[0].expression
    assert content is not None
    np.testing.assert_allclose(content["GENE1"], raw.loc[content.index, "GENE1"], rtol=1e-6)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("case", "line"),
    [
        ("05-outcome-among-genes/in", "column 'OS' is an outcome, not a gene (2 such: OS, OS.time)"),
        ("11-expression-other-separator/in", "expression.csv is separated by tabs"),
        ("11-expression-other-separator/semicolon", "expression.csv is separated by semicolons"),
        ("11-expression-other-separator/with_pathways", "pathways: 3 of 3 sets; 24 of their 24 genes are measured"),
        ("15-gene-dates/in", "gene 'Mar-01' is a date"),
        ("15-gene-dates/iso", "gene '2001-03-01 00:00:00' is a date"),
        ("15-gene-dates/german", "gene '1. Mrz' is a date"),
        ("15-gene-dates/serial", "gene '44256' is a date"),
        ("15-gene-dates/full", "gene '01-Mar-21' is a date"),
        ("29-nobody-matches-check-is-content/in", "TCGA-ZZ-0000-01 is patient TCGA-ZZ-0000"),
        ("29-nobody-matches-check-is-content/transposed", "it was transposed"),
        ("29-nobody-matches-check-is-content/zeros", "they differ by leading zeros or .0: '1' and '001'"),
        ("37-raw-counts-and-other-scales/in", "values from 21,444 to 2,679,834 look like raw counts"),
        ("37-raw-counts-and-other-scales/log", "look like logs, such as log2(TPM + 1)"),
        ("37-raw-counts-and-other-scales/test", "look like values that are not logs"),
    ],
)
def test_cases_of_expression(shared: Path, tmp_path: Path, case: str, line: str) -> None:
    source = shared / "cases" / case
    code, out = door.command("data", "import", source, "--out", tmp_path / "D")
    assert line in out
    assert code == (2 if "error: " in out else 0)
    if code == 0:
        content = DataRoot.open(tmp_path / "D").cohort(source.name).expression()
        labels = pd.read_csv(source / "labels.csv", dtype=str)
        assert content is not None
        assert set(content.index) == set(labels["patient"])
        assert list(content.columns) == [f"GENE{number}" for number in range(1, 25)]
