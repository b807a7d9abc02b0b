# ruff: noqa: E501  (lines are compared as they are printed)
"""Outcomes as people write them down: read as they are meant, or refused in a line that says what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support.door import typed
from survbench.data.importers import ImportReport, import_data
from survbench.data.root import CohortFolder, DataRoot
from survbench.errors import SurvbenchError

TIMES = [round(6 + 1.37 * i, 2) for i in range(40)]
EVENTS = [int(i % 5 < 3) for i in range(40)]


def table(folder: Path, header: str, row: Callable[[int], str], rows: int = 40, name: str = "labels.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join([header, *(row(i) for i in range(rows))]) + "\n", encoding="utf-8")
    return folder


def imported(source: Path, **options: object) -> tuple[ImportReport, CohortFolder]:
    out = source.parent / "DATA"
    report = import_data(source, out, **options)  # type: ignore[arg-type]
    return report, DataRoot.open(out).cohort(report.cohorts[0].name)


@pytest.mark.parametrize(
    ("flag", "write"),
    [
        ("os_event", lambda died: str(died)),
        ("os_event", lambda died: f"{died}.0"),
        ("os_event", lambda died: str(bool(died))),
        ("os_event", lambda died: str(bool(died)).upper()),
        ("os_event", lambda died: ("Alive", "Dead")[died]),
        ("os_event", lambda died: ("living", "DECEASED")[died]),
        ("os_event", lambda died: ("no", "Yes")[died]),
        ("os_event", lambda died: (" 0", "1 ")[died]),
        ("os_event", lambda died: ("0:LIVING", "1:DECEASED")[died]),
        ("os_event", lambda died: ("0:ALIVE OR DEAD TUMOR FREE", "1:DEAD WITH TUMOR")[died]),
        ("os_event", lambda died: ("0:DiseaseFree", "1:Recurred/Progressed")[died]),
        ("censorship", lambda died: str(1 - died)),
        ("censorship", lambda died: f"{1 - died}.0"),
        ("censorship", lambda died: str(not died)),
        ("censorship", lambda died: ("Alive", "Dead")[died]),
        ("OS_STATUS", lambda died: ("LIVING", "DECEASED")[died]),
    ],
)
def test_events_are_read_as_they_are_meant(tmp_path: Path, flag: str, write: Callable[[int], str]) -> None:
    time = {"os_event": "os_months", "censorship": "survival_months", "OS_STATUS": "OS_MONTHS"}[flag]
    source = table(tmp_path / "mine", f"patient,{time},{flag}", lambda i: f"P{i:02d},{TIMES[i]},{write(EVENTS[i])}")
    labels = imported(source)[1].labels("os")
    assert labels["event"].astype(int).tolist() == EVENTS
    np.testing.assert_array_equal(labels["time"], TIMES)


@pytest.mark.parametrize(
    "nothing", ["", "NA", "#N/A", "[Not Available]", "nan", "-", ".", "N/A", "None", "not reported", "NULL"]
)
def test_what_says_that_nothing_is_known_is_no_label(tmp_path: Path, nothing: str) -> None:
    source = table(
        tmp_path / "mine",
        "patient,os_months,os_event",
        lambda i: f"P{i:02d},{nothing},{nothing}" if i < 3 else f"P{i:02d},{TIMES[i]},{EVENTS[i]}",
    )
    report, folder = imported(source)
    assert len(folder.labels("os")) == 37
    assert "without an os label: 3 of 40 patients" in report.cohorts[0].remarks


@pytest.mark.parametrize(
    ("header", "unit", "factor"),
    [
        ("os_months", "days", 1 / 30.4375),
        ("os_months", "years", 12.0),
        ("OS.time", "months", 1.0),
        ("OS.time", None, 1 / 30.4375),
        ("os_survival_days", None, 1 / 30.4375),
    ],
)
def test_a_unit_that_is_said_counts(tmp_path: Path, header: str, unit: str | None, factor: float) -> None:
    flag = {"os_months": "os_event", "OS.time": "OS", "os_survival_days": "os_censorship"}[header]
    scale = 0.05 if unit == "years" else 1 if unit == "months" else 30
    times = [round(scale * time, 3) for time in TIMES]
    source = table(tmp_path / "mine", f"patient,{header},{flag}", lambda i: f"P{i:02d},{times[i]},{EVENTS[i]}")
    folder = imported(source, time_unit=unit)[1]
    np.testing.assert_allclose(folder.labels("os")["time"], np.multiply(times, factor), rtol=1e-12)
    assert any(unit in note for note in folder.info.notes) if unit else not folder.info.notes


BAD: dict[str, tuple[str, Callable[[int], str], str]] = {
    "R's coding": (
        "patient,os_months,os_event",
        lambda i: f"P{i:02d},{TIMES[i]},{EVENTS[i] + 1}",
        "cohort mine, endpoint os: events are 1, 2 (patient P00 has event 2), expected 0 (censored) or 1 (died); R's "
        "survival package writes 1 for censored and 2 for died. write 0 and 1",
    ),
    "all dead in R's coding": (
        "patient,os_months,os_event",
        lambda i: f"P{i:02d},{TIMES[i]},2",
        "cohort mine, endpoint os: events are 2 (patient P00 has event 2), expected 0 (censored) or 1 (died); R's "
        "survival package writes 1 for censored and 2 for died. write 0 and 1",
    ),
    "a word nobody knows": (
        "patient,os_months,os_event",
        lambda i: f"P{i:02d},{TIMES[i]},{'lost' if i == 7 else EVENTS[i]}",
        "cohort mine, endpoint os: patient P07 has event lost, expected 0 (censored) or 1 (died). correct the table, or "
        "add --drop-invalid to leave such labels out",
    ),
    "yes, of a censorship": (
        "patient,survival_months,censorship",
        lambda i: f"P{i:02d},{TIMES[i]},{'yes' if i == 7 else EVENTS[i]}",
        "cohort mine, endpoint os: patient P07 has event yes, expected 0 (censored) or 1 (died). correct the table, or "
        "add --drop-invalid to leave such labels out",
    ),
    "days as months": (
        "patient,os_months,os_event",
        lambda i: f"P{i:02d},{30 * TIMES[i]:.0f},{EVENTS[i]}",
        "cohort mine, endpoint os: times up to 1783 months (149 years) look like days. say what the column holds with "
        "--time-unit days, months or years",
    ),
    "some long whole numbers": (
        "patient,os_months,os_event",
        lambda i: f"P{i:02d},{1200 if i == 3 else round(TIMES[i])},{EVENTS[i]}",
        "cohort mine, endpoint os: times up to 1200 months (100 years) look like days. say what the column holds with "
        "--time-unit days, months or years",
    ),
    "months as days": (
        "patient,OS.time,OS",
        lambda i: f"P{i:02d},{TIMES[i]},{EVENTS[i]}",
        "cohort mine, endpoint os: median follow-up of 1.1 months: the times may be in another unit. say what the column "
        "holds with --time-unit days, months or years",
    ),
    "years as months": (
        "patient,os_months,os_event",
        lambda i: f"P{i:02d},{TIMES[i] / 30:.2f},{EVENTS[i]}",
        "cohort mine, endpoint os: median follow-up of 1.1 months: the times may be in another unit. say what the column "
        "holds with --time-unit days, months or years",
    ),
    "two times that disagree": (
        "patient,os_months,os_event,OS.time,OS",
        lambda i: f"P{i:02d},{TIMES[i]},{EVENTS[i]},{30 * TIMES[i] * (1.5 if i == 4 else 1)},{EVENTS[i]}",
        "labels.csv, row 6: os_months and OS.time disagree on os ('11.48' and '516.6'). remove the pair of columns that "
        "is wrong",
    ),
    "two flags that disagree": (
        "patient,os_months,os_event,OS.time,OS",
        lambda i: f"P{i:02d},{TIMES[i]},{EVENTS[i]},{30 * TIMES[i]},{1 - EVENTS[i] if i == 4 else EVENTS[i]}",
        "labels.csv, row 6: os_event and OS disagree on os ('0' and '1'). remove the pair of columns that is wrong",
    ),
    "a negative time": (
        "patient,os_months,os_event",
        lambda i: f"P{i:02d},{-3 if i == 5 else TIMES[i]},{EVENTS[i]}",
        "cohort mine, endpoint os: patient P05 has time -3, expected a positive number of months. correct the table, or "
        "add --drop-invalid to leave such labels out",
    ),
    "an infinite time": (
        "patient,os_months,os_event",
        lambda i: f"P{i:02d},{'inf' if i == 5 else TIMES[i]},{EVENTS[i]}",
        "cohort mine, endpoint os: patient P05 has time inf, expected a positive number of months. correct the table, or "
        "add --drop-invalid to leave such labels out",
    ),
    "a date in place of a time": (
        "patient,os_months,os_event",
        lambda i: f"P{i:02d},{'2024-09-02' if i == 5 else TIMES[i]},{EVENTS[i]}",
        "cohort mine, endpoint os: patient P05 has time 2024-09-02, expected a positive number of months. correct the "
        "table, or add --drop-invalid to leave such labels out",
    ),
    "rows of a patient that disagree": (
        "patient,slide_id,os_months,os_event",
        lambda i: f"P{i // 2:02d},S{i},{TIMES[i if i == 6 else i // 2]},{EVENTS[i // 2]}",
        "labels.csv: the rows of patient P03 disagree on os_months: 10.11, 14.22. a patient has one outcome",
    ),
    "a patient twice": (
        "patient,os_months,os_event",
        lambda i: f"P{i % 39:02d},{TIMES[i]},{EVENTS[i]}",
        "labels.csv: duplicate patient P00. keep one row per patient, or add a column slide_id",
    ),
    "two columns of patients": (
        "patient,case_id,os_months,os_event",
        lambda i: f"P{i:02d},Q{i:02d},{TIMES[i]},{EVENTS[i]}",
        "labels.csv has the patient columns patient, case_id; its columns are patient, case_id, os_months, os_event. "
        "keep one of patient, patient_id, case_id, PATIENT, PATIENT_ID, bcr_patient_barcode, _PATIENT",
    ),
    "no column of patients": (
        "name,os_months,os_event",
        lambda i: f"P{i:02d},{TIMES[i]},{EVENTS[i]}",
        "labels.csv has no patient column; its columns are name, os_months, os_event. keep one of patient, patient_id, "
        "case_id, PATIENT, PATIENT_ID, bcr_patient_barcode, _PATIENT",
    ),
    "samples of one person that disagree": (
        "patient,os_months,os_event",
        lambda i: f"TCGA-AA-{i // 2:04d}-{'01' if i % 2 else '11'},{TIMES[i]},{EVENTS[i]}",
        "labels.csv: the rows of patient TCGA-AA-0000 disagree on os_months: 6.0, 7.37. a patient has one outcome",
    ),
    "an outcome that nobody knows": (
        "patient,months,dead",
        lambda i: f"P{i:02d},{TIMES[i]},{EVENTS[i]}",
        "labels.csv has no known pair of time and event among its columns patient, months, dead. rename them, for example "
        "to os_months and os_event; known pairs: survival_months + censorship; t + e; os_months + os_event; "
        "survival_months_os + censorship_os; ...",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_right_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    header, row, line = BAD[kind]
    source = table(tmp_path / "mine", header, row)
    assert typed("data", "import", source, "--out", tmp_path / "DATA") == 2
    printed = capsys.readouterr().err.strip()
    assert printed.count("\n") == 0
    assert printed.endswith(line)
    assert not (tmp_path / "DATA").exists()


def _some_wrong(many: int, event: int) -> Callable[[int], str]:
    """`many` patients with this event have a negative time."""
    wrong = [i for i, died in enumerate(EVENTS) if died == event][:many]
    return lambda i: f"P{i:02d},{-1 if i in wrong else TIMES[i]},{EVENTS[i]}"


def test_labels_are_left_out_up_to_a_limit(tmp_path: Path) -> None:
    source = table(tmp_path / "mine", "patient,os_months,os_event", _some_wrong(4, 1))
    with pytest.raises(SurvbenchError) as caught:
        imported(source, drop_invalid=True)
    assert str(caught.value).endswith(
        "endpoint os: 4 of 40 labels cannot be right (10%), --drop-invalid leaves out at most 5%; the first: patient P00 "
        "has time -1, expected a positive number of months. correct the table, or name a limit, such as --drop-invalid 12%"
    )
    report, folder = imported(source, drop_invalid="12%")
    assert len(folder.labels("os")) == 36
    assert report.cohorts[0].dropped
    assert len(report.cohorts[0].invalid["os"]) == 4
    assert typed("data", "import", source, "--out", tmp_path / "B", "--drop-invalid", "0.1") == 0


def test_most_of_one_kind_of_patient_is_never_left_out(tmp_path: Path) -> None:
    source = table(tmp_path / "mine", "patient,os_months,os_event", _some_wrong(9, 0))
    with pytest.raises(SurvbenchError) as caught:
        imported(source, drop_invalid=0.9)
    assert str(caught.value).endswith(
        "endpoint os: --drop-invalid would leave out 9 of the 16 patients whose event is '0'; the first: patient P03 has "
        "time -1, expected a positive number of months. correct the table: most of one kind of patient is never left out"
    )


@pytest.mark.parametrize("limit", ["a lot", "-1%", "101%", "nan"])
def test_a_limit_that_is_none_is_refused(tmp_path: Path, limit: str) -> None:
    source = table(tmp_path / "mine", "patient,os_months,os_event", lambda i: f"P{i:02d},{TIMES[i]},{EVENTS[i]}")
    with pytest.raises(SurvbenchError, match=f"the limit of --drop-invalid is '{limit}'. expected a share such as 5%"):
        imported(source, drop_invalid=limit)


def test_equal_numbers_agree_and_a_value_beside_a_blank_counts(tmp_path: Path) -> None:
    ages = ["55", "55.0", "", "61"]
    source = table(
        tmp_path / "mine",
        "patient,slide_id,age,os_months,os_event",
        lambda i: f"P{i // 2:02d},S{i},{ages[i % 4]},{TIMES[i // 2]}{'0' if i % 2 else ''},{EVENTS[i // 2]}",
    )
    patients = imported(source)[1].patients()
    assert patients["age"].tolist() == ["55", "61"] * 10
    assert patients["os_months"].tolist() == [str(time) for time in TIMES[:20]]


def test_samples_of_one_person_are_one_patient(tmp_path: Path) -> None:
    source = table(
        tmp_path / "mine",
        "PATIENT_ID,os_months,os_event",
        lambda i: f"TCGA-A{i % 4}-{i:04d}-01A,{TIMES[i]},{EVENTS[i]}",
    )
    report, folder = imported(source)
    assert list(folder.patients().index)[:2] == ["TCGA-A0-0000", "TCGA-A0-0004"]
    assert set(folder.patients()["site"]) == {"A0", "A1", "A2", "A3"}
    said = "labels.csv: samples are patients by their first 12 characters: TCGA-A0-0000-01A is TCGA-A0-0000"
    assert said in report.cohorts[0].remarks
    assert "site: taken from the TCGA barcodes" in report.cohorts[0].remarks


@pytest.mark.shared
@pytest.mark.parametrize(
    ("case", "events"),
    [
        ("26-event-words/in", {"os": 38, "dss": 38, "dfs": 38}),
        ("26-event-words/raw", {"os": 38, "dss": 38, "dfs": 38}),
        ("26-event-words/old", {"os": 38}),
        ("26-event-words/cdr", {"os": 38, "dss": 37}),
        ("26-event-words/bool", {"os": 38}),
        ("13-blank-and-cut-rows/blank_labels", {"os": 31}),
    ],
)
def test_cases_that_are_read(shared: Path, tmp_path: Path, case: str, events: dict[str, int]) -> None:
    report = import_data(shared / "cases" / case, tmp_path / "DATA")
    assert (report.cohorts[0].patients, dict(report.cohorts[0].events)) == (60, events)


@pytest.mark.shared
@pytest.mark.parametrize("drop", [False, True, "100%"])
def test_the_case_of_r_is_never_dropped(shared: Path, tmp_path: Path, drop: bool | str) -> None:
    with pytest.raises(SurvbenchError, match=r"R's survival package writes 1 for censored and 2 for died"):
        import_data(shared / "cases/02-event-coded-1-2-drop-invalid/in", tmp_path / "DATA", drop_invalid=drop)


@pytest.mark.shared
def test_the_cases_of_units(shared: Path, tmp_path: Path) -> None:
    case = shared / "cases/03-days-in-months"
    with pytest.raises(SurvbenchError, match=r"times up to 3358 months \(280 years\) look like days"):
        import_data(case / "in", tmp_path / "DATA")
    with pytest.raises(SurvbenchError, match=r"median follow-up of 0\.\d months: the times may be in another unit"):
        import_data(case / "cdr_in_months", tmp_path / "DATA")
    import_data(case / "in", tmp_path / "DATA", time_unit="days")
    assert DataRoot.open(tmp_path / "DATA").cohort("in").labels("os")["time"].max() == pytest.approx(3358 / 30.4375)
