"""The installed command, and the types of the fixtures that run it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

Command = Callable[..., subprocess.CompletedProcess[str]]
Refused = Callable[..., str]


def executable() -> str:
    beside = Path(sys.executable).with_name("survbench")
    found = str(beside) if beside.exists() else shutil.which("survbench")
    assert found, "install the project first: pip install -e ."
    return found


def clean_environment() -> dict[str, str]:
    """The caller's environment without its survbench and MLflow settings; the demo from a cache for tests."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("SURVBENCH_", "MLFLOW_"))}
    if "SURVBENCH_TEST_CACHE" in os.environ:
        clean["SURVBENCH_CACHE"] = os.environ["SURVBENCH_TEST_CACHE"]
    return clean
