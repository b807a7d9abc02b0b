"""A test cohort that is not foreign, or is measured in other units, is refused before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from support.door import typed
from survbench.data.importers import import_data


def cohort(folder: Path, name: str, patients: list[str], *, seed: int, shift: float = 0.0, scale: float = 1.0) -> None:
    """Labels and expression of a cohort, on a scale of its own."""
    rng = np.random.default_rng(seed)
    source = folder / name
    source.mkdir()
    values = scale * (rng.normal(6, 1, (len(patients), 12)) + shift)
    genes = [f"GENE{i}" for i in range(12)]
    rows = [f"{p},{rng.exponential(20) + 5:.2f},{int(rng.random() < 0.6)}" for p in patients]
    (source / "labels.csv").write_text("\n".join(["patient,os_months,os_event", *rows]))
    lines = [",".join([p, *(f"{v:.4f}" for v in row)]) for p, row in zip(patients, values, strict=True)]
    (source / "expression.csv").write_text("\n".join([",".join(["patient", *genes]), *lines]))
    (source / "pathways.gmt").write_text("A\t\t" + "\t".join(genes[:6]) + "\nB\t\t" + "\t".join(genes[6:]) + "\n")
    import_data(source, folder / "DATA")


def names(prefix: str, count: int = 60) -> list[str]:
    return [f"{prefix}{i:03d}" for i in range(count)]


def external(place: Path, *options: str) -> int:
    where = ("--data", place / "DATA", "--out", place / "runs", "--no-mlflow", "--workers", "1")
    return typed("run", "--model", "snn", "--train", "one", "--test", "two", "--preset", "rehearsal", *where, *options)


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        (names("P"), names("P")[:20] + names("Q"), "P000, P001, P002"),
        (names("TCGA-AA-0"), [f"{name}-01" for name in names("TCGA-AA-0")[:5]] + names("Q"), "TCGA-AA-0000"),
    ],
)
def test_patients_of_the_training_cohort_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], first: list[str], second: list[str], shared: str
) -> None:
    cohort(tmp_path, "one", first, seed=0)
    cohort(tmp_path, "two", second, seed=1)
    capsys.readouterr()
    assert external(tmp_path) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert shared in said
    assert not (tmp_path / "runs" / "jobs").exists()


def test_another_scale_is_refused_or_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cohort(tmp_path, "one", names("P"), seed=0)
    cohort(tmp_path, "two", names("Q"), seed=1, scale=4000)
    capsys.readouterr()
    assert external(tmp_path) == 2
    assert "--allow-other-scale" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "jobs").exists()
    assert external(tmp_path, "--allow-other-scale") == 0
    records = list((tmp_path / "runs").rglob("external_validation.json"))
    assert records
    assert all(json.loads(record.read_text())["other_scale"] for record in records)


def test_a_foreign_cohort_on_the_same_scale_is_scored(tmp_path: Path) -> None:
    cohort(tmp_path, "one", names("P"), seed=0)
    cohort(tmp_path, "two", names("Q"), seed=1)
    assert external(tmp_path) == 0


@pytest.mark.shared
@pytest.mark.parametrize(
    ("case", "model", "train", "test", "found"),
    [
        ("06-external-test-is-training", "coxnet_pathways", "in", "pooled", "60"),
        ("37-raw-counts-and-other-scales", "snn", "log", "test", "--allow-other-scale"),
    ],
)
def test_the_cases(
    shared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    case: str,
    model: str,
    train: str,
    test: str,
    found: str,
) -> None:
    for name in (train, test):
        import_data(shared / "cases" / case / name, tmp_path / "DATA")
    capsys.readouterr()
    where = ("--data", tmp_path / "DATA", "--out", tmp_path / "runs", "--no-mlflow", "--workers", "1")
    assert typed("run", "--model", model, "--train", train, "--test", test, *where) == 2
    assert found in capsys.readouterr().err
