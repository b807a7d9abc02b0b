"""Feature files of every tool read unchanged, and every way in which they can be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from support import layouts
from survbench.data import formats
from survbench.data.formats import PatchEdge, find_features, patch_count, read_features, slide_stem
from survbench.data.formats.hdf5 import Hdf5Format
from survbench.errors import BadFeatures, BadFile, MissingFile

X, XY = layouts.features()


@pytest.mark.parametrize("layout", layouts.WRITERS)
def test_every_layout_gives_the_same_features_and_coordinates(tmp_path: Path, layout: str) -> None:
    file = layouts.WRITERS[layout](tmp_path, "S.1", X, XY)
    slide = read_features(file)
    np.testing.assert_allclose(slide.features.astype(np.float32), X, atol=2e-3 if layout == "stamp_h5" else 0)
    assert patch_count(file) == X.shape
    if layout in layouts.WITH_COORDS:
        np.testing.assert_array_equal(slide.coords, (XY / 512).astype(np.float32))
    else:
        assert np.isnan(slide.coords).all()
    assert find_features(tmp_path) == {"S.1": file}
    assert not slide.simulated


def test_a_leading_axis_of_one_is_squeezed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as content:
        content["features"], content["coords"] = X[None], XY[None]
        content["coords"].attrs["patch_size_level0"] = 512
    slide = read_features(tmp_path / "a.h5")
    assert slide.features.shape == X.shape
    np.testing.assert_array_equal(slide.coords, (XY / 512).astype(np.float32))


@pytest.mark.parametrize("shape", [(0, 8), (0,)])
def test_a_slide_without_tissue_is_legal(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as content:
        content["features"], content["coords"] = np.zeros(shape, np.float32), np.zeros((0, 2))
    assert len(read_features(tmp_path / "a.h5").features) == 0


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("case-v.svs", "case-v"),
        ("A.DX1.0A1B.svs", "A.DX1.0A1B"),
        ("A.DX1.0A1B", "A.DX1.0A1B"),
        ("a.ndpi", "a"),
        ("a.H5", "a"),
        ("svs", "svs"),
        ("a.svs.h5", "a.svs"),
    ],
)
def test_only_one_known_suffix_is_taken_off(name: str, stem: str) -> None:
    assert slide_stem(name) == stem


def h5(file: Path, **datasets: np.ndarray) -> Path:
    with h5py.File(file, "w") as content:
        for key, value in datasets.items():
            content[key] = value
    return file


def test_wrong_files_are_named_with_what_was_found(tmp_path: Path) -> None:
    bad = X.copy()
    bad[[1, 3], 2] = np.nan, np.inf
    torch.save(Data(x=torch.zeros(3, 2)), tmp_path / "graph.pt")
    torch.save({"x": torch.zeros(3)}, tmp_path / "dict.pt")
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04 half")
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF half")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for file, error, message in (
        (h5(tmp_path / "nan.h5", features=bad), BadFeatures, "2 of 7 patches"),
        (h5(tmp_path / "keys.h5", other=X, more=X), BadFeatures, "more, other"),
        (h5(tmp_path / "slide.h5", features=X[0]), BadFeatures, "whole slide"),
        (h5(tmp_path / "short.h5", features=X, coords=XY[:-1]), BadFeatures, "7 patches and 6 coordinates"),
        (h5(tmp_path / "ints.h5", features=XY), BadFeatures, "floating-point"),
        (tmp_path / "graph.pt", BadFile, "Python objects"),
        (tmp_path / "dict.pt", BadFeatures, "dict"),
        (tmp_path / "cut.pt", BadFile, "cut.pt"),
        (tmp_path / "cut.h5", BadFile, "cut.h5"),
        (tmp_path / "objects.npy", BadFile, "objects.npy"),
        (tmp_path / "absent.h5", MissingFile, "absent.h5"),
    ):
        with pytest.raises(error, match=message) as caught:
            read_features(file)
        assert file.name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_datasets_that_are_no_arrays_of_numbers_are_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "group.h5", "w") as content:
        content.create_group("features")
    with h5py.File(tmp_path / "text.h5", "w") as content:
        content["features"] = "abc"
    odd = h5(tmp_path / "odd.h5", features=np.zeros((2, 4), np.float32), coords=np.arange(5))
    for file, what in ((tmp_path / "group.h5", "is a group"), (tmp_path / "text.h5", "holds text"), (odd, "x and y")):
        with pytest.raises(BadFeatures, match=what):
            read_features(file)


def test_clam_coordinates_without_their_dataset_do_not_give_the_edge(tmp_path: Path) -> None:
    for folder in ("h5_files", "patches"):
        (tmp_path / folder).mkdir()
    coords = np.array([[0, 0], [128, 0]])
    file = h5(tmp_path / "h5_files/S.h5", features=np.zeros((2, 4), np.float32), coords=coords)
    h5(tmp_path / "patches/S.h5", contours=np.zeros(3))
    assert formats.patch_edge(file) == PatchEdge(128.0, "")


def test_h5_is_preferred_and_folders_without_patches_are_skipped(tmp_path: Path) -> None:
    layouts.clam_pt(tmp_path, "S", X, XY)
    preferred = layouts.clam_h5(tmp_path, "S", X, XY)
    h5(tmp_path / "slide_features.h5", features=X)
    (tmp_path / "slide_features_titan").mkdir()
    h5(tmp_path / "slide_features_titan" / "S.h5", features=X[0])
    assert find_features(tmp_path)["S"] == preferred


class Mine(Hdf5Format):
    """A format that somebody adds: features under another tool's key, the size of a patch under a name of its own."""

    name = "mine"

    def recognizes(self, content: Any) -> bool:
        return "my_edge" in content.attrs

    def edge(self, content: Any, file: Path) -> PatchEdge:
        return PatchEdge(float(content.attrs["my_edge"]), "px")


def test_a_format_is_added_by_one_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "FORMATS", {"mine": Mine(), **formats.FORMATS})
    file = h5(tmp_path / "S.h5", features=X, coords=XY)
    with h5py.File(file, "a") as content:
        content.attrs["my_edge"] = 256
    np.testing.assert_array_equal(read_features(file).coords, (XY / 256).astype(np.float32))
    assert formats.patch_edge(file) == PatchEdge(256.0, "px")
    theirs = layouts.trident_h5(tmp_path, "T", X, XY)
    np.testing.assert_array_equal(read_features(theirs).coords, (XY / 512).astype(np.float32))


def test_two_encoders_in_one_folder_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        h5(tmp_path / name / "S.h5", features=X)
    with pytest.raises(BadFeatures, match="two feature files"):
        find_features(tmp_path)
    with pytest.raises(MissingFile, match="nowhere"):
        find_features(tmp_path / "nowhere")
