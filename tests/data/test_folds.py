"""Folds (protocol rules 1 and 4): proportions, strata, sites, and every violation refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from survbench.data.folds import (
    Fold,
    comparable_pairs,
    folds_hash,
    imported_folds,
    make_folds,
    median_followup,
    summarize,
    validate,
)
from survbench.errors import BadFolds, UnknownName


def cohort(patients: int = 100, events: float = 0.4, sites: int = 12, seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    rng = np.random.default_rng(seed)
    index = pd.Index([f"P{i:04d}" for i in range(patients)], name="patient")
    event = np.zeros(patients, bool)
    event[rng.choice(patients, max(1, round(events * patients)), replace=False)] = True
    labels = pd.DataFrame({"time": rng.exponential(30, patients) + 0.1, "event": event}, index=index)
    return labels, pd.Series(rng.choice([f"S{i}" for i in range(sites)], patients), index=index)


@settings(max_examples=25, deadline=None)
@given(st.integers(60, 300), st.floats(0.2, 0.8), st.integers(0, 10))
def test_event_stratified_folds_are_64_16_20_with_equal_shares_of_events(n: int, rate: float, seed: int) -> None:
    labels, sites = cohort(n, rate, seed=seed)
    folds = make_folds(labels, sites, "event-stratified")
    validate(folds, labels.index, "test")
    for fold in folds:
        for members, share in ((fold.train, 0.64), (fold.val, 0.16), (fold.test, 0.20)):
            assert abs(len(members) - share * n) <= 2
            assert abs(labels.loc[list(members), "event"].sum() - share * labels["event"].sum()) <= 2


def test_site_preserving_folds_never_divide_a_site() -> None:
    labels, sites = cohort(200)
    folds = make_folds(labels, sites, "site-preserving")
    validate(folds, labels.index, "test", sites)
    assert (summarize(folds, labels, sites).query("split != 'train'")["sites_shared"] == 0).all()


def test_event_stratified_folds_do_divide_sites_and_the_summary_says_so() -> None:
    labels, sites = cohort(200)
    summary = summarize(make_folds(labels, sites, "event-stratified"), labels, sites)
    assert (summary.query("split == 'test'")["sites_shared"] > 0).all()


def test_folds_do_not_depend_on_anything_but_the_cohort() -> None:
    labels, sites = cohort()
    one = make_folds(labels, sites, "event-stratified")
    np.random.seed(5)
    assert folds_hash(make_folds(labels, sites, "event-stratified")) == folds_hash(one)
    assert folds_hash(make_folds(labels, sites, "site-preserving")) != folds_hash(one)


@pytest.fixture
def folds() -> list[Fold]:
    return make_folds(*cohort(), "event-stratified")


def violate(fold: Fold, kind: str) -> Fold:
    if kind == "train and test":
        return replace(fold, test=(*fold.test, fold.train[0]))
    if kind == "val and test":
        return replace(fold, val=(*fold.val, fold.test[0]))
    if kind == "train and val":
        return replace(fold, val=(*fold.val, fold.train[0]))
    if kind == "left out":
        return replace(fold, train=fold.train[1:])
    if kind == "stranger":
        return replace(fold, train=(*fold.train, "X"))
    if kind == "twice":
        return replace(fold, train=(*fold.train, fold.train[0]))
    return replace(fold, val=())


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("train and test", "in train and in test"),
        ("val and test", "in val and in test"),
        ("train and val", "in train and in val"),
        ("left out", "leaves out patient"),
        ("stranger", "X, who is not in the cohort"),
        ("twice", "lists a patient twice"),
        ("no val", "has no val patients"),
    ],
)
def test_a_planted_violation_is_caught(folds: list[Fold], kind: str, message: str) -> None:
    labels, _ = cohort()
    validate(folds, labels.index, "test")
    with pytest.raises(BadFolds, match=message):
        validate([violate(folds[0], kind), *folds[1:]], labels.index, "test")


def test_scoring_a_patient_in_two_folds_is_caught(folds: list[Fold]) -> None:
    labels, _ = cohort()
    with pytest.raises(BadFolds, match="two folds"):
        validate([*folds, replace(folds[0], index=5)], labels.index, "test")
    with pytest.raises(BadFolds, match="no test split"):
        validate(folds[:4], labels.index, "test")


def test_a_divided_site_is_caught(folds: list[Fold]) -> None:
    labels, sites = cohort()
    with pytest.raises(BadFolds, match="site"):
        validate(folds, labels.index, "test", sites)


def official(labels: pd.DataFrame, folds: list[Fold]) -> pd.DataFrame:
    rows = [(str(f.index), p, "test" if p in f.test else "train") for f in folds for p in labels.index]
    return pd.DataFrame(rows, columns=["fold", "patient", "split"])


def test_imported_folds_keep_their_test_split_and_get_a_validation_split(folds: list[Fold]) -> None:
    labels, _ = cohort()
    got = imported_folds(official(labels, folds), labels, "official")
    validate(got, labels.index, "official")
    assert [f.test for f in got] == [f.test for f in folds]
    assert all(abs(len(f.val) - 16) <= 1 for f in got)


def test_patients_outside_the_cohort_are_left_out_of_imported_folds(folds: list[Fold]) -> None:
    labels, _ = cohort()
    smaller = labels.drop(index=[folds[0].test[0], folds[0].train[0]])
    got = imported_folds(official(labels, folds), smaller, "official")
    validate(got, smaller.index, "official")


def test_an_imported_table_with_a_patient_twice_is_refused(folds: list[Fold]) -> None:
    labels, _ = cohort()
    table = official(labels, folds)
    with pytest.raises(BadFolds, match="twice"):
        imported_folds(pd.concat([table, table.iloc[[0]]]), labels, "official")


def test_too_few_events_or_sites_are_refused() -> None:
    labels, sites = cohort(50, events=0.06)
    with pytest.raises(BadFolds, match="events"):
        make_folds(labels, sites, "event-stratified")
    labels, sites = cohort(100, sites=3)
    with pytest.raises(BadFolds, match="sites"):
        make_folds(labels, sites, "site-preserving")
    with pytest.raises(UnknownName, match="random"):
        make_folds(labels, sites, "random")
    with pytest.raises(BadFolds, match="no site"):
        make_folds(labels, sites.iloc[1:], "site-preserving")


@given(st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=2, max_size=12))
def test_comparable_pairs_are_harrells(rows: list[tuple[int, bool]]) -> None:
    time, event = (np.array(column) for column in zip(*rows, strict=True))
    expected = sum(
        event[i] and (time[j] > time[i] or (time[j] == time[i] and not event[j]))
        for i in range(len(rows))
        for j in range(len(rows))
        if i != j
    )
    assert comparable_pairs(time.astype(float), event.astype(bool)) == expected


def test_follow_up_is_the_reverse_kaplan_meier_median() -> None:
    labels = pd.DataFrame({"time": [1.0, 2.0, 3.0, 4.0], "event": [True, False, False, False]})
    assert median_followup(labels) == 3.0  # at risk 3, 2, 1: falls to 2/3, then 1/3
    assert np.isnan(median_followup(labels.assign(event=True)))


def test_few_events_are_marked() -> None:
    labels, sites = cohort(60, events=0.3)
    summary = summarize(make_folds(labels, sites, "event-stratified"), labels, sites)
    assert summary.query("split == 'test'")["few"].all()
    assert not summary.query("split != 'test'")["few"].any()
