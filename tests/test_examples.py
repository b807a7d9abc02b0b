"""The examples run as they are: as scripts without a main guard, and as cells of a notebook."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import survbench
from support.commands import clean_environment

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
KERNEL = """
import code, json, sys
cells = [cell for cell in json.load(open(sys.argv[1]))["cells"] if cell["cell_type"] == "code"]
kernel = code.InteractiveInterpreter({"__name__": "__main__"})
for cell in cells:
    kernel.runcode(compile("".join(cell["source"]), "<cell>", "exec"))
assert "fold" in kernel.locals
"""


@pytest.fixture
def environment() -> dict[str, str]:
    return clean_environment()


def cells() -> list[str]:
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert not any(cell.get("outputs") for cell in notebook["cells"])
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_says_what_the_script_says() -> None:
    """Where the script prints, a cell ends with what is shown."""
    script = (EXAMPLES / "compare_two_models.py").read_text(encoding="utf-8").split('"""', 2)[2]
    shown = [line for cell in cells() for line in cell.splitlines()]
    for line in filter(None, script.splitlines()):
        said = line.removeprefix("print(").removesuffix(")") if line.startswith("print(") else line
        assert said in shown or said.startswith("figure.savefig"), said


def test_the_notebook_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for key in {key for key in os.environ if key.startswith("SURVBENCH_")} - set(environment):
        monkeypatch.delenv(key)
    for key in set(environment) - set(os.environ):
        monkeypatch.setenv(key, environment[key])
    monkeypatch.setattr(survbench, "run", partial(survbench.run, workers=1), raising=False)  # processes take seconds
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in cells():
        exec(compile(cell, "<cell>", "exec"), names)
    assert list(names["board"]["model"]) == ["abmil", "snn"]
    assert names["board"]["mean"].between(0, 1).all()
    assert len(names["difference"]) == 1
    assert names["figure"]._repr_png_().startswith(b"\x89PNG")
    assert set(names["fold"]["fold"]) == {0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "said"),
    [
        ("compare_two_models", "demo (simulated)"),
        ("own_model", "meanpool"),
        ("own_cohort", "Cohort mine: 60 patients"),
        ("read_predictions", "external predictions"),
    ],
)
def test_examples_run_as_scripts(example: str, said: str, tmp_path: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, str(EXAMPLES / f"{example}.py")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert "10 jobs done, 0 were done before, 0 failed" in done.stderr
    if example == "compare_two_models":
        assert (tmp_path / "km-snn-stad.png").stat().st_size > 10_000


@pytest.mark.slow
def test_cells_run_in_a_kernel(tmp_path: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-c", KERNEL, str(EXAMPLES / "notebook.ipynb")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "10 jobs done, 0 were done before, 0 failed" in done.stderr


@pytest.mark.slow
def test_an_interruption_reaches_the_script(tmp_path: Path, environment: dict[str, str]) -> None:
    """As KeyboardInterrupt, after the line that says that nothing is lost; the same call goes on."""
    script = tmp_path / "long.py"
    script.write_text(
        "import survbench\n"
        "try:\n"
        "    survbench.run('snn', 'crad', settings={'epochs': 200, 'patience': 200})\n"
        "except KeyboardInterrupt:\n"
        "    print('reached')\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.time() + 120
    while not list(tmp_path.glob("survbench-runs/scratch/*/checkpoint.pt")) and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert out == "reached\n"
    assert "nothing is lost" in errors
