"""Our models with official weights give the official outputs, in double precision."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch

from baselines import abmil, cat, dsmil, ghanet, layers, mcat, mlp, smlp, snn, survpath, transmil, transmil_survpath
from survbench.batch import patient_batch
from survbench.model import Inputs, Prediction, SurvivalModel, rename_state

FAMILY_SIZES = (11, 17, 9, 23, 14, 8)
pytestmark = pytest.mark.shared


class Fixture:
    """One file of weights, inputs and outputs."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as content:
            self.arrays = {key: content[key] for key in content.files}
        self.meta = json.loads(str(self.arrays["meta"]))

    def section(self, prefix: str) -> dict[str, Any]:
        ours = {k.removeprefix(prefix): v for k, v in self.arrays.items() if k.startswith(prefix)}
        return {k: torch.as_tensor(v.astype(np.float64)) for k, v in ours.items()}

    def cases(self) -> list[str]:
        return sorted({key.split("/")[1] for key in self.arrays if key.startswith("in/")})

    def regenerated(self) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Weights and inputs of a `full_*` file, from numpy's frozen legacy generator."""
        a, weights = self.arrays, {}
        for i, (name, shape) in enumerate(zip(a["param_names"], json.loads(str(a["param_shapes"])), strict=True)):
            draw = np.random.RandomState(int(a["seed"]) + i).uniform(-1, 1, size=int(np.prod(shape))).reshape(shape)
            weights[str(name)] = torch.from_numpy(draw * a["param_scale"][i] + a["param_offset"][i])
        shapes = json.loads(str(a["input_shapes"]))
        inputs = [np.random.RandomState(int(a["input_seed"]) + j).standard_normal(s) for j, s in enumerate(shapes)]
        return weights, [torch.from_numpy(x) for x in inputs]


def patient(x: Tensor | None = None, expression: Tensor | None = None) -> Batch:
    """A batch of one patient; of several where expression has several rows and there are no slides."""
    content: dict[str, Any] = {}
    if x is not None:
        x = x.reshape(-1, x.shape[-1])
        content = {"x": x, "ptr": torch.tensor([0, len(x)]), "sizes": (len(x),), "batch": torch.zeros(len(x)).long()}
    if expression is not None:
        content["expression"] = expression.reshape(-1, expression.shape[-1])
    return patient_batch(content, 1 if x is not None else len(content["expression"]))


def consecutive(sizes: list[int] | tuple[int, ...], width: int, kind: str) -> Inputs:
    """Gene sets that follow each other, as the fixtures give each set its own input."""
    ends = np.cumsum([0, *sizes]).tolist()
    sets = {f"set {i}": tuple(range(a, b)) for i, (a, b) in enumerate(pairwise(ends))}
    return Inputs(width, genes=tuple(map(str, range(ends[-1]))), **{kind: sets})


def members(membership: np.ndarray, width: int = 0) -> Inputs:
    """Inputs of a genes x pathways membership matrix."""
    sets = {f"pathway {j}": tuple(np.flatnonzero(column).tolist()) for j, column in enumerate(membership.T)}
    return Inputs(width, genes=tuple(map(str, range(len(membership)))), pathways=sets)


def loaded(model: SurvivalModel, weights: dict[str, Tensor]) -> SurvivalModel:
    model.double().eval().load_official(weights)
    return model


def close(ours: Tensor | None, expected: Tensor, tolerance: float = 1e-9) -> None:
    assert ours is not None
    torch.testing.assert_close(ours.flatten(), expected.flatten(), atol=tolerance, rtol=0)


def size(model: SurvivalModel) -> int:
    return sum(p.numel() for p in model.parameters())


SLIDE_MODELS: dict[
    str, tuple[Callable[[], SurvivalModel], str, Callable[[dict[str, Tensor]], Tensor] | None, float]
] = {
    "abmil_survpath": (lambda: abmil.ABMIL(Inputs(1024), 4), "logits", lambda e: e["att"], 1e-9),
    "transmil_official_reduced": (
        lambda: transmil.TransMIL(Inputs(64), 4, width=64, heads=8, landmarks=32),
        "logits",
        None,
        1e-9,
    ),
    "transmil_survpath": (lambda: transmil_survpath.TransMILSurvPath(Inputs(1024), 4), "logits", None, 1e-9),
    "dsmil_official_c1_mlpq_vid": (
        lambda: dsmil.DSMIL(Inputs(64), 1),
        "bag_logits",
        lambda e: e["att"].mean(1),
        1e-7,
    ),
    "dsmil_official_c1_mlpq_vproj": (
        lambda: dsmil.DSMIL(Inputs(64), 1, projected_values=True),
        "bag_logits",
        lambda e: e["att"].mean(1),
        1e-7,
    ),
    "dsmil_official_c4_mlpq_vid": (
        lambda: dsmil.DSMIL(Inputs(64), 4, literal=True),
        "bag_logits",
        lambda e: e["att"].mean(1),
        1e-7,
    ),
    "dsmil_official_c4_linq_vproj": (
        lambda: dsmil.DSMIL(Inputs(64), 4, literal=True, deep_query=False, projected_values=True),
        "bag_logits",
        lambda e: e["att"].mean(1),
        1e-7,
    ),
}


