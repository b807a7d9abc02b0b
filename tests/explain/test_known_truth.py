"""Explanations recover what was planted: the patches that carry the risk, and the pathways that drive it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from support.planted import PROGNOSTIC, Planted
from survbench.experiments.results import JobResult
from survbench.explain.attribution import pathway_attribution
from survbench.explain.patches import patch_attention
from survbench.simulation.demo import TRACED

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"width": 64, "teacher_settings": {"pathway_width": 64}}


def learned(planted: Planted, model: str) -> None:
    """A model that learned nothing has nothing to explain."""
    job = planted.trained(model)
    metrics = JobResult.of(job, planted.out).metrics()
    assert (metrics["cindex"] or 0) > 0.7


def areas(planted: Planted, model: str) -> dict[str, np.ndarray]:
    """Map -> how well weights separate a programme's patches from others (AUC), mean over half the test patients."""
    job, each = planted.trained(model), dict[str, list[list[float]]]()
    for patient in job.fold.test[::2]:
        seen = patch_attention(job, patient, planted.out, CPU)
        places = list(zip(seen.table["slide"], seen.table["patch"], strict=True))
        inside = [[patch in planted.regions[slide][k] for slide, patch in places] for k in range(TRACED)]
        for name in seen.maps:
            weights = seen.table[f"weight {name}"]
            each.setdefault(name, []).append([roc_auc_score(truth, weights) for truth in inside])
    return {name: np.mean(values, axis=0) for name, values in each.items()}


@pytest.mark.parametrize(
    ("model", "settings", "wanted"),
    [
        ("abmil", {}, {"attention": (0.8, 0.65)}),
        (
            "amkd",
            SMALL,
            {  # pooling also separates tissue of any programme from none: 0.59 to 0.70 over seven trainings
                "teacher's co-attention": (0.7, 0.65),
                "teacher's pooling": (0.8, 0.75),
                "student's pooling": (0.8, 0.75),
            },
        ),
    ],
)
def test_the_planted_patches_have_the_weight(
    planted: Planted, model: str, settings: dict[str, Any], wanted: dict[str, tuple[float, float]]
) -> None:
    """And the patches of programmes that mean nothing, planted just as strongly, have it less."""
    planted.trained(model, learning_rate=1e-3, **settings)
    learned(planted, model)
    measured = areas(planted, model)
    assert measured.keys() == wanted.keys()
    for name, each in measured.items():
        others = np.delete(each, PROGNOSTIC)
        least, most = wanted[name]
        assert each[PROGNOSTIC] > least, name
        assert others.mean() < most, name
        assert each[PROGNOSTIC] > others.max() + 0.15, name
        assert each[PROGNOSTIC] > others.mean() + 0.2, name


@pytest.mark.parametrize("model", ["snn", "survpath"])
def test_the_planted_pathways_are_among_the_first_five(planted: Planted, model: str) -> None:
    job = planted.trained(model, epochs=7, learning_rate=1e-3)
    learned(planted, model)
    ranking, complete = pathway_attribution([job], planted.out, CPU, steps=32)
    truth = json.loads((planted.root.cohort("stad").path / "truth.json").read_text())
    (name,) = truth["prognostic"]
    own = truth["programmes"][name]["pathways"]
    assert len(ranking.table) == 26
    assert set(own) <= set(ranking.table.index[:5])
    assert (ranking.table.loc[own, "direction"] > 0.3).all()
    assert complete.gap < 0.05
