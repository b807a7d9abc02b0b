"""A small simulated data root and finished runs on it, shared by the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from support.toy import TINY
from survbench.data.demo import STAD_EFFECTS, Recipe, build_cohorts
from survbench.data.root import DataRoot
from survbench.experiments.plan import Request


@pytest.fixture(scope="session")
def small_root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    """Two simulated cohorts under names that the published figures know."""
    recipes = [Recipe(name, name, 70, 0.5, 6, "T", STAD_EFFECTS, 0.5, 24.0) for name in ("stad", "crad")]
    return DataRoot.open(build_cohorts(tmp_path_factory.mktemp("small") / "root", "small", recipes))


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
