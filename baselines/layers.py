"""Layers that several models share, written for ragged batches: bags one after another, no padding.

Models themselves are in their own files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.utils import segment, softmax

__all__ = ["GatedAttention", "PathwayEncoder", "attend_within_bags", "pool_bags"]


def pool_bags(weights: Tensor, rows: Tensor, ptr: Tensor) -> Tensor:
    """Weighted sum of rows inside each bag.

    Parameters
    ----------
    weights : (rows,). rows : (rows, width). ptr : (bags + 1,) offsets.

    Returns
    -------
    (bags, width)
    """
    return segment(weights.unsqueeze(-1) * rows, ptr, reduce="sum")


class GatedAttention(nn.Module):
    """Gated attention pooling over each bag (Ilse et al. 2018, eq. 9).

    score_n = w . (tanh(V h_n) * sigmoid(U h_n)), softmax over the patches of a bag, weighted sum of its rows.
    """

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.value = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1)
        self.dropout = dropout

    def forward(self, rows: Tensor, ptr: Tensor) -> tuple[Tensor, Tensor]:
        """(patches, width), offsets -> pooled (bags, width), weights (patches,)."""
        value = F.dropout(torch.tanh(self.value(rows)), self.dropout, self.training)
        gate = F.dropout(torch.sigmoid(self.gate(rows)), self.dropout, self.training)
        scores = self.score(value * gate).squeeze(-1)
        # half precision would leave the weights of a large bag summing to visibly less than one
        weights = softmax(scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores, ptr=ptr)
        return pool_bags(weights, rows, ptr), weights


def attend_within_bags(
    query: Tensor, key: Tensor, value: Tensor, query_sizes: Sequence[int], key_sizes: Sequence[int]
) -> Tensor:
    """Scaled dot-product attention inside each bag, exact and without padding.

    Parameters
    ----------
    query : (all queries, heads, width). key, value : (all keys, heads, width). sizes : rows of each bag.

    Returns
    -------
    (all queries, heads, width)
    """
    bags = zip(query.split(list(query_sizes)), key.split(list(key_sizes)), value.split(list(key_sizes)), strict=True)
    mixed = [
        F.scaled_dot_product_attention(*(part.transpose(0, 1).unsqueeze(0) for part in bag)).squeeze(0).transpose(0, 1)
        for bag in bags
    ]
    return torch.cat(mixed)


class PathwayEncoder(nn.Module):
    """Two layers in which genes feed only the pathways that contain them: (B, genes) -> (B, pathways, width).

    The masked layers of SMLP (after P-NET, Elmarakeby et al. 2021), stored sparsely: one weight row per membership
    instead of a dense masked matrix, so the parameter count is the effective one. All pathways in one gather, one sum
    and one product. Fan-in is that of the mask.
    """

    membership_gene: Tensor
    membership_pathway: Tensor

    def __init__(self, pathways: Mapping[str, Sequence[int]], hidden: int, width: int) -> None:
        super().__init__()
        sizes = [len(genes) for genes in pathways.values()]
        self.pathways = len(sizes)
        self.register_buffer(
            "membership_gene", torch.from_numpy(np.concatenate(list(pathways.values()))), persistent=False
        )
        pathway_of = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        self.register_buffer("membership_pathway", pathway_of, persistent=False)
        bound = torch.tensor(sizes, dtype=torch.float32)[pathway_of].rsqrt().unsqueeze(-1)
        self.first = nn.Parameter(torch.empty(len(pathway_of), hidden).uniform_(-1, 1) * bound)
        self.first_bias = nn.Parameter(torch.zeros(len(sizes), hidden))
        self.second = nn.Parameter(torch.empty(len(sizes), hidden, width).uniform_(-1, 1) * hidden**-0.5)
        self.second_bias = nn.Parameter(torch.zeros(len(sizes), width))

    def forward(self, expression: Tensor) -> Tensor:
        """(B, genes) -> (B, pathways, width)."""
        products = expression[:, self.membership_gene].unsqueeze(-1) * self.first
        hidden = products.new_zeros(len(expression), self.pathways, products.shape[-1])
        hidden = F.relu(hidden.index_add(1, self.membership_pathway, products) + self.first_bias)
        return torch.einsum("bph,phw->bpw", hidden, self.second) + self.second_bias
