"""Penalized Cox regression (scikit-survival) on clinical data, on pathway scores, and on mean-pooled slides."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch
from torch_geometric.utils import segment

from baselines.pathways import needs_sets
from baselines.sanity.estimated import EstimatedModel
from survbench.model import Inputs, Sample

__all__ = ["ClinicalCox", "MeanPoolCox", "PathwayCox", "pathway_scores"]


class _Penalized(EstimatedModel):
    """Elastic net along its path of penalties; the validation split's partial likelihood chooses the penalty.

    Parameters
    ----------
    l1_ratio : share of the lasso's penalty; the rest is ridge.
    """

    weights: Tensor

    def __init__(self, columns: int, l1_ratio: float) -> None:
        super().__init__()
        self.l1_ratio = l1_ratio
        self.keep(weights=np.zeros(columns))

    def fit(self, train: Sample, val: Sample, seed: int) -> None:
        path = _coefficients(train, self.l1_ratio)
        losses = [_partial_likelihood(risk, val.time, val.event) for risk in (val.values @ path).T]
        self.keep(weights=path[:, int(np.argmin(losses))])

    def risk(self, values: Tensor) -> Tensor:
        return (values @ self.weights.unsqueeze(1)).squeeze(1)


class ClinicalCox(_Penalized):
    """Age, sex, stage and grade, as far as the cohort has them; ridge."""

    def __init__(self, inputs: Inputs, outputs: int, *, l1_ratio: float = 0.01) -> None:
        super().__init__(len(inputs.clinical), l1_ratio)

    def describe(self, batch: Batch) -> Tensor:
        return batch.clinical


class PathwayCox(_Penalized):
    """Pathway scores, a score being the mean of a pathway's standardized genes; elastic net."""

    def __init__(self, inputs: Inputs, outputs: int, *, l1_ratio: float = 0.5) -> None:
        super().__init__(len(inputs.pathways), l1_ratio)
        needs_sets(self, inputs)
        self.register_buffer("membership", pathway_scores(inputs), persistent=False)

    def describe(self, batch: Batch) -> Tensor:
        return batch.expression @ self.get_buffer("membership").to(batch.expression.dtype)


class MeanPoolCox(_Penalized):
    """Mean of each patient's patches, its first principal components over the training patients; ridge.

    Parameters
    ----------
    components : at most; fewer where there are fewer training patients.
    """

    directions: Tensor

    def __init__(self, inputs: Inputs, outputs: int, *, components: int = 32, l1_ratio: float = 0.01) -> None:
        super().__init__(1, l1_ratio)
        self.components = components
        self.keep(directions=np.zeros((inputs.feature_width, 1)))

    def describe(self, batch: Batch) -> Tensor:
        return segment(batch.x, batch.ptr, reduce="mean")

    def fit(self, train: Sample, val: Sample, seed: int) -> None:
        _, size, right = np.linalg.svd(train.values, full_matrices=False)
        count = min(self.components, int((size > 1e-6 * max(size.max(initial=0.0), 1e-12)).sum()))
        directions = right[:count].T * np.sqrt(len(train.values)) / size[:count]  # components of unit variance
        self.keep(directions=directions)
        projected = [Sample(s.values @ directions, s.time, s.event) for s in (train, val)]
        super().fit(projected[0], projected[1], seed)

    def risk(self, values: Tensor) -> Tensor:
        return super().risk(values @ self.directions)


def pathway_scores(inputs: Inputs) -> Tensor:
    """(genes, pathways): expression times this is the mean over each pathway's genes."""
    matrix = torch.zeros(len(inputs.genes), len(inputs.pathways))
    for i, genes in enumerate(inputs.pathways.values()):
        matrix[list(genes), i] = 1 / len(genes)
    return matrix


def _coefficients(sample: Sample, l1_ratio: float) -> np.ndarray:
    """(columns, penalties), from the strongest penalty, which leaves nothing, to the weakest."""
    from sksurv.linear_model import CoxnetSurvivalAnalysis
    from sksurv.util import Surv

    columns = sample.values.shape[1]
    if columns == 0:
        return np.zeros((0, 1))
    outcome = Surv.from_arrays(sample.event, sample.time)
    model = CoxnetSurvivalAnalysis(l1_ratio=l1_ratio, alpha_min_ratio=0.01, max_iter=100_000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the path's end may not converge; validation decides how far it is used
        try:
            path = model.fit(sample.values, outcome).coef_
        except (ArithmeticError, ValueError):  # no column varies, so there is no path
            path = np.zeros((columns, 1))
    return np.concatenate([np.zeros((columns, 1)), path[:, np.isfinite(path).all(0)]], axis=1)


def _partial_likelihood(risk: np.ndarray, time: np.ndarray, event: np.ndarray) -> float:
    """Breslow's negative log partial likelihood per death."""
    order = np.argsort(-time, kind="stable")
    risk, time, event = risk[order], time[order], event[order]
    last = np.searchsorted(-time, -time, side="right") - 1  # everybody with at least this time
    at_risk = np.logaddexp.accumulate(risk)[last]
    return float((at_risk - risk)[event].mean())
