"""Drives the installed command in processes of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from support.commands import Command, Refused, executable
from survbench.cli import main


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The caller's environment without its survbench and MLflow settings; one thread and no workers, so that test
    processes don't fight."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SURVBENCH_", "MLFLOW_"))}
    clean |= {"OMP_NUM_THREADS": "1", "SURVBENCH_WORKERS": "1", "COLUMNS": "140"}
    if "SURVBENCH_TEST_CACHE" in os.environ:
        clean["SURVBENCH_CACHE"] = os.environ["SURVBENCH_TEST_CACHE"]
    return clean


@pytest.fixture
def survbench(environment: dict[str, str], tmp_path: Path) -> Command:
    """Runs `survbench ...` in a folder of its own; `check=True` fails the test on any other code than 0."""

    def command(*arguments: object, check: bool = True, **extra: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [executable(), *map(str, arguments)],
            cwd=tmp_path,
            env=environment | extra,
            capture_output=True,
            text=True,
            timeout=500,
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done

    return command


@pytest.fixture
def refused(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Refused:
    """Runs `survbench ...` inside this process, which saves seconds of imports, and returns its messages to the user.

    Fails the test on any other end than exit code 2, a traceback among them.
    """
    monkeypatch.chdir(tmp_path)
    for key in set(os.environ) - set(environment):
        monkeypatch.delenv(key)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)

    def command(*arguments: object) -> str:
        with pytest.raises(SystemExit) as end:
            main([*map(str, arguments)])
        errors = capfd.readouterr().err
        assert end.value.code == 2, errors
        return errors

    return command
