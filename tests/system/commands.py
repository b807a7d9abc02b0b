"""The installed command, and the type of the fixture that runs it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

Command = Callable[..., subprocess.CompletedProcess[str]]


def executable() -> str:
    beside = Path(sys.executable).with_name("survbench")
    found = str(beside) if beside.exists() else shutil.which("survbench")
    assert found, "install the project first: pip install -e ."
    return found
