"""The installed command, and the types of the fixtures that run it."""

from __future__ import annotations

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
