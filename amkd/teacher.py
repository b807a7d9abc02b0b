"""AMKD's teacher: slides and expression, trained first and then frozen. Alone it is a multimodal model like others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from amkd.attention import Attention, Pooling
from baselines.layers import Dropout, relu_layers
from baselines.pathways import PathwayEncoder, needs_sets
from survbench.model import AttentionAxis, GeneSetAttention, Inputs, Modalities, Prediction, Stage, SurvivalModel

__all__ = ["Teacher"]


class Teacher(SurvivalModel):
    """S-MLP of the pathways, self-attention in each modality, cross-attention both ways, pooling, head.

    The parts and their order are the paper's. Reconstructions: the projections to `width`, heads, residual connections
    and norms, pooling inside each modality before the two are joined, and the head's widths.

    Parameters
    ----------
    width : of all rows.
    pooling : `gated` or `mean`.
    dropout : rate behind each ReLU.
    pathway_width : of a pathway's embedding (paper: 1024).
    pathway_hidden : units of each pathway's first layer.
    heads : of every attention.
    head_width : of queries, keys and values.
    gate : hidden width of the gated pooling.
    """

    def __init__(
        self,
        inputs: Inputs,
        outputs: int,
        *,
        width: int = 256,
        pooling: str = "gated",
        dropout: float = 0.25,
        pathway_width: int = 1024,
        pathway_hidden: int = 8,
        heads: int = 4,
        head_width: int = 64,
        gate: int = 128,
    ) -> None:
        super().__init__()
        self.settings = {k: v for k, v in locals().items() if k not in ("self", "inputs", "outputs", "__class__")}
        needs_sets(self, inputs)
        self.guided_width, self.pathway_names = width, tuple(inputs.pathways)

        def attention() -> Attention:
            return Attention(width, heads, head_width)

        self.encode_pathways = PathwayEncoder(inputs.pathways, pathway_hidden, pathway_width)
        self.project_pathways = nn.Linear(pathway_width, width)
        self.activate_pathways = nn.Sequential(nn.ReLU(), Dropout(dropout))
        self.project_patches = nn.Sequential(*relu_layers(dropout, inputs.feature_width, width))
        self.pathway_norm, self.patch_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.pathway_self, self.patch_self = attention(), attention()
        self.pathway_cross_norm, self.patch_cross_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.gene_by_path, self.path_by_gene = attention(), attention()
        self.pool_pathways, self.pool_patches = (Pooling(2 * width, gate, pooling) for _ in range(2))
        self.head = nn.Sequential(nn.Linear(4 * width, width), nn.ReLU(), Dropout(dropout), nn.Linear(width, outputs))

    def forward(self, batch: Batch) -> Prediction:
        """Slides and expression; `aux["guided"]` is h_g2p of the paper, attention that of the patch pooling."""
        sizes, patients, genes = batch.sizes, len(batch.expression), self.encode_pathways.pathways
        gene_sizes = [genes] * patients
        pathways, patches = self._within(batch)
        normed, normed_patches = self.pathway_cross_norm(pathways), self.patch_cross_norm(patches)
        informed = self.gene_by_path(normed, normed_patches, gene_sizes, sizes)
        guided = self.path_by_gene(normed_patches, normed, sizes, gene_sizes)
        gene_ptr = torch.arange(0, (patients + 1) * genes, genes, device=batch.x.device)
        from_genes, of_genes = self.pool_pathways((pathways, informed), gene_ptr)
        from_patches, weights = self.pool_patches((patches, guided), batch.ptr)
        logits = self.head(torch.cat([from_genes, from_patches], dim=-1))
        return Prediction(
            logits, attention=weights, aux={"guided": guided, "pathways": of_genes.unflatten(0, (patients, genes))}
        )

    def _within(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Rows after the self-attention of either modality: all pathways (B x pathways, width), (patches, width)."""
        sizes, gene_sizes = batch.sizes, [self.encode_pathways.pathways] * len(batch.expression)
        projected = self.encode_pathways.projected(batch.expression, self.project_pathways)
        pathways = self.activate_pathways(projected).flatten(0, 1)
        patches = self.project_patches(batch.x)
        normed = self.pathway_norm(pathways)
        pathways = pathways + self.pathway_self(normed, normed, gene_sizes, gene_sizes)
        normed = self.patch_norm(patches)
        return pathways, patches + self.patch_self(normed, normed, sizes, sizes)

    def pathway_attention(self, batch: Batch) -> Tensor:
        """Weights of the pooling over pathways."""
        return self(batch).aux["pathways"]

    def attention_maps(self, prediction: Prediction, batch: Batch) -> Mapping[str, Tensor]:
        """The co-attention of pathways over patches, mean over pathways, and the weights of the pooling over patches.

        The other direction, path x gene, adds up to 1 for each patch and so distinguishes no patch from another; see
        `gene_set_attention` for one pathway at a time.
        """
        pathways, patches = self._within(batch)
        gene_sizes = [self.encode_pathways.pathways] * len(batch.expression)
        over_patches = self.gene_by_path.weights(
            self.pathway_cross_norm(pathways), self.patch_cross_norm(patches), gene_sizes, batch.sizes
        )
        assert prediction.attention is not None
        return {
            "co-attention": torch.cat([weights.mean(0) for weights in over_patches]),
            "pooling": prediction.attention,
        }

    def gene_set_attention(self, prediction: Prediction, batch: Batch) -> GeneSetAttention:
        """Path x gene: each patch is a query over the pathways (paper)."""
        pathways, patches = self._within(batch)
        gene_sizes = [self.encode_pathways.pathways] * len(batch.expression)
        over_pathways = self.path_by_gene.weights(
            self.patch_cross_norm(patches), self.pathway_cross_norm(pathways), batch.sizes, gene_sizes
        )
        return GeneSetAttention(self.pathway_names, torch.cat(over_pathways), AttentionAxis.SETS)

    def stages(self, train_inputs: Modalities, inference_inputs: Modalities) -> list[Stage]:
        """One, on the Cox loss (paper), shared with every student that learns from this teacher."""
        stage = self.survival_stage("teacher", train_inputs, inference_inputs)
        return [replace(stage, decided_by={"model": "amkd.teacher", **self.settings})]
