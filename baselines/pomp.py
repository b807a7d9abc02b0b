"""POMP-like: a reconstruction after Wang et al., IJCAI 2025, paper 869. Pre-trains on pairs of slide and expression.

Ours: patch features instead of pixels, gene sets of one transcriptome instead of three omics, and pre-training on the
fold's training split alone, selected on its validation split without survival labels. Fine-tuning starts from the
pre-trained weights: the job's record holds the digest of both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Batch

from baselines.kernels.bags import attend_rows, attend_within_bags
from baselines.kernels.ragged import first_rows, with_first_rows
from baselines.layers import Dropout
from baselines.pathways import Members, needs_sets
from survbench.model import (
    AttentionAxis,
    GeneSetAttention,
    Inputs,
    Losses,
    Modalities,
    Objective,
    Prediction,
    Stage,
    SurvivalModel,
)

__all__ = ["POMP"]


class POMP(SurvivalModel):
    """Slides and gene sets through transformers of their own, then gene sets attend to the slide; class row -> logits.

    Parameters
    ----------
    width : of every transformer.
    heads : of every transformer.
    layers : of every transformer.
    pretrain : whether there is a first stage.
    contrast : weight of telling true pairs of slide and expression from those of the batch (paper: 1).
    match : weight of telling true pairs from the most similar false ones (paper: 6).
    rebuild : weight of rebuilding hidden gene sets (paper: 3).
    hidden : share of gene sets that are hidden and rebuilt.
    pretrain_patches : of each bag in the first stage.
    pretrain_learning_rate : of the first stage.
    dropout : rate in all parts.
    groups : `families` or `pathways` of the cohort.
    """

    def __init__(
        self,
        inputs: Inputs,
        outputs: int,
        *,
        width: int = 256,
        heads: int = 4,
        layers: int = 2,
        pretrain: bool = True,
        contrast: float = 1.0,
        match: float = 6.0,
        rebuild: float = 3.0,
        hidden: float = 0.15,
        pretrain_patches: int = 512,
        pretrain_learning_rate: float = 5e-4,
        dropout: float = 0.1,
        groups: str = "families",
    ) -> None:
        super().__init__()
        sets = needs_sets(self, inputs, groups)
        self.pretrain, self.weights, self.hidden = pretrain, (contrast, match, rebuild), hidden
        self.set_names = tuple(sets)
        self.settings = {"patches": pretrain_patches, "learning_rate": pretrain_learning_rate}
        self.encoder = _Encoder(inputs.feature_width, sets, width, heads, layers, dropout)
        self.pretext = _Pretext(sets, width)
        self.head = nn.Linear(width, outputs)

    def forward(self, batch: Batch) -> Prediction:
        """Slides and expression; attention is that of the fused class row over the patches."""
        slide, genes = self.encoder.slide(batch), self.encoder.genes(batch.expression)
        fused, shares = self.encoder.fuse(slide, genes, class_alone=True)
        return Prediction(self.head(fused[:, 0]), shares[0], {"shares": shares[1:]})

    def gene_set_attention(self, prediction: Prediction, batch: Batch) -> GeneSetAttention:
        """The row of each gene set, which has attended to the others before, is a query over the patches."""
        return GeneSetAttention(self.set_names, prediction.aux["shares"].T, AttentionAxis.PATCHES)

    def stages(self, train_inputs: Modalities, inference_inputs: Modalities) -> list[Stage]:
        """Pre-training without labels, then survival from those weights."""
        survival = self.survival_stage("survival", train_inputs, inference_inputs, self.deployed())
        if not self.pretrain:
            return [survival]
        first = Stage(
            name="pretrain",
            trained=nn.ModuleList([self.encoder, self.pretext]),
            inputs=train_inputs,
            predict=self.pair,
            loss=self.pretext_loss,
            training=self.settings,
            selected_by="loss",
        )
        return [first, survival]

    def deployed(self) -> nn.Module:
        """Without the heads of pre-training."""
        return nn.ModuleList([self.encoder, self.head])

    def pair(self, batch: Batch) -> Prediction:
        """Each patient's slide and gene sets, some of the sets hidden; no survival is predicted."""
        slide = self.encoder.slide(batch)
        genes = self.encoder.genes(batch.expression)
        masked = self._choose_hidden(len(batch.expression)).to(batch.expression.device, non_blocking=True)
        partly = self.encoder.genes(batch.expression, masked, self.pretext.blank)
        aux = {"slide": slide, "genes": genes, "partly": partly, "masked": masked}
        return Prediction(genes.new_zeros(len(genes), 0), aux=aux)

    def pretext_loss(self, prediction: Prediction, batch: Batch, objective: Objective) -> Losses:
        """Which slide belongs to which expression (contrast, match), and what the hidden sets were (rebuild)."""
        slide, genes, partly, masked = (prediction.aux[k] for k in ("slide", "genes", "partly", "masked"))
        similarity = self.pretext.similarity(slide.classes, genes[:, 0])
        target = torch.arange(len(similarity), device=similarity.device)
        contrast = (F.cross_entropy(similarity, target) + F.cross_entropy(similarity.T, target)) / 2
        terms = {
            "contrast": contrast,
            "match": self._matching(slide, genes, similarity.detach()),
            "rebuild": self.pretext.rebuilding(
                self.encoder.fuse(slide, partly)[0], self.encoder.members(batch.expression), masked
            ),
        }
        weighted = [weight * term for weight, term in zip(self.weights, terms.values(), strict=True)]
        total = torch.stack(weighted).sum()
        return {"total": total, **terms}

    def _matching(self, slide: _Slides, genes: Tensor, similarity: Tensor) -> Tensor:
        """Cross-entropy of telling true pairs from the most confusing false ones, sampled by their similarity."""
        count = len(genes)
        apart = similarity.masked_fill(torch.eye(count, dtype=torch.bool, device=similarity.device), -math.inf)
        other_genes = torch.multinomial(apart.softmax(1), 1).squeeze(1)
        other_slides = torch.multinomial(apart.T.softmax(1), 1).squeeze(1)
        own = torch.arange(count, device=genes.device)
        slides = slide.pick([*own.tolist(), *own.tolist(), *other_slides.tolist()])
        fused, _ = self.encoder.fuse(slides, genes[torch.cat([own, other_genes, own])], class_alone=True)
        belongs = (torch.arange(3 * count, device=genes.device) < count).long()
        return F.cross_entropy(self.pretext.match(fused[:, 0]), belongs)

    def _choose_hidden(self, patients: int) -> Tensor:
        """(patients, sets) bool: the same number of sets hidden for everybody, at least one."""
        sets = len(self.encoder.sets)
        count = max(1, math.ceil(self.hidden * sets))
        order = torch.rand(patients, sets).argsort(1)
        return order < count


