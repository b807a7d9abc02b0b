"""The null model: everybody has the same risk. Its C-index is 0.5, its survival curve the training patients' own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch_geometric.data import Batch

from survbench.model import Estimation, Inputs, Modalities, Prediction, SurvivalModel

__all__ = ["Null"]


class Null(SurvivalModel):
    """Log hazard ratio 0 for every patient; sees nothing."""

    def __init__(self, inputs: Inputs, outputs: int) -> None:
        super().__init__()

    def forward(self, batch: Batch) -> Prediction:
        """Zeros (B, 1)."""
        return Prediction(torch.zeros(batch.num_graphs, 1))

    def stages(self, train_inputs: Modalities, inference_inputs: Modalities) -> Sequence[Estimation]:
        """Nothing to learn."""
        return [
            Estimation(
                name="fit",
                trained=self,
                inputs=(),
                predict=self,
                summarize=lambda batch: torch.zeros(batch.num_graphs, 0),
                estimate=lambda train, val, seed: None,
            )
        ]
