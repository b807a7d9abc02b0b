"""Random survival forest (Ishwaran et al. 2008; scikit-survival) on pathway scores.

Trees are kept as arrays, so that a result needs no pickle to be read again.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from baselines.pathways import needs_sets
from baselines.sanity.cox import pathway_scores
from baselines.sanity.estimated import EstimatedModel
from survbench.model import Inputs, Sample

__all__ = ["PathwayForest"]


class PathwayForest(EstimatedModel):
    """Log of the expected number of deaths, were everybody like this patient.

    That is used as a log hazard, so survival curves have Breslow's baseline; ranks are the forest's own.

    Parameters
    ----------
    trees : of the forest.
    leaf : training patients in a leaf, at least.
    """

    left: Tensor
    right: Tensor
    column: Tensor
    threshold: Tensor
    deaths: Tensor

    def __init__(self, inputs: Inputs, outputs: int, *, trees: int = 200, leaf: int = 15) -> None:
        super().__init__()
        needs_sets(self, inputs)
        self.trees, self.leaf = trees, leaf
        self.register_buffer("membership", pathway_scores(inputs), persistent=False)
        self.keep(**{name: np.full((1, 1), -1.0) for name in ("left", "right", "column", "threshold", "deaths")})

    def describe(self, batch: Batch) -> Tensor:
        return batch.expression @ self.get_buffer("membership").to(batch.expression.dtype)

    def fit(self, train: Sample, val: Sample, seed: int) -> None:
        from sksurv.ensemble import RandomSurvivalForest
        from sksurv.util import Surv

        forest = RandomSurvivalForest(self.trees, min_samples_leaf=self.leaf, random_state=seed, n_jobs=1)
        forest.fit(train.values, Surv.from_arrays(train.event, train.time))
        trees = [estimator.tree_ for estimator in forest.estimators_]
        nodes = max(tree.node_count for tree in trees)

        def stacked(values: list[np.ndarray]) -> np.ndarray:
            return np.stack([np.pad(v, (0, nodes - len(v)), constant_values=-1) for v in values])

        died = forest.is_event_time_
        self.keep(
            left=stacked([tree.children_left for tree in trees]),
            right=stacked([tree.children_right for tree in trees]),
            column=stacked([tree.feature for tree in trees]),
            threshold=stacked([tree.threshold for tree in trees]),
            deaths=stacked([tree.value[:, died, 0].sum(1) for tree in trees]),
        )

    def risk(self, values: Tensor) -> Tensor:
        """All patients go down all trees at once, a level at a time."""
        left, right, column = (t.long() for t in (self.left, self.right, self.column))
        values = values.float().double()  # trees were grown on single precision
        tree = torch.arange(len(left), device=values.device).unsqueeze(0)
        node = torch.zeros(len(values), len(left), dtype=torch.long, device=values.device)
        while (inner := left[tree, node] >= 0).any():
            goes_left = values.gather(1, column[tree, node].clamp(min=0)) <= self.threshold[tree, node]
            node = torch.where(inner, torch.where(goes_left, left[tree, node], right[tree, node]), node)
        return self.deaths[tree, node].mean(1).clamp(min=1e-6).log()
