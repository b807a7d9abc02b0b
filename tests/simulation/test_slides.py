"""Simulated slides for real patients: outcomes are never read, everything is marked, real files are never touched."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from support import layouts
from survbench.data.cohort import load_cohort
from survbench.data.formats import FORMATS, read_features
from survbench.data.importers import import_data
from survbench.data.root import DataRoot
from survbench.errors import BadConfig, BadFile
from survbench.simulation.slides import MARK, programmes_of, simulate_slides


def real(folder: Path, shuffle: bool = False) -> DataRoot:
    import_data(layouts.survpath(folder / "source", patients=12, shuffle=shuffle), folder / "DATA", aliases={})
    return DataRoot.open(folder / "DATA")


def bags(root: DataRoot) -> dict[str, np.ndarray]:
    table = root.cohort("luad").slides()
    return {slide: read_features(file).features for slide, file in zip(table["slide"], table["file"], strict=True)}


def test_labels_change_nothing(tmp_path: Path) -> None:
    plain, other = real(tmp_path / "a"), real(tmp_path / "b", shuffle=True)
    file = other.cohort("luad").path / "patients.csv"
    labels = pd.read_csv(file, dtype=str)
    given = labels.copy()
    for column in labels.columns[labels.columns.str.contains("_months|_event")]:
        labels[column] = labels[column].to_numpy()[::-1]
    assert not labels.equals(given)
    labels.to_csv(file, index=False)
    for root in (plain, other):
        simulate_slides(root, patches=8)
    first, second = bags(plain), bags(other)
    assert list(first) == list(second)
    assert all(np.array_equal(first[slide], second[slide]) for slide in first)


def test_expression_leaves_its_trace() -> None:
    rng = np.random.default_rng(0)
    latent = rng.normal(size=40)
    genes = {f"G{i}": latent + 0.1 * rng.normal(size=40) for i in range(3)}
    genes |= {f"H{i}": rng.normal(size=40) for i in range(3)}
    table = pd.DataFrame(genes, index=[f"P{i:02d}" for i in range(40)])
    found = programmes_of(table, {})
    assert abs(np.corrcoef(found[0], latent)[0, 1]) > 0.95
    assert programmes_of(table.sample(frac=1, random_state=1), {}).equals(found)
    assert programmes_of(None, {}).empty


@pytest.mark.parametrize("layout", FORMATS)
def test_every_layout_is_read_back_and_marked(tmp_path: Path, layout: str) -> None:
    root = real(tmp_path)
    report = simulate_slides(root, layout=layout, patches=8)
    (done,) = report.cohorts
    assert (done.written, done.kept, done.slides) == (16, 0, 16)
    assert done.without_trace == ("TCGA-D0-0011",)
    table = root.cohort("luad").slides()
    assert set(table["patient"]) == set(root.cohort("luad").patients().index)
    assert json.loads((done.folder / MARK).read_text())["simulated"] is True
    for file in table["file"]:
        assert read_features(file).features.shape[1] == 1024
        if file.suffix == ".h5":
            with h5py.File(file) as content:
                assert content.attrs["simulated"]
    assert load_cohort(DataRoot.open(root.path), "luad", "os").simulated == "slides"


def test_an_interrupted_call_is_continued(tmp_path: Path) -> None:
    root = real(tmp_path)
    simulate_slides(root, patches=8)
    before = bags(root)
    files = list(root.cohort("luad").slides()["file"])
    for file in files[:5]:
        file.unlink()
    untouched = files[6].stat().st_mtime_ns
    (done,) = simulate_slides(root, patches=8).cohorts
    assert (done.written, done.kept) == (5, 11)
    assert files[6].stat().st_mtime_ns == untouched
    assert all(np.array_equal(before[slide], bag) for slide, bag in bags(root).items())


def test_other_settings_replace_only_with_overwrite(tmp_path: Path) -> None:
    root = real(tmp_path)
    simulate_slides(root, patches=8)
    before = bags(root)
    for options in ({"patches": 9}, {"seed": 1}, {"layout": "stamp"}):
        with pytest.raises(BadFile, match="--overwrite"):
            simulate_slides(root, **{"patches": 8, **options})  # type: ignore[arg-type]
    assert all(np.array_equal(before[slide], bag) for slide, bag in bags(root).items())
    simulate_slides(root, patches=8, layout="stamp", overwrite=True)
    assert not list(root.path.rglob("uni_v1/*.h5"))
    assert all(file.is_file() for file in root.cohort("luad").slides()["file"])


def test_real_features_are_never_replaced(tmp_path: Path) -> None:
    source = layouts.survpath(tmp_path / "source", patients=12)
    slides = pd.read_csv(source / "datasets_csv/metadata/tcga_luad.csv")["slide_id"]
    for slide in slides:
        layouts.clam_h5(tmp_path / "clam", slide.removesuffix(".svs"), *layouts.features(width=1024))
    import_data(source, tmp_path / "DATA", aliases={}, slides=tmp_path / "clam")
    with pytest.raises(BadFile, match="real slide features"):
        simulate_slides(tmp_path / "DATA", overwrite=True)


def test_nonsense_is_refused(tmp_path: Path) -> None:
    root = real(tmp_path)
    with pytest.raises(BadConfig, match="trident"):
        simulate_slides(root, layout="tridant")
    with pytest.raises(BadConfig, match="at least 1"):
        simulate_slides(root, patches=0)
