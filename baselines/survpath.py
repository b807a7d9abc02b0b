"""SurvPath (Jaume et al., CVPR 2024, arXiv 2304.06819).

331 pathway tokens and all patches in one attention that leaves out patch-to-patch. No residuals, as published.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from baselines.kernels.bags import attend_bags, attend_tokens, mean_bags
from baselines.layers import Dropout
from baselines.pathways import PathwayNetworks, needs_sets
from survbench.model import AttentionAxis, GeneSetAttention, Inputs, Prediction, SurvivalModel, rename_state

__all__ = ["SurvPath"]


class SurvPath(SurvivalModel):
    """Pathway and patch tokens -> memory-efficient attention -> feed-forward -> both means -> logits (B, outputs).

    Parameters
    ----------
    width : of the tokens; attention has one head of half of it.
    network_dropout : rate in the pathway networks.
    dropout : rate in the feed-forward network.
    """

    official_names: ClassVar[Mapping[str, str]] = {
        "wsi_projection_net.0.": "project.",
        "cross_attender.norm.": "norm.",
        "cross_attender.attn.to_qkv.": "to_qkv.",
        "feed_forward.norm.": "feed_forward.0.",
        "feed_forward.net.0.": "feed_forward.1.",
        "feed_forward.net.3.": "feed_forward.4.",
        "layer_norm.": "last_norm.",
        "to_logits.0.": "squeeze.0.",
        "to_logits.2.": "head.",
    }  # `sig_networks.<p>.` goes into `pathways`, see PathwayNetworks.from_official

    def __init__(
        self,
        inputs: Inputs,
        outputs: int,
        *,
        width: int = 256,
        network_dropout: float = 0.25,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        needs_sets(self, inputs)
        inner = self.guided_width = width // 2
        self.pathway_names = tuple(inputs.pathways)
        self.pathways = PathwayNetworks(inputs.pathways, width, network_dropout)
        self.project = nn.Linear(inputs.feature_width, width)
        self.norm = nn.LayerNorm(width)
        self.to_qkv = nn.Linear(width, 3 * inner, bias=False)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(inner), nn.Linear(inner, inner), nn.GELU(), Dropout(dropout), nn.Linear(inner, inner)
        )
        self.last_norm = nn.LayerNorm(inner)
        self.squeeze = nn.Sequential(nn.Linear(2 * inner, width // 4), nn.ReLU())
        self.head = nn.Linear(width // 4, outputs)

    def forward(self, batch: Batch) -> Prediction:
        """Slides and expression; attention is that of the pathways over patches, scaled to 1 per bag.

        Patches attend to pathways here, so what becomes of them are patch features informed by expression.
        """
        of_pathways, of_patches, weights, shares = self._attend(*self._tokens(batch), batch.sizes)
        of_pathways, of_patches = (self.last_norm(self.feed_forward(rows)) for rows in (of_pathways, of_patches))
        means = [of_pathways.mean(1), mean_bags(of_patches, batch.ptr)]
        aux = {"guided": of_patches, "pathways": shares}
        return Prediction(self.head(self.squeeze(torch.cat(means, dim=1))), weights, aux)

    def pathway_attention(self, batch: Batch) -> Tensor:
        """What pathways receive from pathways, mean over the queries, scaled to 1."""
        return self(batch).aux["pathways"]

    def gene_set_attention(self, prediction: Prediction, batch: Batch) -> GeneSetAttention:
        """Each patch is a query over the pathways."""
        tokens, patches = self._tokens(batch)
        queries, keys = patches.chunk(3, -1)[0].split(list(batch.sizes)), tokens.chunk(3, -1)[1]
        each = [(own @ key.T * key.shape[1] ** -0.5).softmax(-1) for own, key in zip(queries, keys, strict=True)]
        return GeneSetAttention(self.pathway_names, torch.cat(each), AttentionAxis.SETS)

    def _tokens(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Query, key and value side by side: (B, pathways, 3 inner), (patches, 3 inner)."""
        return self.to_qkv(self.norm(self.pathways(batch.expression))), self.to_qkv(self.norm(self.project(batch.x)))

    def _attend(self, tokens: Tensor, patches: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pathways over pathways and patches together, patches over pathways.

        Parameters
        ----------
        tokens : (B, pathways, 3 inner), query, key and value side by side.
        patches : (patches, 3 inner), the same.
        sizes : patches of each patient.

        Returns
        -------
        (B, pathways, inner), (patches, inner), attention (patches,), attention (B, pathways).
        """
        query, key, value = tokens.chunk(3, -1)
        patch_query, patch_key, patch_value = patches.chunk(3, -1)
        beside = key.unsqueeze(2), value.unsqueeze(2)  # one head
        of_pathways, _, each = attend_bags(
            query.unsqueeze(1), patch_key.unsqueeze(1), patch_value.unsqueeze(1), sizes, beside
        )
        among, shares = each.map(lambda weights: weights.mean((-3, -2))).split(tokens.shape[1])
        of_patches = attend_tokens(patch_query, key, value, sizes)
        return of_pathways.squeeze(1), of_patches, shares.map(_whole).ragged(), _whole(among)

    def official_state(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The official list of pathway networks becomes stacked weights."""
        rest = {k: v for k, v in weights.items() if not k.startswith("sig_networks.")}
        pathways = {f"pathways.{k}": v for k, v in self.pathways.from_official(weights).items()}
        return {**pathways, **rename_state(rest, self.official_names)}


def _whole(shares: Tensor) -> Tensor:
    """Scaled to a sum of 1."""
    return shares / shares.sum(-1, keepdim=True)
