"""Patch-GCN (Chen et al., MICCAI 2021, arXiv 2107.13048): graph convolutions over neighbouring patches.

Edges join each patch to its nearest ones on the slide; the layers are torch-geometric's.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn import DeepGCNLayer, GENConv

from baselines.encoders import Encoded, EncoderModel
from baselines.layers import GatedAttention, relu_layers
from survbench.errors import BadFeatures
from survbench.model import Inputs

__all__ = ["PatchGCN", "neighbours"]


class PatchGCN(EncoderModel):
    """x, pos -> ReLU projection -> residual graph convolutions, all outputs side by side -> gated attention -> logits.

    Parameters
    ----------
    width : of each layer.
    layers : graph convolutions.
    nearest : neighbours of a patch on its slide.
    dropout : rate behind each ReLU of the other layers.
    """

    def __init__(
        self,
        inputs: Inputs,
        outputs: int,
        *,
        width: int = 128,
        layers: int = 3,
        nearest: int = 8,
        dropout: float = 0.25,
    ) -> None:
        joined = width * (layers + 1)
        super().__init__(joined, outputs)
        self.nearest = nearest
        self.project = nn.Sequential(*relu_layers(dropout, inputs.feature_width, width))
        first, *rest = (
            GENConv(width, width, aggr="softmax", learn_t=True, num_layers=2, norm="layer") for _ in range(layers)
        )
        self.first = first
        self.rest = nn.ModuleList(
            DeepGCNLayer(conv, nn.LayerNorm(width), nn.ReLU(), block="res", dropout=0.1) for conv in rest
        )
        self.phi = nn.Sequential(*relu_layers(dropout, joined, joined))
        self.attention = GatedAttention(joined, joined, dropout)
        self.rho = nn.Sequential(*relu_layers(dropout, joined, joined))

    def encode(self, batch: Batch) -> Encoded:
        """Slides with coordinates: `x`, `pos`, `slide`, `ptr`."""
        edges = neighbours(batch.pos, batch.slide, self.nearest)
        rows = self.project(batch.x)
        outputs = [rows, self.first(rows, edges)]
        for layer in self.rest:
            outputs.append(layer(outputs[-1], edges))
        pooled, weights = self.attention(self.phi(torch.cat(outputs, dim=1)), batch.ptr)
        return Encoded(self.rho(pooled), weights)


def neighbours(pos: Tensor, slide: Tensor, nearest: int) -> Tensor:
    """Edges (2, edges) to each patch from the nearest ones of the same slide, itself not counted.

    All patches at the same distance as the last one count, so that the order of patches means nothing.

    Parameters
    ----------
    pos : (patches, 2) in tile units.
    slide : (patches,) number of the slide, equal only within a slide.
    nearest : neighbours of a patch.

    Raises
    ------
    BadFeatures : patches without coordinates.
    """
    if not torch.isfinite(pos).all():
        raise BadFeatures(
            "Patch-GCN joins neighbouring patches, and these features carry no coordinates",
            "extract to .h5 (CLAM, TRIDENT or STAMP) instead of .pt",
        )
    places, owner = pos.cpu().double().numpy(), slide.cpu().numpy()
    edges = [np.empty((2, 0), np.int64)]
    for number in np.unique(owner):
        rows = np.flatnonzero(owner == number)
        if len(rows) > 1:
            tree = cKDTree(places[rows])
            farthest = tree.query(places[rows], k=min(nearest, len(rows) - 1) + 1)[0][:, -1]
            near = tree.query_ball_point(places[rows], farthest * (1 + 1e-6))
            target = np.repeat(np.arange(len(rows)), [len(own) for own in near])
            source = np.concatenate(near)
            apart = source != target
            edges.append(np.stack([rows[source[apart]], rows[target[apart]]]))
    return torch.from_numpy(np.concatenate(edges, axis=1)).to(pos.device)
