"""Heatmaps: of a model that never saw the patient, of the right patches, in every form, and refused in one line."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from scipy.stats import spearmanr

from amkd.model import AMKD
from baselines.abmil import ABMIL
from support.planted import Planted
from support.toy import cohort, job, run
from survbench.data.formats import read_features, write_features
from survbench.errors import BadConfig, BadFile, BadModel, MissingFile, UnknownName
from survbench.experiments.results import JobResult
from survbench.explain.heatmap import Canvas, heatmap_figure, slide_canvas, write_geojson, write_table
from survbench.explain.patches import (
    TOP,
    PatchAttention,
    chosen_patients,
    patch_attention,
)
from survbench.explain.slides import patch_pixels
from survbench.model import Prediction
from survbench.report.plots.figures import save_figure

CPU = torch.device("cpu")


def toy(name: str, tmp_path: Path, folds: int = 1, **settings: Any) -> list[Any]:
    jobs = [job(cohort(), name, fold=fold) for fold in range(folds)]
    jobs = [replace(one, config=dict(one.config) | settings) for one in jobs]
    run(tmp_path, *jobs)
    return jobs


@pytest.fixture
def abmil(planted: Planted) -> PatchAttention:
    one = planted.trained("abmil", learning_rate=1e-3)
    return patch_attention(one, one.fold.test[0], planted.out, CPU)


def lost(attention: PatchAttention) -> PatchAttention:
    return replace(attention, table=attention.table.assign(x=np.nan, y=np.nan))


def test_each_row_is_the_patch_that_it_names(planted: Planted) -> None:
    """The map is a feature of the patch here, so that it can be looked up in the slide's own file."""
    one = planted.trained("abmil", learning_rate=1e-3)
    slides = planted.root.cohort("stad").slides()
    several = slides[slides["patient"].isin(one.fold.test)]["patient"].value_counts()
    patient = str(several[several > 1].index[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ABMIL, "attention_maps", lambda self, prediction, batch: {"first": batch.x[:, 0] + 9})
        attention = patch_attention(one, patient, planted.out, CPU)
    files = slides[slides["patient"] == patient].set_index("slide")["file"]
    assert attention.table["slide"].nunique() == len(files) > 1
    for row in attention.table.to_dict("records"):
        stored = read_features(files[row["slide"]])
        assert row["weight first"] == pytest.approx(float(stored.features[row["patch"], 0]) + 9, rel=1e-3)
        assert [row["x"], row["y"]] == stored.coords[row["patch"]].tolist()


def test_ranks_top_and_overlap_are_those_of_the_weights(tmp_path: Path) -> None:
    (one,) = toy("amkd", tmp_path)
    patient = max(one.fold.test, key=one.cohort.bags.size)
    attention = patch_attention(one, patient, tmp_path, CPU)
    assert attention.maps == ("teacher's co-attention", "teacher's pooling", "student's pooling")
    count = one.cohort.bags.size(patient)
    assert len(attention.table) == count == 5
    for name in attention.maps:
        assert attention.table[f"weight {name}"].sum() == pytest.approx(1)
        order = attention.table[f"weight {name}"].to_numpy().argsort()[::-1]
        assert attention.table[f"rank {name}"].to_numpy()[order].tolist() == list(range(1, count + 1))
        assert attention.relative(name).mean() == pytest.approx(1)
        assert len(attention.top(name)) == TOP
    for overlap in attention.overlaps():
        one_map, other = (attention.table[f"weight {name}"] for name in overlap.maps)
        assert overlap.rho == pytest.approx(spearmanr(one_map, other).statistic)
        assert (overlap.shared, overlap.by_chance) == (5, 5.0)


def test_a_uniform_map_has_no_top(tmp_path: Path) -> None:
    (one,) = toy("amkd", tmp_path, teacher="none", pooling="mean")
    patient = max(one.fold.test, key=one.cohort.bags.size)
    attention = patch_attention(one, patient, tmp_path, CPU)
    assert attention.maps == ("student's pooling",)
    assert attention.uniform("student's pooling")
    assert attention.top("student's pooling").empty
    canvas = Canvas({}, {}, ())
    assert heatmap_figure(attention, canvas) is not None


def test_patients_are_explained_by_a_model_that_never_saw_them(tmp_path: Path) -> None:
    jobs = toy("abmil", tmp_path, folds=3)
    for one in jobs:
        ((chosen, patient),) = chosen_patients(jobs, tmp_path, [one.fold.test[1]], 1)
        assert chosen is one
        assert patient == one.fold.test[1]
    risks = []
    for one in jobs:
        predictions = JobResult.of(one, tmp_path).predictions()
        own = predictions[predictions["split"] == "train"]["risk"]
        test = predictions[predictions["split"] == "test"].set_index("patient")["risk"]
        risks.append((test - own.mean()) / own.std(ddof=0))
    expected = pd.concat(risks).sort_values(ascending=False)
    highest = chosen_patients(jobs, tmp_path, [], 4)
    assert [patient for _, patient in highest] == list(expected.index[:4])
    assert all(patient in one.fold.test for one, patient in highest)
    attention = patch_attention(*highest[0], tmp_path, CPU)
    assert attention.risk == pytest.approx(expected.iloc[0])
    trained = jobs[0].fold.train[0]
    with pytest.raises(BadConfig, match="no test patient of fold 0"):
        chosen_patients(jobs[:1], tmp_path, [trained], 1)
    with pytest.raises(UnknownName, match="Did you mean 'P001'"):
        chosen_patients(jobs, tmp_path, ["P0001"], 1)
    with pytest.raises(BadConfig, match="1 of 1 jobs have no result"):
        chosen_patients([job(cohort(), "abmil", fold=4)], tmp_path, [], 1)


def test_the_student_has_the_inputs_of_prediction_and_its_teacher_expression_too(tmp_path: Path) -> None:
    (one,) = toy("amkd", tmp_path)
    seen: list[bool] = []

    def noted(self: AMKD, prediction: Prediction, batch: Any) -> dict[str, Any]:
        seen.append("expression" in batch)
        return {"own": prediction.attention}

    def forward(self: AMKD, batch: Any) -> Prediction:
        seen.append("expression" in batch)
        return Prediction(batch.x[:1, :1], batch.x[:, 0].softmax(0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AMKD, "attention_maps", noted)
        patch.setattr(AMKD, "forward", forward)
        patch_attention(one, one.fold.test[0], tmp_path, CPU)
    assert seen == [False, True]


@pytest.mark.parametrize("name", ["amkd", "mcat", "ghanet"])
def test_one_gene_set_is_one_map(tmp_path: Path, name: str) -> None:
    (one,) = toy(name, tmp_path)
    patient = max(one.fold.test, key=one.cohort.bags.size)
    among_sets = name == "amkd"
    sets = ["A", "b"] if among_sets else ["i", "II"]
    attention = patch_attention(one, patient, tmp_path, CPU, sets)
    assert attention.maps == (("A", "B") if among_sets else ("I", "II"))
    weights = attention.table[[f"weight {name}" for name in attention.maps]]
    assert attention.axis == ("gene sets" if among_sets else "patches")
    assert attention.equal == pytest.approx(1 / 2 if among_sets else 1 / 5)
    np.testing.assert_allclose(weights.sum(axis=1 if among_sets else 0), 1, rtol=1e-5)
    with pytest.raises(UnknownName, match="Unknown pathway 'AA'"):
        patch_attention(one, patient, tmp_path, CPU, ["AA"])


def test_models_that_have_nothing_to_show_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, message in (("transmil_survpath", "no attention over patches"), ("snn", "sees no slides")):
        (one,) = toy(name, tmp_path)
        with pytest.raises(BadConfig, match=message):
            patch_attention(one, one.fold.test[0], tmp_path, CPU)
    (one,) = toy("abmil", tmp_path)
    with pytest.raises(BadConfig, match="no attention between patches and pathways"):
        patch_attention(one, one.fold.test[0], tmp_path, CPU, ["A"])
    monkeypatch.setattr(ABMIL, "attention_maps", lambda *_: {"short": torch.ones(1, 2)})
    with pytest.raises(BadModel, match="expected one number for each"):
        patch_attention(one, one.fold.test[0], tmp_path, CPU)


def test_table_and_polygons_say_where_patches_are(abmil: PatchAttention, planted: Planted, tmp_path: Path) -> None:
    data = planted.jobs["abmil"].cohort
    canvas = slide_canvas(abmil, data, [])
    write_table(abmil, canvas, tmp_path / "map.csv")
    written = pd.read_csv(tmp_path / "map.csv")
    assert (written["data"] == "demo (simulated)").all()
    assert (written["x_px"] == 256 * written["x"]).all()
    (file,) = write_geojson(abmil, canvas, tmp_path / f"map-{abmil.patient}")
    assert file.name == f"map-{written['slide'][0]}.geojson"
    document = json.loads(file.read_text())
    assert document["type"] == "FeatureCollection"
    assert document["survbench"]["data"] == "demo (simulated)"
    assert len(document["features"]) == len(written)
    for feature, row in zip(document["features"], written.to_dict("records"), strict=True):
        (ring,) = feature["geometry"]["coordinates"]
        left, top = row["x_px"], row["y_px"]
        assert ring == [[left, top], [left + 256, top], [left + 256, top + 256], [left, top + 256], [left, top]]
        assert feature["properties"]["measurements"]["weight attention"] == pytest.approx(row["weight attention"])
        assert ("classification" in feature["properties"]) == row["top attention"]
        assert feature["properties"]["metadata"]["data"] == "demo (simulated)"
    drawn = heatmap_figure(abmil, canvas)
    assert drawn is not None
    save_figure(drawn, tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 10_000


def test_without_coordinates_there_is_a_table_and_nothing_drawn(
    abmil: PatchAttention, planted: Planted, tmp_path: Path
) -> None:
    canvas = Canvas({}, {}, ("why",))
    assert heatmap_figure(lost(abmil), canvas) is None
    assert write_geojson(lost(abmil), slide_canvas(abmil, planted.jobs["abmil"].cohort, []), tmp_path / "map") == []
    write_table(lost(abmil), canvas, tmp_path / "map.csv")
    assert pd.read_csv(tmp_path / "map.csv")["x_px"].isna().all()


def slide_file(folder: Path, name: str, attention: PatchAttention, **more: Any) -> Path:
    """A tiled picture, large enough for all patches, white but for the first patch."""
    x, y = (256 * attention.table[axis].to_numpy().astype(int) for axis in ("x", "y"))
    pixels = np.full((y.max() + 512, x.max() + 512, 3), 255, np.uint8)
    pixels[y[0] : y[0] + 256, x[0] : x[0] + 256] = 60, 20, 90
    tifffile.imwrite(folder / name, pixels, tile=(256, 256), photometric="rgb", compression="zlib", **more)
    return folder / name


def test_patches_lie_on_the_slide_that_is_given(abmil: PatchAttention, planted: Planted, tmp_path: Path) -> None:
    data, slide = planted.jobs["abmil"].cohort, abmil.table["slide"][0]
    nearer = {axis: abmil.table[axis] - abmil.table[axis].min() + 1 for axis in ("x", "y")}
    abmil = replace(abmil, table=abmil.table.assign(**nearer))
    file = slide_file(tmp_path, f"{slide}.tif", abmil)
    canvas = slide_canvas(abmil, data, [file])
    thumbnail = canvas.thumbnails[slide]
    x, y = (256 * abmil.table[axis].to_numpy() for axis in ("x", "y"))
    assert (thumbnail.width, thumbnail.height) == (x.max() + 512, y.max() + 512)
    scale = thumbnail.pixels.shape[1] / thumbnail.width
    center = thumbnail.pixels[round(scale * (y[0] + 128)), round(scale * (x[0] + 128))]
    assert center[1] < 60
    assert heatmap_figure(abmil, canvas) is not None
    (tmp_path / "text.tif").write_text("no slide")
    (tmp_path / f"{slide}.svs").write_text("no slide")
    for other, error, message in (
        (tmp_path / "absent.tif", BadConfig, "is no slide of patient"),
        (tmp_path / f"{slide}.ndpi", MissingFile, "does not exist"),
        (tmp_path / f"{slide}.svs", BadFile, "cannot be opened"),
    ):
        with pytest.raises(error, match=message):
            slide_canvas(abmil, data, [other])


def test_without_openslide_the_extra_is_named(
    abmil: PatchAttention, planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / f"{abmil.table['slide'][0]}.svs"
    file.touch()
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(BadConfig, match=r"survbench\[wsi\]"):
        slide_canvas(abmil, planted.jobs["abmil"].cohort, [file])


@pytest.mark.parametrize(
    ("feature_format", "edge", "why"),
    [("trident", 256, ""), ("clam-h5", 256, ""), ("stamp", None, "micrometers"), ("clam-pt", None, "no coordinates")],
)
def test_a_patch_has_the_size_in_its_file(
    planted: Planted, tmp_path: Path, feature_format: str, edge: float | None, why: str
) -> None:
    data: Any = planted.trained("abmil", learning_rate=1e-3).cohort
    file = write_features(tmp_path, "S", np.zeros((2, 4), np.float32), np.array([[0, 256], [512, 0]]), feature_format)
    table = pd.DataFrame({"patient": ["P"], "slide": ["S"], "file": [file]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(data.folder), "slides", lambda self: table)
        size, reason = patch_pixels(data, "S")
        file.unlink()
        gone, gone_reason = patch_pixels(data, "S")
    assert size == edge
    assert why in reason
    assert bool(reason) == (edge is None)
    assert gone is None
    assert "is gone" in gone_reason
