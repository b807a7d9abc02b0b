"""When does distillation pay? A model and what belongs beside it on simulated cohorts whose truth is known.

Three things are varied: how strongly the molecular programmes show in slides, how many patients there are, and how many
of them die. Everything else is the demo's. Cohorts that differ in the traces alone have the same patients. Training is
planned here and run elsewhere; importing this module loads no deep-learning library.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from survbench.cards import ModelCard
from survbench.data.root import DataRoot
from survbench.errors import BadConfig
from survbench.evaluation.compare import mean_difference
from survbench.evaluation.metrics import harrell
from survbench.experiments.folders import result_folder
from survbench.leaderboard.aggregate import build
from survbench.leaderboard.board import Row
from survbench.leaderboard.paired_differences import difference_columns, row_difference
from survbench.registry import Registry
from survbench.simulation.demo import STAD_EFFECTS, Recipe, build_cohorts

if TYPE_CHECKING:
    from survbench.experiments.job import Job
    from survbench.experiments.plan import Request

__all__ = [
    "SETTING",
    "Cell",
    "Grid",
    "Transfer",
    "find_student",
    "plan_transfer",
    "read_transfer",
    "simulated_root",
    "transfer_map",
]

SITES = 8
SETTING = ["patients", "event_rate", "trace"]  # what is varied, as columns
ORACLE, SLIDES_ORACLE = "oracle", "oracle on slides"


@dataclass(frozen=True)
class Cell:
    """One simulated cohort.

    Attributes
    ----------
    trace : strength of the traces in slides, 1 is the demo's.
    patients : how many.
    event_rate : share of them who die.
    replicate : number of the cohort among those of the same kind.
    """

    trace: float
    patients: int
    event_rate: float
    replicate: int

    @property
    def setting(self) -> tuple[float, ...]:
        """Values of `SETTING`."""
        return self.patients, self.event_rate, self.trace

    @property
    def cohort(self) -> str:
        """Its name, which tells what it is."""
        people = f"n{self.patients}-e{100 * self.event_rate:g}-r{self.replicate}"
        return f"trace{self.trace:g}-{people}".replace(".", "p")

    def recipe(self) -> Recipe:
        """How to simulate it."""
        return Recipe(
            name=self.cohort,
            title="simulated",
            patients=self.patients,
            event_rate=self.event_rate,
            sites=SITES,
            site_letter="T",
            effects=STAD_EFFECTS,
            female=0.5,
            follow_up=24.0,
            trace=self.trace,
            people=f"transfer {self.replicate}",
        )


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
    UnknownName : no such model.
    BadConfig : several could be meant, or there is nothing beside it to compare with.
    """
    named = registry.select_models([model]) if model is not None else list(registry.models.values())
    cards = [card for card in named if card.beside]
    if not cards:
        raise BadConfig(
            f"model {model} has nothing beside it to compare with" if model else "no model has others beside it",
            "its card lists them as `beside`",
        )
    if len(cards) > 1:
        raise BadConfig(f"{', '.join(card.name for card in cards)} could be meant", "name one of them with --model")
    return cards[0]


def plan_transfer(grid: Grid, request: Request, registry: Registry, root: DataRoot) -> dict[Cell, list[Job]]:
    """Jobs of the model and of the models its card puts beside it, cell by cell; raises as `find_student` does."""
    from survbench.experiments.plan import plan

    card = find_student(request.models[0], registry)
    names = [*card.beside, card.name]
    return {cell: plan(replace(request, models=names, cohorts=[cell.cohort]), registry, root) for cell in grid.cells()}


@dataclass(frozen=True)
class Transfer:
    """The map of when distillation pays; every cohort is simulated.

    Attributes
    ----------
    model : title of the model.
    curves : one row per cohort and model, oracles included. Columns: patients, event_rate, trace, replicate, model,
        title, mean, sd (over folds).
    gains : one row per setting and model compared with: the difference's mean over replicates. Columns: patients,
        event_rate, trace, against, replicates, clear (whether both intervals leave out zero), reason, difference, low,
        high, p, patient_low, patient_high.
    """

    model: str
    curves: pd.DataFrame
    gains: pd.DataFrame

    @property
    def title(self) -> str:
        return f"When does distillation pay? {self.model} on simulated cohorts"

    @property
    def against(self) -> list[str]:
        """Models compared with; the last one is the model without distillation."""
        return list(dict.fromkeys(self.gains["against"]))


