"""A tiny cohort in memory, and the risks of a model that is trained on it in double precision.

Small enough for two epochs of every model; double precision leaves differences between processors far below changes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import Batch

from support import toy
from survbench.data.batches import Split
from survbench.data.cohort import Cohort, ExpressionScaler, Simulated
from survbench.data.covariates import encode_clinical
from survbench.data.folds import Fold
from survbench.experiments.execute import train_model
from survbench.experiments.job import Job
from survbench.experiments.plan import job_split
from survbench.registry import load_registry
from survbench.training.settings import Settings
from survbench.training.steps import predict_logits

FEW = {"epochs": 2, "patience": 2, "batch_size": 18, "patches": 20}  # three steps an epoch
PATIENTS, WIDTH = 76, 36  # enough for a forest to split, and more features than principal components
LONG = 300  # patches of one test patient; models have fewer landmarks
GENES = tuple(f"G{number:02d}" for number in range(20))
PATHWAYS = {"A": GENES[:5], "B": GENES[3:9], "C": GENES[8:10], "D": GENES[9:17]}
FAMILIES = {"I": GENES[:7], "II": GENES[6:12], "III": GENES[12:]}
CPU = torch.device("cpu")

Risks = Mapping[str, Mapping[str, float]]
"""Split -> patient -> risk."""


def tiny_job(
    model: str,
    objective: str = "cox",
    *,
    seed: int = 0,
    training: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Job:
    """A model as it is registered, on the tiny cohort, with changes where they are asked for."""
    registry = load_registry()
    card = registry.models[model]
    cohort = _cohort(tied=not card.objective)
    made = toy.job(cohort, model, objective=card.objective or objective)
    patients = tuple(cohort.patients.index)
    return replace(
        made,
        config={**made.config, **(config or {})},
        settings=Settings.build(registry.presets["default"], card.training, FEW, training or {}),
        fold=Fold(0, patients[:52], patients[52:64], patients[64:]),
        seed=seed,
    )


def predicted_risks(job: Job) -> Risks:
    """Of the patients of all splits, from a model that the suite has trained."""
    with _in_double(), tempfile.TemporaryDirectory() as folder:
        trained = train_model(job, CPU, Path(folder) / "scratch", Path(folder), lambda report: None)
        weights = trained.model.state_dict().values()
        assert all(values.dtype == torch.float64 for values in weights if values.is_floating_point())
        trained.model.eval()
        risks = {}
        for name, members in job.fold.splits().items():
            split = job_split(job, members, trained.scaler, CPU)
            logits = predict_logits(trained.model, split, job.card.inference_inputs, CPU)
            each = trained.objective.risk(logits).tolist()
            risks[name] = {patient: float(f"{risk:.12g}") for patient, risk in zip(members, each, strict=True)}
    return risks


@contextmanager
def _in_double() -> Iterator[None]:
    """New weights in double precision, one thread, and nothing of it left behind."""
    threads, precision = torch.get_num_threads(), torch.get_default_dtype()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(precision)


@cache
def _cohort(*, tied: bool) -> Cohort:
    """Slides, expression and clinical data that all tell the risk.

    Parameters
    ----------
    tied : whole months, so that patients die at the same time. Not for models that scikit-survival fits: it ends its
        path of penalties at once where many do.
    """
    rng = np.random.default_rng(0)
    risk = rng.normal(size=PATIENTS)
    index = pd.Index([f"P{number:02d}" for number in range(PATIENTS)], name="patient")
    time = rng.exponential(12, PATIENTS) * np.exp(-2 * risk) + 0.1
    table = pd.DataFrame(
        {
            "time": np.ceil(time) if tied else time.round(6),
            "event": rng.random(PATIENTS) < 0.6,
            "site": rng.choice(list("abcdef"), PATIENTS),
            "age": (60 + 8 * risk + rng.normal(0, 4, PATIENTS)).round(),
            "sex": rng.choice(["female", "male"], PATIENTS),
            "stage": rng.choice(["I", "II", "IIIA", ""], PATIENTS),
            "grade": rng.choice(["G1", "G2", "G3"], PATIENTS),
        },
        index=index,
    )
    expression = rng.normal(size=(PATIENTS, len(GENES)))
    expression[:, :4] += risk[:, None]
    shown = 1.5 * risk[:, None] * (np.arange(WIDTH) < 8)
    sizes = [*rng.integers(1, 31, PATIENTS - 1), LONG]
    bags = {
        patient: _rounded(rng.normal(size=(size, WIDTH)) + own)
        for patient, size, own in zip(index, sizes, shown, strict=True)
    }
    genes = pd.DataFrame(_rounded(expression), index=index, columns=list(GENES))
    store: Any = toy.Bags(bags)
    folder: Any = None
    clinical = encode_clinical(table)
    return _DoubleCohort(
        name="tiny",
        title="Tiny",
        endpoint="os",
        patients=table,
        expression=genes,
        pathways=PATHWAYS,
        families=FAMILIES,
        clinical=clinical,
        bags=store,
        excluded={},
        simulated=Simulated.ALL,
        folder=folder,
    )


def _rounded(values: np.ndarray) -> np.ndarray:
    """To few digits first, so that the last one of a processor's arithmetic decides on no number."""
    return values.round(3).astype(np.float32)


class _DoubleCohort(Cohort):
    def split(self, members: tuple[str, ...], scaler: ExpressionScaler | None) -> Split:
        return DoubleSplit(**vars(super().split(members, scaler)))


class DoubleSplit(Split):
    """Its batches are in double precision."""

    def batch(self, *args: Any, **kwargs: Any) -> Batch:
        return super().batch(*args, **kwargs).apply(_double)


def _double(values: Tensor) -> Tensor:
    return values.double() if values.is_floating_point() else values