@dataclass
class _Slides:
    """Rows of several bags, each bag's class row first.

    Attributes
    ----------
    rows : (all rows, width).
    sizes : rows of each bag, its class row counted.
    """

    rows: Tensor
    sizes: tuple[int, ...]

    @property
    def classes(self) -> Tensor:
        return first_rows(self.rows, self.sizes)

    def pick(self, bags: Sequence[int]) -> _Slides:
        parts = self.rows.split(list(self.sizes))
        return _Slides(torch.cat([parts[i] for i in bags]), tuple(self.sizes[i] for i in bags))


class _Encoder(nn.Module):
    """What pre-training and survival share."""

    def __init__(
        self, features: int, sets: Mapping[str, Sequence[int]], width: int, heads: int, layers: int, dropout: float
    ) -> None:
        super().__init__()

        def blocks() -> nn.ModuleList:
            return nn.ModuleList(_Block(width, heads, dropout) for _ in range(layers))

        self.sets = list(sets.values())
        self.members = Members(sets)
        self.project = nn.Sequential(nn.Linear(features, width), nn.LayerNorm(width))
        self.slide_class, self.gene_class = (nn.Parameter(0.02 * torch.randn(1, width)) for _ in range(2))
        self.slide_blocks, self.slide_norm = blocks(), nn.LayerNorm(width)
        self.tokens = nn.ModuleList(nn.Linear(len(genes), width) for genes in self.sets)
        self.gene_blocks, self.gene_norm = blocks(), nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)  # a bias, equal for all keys, leaves no trace in a softmax
        self.value = nn.Linear(width, width)
        self.fused_blocks, self.fused_norm = blocks(), nn.LayerNorm(width)

    def slide(self, batch: Batch) -> _Slides:
        """Class row and patches of each patient."""
        rows = with_first_rows(self.slide_class.expand(len(batch.sizes), -1), self.project(batch.x), batch.sizes)
        sizes = tuple(size + 1 for size in batch.sizes)
        for block in self.slide_blocks:
            rows = block(rows, sizes)
        return _Slides(self.slide_norm(rows), sizes)

    def genes(self, expression: Tensor, masked: Tensor | None = None, blank: Tensor | None = None) -> Tensor:
        """(B, genes) -> class row and one token per set (B, 1 + sets, width); masked sets are blank."""
        each = self.members(expression)
        tokens = torch.stack([layer(genes) for layer, genes in zip(self.tokens, each, strict=True)], dim=1)
        if masked is not None and blank is not None:
            tokens = torch.where(masked.unsqueeze(-1), blank.to(tokens.dtype), tokens)
        count = len(tokens)
        rows = torch.cat([self.gene_class.to(tokens.dtype).expand(count, 1, -1), tokens], dim=1)
        return self.gene_norm(self._through(self.gene_blocks, rows))

    def fuse(self, slide: _Slides, genes: Tensor, *, class_alone: bool = False) -> tuple[Tensor, Tensor]:
        """Gene rows attend to the slide's: (B, 1 + sets, width), their attention over patches (1 + sets, patches).

        Keys and values of the slide's rows are never computed, see `attend_rows`. Where the class row alone is needed,
        the last block is spared for all others, and the result is (B, 1, width).
        """
        mixed, similarities, _ = attend_rows(self.query(genes) @ self.key.weight, slide.rows, slide.sizes)
        queries = 1 if class_alone else genes.shape[1]
        through = self._through(self.fused_blocks, self.value(mixed), queries)
        fused = self.fused_norm(through + genes[:, :queries])
        _, of_patches = similarities.split(1)
        return fused, of_patches.map(lambda similar: similar.softmax(-1)).ragged()

    @staticmethod
    def _through(blocks: nn.ModuleList, rows: Tensor, queries: int | None = None) -> Tensor:
        """(B, tokens, width) -> of the first tokens, queries in the last block, (B, queries, width); by default all."""
        patients, tokens, _ = rows.shape
        flat = rows.flatten(0, 1)
        *before, last = blocks
        assert isinstance(last, _Block)
        for block in before:
            flat = block(flat, (tokens,) * patients)
        return last.of_first(flat.unflatten(0, (patients, tokens)), queries or tokens)


