"""Parameters of a model, and multiply-accumulates by two counters, for one patient.

fvcore counts one multiply-accumulate as 1 and normalization at 5 per element; `macs` is half of torch's own count of
floating-point operations in every matrix product, attention written out.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor, nn

from survbench.batch import patient_batch
from survbench.cards import Modality
from survbench.model import Inputs, SurvivalModel

__all__ = ["PATCHES", "PATHWAYS", "Complexity", "complexity", "count_macs", "one_patient", "paper_inputs"]

PATCHES = 4096  # of the one patient whose forward pass is counted, as in the paper's Table 7
PATHWAYS = 331
_GENES, _MEMBERSHIPS = 4999, 9745  # of SurvPath's 331 pathways
_FAMILIES = (53, 173, 216, 252, 387, 200)  # MCAT's six among these genes


@dataclass(frozen=True)
class Complexity:
    """Size and operations of a model.

    Attributes
    ----------
    parameters : of the part that predicts.
    fvcore_flops : of a prediction, one multiply-accumulate counts 1; None where tracing fails.
    """

    parameters: int
    fvcore_flops: int | None


def complexity(
    model: SurvivalModel, inputs: Inputs, granted: Collection[Modality], patches: int = PATCHES
) -> Complexity:
    """Count parameters and operations of a forward pass over one patient, fused attention included.

    Parameters
    ----------
    model : on any device.
    inputs : that it was built for.
    granted : modalities that it predicts from.
    patches : of the patient.
    """
    parameters = sum(parameter.numel() for parameter in model.deployed().parameters())
    device = next(model.parameters(), torch.empty(0)).device
    batch = one_patient(inputs, granted, patches).to(device)
    return Complexity(parameters, _fvcore_flops(model, batch))


class _OnTensors(nn.Module):
    """The model as a function of a tensor, as fvcore traces it; the batch is held inside."""

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
        with _without_fast_path(), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the tracer's remarks on shapes used as numbers: the bag is fixed here
            counter = FlopCountAnalysis(_OnTensors(model, batch), (torch.zeros(1),))
            counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            counter.set_op_handle("aten::scaled_dot_product_attention", _attention_flops)
            counter.set_op_handle("aten::baddbmm", _baddbmm_flops)
            return int(counter.total())
    except Exception:  # a model that cannot be traced still has a result
        return None
    finally:
        model.train(was_training)


def _attention_flops(inputs: list[Any], _: list[Any]) -> int:
    """2 x batch x heads x queries x keys x head width: the two products of attention."""
    query, key = (value.type().sizes() for value in inputs[:2])
    return int(2 * np.prod(query) * key[-2])


def _baddbmm_flops(inputs: list[Any], _: list[Any]) -> int:
    """batch x rows x inner x columns."""
    left, right = (value.type().sizes() for value in inputs[1:3])
    return int(np.prod(left) * right[-1])


def count_macs(model: SurvivalModel, batch: Any) -> int:
    """Multiply-accumulates of all matrix products of a forward pass, attention written out."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    model.eval()
    with (
        _without_fast_path(),
        torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        model(batch)
    return int(counter.get_total_flops()) // 2


@contextmanager
def _without_fast_path() -> Iterator[None]:
    """Context without torch's fused transformer layers, whose one operation counters do not see."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def paper_inputs(pathways: int = PATHWAYS) -> Inputs:
    """Inputs of the paper's size: UNI features, 4999 genes, as many memberships per pathway as SurvPath's 331 have.

    The sizes of pathways follow a log-normal curve with theirs: median 8, mean 29 and at most 199 genes.
    """
    places = (np.arange(pathways) + 0.5) / pathways
    sizes = np.clip(np.exp(np.log(8) + 1.9 * ndtri(places)).round(), 1, 199).astype(int)
    missing = round(_MEMBERSHIPS * pathways / PATHWAYS) - int(sizes.sum())
    while missing:  # spread over those that are neither smallest nor largest
        movable = np.flatnonzero((sizes > 1) & (sizes < 199) if missing < 0 else sizes < 199)[: abs(missing)]
        sizes[movable] += np.sign(missing)
        missing -= int(np.sign(missing)) * len(movable)
    ends = np.cumsum([0, *sizes])
    sets = {
        f"pathway {i}": tuple(sorted(g % _GENES for g in range(a, b)))
        for i, (a, b) in enumerate(pairwise(ends.tolist()))
    }
    borders = np.cumsum([0, *_FAMILIES])
    families = {f"family {i}": tuple(range(*ends)) for i, ends in enumerate(pairwise(borders.tolist()))}
    return Inputs(1024, tuple(f"G{i}" for i in range(_GENES)), sets, families, ("age", "sex", "stage", "grade"))


def one_patient(inputs: Inputs, granted: Collection[Modality], patches: int) -> Any:
    """A batch of one patient with a square slide; all features are 0."""
    content: dict[str, Any] = {}
    if Modality.SLIDES in granted:
        side = math.ceil(math.sqrt(patches))
        places = torch.cartesian_prod(torch.arange(side), torch.arange(side))[:patches]
        content = {
            "x": torch.zeros(patches, inputs.feature_width),
            "pos": places.float(),
            "slide": torch.zeros(patches, dtype=torch.long),
            "ptr": torch.tensor([0, patches]),
            "batch": torch.zeros(patches, dtype=torch.long),
            "sizes": (patches,),
        }
    if Modality.EXPRESSION in granted:
        content["expression"] = torch.zeros(1, len(inputs.genes))
    if Modality.CLINICAL in granted:
        content["clinical"] = torch.zeros(1, len(inputs.clinical))
    return patient_batch(content, 1)
