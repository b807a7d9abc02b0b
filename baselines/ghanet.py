"""G-HANet-like: a reconstruction after Wang et al., arXiv 2403.10040. Learns to rebuild expression from slides.

Predicts from slides alone. The graph is the official one, whose weights load at its width of 512. Ours are a width of
256, genes standardized per gene on the training split instead of filtered by a test over a weighted sampler, at least
one patch kept, and selection on the validation split instead of the test fold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Batch

from baselines.kernels.bags import attend_rows
from baselines.kernels.ragged import EachBag
from baselines.layers import Dropout, GatedAttention, relu_layers
from baselines.pathways import Members, needs_sets
from survbench.errors import ModalityDenied
from survbench.model import (
    AttentionAxis,
    GeneSetAttention,
    Inputs,
    Losses,
    Objective,
    Prediction,
    SurvivalModel,
    rename_state,
)

__all__ = ["GHANet"]


class GHANet(SurvivalModel):
    """Learned tokens, one per gene family, gather patches twice: to rebuild the families, and to predict survival.

    Parameters
    ----------
    width : of all rows (official: 512).
    heads : of each attention (official: 4).
    gate : hidden width of the gated attention (official: 256).
    bottleneck : width of each token before the head (official: 256).
    kept : share of patches that a token may look at.
    cosine : weight of the cosine loss of reconstruction.
    squared : weight of the squared error of reconstruction.
    dropout : rate in all parts.
    groups : `families` or `pathways` of the cohort.
    """

    official_names: ClassVar[Mapping[str, str]] = {
        "recon_net.tokens": "tokens",
        "recon_net.wsi_net.0.": "see.0.",
        "recon_net.cross_attention0.to_q.0.": "cross.to_q.",
        "recon_net.cross_attention0.to_k.0.": "cross.to_k.",
        "recon_net.cross_attention0.to_": "cross.to_",
        "recon_net.ffn": "feed_forwards.",
        "recon_net.ln_1.": "token_norm.",
        "recon_net.ln_2.": "patch_norm.",
        "recon_net.ln_3.": "norms.0.",
        "recon_net.ln_4.": "second_token_norm.",
        "recon_net.ln_5.": "norms.1.",
        "recon_net.ln_6.": "rebuilt_norm.",
        "recon_net.sig_reconstruct_net.": "rebuild.",
        "wsi_net.": "project.",
        "gate.attention_a.0.": "gate.value.",
        "gate.attention_b.0.": "gate.gate.",
        "gate.attention_c.": "gate.score.",
        "hyperconv1.linear1.": "convolve.0.",
        "hyperconv1.ln1.": "convolve.1.",
        "hyperconv1.linear2.": "convolve.3.",
        "hyperconv1.ln2.": "convolve.4.",
        "attention.to_q.0.": "attention.to_q.",
        "attention.to_k.0.": "attention.to_k.",
        "attention.to_": "attention.to_",
        "ln1.": "last_norm.",
        "ffn.": "feed_forward.",
        "butter.": "squeeze.",
        "classifier.": "head.",
    }  # the official second cross-attention is never used and has no counterpart

    def __init__(
        self,
        inputs: Inputs,
        outputs: int,
        *,
        width: int = 256,
        heads: int = 4,
        gate: int = 128,
        bottleneck: int = 128,
        kept: float = 0.2,
        cosine: float = 0.3,
        squared: float = 0.3,
        dropout: float = 0.25,
        groups: str = "families",
    ) -> None:
        super().__init__()
        sets = needs_sets(self, inputs, groups)
        self.sets, self.kept, self.cosine, self.squared = list(sets.values()), kept, cosine, squared
        self.set_names = tuple(sets)
        self.members = Members(sets)
        self.see = nn.Sequential(*relu_layers(dropout, inputs.feature_width, width))
        self.tokens = nn.Parameter(torch.randn(1, len(sets), width))
        self.token_norm, self.patch_norm, self.second_token_norm, self.rebuilt_norm = (
            nn.LayerNorm(width) for _ in range(4)
        )
        self.cross = _Attention(width, heads)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.feed_forwards = nn.ModuleList(_GatedFeedForward(width) for _ in range(2))
        self.rebuild = nn.ModuleList(
            nn.Sequential(*_normed(width, width, nn.ELU(), Dropout(dropout)), nn.Linear(width, len(genes)))
            for genes in self.sets
        )
        self.project = nn.Sequential(*_normed(inputs.feature_width, width, nn.ReLU(), Dropout(dropout)))
        self.gate = GatedAttention(width, gate, dropout)
        self.convolve = nn.Sequential(*_normed(width, width, nn.ReLU()), *_normed(width, width, nn.ReLU()))
        self.attention = _Attention(width, heads)
        self.last_norm, self.feed_forward = nn.LayerNorm(width), _GatedFeedForward(width)
        self.squeeze = nn.Sequential(*_normed(width, bottleneck, nn.ReLU(), Dropout(dropout)))
        self.head = nn.Linear(bottleneck * len(sets), outputs)

    def forward(self, batch: Batch) -> Prediction:
        """Slides only: `x`, `ptr`, `sizes`."""
        if not self.training and "expression" in batch:
            raise ModalityDenied("G-HANet-like predicts from slides alone, and this batch carries expression")
        rebuilt, similarities = self._gather(batch)
        patches = self.project(batch.x)
        _, shared = self.gate(patches, batch.ptr)
        counts = [max(1, int(self.kept * size)) for size in batch.sizes]
        own = similarities.map(Tensor.detach).with_counts(_strongest, counts)
        weights = own.plus(shared).map(lambda sum_of_two: sum_of_two / 2)
        seen = weights.weighted_sums(patches)
        joined = (self.convolve(seen) + seen + rebuilt) / 2
        joined = joined + self.attention.among(joined)
        joined = joined + self.feed_forward(self.last_norm(joined))
        logits = self.head(self.squeeze(joined).flatten(1))
        shares = weights.ragged()
        return Prediction(logits, shares.mean(0), {"rebuilt": rebuilt, "similarities": similarities, "shares": shares})

    def gene_set_attention(self, prediction: Prediction, batch: Batch) -> GeneSetAttention:
        """The learned token of each family is a query over the patches; no expression is involved."""
        return GeneSetAttention(self.set_names, prediction.aux["shares"].T, AttentionAxis.PATCHES)

    def _gather(self, batch: Batch) -> tuple[Tensor, EachBag]:
        """Tokens filled from patches in two rounds (B, sets, width), and the second round's similarities per bag."""
        patches = self.patch_norm(self.see(batch.x))
        tokens = self.tokens.expand(len(batch.sizes), -1, -1)
        rebuilt, _ = self.cross(self.token_norm(tokens), patches, batch.sizes)
        rebuilt = rebuilt + self.feed_forwards[0](self.norms[0](rebuilt))
        rebuilt, raw = self.cross(self.second_token_norm(tokens + rebuilt), patches, batch.sizes)
        rebuilt = rebuilt + self.feed_forwards[1](self.norms[1](rebuilt))
        return self.rebuilt_norm(rebuilt), raw.map(lambda similarity: similarity.mean(-3))

    def loss(self, prediction: Prediction, batch: Batch, objective: Objective) -> Losses:
        """The objective, and how badly each family was rebuilt: (1 - cosine)^3 and squared error, summed over sets."""
        survival = objective.loss(prediction.logits, batch.time, batch.event)
        cosine, squared = survival.new_zeros(()), survival.new_zeros(())
        for i, (true, network) in enumerate(zip(self.members(batch.expression), self.rebuild, strict=True)):
            rebuilt = network(prediction.aux["rebuilt"][:, i])
            cosine = cosine + (1 - F.cosine_similarity(rebuilt, true)).pow(3).mean()
            squared = squared + F.mse_loss(rebuilt, true)
        total = survival + self.cosine * cosine + self.squared * squared
        return {"total": total, "survival": survival, "cosine": cosine, "squared": squared}

    def deployed(self) -> nn.Module:
        """Everything but the networks that rebuild expression."""
        parts = [part for name, part in self.named_children() if name != "rebuild"]
        return nn.ModuleList([*parts, nn.ParameterList([self.tokens])])

    def official_state(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Without the official cross-attention that nothing calls."""
        used = {k: v for k, v in weights.items() if not k.startswith("recon_net.cross_attention1.")}
        return rename_state(used, self.official_names)


def _normed(before: int, after: int, *behind: nn.Module) -> tuple[nn.Module, ...]:
    """A linear layer between these widths, a norm, and what is behind."""
    return nn.Linear(before, after), nn.LayerNorm(after), *behind


def _strongest(similarity: Tensor, count: Any) -> Tensor:
    """(..., patches) -> softmax over as many patches as are counted, those of highest similarity; 0 elsewhere."""
    ordered = similarity.sort(-1, descending=True)
    rank = torch.arange(similarity.shape[-1], device=similarity.device)
    shares = ordered.values.masked_fill(rank >= count, -torch.inf).softmax(-1)
    return torch.zeros_like(shares).scatter(-1, ordered.indices, shares)


class _Attention(nn.Module):
    """Multi-head attention without biases but that of the output."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.to_out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, rows: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, EachBag]:
        """(B, tokens, width) over the rows of each bag -> the same shape, and similarities (heads, tokens, rows).

        Keys and values of rows are never computed, see `attend_rows`.
        """
        to_key, to_value = (project.weight.unflatten(0, (self.heads, -1)) for project in (self.to_k, self.to_v))
        query = self.to_q(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        scale = (rows.shape[-1] / query.shape[-1]) ** 0.5  # attend_rows divides by the root of the wider one
        mixed, similarities, _ = attend_rows((query @ to_key * scale).flatten(1, 2), rows, sizes)
        heads = (self.heads, tokens.shape[1])
        of_heads = mixed.unflatten(1, heads) @ to_value.mT
        each = similarities.map(lambda similarity: similarity.unflatten(-2, heads))
        return self.to_out(of_heads.transpose(1, 2).flatten(2)), each

    def among(self, tokens: Tensor) -> Tensor:
        """Self-attention among the tokens of each patient."""
        query, key, value = (
            project(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.to_q, self.to_k, self.to_v)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.to_out(mixed.transpose(1, 2).flatten(2))


class _GatedFeedForward(nn.Module):
    """value * GELU(gate) between two linear layers (GEGLU), four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([nn.Linear(width, 8 * width), nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, rows: Tensor) -> Tensor:
        value, gate = self.net[0](rows).chunk(2, -1)
        return self.net[2](value * F.gelu(gate))
