"""Packing as people have it: damaged files, too fine features, no locks, originals gone, kills, full disks."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from support import layouts
from survbench.data import packing, reading_process
from survbench.data.packing import pack
from survbench.data.precision import float16_loss
from survbench.data.reading_process import headers, read_all
from survbench.data.root import CohortContent, CohortFolder, CohortInfo, DataRoot
from survbench.errors import BadFeatures, BadFile, MissingFile, SurvbenchError
from survbench.files import lock

PATIENTS = ["P1", "P2", "P3", "P4"]


def cohort(folder: Path, *, scale: float = 1, offset: float = 0, files: dict[str, Path] | None = None) -> CohortFolder:
    """Four patients with a slide each; files given by patient replace the generated ones."""
    rows = []
    for seed, patient in enumerate(PATIENTS):
        x, xy = layouts.features(seed=seed, patches=5)
        made = layouts.trident_h5(folder / "files", patient, (x * scale + offset).astype(np.float32), xy)
        rows.append((patient, patient, str((files or {}).get(patient, made))))
    labels = pd.DataFrame({"patient": PATIENTS, "os_months": ["1", "2", "3", "4"], "os_event": "1"})
    slides = pd.DataFrame(rows, columns=["patient", "slide", "file"])
    content = CohortContent(info=CohortInfo(name="toy"), patients=labels, slides=slides)
    return DataRoot.create(folder / "root").write(content)


SCRATCH = ".packed.0123456789ab"  # of a killed process


def leftovers(folder: CohortFolder) -> set[str]:
    return {name for name in names(folder) if name.startswith((".packed.", ".packing"))}


def names(folder: CohortFolder) -> set[str]:
    return {file.name for file in folder.path.iterdir()}


def test_every_damaged_file_is_named_and_nothing_is_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = tmp_path / "one.h5", tmp_path / "two.npy"
    one.write_bytes(b"no HDF5")
    np.save(two, np.zeros(8, np.float32))
    folder = cohort(tmp_path, files={"P1": one, "P3": two})
    with pytest.raises(BadFeatures) as caught:
        pack(folder)
    assert str(caught.value) == (
        "cohort toy: 2 of 4 feature files, named above, cannot be packed. "
        "mend them, or take them out of the cohort; nothing was packed"
    )
    said = capsys.readouterr().err
    assert f"error: {one} cannot be read as HDF5" in said
    assert f"error: {two} has features of shape (8,)" in said
    assert not {"packed"} & names(folder)
    assert not leftovers(folder)


def test_the_only_damaged_file_is_the_error_itself(tmp_path: Path) -> None:
    bad = tmp_path / "bad.npy"
    np.save(bad, np.full((3, 8), np.nan, np.float32))
    with pytest.raises(BadFeatures, match="3 of 3 patches have NaN or infinite features"):
        pack(cohort(tmp_path, files={"P2": bad}))


@pytest.mark.shared
def test_files_that_hang_or_crash_are_named_and_the_next_goes_on(
    tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_process, "PATIENCE", 1.0)
    x, xy = layouts.features()
    good = layouts.trident_h5(tmp_path, "good", x, xy)
    hang, crash = (shared / "cases" / "hangs" / name for name in ("h5_hang_1.h5", "pt_segfault.pt"))
    answers = [answer for _, answer in read_all([hang, good, crash, good])]
    for answer in answers[1::2]:
        assert not isinstance(answer, SurvbenchError)
        np.testing.assert_array_equal(answer.features, x)
    again = "it may be damaged; copy or extract it again"
    assert str(answers[0]) == f"{hang} cannot be read: no progress in 1 seconds. {again}"
    assert isinstance(answers[2], BadFile)
    assert str(crash) in str(answers[2])


def test_headers_are_read_in_the_process_too(tmp_path: Path) -> None:
    x, xy = layouts.features(patches=7)
    files = [layouts.WRITERS[layout](tmp_path / layout, "a", x, xy) for layout in layouts.WRITERS]
    assert {count[:2] for _, count in headers(files) if isinstance(count, tuple)} == {x.shape}
    ((_, gone),) = headers([tmp_path / "gone.h5"])
    assert str(gone) == f"feature file {tmp_path / 'gone.h5'} does not exist. restore it"


@pytest.mark.parametrize(("scale", "offset"), [(1e-9, 0), (1, 4000), (1e-7, 1), (1e5, 0), (1e7, -1e6)])
def test_features_that_float16_would_lose_are_kept_in_float32(
    tmp_path: Path, scale: float, offset: float, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = cohort(tmp_path, scale=scale, offset=offset)
    packed = pack(folder)
    assert packed.dtype == "float32"
    assert "toy: packed as float32, because" in capsys.readouterr().err
    x, _ = layouts.features(seed=0, patches=5)
    np.testing.assert_array_equal(packed.features[:5], (x * scale + offset).astype(np.float32))
    with pytest.raises(BadFeatures, match="pack with --dtype float32"):
        pack(folder, dtype="float16")
    assert pack(folder).dtype == "float32"  # the refusal left the store


@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (0.01, 0), (1, 10), (100, 0), (1e-3, 0)])
def test_usual_features_are_float16(scale: float, offset: float) -> None:
    x = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32) * np.float32(scale) + np.float32(offset)
    assert float16_loss(x) is None
    assert float16_loss(x[:1]) is None
    assert float16_loss(np.zeros((4, 3), np.float32)) is None
    assert float16_loss(np.full((4, 3), 0.1, np.float32)) is None


def refuse(code: int) -> object:
    def raising(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return raising


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_packing_where_the_file_system_has_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", refuse(code))
    folder = cohort(tmp_path)
    assert pack(folder).patches == 20
    with lock(folder.path / ".packing") as held:
        assert held
        with lock(folder.path / ".packing", wait=False) as other:
            assert not other
    assert not leftovers(folder)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_root_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    folder = cohort(tmp_path)
    pack(folder)
    monkeypatch.setattr(packing, "lock", refuse(code))
    assert pack(folder).patches == 20
    with pytest.raises(BadFile) as caught:
        pack(folder, dtype="float32")
    assert str(caught.value) == (
        f"{folder.path} cannot be written ({os.strerror(code)}), and its features are not packed as they are now. "
        "let its owner run survbench data pack, or copy the data root to where you may write"
    )


def test_originals_that_are_gone_are_noted_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = cohort(tmp_path)
    before = pack(folder).content_hash
    files = folder.slides()["file"].tolist()
    files[0].unlink()
    assert pack(folder).content_hash == pack(folder).content_hash == before
    assert " ".join(capsys.readouterr().err.split()) == (
        f"toy: 1 feature files ({files[0]}) of 4 are gone; the packed features are used"
    )
    os.utime(files[1], (1, 1))
    with pytest.raises(MissingFile) as caught:
        pack(folder)
    assert str(caught.value) == (
        f"cohort toy: 1 feature files ({files[0]}) are gone, and 1 feature files ({files[1]}) changed since they were "
        "packed. restore them and pack again: survbench data pack --repack"
    )


def test_a_full_disk_is_named_and_the_old_store_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cohort(tmp_path)
    before, there = pack(folder).content_hash, names(folder)
    monkeypatch.setattr(packing, "write_info", refuse(errno.ENOSPC))
    with pytest.raises(BadFile) as caught:
        pack(folder, repack=True)
    assert str(caught.value) == f"no space is left in {folder.path}. free 0.1 MB there"
    assert names(folder) == there
    assert pack(folder).content_hash == before


@pytest.mark.parametrize("call", range(3))
@pytest.mark.parametrize("there", [False, True])
def test_a_rename_that_fails_leaves_the_store_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int, there: bool
) -> None:
    folder = cohort(tmp_path)
    before = pack(folder).content_hash if there else None
    calls, rename = iter(range(99)), os.rename

    def failing(*paths: Path) -> None:
        if next(calls) == call:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(*paths)

    monkeypatch.setattr(os, "rename", failing)
    if call <= there:
        with pytest.raises(OSError, match="Input/output"):
            pack(folder, repack=True)
    monkeypatch.undo()
    if call <= there:
        assert ("packed" in names(folder)) == there
    assert not leftovers(folder)
    assert pack(folder).content_hash == (before or pack(folder).content_hash)


@pytest.mark.parametrize("left", [SCRATCH, packing.OLD])
def test_what_a_killed_packing_left_is_removed_or_put_back(tmp_path: Path, left: str) -> None:
    folder = cohort(tmp_path)
    pack(folder)
    if left == packing.OLD:  # killed between the two renames
        (folder.path / "packed").rename(folder.path / left)
    else:
        (folder.path / left).mkdir()
        (folder.path / left / "features.bin").write_bytes(b"half")
    assert pack(folder).patches == 20
    assert not leftovers(folder)


def test_simulated_slides_are_other_data_than_the_same_real_ones(tmp_path: Path) -> None:
    from dataclasses import replace

    from survbench.data.cohort import load_cohort

    folder = cohort(tmp_path)
    real = load_cohort(DataRoot.open(tmp_path / "root"), "toy", "os")
    marked = replace(real, simulated=type(real.simulated).SLIDES)
    whole = replace(real, simulated=type(real.simulated).ALL)
    assert folder.name == "toy"
    assert real.content_hash == whole.content_hash != marked.content_hash