@pytest.mark.parametrize("name", SLIDE_MODELS)
def test_slide_models(shared: Path, name: str) -> None:
    build, logits, attention, tolerance = SLIDE_MODELS[name]
    fixture = Fixture(shared / "parity" / f"{name}.npz")
    model = loaded(build(), fixture.section("w/"))
    assert size(model) == fixture.meta["param_count"]
    for case in fixture.cases():
        prediction, expected = model(patient(fixture.section(f"in/{case}/")["x"])), fixture.section(f"out_f64/{case}/")
        close(prediction.logits, expected[logits], tolerance)
        if attention is not None:
            close(prediction.attention, attention(expected), tolerance)


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("full_amil_mcat_1024_512_256", lambda: abmil.ABMIL(Inputs(1024), 4, width=512)),
        ("full_transmil_512", lambda: transmil.TransMIL(Inputs(1024), 4)),
    ],
)
def test_slide_models_in_full_size(shared: Path, name: str, build: Callable[[], SurvivalModel]) -> None:
    fixture = Fixture(shared / "parity" / f"{name}.npz")
    weights, (x,) = fixture.regenerated()
    model = loaded(build(), weights)
    assert size(model) == fixture.meta["param_count"]
    close(model(patient(x)).logits, fixture.section("out_f64/")["logits"])


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("snn_survpath", lambda genes: snn.SNN(genes, 4)),
        ("mlp_survpath_p64", lambda genes: mlp.MLP(genes, 4, width=32)),
        ("mlp_survpath_p512", lambda genes: mlp.MLP(genes, 4)),
        ("smlp_survpath", lambda genes: smlp.SMLP(genes, 4, activated=False)),
    ],
)
def test_expression_models(shared: Path, name: str, build: Callable[[Inputs], SurvivalModel]) -> None:
    fixture = Fixture(shared / "parity" / f"{name}.npz")
    membership = fixture.arrays.get("const/membership", np.ones((60, 1)))
    model = loaded(build(members(membership)), fixture.section("w/"))
    for case in fixture.cases():
        prediction = model(patient(expression=fixture.section(f"in/{case}/")["g"]))
        close(prediction.logits, fixture.section(f"out_f64/{case}/")["logits"])


def test_concatenation(shared: Path) -> None:
    fixture = Fixture(shared / "parity" / "abmil_survpath_concat.npz")
    inputs = members(fixture.arrays["const/membership"], 1024)
    model = loaded(cat.Cat(inputs, 4, expression="baselines.smlp:SparseOmics"), fixture.section("w/"))
    given, expected = fixture.section("in/a/"), fixture.section("out_f64/a/")
    prediction = model(patient(given["x"], given["g"]))
    close(prediction.logits, expected["logits"])
    close(prediction.attention, expected["att_raw"].softmax(-1))


def expression_of(given: dict[str, Tensor]) -> Tensor:
    return torch.cat([given[f"o{i}"] for i in range(1, len(given))])


@pytest.mark.parametrize("name", ["mcat_original_reduced", "mcat_survpath_reduced"])
def test_mcat(shared: Path, name: str) -> None:
    fixture = Fixture(shared / "parity" / f"{name}.npz")
    inputs = consecutive(FAMILY_SIZES, 64, "families")
    model = loaded(mcat.MCAT(inputs, 4, width=32, feed_forward=64), fixture.section("w/"))
    assert size(model) == fixture.meta["param_count"]
    given, expected = fixture.section("in/a/"), fixture.section("out_f64/a/")
    prediction = model(patient(given["x"], expression_of(given)))
    close(prediction.logits, expected["logits"])
    close(prediction.attention, expected["coattn_raw"][0, 0].softmax(-1).mean(0))


def test_mcat_in_full_size(shared: Path) -> None:
    fixture = Fixture(shared / "parity" / "full_mcat_1281.npz")
    weights, (x, *genes) = fixture.regenerated()
    model = loaded(mcat.MCAT(consecutive(fixture.meta["omic_sizes"], 1024, "families"), 4), weights)
    assert size(model) == fixture.meta["param_count"] == 3_951_622
    expected, prediction = fixture.section("out_f64/"), model(patient(x, torch.cat(genes)))
    close(prediction.logits, expected["logits"])
    close(prediction.attention, expected["coattn_raw"][0, 0].softmax(-1).mean(0))


