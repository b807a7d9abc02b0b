"""What a model costs to use: its parameters, and fvcore's count of multiply-accumulates for one patient."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from survbench.cards import Modality
from survbench.data.batches import PatientData
from survbench.model import Inputs, SurvivalModel

__all__ = ["PATCHES", "Complexity", "complexity"]

PATCHES = 4096  # of the one patient whose forward pass is counted, as in the paper's Table 7


@dataclass(frozen=True)
class Complexity:
    """parameters : of the deployed part. fvcore_flops : one multiply-accumulate counts 1; None where tracing fails."""

    parameters: int
    fvcore_flops: int | None


def complexity(
    model: SurvivalModel, inputs: Inputs, granted: Collection[Modality], patches: int = PATCHES
) -> Complexity:
    """Count parameters and operations of a forward pass over one patient, fused attention included."""
    parameters = sum(parameter.numel() for parameter in model.deployed().parameters())
    device = next(model.parameters(), torch.empty(0)).device
    batch = _one_patient(inputs, granted, patches).to(device)
    return Complexity(parameters, _fvcore_flops(model, batch))


class _OnTensors(nn.Module):
    """fvcore traces functions of tensors; the batch is put together inside."""

    def __init__(self, model: SurvivalModel, batch: Any) -> None:
        super().__init__()
        self.model, self.batch = model, batch

    def forward(self, _: Tensor) -> Tensor:
        return self.model(self.batch).logits


def _fvcore_flops(model: SurvivalModel, batch: Any) -> int | None:
    from fvcore.nn import FlopCountAnalysis

    was_training = model.training
    model.eval()
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the tracer's remarks on shapes used as numbers: the bag is fixed here
            counter = FlopCountAnalysis(_OnTensors(model, batch), (torch.zeros(1),))
            counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            counter.set_op_handle("aten::scaled_dot_product_attention", _attention_flops)
            return int(counter.total())
    except (RuntimeError, ValueError, TypeError, NotImplementedError):
        return None
    finally:
        model.train(was_training)


def _attention_flops(inputs: list[Any], _: list[Any]) -> int:
    """2 x batch x heads x queries x keys x head width: the two products of attention."""
    query, key = (value.type().sizes() for value in inputs[:2])
    return int(2 * np.prod(query) * key[-2])


def _one_patient(inputs: Inputs, granted: Collection[Modality], patches: int) -> Any:
    from torch_geometric.data import Batch

    content: dict[str, Any] = {}
    if Modality.SLIDES in granted:
        content = {
            "x": torch.zeros(patches, inputs.feature_width),
            "pos": torch.zeros(patches, 2),
            "ptr": torch.tensor([0, patches]),
            "batch": torch.zeros(patches, dtype=torch.long),
            "sizes": (patches,),
        }
    if Modality.EXPRESSION in granted:
        content["expression"] = torch.zeros(1, len(inputs.genes))
    return Batch(_base_cls=PatientData, **content)
