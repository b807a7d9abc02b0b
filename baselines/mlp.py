"""MLP on expression: two ReLU layers (the comparison of SurvPath, CVPR 2024, arXiv 2304.06819)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import nn
from torch_geometric.data import Batch

from baselines.encoders import Encoded, EncoderModel
from baselines.layers import relu_layers
from survbench.model import Inputs

__all__ = ["MLP"]


class MLP(EncoderModel):
    """expression (B, genes) -> [linear, ReLU, dropout] twice -> logits (B, outputs).

    Parameters
    ----------
    width : of both layers: 256 is the official class's default, 32 what its published figures were run with.
    dropout : rate behind each layer.
    """

    official_names: ClassVar[Mapping[str, str]] = {
        "net.": "net.",
        "to_logits.0.": "head.",
    }  # SurvPath repository

    def __init__(self, inputs: Inputs, outputs: int, *, width: int = 256, dropout: float = 0.25) -> None:
        super().__init__(width, outputs)
        self.net = nn.Sequential(*relu_layers(dropout, len(inputs.genes), width, width))

    def encode(self, batch: Batch) -> Encoded:
        """Expression only."""
        return Encoded(self.net(batch.expression))
