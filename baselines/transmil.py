"""TransMIL (Shao et al., NeurIPS 2021, arXiv 2106.00908), the official network.

Patches are taken in stored order: the position block lays them out as a square image, so their order matters, as in
the official code. What the SurvPath repository calls TransMIL is another network: transmil_survpath.py.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Batch

from baselines import ragged
from baselines.convolutions import convolve_square
from baselines.encoders import Encoded, EncoderModel
from baselines.nystrom import NystromAttention
from baselines.ragged import in_lines, laid, taken
from survbench.batch import ranges, starts
from survbench.model import Inputs

__all__ = ["TransMIL"]


class TransMIL(EncoderModel):
    """x -> ReLU projection -> [class token, patches, first patches again to a square] -> Nystrom attention -> position
    block -> Nystrom attention -> class token -> logits (B, outputs).

    Parameters
    ----------
    width : of the rows. heads, landmarks, kernel : of the attention.
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
        rows = _squares(self.token, self.project(batch.x), batch.sizes, sides)
        sizes = [1 + side * side for side in sides]
        rows = self.position(self.first(rows, sizes), sides)
        return Encoded(self.norm(self.second.class_rows(rows, sizes)))


def _squares(token: Tensor, rows: Tensor, sizes: Sequence[int], sides: Sequence[int]) -> Tensor:
    """Of each bag the token, its rows, and its first rows again up to the square of its side.

    token : (1, 1, width). rows : (rows, width).
    """
    if not ragged.together(rows):
        bags = zip(rows.split(list(sizes)), sides, strict=True)
        return torch.cat([part for bag, side in bags for part in (token[0], bag, bag[: side * side - len(bag)])])
    missing = tuple(side * side - size for side, size in zip(sides, sizes, strict=True))
    again = taken(rows, ranges(starts(sizes), missing, rows.device))
    parts = torch.cat([token[0].expand(len(sizes), -1), rows, again])
    lengths = ((1,) * len(sizes), tuple(sizes), missing)
    begin = starts([sum(own) for own in zip(*lengths, strict=True)])
    places = []
    for length in lengths:  # all tokens, all rows, all rows that come again
        places.append(ranges(begin, length, rows.device))
        begin = tuple(map(operator.add, begin, length))
    return laid(parts, torch.cat(places), len(parts))


class _Layer(nn.Module):
    """h + attention(norm(h))."""

    def __init__(self, width: int, heads: int, landmarks: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = NystromAttention(
            width, heads, width // heads, landmarks=landmarks, kernel=kernel, dropout=dropout
        )

    def forward(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        return rows + self.attention(self.norm(rows), sizes)

    def class_rows(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        """Of the last layer nothing but the class tokens is used: (rows, width) -> (bags, width)."""
        if ragged.together(rows):
            first = taken(rows, ranges(starts(sizes), (1,) * len(sizes), rows.device))
        else:  # another order of sums in the gradient of the token, on which the figures of a CPU rest
            first = torch.stack([bag[0] for bag in rows.split(list(sizes))])
        return first + self.attention.first(self.norm(rows), sizes)


class _PositionBlock(nn.Module):
    """Depthwise convolutions of three sizes over the patches as a square image; the class token passes by (PPEG)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, width, size, padding=size // 2, groups=width) for size in (7, 5, 3)
        )

    def forward(self, rows: Tensor, sides: Sequence[int]) -> Tensor:
        """Rows of several bags, each a class token and a square."""
        convolved = self._together if ragged.together(rows) else self._side_by_side
        return convolved(rows, sides, *self._one_for_all())

    def _side_by_side(self, rows: Tensor, sides: Sequence[int], kernel: Tensor, bias: Tensor) -> Tensor:
        """Squares of the same side are one stack of images."""
        bags = list(rows.split([1 + side * side for side in sides]))
        for side in set(sides):
            same = [i for i, other in enumerate(sides) if other == side]
            images = convolve_square(torch.stack([bags[i][1:] for i in same]), kernel, bias, side)
            for i, image in zip(same, images, strict=True):
                bags[i] = torch.cat([bags[i][:1], image])
        return torch.cat(bags)

    def _together(self, rows: Tensor, sides: Sequence[int], kernel: Tensor, bias: Tensor) -> Tensor:
        """All squares are one stack of images of the largest side. A line above each has its token as its last."""
        side, line = max(sides), tuple(sides)
        sizes, before = tuple(1 + own * own for own in sides), tuple(own - 1 for own in sides)
        places = in_lines(sizes, before, line, 1 + side, rows.device)
        padded = laid(rows, places, len(sides) * (1 + side) * side).unflatten(0, (len(sides), -1))
        images = convolve_square(padded[:, side:], kernel, bias, side)
        return taken(torch.cat([padded[:, :side], images], dim=1).flatten(0, 1), places)

    def _one_for_all(self) -> tuple[Tensor, Tensor]:
        """The sum of the convolutions and of the image itself is one convolution: kernel (width, 1, 7, 7), bias."""
        every = [own for own in self.convolutions if isinstance(own, nn.Conv2d)]
        largest = max(own.kernel_size[0] for own in every)
        kernels = [F.pad(own.weight, [(largest - own.kernel_size[0]) // 2] * 4) for own in every]
        itself = torch.zeros_like(kernels[0])
        itself[:, :, largest // 2, largest // 2] = 1
        biases = [own.bias for own in every if own.bias is not None]
        return torch.stack([itself, *kernels]).sum(0), torch.stack(biases).sum(0)
