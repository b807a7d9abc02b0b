"""Tuning: validation patients decide, test patients cannot, and what a process leaves behind is taken up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import torch
import yaml
from matplotlib import rcParams
from optuna.trial import TrialState

from support.toy import cohort, job
from survbench.data.batches import Split
from survbench.data.cohort import Cohort
from survbench.errors import BadConfig, MissingFile, TrainingFailed
from survbench.experiments import plan as planning
from survbench.experiments import tune as tuning_module
from survbench.experiments.job import Job
from survbench.experiments.plan import Request
from survbench.experiments.trials import SharedStudy
from survbench.experiments.tune import Outcome, Tuning, parse_space, tune_jobs
from survbench.registry import load_registry

CPU = torch.device("cpu")
SPACE = {"learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}}
PRUNER = optuna.pruners.NopPruner()


def jobs(data: Cohort | None = None, model: str = "snn", folds: int = 3) -> list[Job]:
    return [job(cohort() if data is None else data, model, fold=fold) for fold in range(folds)]


def tuned(out: Path, planned: Sequence[Job] | None = None, trials: int = 4, **changes: Any) -> Outcome:
    request = Request(["snn"], ["toy"], "os", "event-stratified", overrides=changes.pop("overrides", {}))
    tuning = Tuning(request, trials, changes.pop("space", SPACE), "study", **changes)
    return tune_jobs(tuning, planned or jobs(), load_registry(), out, CPU)


def values(out: Path) -> list[float]:
    return pd.read_csv(out / "tune" / "study" / "trials.csv")["val_loss"].dropna().tolist()


def test_no_test_patient_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 2, planted: building any split but a fold's own training and validation patients ends the test."""
    planned = jobs()
    allowed = [set(part) for j in planned for part in (j.fold.train, j.fold.val)]
    split = Cohort.split

    def watched(self: Cohort, members: tuple[str, ...], scaler: Any) -> Split:
        assert set(members) in allowed
        return split(self, members, scaler)

    monkeypatch.setattr(Cohort, "split", watched)
    assert tuned(tmp_path, planned).trials == 4


def test_what_is_chosen_does_not_depend_on_test_labels(tmp_path: Path) -> None:
    """One fold, whose test patients get other labels, expression and slides: the same values to the last digit."""
    test = jobs()[0].fold.test
    for name, data in (("plain", cohort()), ("moved", cohort(test_shift=50.0, test=test))):
        planned = [replace(job(data), cohort=data)]
        tuned(tmp_path / name, planned)
    assert values(tmp_path / "plain") == values(tmp_path / "moved")


def test_a_trial_is_worth_the_mean_of_its_folds_lowest_validation_losses(tmp_path: Path) -> None:
    style = {key: rcParams[key] for key in ("xtick.color", "axes.facecolor", "axes.prop_cycle", "grid.color")}
    outcome = tuned(tmp_path, trials=2)
    assert {key: rcParams[key] for key in style} == style  # optuna's figures have one of their own
    folds = [json.loads(f.read_text())["val_loss"] for f in (tmp_path / "tune/study/folds").iterdir()]
    assert len(folds) == 6
    assert sum(values(tmp_path)) * 3 == pytest.approx(sum(folds))
    assert outcome.value == min(values(tmp_path))


def test_the_registered_settings_are_the_first_trial(tmp_path: Path) -> None:
    outcome = tuned(tmp_path)
    table = pd.read_csv(tmp_path / "tune/study/trials.csv")
    assert table["default"].to_list() == [True, False, False, False]
    assert table["learning_rate"].iloc[0] == jobs()[0].settings.learning_rate
    assert outcome.default == table["val_loss"].iloc[0]
    assert outcome.value <= outcome.default


def test_the_winner_becomes_a_preset_that_says_where_it_is_from(tmp_path: Path) -> None:
    outcome = tuned(tmp_path)
    preset = yaml.safe_load(outcome.preset.read_text())
    assert preset["training"]["learning_rate"] == outcome.settings["learning_rate"]
    data, card = cohort(), load_registry().models["snn"]
    request = Request(["snn"], ["toy"], "os", "event-stratified", preset=str(outcome.preset))
    _, settings, origin = planning._resolve(card, data, request, load_registry())
    assert settings.learning_rate == outcome.settings["learning_rate"]
    assert origin == "tuned (4 trials)"
    with pytest.raises(BadConfig, match="was tuned for cohort_hash"):
        planning._resolve(card, cohort(seed=9), request, load_registry())
    with pytest.raises(BadConfig, match="was tuned for model snn, not mlp"):
        planning._resolve(load_registry().models["mlp"], data, request, load_registry())
    with pytest.raises(MissingFile, match="survbench tune --model snn"):
        planning._resolve(card, data, replace(request, preset="tuned", tuned=tmp_path), load_registry())


def test_more_trials_go_on_where_fewer_ended(tmp_path: Path) -> None:
    tuned(tmp_path, trials=2)
    first = values(tmp_path)
    assert tuned(tmp_path, trials=4).trials == 4
    assert values(tmp_path)[:2] == first
    assert tuned(tmp_path, trials=3).trials == 4  # nothing is taken away


