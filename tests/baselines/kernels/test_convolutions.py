"""Convolutions as products, against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from baselines.kernels.convolutions import as_matrices, convolve_rows, convolve_square


@pytest.mark.parametrize("side", [1, 2, 4, 6, 7, 9])
@pytest.mark.parametrize("taps", [3, 7])
def test_a_square_is_convolved_as_torch_does_it_gradients_included(side: int, taps: int) -> None:
    torch.manual_seed(side)
    image = torch.randn(3, side * side, 5, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(5, 1, taps, taps, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(5, dtype=torch.float64, requires_grad=True)
    picture = image.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    expected = F.conv2d(picture, kernel, bias, padding=taps // 2, groups=5).flatten(2).transpose(1, 2)
    ours = convolve_square(image, kernel, bias, side)
    torch.testing.assert_close(ours, expected, atol=1e-12, rtol=1e-12)
    weight = torch.randn_like(expected)
    wanted = (image, kernel, bias)
    for own, other in zip(
        torch.autograd.grad((ours * weight).sum(), wanted),
        torch.autograd.grad((expected * weight).sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(own, other, atol=1e-11, rtol=1e-9)


@pytest.mark.parametrize("length", [1, 4, 20])
def test_a_row_is_convolved_as_torch_does_it(length: int) -> None:
    torch.manual_seed(length)
    row, kernel = torch.randn(4, length, dtype=torch.float64), torch.randn(4, 9, dtype=torch.float64)
    expected = F.conv1d(row, kernel.unsqueeze(1), padding=4, groups=4)
    ours = (as_matrices(kernel, (length,)) @ row.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(ours, expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 16, 17, 63, 64, 65, 200])
@pytest.mark.parametrize("taps", [1, 9, 33])
def test_long_rows_are_convolved_as_torch_does_it_gradients_included(length: int, taps: int) -> None:
    torch.manual_seed(length)
    rows = torch.randn(length, 4, 5, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(4, taps, dtype=torch.float64, requires_grad=True)
    picture, taller = rows.permute(1, 0, 2).unsqueeze(0), kernel.view(4, 1, taps, 1)
    expected = F.conv2d(picture, taller, padding=(taps // 2, 0), groups=4).squeeze(0).permute(1, 0, 2)
    ours = convolve_rows(rows, kernel)
    torch.testing.assert_close(ours, expected, atol=1e-12, rtol=1e-12)
    weight = torch.randn_like(expected)
    for own, other in zip(
        torch.autograd.grad((ours * weight).sum(), (rows, kernel)),
        torch.autograd.grad((expected * weight).sum(), (rows, kernel)),
        strict=True,
    ):
        torch.testing.assert_close(own, other, atol=1e-11, rtol=1e-9)


def test_what_validation_needed_first_serves_training() -> None:
    image, kernel, bias = torch.randn(1, 25, 11), torch.randn(11, 1, 13, 13, requires_grad=True), torch.zeros(11)
    with torch.inference_mode():
        convolve_square(image, kernel, bias, 5)
    convolve_square(image, kernel, bias, 5).sum().backward()
    assert kernel.grad is not None
    assert kernel.grad.abs().sum() > 0
