# ruff: noqa: E501  (a damage and what is found of it stand in a line)
"""`data check` finds what packing and running refuse, all of it, and says what it has looked at."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from support.door import typed
from survbench.data.check import CheckReport, check
from survbench.data.cohort import load_cohort
from survbench.data.importers import import_data
from survbench.data.packing import pack
from survbench.data.root import DataRoot
from survbench.errors import SurvbenchError

PATIENTS = [f"P{i:03d}" for i in range(1, 41)]


def features(file: Path, patches: int = 5, width: int = 8, **changes: object) -> None:
    with h5py.File(file, "w") as content:
        content["features"] = changes.get("values", np.random.default_rng(0).normal(size=(patches, width)).astype("f4"))
        if "encoder" in changes:
            content["features"].attrs["encoder"] = changes["encoder"]
        if "coords" in changes:
            content["coords"] = changes["coords"]
            content["coords"].attrs["patch_size_level0"] = 256


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A data root with one cohort of 40 patients and a feature file each; nothing is wrong with it."""
    source, folder = tmp_path / "mine", tmp_path / "features"
    source.mkdir()
    folder.mkdir()
    rows = [f"{patient},{patient}-A,{10 + i},{i % 2}" for i, patient in enumerate(PATIENTS)]
    (source / "labels.csv").write_text("\n".join(["patient,slide_id,os_months,os_event", *rows]))
    splits = [f"{k},{p},{'test' if i % 5 == k else 'train'}" for k in range(5) for i, p in enumerate(PATIENTS)]
    (source / "folds.csv").write_text("\n".join(["fold,patient,split", *splits]))
    for patient in PATIENTS:
        features(folder / f"{patient}-A.h5")
    import_data(source, tmp_path / "DATA", slides=folder)
    return tmp_path


def checked(place: Path, *, deep: bool = False) -> CheckReport:
    return check(DataRoot.open(place / "DATA"), deep=deep)


def refused(place: Path) -> bool:
    """Whether packing, loading or dividing the cohort is refused."""
    folder = DataRoot.open(place / "DATA").cohort("mine")
    try:
        pack(folder, repack=True)
        cohort = load_cohort(DataRoot.open(place / "DATA"), "mine", "os")
        for scheme in ("event-stratified", *folder.fold_schemes()):
            cohort.folds(scheme)
    except SurvbenchError:
        return True
    return False


def edited(name: str, old: str, new: str) -> str:
    """A damage: a text in one of the cohort's tables is another."""
    return f"{name}|{old}|{new}"


DAMAGES: dict[str, tuple[object, bool, str]] = {
    "nothing": (lambda place: None, False, ""),
    "two widths": (lambda place: features(place / "features/P005-A.h5", width=4), False, "of width 4"),
    "two encoders": (
        lambda place: [features(place / f"features/{p}-A.h5", encoder="uni_v1" if p < "P020" else "conch") for p in PATIENTS],
        False,
        "P020-A.h5 of encoder conch",
    ),
    "a coordinate too few": (
        lambda place: features(place / "features/P005-A.h5", coords=np.zeros((4, 2))),
        False,
        "has 5 patches and 4 coordinates",
    ),
    "a group": (lambda place: features(place / "features/P005-A.h5", values=np.zeros((2, 3, 4, 5))), False, "4 axes"),
    "a file cut short": (
        lambda place: (place / "features/P005-A.h5").write_bytes((place / "features/P006-A.h5").read_bytes()[:900]),
        False,
        "cannot be read as HDF5",
    ),
    "NaN": (lambda place: features(place / "features/P005-A.h5", values=np.full((5, 8), np.nan, "f4")), True, "NaN"),
    "vectors of slides": (
        lambda place: [features(place / f"features/{p}-A.h5", patches=1) for p in PATIENTS],
        False,
        "each of the 40 feature files of cohort mine has one row",
    ),
    "a fold that lacks a patient": (edited("folds/official.csv", "0,P007,train\n", ""), False, "fold 0 leaves out patient P007"),
    "a fold twice": (edited("folds/official.csv", "0,P007,train\n", "0,P007,train\n0,P007,test\n"), False, "P007 is twice"),
    "a split of no name": (edited("folds/official.csv", "0,P007,train", "0,P007,holdout"), False, "the split 'holdout'"),
    "a negative time": (edited("patients.csv", "P003,12,", "P003,-12,"), False, "patient P003 has time -12"),
    "an event of 3": (edited("patients.csv", "P003,12,0", "P003,12,3"), False, "patient P003 has event 3"),
    "a patient twice": (edited("patients.csv", "P003,", "P002,"), False, "duplicate patient P002"),
    "other columns": (edited("slides.csv", "patient,slide,file", "a,b,c"), False, "expected patient, slide, file"),
    "no JSON": (edited("cohort.json", "{", "<"), False, "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_check_finds_what_packing_and_running_refuse(place: Path, damage: str) -> None:
    how, deep, found = DAMAGES[damage]
    if isinstance(how, str):
        name, old, new = how.split("|")
        file = place / "DATA" / "mine" / name
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new, 1))
    else:
        how(place)  # type: ignore[operator]
    problems = checked(place, deep=deep).problems
    assert bool(problems) == refused(place)
    assert not found or any(found in problem.problem for problem in problems), problems


