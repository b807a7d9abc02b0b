"""Layers that several models share, against the plain definition of what they compute."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from baselines.kernels import bags
from baselines.kernels.bags import attend_bags, attend_within_bags, pool_bags
from baselines.layers import AlphaDropout, Dropout, GatedAttention
from baselines.patchgcn import neighbours
from baselines.pathways import PathwayEncoder, PathwayNetworks
from survbench.errors import BadFeatures

SETS = {"a": (3, 1), "b": (0, 2, 4), "c": (5,), "d": (1, 4), "e": (0, 1, 2, 3, 4, 5)}


def test_a_network_for_each_set_without_a_loop() -> None:
    torch.manual_seed(0)
    networks = PathwayNetworks(SETS, 8, 0.5).double().eval()
    expression = torch.randn(3, 6, dtype=torch.float64)
    tokens = networks(expression)
    ends = np.cumsum([0, *(len(SETS[name]) for name in (list(SETS)[i] for i in networks.order))])
    for place, index in enumerate(networks.order):
        genes = list(SETS.values())[index]
        hidden = expression[:, genes] @ networks.first[ends[place] : ends[place + 1]] + networks.first_bias[place]
        expected = F.elu(F.elu(hidden) @ networks.second[place] + networks.second_bias[place])
        torch.testing.assert_close(tokens[:, index], expected, atol=1e-12, rtol=0)


def test_every_weight_of_the_networks_is_alive() -> None:
    networks = PathwayNetworks(SETS, 8, 0.0)
    networks(torch.randn(3, 6)).square().sum().backward()
    assert sum(p.numel() for p in networks.parameters()) == 8 * (2 + 3 + 1 + 2 + 6) + 5 * (8 + 64 + 8)
    for parameter in networks.parameters():
        assert parameter.grad is not None
        assert (parameter.grad != 0).float().mean() > 0.9


def test_masked_layers_equal_the_dense_ones() -> None:
    torch.manual_seed(0)
    dense = torch.randn(6, 5 * 2), torch.randn(10), torch.randn(10, 5 * 3), torch.randn(15)
    mask = torch.zeros(6, 5)
    for i, genes in enumerate(SETS.values()):
        mask[list(genes), i] = 1
    first = mask.repeat_interleave(2, 1)
    second = torch.kron(torch.eye(5), torch.ones(2, 3))
    expression = torch.randn(4, 6)
    for activated in (True, False):
        encoder = PathwayEncoder(SETS, 2, 3, activated=activated)
        encoder.load_state_dict(encoder.from_dense(*dense))
        hidden = expression @ (dense[0] * first) + dense[1]
        expected = (F.relu(hidden) if activated else hidden) @ (dense[2] * second) + dense[3]
        torch.testing.assert_close(encoder(expression).flatten(1), expected)


@pytest.mark.parametrize("patients", [1, 3, 4, 9])
def test_either_order_of_products_projects_alike(patients: int) -> None:
    torch.manual_seed(0)
    encoder, linear = PathwayEncoder(SETS, 2, 3).double(), nn.Linear(3, 7).double()
    expression = torch.randn(patients, 6, dtype=torch.float64)
    weights = [*encoder.parameters(), *linear.parameters()]
    written_out, ours = linear(encoder(expression)), encoder.projected(expression, linear)
    torch.testing.assert_close(ours, written_out, atol=1e-12, rtol=0)
    upstream = torch.randn_like(ours)
    for mine, theirs in zip(
        torch.autograd.grad(ours, weights, upstream), torch.autograd.grad(written_out, weights, upstream), strict=True
    ):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=0)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=5), st.integers(0, 99), st.sampled_from([0, bags.FEW]))
def test_a_bag_is_pooled_as_the_weighted_sum_of_its_rows(sizes: list[int], seed: int, few: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weights, rows = torch.randn(sum(sizes), generator=generator), torch.randn(sum(sizes), 3, generator=generator)
    with patch.object(bags, "FEW", few):  # bag by bag, and all at once
        pooled = pool_bags(weights, rows, torch.tensor([0, *sizes]).cumsum(0))
    bag = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    expected = torch.zeros(len(sizes), 3).index_add(0, bag, weights.unsqueeze(1) * rows)
    torch.testing.assert_close(pooled, expected, atol=1e-5, rtol=1e-5)


def test_columns_in_parts_are_pooled_like_one_tensor() -> None:
    torch.manual_seed(0)
    pooling = GatedAttention(5, 4).double()
    left, right, ptr = torch.randn(9, 3, dtype=torch.float64), torch.randn(9, 2, dtype=torch.float64), [0, 4, 9]
    apart, weights = pooling((left, right), torch.tensor(ptr))
    together, expected = pooling(torch.cat([left, right], dim=1), torch.tensor(ptr))
    torch.testing.assert_close(apart, together, atol=1e-14, rtol=0)
    torch.testing.assert_close(weights, expected, atol=1e-14, rtol=0)


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.9])
def test_dropout_meets_its_rate_and_keeps_the_mean(rate: float) -> None:
    torch.manual_seed(0)
    rows = torch.ones(1001, 999, requires_grad=True)  # no multiple of what one draw decides
    drop = Dropout(rate)
    dropped = drop(rows)
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1 / (1 - rate)).item()}
    for share in ((dropped == 0).float().mean(), (dropped == 0).float().mean(0), (dropped == 0).float().mean(1)):
        # five standard errors of a share of as many elements
        assert (share - rate).abs().max() < 5 * (rate * (1 - rate) * share.numel() / rows.numel()) ** 0.5
    dropped.sum().backward()
    assert torch.equal(rows.grad, dropped)
    torch.manual_seed(0)
    assert torch.equal(drop(rows), dropped)
    assert torch.equal(drop.eval()(rows), rows)


def test_dropout_takes_every_rate_and_no_other() -> None:
    rows = torch.ones(3, 5)
    assert torch.equal(Dropout(0.0)(rows), rows)
    assert torch.equal(Dropout(1.0)(rows), torch.zeros(3, 5))
    for rate in (-0.1, 1.1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            Dropout(rate)


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_alpha_dropout_gives_the_values_of_torch_and_keeps_mean_and_variance(rate: float) -> None:
    """An independent reference for the values; of standard normal rows both moments stay as they are."""
    torch.manual_seed(0)
    ones = torch.ones(1001, 99)
    ours, theirs = AlphaDropout(rate)(ones), F.alpha_dropout(ones, rate, training=True)
    torch.testing.assert_close(ours.unique(), theirs.unique(), atol=1e-6, rtol=0)
    dropped = (ours < 0).float().mean()
    assert (dropped - rate).abs() < 5 * (rate * (1 - rate) / ours.numel()) ** 0.5
    rows = torch.randn(1001, 499, requires_grad=True)
    kept = AlphaDropout(rate)(rows)
    assert abs(kept.mean()) < 0.01
    assert abs(kept.var() - 1) < 0.02
    kept.sum().backward()
    assert set((rows.grad == 0).float().unique().tolist()) == {0.0, 1.0}
    assert torch.equal(AlphaDropout(rate).eval()(rows), rows)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 99))
def test_attention_stays_inside_its_bag(sizes: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(len(sizes), 2, 3, 4, generator=generator)
    key, value = torch.randn(2, sum(sizes), 2, 4, generator=generator)
    mixed, similarities, weights = attend_bags(query, key, value, sizes)
    bag = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    for i in range(len(sizes)):
        inside = bag == i
        expected = (query[i] @ key[inside].permute(1, 2, 0) / 2).softmax(-1) @ value[inside].transpose(0, 1)
        torch.testing.assert_close(mixed[i], expected, atol=1e-5, rtol=1e-5)
        assert similarities.parts[i].shape == (2, 3, sizes[i])
        torch.testing.assert_close(weights.parts[i] @ value[inside].transpose(0, 1), expected, atol=1e-5, rtol=1e-5)
    rows = torch.randn(sum(sizes), 2, 4, generator=generator)
    within = attend_within_bags(rows, key, value, sizes, sizes)
    for i in range(len(sizes)):
        part = (t[bag == i].transpose(0, 1) for t in (rows, key, value))
        expected = F.scaled_dot_product_attention(*part).transpose(0, 1)
        torch.testing.assert_close(within[bag == i], expected, atol=1e-5, rtol=1e-5)


def test_neighbours_are_the_nearest_of_the_same_slide() -> None:
    grid = torch.cartesian_prod(torch.arange(4), torch.arange(4)).float()
    edges = neighbours(torch.cat([grid, grid]), torch.arange(2).repeat_interleave(16), nearest=4)
    source, target = edges
    assert (source // 16 == target // 16).all()  # the two slides lie on top of each other
    inner = 5  # has exactly four neighbours at distance 1
    assert sorted(source[target == inner].tolist()) == [1, 4, 6, 9]
    assert (source != target).all()
    assert neighbours(grid[:1], torch.zeros(1), nearest=4).shape == (2, 0)


def test_a_graph_needs_coordinates() -> None:
    with pytest.raises(BadFeatures, match="no coordinates"):
        neighbours(torch.full((3, 2), torch.nan), torch.zeros(3), nearest=2)
