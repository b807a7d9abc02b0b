"""The table of a data check: counts beside published ones, who lacks what, and every problem."""

from __future__ import annotations

from survbench.data.check import CheckReport, CohortCounts, Problem
from survbench.report.data_check import check_sheet


def test_counts_stand_beside_published_ones_and_everything_missing_is_a_note() -> None:
    lacking = [f"P{i}" for i in range(7)]
    counts = CohortCounts(
        patients=1319, events={"os": 46, "pfi": 50}, slides=7, pathways=3, missing={"slides": lacking}
    )
    problem = Problem(cohort="stad", file="stad/patients.csv", problem="patient P1 has event 7", fix="correct it")
    sheet = check_sheet(CheckReport({"stad": counts}, (problem,), {"stad": {"patients": 319, "slides": 343}}))
    assert sheet.rows == [("stad", "1,319 [319]", "os 46, pfi 50", "7 [343]", "0", "0", 3, "real")]
    assert len(sheet.headers) == len(sheet.rows[0]) == len(sheet.align)
    assert list(sheet.notes) == [
        "stad: 7 without slides: P0, P1, P2, P3, P4 and 2 more",
        "problem: patient P1 has event 7. correct it",
        "1 problem (tables)",
    ]


def test_a_clean_root_says_so_and_simulated_cohorts_are_marked() -> None:
    cohorts = {"a": CohortCounts(simulated=True), "b": CohortCounts(simulated_slides=True)}
    sheet = check_sheet(CheckReport(cohorts, ()))
    assert [row[-1] for row in sheet.rows] == ["simulated", "simulated slides"]
    assert list(sheet.notes) == ["no problems found (tables)"]
