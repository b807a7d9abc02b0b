"""DSMIL: dual-stream multiple instance learning (Li, Li, Eliceiri, CVPR 2021, arXiv 2011.08939).

For survival one instance score chooses the critical patch (the official code has one per class, which for the four
intervals of a discrete-time head would pick four patches; that form is `literal`, for parity).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from baselines.encoders import Encoded, EncoderModel
from baselines.kernels.bags import first_maximum, own_products, pool_bags, softmax_bags
from baselines.layers import Dropout
from survbench.model import Inputs, Losses, Objective, Prediction, rename_state

__all__ = ["DSMIL"]


class DSMIL(EncoderModel):
    """Instance logits choose each bag's critical patch; patches are weighted by the similarity of their queries to its.

    Without the instance loss nothing would teach the choice: total = (1 - instance) bag + instance critical patch.

    Parameters
    ----------
    query : width of the queries.
    deep_query : two layers and tanh instead of one linear layer.
    projected_values : ReLU layer on what is averaged, instead of the raw patches.
    instance : share of the critical patch's loss.
    literal : a critical patch for every output, as in the official code.
    averaged : predict the mean of the bag's and the critical patch's logits, as the official evaluation may.
    dropout : rate before `projected_values`.
    """

    official_names: ClassVar[Mapping[str, str]] = {
        "i_classifier.fc.0.": "instances.",
        "b_classifier.q.": "query.",
        "b_classifier.v.1.": "value.1.",
        "b_classifier.fcc.": "head.",
    }

    def __init__(
        self,
        inputs: Inputs,
        outputs: int,
        *,
        query: int = 128,
        deep_query: bool = True,
        projected_values: bool = False,
        instance: float = 0.5,
        literal: bool = False,
        averaged: bool = False,
        dropout: float = 0.0,
    ) -> None:
        width = inputs.feature_width
        super().__init__(width * (outputs if literal else 1), outputs)
        self.instance, self.literal, self.averaged = instance, literal, averaged
        self.instances = nn.Linear(width, outputs)
        self.query: nn.Module = nn.Linear(width, query)
        if deep_query:
            self.query = nn.Sequential(nn.Linear(width, query), nn.ReLU(), nn.Linear(query, query), nn.Tanh())
        self.value = (
            nn.Sequential(Dropout(dropout), nn.Linear(width, width), nn.ReLU()) if projected_values else nn.Identity()
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.orthogonal_(module.weight)
                nn.init.zeros_(module.bias)

    def encode(self, batch: Batch) -> Encoded:
        """Slides only: `x`, `ptr`, `batch`."""
        with torch.no_grad():  # a choice has no gradient
            logits = self.instances(batch.x)
            # the mean over outputs ranks patches: one output is the logit, of four it is the average log odds of death
            scores = logits if self.literal else logits.mean(1, keepdim=True)
            critical = first_maximum(scores, batch.ptr, batch.batch)
        query = self.query(batch.x)
        similarity = own_products(query, query[critical] * query.shape[1] ** -0.5, batch.sizes, batch.batch)
        weights = softmax_bags(similarity, batch.ptr)
        values = self.value(batch.x)
        pooled = torch.cat([pool_bags(own, values, batch.ptr) for own in weights.T], dim=1)
        attention = weights.mean(1)
        return Encoded(pooled, attention, {"critical": self.instances(batch.x[critical[:, 0]]), "attention": attention})

    def forward(self, batch: Batch) -> Prediction:
        """The bag's logits (B, outputs)."""
        prediction = super().forward(batch)
        if self.averaged and not self.training:
            prediction.logits = (prediction.logits + prediction.aux["critical"]) / 2
        return prediction

    def with_own_terms(self, survival: Tensor, aux: Mapping[str, Any], batch: Batch, objective: Objective) -> Losses:
        """The objective of the bag and that of its critical patch.

        `entropy` is recorded only: 1 means uniform attention, a well-known failure of DSMIL.
        """
        critical = objective.loss(aux["critical"], batch.time, batch.event)
        total = (1 - self.instance) * survival + self.instance * critical
        entropy = _relative_entropy(aux["attention"].detach(), batch.ptr)
        return {"total": total, "bag": survival, "critical": critical, "entropy": entropy}

    def official_state(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The official bag classifier is a convolution whose kernel is as wide as the features: a linear layer."""
        flat = {k: v.flatten(1) if k.endswith("fcc.weight") else v for k, v in weights.items()}
        return rename_state(flat, self.official_names)


def _relative_entropy(weights: Tensor, ptr: Tensor) -> Tensor:
    """Mean over bags of attention's entropy, relative to that of uniform attention."""
    entropy = pool_bags(-torch.xlogy(weights, weights), torch.ones_like(weights).unsqueeze(1), ptr).squeeze(1)
    return (entropy / ptr.diff().clamp(min=2).log()).mean()
