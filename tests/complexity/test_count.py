"""Counting what models cost, against known answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from survbench.cards import Modality
from survbench.complexity.count import complexity, count_macs, one_patient, paper_inputs
from survbench.model import Inputs, Prediction, SurvivalModel
from survbench.registry import import_target, load_registry

SLIDES = (Modality.SLIDES,)


class Projection(SurvivalModel):
    """One linear layer on every patch, and attention among patches where `attends`."""

    def __init__(self, inputs: Inputs, outputs: int, *, attends: bool = False) -> None:
        super().__init__()
        self.layer, self.attends = nn.Linear(inputs.feature_width, 256, bias=False), attends

    def forward(self, batch):  # type: ignore[no-untyped-def]
        rows = self.layer(batch.x)[None, None]
        if self.attends:
            rows = F.scaled_dot_product_attention(rows, rows, rows)
        return Prediction(rows[0, 0].mean(0, keepdim=True)[:, :1])


def test_a_linear_layer_has_a_known_cost() -> None:
    model = Projection(Inputs(1024), 1)
    expected = 4096 * 1024 * 256
    assert expected == 1_073_741_824
    counted = complexity(model, Inputs(1024), SLIDES)
    assert (counted.parameters, counted.fvcore_flops) == (1024 * 256, expected)
    assert count_macs(model, one_patient(Inputs(1024), SLIDES, 4096)) == expected


def test_fused_attention_is_counted() -> None:
    model = Projection(Inputs(16), 1, attends=True)
    expected = 64 * 16 * 256 + 2 * 64 * 64 * 256
    assert complexity(model, Inputs(16), SLIDES, 64).fvcore_flops == expected
    assert count_macs(model, one_patient(Inputs(16), SLIDES, 64)) == expected


PATCHES, WIDTH, SETS, HEADS = 4096, 256, 6, 4
KEYS_AND_VALUES = 2 * PATCHES * WIDTH * WIDTH  # which few queries do without, see baselines/mcat.py
LONGER_QUERIES = 2 * 2 * SETS * WIDTH * ((HEADS - 1) * PATCHES + WIDTH)  # of G-HANet's two rounds in place of them


@pytest.mark.parametrize(
    ("name", "published", "spared"),
    [
        ("abmil", 1.6117e9, 0),
        ("mcat", 1.6393e9, KEYS_AND_VALUES),
        ("survpath", 2.4004e9, 0),
        ("ghanet", 3.0030e9, KEYS_AND_VALUES - LONGER_QUERIES),
    ],
)
def test_counts_of_published_architectures(name: str, published: float, spared: int) -> None:
    """What the official code multiplies, less what ours gets around by another order of the same products."""
    card, inputs = load_registry().models[name], paper_inputs()
    model = import_target(card.target)(inputs, 1, **card.config)
    model.requires_grad_(False)
    counted = count_macs(model, one_patient(inputs, card.inference_inputs, PATCHES))
    assert counted == pytest.approx(published - spared, abs=2e6)


@pytest.mark.parametrize("pathways", [1, 5, 331, 1000])
def test_inputs_of_the_papers_size(pathways: int) -> None:
    sizes = [len(genes) for genes in paper_inputs(pathways).pathways.values()]
    assert len(sizes) == pathways
    assert sum(sizes) == pytest.approx(9745 * pathways / 331, abs=1)
    assert 1 <= min(sizes) <= max(sizes) <= 199
    if pathways == 331:
        assert np.median(sizes) == pytest.approx(8, abs=1)
    for genes in paper_inputs(pathways).pathways.values():
        assert len(set(genes)) == len(genes)


def test_counting_leaves_the_model_as_it_was() -> None:
    model = Projection(Inputs(16), 1).train()
    complexity(model, Inputs(16), SLIDES, 8)
    assert model.training
    assert torch.backends.mha.get_fastpath_enabled()
