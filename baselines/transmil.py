"""TransMIL (Shao et al., NeurIPS 2021, arXiv 2106.00908), the official network.

Patches keep their stored order: the position block lays them out as a square image, so their order matters, as in
the official code. What the SurvPath repository calls TransMIL is another network: transmil_survpath.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from baselines.encoders import Encoded, EncoderModel
from baselines.kernels.nystrom import NystromAttention
from baselines.kernels.squares import add_convolutions, class_tokens, squared
from survbench.model import Inputs

__all__ = ["TransMIL"]


class TransMIL(EncoderModel):
    """x -> ReLU projection -> [class token, patches, first patches again to a square] -> Nystrom attention -> position
    block -> Nystrom attention -> class token -> logits (B, outputs).

    Parameters
    ----------
    width : of the rows.
    heads : of the attention.
    landmarks : of the attention, see `NystromAttention`.
    kernel : taps of the convolution of the attention's values.
    dropout : rate behind the attention.
    """

    order_matters = (
        "the position block lays patches out as a square image, and landmarks are means of neighbouring rows"
    )
    official_names: ClassVar[Mapping[str, str]] = {
        "_fc1.0.": "project.0.",
        "cls_token": "token",
        "layer1.norm.": "first.norm.",
        "layer1.attn.to_qkv.": "first.attention.to_qkv.",
        "layer1.attn.to_out.0.": "first.attention.to_out.0.",
        "layer1.attn.res_conv.": "first.attention.value_conv.",
        "pos_layer.proj.": "position.convolutions.0.",
        "pos_layer.proj1.": "position.convolutions.1.",
        "pos_layer.proj2.": "position.convolutions.2.",
        "layer2.norm.": "second.norm.",
        "layer2.attn.to_qkv.": "second.attention.to_qkv.",
        "layer2.attn.to_out.0.": "second.attention.to_out.0.",
        "layer2.attn.res_conv.": "second.attention.value_conv.",
        "norm.": "norm.",
        "_fc2.": "head.",
    }

    def __init__(
        self,
        inputs: Inputs,
        outputs: int,
        *,
        width: int = 512,
        heads: int = 8,
        landmarks: int = 256,
        kernel: int = 33,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(width, outputs)
        self.project = nn.Sequential(nn.Linear(inputs.feature_width, width), nn.ReLU())
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.first = _Layer(width, heads, landmarks, kernel, dropout)
        self.position = _PositionBlock(width)
        self.second = _Layer(width, heads, landmarks, kernel, dropout)
        self.norm = nn.LayerNorm(width)

    def encode(self, batch: Batch) -> Encoded:
        """Slides only: `x`, `sizes`."""
        sides = [math.ceil(math.sqrt(size)) for size in batch.sizes]
        sizes = [1 + side * side for side in sides]
        rows = squared(self.token, self.project(batch.x), batch.sizes, sides)
        rows = self.position(self.first(rows, sizes), sides)
        return Encoded(self.norm(self.second.class_rows(rows, sizes)))


class _Layer(nn.Module):
    """h + attention(norm(h))."""

    def __init__(self, width: int, heads: int, landmarks: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = NystromAttention(
            width, heads, width // heads, landmarks=landmarks, kernel=kernel, dropout=dropout
        )

    def forward(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        """(rows, width) of bags of these sizes -> the same shape."""
        return rows + self.attention(self.norm(rows), sizes)

    def class_rows(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        """What `forward` gives the class tokens, all that is used of the last layer: (rows, width) -> (bags, width)."""
        return class_tokens(rows, sizes) + self.attention.first(self.norm(rows), sizes)


class _PositionBlock(nn.Module):
    """Depthwise convolutions of three sizes over the patches as a square image; the class token passes by (PPEG).

    image -> image + conv7(image) + conv5(image) + conv3(image)
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, width, size, padding=size // 2, groups=width) for size in (7, 5, 3)
        )

    def forward(self, rows: Tensor, sides: Sequence[int]) -> Tensor:
        return add_convolutions(rows, sides, self.convolutions)
