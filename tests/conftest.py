"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch starts; test processes side by side must not fight

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    import torch

    from survbench.data.root import DataRoot
    from survbench.experiments.plan import Request

settings.register_profile("suite", deadline=None)  # a first example imports what others find loaded
settings.register_profile("fuzz", deadline=None, max_examples=1000)  # `make fuzz`
settings.load_profile("suite")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with real inputs and reference numbers; tests marked `shared` skip without it."""
    default = Path(__file__).resolve().parents[1].parent / "shared"
    folder = Path(os.environ.get("SURVBENCH_SHARED", default))
    if not (folder / "parity").is_dir():
        pytest.skip(f"no reference material in {folder}")
    return folder


@pytest.fixture(scope="session")
def small_root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    """Two simulated cohorts of 70 patients under names that the published figures know."""
    from survbench.data.root import DataRoot
    from survbench.simulation.demo import STAD_EFFECTS, Recipe, build_cohorts

    common = {"patients": 70, "event_rate": 0.5, "sites": 6, "site_letter": "T", "female": 0.5, "follow_up": 24.0}
    recipes = [Recipe(name=name, title=name, effects=STAD_EFFECTS, **common) for name in ("stad", "crad")]
    return DataRoot.open(build_cohorts(tmp_path_factory.mktemp("small") / "root", "small", recipes))


@pytest.fixture
def request_on_stad() -> Request:
    """One epoch, few patches, of the small data root."""
    from support.toy import TINY
    from survbench.experiments.plan import Request

    return Request(models=["amkd"], cohorts=["stad"], endpoint="os", scheme="event-stratified", overrides=TINY)


@pytest.fixture
def cpu() -> torch.device:
    import torch

    return torch.device("cpu")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"
