"""SNN: self-normalizing network on expression (Klambauer et al., NeurIPS 2017, arXiv 1706.02515).

Survival form and sizes of SurvPath's comparison (CVPR 2024): ELU where the original has SELU, kept because published
numbers come from it; the self-normalizing fixed point does not hold for ELU.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar

from torch import nn
from torch_geometric.data import Batch

from baselines.encoders import Encoded, EncoderModel
from survbench.model import Inputs

__all__ = ["SNN"]


class SNN(EncoderModel):
    """expression (B, genes) -> [linear, ELU, alpha dropout] per layer -> logits (B, outputs).

    Parameters
    ----------
    width : of each block.
    layers : number of blocks: 2 in SurvPath, 4 in MCAT's small form.
    dropout : rate of the alpha dropout.
    """

    official_names: ClassVar[Mapping[str, str]] = {
        "fc_omic.0.0.": "blocks.0.0.",
        "fc_omic.1.0.": "blocks.1.0.",
        "classifier.": "head.",
    }  # SurvPath repository

    def __init__(
        self, inputs: Inputs, outputs: int, *, width: int = 256, layers: int = 2, dropout: float = 0.25
    ) -> None:
        super().__init__(width, outputs)
        widths = [len(inputs.genes), *[width] * layers]
        self.blocks = nn.Sequential(
            *(nn.Sequential(nn.Linear(a, b), nn.ELU(), nn.AlphaDropout(dropout)) for a, b in pairwise(widths))
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, module.in_features**-0.5)
                nn.init.zeros_(module.bias)

    def encode(self, batch: Batch) -> Encoded:
        """Expression only."""
        return Encoded(self.blocks(batch.expression))
