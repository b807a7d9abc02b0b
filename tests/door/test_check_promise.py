"""What packing and dividing refuse, `data check` reports; damaged cohorts are listed; commands can be pasted."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from support.door import command
from survbench.data.check import check
from survbench.data.cohort import load_cohort
from survbench.data.folds import make_folds
from survbench.data.importers import import_data
from survbench.data.root import CohortFolder, DataRoot
from survbench.errors import BadFolds, SurvbenchError

PATIENTS = [f"P{i:03d}" for i in range(30)]


def features(file: Path, patches: int = 4, width: int = 6, encoder: str = "", **changes: np.ndarray) -> None:
    """A file as TRIDENT writes it, but for what the test changes."""
    values = {"features": np.ones((patches, width), np.float32), "coords": np.arange(2 * patches).reshape(-1, 2) * 256}
    file.unlink(missing_ok=True)
    with h5py.File(file, "w") as content:
        for name, array in (values | changes).items():
            content[name] = array
        content["coords"].attrs["patch_size_level0"] = 256
        if encoder:
            content["features"].attrs["encoder"] = encoder


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    source, slides = tmp_path / "mine", tmp_path / "features of mine"
    source.mkdir()
    slides.mkdir()
    rows = [f"{patient},{10 + i},{i % 2},{patient}-DX1" for i, patient in enumerate(PATIENTS)]
    (source / "labels.csv").write_text("\n".join(["patient,os_months,os_event,slide_id", *rows]))
    for patient in PATIENTS:
        features(slides / f"{patient}-DX1.h5")
    import_data(source, tmp_path / "DATA", slides=slides)
    return DataRoot.open(tmp_path / "DATA")


def of(folder: CohortFolder, number: int) -> Path:
    return Path(folder.slides()["file"][number])


def _rewrite(folder: CohortFolder, name: str, old: str, new: str) -> None:
    file = folder.path / name
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def _folds(*leave_out: str, where: Callable[[int], str] = lambda fold: "test") -> Callable[[CohortFolder], None]:
    def write(folder: CohortFolder) -> None:
        rows = ["fold,patient,split"]
        for fold in range(5):
            for i, patient in enumerate(PATIENTS):
                if patient not in leave_out:
                    rows.append(f"{fold},{patient},{where(fold) if i // 2 % 5 == fold else 'train'}")
        (folder.path / "folds").mkdir(exist_ok=True)
        (folder.path / "folds" / "official.csv").write_text("\n".join(rows))

    return write


def _few(folder: CohortFolder) -> None:
    file = folder.path / "patients.csv"
    table = folder.patients()
    table["os_event"] = ["1" if i < 6 else "0" for i in range(len(table))]
    table.to_csv(file)


BAD: dict[str, tuple[Callable[[CohortFolder], object], str]] = {
    "integers": (lambda f: features(of(f, 5), features=np.ones((4, 6), int)), "holds int64, expected floating-point"),
    "a slide vector": (lambda f: features(of(f, 5), features=np.ones(6, np.float32)), "one vector for the whole slide"),
    "a file that is gone": (lambda f: of(f, 5).unlink(), "does not exist"),
    "an empty file": (lambda f: of(f, 5).write_bytes(b""), "P005-DX1.h5"),
    "an event of 7": (
        lambda f: _rewrite(f, "patients.csv", "P004,14,0", "P004,14,7"),
        "endpoint os: patient P004 has event 7, expected 0 (censored) or 1 (died)",
    ),
    "half a label": (lambda f: _rewrite(f, "patients.csv", "P004,14,0", "P004,14,"), "half a label"),
    "six deaths": (_few, "30 patients with 6 events and 24 censored cannot be divided into 5 folds"),
    "folds without test patients": (_folds(where=lambda fold: "train"), "folds official: fold 0 has no test patients"),
    "expression that is none": (lambda f: (f.path / "expression.parquet").write_text("no"), "cannot be read"),
}


def refusal(root: DataRoot) -> str:
    """What loading, packing and dividing say; empty where they work."""
    try:
        cohort = load_cohort(root, "mine", "os")
        for scheme in ("event-stratified", *cohort.folder.fold_schemes()):
            cohort.folds(scheme)
    except SurvbenchError as error:
        return str(error)
    return ""


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")


@pytest.mark.parametrize("kind", BAD)
def test_what_a_run_refuses_is_reported(root: DataRoot, kind: str) -> None:
    make, said = BAD[kind]
    make(root.cohort("mine"))
    assert refusal(root)
    report = check(root, deep=kind == "integers")
    assert any(said in of.problem for of in report.problems), report.problems


def test_a_damaged_cohort_never_takes_a_listing_down(root: DataRoot) -> None:
    (root.path / "broken").mkdir()
    (root.path / "broken" / "cohort.json").write_text("[" * 10)
    code, printed = command("cohorts", "--data", root.path)
    assert code == 0
    assert "mine" in printed
    assert "cannot be read" in printed


@pytest.mark.parametrize(("deaths", "works"), [(5, False), (6, False), (7, True), (23, True), (24, False), (25, False)])
def test_seven_of_either_are_the_least(root: DataRoot, deaths: int, works: bool) -> None:
    labels = root.cohort("mine").labels("os").assign(event=[i < deaths for i in range(30)])
    if works:
        assert len(make_folds(labels, labels["time"], "event-stratified")) == 5
        return
    with pytest.raises(BadFolds, match="at least 7 of either"):
        make_folds(labels, labels["time"], "event-stratified")


def test_the_printed_command_works_where_a_name_has_a_blank(root: DataRoot, tmp_path: Path) -> None:
    out = tmp_path / "my DATA"
    code, printed = command("data", "import", tmp_path / "mine", "--out", out)
    pasted = next(line for line in printed.splitlines() if "next: " in line).partition("next: ")[2]
    assert (code, shlex.split(pasted)) == (0, ["survbench", "data", "check", "--data", str(out)])
    assert command(*shlex.split(pasted)[1:])[0] == 0
