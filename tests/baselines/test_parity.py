"""Our models with official weights give the official outputs, in double precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from baselines import abmil, snn
from survbench.data.batches import PatientData
from survbench.model import Inputs, SurvivalModel, rename_state


class Fixture:
    """One file of weights, inputs and outputs."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as content:
            self.arrays = {key: content[key] for key in content.files}
        self.meta = json.loads(str(self.arrays["meta"]))

    def section(self, prefix: str) -> dict[str, Any]:
        found = {k.removeprefix(prefix): v for k, v in self.arrays.items() if k.startswith(prefix)}
        return {k: torch.as_tensor(v.astype(np.float64)) for k, v in found.items()}

    def cases(self) -> list[str]:
        return sorted({key.split("/")[1] for key in self.arrays if key.startswith("in/")})


def regenerated(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Weights of a `full_*` file, from numpy's frozen legacy generator."""
    weights = {}
    for i, (name, shape) in enumerate(zip(arrays["param_names"], json.loads(str(arrays["param_shapes"])), strict=True)):
        draw = np.random.RandomState(int(arrays["seed"]) + i).uniform(-1, 1, size=int(np.prod(shape))).reshape(shape)
        weights[str(name)] = torch.from_numpy(draw * arrays["param_scale"][i] + arrays["param_offset"][i])
    return weights


def slides(x: torch.Tensor) -> Batch:
    return Batch(
        _base_cls=PatientData,
        x=x,
        ptr=torch.tensor([0, len(x)]),
        sizes=(len(x),),
        batch=torch.zeros(len(x), dtype=torch.long),
    )


def loaded(model: SurvivalModel, weights: dict[str, torch.Tensor], names: dict[str, str]) -> SurvivalModel:
    model.double().eval().load_state_dict(rename_state(weights, names))
    return model


@pytest.mark.shared
def test_abmil(shared: Path) -> None:
    fixture = Fixture(shared / "parity" / "abmil_survpath.npz")
    model = loaded(abmil.ABMIL(Inputs(1024), 4), fixture.section("w/"), abmil.OFFICIAL_NAMES)
    assert sum(p.numel() for p in model.parameters()) == 461_061
    for case in fixture.cases():
        prediction = model(slides(fixture.section(f"in/{case}/")["x"]))
        expected = fixture.section(f"out_f64/{case}/")
        torch.testing.assert_close(prediction.logits.flatten(), expected["logits"].flatten(), atol=1e-9, rtol=0)
        torch.testing.assert_close(prediction.attention, expected["att"].flatten(), atol=1e-9, rtol=0)


@pytest.mark.shared
def test_abmil_in_mcats_sizes(shared: Path) -> None:
    fixture = Fixture(shared / "parity" / "full_amil_mcat_1024_512_256.npz")
    arrays = fixture.arrays
    model = loaded(abmil.ABMIL(Inputs(1024), 4, width=512), regenerated(arrays), abmil.OFFICIAL_NAMES)
    assert sum(p.numel() for p in model.parameters()) == fixture.meta["param_count"] == 920_069
    (shape,) = json.loads(str(arrays["input_shapes"]))
    x = np.random.RandomState(int(arrays["input_seed"])).standard_normal(shape)
    logits = model(slides(torch.from_numpy(x))).logits
    torch.testing.assert_close(logits, torch.from_numpy(arrays["out_f64/logits"]), atol=1e-9, rtol=0)


@pytest.mark.shared
def test_snn(shared: Path) -> None:
    fixture = Fixture(shared / "parity" / "snn_survpath.npz")
    weights = fixture.section("w/")
    genes = weights["fc_omic.0.0.weight"].shape[1]
    model = loaded(snn.SNN(Inputs(0, tuple(map(str, range(genes)))), 4), weights, snn.OFFICIAL_NAMES)
    for case in fixture.cases():
        rows = fixture.section(f"in/{case}/")["g"]
        prediction = model(Batch(_base_cls=PatientData, expression=rows))
        expected = fixture.section(f"out_f64/{case}/")["logits"]
        torch.testing.assert_close(prediction.logits, expected.reshape(len(rows), 4), atol=1e-9, rtol=0)


def test_an_official_weight_without_counterpart_is_an_error() -> None:
    with pytest.raises(KeyError, match="no counterpart"):
        rename_state({"extra.weight": torch.zeros(1)}, snn.OFFICIAL_NAMES)


def test_published_sizes() -> None:
    model = snn.SNN(Inputs(0, tuple(map(str, range(4999)))), 4)
    assert sum(p.numel() for p in model.parameters()) == 1_346_820
