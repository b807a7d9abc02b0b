"""A cohort and its jobs in memory, for tests of what happens between a command and its results."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from support.builders import GENES, MemoryBags
from survbench.data.cohort import Cohort, Simulated
from survbench.data.covariates import encode_clinical
from survbench.data.folds import folds_hash
from survbench.experiments.dispatch import Summary
from survbench.experiments.execute import run_job
from survbench.experiments.job import Job
from survbench.registry import load_registry
from survbench.training.device import cpu_threads
from survbench.training.settings import Settings

SETTINGS = Settings(epochs=2, patience=2, batch_size=16, learning_rate=1e-3, weight_decay=0.0, patches=4)
TINY = {"epochs": 1, "patience": 1, "patches": 8, "learning_rate": 1e-3}  # of a command
PATHWAYS = {"A": GENES[:3], "B": GENES[2:]}
FAMILIES = {"I": GENES[:4], "II": GENES[3:]}


class Bags(MemoryBags):
    content_hash = "features"
    encoder = "uni_v1"


def cohort(seed: int = 0, patients: int = 80, test_shift: float = 0.0, test: tuple[str, ...] = ()) -> Cohort:
    """A cohort in memory; `test_shift` moves everything that is known of the patients in `test`."""
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=patients)
    index = pd.Index([f"P{i:03d}" for i in range(patients)], name="patient")
    table = pd.DataFrame(
        {
            "time": rng.exponential(30, patients) * np.exp(-2 * risk) + 1,
            "event": rng.random(patients) < 0.5,
            "site": rng.choice(list("abcdefgh"), patients),
        },
        index=index,
    )
    expression = pd.DataFrame(
        rng.normal(size=(patients, len(GENES))).astype(np.float32), index=index, columns=list(GENES)
    )
    bags = {p: rng.normal(size=(int(rng.integers(1, 6)), 16)).astype(np.float32) for p in index}
    expression["G0"] += risk.astype(np.float32)
    for patient, shown in zip(index, risk, strict=True):
        bags[patient][:, 0] += 3 * np.float32(shown)
    expression.loc[list(test)] += test_shift
    table.loc[list(test), "time"] += test_shift
    for patient in test:
        bags[patient] = bags[patient] + np.float32(test_shift)
    table["age"] = 60 + 10 * risk
    table.loc[list(test), "age"] += test_shift
    folder: Any = None
    store: Any = Bags(bags)
    clinical = encode_clinical(table)
    return Cohort(
        name="toy",
        title="Toy",
        endpoint="os",
        patients=table,
        expression=expression,
        pathways=PATHWAYS,
        families=FAMILIES,
        clinical=clinical,
        bags=store,
        excluded={},
        simulated=Simulated.ALL,
        folder=folder,
    )


def job(data: Cohort, model: str = "snn", fold: int = 0, objective: str = "cox", **changes: Any) -> Job:
    registry = load_registry()
    folds = cohort().folds("event-stratified")  # of the unshifted cohort, so that nobody changes sides
    entry = {"name": objective, **registry.objectives[objective]}
    config = dict(registry.models[model].config)
    made = Job(
        card=registry.models[model],
        config=config,
        objective=entry,
        settings=SETTINGS,
        cohort=data,
        scheme="event-stratified",
        folds=len(folds),
        folds_hash=folds_hash(folds),
        fold=folds[fold],
        seed=0,
    )
    return replace(made, **changes)


def run(out: Path, *jobs: Job) -> Summary:
    """Run jobs here, since a cohort in memory cannot be sent to a process."""
    summary = Summary()
    with cpu_threads(1):
        for each in jobs:
            summary.count(each, run_job(each, out, torch.device("cpu"), lambda report: None), out)
    return summary


def only(out: Path) -> Path:
    (record,) = out.glob("jobs/*/*/*/job.json")
    return record.parent
