"""Late fusion by concatenation: any slide encoder, any expression encoder, one fusion block.

The fusion block is that of the SurvPath and MCAT repositories; which encoders it joins is configuration, so a further
combination is an entry in a registry and no class.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from baselines.encoders import EncoderModel
from survbench.errors import BadConfig
from survbench.model import Inputs, Losses, Objective, Prediction, SurvivalModel, rename_state

__all__ = ["Cat"]


class Cat(SurvivalModel):
    """[slide vector, expression vector] -> two ReLU layers -> logits (B, outputs).

    Parameters
    ----------
    slides : `module:Class` of the slide encoder.
    expression : `module:Class` of the expression encoder.
    slides_settings : of the slide encoder.
    expression_settings : of the expression encoder.
    width : of the fusion block.
    norm : LayerNorm on each vector, for encoders of different scale (official: none).
    """

    official_names: ClassVar[Mapping[str, str]] = {
        "mm.": "fuse.",
        "classifier.": "head.",
    }  # SurvPath repository

    def __init__(
        self,
        inputs: Inputs,
        outputs: int,
        *,
        slides: str = "baselines.abmil:ABMIL",
        expression: str = "baselines.mlp:MLP",
        slides_settings: Mapping[str, Any] = {},
        expression_settings: Mapping[str, Any] = {},
        width: int = 256,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.slides = _encoder(slides, inputs, outputs, slides_settings)
        self.expression = _encoder(expression, inputs, outputs, expression_settings)
        self.order_matters = self.slides.order_matters
        widths = (self.slides.width, self.expression.width)
        self.norms = nn.ModuleList(nn.LayerNorm(w) if norm else nn.Identity() for w in widths)
        self.fuse = nn.Sequential(nn.Linear(sum(widths), width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, outputs)

    def forward(self, batch: Batch) -> Prediction:
        """Slides and expression."""
        seen, measured = self.slides.encode(batch), self.expression.encode(batch)
        vectors = [norm(e.vector) for norm, e in zip(self.norms, (seen, measured), strict=True)]
        return Prediction(self.head(self.fuse(torch.cat(vectors, dim=1))), seen.attention, seen.aux)

    def loss(self, prediction: Prediction, batch: Batch, objective: Objective) -> Losses:
        """The objective, and the slide encoder's own terms (DSMIL's instance loss)."""
        survival = objective.loss(prediction.logits, batch.time, batch.event)
        return self.slides.with_own_terms(survival, prediction.aux, batch, objective)

    def official_state(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Fusion block and head by `official_names`, the rest by the encoders' own."""
        own = {k: v for k, v in weights.items() if k.startswith(tuple(self.official_names))}
        omics = {k: v for k, v in weights.items() if k.startswith(("fc_", "upscale."))}
        slides = {k: v for k, v in weights.items() if k not in own and k not in omics}
        return {
            **rename_state(own, self.official_names),
            **{f"expression.{k}": v for k, v in self.expression.official_state(omics).items()},
            **{f"slides.{k}": v for k, v in self.slides.official_state(slides).items()},
        }


def _encoder(target: str, inputs: Inputs, outputs: int, settings: Mapping[str, Any]) -> EncoderModel:
    kind = pkgutil.resolve_name(target)
    if not (isinstance(kind, type) and issubclass(kind, EncoderModel)):
        raise BadConfig(f"cat: {target} is no encoder", "name a subclass of baselines.encoders.EncoderModel")
    build: Callable[..., EncoderModel] = kind
    model = build(inputs, outputs, **settings)
    model.head = nn.Identity()  # concatenation takes the vector before it
    return model
