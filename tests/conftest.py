"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch starts; test processes side by side must not fight

import pytest
from hypothesis import settings

settings.register_profile("suite", deadline=None)  # a first example imports what others find loaded
settings.load_profile("suite")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real inputs and reference numbers; tests marked `shared` skip without it."""
    default = Path(__file__).resolve().parents[1].parent / "shared"
    folder = Path(os.environ.get("SURVBENCH_SHARED", default))
    if not (folder / "parity").is_dir():
        pytest.skip(f"no reference material in {folder}")
    return folder
