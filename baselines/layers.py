"""Layers that several models share, written for ragged batches: bags one after another, no padding.

Models themselves are in their own files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.utils import segment, softmax

from baselines.ragged import EachBag, layout, owners, spreads, taken, together
from survbench.errors import BadConfig
from survbench.model import Inputs

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # before torch 2.10
    varlen_attn = None  # type: ignore[assignment]

__all__ = [
    "AlphaDropout",
    "Dropout",
    "GatedAttention",
    "PathwayEncoder",
    "PathwayNetworks",
    "attend_bags",
    "attend_within_bags",
    "full_precision",
    "mean_bags",
    "needs_families",
    "needs_pathways",
    "pool_bags",
    "softmax_bags",
]

HALF = (torch.float16, torch.bfloat16)
FEW = 2**18  # numbers that are sooner written out than taken bag by bag


def needs_pathways(model: object, inputs: Inputs) -> None:
    """Refuse a cohort without pathways."""
    if not inputs.pathways:
        raise BadConfig(
            f"{type(model).__name__} needs pathways, and the cohort has none",
            "import it with pathways (`survbench data import --pathways FILE.gmt`)",
        )


def needs_families(model: object, inputs: Inputs, groups: str) -> Mapping[str, tuple[int, ...]]:
    """The gene sets that become tokens: `families` (MCAT's six, the papers' choice) or `pathways`."""
    sets = {"families": inputs.families, "pathways": inputs.pathways}
    if groups not in sets:
        raise BadConfig(f"{type(model).__name__}: groups is '{groups}'", f"choose from {', '.join(sets)}")
    if not sets[groups]:
        raise BadConfig(
            f"{type(model).__name__} needs gene {groups}, and the cohort has none",
            "import it with --families signatures.csv, or use its pathways (--set groups=pathways)",
        )
    return sets[groups]


class Dropout(nn.Dropout):
    """Dropout whose random numbers are cheap on a CPU, where torch's take a fifth of a training step.

    Sixteen random bits decide on an element, four elements share one draw, so the rate is met to 1 in 130,000.
    """

    def forward(self, rows: Tensor) -> Tensor:
        """Any shape."""
        kept = _kept(rows, self.p) if self.training else None
        return super().forward(rows) if kept is None else rows * kept.to(rows.dtype).mul_(1 / (1 - self.p))


class AlphaDropout(nn.AlphaDropout):
    """The same for alpha dropout (Klambauer et al. 2017): what is dropped takes SELU's lowest value, mean and variance
    stay.
    """

    def forward(self, rows: Tensor) -> Tensor:
        """Any shape."""
        kept = _kept(rows, self.p) if self.training else None
        if kept is None:
            return super().forward(rows)
        lowest = -1.7580993408473766  # -(scale x alpha) of SELU
        scale = ((1 - self.p) * (1 + self.p * lowest**2)) ** -0.5
        return torch.where(kept, rows * scale, lowest * scale).sub_(self.p * lowest * scale)


def _kept(rows: Tensor, rate: float) -> Tensor | None:
    """Which elements dropout keeps; None where torch's own numbers will do."""
    cut = round(rate * 2**16)
    if cut in (0, 2**16) or rows.device.type != "cpu":
        return None
    draws = torch.empty(-(-rows.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    return draws.view(torch.int16)[: rows.numel()].view(rows.shape) >= cut - 2**15


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


class GatedAttention(nn.Module):
    """Gated attention pooling over each bag (Ilse et al. 2018, eq. 9).

    score_n = w . (tanh(V h_n) * sigmoid(U h_n)), softmax over the patches of a bag, weighted sum of its rows.
    """

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.value = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1)
        self.dropout = Dropout(dropout)

    def forward(self, rows: Tensor | Sequence[Tensor], ptr: Tensor) -> tuple[Tensor, Tensor]:
        """(patches, width), offsets -> pooled (bags, width), weights (patches,).

        rows : or tensors that would be one side by side, which need not be written out for that.
        """
        parts = (rows,) if isinstance(rows, Tensor) else tuple(rows)
        weight = torch.cat([self.value.weight, self.gate.weight])  # one product, which reads the rows once
        bias = torch.cat([self.value.bias, self.gate.bias])
        first, *others = zip(parts, weight.split([part.shape[1] for part in parts], dim=1), strict=True)
        hidden = F.linear(*first, bias)
        for part, own in others:
            hidden = hidden + F.linear(part, own)
        value, gate = hidden.chunk(2, dim=-1)
        value, gate = self.dropout(torch.tanh(value)), self.dropout(torch.sigmoid(gate))
        scores = self.score(value * gate).squeeze(-1)
        weights = softmax_bags(scores, ptr)
        return torch.cat([pool_bags(weights, part, ptr) for part in parts], dim=-1), weights


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
    (B, heads, queries, width); of each patient (heads, queries, tokens + patches), the scaled similarities and their
    softmax.
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
        similarities.append(asking @ keys.permute(1, 2, 0))
        shares.append(similarities[-1].softmax(-1))
        parts.append(shares[-1] @ values.transpose(0, 1))
    return torch.stack(parts), EachBag(seen, tuple(similarities)), EachBag(seen, tuple(shares))


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


class PathwayEncoder(nn.Module):
    """Two layers in which genes feed only the pathways that contain them: (B, genes) -> (B, pathways, width).

    The masked layers of SMLP (after P-NET, Elmarakeby et al. 2021), stored sparsely: one weight row per membership
    instead of a dense masked matrix, so the parameter count is the effective one. All pathways in one gather, one sum
    and one product. Fan-in is that of the mask.

    Parameters
    ----------
    hidden, width : units of each pathway in the first and the second layer. activated : ReLU between them.
    """

    membership_gene: Tensor
    membership_pathway: Tensor

    def __init__(
        self, pathways: Mapping[str, Sequence[int]], hidden: int, width: int, *, activated: bool = True
    ) -> None:
        super().__init__()
        self.activated = activated
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
        return torch.einsum("bph,phw->bpw", self._units(expression), self.second) + self.second_bias

    def projected(self, expression: Tensor, linear: nn.Linear) -> Tensor:
        """`linear` of the encoding, (B, genes) -> (B, pathways, linear.out_features).

        Nothing lies between the two, so the weights are multiplied first where there are more patients than weights of
        a pathway: the same product, less work, and no encoding to keep for the gradient.
        """
        if len(expression) <= self.second.shape[1] + 1:
            encoded: Tensor = linear(self(expression))
            return encoded
        weights = self.second @ linear.weight.T
        return torch.einsum("bph,phw->bpw", self._units(expression), weights) + linear(self.second_bias)

    def _units(self, expression: Tensor) -> Tensor:
        products = expression[:, self.membership_gene].unsqueeze(-1) * self.first
        hidden = products.new_zeros(len(expression), self.pathways, products.shape[-1])
        hidden = hidden.index_add(1, self.membership_pathway, products) + self.first_bias
        return F.relu(hidden) if self.activated else hidden

    def from_dense(
        self, fc_1_weight: Tensor, fc_1_bias: Tensor, fc_2_weight: Tensor, fc_2_bias: Tensor
    ) -> dict[str, Tensor]:
        """State from the official dense matrices: (genes, pathways x hidden) and (pathways x hidden, pathways x width).

        What their masks hide is dropped.
        """
        (hidden, width), count = self.second.shape[1:], self.pathways
        first = fc_1_weight.view(len(fc_1_weight), count, hidden)
        second, each = fc_2_weight.view(count, hidden, count, width), torch.arange(count)
        return {
            "first": first[self.membership_gene, self.membership_pathway],
            "first_bias": fc_1_bias.view(count, hidden),
            "second": second[each, :, each],
            "second_bias": fc_2_bias.view(count, width),
        }


class PathwayNetworks(nn.Module):
    """A network of its own for each gene set: two blocks linear, ELU, alpha dropout; (B, genes) -> (B, sets, width).

    The tokens of MCAT (six families) and SurvPath (331 pathways). No loop over sets: those with the same number of
    genes are one product, and the first layers' weights lie in one tensor, ordered by size.
    """

    genes: Tensor
    place: Tensor

    def __init__(self, sets: Mapping[str, Sequence[int]], width: int, dropout: float) -> None:
        super().__init__()
        self.activate = nn.Sequential(nn.ELU(), AlphaDropout(dropout))
        members = list(sets.values())
        self.order = sorted(range(len(members)), key=lambda i: len(members[i]))
        self.runs = [(size, len(list(same))) for size, same in groupby(len(members[i]) for i in self.order)]
        self.register_buffer("genes", torch.tensor([g for i in self.order for g in members[i]]), persistent=False)
        self.register_buffer("place", torch.argsort(torch.tensor(self.order)), persistent=False)
        fan_in = torch.tensor([float(len(members[i])) for i in self.order for _ in members[i]])
        self.first = nn.Parameter(torch.empty(len(fan_in), width).uniform_(-1, 1) * fan_in.rsqrt().unsqueeze(1))
        bound = torch.tensor([len(members[i]) ** -0.5 for i in self.order]).unsqueeze(1)
        self.first_bias = nn.Parameter(torch.empty(len(members), width).uniform_(-1, 1) * bound)
        self.second = nn.Parameter(torch.empty(len(members), width, width).uniform_(-1, 1) * width**-0.5)
        self.second_bias = nn.Parameter(torch.empty(len(members), width).uniform_(-1, 1) * width**-0.5)

    def forward(self, expression: Tensor) -> Tensor:
        """(B, genes) -> (B, sets, width), sets in the order in which they were given."""
        members = expression[:, self.genes]
        hidden = self._padded(members) if together(members) else self._by_size(members)
        hidden = self.activate(hidden + self.first_bias.unsqueeze(1))
        tokens = self.activate(torch.baddbmm(self.second_bias.unsqueeze(1), hidden, self.second))
        return taken(tokens, self.place).transpose(0, 1)

    def _by_size(self, members: Tensor) -> Tensor:
        """The first products, (B, all members) -> (sets, B, width): one for all sets of a size."""
        rows = [size * count for size, count in self.runs]
        width = self.first.shape[1]
        each = zip(self.runs, members.split(rows, 1), self.first.split(rows), strict=True)
        return torch.cat(
            [
                torch.bmm(x.view(-1, count, size).transpose(0, 1), weight.view(count, size, width))
                for (size, count), x, weight in each
            ]
        )

    def _padded(self, members: Tensor) -> Tensor:
        """The same as one product, in which every set is as large as the largest."""
        sets = layout(tuple(size for size, count in self.runs for _ in range(count)), members.device)
        return torch.bmm(sets.padded(members.T).transpose(1, 2), sets.padded(self.first))

    def from_official(self, weights: Mapping[str, Tensor], prefix: str = "sig_networks.") -> dict[str, Tensor]:
        """State from the official list of networks: `<prefix><set>.<block>.0.{weight,bias}`."""

        def stacked(block: int, kind: str) -> list[Tensor]:
            return [weights[f"{prefix}{i}.{block}.0.{kind}"] for i in self.order]

        return {
            "first": torch.cat([weight.T for weight in stacked(0, "weight")]),
            "first_bias": torch.stack(stacked(0, "bias")),
            "second": torch.stack(stacked(1, "weight")).transpose(1, 2),
            "second_bias": torch.stack(stacked(1, "bias")),
        }
