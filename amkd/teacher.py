"""AMKD's teacher: slides and expression, trained first and then frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from amkd.attention import Attention, AttentionForm, Pooling, PoolingForm
from baselines.layers import PathwayEncoder

__all__ = ["Teacher", "TeacherOutput"]


@dataclass
class TeacherOutput:
    """logits (B, outputs); guided (patches, width), h_g2p of the paper; weights (patches,) of the patch pooling."""

    logits: Tensor
    guided: Tensor
    weights: Tensor


class Teacher(nn.Module):
    """S-MLP of the pathways, self-attention in each modality, cross-attention both ways, pooling, head.

    The parts and their order are the paper's. Reconstructions: the projections to `width`, heads, residual connections
    and norms, pooling inside each modality before the two are joined, and the head's widths.

    Parameters
    ----------
    pathways : name -> positions of its genes. pathway_width : of a pathway's embedding (paper: 1024).
    pathway_hidden : units of each pathway's first layer.
    """

    def __init__(
        self,
        features: int,
        pathways: Mapping[str, Sequence[int]],
        outputs: int,
        *,
        width: int,
        pathway_width: int,
        pathway_hidden: int,
        heads: int,
        head_width: int,
        gate: int,
        dropout: float,
        pooling: PoolingForm,
    ) -> None:
        super().__init__()

        def attention() -> Attention:
            return Attention(width, heads, head_width, AttentionForm.SOFTMAX)

        self.encode_pathways = PathwayEncoder(pathways, pathway_hidden, pathway_width)
        self.project_pathways = nn.Sequential(nn.Linear(pathway_width, width), nn.ReLU(), nn.Dropout(dropout))
        self.project_patches = nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Dropout(dropout))
        self.pathway_norm, self.patch_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.pathway_self, self.patch_self = attention(), attention()
        self.pathway_cross_norm, self.patch_cross_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.gene_by_path, self.path_by_gene = attention(), attention()
        self.pool_pathways, self.pool_patches = Pooling(2 * width, gate, pooling), Pooling(2 * width, gate, pooling)
        self.head = nn.Sequential(
            nn.Linear(4 * width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, outputs)
        )

    def forward(self, x: Tensor, ptr: Tensor, sizes: Sequence[int], expression: Tensor) -> TeacherOutput:
        """x (patches, features), offsets, patches per patient, expression (B, genes)."""
        patients, genes = len(expression), self.encode_pathways.pathways
        gene_sizes = [genes] * patients
        pathways = self.project_pathways(self.encode_pathways(expression)).flatten(0, 1)
        patches = self.project_patches(x)
        normed = self.pathway_norm(pathways)
        pathways = pathways + self.pathway_self(normed, normed, gene_sizes, gene_sizes)
        normed = self.patch_norm(patches)
        patches = patches + self.patch_self(normed, normed, sizes, sizes)
        to_meet, patches_to_meet = self.pathway_cross_norm(pathways), self.patch_cross_norm(patches)
        informed = self.gene_by_path(to_meet, patches_to_meet, gene_sizes, sizes)
        guided = self.path_by_gene(patches_to_meet, to_meet, sizes, gene_sizes)
        gene_ptr = torch.arange(0, (patients + 1) * genes, genes, device=x.device)
        from_genes, _ = self.pool_pathways(torch.cat([pathways, informed], dim=-1), gene_ptr)
        from_patches, weights = self.pool_patches(torch.cat([patches, guided], dim=-1), ptr)
        return TeacherOutput(self.head(torch.cat([from_genes, from_patches], dim=-1)), guided, weights)
