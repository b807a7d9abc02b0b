"""ABMIL: attention-based multiple instance learning (Ilse, Tomczak, Welling, ICML 2018, arXiv 1802.04712).

Survival form and sizes of SurvPath's comparison (CVPR 2024, arXiv 2304.06819): gated attention over projected patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import nn
from torch_geometric.data import Batch

from baselines.encoders import Encoded, EncoderModel
from baselines.layers import GatedAttention, relu_layers
from survbench.model import Inputs

__all__ = ["ABMIL"]


class ABMIL(EncoderModel):
    """x (patches, features) -> ReLU projection -> gated attention pooling -> ReLU layer -> logits (B, outputs).

    Parameters
    ----------
    width : of the projected patches (MCAT's version: 512).
    attention : hidden width of the gate.
    bag_width : of the layer after pooling.
    dropout : rate behind each layer.
    """

    official_names: ClassVar[Mapping[str, str]] = {
        "attention_net.0.": "project.0.",
        "attention_net.3.attention_a.0.": "attention.value.",
        "attention_net.3.attention_b.0.": "attention.gate.",
        "attention_net.3.attention_c.": "attention.score.",
        "rho.0.": "rho.0.",
        "classifier.": "head.",
    }  # SurvPath and MCAT repositories

    def __init__(
        self,
        inputs: Inputs,
        outputs: int,
        *,
        width: int = 256,
        attention: int = 256,
        bag_width: int = 256,
        dropout: float = 0.25,
    ) -> None:
        super().__init__(bag_width, outputs)
        self.project = nn.Sequential(*relu_layers(dropout, inputs.feature_width, width))
        self.attention = GatedAttention(width, attention, dropout)
        self.rho = nn.Sequential(*relu_layers(dropout, width, bag_width))

    def encode(self, batch: Batch) -> Encoded:
        """Slides only: `x`, `ptr`."""
        pooled, weights = self.attention(self.project(batch.x), batch.ptr)
        return Encoded(self.rho(pooled), weights)
