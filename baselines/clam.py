"""CLAM with a single branch (Lu et al., Nature Biomedical Engineering 2021, arXiv 2004.09666), put to survival.

A reconstruction in one respect: CLAM's instance loss sorts patches by the slide's class, which survival does not have.
Ours separates the most attended patches of a bag from the least attended ones, whatever the outcome.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Batch

from baselines.encoders import Encoded, EncoderModel
from baselines.layers import GatedAttention, relu_layers
from survbench.model import Inputs, Losses, Objective

__all__ = ["CLAM"]


class CLAM(EncoderModel):
    """x -> ReLU projection -> gated attention pooling -> logits (B, outputs).

    Parameters
    ----------
    width : of the projected patches (CLAM's `small`: 512).
    attention : hidden width of the gate (CLAM's `small`: 256).
    examples : patches from either end of a bag's attention.
    instance : share of the instance loss (CLAM: 0.3).
    dropout : rate behind projection and gate.
    """

    def __init__(
        self,
        inputs: Inputs,
        outputs: int,
        *,
        width: int = 512,
        attention: int = 256,
        examples: int = 8,
        instance: float = 0.3,
        dropout: float = 0.25,
    ) -> None:
        super().__init__(width, outputs)
        self.examples, self.instance = examples, instance
        self.project = nn.Sequential(*relu_layers(dropout, inputs.feature_width, width))
        self.attention = GatedAttention(width, attention, dropout)
        self.instances = nn.Linear(width, 2)

    def encode(self, batch: Batch) -> Encoded:
        """Slides only: `x`, `ptr`, `sizes`."""
        rows = self.project(batch.x)
        pooled, weights = self.attention(rows, batch.ptr)
        return Encoded(pooled, weights, {"rows": rows, "weights": weights})

    def with_own_terms(self, survival: Tensor, aux: Mapping[str, Any], batch: Batch, objective: Objective) -> Losses:
        """The objective, and cross-entropy over the ends of each bag's attention; small bags give fewer examples."""
        bags = zip(aux["rows"].split(list(batch.sizes)), aux["weights"].split(list(batch.sizes)), strict=True)
        examples, labels = [], []
        for rows, weights in bags:
            order = weights.detach().argsort(descending=True)
            count = min(self.examples, len(order) // 2)
            examples += [rows[order[:count]], rows[order[len(order) - count :]]]
            labels += [1] * count + [0] * count
        if not labels:
            return {"total": (1 - self.instance) * survival + 0 * self.instances.weight.sum(), "bag": survival}
        target = torch.tensor(labels, device=survival.device)
        instance = F.cross_entropy(self.instances(torch.cat(examples)), target)
        return {
            "total": (1 - self.instance) * survival + self.instance * instance,
            "bag": survival,
            "instance": instance,
        }
