"""Bags in a device's memory, or read ahead for it, are the bags of the store. The device here is a CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.builders import split
from survbench.cards import Modality
from survbench.data.bags import PinnedBags, ResidentBags, bags_for, copied, gather
from survbench.data.store import BagStore

CPU = torch.device("cpu")
SLIDES = (Modality.SLIDES,)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> BagStore:
    return written(tmp_path_factory.mktemp("packed"), {"A": [3, 2], "B": [7], "C": [1], "D": [40, 1, 9]})


def written(folder: Path, slides: dict[str, list[int]]) -> BagStore:
    """A packed store of patients with slides of so many patches; every number is that of its row."""
    rows, start = [], 0
    for patient, sizes in slides.items():
        for i, size in enumerate(sizes):
            rows.append(f"{patient},{patient}{i},{start},{start + size}")
            start += size
    (folder / "index.csv").write_text("\n".join(["patient,slide,start,stop", *rows]) + "\n", encoding="utf-8")
    np.arange(start * 4, dtype=np.float16).tofile(folder / "features.bin")
    np.arange(start * 2, dtype=np.float32).tofile(folder / "coords.bin")
    return BagStore(folder=folder, dim=4, dtype="float16", patches=start, content_hash="", encoder=None, simulated=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_whole_bags_are_those_of_the_store(store: BagStore, dtype: torch.dtype) -> None:
    for patients in (["B"], ["D", "A", "C"], ["C", "C"]):
        expected = gather(store, patients, None, None)
        for bags in (copied(store, CPU, dtype), PinnedBags(store, dtype)):
            ours = gather(bags, patients, None, None)
            assert ours.keys() == expected.keys()
            assert ours["sizes"] == expected["sizes"]
            for key in ("pos", "slide", "ptr", "batch"):
                assert torch.equal(ours[key], expected[key])
            assert torch.equal(ours["x"], expected["x"].to(dtype))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(most=st.integers(1, 60), seed=st.integers(0, 999), patients=st.lists(st.sampled_from("ABCD"), min_size=1))
def test_sampled_bags_are_subsets_in_stored_order(store: BagStore, most: int, seed: int, patients: list[str]) -> None:
    resident = copied(store, CPU, torch.float32)
    ours, again = (resident.gather(patients, most, np.random.default_rng(seed)) for _ in range(2))
    assert torch.equal(ours["x"], again["x"])
    assert ours["sizes"] == tuple(min(most, store.size(p)) for p in patients)
    for patient, rows in zip(patients, ours["x"].split(list(ours["sizes"])), strict=True):
        drawn = (rows[:, 0] / 4).long().tolist()
        start, stop = store.span(patient)
        assert all(start <= row < stop for row in drawn)
        assert drawn == sorted(set(drawn))
    assert torch.equal(ours["pos"][:, 0] * 2, ours["x"][:, 0])
    assert ours["slide"].tolist() == store.slide_of((ours["pos"][:, 0] / 2).long().numpy()).tolist()


def test_every_patch_is_drawn_equally_often(store: BagStore) -> None:
    resident, generator = copied(store, CPU, torch.float32), np.random.default_rng(0)
    start, stop = store.span("D")
    counts, draws = np.zeros(stop - start), 800
    for _ in range(draws):
        np.add.at(counts, (resident.gather(["D"], 10, generator)["x"][:, 0] / 4).long().numpy() - start, 1)
    expected = draws * 10 / (stop - start)
    assert counts.sum() == draws * 10
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)  # chance of a false alarm about 1 in 30,000


def test_sampling_needs_a_generator(store: BagStore) -> None:
    for bags in (store, copied(store, CPU, torch.float32)):
        with pytest.raises(ValueError, match="generator"):
            gather(bags, ["D"], 5, None)


def test_a_cpu_reads_from_the_memory_map(store: BagStore) -> None:
    assert bags_for(store, CPU, torch.float32) is store


def test_batches_read_ahead_are_the_same_ones(store: BagStore) -> None:
    patients = replace(split(patients=4), patients=("A", "B", "C", "D"), bags=store)
    ahead = replace(patients, bags=PinnedBags(store, torch.float32))
    for make in (
        lambda s: s.batches(2, SLIDES, labels=True, max_patches=6, generator=np.random.default_rng(3)),
        lambda s: s.in_order(SLIDES, patch_budget=20),
    ):
        expected, ours = list(make(patients)), list(make(ahead))
        assert len(ours) == len(expected) > 1
        for one, other in zip(ours, expected, strict=True):
            assert torch.equal(one.x, other.x)
            assert one.sizes == other.sizes


def test_what_fails_while_reading_ahead_is_raised(store: BagStore) -> None:
    patients = replace(split(patients=4), patients=("A", "B", "C", "nobody"), bags=PinnedBags(store, torch.float32))
    with pytest.raises(KeyError, match="nobody"):
        list(patients.batches(2, SLIDES, labels=True))


def test_residents_know_sizes(store: BagStore) -> None:
    resident = copied(store, CPU, torch.float32)
    assert isinstance(resident, ResidentBags)
    assert [resident.size(p) for p in "ABCD"] == [5, 7, 1, 50]
