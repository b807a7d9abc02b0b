"""Published sizes at the paper's inputs: 1024 features, 4999 genes in 331 pathways, six families of 1281 genes."""

from __future__ import annotations

import pytest
import torch

from baselines.pathways import PathwayEncoder
from baselines.pomp import POMP
from survbench.complexity.count import paper_inputs
from survbench.errors import BadModel
from survbench.model import rename_state
from survbench.registry import import_target, load_registry

PUBLISHED = {
    ("abmil", 4): 461_061,
    ("transmil", 4): 2_673_172,
    ("transmil_survpath", 4): 394_756,
    ("dsmil", 1): 149_762,
    ("snn", 4): 1_346_820,
    ("mlp", 4): 1_346_820,
    ("mlp_survpath", 4): 161_188,
    ("smlp", 4): 7_146_800,
    ("smlp_survpath", 4): 7_146_800,
    ("abmil_cat", 1): 2_003_202,
    ("transmil_cat", 1): 4_279_825,
    ("dsmil_cat", 1): 1_888_514,
    ("mcat", 4): 3_951_622,
    ("survpath", 4): 24_768_068,
    ("ghanet", 1): 4_380_931,
}


@pytest.mark.parametrize(("name", "outputs"), PUBLISHED, ids=lambda v: str(v))
def test_parameters(name: str, outputs: int) -> None:
    card = load_registry().models[name]
    model = import_target(card.target)(paper_inputs(), outputs, **card.config)
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[name, outputs]


def test_pomp_and_what_its_pre_training_adds() -> None:
    model = POMP(paper_inputs(), 1)
    blank = 256  # the learned row that stands for a hidden gene set
    assert sum(p.numel() for p in model.parameters()) == 5_860_101 + blank
    assert sum(p.numel() for p in model.pretext.parameters()) == 329_732 + blank


def test_the_masked_weights_are_stored_sparsely() -> None:
    encoder = PathwayEncoder(paper_inputs().pathways, 8, 16)
    assert encoder.first.numel() == 77_960
    assert encoder.second.numel() == 42_368


def test_an_official_weight_without_counterpart_is_an_error() -> None:
    with pytest.raises(BadModel, match=r"1 key \(extra.weight\) without a counterpart"):
        rename_state({"extra.weight": torch.zeros(1)}, {"head.": "head."})
