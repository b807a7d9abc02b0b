"""Counts of operations against counts by hand, and that memory is seen."""

from __future__ import annotations

import mmap

import pytest
import torch
from torch.nn import functional as F

from benchmarks.real import DeviceMeter, peak_growth


@pytest.fixture(scope="module")
def meter() -> DeviceMeter:
    return DeviceMeter(torch.device("cpu"))


def test_a_linear_layer_is_two_products_where_its_input_needs_no_gradient(meter: DeviceMeter) -> None:
    layer, x = torch.nn.Linear(5, 7), torch.randn(3, 5)
    assert meter.count(lambda: layer(x).sum().backward()) == 2 * (2 * 3 * 5 * 7)


def test_fused_attention_is_two_products_forward_and_four_backward(meter: DeviceMeter) -> None:
    query, key, value = (torch.randn(1, 2, rows, 8, requires_grad=True) for rows in (3, 5, 5))
    assert meter.count(lambda: F.scaled_dot_product_attention(query, key, value).sum().backward()) == 6 * (
        2 * 2 * 3 * 5 * 8
    )


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_grouped_convolution_counts_its_own_channels_alone(meter: DeviceMeter, groups: int) -> None:
    layer, image = torch.nn.Conv1d(4, 4, 3, padding=1, groups=groups), torch.randn(2, 4, 10, requires_grad=True)
    assert meter.count(lambda: layer(image).sum().backward()) == 3 * (2 * 2 * 4 * 10 * (4 // groups) * 3)


def test_growth_sees_what_is_taken_and_given_back() -> None:
    assert peak_growth(_take_and_give_back) >= 60 << 20


def _take_and_give_back() -> None:
    """Straight from the system: what Python or torch freed before may be used again and add nothing."""
    with mmap.mmap(-1, 64 << 20) as used:
        for _ in range(64):
            used.write(b"x" * (1 << 20))
