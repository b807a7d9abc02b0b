"""Batches carry what was granted and splits know their own patients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from builders import split
from survbench.cards import Modality
from survbench.errors import BadFolds, ModalityDenied

BOTH = (Modality.SLIDES, Modality.EXPRESSION)


@pytest.mark.parametrize(
    ("granted", "denied"),
    [((Modality.SLIDES,), ("expression",)), ((Modality.EXPRESSION,), ("x", "pos", "ptr", "sizes"))],
)
def test_asking_for_what_was_not_granted_raises(granted: tuple[Modality, ...], denied: tuple[str, ...]) -> None:
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


def test_only_bags_of_the_asked_patients_are_read() -> None:
    patients = split(patients=6)
    batch = patients.batch(np.array([4, 1]), BOTH, labels=True)
    assert set(patients.bags.read) == {patients.patients[4], patients.patients[1]}
    start, stop = patients.bags.spans[patients.patients[4]]
    assert torch.equal(batch.x[: stop - start], torch.from_numpy(patients.bags.features[start:stop]))
    assert batch.num_graphs == 2
    assert batch.time.tolist() == pytest.approx(patients.time[[4, 1]].tolist())


def test_a_patient_of_another_split_is_refused() -> None:
    with pytest.raises(BadFolds, match="P099"):
        split().rows(["P099"])


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
