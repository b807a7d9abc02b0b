"""Feature files: each format as its tool writes it, and read back."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from survbench.data.formats import (
    FORMATS,
    find_features,
    patch_count,
    patch_edge,
    read_features,
    write_features,
)
from survbench.data.formats.base import PATCH_PX
from survbench.errors import BadConfig, BadFeatures

WITHOUT_COORDS = ("clam-pt", "npy")
SLIDE = "DEMO-XX-0001-01Z-00-DX1.0A1B-2C3D"


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(7, 12)).astype(np.float16)


@pytest.fixture
def coords() -> np.ndarray:
    return np.array([(256 * x, 256 * y) for y in (2, 3, 4) for x in (5, 6, 7)][:7])


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_back(tmp_path: Path, features: np.ndarray, coords: np.ndarray, name: str) -> None:
    file = write_features(tmp_path, SLIDE, features, coords, name)
    assert find_features(tmp_path) == {SLIDE: file}
    slide = read_features(file)
    np.testing.assert_array_equal(slide.features, features)
    if name in WITHOUT_COORDS:
        assert np.isnan(slide.coords).all()
    else:
        np.testing.assert_array_equal(slide.coords, coords / 256)
        assert slide.simulated


@pytest.mark.parametrize("name", FORMATS)
@given(
    features=arrays.arrays(
        np.float16,
        st.tuples(st.integers(0, 9), st.integers(1, 5)),
        elements=st.floats(-6e4, 6e4, width=16),
    ),
    seed=st.integers(0, 999),
)
def test_writing_and_reading_are_inverses(
    tmp_path_factory: pytest.TempPathFactory, name: str, features: np.ndarray, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("features")
    coords = PATCH_PX * np.random.default_rng(seed).permutation(400)[: 2 * len(features)].reshape(-1, 2)
    file = write_features(folder, SLIDE, features, coords, name)
    assert file == folder / FORMATS[name].path(SLIDE)
    slide = read_features(file)
    np.testing.assert_array_equal(slide.features, features)
    assert patch_count(file) == features.shape
    if name in WITHOUT_COORDS:
        assert np.isnan(slide.coords).all()
        assert patch_edge(file) is None
    else:
        np.testing.assert_array_equal(slide.coords, coords / PATCH_PX)
        assert slide.simulated


def test_trident_attributes(tmp_path: Path, features: np.ndarray, coords: np.ndarray) -> None:
    file = write_features(tmp_path, SLIDE, features, coords, "trident")
    assert file == tmp_path / "20x_256px_0px_overlap" / "features_uni_v1" / f"{SLIDE}.h5"
    with h5py.File(file) as h5:
        assert (h5["features"].dtype, h5["features"].chunks, h5["features"].maxshape) == (
            np.float16,
            (1, 12),
            (None, 12),
        )
        assert h5["coords"].dtype == np.int64
        assert h5["features"].attrs["encoder"] == "uni_v1"
        assert h5["features"].attrs["name"] == SLIDE
        assert set(h5["coords"].attrs) == {
            "patch_size", "patch_size_level0", "level0_magnification", "target_magnification", "overlap",
            "level0_width", "level0_height", "name", "savetodir",
        }  # fmt: skip
        assert (h5["coords"].attrs["level0_width"], h5["coords"].attrs["level0_height"]) == (2048, 1280)
        assert h5.attrs["simulated"]
        assert h5.attrs["simulated_by"].startswith("survbench ")


def test_clam_files_and_their_coordinate_twins(tmp_path: Path, features: np.ndarray, coords: np.ndarray) -> None:
    file = write_features(tmp_path, SLIDE, features, coords, "clam-h5")
    with h5py.File(file) as h5:
        assert (h5["features"].dtype, h5["features"].chunks, h5["features"].maxshape[0]) == (np.float32, (32, 12), None)
        assert h5["coords"].dtype == np.int32
        assert not h5["features"].attrs
    with h5py.File(tmp_path / "patches" / f"{SLIDE}.h5") as h5:
        assert list(h5) == ["coords"]
        assert (h5["coords"].attrs["patch_size"], h5["coords"].attrs["patch_level"]) == (256, 0)
    pt = write_features(tmp_path, SLIDE, features, coords, "clam-pt")
    tensor = torch.load(pt, weights_only=True)
    assert tensor.dtype == torch.float32
    assert tensor.shape == (7, 12)


def test_clam_knows_the_patch_size_of_a_slide_with_one_patch(tmp_path: Path) -> None:
    file = write_features(tmp_path, SLIDE, np.ones((1, 4), np.float32), np.array([[512, 768]]), "clam-h5")
    np.testing.assert_array_equal(read_features(file).coords, [[2, 3]])


def test_stamp_is_float16_and_micrometers(tmp_path: Path, features: np.ndarray, coords: np.ndarray) -> None:
    file = write_features(tmp_path, SLIDE, features.astype(np.float32), coords, "stamp")
    with h5py.File(file) as h5:
        assert (h5["feats"].dtype, h5["feats"].chunks) == (np.float16, None)
        assert h5["coords"].dtype == np.float32
        np.testing.assert_array_equal(h5["coords"][()], coords / 2)
        assert {"stamp_version", "extractor", "unit", "tile_size_um", "tile_size_px", "code_hash", "feat_type"} <= set(
            h5.attrs
        )
        assert (h5.attrs["unit"], h5.attrs["tile_size_um"], h5.attrs["feat_type"]) == ("um", 128.0, "tile")


def test_only_simulated_files_say_so(tmp_path: Path, features: np.ndarray, coords: np.ndarray) -> None:
    file = write_features(tmp_path, SLIDE, features, coords, "trident", simulated=False)
    assert not read_features(file).simulated


def test_a_slide_without_tissue_is_written(tmp_path: Path) -> None:
    for name in FORMATS:
        file = write_features(tmp_path / name, SLIDE, np.empty((0, 4), np.float16), np.empty((0, 2), int), name)
        assert read_features(file).features.shape == (0, 4)


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, features: np.ndarray, coords: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_features(tmp_path, SLIDE, features, coords, "trident")
    before = file.read_bytes()

    def broken(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(h5py.Group, "create_dataset", broken)
    with pytest.raises(OSError, match="disk full"):
        write_features(tmp_path, SLIDE, features + 1, coords, "trident")
    assert list(file.parent.iterdir()) == [file]
    assert file.read_bytes() == before


def test_what_cannot_be_written_is_refused(tmp_path: Path, features: np.ndarray, coords: np.ndarray) -> None:
    with pytest.raises(BadConfig, match=r"tridant.*Known: trident"):
        write_features(tmp_path, SLIDE, features, coords, "tridant")
    with pytest.raises(BadFeatures, match=r"features \(7, 12\) and coords \(6, 2\)"):
        write_features(tmp_path, SLIDE, features, coords[:6], "trident")
    for slide in ("../elsewhere", "a/b", "", ".."):
        with pytest.raises(BadFeatures, match="cannot be a file name"):
            write_features(tmp_path, slide, features, coords, "trident")
    assert not list(tmp_path.iterdir())
