"""Batches carry what was granted and splits know their own patients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from support.builders import split
from survbench.batch import patches_of, take_patients
from survbench.cards import Modality
from survbench.errors import ModalityDenied

BOTH = (Modality.SLIDES, Modality.EXPRESSION)


@pytest.mark.parametrize(
    ("granted", "denied"),
    [((Modality.SLIDES,), ("expression",)), ((Modality.EXPRESSION,), ("x", "pos", "ptr", "sizes"))],
)
def test_reading_what_was_not_granted_raises(granted: tuple[Modality, ...], denied: tuple[str, ...]) -> None:
    batch = split().batch(np.arange(3), granted, labels=False)
    for key in (*denied, "time", "event"):
        with pytest.raises(ModalityDenied, match=key):
            getattr(batch, key)
        assert key not in batch.to_dict()


def test_predictions_are_made_without_labels_on_all_patches() -> None:
    patients = split(patients=7)
    for budget in (1, 10, 1000):
        batches = list(patients.in_order(BOTH, patch_budget=budget))
        assert all("time" not in b for b in batches)
        assert sum(len(b.x) for b in batches) == len(patients.bags.features)
        assert torch.equal(torch.cat([b.expression for b in batches]), torch.from_numpy(patients.expression))


def test_only_bags_of_the_patients_of_a_batch_are_read() -> None:
    patients = split(patients=6)
    batch = patients.batch(np.array([4, 1]), BOTH, labels=True)
    assert set(patients.bags.read) == {patients.patients[4], patients.patients[1]}
    start, stop = patients.bags.spans[patients.patients[4]]
    assert torch.equal(batch.x[: stop - start], torch.from_numpy(patients.bags.features[start:stop]))
    assert batch.num_graphs == 2
    assert batch.time.tolist() == pytest.approx(patients.time[[4, 1]].tolist())


@given(st.integers(2, 70), st.integers(2, 33))
def test_shuffled_batches_hold_everybody_once_and_never_one_alone(patients: int, size: int) -> None:
    drawn = split(patients=patients)
    batches = list(drawn.batches(size, BOTH, labels=True, max_patches=4, generator=np.random.default_rng(0)))
    assert sorted(t for b in batches for t in b.time.tolist()) == sorted(drawn.time.astype(np.float32).tolist())
    lengths = [b.num_graphs for b in batches]
    assert max(lengths) - min(lengths) <= 1
    assert max(lengths) <= size
    if patients > 2:
        assert min(lengths) > 1 or size == 2


def test_large_bags_are_sampled_without_replacement_in_stored_order() -> None:
    patients = split(patients=5)
    batch = patients.batch(np.arange(5), BOTH, labels=True, max_patches=2, generator=np.random.default_rng(0))
    for row, name in enumerate(patients.patients):
        start, stop = patients.bags.spans[name]
        bag, got = patients.bags.features[start:stop], batch.x[batch.ptr[row] : batch.ptr[row + 1]].numpy()
        assert len(got) == min(2, len(bag))
        positions = [int(np.flatnonzero((bag == g).all(1))[0]) for g in got]
        assert positions == sorted(set(positions))


@given(st.integers(0, 500), st.integers(2, 5))
def test_parts_are_disjoint_complete_and_share_the_deaths(seed: int, parts: int) -> None:
    whole = split(patients=40, seed=seed)
    divided = whole.divided(parts)
    assert divided.part is not None
    assert sorted(np.unique(divided.part)) == list(range(parts))
    deaths = [int(whole.event[divided.part == k].sum()) for k in range(parts)]
    assert max(deaths) - min(deaths) <= 1
    assert (divided.part == whole.divided(parts).part).all()  # always the same ones
    kept = [divided.take(np.flatnonzero(divided.part == k)) for k in range(parts)]
    assert sorted(p for part in kept for p in part.patients) == sorted(whole.patients)


def test_taking_patients_takes_all_that_is_theirs() -> None:
    whole = split(patients=10).divided(2)
    some = whole.take(np.array([7, 2]))
    assert some.patients == (whole.patients[7], whole.patients[2])
    for name in ("time", "event", "expression", "clinical", "part"):
        taken, given_ = getattr(some, name), getattr(whole, name)
        np.testing.assert_array_equal(taken, given_[[7, 2]])


@given(st.permutations(range(5)))
def test_patients_taken_from_a_batch_are_the_batch_of_those_patients(order: list[int]) -> None:
    whole = split(patients=5).divided(2)
    rows = order[:3]
    full = whole.batch(np.arange(5), BOTH, labels=True)
    taken, direct = take_patients(full, rows), whole.batch(np.array(rows), BOTH, labels=True)
    for name in ("x", "pos", "slide", "ptr", "batch", "expression", "time", "event"):
        assert torch.equal(getattr(taken, name), getattr(direct, name)), name
    assert taken.sizes == direct.sizes
    assert taken.part == direct.part
    assert torch.equal(full.x[patches_of(full, rows)], direct.x)
    slides_only = take_patients(whole.batch(np.arange(5), [Modality.SLIDES], labels=False), rows)
    with pytest.raises(ModalityDenied):
        slides_only.expression  # noqa: B018
