"""Sums, softmaxes and attention inside bags that lie one after another.

On a CPU a loop over bags, elsewhere all of them at once, with the same results; ragged.py has the means and says why.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.utils import segment, softmax

from baselines.ragged import EachBag, layout, owners, spreads, together

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # before torch 2.10
    varlen_attn = None  # type: ignore[assignment]

__all__ = [
    "HALF",
    "attend_bags",
    "attend_within_bags",
    "full_precision",
    "mean_bags",
    "pool_bags",
    "softmax_bags",
]

HALF = (torch.float16, torch.bfloat16)
FEW = 2**18  # numbers that are sooner written out than taken bag by bag


def pool_bags(weights: Tensor, rows: Tensor, ptr: Tensor) -> Tensor:
    """Weighted sum of rows inside each bag.

    Parameters
    ----------
    weights : (rows,). rows : (rows, width). ptr : (bags + 1,) offsets.

    Returns
    -------
    (bags, width)
    """
    if spreads(rows, ptr):  # one product, in which most weights are zeros
        spread = torch.where(owners(ptr, len(rows)), weights, 0)
        return spread.to(rows.dtype) @ rows
    if rows.device.type == "cpu" and rows.numel() > FEW:  # a product for each bag spares writing out the weighted rows
        sizes = ptr.diff().tolist()
        bags = zip(weights.split(sizes), rows.split(sizes), strict=True)
        return torch.stack([own @ values.to(own.dtype) for own, values in bags])
    return segment(weights.unsqueeze(-1) * rows, ptr, reduce="sum")


def mean_bags(rows: Tensor, ptr: Tensor) -> Tensor:
    """Mean of the rows of each bag, (rows, width) -> (bags, width)."""
    if spreads(rows, ptr):
        return owners(ptr, len(rows)).to(rows.dtype) @ rows / ptr.diff().unsqueeze(1)
    return segment(rows, ptr, reduce="mean")


def softmax_bags(scores: Tensor, ptr: Tensor) -> Tensor:
    """Softmax over the rows of each bag, (rows,) or (rows, columns) -> the same, at least in float32.

    Half precision would leave the weights of a large bag summing to visibly less than 1.
    """
    scores = full_precision(scores)
    if not spreads(scores, ptr):
        return softmax(scores, ptr=ptr)
    spread = scores.movedim(0, -1).unsqueeze(-2).masked_fill(~owners(ptr, len(scores)), -torch.inf)
    return spread.softmax(-1).sum(-2).movedim(-1, 0)


def full_precision(scores: Tensor) -> Tensor:
    """Scores before a softmax, in float32 at least."""
    return scores.float() if scores.dtype in HALF else scores


def attend_bags(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sizes: Sequence[int],
    beside: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, EachBag, EachBag]:
    """As many queries for each patient, over the rows of its bag.

    Parameters
    ----------
    query : (B, heads, queries, width). key, value : (patches, heads, width). sizes : rows of each bag.
    beside : keys and values of as many tokens of each patient, (B, tokens, heads, width), before those of its bag.

    Returns
    -------
    (B, heads, queries, width); of each patient (heads, queries, tokens + patches), the scaled similarities, at least in
    float32, and their softmax.
    """
    query = query * query.shape[-1] ** -0.5
    tokens = 0 if beside is None else beside[0].shape[1]
    seen = tuple(tokens + size for size in sizes)
    if together(query):
        own = layout(tuple(sizes), query.device)
        keys, values = (
            own.padded(rows) if beside is None else torch.cat([beside[i].to(rows.dtype), own.padded(rows)], dim=1)
            for i, rows in enumerate((key, value))
        )
        padding = F.pad(~own.alive, (tokens, 0))[:, None, None]
        similar = full_precision(query @ keys.permute(0, 2, 3, 1)).masked_fill(padding, -torch.inf)
        weights = similar.softmax(-1)
        mixed = weights.to(values.dtype) @ values.transpose(1, 2)
        return mixed, EachBag(seen, similar), EachBag(seen, weights)
    parts, similarities, shares = [], [], []
    bags = zip(query, key.split(list(sizes)), value.split(list(sizes)), strict=True)
    for i, (asking, keys, values) in enumerate(bags):
        if beside is not None:
            keys, values = torch.cat([beside[0][i], keys]), torch.cat([beside[1][i], values])
        similarities.append(full_precision(asking @ keys.permute(1, 2, 0)))
        shares.append(similarities[-1].softmax(-1))
        parts.append(shares[-1].to(values.dtype) @ values.transpose(0, 1))
    return torch.stack(parts), EachBag(seen, tuple(similarities)), EachBag(seen, tuple(shares))


def attend_within_bags(
    query: Tensor, key: Tensor, value: Tensor, query_sizes: Sequence[int], key_sizes: Sequence[int]
) -> Tensor:
    """Scaled dot-product attention inside each bag, exact.

    Parameters
    ----------
    query : (all queries, heads, width). key, value : (all keys, heads, width). sizes : rows of each bag.

    Returns
    -------
    (all queries, heads, width)
    """
    if len({*key_sizes}) == 1 and (together(query) or len({*query_sizes}) == 1):
        return _attend_regular(query, key, value, query_sizes)
    if together(query):
        return _attend_together(query, key, value, query_sizes, key_sizes)
    bags = zip(query.split(list(query_sizes)), key.split(list(key_sizes)), value.split(list(key_sizes)), strict=True)
    mixed = [
        F.scaled_dot_product_attention(*(part.transpose(0, 1).unsqueeze(0) for part in bag)).squeeze(0).transpose(0, 1)
        for bag in bags
    ]
    return torch.cat(mixed)


def _attend_regular(query: Tensor, key: Tensor, value: Tensor, query_sizes: Sequence[int]) -> Tensor:
    """As many keys in every bag: one call for all, in which queries that are padding harm nobody."""
    patients = len(query_sizes)
    own = None if len({*query_sizes}) == 1 else layout(tuple(query_sizes), query.device)
    queries = query.unflatten(0, (patients, -1)) if own is None else own.padded(query)
    keys, values = (part.unflatten(0, (patients, -1)) for part in (key, value))
    mixed = F.scaled_dot_product_attention(queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2))
    by_patient = mixed.transpose(1, 2)
    return by_patient.flatten(0, 1) if own is None else own.ragged(by_patient)


def _attend_together(
    query: Tensor, key: Tensor, value: Tensor, query_sizes: Sequence[int], key_sizes: Sequence[int]
) -> Tensor:
    """As `attend_within_bags`, all bags in one call: without padding where a kernel knows where bags begin."""
    asking, asked = (layout(tuple(sizes), query.device) for sizes in (query_sizes, key_sizes))
    if query.is_cuda and query.dtype in HALF and query.shape[-1] % 8 == 0 and varlen_attn is not None:
        mixed = varlen_attn(query, key, value, asking.ptr, asked.ptr, max(query_sizes), max(key_sizes))
        assert isinstance(mixed, Tensor)
        return mixed
    queries, keys, values = asking.padded(query), asked.padded(key), asked.padded(value)
    mixed = F.scaled_dot_product_attention(
        queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), attn_mask=asked.alive[:, None, None]
    )
    return asking.ragged(mixed.transpose(1, 2))
