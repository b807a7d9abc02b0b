"""SMLP: an MLP in which genes feed only their pathways (after P-NET, Elmarakeby et al., Nature 598, 2021).

The single level of SurvPath's comparison (CVPR 2024); P-NET itself is deeper. `smlp` puts a ReLU after both masked
layers; the published code puts none, so that they compose into one linear map: that is the variant `smlp_survpath`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Batch

from baselines.encoders import Encoded, EncoderModel
from baselines.layers import relu_layers
from baselines.pathways import PathwayEncoder, needs_sets
from survbench.model import Inputs, rename_state

__all__ = ["SMLP", "SparseOmics"]


class _Masked(EncoderModel):
    """What the two have in common: the pathway-masked layers, and their official weights."""

    pathways: PathwayEncoder

    def official_state(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The dense masked matrices of the official code become rows of members and blocks of pathways."""
        masked = {key: weights[key] for key in ("fc_1_weight", "fc_1_bias", "fc_2_weight", "fc_2_bias")}
        rest = {key: value for key, value in weights.items() if key not in masked}
        return {
            **{f"pathways.{name}": value for name, value in self.pathways.from_dense(**masked).items()},
            **rename_state(rest, self.official_names),
        }


class SMLP(_Masked):
    """expression (B, genes) -> hidden units per pathway -> units per pathway -> ReLU layer -> logits (B, outputs).

    Parameters
    ----------
    hidden : units of each pathway in its first layer.
    width : units of each pathway in its second layer.
    activated : ReLU after both (the published code: none).
    dropout : rate before the head.
    """

    official_names: ClassVar[Mapping[str, str]] = {
        "to_logits.0.": "squeeze.0.",
        "to_logits.3.": "head.",
    }  # SurvPath repository

    def __init__(
        self,
        inputs: Inputs,
        outputs: int,
        *,
        hidden: int = 8,
        width: int = 16,
        activated: bool = True,
        dropout: float = 0.25,
    ) -> None:
        needs_sets(self, inputs)
        flat = len(inputs.pathways) * width
        super().__init__(max(1, flat // 4), outputs)
        self.activated = activated
        self.pathways = PathwayEncoder(inputs.pathways, hidden, width, activated=activated)
        self.squeeze = nn.Sequential(*relu_layers(dropout, flat, self.width))

    def encode(self, batch: Batch) -> Encoded:
        """Expression only."""
        units = self.pathways(batch.expression).flatten(1)
        return Encoded(self.squeeze(F.relu(units) if self.activated else units))


class SparseOmics(_Masked):
    """The expression branch of SurvPath's concatenation models: masked, ReLU, masked, up to 64 and to `up`."""

    official_names: ClassVar[Mapping[str, str]] = {"upscale.": "upscale."}  # SurvPath repository

    def __init__(self, inputs: Inputs, outputs: int, *, hidden: int = 8, width: int = 16, up: int = 256) -> None:
        needs_sets(self, inputs)
        super().__init__(up, outputs)
        self.pathways = PathwayEncoder(inputs.pathways, hidden, width)
        self.upscale = nn.Sequential(
            nn.Linear(len(inputs.pathways) * width, up // 4), nn.ReLU(), nn.Linear(up // 4, up)
        )

    def encode(self, batch: Batch) -> Encoded:
        """Expression only."""
        return Encoded(self.upscale(self.pathways(batch.expression).flatten(1)))
