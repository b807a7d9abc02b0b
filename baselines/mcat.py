"""MCAT: multimodal co-attention transformer (Chen et al., ICCV 2021).

Each gene family is a query over all patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from baselines.kernels.bags import attend_rows
from baselines.layers import GatedAttention, relu_layers
from baselines.pathways import PathwayNetworks, needs_sets
from survbench.model import AttentionAxis, GeneSetAttention, Inputs, Prediction, SurvivalModel, rename_state

__all__ = ["MCAT"]


class MCAT(SurvivalModel):
    """Patches and gene families -> co-attention -> a transformer and gated pooling on each side -> logits (B, outputs).

    Parameters
    ----------
    width : of all tokens.
    heads : of the two transformers.
    feed_forward : hidden width of the two transformers.
    layers : of the two transformers.
    dropout : rate in all parts.
    groups : `families` (the paper's six) or `pathways` of the cohort.
    """

    official_names: ClassVar[Mapping[str, str]] = {
        "wsi_net.0.": "project.0.",
        "coattn.in_proj_": "coattention.in_proj_",
        "coattn.out_proj.": "coattention.out_proj.",
        "path_transformer.": "slide_side.transformer.",
        "path_attention_head.attention_a.0.": "slide_side.pool.value.",
        "path_attention_head.attention_b.0.": "slide_side.pool.gate.",
        "path_attention_head.attention_c.": "slide_side.pool.score.",
        "path_rho.0.": "slide_side.rho.0.",
        "omic_transformer.": "gene_side.transformer.",
        "omic_attention_head.attention_a.0.": "gene_side.pool.value.",
        "omic_attention_head.attention_b.0.": "gene_side.pool.gate.",
        "omic_attention_head.attention_c.": "gene_side.pool.score.",
        "omic_rho.0.": "gene_side.rho.0.",
        "mm.": "fuse.",
        "classifier.": "head.",
    }  # MCAT and SurvPath repositories; `sig_networks.<i>.` goes into `families`, see PathwayNetworks.from_official

    def __init__(
        self,
        inputs: Inputs,
        outputs: int,
        *,
        width: int = 256,
        heads: int = 8,
        feed_forward: int = 512,
        layers: int = 2,
        dropout: float = 0.25,
        groups: str = "families",
    ) -> None:
        super().__init__()
        sets = needs_sets(self, inputs, groups)
        self.set_names = tuple(sets)
        self.families = PathwayNetworks(sets, width, dropout)
        self.project = nn.Sequential(*relu_layers(dropout, inputs.feature_width, width))
        self.coattention = nn.MultiheadAttention(width, 1)
        self.slide_side = _Side(width, heads, feed_forward, layers, dropout)
        self.gene_side = _Side(width, heads, feed_forward, layers, dropout)
        self.fuse = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, outputs)

    def forward(self, batch: Batch) -> Prediction:
        """Slides and expression; attention is the mean of the families' over the patches."""
        genes = self.families(batch.expression)
        seen, shares = self._coattend(genes, self.project(batch.x), batch.sizes)
        joined = torch.cat([self.slide_side(seen), self.gene_side(genes)], dim=1)
        return Prediction(self.head(self.fuse(joined)), shares.mean(0), {"tokens": genes, "shares": shares})

    def gene_set_attention(self, prediction: Prediction, batch: Batch) -> GeneSetAttention:
        """Each family is a query over the patches."""
        return GeneSetAttention(self.set_names, prediction.aux["shares"].T, AttentionAxis.PATCHES)

    def _coattend(self, genes: Tensor, patches: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """(B, families, width), (patches, width) -> (B, families, width), weights (families, patches).

        Keys and values of patches are never computed, see `attend_rows`.
        """
        own, linear = self.coattention, nn.functional.linear
        (wq, wk, wv), (bq, _, bv) = own.in_proj_weight.chunk(3), own.in_proj_bias.chunk(3)
        mixed, _, weights = attend_rows(linear(genes, wq, bq) @ wk, patches, sizes)
        return own.out_proj(linear(mixed, wv, bv)), weights.ragged()

    def official_state(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The official list of family networks becomes stacked weights."""
        rest = {k: v for k, v in weights.items() if not k.startswith("sig_networks.")}
        families = {f"families.{k}": v for k, v in self.families.from_official(weights).items()}
        return {**families, **rename_state(rest, self.official_names)}


class _Side(nn.Module):
    """Tokens of one modality (B, tokens, width) -> transformer -> gated pooling -> ReLU layer (B, width)."""

    def __init__(self, width: int, heads: int, feed_forward: int, layers: int, dropout: float) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, heads, feed_forward, dropout, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.pool = GatedAttention(width, width, dropout)
        self.rho = nn.Sequential(*relu_layers(dropout, width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        count = tokens.shape[1]
        ptr = torch.arange(0, len(tokens) * count + 1, count, device=tokens.device)
        pooled, _ = self.pool(self.transformer(tokens).flatten(0, 1), ptr)
        return self.rho(pooled)
