"""Packing: the same content whatever the files, one slide in memory at a time, safe against kills."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from support import layouts
from survbench.cards import Modality
from survbench.data import packing as packing_module
from survbench.data.batches import Split
from survbench.data.packing import pack
from survbench.data.root import CohortContent, CohortFolder, CohortInfo, DataRoot
from survbench.data.store import BagStore
from survbench.errors import BadFeatures, BadFile, MissingFile

SLIDES = {"P2": ["B1"], "P1": ["A1", "A2"], "P3": ["C1"]}


def cohort(folder: Path, layout: str = "trident_h5", **slides: tuple[np.ndarray, np.ndarray]) -> CohortFolder:
    """Three patients with four slides; slides given by name replace the generated ones."""
    rows = []
    for patient, names in SLIDES.items():
        for name in names:
            x, xy = slides.get(name, layouts.features(seed=ord(name[0]) + int(name[1]), patches=3 + int(name[1])))
            x = x.astype(np.float16).astype(np.float32)  # so that every layout can hold it exactly
            rows.append((patient, name, str(layouts.WRITERS[layout](folder / "files" / layout, name, x, xy))))
    patients = pd.DataFrame({"patient": sorted(SLIDES), "os_months": ["1", "2", "3"], "os_event": "1"})
    table = pd.DataFrame(rows, columns=["patient", "slide", "file"])
    return DataRoot.create(folder / layout).write(
        CohortContent(info=CohortInfo(name="toy"), patients=patients, slides=table)
    )


def test_bags_are_whole_contiguous_and_in_order(tmp_path: Path) -> None:
    packed = pack(cohort(tmp_path))
    assert packed.patients == ["P1", "P2", "P3"]
    assert [packed.size(p) for p in packed.patients] == [4 + 5, 4, 4]
    start, stop = packed.span("P1")
    expected = np.concatenate([layouts.features(seed=ord("A") + n, patches=3 + n)[0] for n in (1, 2)])
    np.testing.assert_array_equal(packed.features[start:stop], expected.astype(np.float16))
    assert packed.features.dtype == np.float16
    assert packed.encoder == "uni_v1"


def test_the_content_decides_the_hash_not_the_files(tmp_path: Path) -> None:
    hashes = {layout: pack(cohort(tmp_path, layout)).content_hash for layout in layouts.WRITERS}
    with_coords = {hashes[layout] for layout in layouts.WITH_COORDS}
    without = {hashes[layout] for layout in layouts.WRITERS if layout not in layouts.WITH_COORDS}
    assert len(with_coords) == len(without) == 1
    x, xy = layouts.features(seed=1)
    assert pack(cohort(tmp_path / "other", C1=(x, xy))).content_hash not in with_coords


def test_packing_again_does_nothing_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cohort(tmp_path)
    before = pack(folder).content_hash
    monkeypatch.setattr(packing_module, "read_all", lambda _: pytest.fail("nothing changed"))
    assert pack(folder).content_hash == before
    monkeypatch.undo()
    file = folder.slides()["file"].iloc[0]
    x, xy = layouts.features(seed=99, patches=2)
    layouts.trident_h5(tmp_path / "files" / "trident_h5", file.stem, x, xy)
    assert pack(folder).content_hash != before


def test_one_slide_is_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref] = []
    most = 0
    original: Callable = packing_module.read_all

    def spy(files: Iterable[Path], patch_size: float | None) -> Generator[tuple[Path, object], None, None]:
        nonlocal most
        for file, slide in original(files, patch_size):
            most = max(most, sum(r() is not None for r in alive))
            alive.append(weakref.ref(slide.features))
            yield file, slide

    monkeypatch.setattr(packing_module, "read_all", spy)
    pack(cohort(tmp_path))
    assert len(alive) == 4
    assert most <= 1  # the one before, until its name is bound to the next


def test_a_killed_packing_leaves_nothing_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cohort(tmp_path)
    monkeypatch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        pack(folder)
    assert not (folder.path / "packed").exists()
    monkeypatch.undo()
    assert pack(folder).patches == 17


def test_damage_is_noticed(tmp_path: Path) -> None:
    folder = cohort(tmp_path)
    pack(folder)
    features = folder.path / "packed" / "features.bin"
    features.write_bytes(features.read_bytes()[:-2])
    with pytest.raises(BadFile, match="--repack"):
        BagStore.open(folder.path / "packed")
    assert pack(folder, repack=True).patches == 17


def test_what_cannot_be_packed_together_names_two_files(tmp_path: Path) -> None:
    wide = layouts.features(width=9)
    with pytest.raises(BadFeatures, match=r"width .* of width 9|width 9 .* of width"):
        pack(cohort(tmp_path / "a", C1=wide))
    x, xy = layouts.features()
    with pytest.raises(BadFeatures, match="float32"):
        pack(folder := cohort_with_huge(tmp_path / "b"), dtype="float16")
    assert pack(folder).dtype == "float32"
    assert pack(folder).dtype == "float32"  # as chosen last time
    folder = cohort(tmp_path / "c", C1=(x[:0], xy[:0]))
    assert "P3" not in pack(folder).patients
    folder.slides()["file"].iloc[1].unlink()
    with pytest.raises(MissingFile, match="does not exist"):
        pack(folder, repack=True)


def cohort_with_huge(folder: Path) -> CohortFolder:
    made = cohort(folder, "npy")
    file = made.slides()["file"].iloc[0]
    np.save(file, np.full((2, 8), 1e6, np.float32))
    return made


ANONYMOUS = Path("/proc/self/smaps_rollup")  # memory of the process that is no page of a file


def anonymous() -> int:
    return next(1024 * int(line.split()[1]) for line in ANONYMOUS.read_text().splitlines() if "Anonymous:" in line)


@pytest.mark.skipif(not ANONYMOUS.exists(), reason="Linux says how much of a process's memory belongs to no file")
@pytest.mark.parametrize("sampled", [None, 250])
def test_an_epoch_takes_the_memory_of_a_batch_however_large_the_cohort(tmp_path: Path, sampled: int | None) -> None:
    patients, patches, width = 60, 500, 512
    rows, everyone = [], [f"P{i:02}" for i in range(patients)]
    for number, patient in enumerate(everyone):
        x, xy = layouts.features(patches, width, number)
        rows.append((patient, patient, str(layouts.trident_h5(tmp_path / "files", patient, x, xy))))
    labels = pd.DataFrame({"patient": everyone, "os_months": "1", "os_event": "1"})
    slides = pd.DataFrame(rows, columns=["patient", "slide", "file"])
    content = CohortContent(info=CohortInfo(name="toy"), patients=labels, slides=slides)
    bags = pack(DataRoot.create(tmp_path / "root").write(content))
    held = Split(
        patients=tuple(everyone), time=np.ones(patients), event=np.ones(patients, bool), expression=None, bags=bags
    )
    before, most = anonymous(), 0
    order = {"max_patches": sampled, "generator": np.random.default_rng(0)}
    for batch in held.batches(4, (Modality.SLIDES,), labels=True, **order):
        most = max(most, anonymous() - before)
        del batch
    one = 4 * patches * width * 4  # bytes of a batch in single precision; the cohort is fifteen of them
    assert most < 4 * one
