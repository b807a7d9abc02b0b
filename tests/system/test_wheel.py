"""A wheel carries the registry, the published figures, the templates of the page and the mark of typed code."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TEMPLATES = "survbench/report/page/templates"
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_wheel_runs_from_elsewhere(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(REPOSITORY)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("survbench-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    assert {
        "survbench/registry.yaml",
        "survbench/py.typed",
        "survbench/cli/main.py",
        "survbench/leaderboards/published.csv",
        *(f"survbench/report/page/templates/{name}" for name in ("page.html", "parts.html", "page.css", "page.js")),
        "baselines/abmil.py",
        "amkd/model.py",
    } <= names
    assert not any(name.startswith(("tests/", "benchmarks/", "examples/")) for name in names)
    code = (
        "import survbench; from survbench.registry import load_registry;"
        " from survbench.leaderboard.published import published_cindex;"
        " assert 'site' in survbench.__file__; assert load_registry().models['amkd'];"
        " assert published_cindex('amkd', 'stad')[0] == 0.716"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "site")})