def transfer_map(jobs: Mapping[Cell, Sequence[Job]], card: ModelCard, root: DataRoot, out: Path) -> Transfer:
    """The map of finished jobs; those that failed are left out."""
    rows = _rows(jobs, out)
    return Transfer(card.title, _curves(rows, [*card.beside, card.name], root), _gains(rows, card))


def read_transfer(folder: Path) -> Transfer:
    """What `write_transfer` left in a folder; damaged tables raise OSError, ValueError or KeyError."""
    curves = pd.read_csv(folder / "curves.csv")
    gains = pd.read_csv(folder / "gains.csv", dtype={"reason": str})
    gains = gains.assign(reason=gains["reason"].fillna(""))
    titles = dict(zip(curves["model"], curves["title"], strict=True))
    (model,) = set(titles) - {*gains["against"], ORACLE, SLIDES_ORACLE}
    return Transfer(titles[model], curves, gains)


def _rows(jobs: Mapping[Cell, Sequence[Job]], out: Path) -> dict[Cell, dict[str, Row]]:
    """Rows by cell and model."""
    board = build(out, only={result_folder(job, out) for of in jobs.values() for job in of})
    return {cell: {row.model: row for row in board.rows if row.cohort == cell.cohort} for cell in jobs}


def _curves(rows: Mapping[Cell, Mapping[str, Row]], order: Sequence[str], root: DataRoot) -> pd.DataFrame:
    lines = []
    for cell, of in rows.items():
        about = {**dict(zip(SETTING, cell.setting, strict=True)), "replicate": cell.replicate}
        for name in filter(of.__contains__, order):
            summary = of[name].metrics["cindex"]
            lines.append({**about, "model": name, "title": of[name].title, "mean": summary.mean, "sd": summary.sd})
        for name, values in _oracles(cell, next(iter(of.values())), root).items() if of else ():
            lines.append({**about, "model": name, "title": name, "mean": values.mean(), "sd": values.std()})
    return pd.DataFrame(lines)


def _oracles(cell: Cell, row: Row, root: DataRoot) -> dict[str, np.ndarray]:
    """C of the true log hazard, and of its part that slides can show: (folds,) of each."""
    folder = root.cohort(cell.cohort).path
    truth = pd.read_csv(folder / "truth.csv").set_index("patient")
    about = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    seen = sum(truth[name] * about["programmes"][name]["log_hazard_ratio"] for name in about["traced"])
    risks = {ORACLE: truth["true_log_hazard"], SLIDES_ORACLE: seen if cell.trace > 0 else 0 * truth["true_log_hazard"]}
    tests = [test for (seed, _), test in sorted(row.tests.items()) if seed == row.seeds[0]]
    return {
        name: np.array(
            [harrell(t["time"].to_numpy(), t["event"].to_numpy(), risk[t["patient"]].to_numpy()).value for t in tests]
        )
        for name, risk in risks.items()
    }


def _gains(rows: Mapping[Cell, Mapping[str, Row]], card: ModelCard) -> pd.DataFrame:
    lines = []
    for setting in dict.fromkeys(cell.setting for cell in rows):
        replicates = [of for cell, of in rows.items() if cell.setting == setting]
        for other in card.beside:
            pairs = [(of[card.name], of[other]) for of in replicates if {card.name, other} <= set(of)]
            gain = mean_difference([row_difference(*pair) for pair in pairs])
            about = {"against": other, "replicates": len(pairs), "clear": gain.clear, "reason": gain.reason}
            lines.append({**dict(zip(SETTING, setting, strict=True)), **about, **difference_columns(gain)})
    return pd.DataFrame(lines)
