"""Multi-head attention inside and between the two modalities of a patient, exact or linear in the number of patches."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.kernels.bags import attend_within_bags, full_precision, pool_bags
from baselines.layers import GatedAttention
from survbench.cards import member

__all__ = ["Attention", "AttentionForm", "Pooling", "PoolingForm"]


class AttentionForm(StrEnum):
    """How queries and keys meet; the paper says scaled dot product."""

    SOFTMAX = "softmax"  # exact
    LINEAR = "linear"  # feature map 1 + ELU (Katharopoulos et al. 2020): time and memory linear in the patches


class PoolingForm(StrEnum):
    """How a sequence becomes one vector; the paper says pooling, the choice is a reconstruction."""

    GATED = "gated"
    MEAN = "mean"


class Attention(nn.Module):
    """Attention of the rows of one sequence over the rows of another, inside each patient.

    Parameters
    ----------
    width : of both sequences.
    heads : of the attention.
    head_width : of queries, keys and values, which have no bias; the output has one.
    form : an `AttentionForm`.
    """

    def __init__(self, width: int, heads: int, head_width: int, form: str = AttentionForm.SOFTMAX) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.form = member(AttentionForm, form, "amkd", "attention")
        self.query = nn.Linear(width, heads * head_width, bias=False)
        self.key_value = nn.Linear(width, 2 * heads * head_width, bias=False)
        self.output = nn.Linear(heads * head_width, width)

    def forward(self, rows: Tensor, context: Tensor, row_sizes: Sequence[int], context_sizes: Sequence[int]) -> Tensor:
        """(all rows, width), (all context rows, width) -> (all rows, width)."""
        query = self.query(rows).unflatten(-1, (self.heads, self.head_width))
        key, value = self.key_value(context).unflatten(-1, (2, self.heads, self.head_width)).unbind(-3)
        attend = attend_within_bags if self.form is AttentionForm.SOFTMAX else _attend_linearly
        return self.output(attend(query, key, value, row_sizes, context_sizes).flatten(-2))

    def weights(
        self, rows: Tensor, context: Tensor, row_sizes: Sequence[int], context_sizes: Sequence[int]
    ) -> list[Tensor]:
        """(rows, context rows) of each patient, mean over heads, summing to 1 over the context; for explaining."""
        query = self.query(rows).unflatten(-1, (self.heads, self.head_width))
        key = self.key_value(context).unflatten(-1, (2, self.heads, self.head_width)).select(-3, 0)
        if self.form is AttentionForm.LINEAR:
            query, key = 1 + F.elu(query), 1 + F.elu(key)
        each = []
        for q, k in zip(query.split(list(row_sizes)), key.split(list(context_sizes)), strict=True):
            meeting = full_precision(q.transpose(0, 1) @ k.permute(1, 2, 0))
            if self.form is AttentionForm.SOFTMAX:
                each.append((meeting * self.head_width**-0.5).softmax(-1).mean(0))
            else:
                each.append((meeting / meeting.sum(-1, keepdim=True)).mean(0))
        return each


class Pooling(nn.Module):
    """One vector per patient, and the weight of every row in it.

    Parameters
    ----------
    width : of the rows.
    hidden : width of the gate.
    form : a `PoolingForm`.
    """

    def __init__(self, width: int, hidden: int, form: str) -> None:
        super().__init__()
        gated = member(PoolingForm, form, "amkd", "pooling") is PoolingForm.GATED
        self.gated = GatedAttention(width, hidden) if gated else None

    def forward(self, parts: Sequence[Tensor], ptr: Tensor) -> tuple[Tensor, Tensor]:
        """Pool the rows of each patient.

        Parameters
        ----------
        parts : (all rows, columns) each, whose columns would stand side by side: `width` in all.
        ptr : (patients + 1,) offsets.

        Returns
        -------
        Pooled rows (patients, width), and weights (all rows,).
        """
        if self.gated is not None:
            return self.gated(parts, ptr)
        sizes = ptr.diff()
        weights = torch.repeat_interleave(1 / sizes.to(parts[0].dtype), sizes, output_size=len(parts[0]))
        return torch.cat([pool_bags(weights, part, ptr) for part in parts], dim=-1), weights


def _attend_linearly(
    query: Tensor, key: Tensor, value: Tensor, query_sizes: Sequence[int], key_sizes: Sequence[int]
) -> Tensor:
    """phi(q) (sum_n phi(k_n) v_n^T) / (phi(q) . sum_n phi(k_n)) per head and patient, phi = 1 + ELU."""
    query, key = 1 + F.elu(query), 1 + F.elu(key)
    bags = zip(query.split(list(query_sizes)), key.split(list(key_sizes)), value.split(list(key_sizes)), strict=True)
    mixed = []
    for q, k, v in bags:
        memory = torch.einsum("nhd,nhe->hde", k, v)
        mixed.append(torch.einsum("nhd,hde->nhe", q, memory) / torch.einsum("nhd,hd->nh", q, k.sum(0)).unsqueeze(-1))
    return torch.cat(mixed)
