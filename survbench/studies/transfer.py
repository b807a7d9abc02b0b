"""When does distillation pay? A model and what belongs beside it on simulated cohorts whose truth is known.

Three things are varied: how strongly the molecular programmes show in slides, how many patients there are, and how many
of them die. Everything else is the demo's. Cohorts that differ in the traces alone have the same patients.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from survbench.cards import ModelCard
from survbench.data.demo import STAD_EFFECTS, Recipe, build_cohorts
from survbench.data.root import DataRoot
from survbench.errors import BadConfig
from survbench.experiments.job import Job
from survbench.experiments.plan import Request, plan
from survbench.registry import Registry

__all__ = ["Cell", "Grid", "find_student", "plan_transfer", "simulated_root"]

SITES = 8


@dataclass(frozen=True)
class Cell:
    """One simulated cohort. trace : strength of the traces in slides, 1 is the demo's."""

    trace: float
    patients: int
    event_rate: float
    replicate: int

    @property
    def cohort(self) -> str:
        """Its name, which tells what it is."""
        return f"trace{self.trace:g}-{self._people}".replace(".", "p")

    @property
    def _people(self) -> str:
        return f"n{self.patients}-e{100 * self.event_rate:g}-r{self.replicate}"

    def recipe(self) -> Recipe:
        """How to simulate it."""
        made = Recipe(
            self.cohort,
            "simulated",
            self.patients,
            self.event_rate,
            SITES,
            "T",
            STAD_EFFECTS,
            female=0.5,
            follow_up=24.0,
        )
        return replace(made, trace=self.trace, people=f"transfer {self.replicate}")


@dataclass(frozen=True)
class Grid:
    """All combinations of what is varied; `replicates` cohorts of each."""

    traces: Sequence[float]
    patients: Sequence[int]
    event_rates: Sequence[float]
    replicates: int

    def __post_init__(self) -> None:
        if min(self.traces, default=-1) < 0 or min(self.patients, default=0) < 50 or self.replicates < 1:
            raise BadConfig(
                f"grid of traces {list(self.traces)}, patients {list(self.patients)}, {self.replicates} replicates",
                "traces from 0, patients from 50, replicates from 1",
            )
        few = [n * e for n, e in product(self.patients, self.event_rates) if not 10 <= n * e <= 0.9 * n]
        if few or not self.event_rates:
            raise BadConfig(
                f"event rates {list(self.event_rates)} of {list(self.patients)} patients leave {few[:1]} deaths",
                "every cohort needs 10 deaths at least, and one in ten who lives",
            )

    def cells(self) -> list[Cell]:
        """Cohorts with few patients first, so that something can be seen early."""
        combined = product(sorted(self.patients), self.event_rates, range(self.replicates), self.traces)
        return [Cell(trace, patients, rate, replicate) for patients, rate, replicate, trace in combined]


def simulated_root(grid: Grid, out: Path) -> DataRoot:
    """The grid's cohorts, simulated on first use below OUT/simulated."""
    recipes = [cell.recipe() for cell in grid.cells()]
    digest = hashlib.sha256(repr(recipes).encode()).hexdigest()[:10]
    return DataRoot.open(build_cohorts(out / "simulated" / f"transfer-{digest}", "transfer", recipes))


def find_student(model: str | None, registry: Registry) -> ModelCard:
    """The model whose distillation is studied: the named one, or the only one whose card puts others beside it.

    Raises
    ------
    UnknownName : no such model. BadConfig : several could be meant, or there is nothing beside it to compare with.
    """
    named = registry.select_models([model]) if model is not None else list(registry.models.values())
    found = [card for card in named if card.beside]
    if not found:
        raise BadConfig(
            f"model {model} has nothing beside it to compare with" if model else "no model has others beside it",
            "its card lists them as `beside`",
        )
    if len(found) > 1:
        raise BadConfig(f"{', '.join(card.name for card in found)} could be meant", "name one of them with --model")
    return found[0]


def plan_transfer(grid: Grid, request: Request, registry: Registry, root: DataRoot) -> dict[Cell, list[Job]]:
    """Jobs of the model and of the models its card puts beside it, cell by cell; raises as `find_student` does."""
    card = find_student(request.models[0], registry)
    names = [*card.beside, card.name]
    return {cell: plan(replace(request, models=names, cohorts=[cell.cohort]), registry, root) for cell in grid.cells()}
