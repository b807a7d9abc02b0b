"""What the SurvPath repository calls TransMIL, and what published comparisons of survival models were run with.

One Nystrom attention without residual, norm, class token or position block: a variant, not TransMIL (transmil.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import nn
from torch_geometric.data import Batch

from baselines.encoders import Encoded, EncoderModel
from baselines.kernels.nystrom import NystromAttention
from baselines.layers import relu_layers
from survbench.model import Inputs

__all__ = ["TransMILSurvPath"]


class TransMILSurvPath(EncoderModel):
    """x -> ReLU projection -> Nystrom attention -> mean over patches -> logits (B, outputs).

    Parameters
    ----------
    width : of the projected patches.
    heads : of the attention.
    head_width : of queries, keys and values.
    landmarks : of the attention, see `NystromAttention`.
    dropout : rate behind the projection.
    """

    order_matters = "landmarks are means of neighbouring rows"
    official_names: ClassVar[Mapping[str, str]] = {
        "fc.0.": "project.0.",
        "nystrom.to_qkv.": "attention.to_qkv.",
        "nystrom.to_out.0.": "attention.to_out.0.",
        "classifier.": "head.",
    }  # SurvPath repository

    def __init__(
        self,
        inputs: Inputs,
        outputs: int,
        *,
        width: int = 256,
        heads: int = 1,
        head_width: int = 128,
        landmarks: int = 256,
        dropout: float = 0.25,
    ) -> None:
        super().__init__(width, outputs)
        self.project = nn.Sequential(*relu_layers(dropout, inputs.feature_width, width))
        self.attention = NystromAttention(width, heads, head_width, landmarks=landmarks)

    def encode(self, batch: Batch) -> Encoded:
        """Slides only: `x`, `sizes`, `ptr`."""
        return Encoded(self.attention.mean(self.project(batch.x), batch.sizes))