def over_patches(pathways: Tensor, patches: Tensor) -> Tensor:
    """Attention as SurvPath's model returns it, from the official raw similarities."""
    shares = torch.cat([pathways, patches.reshape(len(pathways), -1)], 1).softmax(-1)[:, len(pathways) :].mean(0)
    return shares / shares.sum()


@pytest.mark.parametrize(
    ("name", "width", "sizes"),
    [
        ("survpath_reduced", 32, (5, 9, 14, 7, 11, 3, 8, 20, 6, 12, 4, 10)),
        ("survpath_width256", 256, (9, 21, 14, 5, 12, 17)),
    ],
)
def test_survpath(shared: Path, name: str, width: int, sizes: tuple[int, ...]) -> None:
    fixture = Fixture(shared / "parity" / f"{name}.npz")
    model = loaded(survpath.SurvPath(consecutive(sizes, 64, "pathways"), 4, width=width), fixture.section("w/"))
    assert size(model) == fixture.meta["param_count"]
    for case in fixture.cases():
        given, expected = fixture.section(f"in/{case}/"), fixture.section(f"out_f64/{case}/")
        prediction = model(patient(given["x"], expression_of(given)))
        close(prediction.logits, expected["logits"])
        raw = (expected[key] for key in ("attn_pathways_raw", "cross_attn_pathways_raw"))
        close(prediction.attention, over_patches(*raw))


def test_survpath_in_full_size(shared: Path) -> None:
    fixture = Fixture(shared / "parity" / "full_survpath_331.npz")
    weights, (x, *genes) = fixture.regenerated()
    model = loaded(survpath.SurvPath(consecutive(fixture.meta["omic_sizes"], 1024, "pathways"), 4), weights)
    assert size(model) == fixture.meta["param_count"] == 24_768_068
    close(model(patient(x, torch.cat(genes))).logits, fixture.section("out_f64/")["logits"])


def test_ghanet_at_its_official_width(shared: Path) -> None:
    fixture = Fixture(shared / "parity" / "full_ghanet.npz")
    weights, (x,) = fixture.regenerated()
    inputs = consecutive(fixture.meta["omic_sizes"], 1024, "families")
    model = loaded(ghanet.GHANet(inputs, 4, width=512, gate=256, bottleneck=256), weights)
    expected, prediction = fixture.section("out_f64/"), model(patient(x))
    close(prediction.logits, expected["logits"])
    close(prediction.aux["similarities"].parts[0], expected["matrix"])
    for i in range(6):
        close(model.get_submodule(f"rebuild.{i}")(prediction.aux["rebuilt"][:, i]), expected[f"recon{i + 1}"])
    never_used = sum(v.numel() for k, v in weights.items() if k.startswith("recon_net.cross_attention1."))
    assert size(model) + never_used == fixture.meta["param_count"]


def test_torchmils_gated_pooling_is_ours_without_a_bias(shared: Path) -> None:
    fixture = Fixture(shared / "parity" / "abmil_torchmil_gated.npz")
    names = {"pool.fc1.module.": "value.", "pool.fc_gated.module.": "gate.", "pool.fc2.": "score."}
    weights = fixture.section("w/")
    pooling = layers.GatedAttention(64, 32).double().eval()
    state = rename_state({k: v for k, v in weights.items() if k.startswith("pool.")}, names)
    pooling.load_state_dict({**state, "score.bias": torch.zeros(1)})
    for case in fixture.cases():
        given = fixture.section(f"in/{case}/")
        kept = given.get("mask", torch.ones(given["x"].shape[:2])).bool()
        rows = torch.cat([x[mask] for x, mask in zip(given["x"], kept, strict=True)])
        pooled, _ = pooling(rows, torch.tensor([0, *kept.sum(1).cumsum(0).tolist()]))
        logits = pooled @ weights["classifier.module.weight"].T + weights["classifier.module.bias"]
        close(logits, fixture.section(f"out_f64/{case}/")["logit"])


def test_torchmils_dsmil(shared: Path) -> None:
    fixture = Fixture(shared / "parity" / "dsmil_torchmil.npz")
    names = {"q_nn.": "query.", "v_nn.": "value.", "inst_classifier.": "instances.", "bag_classifier.": "head."}
    model = dsmil.DSMIL(Inputs(64), 1, query=32, projected_values=True).double().eval()
    model.load_state_dict(rename_state(fixture.section("w/"), names))
    prediction: Prediction = model(patient(fixture.section("in/a/")["x"]))
    close(prediction.logits, fixture.section("out_f64/a/")["logit"], 1e-7)
