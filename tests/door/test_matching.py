"""Slides and their feature files find each other whatever a tool made of the names; what is left over is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from survbench.data.importers import ImportReport, import_data
from survbench.data.root import DataRoot
from survbench.errors import SurvbenchError

PATIENTS = [f"P{i:03d}" for i in range(1, 9)]


def cohort(folder: Path, slides: list[tuple[str, str]], files: list[str], name: str = "mine") -> tuple[Path, Path]:
    """A source whose tables list these (patient, slide), and a folder with these feature files."""
    source, features = folder / name, folder / "features"
    source.mkdir(parents=True)
    rows = [f"{patient},{10 + i},{i % 2}" for i, patient in enumerate(PATIENTS)]
    (source / "labels.csv").write_text("\n".join(["patient,os_months,os_event", *rows]))
    if slides:
        (source / "slides.csv").write_text("\n".join(["patient,slide", *(",".join(row) for row in slides)]))
    for i, file in enumerate(files):
        (features / file).parent.mkdir(parents=True, exist_ok=True)
        np.save(features / file, np.full((2, 4), i, np.float32))
    return source, features


def imported(folder: Path, slides: list[tuple[str, str]], files: list[str]) -> tuple[ImportReport, dict[str, str]]:
    source, features = cohort(folder, slides, files)
    report = import_data(source, folder / "DATA", slides=features)
    table = DataRoot.open(folder / "DATA").cohort("mine").slides()
    return report, {
        row.slide: str(row.file.relative_to(features)) for row in table.itertuples() if row.file is not None
    }


UUID = "0A1B2C3D-0000-1111-2222-333344445555"
WAYS = {
    "as they are": ("{p}-DX1.svs", "{p}-DX1.npy", None),
    "with a suffix of the slide in the file's name": ("{p}-DX1.svs", "{p}-DX1.svs.npy", "without folders and suffixes"),
    "a scanner nobody listed": ("{p}.scn", "{p}.npy", "without folders and suffixes"),
    "an OME file": ("{p}.ome.tif", "{p}.npy", "without folders and suffixes"),
    "a whole path": ("/mnt/slides/{p}.svs", "{p}.npy", "without folders and suffixes"),
    "a path of Windows": ("D:\\slides\\{p}.svs", "{p}.npy", "without folders and suffixes"),
    "STAMP's file name": ("siteA/{p}.h5", "siteA/{p}.npy", "without folders and suffixes"),
    "another case": ("{p}-dx1.SVS", "{p}-DX1.npy", "without regard to upper and lower case"),
    "no UUID in the file": (f"{{p}}-DX1.{UUID}.svs", "{p}-DX1.npy", "by what comes before the first dot"),
    "no UUID in the table": ("{p}-DX1", f"{{p}}-DX1.{UUID}.npy", "by what comes before the first dot"),
    "the patient's name": ("{p}-DX1.svs", "{p}.npy", "by the patient's name"),
}


@pytest.mark.parametrize("way", WAYS)
def test_names_are_matched_aloud(tmp_path: Path, way: str) -> None:
    slide, file, said = WAYS[way]
    slides = [(patient, slide.format(p=patient)) for patient in PATIENTS]
    report, found = imported(tmp_path, slides, [file.format(p=patient) for patient in PATIENTS])
    assert found == {slide.format(p=patient): file.format(p=patient) for patient in PATIENTS}
    lines = [line for line in report.cohorts[0].remarks if line.startswith("slides and feature files matched")]
    first = f"{slide.format(p='P001')} is {Path(file.format(p='P001')).name}"
    assert lines == ([] if said is None else [f"slides and feature files matched {said} (8): {first}"])


def test_what_has_no_counterpart_is_said_both_ways(tmp_path: Path) -> None:
    slides = [(patient, f"{patient}-DX{k}") for patient in PATIENTS for k in (1, 2)]
    report, found = imported(tmp_path, slides, [*(f"{patient}-DX1.npy" for patient in PATIENTS), "Q1-DX1.npy"])
    assert len(found) == 8
    remarks = report.cohorts[0].remarks
    lacking = "P001-DX2, P002-DX2, P003-DX2, P004-DX2, P005-DX2 and 3 more"
    assert f"slides without a feature file (8 of 16): {lacking}" in remarks
    assert "feature files of no slide, not used (1): Q1-DX1.npy" in remarks


def test_what_two_slides_could_be_is_neither(tmp_path: Path) -> None:
    slides = [
        ("P001", "P001-DX1.A1"),
        ("P001", "P001-DX1.B2"),
        *((patient, f"{patient}-DX1") for patient in PATIENTS[1:]),
    ]
    files = ["P001-DX1.npy", *(f"{patient}-DX1.npy" for patient in PATIENTS[1:])]
    report, found = imported(tmp_path, slides, files)
    assert not any(slide.startswith("P001") for slide in found)
    assert "slides without a feature file (2 of 9): P001-DX1.A1, P001-DX1.B2" in report.cohorts[0].remarks
    assert "feature files of no slide, not used (1): P001-DX1.npy" in report.cohorts[0].remarks


def test_two_blocks_of_a_patient_are_not_one(tmp_path: Path) -> None:
    slides = [(patient, f"{patient}.B1") for patient in PATIENTS]
    files = [*(f"{patient}.B1.npy" for patient in PATIENTS[1:]), "P001.B2.npy"]
    _, found = imported(tmp_path, slides, files)
    assert "P001.B1" not in found


def test_files_give_the_slides_where_no_table_does(tmp_path: Path) -> None:
    files = [f"{patient}{end}.npy" for patient in PATIENTS for end in ("-A", "_B", "")]
    report, found = imported(tmp_path, [], [*files, "P0011.npy"])
    assert len(found) == 24
    assert report.cohorts[0].slides == 24
    said = "no table lists slides; files that begin with a patient's name are slides (24): P001-A is P001's"
    assert said in report.cohorts[0].remarks
    assert "feature files of no slide, not used (1): P0011.npy" in report.cohorts[0].remarks


@pytest.mark.parametrize("listed", [True, False])
def test_features_that_are_nobodys_are_refused(tmp_path: Path, listed: bool) -> None:
    slides = [(patient, f"{patient}-DX1") for patient in PATIENTS] if listed else []
    source, features = cohort(tmp_path, slides, [f"Q{i}.npy" for i in range(5)])
    with pytest.raises(SurvbenchError) as caught:
        import_data(source, tmp_path / "DATA", slides=features)
    names = "P001-DX1, P002-DX1, P003-DX1 and 5 more" if listed else "none"
    assert str(caught.value) == (
        f"{source}: no slide has a feature file; listed are {names}; found Q0.npy, Q1.npy, Q2.npy and 2 more. write "
        "slides.csv with the columns patient and slide, where slide is the file's name"
    )
    assert not (tmp_path / "DATA").exists()


def test_marked_features_make_the_cohort_simulated_again(tmp_path: Path) -> None:
    from survbench.data.formats import write_features

    slides = [(patient, f"{patient}-DX1") for patient in PATIENTS]
    source, features = cohort(tmp_path, slides, [])
    for patient in PATIENTS:
        write_features(features, f"{patient}-DX1", np.ones((3, 4), np.float32), np.zeros((3, 2), int), "npy")
    import_data(source, tmp_path / "DATA", slides=features)
    assert DataRoot.open(tmp_path / "DATA").cohort("mine").info.simulated_slides


@pytest.mark.shared
@pytest.mark.parametrize(
    ("source", "features"),
    [
        ("in", "svs_h5"),
        ("in", "no_uuid"),
        ("in", "lower_uuid"),
        ("in", "named_by_patient"),
        ("ndpi_scn", "plain"),
        ("full_paths", "plain"),
        ("stamp", "stamp_features"),
    ],
)
def test_the_cases(shared: Path, tmp_path: Path, source: str, features: str) -> None:
    case = shared / "cases" / "09-slides-matched-to-nothing"
    report = import_data(case / source, tmp_path / "DATA", slides=case / features)
    assert (report.cohorts[0].slides, report.cohorts[0].slides_with_features) == (20, 20)
    table = DataRoot.open(tmp_path / "DATA").cohort(source).slides()
    assert all(row.file.name.upper().startswith(row.patient) for row in table.itertuples())
