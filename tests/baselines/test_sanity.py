"""The sanity rows against scikit-survival itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sksurv.ensemble import RandomSurvivalForest
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

from baselines.sanity.cox import ClinicalCox, MeanPoolCox, PathwayCox, pathway_scores
from baselines.sanity.estimated import EstimatedModel
from baselines.sanity.forest import PathwayForest
from support.builders import inputs, split
from survbench.cards import Modality
from survbench.data.batches import Split
from survbench.training.fit import fit
from survbench.training.objectives import Cox
from survbench.training.settings import Settings
from survbench.training.steps import predict_logits

CPU = torch.device("cpu")
SETTINGS = Settings(epochs=1, patience=1, batch_size=8, learning_rate=1e-3, weight_decay=0.0, patches=8)


def fitted(model: EstimatedModel, granted: Modality, train: Split, val: Split, scratch: Path) -> EstimatedModel:
    stages = model.stages((granted,), (granted,))
    fit(model, stages, Cox(), train, val, SETTINGS, seed=(0, 0), device=CPU, scratch=scratch)
    return model


def standardized(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    return (values - np.nanmean(like, 0)) / np.nanstd(like, 0)


def test_clinical_cox_with_hardly_any_penalty_is_cox(tmp_path: Path) -> None:
    train, val = split(120, seed=1, signal=0.5), split(60, seed=2, signal=0.5)
    model = fitted(ClinicalCox(inputs(), 1), Modality.CLINICAL, train, val, tmp_path)
    assert train.clinical is not None
    x = np.nan_to_num(standardized(train.clinical, train.clinical))
    reference = CoxPHSurvivalAnalysis(ties="breslow").fit(x, Surv.from_arrays(train.event, train.time))
    # chosen on validation, so shrunken by an unknown amount, but in the same direction
    ours = model.get_buffer("weights").numpy()
    assert ours @ reference.coef_ / np.linalg.norm(ours) / np.linalg.norm(reference.coef_) > 0.97


def test_unknown_values_are_the_training_mean(tmp_path: Path) -> None:
    train, val = split(80, seed=1, signal=1.0), split(40, seed=2, signal=1.0)
    model = fitted(ClinicalCox(inputs(), 1), Modality.CLINICAL, train, val, tmp_path)
    batch = train.batch(np.arange(2), [Modality.CLINICAL], labels=False)
    batch.clinical = torch.tensor([[np.nan, 0.0, 1.0], [0.0, 0.0, 1.0]])
    assert train.clinical is not None
    batch.clinical[1, 0] = float(np.nanmean(train.clinical[:, 0].astype(np.float64)))
    first, second = model(batch).logits
    assert first.item() == pytest.approx(second.item(), abs=1e-6)


def test_the_forest_as_arrays_equals_scikit_survivals(tmp_path: Path) -> None:
    train, val = split(100, seed=1, signal=1.0), split(40, seed=2, signal=1.0)
    model = fitted(PathwayForest(inputs(), 1, trees=20), Modality.EXPRESSION, train, val, tmp_path / "a")
    scores = pathway_scores(inputs()).numpy()
    assert train.expression is not None
    assert val.expression is not None
    # the summary is stored in single precision products, so the reference is grown from the same numbers
    columns = (torch.from_numpy(train.expression) @ torch.from_numpy(scores)).double().numpy()
    seed = int(np.random.default_rng(np.random.SeedSequence((0, 0, 0))).integers(2**31))
    forest = RandomSurvivalForest(20, min_samples_leaf=15, random_state=seed)
    forest.fit(standardized(columns, columns), Surv.from_arrays(train.event, train.time))
    other = (torch.from_numpy(val.expression) @ torch.from_numpy(scores)).double().numpy()
    expected = forest.predict(standardized(other, columns))
    ours = predict_logits(model, val, [Modality.EXPRESSION], CPU)[:, 0].exp().numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("build", "granted"),
    [
        (ClinicalCox, Modality.CLINICAL),
        (PathwayCox, Modality.EXPRESSION),
        (MeanPoolCox, Modality.SLIDES),
        (PathwayForest, Modality.EXPRESSION),
    ],
)
def test_what_was_fitted_is_saved_whatever_its_size(
    build: type[EstimatedModel], granted: Modality, tmp_path: Path
) -> None:
    train, val = split(60, seed=1, signal=1.0), split(30, seed=2, signal=1.0)
    model = fitted(build(inputs(), 1), granted, train, val, tmp_path)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = build(inputs(), 1)
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(*(predict_logits(m, val, [granted], CPU) for m in (model, other)))


def test_nothing_is_fitted_on_validation(tmp_path: Path) -> None:
    train, val = split(60, seed=1, signal=1.0), split(30, seed=2, signal=1.0)
    moved = split(30, seed=2, signal=1.0)
    assert moved.clinical is not None
    moved.clinical[:] += 5
    states = [
        fitted(ClinicalCox(inputs(), 1), Modality.CLINICAL, train, other, tmp_path / name).state_dict()
        for name, other in (("a", val), ("b", moved))
    ]
    assert torch.equal(states[0]["mean"], states[1]["mean"])
    assert torch.equal(states[0]["scale"], states[1]["scale"])


def test_columns_that_never_vary_count_for_nothing(tmp_path: Path) -> None:
    train, val = split(60, seed=1), split(30, seed=2)
    for part in (train, val):
        assert part.clinical is not None
        part.clinical[:] = 1.0
    model = fitted(ClinicalCox(inputs(), 1), Modality.CLINICAL, train, val, tmp_path)
    assert (predict_logits(model, val, [Modality.CLINICAL], CPU) == 0).all()
