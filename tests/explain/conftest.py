"""A simulated cohort in which one programme decides who dies, with what was planted where; models trained on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments.toy import run

from survbench.data import demo, simulation
from survbench.data.demo import Recipe, build_cohorts
from survbench.data.root import DataRoot
from survbench.experiments.job import Job
from survbench.experiments.plan import Request, plan
from survbench.registry import load_registry

PROGNOSTIC = 0  # the programme that decides; five others leave traces just as strong and mean nothing


@dataclass(frozen=True)
class Planted:
    """regions : slide -> patches of each traced programme. out : results of the jobs that `trained` made."""

    root: DataRoot
    regions: dict[str, list[np.ndarray]]
    out: Path
    jobs: dict[str, Job]

    def trained(self, model: str, epochs: int = 10, learning_rate: float = 5e-4, **settings: Any) -> Job:
        """Finished on the first fold."""
        if model not in self.jobs:
            chosen = {"epochs": epochs, "patience": epochs, "learning_rate": learning_rate, **settings}
            request = Request([model], ["stad"], "os", "event-stratified", folds=[0], overrides=chosen)
            (job,) = plan(request, load_registry(), self.root)
            assert not run(self.out, job).failed
            self.jobs[model] = job
        return self.jobs[model]


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """160 patients, most of whom die, at the risk of one programme alone."""
    drawn: list[np.ndarray] = []
    regions: dict[str, list[np.ndarray]] = {}
    draw: Callable[..., np.ndarray] = simulation._region
    write: Callable[..., Path] = demo.write_features

    def noted(rng: np.random.Generator, coords: np.ndarray) -> np.ndarray:
        drawn.append(draw(rng, coords))
        return drawn[-1]

    def written(folder: Path, slide: str, *rest: Any) -> Path:
        regions[slide] = list(drawn)
        drawn.clear()
        return write(folder, slide, *rest)

    recipe = Recipe("stad", "stad", 160, 0.7, 4, "T", {PROGNOSTIC: 2.0}, 0.5, 24.0, trace=2.0)
    folder = tmp_path_factory.mktemp("planted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulation, "_region", noted)
        patch.setattr(demo, "write_features", written)
        root = DataRoot.open(build_cohorts(folder / "root", "planted", [recipe]))
    return Planted(root, regions, folder / "out", {})
