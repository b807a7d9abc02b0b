"""Ablations: arms differ in nothing but their settings, teachers are trained once, and the table is its rows'."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from support.toy import run
from survbench.cards import ModelCard
from survbench.data.root import DataRoot
from survbench.errors import BadConfig, UnknownName
from survbench.experiments.execute import Outcome, record_failure
from survbench.experiments.plan import Request, altered, plan
from survbench.experiments.results import JobResult, read_results
from survbench.leaderboard.aggregate import build
from survbench.registry import Registry, load_registry
from survbench.report.studies import study_sheet, write_study
from survbench.studies.ablation import Study, all_jobs, find_study, plan_study, read_study, study_frame


@pytest.mark.parametrize(
    ("changed", "as_registered"),
    [
        ({}, True),
        ({"preset": "default", "overrides": {"alpha": 0.75}}, True),  # what it is anyway
        ({"overrides": {"without": ["regulation"]}}, False),
        ({"overrides": {"epochs": 99}}, False),
        ({"preset": "brisk"}, False),
        ({"objective": "nll"}, False),
    ],
)
def test_a_job_knows_whether_its_settings_are_the_registered_ones(
    changed: dict[str, Any], as_registered: bool, small_root: DataRoot, request_on_stad: Request
) -> None:
    """Published figures are shown beside such jobs alone."""
    jobs = plan(replace(request_on_stad, **{"overrides": {}, **changed}), load_registry(), small_root)
    assert {job.as_registered for job in jobs} == {as_registered}
    assert not altered(jobs[0], {"tau": 4.0}, load_registry()).as_registered


def test_that_it_is_as_registered_is_recorded(small_root: DataRoot, request_on_stad: Request, out: Path) -> None:
    jobs = plan(replace(request_on_stad, models=["snn"], folds=[0]), load_registry(), small_root)
    done, failed = (replace(jobs[0], as_registered=True, seed=seed) for seed in (0, 1))
    assert run(out, done).failed == []
    record_failure(failed, out, Outcome("lost", "no such"))
    assert {record.as_registered for record in read_results(out) if isinstance(record, JobResult)} == {True}


@pytest.mark.parametrize("name", ["losses", "alpha", "temperature", "teacher", "targets"])
def test_amkds_studies_change_one_thing_at_a_time(name: str, small_root: DataRoot, request_on_stad: Request) -> None:
    registry = load_registry()
    study = find_study(name, None, registry)
    jobs = plan_study(study, request_on_stad, registry, small_root)
    assert list(jobs) == [arm.name for arm in study.arms]
    first = jobs[study.arms[0].name]
    for arm in study.arms[1:]:
        for one, other in zip(first, jobs[arm.name], strict=True):
            differing = {key for key in one.config if one.config[key] != other.config[key]}
            assert differing == set(arm.settings)
            assert one.settings == other.settings
            assert (one.fold, one.seed) == (other.fold, other.seed)
    assert len({job.id for job in all_jobs(jobs)}) == sum(map(len, jobs.values()))


def test_the_alpha_study_ends_in_the_papers_table(
    small_root: DataRoot, request_on_stad: Request, out: Path, cpu: torch.device
) -> None:
    registry = load_registry()
    study = find_study("alpha", "amkd", registry)
    study = replace(study, arms=study.arms[:1] + study.arms[3:])  # alpha 0.75 and alpha 1
    both = replace(request_on_stad, cohorts=["stad", "crad"])
    jobs = plan_study(study, both, registry, small_root)
    assert run(out, *all_jobs(jobs)).failed == []
    assert len(list((out / "stages").glob("*.safetensors"))) == 10  # each fold's teacher once, for both arms
    frame = study_frame(study, jobs, out)
    assert list(frame["arm"].unique()) == ["alpha 0.75", "alpha 1"]
    assert list(frame["cohort"]) == ["stad", "crad", "mean"] * 2
    by_place = frame.set_index(["arm", "cohort"])
    assert by_place.loc[("alpha 1", "stad"), "published"] == 0.694
    assert by_place.loc[("alpha 1", "mean"), "published"] == 0.649
    assert by_place.loc[("alpha 0.75", "crad"), "published_sd"] == 0.081
    rows = {(row.cohort, row.identity["config"]["alpha"]): row.metrics["cindex"] for row in build(out).rows}
    for cohort in ("stad", "crad"):
        difference = rows[cohort, 1.0].mean - rows[cohort, 0.75].mean
        assert by_place.loc[("alpha 1", cohort), "difference"] == pytest.approx(difference, abs=1e-6)
    auc = next(row for row in build(out).rows if row.cohort == "stad" and row.identity["config"]["alpha"] == 1.0)
    assert by_place.loc[("alpha 1", "stad"), "auc"] == auc.metrics["auc"].mean
    means = [np.mean([rows[c, a].mean for c in ("stad", "crad")]) for a in (0.75, 1.0)]
    change = 100 * (means[1] - means[0]) / means[0]
    assert by_place.loc[("alpha 1", "mean"), "change_percent"] == pytest.approx(change)
    folder = out / "studies" / "here"
    write_study(study, frame, {"seeds": [0]}, folder)
    assert {file.name for file in folder.iterdir()} == {"table.csv", "table.md", "plot.png", "study.json"}
    assert len(pd.read_csv(folder / "table.csv")) == 6
    title, stored = read_study(folder)
    sheet = study_sheet(study.heading(frame), frame)
    assert study_sheet(title, stored) == sheet
    text = sheet.to_markdown()
    for part in ("demo (simulated)", "published", "0.694 ± 0.083", "at least 3 seeds", "not the registered ones"):
        assert part in text
    assert sheet.to_rich()


def test_an_arm_that_the_data_do_not_allow_is_left_out(
    small_root: DataRoot, request_on_stad: Request, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = load_registry()
    study = find_study("targets", "amkd", registry)
    impossible = replace(study.arms[1], settings={"teacher": "ghanet"})
    jobs = plan_study(replace(study, arms=(study.arms[0], impossible)), request_on_stad, registry, small_root)
    assert list(jobs) == ["in-fold"]
    assert "predicts from less than it learns from" in capsys.readouterr().err
    with pytest.raises(BadConfig):
        plan_study(replace(study, arms=(impossible, study.arms[0])), request_on_stad, registry, small_root)


def test_what_the_study_changes_cannot_be_set(small_root: DataRoot, request_on_stad: Request) -> None:
    registry = load_registry()
    request = replace(request_on_stad, overrides={**request_on_stad.overrides, "tau": 3.0})
    with pytest.raises(BadConfig, match="--set tau: the study itself changes it"):
        plan_study(find_study("temperature", None, registry), request, registry, small_root)


def with_study(entry: Any, name: str = "mine") -> Registry:
    registry = load_registry()
    card = replace(registry.models["snn"], name=name, studies={"alpha": entry})
    registry.models[name] = card
    return registry


def test_studies_are_found_by_name_or_refused() -> None:
    registry = load_registry()
    with pytest.raises(UnknownName, match="Did you mean 'losses'"):
        find_study("loses", None, registry)
    with pytest.raises(UnknownName, match="has no studies"):
        find_study("alpha", "snn", registry)
    two = with_study({"title": "t", "arms": {"a": {}, "b": {"set": {"x": 1}}}})
    with pytest.raises(BadConfig, match="several models"):
        find_study("alpha", None, two)
    study = find_study("alpha", "mine", two)
    assert isinstance(study, Study)
    assert isinstance(study.model, ModelCard)
    assert [dict(arm.settings) for arm in study.arms] == [{}, {"x": 1}]


@pytest.mark.parametrize(
    "entry", [{}, {"title": "t"}, {"title": "t", "arms": ["a"]}, {"title": "t", "arms": {"a": {}}}]
)
def test_a_card_with_a_broken_study_is_refused(entry: Any) -> None:
    with pytest.raises(BadConfig, match="study 'alpha' of model mine"):
        find_study("alpha", "mine", with_study(entry))
