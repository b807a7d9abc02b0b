"""Importers: files as users have them, joined by identifier, and every planted mistake refused by name."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from support import layouts
from survbench.data.check import check
from survbench.data.cohort import load_cohort
from survbench.data.importers import ImportReport, import_data
from survbench.data.root import DataRoot
from survbench.errors import BadExpression, BadFile, BadFolds, BadLabels, MissingFile, SurvbenchError, UnknownName

ALIASES = {"coadread": "crad"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return layouts.survpath(tmp_path / "source")


def imported(source: Path, out: Path, **options: object) -> tuple[ImportReport, DataRoot]:
    report = import_data(source, out, aliases=ALIASES, **options)  # type: ignore[arg-type]
    return report, DataRoot.open(out)


@pytest.mark.shared
def test_the_real_files_of_survpath(shared: Path, tmp_path: Path) -> None:
    report, root = imported(shared / "tcga" / "survpath", tmp_path / "DATA")
    found = {c.name: c for c in report.cohorts}
    assert {n: c.patients for n, c in found.items()} == {"brca": 871, "stad": 319, "hnsc": 394, "crad": 298}
    assert {n: c.pathways for n, c in found.items()} == {"brca": 0, "stad": 331, "hnsc": 0, "crad": 331}
    assert all(c.folds == {"official": 5} for c in found.values())
    assert found["stad"].without_expression == ("TCGA-CD-A487",)
    assert found["crad"].without_expression == ("TCGA-EI-6883", "TCGA-G4-6323")
    assert found["crad"].duplicated_expression == ("TCGA-G4-6317", "TCGA-G5-6572", "TCGA-NH-A8F7")
    assert found["stad"].events == {"os": 120, "dss": 84, "pfi": 114}
    assert set(found["crad"].invalid["pfi"]) == {"TCGA-AG-4021", "TCGA-CM-6678"}
    cohort = load_cohort(root, "stad", "dss")
    assert len(cohort.patients) == 318
    assert len(cohort.inputs.pathways) == 331
    assert cohort.simulated == ""
    assert sum(len(f.test) for f in cohort.folds("official")) == 318
    with pytest.raises(BadLabels, match="TCGA-AG-4021"):
        load_cohort(root, "crad", "pfi")
    imported(shared / "tcga" / "survpath", tmp_path / "DATA", overwrite=True, drop_invalid=True)
    assert "no pfi label" in load_cohort(root, "crad", "pfi").excluded


@pytest.mark.shared
def test_real_expression_is_joined_by_identifier(shared: Path, tmp_path: Path) -> None:
    _, root = imported(shared / "tcga" / "survpath", tmp_path / "DATA", cohorts=["stad"])
    table = root.cohort("stad").expression()
    assert table is not None
    file = shared / "tcga/survpath/datasets_csv/raw_rna_data/xena/stad/rna_clean.csv"
    raw = pd.read_csv(file, index_col=0)
    for patient, gene in (("TCGA-IN-7808", "FMO2"), ("TCGA-BR-A4QL", "APIP")):
        assert table.loc[patient, gene] == pytest.approx(raw.loc[patient, gene], rel=1e-6)


def test_another_cohort_in_the_same_layout(source: Path, tmp_path: Path) -> None:
    report, root = imported(source, tmp_path / "DATA")
    (found,) = report.cohorts
    assert (found.name, found.patients, found.slides, found.pathways) == ("luad", 30, 40, 2)
    assert found.without_expression == ("TCGA-B0-0029",)
    assert found.unlabeled_in_folds == ("TCGA-ZZ-9999",)
    cohort = load_cohort(root, "luad", "os")
    assert cohort.excluded == {"no expression": ("TCGA-B0-0029",)}
    raw = pd.read_csv(source / "datasets_csv/metadata/tcga_luad.csv").drop_duplicates("case_id").set_index("case_id")
    kept = raw.loc[cohort.patients.index]
    assert (cohort.patients["event"] == (kept["censorship"] == 0)).all()  # a censorship of 1 is no event
    np.testing.assert_allclose(cohort.patients["time"], kept["survival_months"])
    assert cohort.patients["stage"].eq("II").all()
    assert cohort.patients["grade"].eq("").all()
    assert set(cohort.inputs.genes) == {"TP53", "EGFR", "NA", "MYC", "KRAS"}
    folds = cohort.folds("official")
    assert sorted(p for f in folds for p in f.test) == list(cohort.patients.index)
    assert all(f.val for f in folds)


def test_the_order_of_rows_and_columns_changes_nothing(tmp_path: Path) -> None:
    loaded = []
    for shuffle in (False, True):
        where = tmp_path / str(shuffle)
        _, root = imported(layouts.survpath(where / "source", shuffle=shuffle), where / "DATA")
        loaded.append(load_cohort(root, "luad", "os"))
    assert loaded[0].content_hash == loaded[1].content_hash
    pd.testing.assert_frame_equal(loaded[0].expression, loaded[1].expression)


@pytest.mark.parametrize("layout", layouts.WRITERS)
def test_slides_are_matched_by_name(source: Path, tmp_path: Path, layout: str) -> None:
    labels = pd.read_csv(source / "datasets_csv/metadata/tcga_luad.csv")
    for i, slide in enumerate(labels["slide_id"][:-1]):  # the last one has no features
        layouts.WRITERS[layout](tmp_path / "features", slide.removesuffix(".svs"), *layouts.features(seed=i))
    report, root = imported(source, tmp_path / "DATA", slides=tmp_path / "features")
    assert report.cohorts[0].slides_with_features == len(labels) - 1
    cohort = load_cohort(root, "luad", "os")
    assert cohort.bags is not None
    assert cohort.bags.patches == 7 * (len(labels) - 1)
    first = labels["case_id"].iloc[0]
    start, _ = cohort.bags.span(first)
    np.testing.assert_allclose(cohort.bags.features[start], layouts.features(seed=0)[0][0], atol=4e-3)
    checked = check(root)
    assert checked.problems == ()
    assert checked.cohorts["luad"].patches == 7 * (len(labels) - 1)
    assert checked.cohorts["luad"].missing["slides"] == [labels["case_id"].iloc[-1]]


def label_file(source: Path) -> Path:
    return source / "datasets_csv/metadata/tcga_luad.csv"


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("survival_months", "-3", "time -3"),
        ("survival_months", "soon", "time soon"),
        ("survival_months", "inf", "time inf"),
        ("censorship", "2", "event 2"),
        ("censorship_dss", "yes", "event yes"),
    ],
)
def test_a_label_that_cannot_be_right_is_refused(
    source: Path, tmp_path: Path, column: str, value: str, message: str
) -> None:
    layouts.edit(label_file(source), **{column: {2: value}})
    with pytest.raises(BadLabels, match=message) as caught:
        imported(source, tmp_path / "DATA")
    assert "TCGA-B0-0001" in str(caught.value) or "TCGA-C0-0002" in str(caught.value)
    assert not (tmp_path / "DATA").exists()
    report, root = imported(source, tmp_path / "DATA", drop_invalid=True)
    assert report.cohorts[0].invalid
    assert load_cohort(root, "luad", "dss" if "dss" in column else "os").excluded


def test_rows_of_a_patient_that_disagree_are_refused(source: Path, tmp_path: Path) -> None:
    layouts.edit(label_file(source), survival_months={0: 3.5})
    with pytest.raises(BadLabels, match=r"TCGA-A0-0000 disagree on os_months"):
        imported(source, tmp_path / "DATA")


def test_a_slide_of_two_patients_is_refused(source: Path, tmp_path: Path) -> None:
    """Rule 4, planted: such a slide could be on both sides of a fold."""
    other = pd.read_csv(label_file(source))["slide_id"].iloc[0]
    layouts.edit(label_file(source), slide_id={2: other.removesuffix(".svs")})
    with pytest.raises(BadLabels, match="twice"):
        imported(source, tmp_path / "DATA")


def test_a_duplicated_row_is_refused(source: Path, tmp_path: Path) -> None:
    table = pd.read_csv(label_file(source), dtype=str)
    pd.concat([table, table.iloc[[3]]]).to_csv(label_file(source), index=False)
    with pytest.raises(BadLabels, match="duplicate row of patient"):
        imported(source, tmp_path / "DATA")


def test_expression_that_cannot_be_right_is_refused(source: Path, tmp_path: Path) -> None:
    file = source / "datasets_csv/raw_rna_data/xena/luad/rna_clean.csv"
    good = file.read_text()
    for text, error, message in (
        (good.replace("MYC", "1-Mar"), BadExpression, "1-Mar"),
        (good.replace("MYC", "EGFR"), BadExpression, "gene EGFR is there twice"),
        (good.replace(good.splitlines()[2].split(",")[2], "", 1), BadExpression, "nan"),
        (good.replace(good.splitlines()[2].split(",")[2], "high", 1), BadExpression, "'high'"),
        ("", BadFile, "is empty"),
        (re.sub("NA|MYC|KRAS|TP53|EGFR", lambda gene: f"X{gene[0]}", good), BadExpression, "pathway 'One"),
    ):
        file.write_text(text)
        with pytest.raises(error, match=message):
            imported(source, tmp_path / "DATA")


def test_folds_that_overlap_are_refused(source: Path, tmp_path: Path) -> None:
    layouts.edit(source / "splits/5foldcv/tcga_luad/splits_1.csv", val={0: "TCGA-A0-0000"})
    with pytest.raises(BadFolds, match="twice in fold 1"):
        imported(source, tmp_path / "DATA")


def test_a_cards_expected_counts_are_held(source: Path, tmp_path: Path) -> None:
    """Rule 5, planted: a flag read the wrong way round shows in the number of events."""
    events = int((pd.read_csv(label_file(source)).drop_duplicates("case_id")["censorship"] == 0).sum())
    imported(source, tmp_path / "A", expected={"luad": {"patients": 30, "events": {"os": events}}})
    for wrong in ({"patients": 31}, {"events": {"os": events - 1}}):
        with pytest.raises(BadLabels, match="card expects"):
            imported(source, tmp_path / "B", expected={"luad": wrong})


def test_importing_twice_needs_to_be_meant(source: Path, tmp_path: Path) -> None:
    imported(source, tmp_path / "DATA")
    with pytest.raises(BadFile, match="--overwrite"):
        imported(source, tmp_path / "DATA")
    imported(source, tmp_path / "DATA", overwrite=True)


def test_what_is_not_there_is_named(source: Path, tmp_path: Path) -> None:
    for options, error, message in (
        ({"cohorts": ["paad"]}, UnknownName, "paad"),
        ({"slides": tmp_path / "none"}, MissingFile, "none"),
        ({"pathways": tmp_path / "x.gmt"}, MissingFile, r"x\.gmt"),
    ):
        with pytest.raises(error, match=message):
            imported(source, tmp_path / "DATA", **options)
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "nowhere"):
        with pytest.raises(MissingFile, match=folder):
            imported(tmp_path / folder, tmp_path / "DATA")


def tables(folder: Path, labels: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "labels.csv").write_text(labels)
    (folder / "expression.csv").write_text("id,G1,G2\nP2,1,2\nP1,3,4\n")
    (folder / "pathways.gmt").write_text("A\tnone\tG1\tG9\nB\t\tG2\tG1\n")
    return folder


@pytest.mark.parametrize(
    ("labels", "months", "event"),
    [
        ("patient,os_months,os_event\nP1,10,1\nP2,20,0\n", 10, True),
        ("case_id,survival_months,censorship\nP1,10,1\nP2,20,0\n", 10, False),
        ("PATIENT_ID,OS_MONTHS,OS_STATUS\nP1,10,1:DECEASED\nP2,20,0:LIVING\n", 10, True),
        ("bcr_patient_barcode,OS,OS.time\nP1,1,304.375\nP2,0,1\n", 10, True),
        ("case_id,slide_id,OS_event,OS_days,OS\nP1,s1,1,304.375,1\nP1,s2,1,304.375,1\nP2,s3,0,5,2\n", 10, True),
        ("pathology_id,patient_id,e,t\ns1,P1,1,10\ns2,P2,0,3\n", 10, True),
        ("case_id,os_survival_days,os_censorship\nP1,304.375,0.0\nP2,9,1.0\n", 10, True),
    ],
)
def test_label_tables_of_other_tools(tmp_path: Path, labels: str, months: float, event: bool) -> None:
    _, root = imported(tables(tmp_path / "Mine", labels), tmp_path / "DATA")
    got = root.cohort("mine").labels("os")
    assert got.loc["P1", "time"] == pytest.approx(months)
    assert bool(got.loc["P1", "event"]) is event
    assert bool(got.loc["P2", "event"]) is not event
    assert root.cohort("mine").pathways() == {"A": ["G1"], "B": ["G1", "G2"]}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("patient,os_months,os_event\nP1,10,1\nP1,10,1\n", "duplicate patient P1"),
        ("patient,months,dead\nP1,10,1\n", "no known pair"),
        ("name,os_months,os_event\nP1,10,1\n", "no patient column"),
        ("patient,case_id,os_months,os_event\nP1,Q1,10,1\n", "patient columns patient, case_id"),
        ("patient,os_months,os_event,survival_months,censorship\nP1,10,1,10,1\n", "disagree"),
        ("patient,os_months,os_event\nP1,-1,1\n", "time -1"),
        ("patient,os_months,os_event\nP1,1,3\n", "event 3"),
    ],
)
def test_label_tables_that_cannot_be_right(tmp_path: Path, labels: str, message: str) -> None:
    with pytest.raises(BadLabels, match=message):
        imported(tables(tmp_path / "mine", labels), tmp_path / "DATA")


def test_check_collects_every_problem(source: Path, tmp_path: Path) -> None:
    _, root = imported(source, tmp_path / "DATA")
    folder = root.cohort("luad")
    layouts.edit(folder.path / "patients.csv", os_event={0: "7"})
    slides = folder.slides().assign(file="nowhere.h5")
    folder.write_slides(slides)
    report = check(root)
    assert len(report.problems) == 1 + len(slides)
    assert {p.cohort for p in report.problems} == {"luad"}
    assert any("event 7" in p.problem for p in report.problems)
    assert report.to_json()["cohorts"]["luad"]["patients"] == 30


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("cohort.json", "{", "cannot be read"),
        ("cohort.json", '{"format": 9}', "format"),
        ("patients.csv", "", "empty"),
        ("patients.csv", "patient,os_months,os_event\n", "no patients"),
        ("pathways.gmt", "A\tx\tG\nA\tx\tG\n", "twice"),
        ("pathways.gmt", "A\tx\n", "no genes"),
        ("expression.parquet", "no parquet", "cannot be read"),
    ],
)
def test_a_damaged_root_is_refused_in_one_line(
    source: Path, tmp_path: Path, file: str, text: str, message: str
) -> None:
    _, root = imported(source, tmp_path / "DATA")
    (root.path / "luad" / file).write_text(text)
    with pytest.raises(SurvbenchError, match=message) as caught:
        load_cohort(root, "luad", "os")
    assert "\n" not in str(caught.value)
    assert len(check(root).problems) >= 1
