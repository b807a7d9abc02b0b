"""Models trained on a simulated cohort in which one programme decides who dies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.planted import PROGNOSTIC, Planted
from survbench.data.root import DataRoot
from survbench.simulation import demo, generative
from survbench.simulation.demo import Recipe, build_cohorts


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """160 patients, most of whom die, at the risk of one programme alone."""
    drawn: list[np.ndarray] = []
    regions: dict[str, list[np.ndarray]] = {}
    draw: Callable[..., np.ndarray] = generative.traced_region
    write: Callable[..., Path] = demo.write_features

    def noted(rng: np.random.Generator, coords: np.ndarray) -> np.ndarray:
        drawn.append(draw(rng, coords))
        return drawn[-1]

    def written(folder: Path, slide: str, *rest: Any) -> Path:
        regions[slide] = list(drawn)
        drawn.clear()
        return write(folder, slide, *rest)

    recipe = Recipe(
        name="stad",
        title="stad",
        patients=160,
        event_rate=0.7,
        sites=4,
        site_letter="T",
        effects={PROGNOSTIC: 2.0},
        female=0.5,
        follow_up=24.0,
        trace=2.0,
    )
    folder = tmp_path_factory.mktemp("planted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generative, "traced_region", noted)
        patch.setattr(demo, "write_features", written)
        root = DataRoot.open(build_cohorts(folder / "root", "planted", [recipe]))
    return Planted(root, regions, folder / "out", {})
