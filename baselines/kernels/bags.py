"""Sums, softmaxes and attention inside bags that stand one after another.

On a CPU a loop over bags, elsewhere all of them at once, with the same results; ragged.py has the means and the reason.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.utils import scatter, segment, softmax

from baselines.kernels.ragged import EachBag, all_at_once, padding

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # before torch 2.10
    varlen_attn = None  # type: ignore[assignment]

__all__ = [
    "HALF",
    "attend_bags",
    "attend_rows",
    "attend_tokens",
    "attend_within_bags",
    "first_maximum",
    "full_precision",
    "mean_bags",
    "own_products",
    "pool_bags",
    "softmax_bags",
]

HALF = (torch.float16, torch.bfloat16)
FEW = 2**18  # numbers that are sooner written out than processed bag by bag
SPREAD = 2**26  # numbers of the largest matrix of `_spreads`


def pool_bags(weights: Tensor, rows: Tensor, ptr: Tensor) -> Tensor:
    """Weighted sum of rows inside each bag.

    Parameters
    ----------
    weights : (rows,).
    rows : (rows, width).
    ptr : (bags + 1,) offsets.

    Returns
    -------
    (bags, width)
    """
    if _spreads(rows, ptr):  # one product, in which most weights are zeros
        spread = torch.where(_owners(ptr, len(rows)), weights, 0)
        return spread.to(rows.dtype) @ rows
    if not all_at_once(rows) and rows.numel() > FEW:  # a product for each bag spares writing out the weighted rows
        sizes = ptr.diff().tolist()
        bags = zip(weights.split(sizes), rows.split(sizes), strict=True)
        return torch.stack([own @ values.to(own.dtype) for own, values in bags])
    return segment(weights.unsqueeze(-1) * rows, ptr, reduce="sum")


def mean_bags(rows: Tensor, ptr: Tensor) -> Tensor:
    """Mean of the rows of each bag, (rows, width) -> (bags, width)."""
    if _spreads(rows, ptr):
        return _owners(ptr, len(rows)).to(rows.dtype) @ rows / ptr.diff().unsqueeze(1)
    return segment(rows, ptr, reduce="mean")


def softmax_bags(scores: Tensor, ptr: Tensor) -> Tensor:
    """Softmax over the rows of each bag, (rows,) or (rows, columns) -> the same, at least in float32.

    Half precision would leave the weights of a large bag summing to visibly less than 1.
    """
    scores = full_precision(scores)
    if not _spreads(scores, ptr):
        return softmax(scores, ptr=ptr)
    spread = scores.movedim(0, -1).unsqueeze(-2).masked_fill(~_owners(ptr, len(scores)), -torch.inf)
    return spread.softmax(-1).sum(-2).movedim(-1, 0)


def first_maximum(scores: Tensor, ptr: Tensor, bag: Tensor) -> Tensor:
    """Where each column is highest in each bag; of equal rows the first.

    Parameters
    ----------
    scores : (rows, columns).
    ptr : (bags + 1,) offsets.
    bag : (rows,) number of each row's bag.

    Returns
    -------
    (bags, columns) positions among all rows.
    """
    if _spreads(scores, ptr):
        return scores.T.unsqueeze(-2).masked_fill(~_owners(ptr, len(scores)), -torch.inf).argmax(-1).T
    highest = segment(scores, ptr, reduce="max")[bag]
    rows = torch.arange(len(scores), device=scores.device).unsqueeze(1).expand_as(scores)
    candidates = rows.masked_fill(scores < highest, len(scores))
    return scatter(candidates, bag, dim=0, dim_size=len(ptr) - 1, reduce="min")


def own_products(rows: Tensor, vectors: Tensor, sizes: Sequence[int], bag: Tensor) -> Tensor:
    """Products of rows with the vectors of their own bag.

    Parameters
    ----------
    rows : (rows, width).
    vectors : (bags, columns, width).
    sizes : rows of each bag.
    bag : (rows,) number of each row's bag.

    Returns
    -------
    (rows, columns)
    """
    if not all_at_once(rows):  # a product for each bag; no vector is written out for every row
        bags = zip(rows.split(list(sizes)), vectors, strict=True)
        return torch.cat([own @ columns.T for own, columns in bags])
    own = bag.unsqueeze(1)  # products with the vectors of all bags are cheaper than a product for each row
    return torch.cat([(rows @ column.T).gather(1, own) for column in vectors.unbind(1)], dim=1)


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
    """Scaled dot-product attention of as many queries for each patient over the rows of its bag.

    Parameters
    ----------
    query : (B, heads, queries, width).
    key : (patches, heads, width).
    value : (patches, heads, width).
    sizes : rows of each bag.
    beside : keys and values of as many tokens of each patient, (B, tokens, heads, width), before those of its bag.

    Returns
    -------
    (B, heads, queries, width); of each patient (heads, queries, tokens + patches), the scaled similarities, at least in
    float32, and their softmax.
    """
    query = query * query.shape[-1] ** -0.5
    tokens = 0 if beside is None else beside[0].shape[1]
    seen = tuple(tokens + size for size in sizes)
    if all_at_once(query):
        own = padding(tuple(sizes), query.device)
        keys, values = (
            own.padded(rows) if beside is None else torch.cat([beside[i].to(rows.dtype), own.padded(rows)], dim=1)
            for i, rows in enumerate((key, value))
        )
        absent = F.pad(~own.alive, (tokens, 0))[:, None, None]
        similar = full_precision(query @ keys.permute(0, 2, 3, 1)).masked_fill(absent, -torch.inf)
        weights = similar.softmax(-1)
        mixed = weights.to(values.dtype) @ values.transpose(1, 2)
        return mixed, EachBag(seen, similar), EachBag(seen, weights)
    parts, similarities, shares = [], [], []
    bags = zip(query, key.split(list(sizes)), value.split(list(sizes)), strict=True)
    for i, (queries, keys, values) in enumerate(bags):
        if beside is not None:
            keys, values = torch.cat([beside[0][i], keys]), torch.cat([beside[1][i], values])
        similarities.append(full_precision(queries @ keys.permute(1, 2, 0)))
        shares.append(similarities[-1].softmax(-1))
        parts.append(shares[-1].to(values.dtype) @ values.transpose(0, 1))
    return torch.stack(parts), EachBag(seen, tuple(similarities)), EachBag(seen, tuple(shares))


def attend_rows(query: Tensor, rows: Tensor, sizes: Sequence[int]) -> tuple[Tensor, EachBag, EachBag]:
    """`attend_bags` with one head, the rows of the bags being keys and values.

    Where few queries meet many rows, it serves for projected keys and values, too, without projecting any row:
    q . (K x + b) = (K^T q) . x + q . b, whose last term is the same for all rows of a bag and leaves no trace in a
    softmax; and the mean of V x + c is V times the mean of x, + c.

    Parameters
    ----------
    query : (B, queries, width), K^T q for projected keys.
    rows : (rows, width).
    sizes : rows of each bag.

    Returns
    -------
    (B, queries, width); of each patient (queries, rows), the scaled similarities and their softmax.
    """
    each = rows.unsqueeze(1)
    mixed, similarities, weights = attend_bags(query.unsqueeze(1), each, each, sizes)
    return mixed.squeeze(1), similarities.map(_of_only_head), weights.map(_of_only_head)


def attend_tokens(query: Tensor, key: Tensor, value: Tensor, sizes: Sequence[int]) -> Tensor:
    """Scaled dot-product attention of the rows of each bag over as many tokens of each patient, with one head.

    Parameters
    ----------
    query : (rows, width).
    key : (B, tokens, width).
    value : (B, tokens, width).
    sizes : rows of each bag.

    Returns
    -------
    (rows, width)
    """
    if all_at_once(query):
        counts = [key.shape[1]] * len(sizes)
        query, key, value = (part.unsqueeze(1) for part in (query, key.flatten(0, 1), value.flatten(0, 1)))
        return attend_within_bags(query, key, value, sizes, counts).squeeze(1)
    bags = zip(query.split(list(sizes)), key, value, strict=True)  # with few keys, the matrix is written out sooner
    scale = key.shape[-1] ** -0.5
    return torch.cat([(rows @ keys.T * scale).softmax(-1) @ values for rows, keys, values in bags])


def attend_within_bags(
    query: Tensor, key: Tensor, value: Tensor, query_sizes: Sequence[int], key_sizes: Sequence[int]
) -> Tensor:
    """Scaled dot-product attention inside each bag, exact.

    Parameters
    ----------
    query : (all queries, heads, width).
    key : (all keys, heads, width).
    value : (all keys, heads, width).
    query_sizes : queries of each bag.
    key_sizes : keys of each bag.

    Returns
    -------
    (all queries, heads, width)
    """
    if len({*key_sizes}) == 1 and (all_at_once(query) or len({*query_sizes}) == 1):
        return _attend_regular(query, key, value, query_sizes)
    if all_at_once(query):
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
    own = None if len({*query_sizes}) == 1 else padding(tuple(query_sizes), query.device)
    queries = query.unflatten(0, (patients, -1)) if own is None else own.padded(query)
    keys, values = (part.unflatten(0, (patients, -1)) for part in (key, value))
    mixed = F.scaled_dot_product_attention(queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2))
    by_patient = mixed.transpose(1, 2)
    return by_patient.flatten(0, 1) if own is None else own.ragged(by_patient)


def _attend_together(
    query: Tensor, key: Tensor, value: Tensor, query_sizes: Sequence[int], key_sizes: Sequence[int]
) -> Tensor:
    """As `attend_within_bags`, all bags in one call: without padding where a kernel knows where bags begin."""
    of_queries, of_keys = (padding(tuple(sizes), query.device) for sizes in (query_sizes, key_sizes))
    if query.is_cuda and query.dtype in HALF and query.shape[-1] % 8 == 0 and varlen_attn is not None:
        mixed = varlen_attn(query, key, value, of_queries.ptr, of_keys.ptr, max(query_sizes), max(key_sizes))
        assert isinstance(mixed, Tensor)
        return mixed
    queries, keys, values = of_queries.padded(query), of_keys.padded(key), of_keys.padded(value)
    mixed = F.scaled_dot_product_attention(
        queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), attn_mask=of_keys.alive[:, None, None]
    )
    return of_queries.ragged(mixed.transpose(1, 2))


def _of_only_head(numbers: Tensor) -> Tensor:
    """(..., 1, queries, rows) -> (..., queries, rows)."""
    return numbers.squeeze(-3)


def _owners(ptr: Tensor, rows: int) -> Tensor:
    """(bags, rows): which rows belong to which bag. ptr : (bags + 1,) offsets."""
    row = torch.arange(rows, device=ptr.device)
    return (row >= ptr[:-1].unsqueeze(1)) & (row < ptr[1:].unsqueeze(1))


def _spreads(rows: Tensor, ptr: Tensor) -> bool:
    """Whether sums over bags are products with a matrix (bags, rows), most of whose numbers are zeros."""
    return all_at_once(rows) and len(rows) * len(ptr) <= SPREAD