def test_all_problems_are_listed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("DATA/mine/patients.csv",):
        text = (place / name).read_text().replace("P003,12,", "P003,-12,").replace("P004,13,", "P004,0,")
        (place / name).write_text(text)
    features(place / "features/P005-A.h5", coords=np.zeros((4, 2)))
    (place / "features/P006-A.h5").unlink()
    report = checked(place)
    assert [problem.patient for problem in report.problems] == ["P003", "P004", "P005", "P006"]
    assert typed("data", "check", "--data", place / "DATA") == 2
    assert "4 problems (tables, headers of 40 files; contents not read: --deep)" in " ".join(
        capsys.readouterr().out.split()
    )


def test_what_was_read_is_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("data", "check", "--data", place / "DATA") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "no problems found (tables, headers of 40 files; contents not read: --deep)" in said
    assert typed("data", "check", "--data", place / "DATA", "--deep") == 0
    assert "no problems found (tables, contents of 40 files)" in " ".join(capsys.readouterr().out.split())
    assert typed("data", "check", "--data", place / "DATA", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["cohorts"]["mine"]["files"] == 40
    assert document["deep"] is False


def test_one_damaged_cohort_does_not_hide_the_others(place: Path) -> None:
    shutil.copytree(place / "DATA" / "mine", place / "DATA" / "other")
    (place / "DATA" / "mine" / "patients.csv").write_bytes(b"\xff\xfe\x00")
    (place / "DATA" / "mine" / "cohort.json").write_text("[" * 100_000)
    report = checked(place)
    assert report.cohorts["other"].patients == 40
    assert {problem.cohort for problem in report.problems} == {"mine"}


def test_a_modality_of_nobody_is_a_problem(place: Path) -> None:
    table = pd.DataFrame(np.ones((40, 3), "f4"), index=[f"Q{i}" for i in range(40)], columns=["A", "B", "C"])
    table.rename_axis("patient").to_parquet(place / "DATA/mine/expression.parquet")
    (problem,) = checked(place).problems
    assert problem.problem == "nobody has expression"


def test_originals_that_are_gone_are_no_problem_once_packed(place: Path) -> None:
    pack(DataRoot.open(place / "DATA").cohort("mine"))
    shutil.rmtree(place / "features")
    report = checked(place)
    assert report.problems == ()
    assert report.cohorts["mine"].patches == 200
    assert len(load_cohort(DataRoot.open(place / "DATA"), "mine", "os").patients) == 40


def test_covariates_that_were_not_understood_are_remarks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    rows = [f"P{i},pT{i % 4},{10 + i},{i % 2}" for i in range(20)]
    (tmp_path / "mine" / "labels.csv").write_text("\n".join(["patient,stage,os_months,os_event", *rows]))
    import_data(tmp_path / "mine", tmp_path / "DATA")
    assert typed("data", "check", "--data", tmp_path / "DATA") == 0
    assert "mine: stage: 0 of 20 values understood; not 'pT0'" in capsys.readouterr().out


@pytest.mark.shared
@pytest.mark.parametrize(
    ("source", "slides", "deep", "found"),
    [
        ("nan", "nan_f", True, "1 of 12 patches have NaN"),
        ("counts", "counts_f", False, "has 12 patches and 11 coordinates"),
        ("encoders", "encoders_f", False, "of encoder conch_v15"),
        ("fold_gap", None, False, "fold 0 leaves out patient P007"),
    ],
)
def test_the_cases(shared: Path, tmp_path: Path, source: str, slides: str | None, deep: bool, found: str) -> None:
    case = shared / "cases" / "30-check-finds-nothing-run-refuses"
    import_data(case / source, tmp_path / "DATA", slides=None if slides is None else case / slides)
    problems = check(DataRoot.open(tmp_path / "DATA"), deep=deep).problems
    assert any(found in problem.problem for problem in problems), problems


@pytest.mark.parametrize(("prefix", "stated"), [("P", False), ("TCGA-ZZ-", True)])
def test_published_counts_stand_beside_patients_of_tcga_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], prefix: str, stated: bool
) -> None:
    (tmp_path / "hnsc").mkdir()
    rows = [f"{prefix}{i:04d},{10 + i},{i % 2}" for i in range(40)]
    (tmp_path / "hnsc" / "labels.csv").write_text("\n".join(["patient,os_months,os_event", *rows]))
    import_data(tmp_path / "hnsc", tmp_path / "DATA")
    assert typed("data", "check", "--data", tmp_path / "DATA") == 0
    assert ("40 [394]" in capsys.readouterr().out) == stated
