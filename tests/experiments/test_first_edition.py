"""Results of the first edition stay readable and say the same; every row of them is called unsealed."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from survbench.cli import cli
from survbench.data.root import DataRoot
from survbench.errors import BadModel
from survbench.experiments.results import JobResult, read_results
from survbench.experiments.validation_results import read_validations
from survbench.registry import load_registry

FIXTURE = Path(__file__).parents[1] / "fixtures" / "first_edition"
SHORT = ["--set", "epochs=1", "--set", "patience=1", "--set", "patches=8", "--set", "width=8"]
SMALL = [
    part
    for setting in ("heads=1", "head_width=4", "enhancement=4", "gate=4", "head=[8, 8]",
                    "teacher_settings={pathway_width: 8, pathway_hidden: 2, heads: 1, head_width: 4, gate: 4}")
    for part in ("--set", setting)
]  # fmt: skip
RENAMED = {"task_version": "protocol_version"}
NEW = ("model_version", "unsealed", "code")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return shutil.copytree(FIXTURE / "out", tmp_path / "out")


def answer(*arguments: object) -> Any:
    done = CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def same(now: Any, then: Any, where: str = "") -> None:
    """What was said then is said now; new fields and the mark `unsealed` may be added."""
    if isinstance(then, dict):
        for key, value in then.items():
            if key not in NEW:
                assert RENAMED.get(key, key) in now, f"{where}.{key}"
                same(now[RENAMED.get(key, key)], value, f"{where}.{key}")
    elif isinstance(then, list):
        assert len(now) == len(then), where
        for i, pair in enumerate(zip(now, then, strict=True)):
            same(*pair, f"{where}[{i}]")
    elif isinstance(then, float):
        assert math.isclose(now, then, rel_tol=1e-6, abs_tol=1e-9), where
    elif where.endswith((".selected", "variant")):
        assert now.replace("unsealed", "").strip(" ,;") == then.replace("default", ""), where
        assert "unsealed" in now, where
    else:
        assert now == then, where


def then(name: str) -> Any:
    return json.loads((FIXTURE / "expected" / f"{name}.json").read_text(encoding="utf-8"))


def test_the_board_says_the_same_and_that_its_rows_are_unsealed(out: Path) -> None:
    found = answer("leaderboard", "--out", out, "--format", "json")
    same({**found, "notes": []}, {**then("leaderboard"), "notes": []})
    measured = [row for row in found["rows"] if row["source"] == "measured"]
    assert measured
    assert all(row["unsealed"] for row in measured)


@pytest.mark.parametrize("form", ["rich", "markdown", "csv"])
def test_every_way_of_showing_a_board_says_unsealed(out: Path, form: str) -> None:
    done = CliRunner().invoke(cli, ["leaderboard", "--out", str(out), "--format", form], catch_exceptions=False)
    assert done.stdout.count("unsealed") >= 3


def test_the_page_says_unsealed(out: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert CliRunner().invoke(cli, ["leaderboard", "--out", str(out), "--html", str(page)]).exit_code == 0
    assert page.read_text(encoding="utf-8").count("unsealed") >= 3


@pytest.mark.parametrize("name", ["compare", "km"])
def test_comparisons_and_risk_groups_say_the_same(out: Path, name: str) -> None:
    same(answer(name, *(["all"] if name == "compare" else []), "--out", out, "--json"), then(name))


@pytest.mark.parametrize(("name", "model"), [("heatmap", "amkd"), ("pathways", "amkd"), ("attribution", "snn")])
def test_explanations_say_the_same(out: Path, small_root: DataRoot, name: str, model: str) -> None:
    settings = SHORT + (SMALL if model == "amkd" else [])
    asked = ["--data", small_root.path, "--cohort", "stad", "--model", model, "--device", "cpu", "--out", out]
    same(answer("explain", name, *asked, *settings, "--json"), then(name))


def test_they_are_no_finished_jobs_of_today(out: Path) -> None:
    results = [r for r in read_results(out) if isinstance(r, JobResult)]
    assert len(results) == 16
    assert all(result.unsealed for result in results)
    assert {type(v).__name__ for v in read_validations(out)} == {"ValidationResult"}


def test_a_model_that_moved_is_known_by_its_old_place(out: Path) -> None:
    """`was` of the registry; a place that it does not list is refused."""
    folder = next((out / "jobs" / "snn").glob("*/*"))
    content = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps(content | {"target": "baselines.old:SNN"}))
    registry, cpu = load_registry(), torch.device("cpu")
    with pytest.raises(BadModel, match=r"made by baselines.old:SNN, model snn is baselines.snn:SNN now"):
        JobResult.open(folder).load_model(cpu, registry=registry)
    object.__setattr__(registry.models["snn"], "was", ("baselines.old:SNN",))
    JobResult.open(folder).load_model(cpu, registry=registry)
