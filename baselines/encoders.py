"""Models of one modality: an encoder of each patient as one vector, and a linear head.

cat.py joins any slide encoder with any expression encoder and leaves their heads out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch_geometric.data import Batch

from survbench.model import Losses, Objective, Prediction, SurvivalModel

__all__ = ["Encoded", "EncoderModel"]


@dataclass
class Encoded:
    """What an encoder makes of B patients.

    Attributes
    ----------
    vector : (B, width).
    attention : (patches,), as of a `Prediction`.
    aux : for the encoder's own loss.
    """

    vector: Tensor
    attention: Tensor | None = None
    aux: dict[str, Any] = field(default_factory=dict)


class EncoderModel(SurvivalModel):
    """Base of models that encode and then apply one linear layer.

    Parameters
    ----------
    width : of the encoded vectors.
    outputs : of the head.
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.width = width
        self.head: nn.Module = nn.Linear(width, outputs)

    def encode(self, batch: Batch) -> Encoded:
        """One vector per patient."""
        raise NotImplementedError(f"{type(self).__name__} does not define encode(batch)")

    def with_own_terms(self, survival: Tensor, aux: Mapping[str, Any], batch: Batch, objective: Objective) -> Losses:
        """The losses with the encoder's own terms, if it has any.

        Parameters
        ----------
        survival : the objective's value, a scalar.
        aux : of `Encoded`.
        batch : the patients.
        objective : for terms that are survival losses, too.

        Returns
        -------
        Named terms with `total`.
        """
        return {"total": survival}

    def forward(self, batch: Batch) -> Prediction:
        """Encode, then the head."""
        encoded = self.encode(batch)
        return Prediction(self.head(encoded.vector), encoded.attention, encoded.aux)

    def loss(self, prediction: Prediction, batch: Batch, objective: Objective) -> Losses:
        """The objective and the encoder's own terms."""
        survival = objective.loss(prediction.logits, batch.time, batch.event)
        return self.with_own_terms(survival, prediction.aux, batch, objective)
