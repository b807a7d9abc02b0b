"""Depthwise convolutions as matrix products.

Of images smaller than their kernel, because most taps of such a kernel meet nothing, and on a CPU the gradient of a
convolution takes several times as long as that of the product. Of long rows, because on a GPU the gradient with respect
to a kernel that is one number wide does.
"""

from __future__ import annotations

import math
from functools import lru_cache, reduce

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["as_matrices", "convolve_rows", "convolve_square"]

BLOCK = 64  # rows that one product of `convolve_rows` gives


def convolve_square(image: Tensor, kernel: Tensor, bias: Tensor, side: int) -> Tensor:
    """Depthwise convolution of square images, zeros around them.

    Parameters
    ----------
    image : (images, side x side, channels).
    kernel : (channels, 1, taps, taps), taps odd.
    bias : (channels,).
    side : of the images.

    Returns
    -------
    (images, side x side, channels)
    """
    if side >= kernel.shape[-1]:
        square = image.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        square = F.conv2d(square, kernel, bias, padding=kernel.shape[-1] // 2, groups=len(kernel))
        return square.flatten(2).transpose(1, 2)
    by_channel = image.permute(2, 0, 1).contiguous() @ as_matrices(kernel.squeeze(1), (side, side)).mT
    if by_channel.requires_grad:  # its gradient comes channels last, which torch multiplies one matrix after another
        by_channel.register_hook(Tensor.contiguous)
    return by_channel.permute(1, 2, 0) + bias


def convolve_rows(rows: Tensor, kernel: Tensor) -> Tensor:
    """Convolution along the rows with one kernel per channel, zeros before the first and behind the last.

    Every block of rows is the product of one banded matrix per channel with a window that overlaps the neighbouring
    blocks, and so is the gradient of the kernel.

    Parameters
    ----------
    rows : (rows, channels, width).
    kernel : (channels, taps), taps odd.

    Returns
    -------
    (rows, channels, width)
    """
    reach = kernel.shape[1] // 2
    window = BLOCK + 2 * reach
    padded = F.pad(rows, (0, 0, 0, 0, reach, reach + -len(rows) % BLOCK))
    windows = padded.unfold(0, window, BLOCK).permute(1, 3, 0, 2)  # (channels, window, blocks, width)
    banded = as_matrices(kernel, (window,))[:, reach : reach + BLOCK]
    blocks = (banded @ windows.flatten(2)).unflatten(2, windows.shape[2:])
    return blocks.permute(2, 1, 0, 3).flatten(0, 1)[: len(rows)]


def as_matrices(kernel: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Kernels (channels, taps of each axis) -> (channels, positions out, positions in) of an image of that shape."""
    places = _places(tuple(kernel.shape[1:]), shape, kernel.device)
    return (kernel.flatten(1) @ places.to(kernel.dtype)).unflatten(1, (math.prod(shape),) * 2)


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # kept for training, even if validation needs it first
def _places(taps: tuple[int, ...], shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Which tap leads from which position to which, as ones and zeros (taps, out x in)."""
    axes = []
    for reach, size in zip(taps, shape, strict=True):
        position, tap = torch.arange(size, device=device), torch.arange(reach, device=device)
        apart = position - position.unsqueeze(1)  # [out, in]
        axes.append((apart == (tap - reach // 2).view(-1, 1, 1)).float())
    return reduce(torch.kron, axes).flatten(1)
