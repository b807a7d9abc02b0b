"""What the sanity rows share: numbers of each patient, standardized on the training split, and a fit without epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from survbench.model import Estimation, Modalities, Prediction, Sample, SurvivalModel

__all__ = ["EstimatedModel"]


class EstimatedModel(SurvivalModel):
    """Base: `describe` computes each patient's numbers, `fit` learns from those of the training patients.

    What is learned are buffers, whose sizes depend on the data; they are saved and loaded like weights.
    Missing numbers become the training mean, and a column that never varies becomes 0.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.keep(mean=np.zeros(1), scale=np.ones(1))

    def keep(self, **state: np.ndarray) -> None:
        """Keep arrays as float64 buffers."""
        for name, values in state.items():
            self.register_buffer(name, torch.from_numpy(np.array(values, np.float64, order="C")))

    def describe(self, batch: Batch) -> Tensor:
        """(B, columns) of numbers; NaN where unknown."""
        raise NotImplementedError(f"{type(self).__name__} does not define describe(batch)")

    def fit(self, train: Sample, val: Sample, seed: int) -> None:
        """Learn from standardized numbers; the validation sample is for choosing."""
        raise NotImplementedError(f"{type(self).__name__} does not define fit(train, val, seed)")

    def risk(self, values: Tensor) -> Tensor:
        """Standardized numbers (B, columns) float64 -> log hazard (B,)."""
        raise NotImplementedError(f"{type(self).__name__} does not define risk(values)")

    def forward(self, batch: Batch) -> Prediction:
        """Log hazard ratio of each patient (B, 1)."""
        values = (self.describe(batch).double() - self.mean) / self.scale
        return Prediction(self.risk(torch.nan_to_num(values, nan=0.0)).unsqueeze(1))

    def stages(self, train_inputs: Modalities, inference_inputs: Modalities) -> Sequence[Estimation]:
        """One estimation."""
        return [
            Estimation(
                name="fit",
                trained=self,
                inputs=train_inputs,
                predict=self,
                summarize=self.describe,
                estimate=self._estimate,
            )
        ]

    def _estimate(self, train: Sample, val: Sample, seed: int) -> None:
        present = np.isfinite(train.values)
        count = np.maximum(present.sum(0), 1)
        mean = np.where(present, train.values, 0).sum(0) / count
        spread = np.sqrt(np.where(present, np.square(train.values - mean), 0).sum(0) / count)
        self.keep(mean=mean, scale=np.where(spread > 1e-9, spread, np.inf))  # dividing by infinity: a column of 0

        def ready(sample: Sample) -> Sample:
            return Sample(np.nan_to_num((sample.values - mean) / self.scale.numpy()), sample.time, sample.event)

        self.fit(ready(train), ready(val), seed)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name, values in state_dict.items():
            if name.startswith(prefix):
                self.register_buffer(name.removeprefix(prefix), values.clone())
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