class _Block(nn.Module):
    """Pre-norm transformer block over ragged bags."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.drop = Dropout(dropout)

    def forward(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        query, key, value = self.qkv(self.norm(rows)).unflatten(-1, (3, self.heads, -1)).unbind(1)
        return self._finish(rows, attend_within_bags(query, key, value, sizes, sizes))

    def of_first(self, rows: Tensor, queries: int) -> Tensor:
        """`forward` of the first tokens of each patient, which see all: (B, tokens, width) -> (B, queries, width)."""
        normed, first = self.norm(rows), rows[:, :queries]
        to_query, to_rest = self.qkv.weight.tensor_split((self.qkv.in_features,))
        query_bias, rest_bias = self.qkv.bias.tensor_split((self.qkv.in_features,))
        query = F.linear(normed[:, :queries], to_query, query_bias).unflatten(-1, (self.heads, -1))
        key, value = F.linear(normed, to_rest, rest_bias).unflatten(-1, (2, self.heads, -1)).unbind(2)
        mixed = F.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (query, key, value)))
        return self._finish(first, mixed.transpose(1, 2))

    def _finish(self, rows: Tensor, mixed: Tensor) -> Tensor:
        rows = rows + self.drop(self.out(mixed.flatten(-2)))
        return rows + self.drop(self.feed_forward(self.second_norm(rows)))


class _Pretext(nn.Module):
    """Heads of pre-training; not needed afterwards."""

    def __init__(self, sets: Mapping[str, Sequence[int]], width: int) -> None:
        super().__init__()
        self.match = nn.Linear(width, 2)
        self.rebuild = nn.ModuleList(nn.Linear(width, len(genes)) for genes in sets.values())
        self.blank = nn.Parameter(0.02 * torch.randn(width))
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def similarity(self, slides: Tensor, genes: Tensor) -> Tensor:
        """(B, width) twice -> (slides, genes) cosines over a learned temperature, capped at 100."""
        scale = self.log_scale.exp().clamp(max=100)
        return scale * F.normalize(slides, dim=1) @ F.normalize(genes, dim=1).T

    def rebuilding(self, fused: Tensor, genes: Sequence[Tensor], masked: Tensor) -> Tensor:
        """Mean squared error over the genes of the hidden sets.

        Parameters
        ----------
        fused : (B, 1 + sets, width).
        genes : (B, genes of the set) of every set.
        masked : (B, sets), True for hidden sets.
        """
        error, count = fused.new_zeros(()), fused.new_zeros(())
        for i, (true, layer) in enumerate(zip(genes, self.rebuild, strict=True)):
            squares = (layer(fused[:, 1 + i]) - true).square()
            error = error + (squares * masked[:, i : i + 1]).sum()
            count = count + masked[:, i].sum() * true.shape[1]
        return error / count
