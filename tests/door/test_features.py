# ruff: noqa: E501  (lines are compared as they are printed)
"""Feature files as tools, hubs and damaged disks leave them: the right patches, or one line that names file and mend."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from support.door import typed
from survbench.data.check import check
from survbench.data.formats import PatchEdge, find_features, patch_count, patch_edge, read_features, write_features
from survbench.data.importers import import_data
from survbench.data.packing import pack
from survbench.data.root import DataRoot
from survbench.errors import SurvbenchError

X = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
XY = np.stack([np.arange(12), 2 * np.arange(12)], axis=1) * 256
AGAIN = "extract the features again"


def h5(file: Path, attributes: dict[str, Any] | None = None, **datasets: Any) -> None:
    with h5py.File(file, "w") as content:
        for name, values in datasets.items():
            content[name] = values
        content.attrs.update(attributes or {})


def external(file: Path) -> None:
    with h5py.File(file, "w") as content:
        content.create_dataset("features", (12, 8), "f4", external=[("/etc/passwd", 0, 12 * 8 * 4)])


def linked(file: Path) -> None:
    h5(file.with_name("other.hdf"), features=X)
    with h5py.File(file, "w") as content:
        content["features"] = h5py.ExternalLink("other.hdf", "/features")


def dangling(file: Path) -> None:
    with h5py.File(file, "w") as content:
        content["features"] = h5py.SoftLink("/nowhere")


def virtual(file: Path) -> None:
    h5(file.with_name("other.hdf"), features=X)
    layout = h5py.VirtualLayout((12, 8), "f4")
    layout[:] = h5py.VirtualSource(file.with_name("other.hdf"), "features", shape=(12, 8))
    with h5py.File(file, "w") as content:
        content.create_virtual_dataset("features", layout)


def huge(file: Path) -> None:
    with h5py.File(file, "w") as content:
        content.create_dataset("features", (1_000_000, 1024), "f4", chunks=(64, 1024))


def never_written(file: Path) -> None:
    with h5py.File(file, "w") as content:
        content.create_dataset("features", (12, 8), "f4", chunks=(1, 8))


def group(file: Path) -> None:
    with h5py.File(file, "w") as content:
        content.create_group("features")["x"] = X


def truncated(file: Path) -> None:
    h5(file, features=np.repeat(X, 100, 0))
    file.write_bytes(file.read_bytes()[:2000])


BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "text coordinates": (".h5", lambda f: h5(f, features=X, coords=XY.astype("S4")), f"{{file}}: coords holds text, expected an array of numbers. {AGAIN}"),
    "coordinates in a group": (".h5", lambda f: h5(f, features=X, **{"coords/x": XY}), f"{{file}}: coords is a group, expected an array of numbers. {AGAIN}"),
    "three coordinates": (".h5", lambda f: h5(f, features=X, coords=np.zeros((12, 3))), f"{{file}}: coords have the shape (12, 3), expected (12, 2): x and y of each patch. {AGAIN}"),
    "transposed coordinates": (".h5", lambda f: h5(f, features=X, coords=XY.T), f"{{file}}: coords have the shape (2, 12), expected (12, 2): x and y of each patch. {AGAIN}"),
    "too few coordinates": (".h5", lambda f: h5(f, features=X, coords=XY[:11]), f"{{file}} has 12 patches and 11 coordinates. {AGAIN}"),
    "coordinates on no grid": (".h5", lambda f: h5(f, features=X, coords=XY + np.arange(12)[:, None] % 3), "{file} does not say how large a patch is, and its coordinates lie on no grid. keep CLAM's folder patches/ beside {parent}/, or import with --patch-size, in level-0 pixels"),
    "a step of seven pixels": (".h5", lambda f: h5(f, features=X, coords=XY // 256 * 7), "{file} does not say how large a patch is, and its coordinates lie on no grid. keep CLAM's folder patches/ beside {parent}/, or import with --patch-size, in level-0 pixels"),
    "seven pixels in .pt": (".pt", lambda f: torch.save({"feats": X, "coords": torch.from_numpy(XY // 256 * 7)}, f), "{file} does not say how large a patch is, and its coordinates lie on no grid. keep CLAM's folder patches/ beside {parent}/, or import with --patch-size, in level-0 pixels"),
    "features in a group": (".h5", group, f"{{file}}: features is a group, expected an array of numbers. {AGAIN}"),
    "features of text": (".h5", lambda f: h5(f, features=X.astype("S4")), f"{{file}}: features holds text, expected an array of numbers. {AGAIN}"),
    "integers": (".h5", lambda f: h5(f, features=X.astype(int)), "{file} holds int64, expected floating-point features"),
    "NaN": (".h5", lambda f: h5(f, features=np.where(np.arange(12)[:, None] == 3, np.nan, X)), f"{{file}}: 1 of 12 patches have NaN or infinite features. {AGAIN}"),
    "other keys": (".h5", lambda f: h5(f, embeddings=X), "{file} holds embeddings, expected one of features, feats, patch_embeddings"),
    "nothing": (".h5", lambda f: h5(f), "{file} holds nothing, expected one of features, feats, patch_embeddings"),
    "a slide vector": (".h5", lambda f: h5(f, features=X[0]), "{file} has features of shape (8,): one vector for the whole slide, expected patches x width. name the folder of patch features"),
    "STAMP's slide": (".h5", lambda f: h5(f, {"feat_type": "slide"}, feats=X[:1]), "{file} says feat_type slide: one vector for the whole slide, expected patches x width. name the folder of patch features"),
    "STAMP's patient": (".h5", lambda f: h5(f, {"feat_type": "patient"}, feats=X[0]), "{file} says feat_type patient: one vector for the whole patient, expected patches x width. name the folder of patch features"),
    "four axes": (".h5", lambda f: h5(f, features=np.zeros((2, 3, 4, 8), np.float32)), "{file} has features of shape (2, 3, 4, 8): 4 axes, expected patches x width. name the folder of patch features"),
    "values elsewhere": (".h5", external, "{file}: the values of features are kept in other files. copy the values into it"),
    "a link to another file": (".h5", linked, "{file}: features is a link to another file (other.hdf). copy the values into it"),
    "a link to nothing": (".h5", dangling, f"{{file}}: features is a link to nothing, expected an array of numbers. {AGAIN}"),
    "a virtual dataset": (".h5", virtual, "{file}: the values of features are kept in other files. copy the values into it"),
    "never written": (".h5", never_written, f"{{file}}: features was never written. {AGAIN}"),
    "an LFS pointer": (".h5", lambda f: f.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"), "{file} is a Git LFS pointer, not the file itself. run git lfs pull"),
    "an LFS pointer in .pt": (".pt", lambda f: f.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"), "{file} is a Git LFS pointer, not the file itself. run git lfs pull"),
    "an LFS pointer in .npy": (".npy", lambda f: f.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"), "{file} is a Git LFS pointer, not the file itself. run git lfs pull"),
    "a web page": (".h5", lambda f: f.write_text("<!DOCTYPE html><html>"), "{file} is a web page, not a feature file. download it again"),
    "an empty file": (".h5", lambda f: f.touch(), "{file} is empty. copy or extract it again"),
    "an empty .pt": (".pt", lambda f: f.touch(), "{file} is empty. copy or extract it again"),
    "a folder": (".h5", lambda f: f.mkdir(), "{file} is a folder, expected a file. name a folder of feature files"),
    "a pipe": (".h5", os.mkfifo, "{file} is a pipe or a device, expected a file. name a folder of feature files"),
    "a list": (".pt", lambda f: torch.save([torch.from_numpy(X)], f), "{file} holds a list, expected a tensor or an array of patches x width"),
    "a dict of something else": (".pt", lambda f: torch.save({"x": torch.from_numpy(X)}, f), "{file} holds x, expected one of features, feats, patch_embeddings"),
    "objects in .npy": (".npy", lambda f: np.save(f, np.array([{}], object), allow_pickle=True), "{file} cannot be read as NumPy: Array can't be memory-mapped: Python objects in dtype."),
    "a vector in .npy": (".npy", lambda f: np.save(f, X[0]), "{file} has features of shape (8,): one vector for the whole slide, expected patches x width. name the folder of patch features"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_cannot_be_right_is_one_line(tmp_path: Path, kind: str) -> None:
    suffix, make, line = BAD[kind]
    file = tmp_path / f"S{suffix}"
    make(file)
    with pytest.raises(SurvbenchError) as caught:
        read_features(file)
    assert str(caught.value) == line.format(file=file, parent=tmp_path.name)


def test_what_a_small_file_declares_is_looked_at_before_it_is_read(tmp_path: Path) -> None:
    huge(tmp_path / "S.h5")
    with pytest.raises(SurvbenchError, match=r"features declares 4\.1 GB, the file has 0\.00\d+ MB. it is damaged"):
        read_features(tmp_path / "S.h5")
    truncated(tmp_path / "T.h5")
    with pytest.raises(SurvbenchError, match=r"T\.h5 cannot be read as HDF5: .*truncated.*copy or extract it again"):
        read_features(tmp_path / "T.h5")


@pytest.mark.parametrize(
    ("suffix", "make"),
    [
        (".h5", lambda f: h5(f, features=X)),
        (".h5", lambda f: h5(f, features=X[None], coords=XY[None])),
        (".h5", lambda f: h5(f, features=X[:, None])),
        (".h5", lambda f: h5(f, feats=X.astype(np.float64))),
        (".pt", lambda f: torch.save(torch.from_numpy(X)[:, None], f)),
        (".pt", lambda f: torch.save({"features": torch.from_numpy(X)}, f)),
        (".pt", lambda f: torch.save({"feats": X, "coords": torch.from_numpy(XY)}, f)),
        (".npy", lambda f: np.save(f, X[None])),
        (".H5", lambda f: h5(f, features=X)),
    ],
)
def test_forms_of_patch_features_are_read(tmp_path: Path, suffix: str, make: Callable[[Path], object]) -> None:
    make(tmp_path / f"S{suffix}")
    slide = read_features(tmp_path / f"S{suffix}")
    np.testing.assert_array_equal(slide.features, X)
    assert patch_count(tmp_path / f"S{suffix}") == (12, 8)
    if not np.isnan(slide.coords).any():
        np.testing.assert_array_equal(slide.coords, XY / 256)


@pytest.mark.parametrize("format_name", ["trident", "clam-h5", "clam-pt", "stamp", "npy"])
@pytest.mark.parametrize("simulated", [True, False])
def test_the_mark_of_simulated_features_travels_with_the_file(
    tmp_path: Path, format_name: str, simulated: bool
) -> None:
    file = write_features(tmp_path, "S", X, XY, format_name, simulated=simulated)
    (tmp_path / "elsewhere").mkdir()
    copied = shutil.copy(file, tmp_path / "elsewhere" / f"S{file.suffix}")
    shutil.copytree(tmp_path / "patches", tmp_path / "elsewhere" / "patches", dirs_exist_ok=True) if (
        tmp_path / "patches"
    ).exists() else None
    assert read_features(Path(copied)).simulated == simulated
    if file.suffix == ".pt":
        np.testing.assert_array_equal(torch.load(file, weights_only=True).numpy(), X)
    if file.suffix == ".npy":
        np.testing.assert_array_equal(np.load(file, mmap_mode="r"), X)


def test_a_patch_size_that_is_said_counts(tmp_path: Path) -> None:
    source, features = tmp_path / "mine", tmp_path / "features" / "h5_files"
    source.mkdir()
    features.mkdir(parents=True)
    rows = [f"P{i},S{i},{10 + i},{i % 2}" for i in range(40)]
    (source / "labels.csv").write_text("\n".join(["patient,slide_id,os_months,os_event", *rows]))
    two_grids = XY + np.where(np.arange(12) < 6, 0, 7)[:, None]  # pieces of tissue 7 px apart
    for i in range(40):
        h5(features / f"S{i}.h5", features=X, coords=two_grids)
    import_data(source, tmp_path / "DATA", slides=features.parent)
    with pytest.raises(SurvbenchError, match="40 of 40 feature files"):
        pack(DataRoot.open(tmp_path / "DATA").cohort("mine"))
    assert len(check(DataRoot.open(tmp_path / "DATA")).problems) == 40
    import_data(source, tmp_path / "DATA", slides=features.parent, patch_size=512, overwrite=True)
    folder = DataRoot.open(tmp_path / "DATA").cohort("mine")
    assert check(DataRoot.open(tmp_path / "DATA")).problems == ()
    np.testing.assert_array_equal(pack(folder).coords[:12], (two_grids / 512).astype(np.float32))
    assert patch_edge(features / "S0.h5", folder.info.patch_size) == PatchEdge(512, "px")
    with pytest.raises(SurvbenchError, match="the patch size is 0"):
        import_data(source, tmp_path / "OTHER", slides=features.parent, patch_size=0)


def test_folders_as_tools_and_hubs_leave_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "features"
    (elsewhere / "h5_files").mkdir(parents=True)
    (folder / "slides" / "D").mkdir(parents=True)
    (folder / "patches").mkdir()
    h5(elsewhere / "h5_files" / "A.h5", features=X)
    (folder / "h5_files").symlink_to(elsewhere / "h5_files")  # on another disk
    (folder / "slides" / "loop").symlink_to(folder)
    h5(tmp_path / "blob", features=X)
    (folder / "B.h5").symlink_to(tmp_path / "blob")  # a hub's cache
    h5(folder / "C.h5", coords=XY)
    torch.save(torch.from_numpy(X), folder / "C.pt")  # its twin holds coordinates alone
    h5(folder / "slides" / "D" / "features.h5", features=X)  # a folder per slide
    h5(folder / "patches" / "A.h5", coords=XY)
    h5(folder / "E_patches.h5", coords=XY)
    assert find_features(folder) == {
        "A": folder / "h5_files" / "A.h5",
        "B": folder / "B.h5",
        "C": folder / "C.pt",
        "D": folder / "slides" / "D" / "features.h5",
    }
    said = " ".join(capsys.readouterr().err.split())
    assert "files that hold no patch features, not used (3): C.h5, E_patches.h5, patches/A.h5" in said


def test_links_of_a_hub_keep_their_names(tmp_path: Path) -> None:
    source, features = tmp_path / "mine", tmp_path / "features"
    source.mkdir()
    features.mkdir()
    rows = [f"P{i},S{i}.svs,{10 + i},{i % 2}" for i in range(6)]
    (source / "labels.csv").write_text("\n".join(["patient,slide_id,os_months,os_event", *rows]))
    for i in range(6):
        h5(tmp_path / f"{i:064x}", features=X)
        (features / f"S{i}.h5").symlink_to(tmp_path / f"{i:064x}")
    assert import_data(source, tmp_path / "DATA", slides=features).cohorts[0].slides_with_features == 6
    assert "S3.h5" in (tmp_path / "DATA" / "mine" / "slides.csv").read_text()
    assert typed("data", "pack", "--data", tmp_path / "DATA") == 0


@pytest.mark.shared
@pytest.mark.parametrize(
    ("case", "source", "features", "line"),
    [
        ("10-stamp-slide-level-as-a-patch", "in", "features", "says feat_type slide"),
        ("17-coords-transposed", "in", "features", "coords have the shape (2, 12), expected (12, 2)"),
        ("20-h5-of-another-shape", "coords_group", "coords_group_f", "coords is a group"),
        ("20-h5-of-another-shape", "features_group", "features_group_f", "features is a group"),
        ("20-h5-of-another-shape", "coords_three", "coords_three_f", "coords have the shape (13, 3), expected (13, 2)"),
        ("20-h5-of-another-shape", "coords_text", "coords_text_f", "coords holds text"),
    ],
)
def test_cases_that_are_refused(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str, source: str, features: str, line: str
) -> None:
    place = shared / "cases" / case
    assert typed("data", "import", place / source, "--out", tmp_path / "D", "--slides", place / features) in (0, 2)
    if (tmp_path / "D").exists():
        capsys.readouterr()
        assert typed("data", "pack", "--data", tmp_path / "D") == 2
    assert line in " ".join(capsys.readouterr().err.split())


@pytest.mark.shared
@pytest.mark.parametrize(
    ("case", "source", "features"),
    [("33-pt-shapes", "in", "n1d"), ("33-pt-shapes", "dict", "ptdict"), ("24-linked-subfolder", "in", "linked")],
)
def test_cases_that_are_read(shared: Path, tmp_path: Path, case: str, source: str, features: str) -> None:
    place = tmp_path / case
    shutil.copytree(shared / "cases" / case, place, symlinks=True)
    if features == "linked":
        (place / "linked").mkdir()
        (place / "linked" / "h5_files").symlink_to("../real")
    report = import_data(place / source, tmp_path / "D", slides=place / features)
    assert report.cohorts[0].slides_with_features == report.cohorts[0].slides > 0
    assert typed("data", "pack", "--data", tmp_path / "D") == 0
