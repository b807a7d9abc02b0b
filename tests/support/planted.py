"""A simulated cohort in which one programme decides who dies, with what was planted where; models trained on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from support.toy import run
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
            request = Request(
                models=[model], cohorts=["stad"], endpoint="os", scheme="event-stratified", folds=[0], overrides=chosen
            )
            (job,) = plan(request, load_registry(), self.root)
            assert not run(self.out, job).failed
            self.jobs[model] = job
        return self.jobs[model]