def test_another_question_in_the_same_place_is_refused(tmp_path: Path) -> None:
    tuned(tmp_path, trials=1)
    with pytest.raises(BadConfig, match="space differs"):
        tuned(tmp_path, trials=1, space={"batch_size": {"choices": [8, 16]}})
    with pytest.raises(BadConfig, match="job differs"):
        tuned(tmp_path, jobs(cohort(seed=3)), trials=1)


def test_a_trial_that_fails_counts_and_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, calls = tuning_module.train_model, []

    def sometimes(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise TrainingFailed("the loss became nan")
        return train(*arguments)

    monkeypatch.setattr(tuning_module, "train_model", sometimes)
    outcome = tuned(tmp_path)
    assert (outcome.trials, outcome.failed) == (4, 1)


def test_bad_trials_are_pruned_after_the_first_fold(tmp_path: Path) -> None:
    """Enough hopeless learning rates beside good ones: some end early, none in the fold that is still warming up."""
    planned = [replace(j, settings=replace(j.settings, epochs=6, patience=6)) for j in jobs()]
    outcome = tuned(tmp_path, planned, trials=14, space={"learning_rate": {"low": 1e-6, "high": 0.3, "log": True}})
    assert outcome.pruned > 0
    table = pd.read_csv(tmp_path / "tune/study/trials.csv")
    assert table.loc[table["state"] == "pruned", "val_loss"].isna().all()


@pytest.fixture
def open_study(tmp_path: Path) -> Iterator[Callable[[], SharedStudy]]:
    """Opens the same study again and again, as processes of their own would."""
    opened: list[SharedStudy] = []
    space = {"x": optuna.distributions.FloatDistribution(0, 1)}

    def one_more() -> SharedStudy:
        opened.append(SharedStudy(tmp_path, {"about": 1}, space, seed=0, pruner=PRUNER))
        return opened[-1]

    yield one_more
    for study in opened:
        study.close()


def test_a_dead_workers_trial_is_asked_again_and_a_living_ones_is_not(open_study: Callable[[], SharedStudy]) -> None:
    one, other = open_study(), open_study()
    mine, theirs = one.claim(2), other.claim(2)
    assert mine is not None
    assert theirs is not None
    assert other.claim(2) is None  # both are under way
    one._alive.close()  # as the system does when a process is killed
    again = other.claim(2)
    assert again is not None
    assert again.params == mine.params
    other.study.tell(theirs, 1.0)
    other.study.tell(again, 2.0)
    assert other.claim(2) is None
    assert [t.value for t in other.finished()] == [1.0, 2.0]
    states = [t.state for t in other.study.trials]
    assert states.count(TrialState.FAIL) == 1


def test_two_workers_never_draw_the_same(open_study: Callable[[], SharedStudy]) -> None:
    workers = [open_study() for _ in range(3)]
    trials = [w.claim(30) for _ in range(5) for w in workers]
    assert len({t.params["x"] for t in trials if t}) == 15


@pytest.mark.parametrize("left", [b'{"op_code":4,"work', b"\x00\x00", b'{"a": 1}'])
def test_a_line_that_was_left_half_written_is_cut_off(
    left: bytes, tmp_path: Path, open_study: Callable[[], SharedStudy]
) -> None:
    study = open_study()
    trial = study.claim(5)
    assert trial is not None
    with (tmp_path / "journal.log").open("ab") as journal:
        journal.write(left)
    later = open_study()
    study.study.tell(trial, 0.5)
    assert [t.value for t in later.finished()] == [0.5]


def test_spaces_are_read_as_people_write_them() -> None:
    assert parse_space(["alpha=0:1", "tau=0.5:8:log", "lr=1e-5:1e-3:log", "heads=1:4", "pooling=gated,mean"]) == {
        "alpha": {"low": 0, "high": 1, "log": False},
        "tau": {"low": 0.5, "high": 8, "log": True},
        "lr": {"low": 1e-5, "high": 1e-3, "log": True},
        "heads": {"low": 1, "high": 4, "log": False},
        "pooling": {"choices": ["gated", "mean"]},
    }


@pytest.mark.parametrize("text", ["alpha", "alpha=", "alpha=1", "alpha=0:1:linear", "alpha=0:1:log:2"])
def test_a_space_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(BadConfig, match="--search"):
        parse_space([text])


@pytest.mark.parametrize(
    ("space", "what"),
    [
        ({"alpha": {"low": 0, "high": 1}}, "has no setting 'alpha'"),
        ({"batch_size": {"low": 9}}, "search space of batch_size"),
        ({"learning_rate": {"low": 0.0, "high": 1.0, "log": True}}, "search space of learning_rate"),
    ],
)
def test_an_impossible_space_is_refused(space: dict[str, dict[str, Any]], what: str, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=what):
        tuned(tmp_path, space=space)
