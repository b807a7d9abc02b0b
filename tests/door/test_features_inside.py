"""Feature files whose values are elsewhere, in part missing, or no places: named before they are opened or believed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from survbench.data.formats import read_features
from survbench.errors import SurvbenchError

X = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
XY = np.stack([np.arange(12) % 4, np.arange(12) // 4], axis=1) * 256.0
AGAIN = "extract the features again"


def through_a_group(file: Path) -> None:
    with h5py.File(file.with_name("other.hdf"), "w") as content:
        content["features"] = X
    with h5py.File(file, "w") as content:
        content["g"] = h5py.ExternalLink("other.hdf", "/")
        content["features"] = h5py.SoftLink("/g/features")


def to_a_pipe(file: Path) -> None:
    os.mkfifo(file.with_name("pipe"))
    with h5py.File(file, "w") as content:
        content["features"] = X
        content["coords"] = h5py.ExternalLink("pipe", "/coords")


def in_part(file: Path, compression: str | None = None) -> None:
    with h5py.File(file, "w") as content:
        content.create_dataset("features", (12, 8), "f4", chunks=(1, 8), compression=compression)[0] = X[0]


def in_wide_part(file: Path) -> None:
    with h5py.File(file, "w") as content:
        content.create_dataset("features", (12, 8), "f4", chunks=(5, 5), maxshape=(None, None))[:10] = X[:10]


def placed(file: Path, value: float, feats: str = "feats") -> None:
    places = XY.copy()
    places[3] = value
    with h5py.File(file, "w") as content:
        content[feats], content["coords"] = X, places


def in_circles(file: Path) -> None:
    with h5py.File(file, "w") as content:
        content["features"] = h5py.SoftLink("/coords")
        content["coords"] = h5py.SoftLink("/features")


NOT_FINITE = f"{{file}}: 1 of 12 patches have NaN or infinite coordinates. {AGAIN}"
PART = f"{{file}}: features was written in part, the rest reads as zeros. {AGAIN}"
BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a link through a group": (
        ".h5",
        through_a_group,
        "{file}: /g/features is a link to another file (other.hdf). copy the values into it",
    ),
    "a link to a pipe": (".h5", to_a_pipe, "{file}: coords is a link to another file (pipe). copy the values into it"),
    "links in circles": (
        ".h5",
        in_circles,
        f"{{file}}: features is a link to nothing, expected an array of numbers. {AGAIN}",
    ),
    "written in part": (".h5", in_part, PART),
    "written in part, compressed": (".h5", lambda f: in_part(f, "gzip"), PART),
    "written in part, chunks wider than the features": (".h5", in_wide_part, PART),
    "NaN in STAMP's places": (".h5", lambda f: placed(f, np.nan), NOT_FINITE),
    "infinity in STAMP's places": (".h5", lambda f: placed(f, np.inf), NOT_FINITE),
    "NaN in CLAM's places": (".h5", lambda f: placed(f, np.nan, "features"), NOT_FINITE),
    "NaN in a dictionary's places": (
        ".pt",
        lambda f: torch.save({"features": torch.from_numpy(X), "coords": torch.full((12, 2), float("nan"))}, f),
        f"{{file}}: 12 of 12 patches have NaN or infinite coordinates. {AGAIN}",
    ),
    "sparse": (
        ".pt",
        lambda f: torch.save(torch.from_numpy(X).to_sparse(), f),
        "{file} holds a sparse tensor, expected a plain one. save features.to_dense()",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_elsewhere_or_missing_is_one_line(tmp_path: Path, kind: str) -> None:
    suffix, make, line = BAD[kind]
    file = tmp_path / f"S{suffix}"
    make(file)
    with pytest.raises(SurvbenchError) as caught:
        read_features(file)
    assert str(caught.value) == line.format(file=file)


def test_a_tensor_that_repeats_one_value_is_not_expanded(tmp_path: Path) -> None:
    torch.save(torch.zeros(1).expand(1_000_000, 1_000_000), tmp_path / "S.pt")
    with pytest.raises(SurvbenchError, match=r"declares 4e\+03 GB of features, the file has 0\.001\d+ MB"):
        read_features(tmp_path / "S.pt")


def test_links_within_a_file_and_whole_compressed_files_are_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "S.h5", "w") as content:
        content.create_dataset("g/x", data=X, chunks=(5, 8), compression="gzip")
        content["features"] = h5py.SoftLink("g/x")
    np.testing.assert_array_equal(read_features(tmp_path / "S.h5").features, X)
