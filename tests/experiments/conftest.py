"""What is asked of the small data root, and where, in the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from support.toy import TINY
from survbench.experiments.plan import Request


@pytest.fixture
def request_on_stad() -> Request:
    """One epoch, few patches."""
    return Request(["amkd"], ["stad"], "os", "event-stratified", overrides=TINY)


@pytest.fixture
def cpu() -> torch.device:
    return torch.device("cpu")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"
