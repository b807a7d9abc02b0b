"""Bags as TransMIL's images: of each bag a class token, then its rows as a square, filled up with its first rows.

`sides` are the sides of the squares; a bag has 1 + side x side rows.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.kernels.convolutions import convolve_square
from baselines.kernels.ragged import all_at_once, first_rows, gather_rows, line_places, scatter_rows
from survbench.batch import ranges, starts

__all__ = ["add_convolutions", "class_tokens", "squared"]


def squared(token: Tensor, rows: Tensor, sizes: Sequence[int], sides: Sequence[int]) -> Tensor:
    """Of each bag the token, its rows, and its first rows again until the square is full.

    Parameters
    ----------
    token : (1, 1, width), the same for all bags.
    rows : (rows, width) of bags one after another.
    sizes : rows of each bag.
    sides : at least the root of each size.

    Returns
    -------
    (sum of 1 + side x side, width)
    """
    if not all_at_once(rows):
        bags = zip(rows.split(list(sizes)), sides, strict=True)
        return torch.cat([part for bag, side in bags for part in (token[0], bag, bag[: side * side - len(bag)])])
    missing = tuple(side * side - size for side, size in zip(sides, sizes, strict=True))
    again = gather_rows(rows, ranges(starts(sizes), missing, rows.device))
    parts = torch.cat([token[0].expand(len(sizes), -1), rows, again])
    lengths = ((1,) * len(sizes), tuple(sizes), missing)
    begin = starts([sum(own) for own in zip(*lengths, strict=True)])
    places = []
    for length in lengths:  # all tokens, all rows, all rows that come again
        places.append(ranges(begin, length, rows.device))
        begin = tuple(map(operator.add, begin, length))
    return scatter_rows(parts, torch.cat(places), len(parts))


def class_tokens(rows: Tensor, sizes: Sequence[int]) -> Tensor:
    """The token of each bag, (rows, width) -> (bags, width)."""
    return first_rows(rows, sizes)


def add_convolutions(rows: Tensor, sides: Sequence[int], convolutions: Iterable[nn.Module]) -> Tensor:
    """To each square the sum of its convolutions, zeros around it; class tokens stay as they are.

    Parameters
    ----------
    rows : (rows, width).
    sides : of the squares.
    convolutions : depthwise `nn.Conv2d` of odd size that keep the side.

    Returns
    -------
    (rows, width)
    """
    return (_all_squares if all_at_once(rows) else _equal_squares)(rows, sides, *_one_for_all(convolutions))


def _one_for_all(convolutions: Iterable[nn.Module]) -> tuple[Tensor, Tensor]:
    """The sum of convolutions and of the image itself is one convolution: kernel (width, 1, taps, taps), bias."""
    every = [own for own in convolutions if isinstance(own, nn.Conv2d)]
    largest = max(own.kernel_size[0] for own in every)
    kernels = [F.pad(own.weight, [(largest - own.kernel_size[0]) // 2] * 4) for own in every]
    itself = torch.zeros_like(kernels[0])
    itself[:, :, largest // 2, largest // 2] = 1
    biases = [own.bias for own in every if own.bias is not None]
    return torch.stack([itself, *kernels]).sum(0), torch.stack(biases).sum(0)


def _equal_squares(rows: Tensor, sides: Sequence[int], kernel: Tensor, bias: Tensor) -> Tensor:
    """Squares of the same side are one stack of images."""
    bags = list(rows.split([1 + side * side for side in sides]))
    for side in set(sides):
        same = [i for i, other in enumerate(sides) if other == side]
        images = convolve_square(torch.stack([bags[i][1:] for i in same]), kernel, bias, side)
        for i, image in zip(same, images, strict=True):
            bags[i] = torch.cat([bags[i][:1], image])
    return torch.cat(bags)


def _all_squares(rows: Tensor, sides: Sequence[int], kernel: Tensor, bias: Tensor) -> Tensor:
    """All squares are one stack of images of the largest side. A line above each has its token as its last."""
    side, line = max(sides), tuple(sides)
    sizes, before = tuple(1 + own * own for own in sides), tuple(own - 1 for own in sides)
    places = line_places(sizes, before, line, 1 + side, rows.device)
    padded = scatter_rows(rows, places, len(sides) * (1 + side) * side).unflatten(0, (len(sides), -1))
    images = convolve_square(padded[:, side:], kernel, bias, side)
    return gather_rows(torch.cat([padded[:, :side], images], dim=1).flatten(0, 1), places)
