"""Covariates under the names and in the spellings of archives and tools; and the repositories of other projects."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from survbench.data.cohort import load_cohort
from survbench.data.covariates import covariate_report, encode_clinical
from survbench.data.importers import import_data
from survbench.data.root import DataRoot
from survbench.data.spreadsheet import read_sheet
from survbench.errors import BadFile, SurvbenchError


@pytest.mark.parametrize(
    ("column", "values", "numbers"),
    [
        ("stage", ["1", "2.0", "III", "stage iva"], [1, 2, 3, 4]),
        ("stage", ["Stage IIA", "Stage IIIC1", "I", "IV"], [2, 3, 1, 4]),
        ("grade", ["2.0", "G3", "Grade 1", "4"], [2, 3, 1, 4]),
        ("grade", ["g2", "GX", "", "G4"], [2, np.nan, np.nan, 4]),
        ("sex", ["f", "Male", "WOMAN", "m"], [1, 0, 1, 0]),
        ("age", ["55", "61.5", "", "70"], [55, 61.5, np.nan, 70]),
    ],
)
def test_spellings_are_understood(column: str, values: list[str], numbers: list[float]) -> None:
    patients = pd.DataFrame({column: values})
    encoded = encode_clinical(patients)
    assert encoded is not None
    np.testing.assert_array_equal(encoded[column], np.array(numbers, float))
    assert covariate_report(patients) == []


@pytest.mark.parametrize(
    ("column", "values", "line"),
    [
        ("stage", ["pT3", "pT2", "II"], "stage: 1 of 3 values understood; not 'pT3'"),
        ("grade", ["high", "low", ""], "grade: 0 of 2 values understood; not 'high'"),
        ("sex", ["1", "0", "1"], "sex: 0 of 3 values understood; not '1'; 0 and 1 say which under the name is_female"),
        ("age", ["23376", "55", "60"], "age: up to 23376 years; are they days?"),
    ],
)
def test_what_is_not_understood_is_said(column: str, values: list[str], line: str) -> None:
    assert covariate_report(pd.DataFrame({column: values})) == [line]


def labels(folder: Path, **columns: list[str]) -> Path:
    count = len(next(iter(columns.values())))
    table = pd.DataFrame({"patient": [f"P{i:02d}" for i in range(count)], **columns})
    table["os_months"], table["os_event"] = [10 + i for i in range(count)], [i % 2 for i in range(count)]
    folder.mkdir(parents=True)
    table.to_csv(folder / "labels.csv", index=False)
    return folder


@pytest.mark.parametrize(
    ("name", "values", "covariate", "stored"),
    [
        ("gender", ["MALE", "FEMALE"], "sex", ["MALE", "FEMALE"]),
        ("is_male", ["1", "0"], "sex", ["M", "F"]),
        ("is_female", ["1.0", "0.0"], "sex", ["F", "M"]),
        ("AGE", ["55", "60"], "age", ["55", "60"]),
        ("age_at_initial_pathologic_diagnosis", ["55", "#N/A"], "age", ["55", ""]),
        ("age_at_diagnosis", ["23376", "20000"], "age", ["64.0", "54.76"]),
        ("ajcc_pathologic_tumor_stage", ["Stage II", "[Not Available]"], "stage", ["Stage II", ""]),
        ("histological_grade", ["G2", "[Unknown]"], "grade", ["G2", ""]),
        ("tissue_source_site", ["AA", "AB"], "site", ["AA", "AB"]),
    ],
)
def test_columns_are_found_by_their_names(
    tmp_path: Path, name: str, values: list[str], covariate: str, stored: list[str]
) -> None:
    report = import_data(labels(tmp_path / "mine", **{name: values}), tmp_path / "DATA")
    patients = DataRoot.open(tmp_path / "DATA").cohort("mine").patients()
    assert patients[covariate].tolist() == stored
    converted = [line for line in report.cohorts[0].remarks if "read as years" in line]
    assert converted == (["age: 20000 to 23376 are days; read as years of 365.25 days"] if "2337" in values[0] else [])


def test_columns_that_were_not_used_are_named(tmp_path: Path) -> None:
    report = import_data(
        labels(tmp_path / "mine", race=["a", "b"], ki67=["1", "2"], age=["50", "60"]), tmp_path / "DATA"
    )
    assert "columns of labels.csv that were not used (2): race, ki67" in report.cohorts[0].remarks


def workbook(file: Path, rows: list[list[str]], head: str = "") -> Path:
    cells = "".join(
        f'<row r="{r}">'
        + "".join(
            f'<c r="{chr(65 + c)}{r}" t="inlineStr"><is><t>{text}</t></is></c>' for c, text in enumerate(row) if text
        )
        + "</row>"
        for r, row in enumerate(rows, 1)
    )
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    link = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
    sheets = '<sheet name="One" sheetId="1" r:id="rId1"/><sheet name="Two" sheetId="2" r:id="rId2"/>'
    with zipfile.ZipFile(file, "w") as book:
        book.writestr("xl/workbook.xml", f"<workbook {space} {link}><sheets>{sheets}</sheets></workbook>")
        book.writestr("xl/_rels/workbook.xml.rels", '<R><x Id="rId1" Target="worksheets/sheet1.xml"/></R>')
        book.writestr(
            "xl/worksheets/sheet1.xml", f"{head}<worksheet {space}><sheetData>{cells}</sheetData></worksheet>"
        )
    return file


ROWS = [["patient", "type", "os_months", "os_event"]]
ROWS += [[f"P{i}", ("LUAD", "LUSC")[i % 2], str(10 + i), str(i // 2 % 2)] for i in range(8)]


def test_a_workbook_is_a_cohort_of_each_type(tmp_path: Path) -> None:
    said: list[str] = []
    assert read_sheet(workbook(tmp_path / "labels.xlsx", ROWS), said.append).shape == (8, 4)
    assert said == ["labels.xlsx: sheet 'One' is read; not used: Two"]
    report = import_data(tmp_path / "labels.xlsx", tmp_path / "DATA", cohorts=["lusc"])
    assert [(c.name, c.patients) for c in report.cohorts] == [("lusc", 4)]
    assert DataRoot.open(tmp_path / "DATA").cohort("lusc").labels("os")["time"].tolist() == [11, 13, 15, 17]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as an Excel workbook"),
        (b"PK\x03\x04 no workbook", "cannot be read as an Excel workbook"),
        (None, "has a document type"),
    ],
)
def test_what_is_no_workbook_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = workbook(tmp_path / "labels.xlsx", ROWS, '<!DOCTYPE x [<!ENTITY a "b">]>')
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadFile, match=message):
        import_data(file, tmp_path / "DATA")


@pytest.mark.shared
def test_the_real_workbook_has_all_its_endpoints(shared: Path, tmp_path: Path) -> None:
    file = shared / "real/labels/tcga_cdr.xlsx"
    report = import_data(file, tmp_path / "DATA", cohorts=["stad", "acc"])
    stad = {cohort.name: cohort for cohort in report.cohorts}["stad"]
    assert set(stad.events) == {"os", "dss", "dfi", "pfi"}
    ours = import_data(shared / "tcga/survpath", tmp_path / "TCGA", cohorts=["stad"])
    theirs = DataRoot.open(tmp_path / "TCGA").cohort("stad").labels("os")
    patients = DataRoot.open(tmp_path / "DATA").cohort("stad").patients().loc[theirs.index]
    assert (patients["os_event"] == theirs["event"].astype(int).astype(str)).all()
    assert int((patients["os_event"] == "1").sum()) == ours.cohorts[0].events["os"]
    np.testing.assert_allclose(patients["os_months"].astype(float), theirs["time"] * 30 / 30.4375, rtol=1e-6)


@pytest.mark.shared
@pytest.mark.parametrize("form", ["in", "unzipped"])
def test_the_repository_of_mcat(shared: Path, tmp_path: Path, form: str) -> None:
    report = import_data(shared / "cases/25-mcat-repository" / form, tmp_path / "DATA")
    (cohort,) = report.cohorts
    assert (cohort.name, cohort.patients, cohort.slides, cohort.genes) == ("xyz", 60, 60, 24)
    assert (dict(cohort.events), dict(cohort.folds)) == ({"os": 38}, {"official": 5})
    loaded = load_cohort(DataRoot.open(tmp_path / "DATA"), "xyz", "os")
    assert sum(len(fold.test) for fold in loaded.folds("official")) == 60
    table = DataRoot.open(tmp_path / "DATA").cohort("xyz").expression()
    raw = shared / "cases/25-mcat-repository/unzipped/datasets_csv/metadata/tcga_xyz_all_clean.csv"
    source = pd.read_csv(raw, index_col="case_id")
    assert table is not None
    np.testing.assert_array_equal(table["GENE7"], source["GENE7_rnaseq"].reindex(table.index).astype(np.float32))


@pytest.mark.shared
def test_folds_that_list_slides_are_those_of_patients_or_refused(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(SurvbenchError, match="nobody in the folds has a label: they list P001-DX1, the labels P001"):
        import_data(shared / "cases/30-check-finds-nothing-run-refuses/slide_folds", tmp_path / "DATA")
    source = labels(tmp_path / "mine", slide_id=[f"S{i}.svs" for i in range(10)])
    rows = [f"{k},S{i},{'test' if i % 5 == k else 'train'}" for k in range(5) for i in range(10)]
    (source / "folds.csv").write_text("\n".join(["fold,patient,split", *rows]))
    report = import_data(source, tmp_path / "DATA")
    assert "folds list slides; their patients were taken: S0 is P00" in report.cohorts[0].remarks
    folds = DataRoot.open(tmp_path / "DATA").cohort("mine").folds("official")
    assert folds is not None
    assert set(folds["patient"]) == {f"P{i:02d}" for i in range(10)}


@pytest.mark.shared
def test_pathways_that_do_not_fit_the_expression_are_said(shared: Path, tmp_path: Path) -> None:
    report = import_data(shared / "tcga/survpath", tmp_path / "DATA", cohorts=["stad"])
    remarks = report.cohorts[0].remarks
    assert "expression is the set 'xena', pathways are combine_signatures.csv" in remarks
    assert any("of 50 sets under half: HALLMARK_HEDGEHOG_SIGNALING 8.6 % (3 of 35)" in line for line in remarks)
