"""Tuning: validation patients decide, test patients cannot, and what a process leaves behind is taken up."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import matplotlib
import optuna
import pandas as pd
import pytest
import torch
import yaml
from matplotlib import pyplot, rcParams
from optuna.distributions import FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from support.commands import executable
from support.toy import cohort, job
from survbench.data.batches import Split
from survbench.data.cohort import Cohort
from survbench.data.root import DataRoot
from survbench.errors import BadConfig, BadFile, MissingFile, TrainingFailed
from survbench.experiments import plan as planning
from survbench.experiments.job import Job
from survbench.experiments.plan import Request
from survbench.registry import load_registry
from survbench.studies import tuning as tuning_module
from survbench.studies.trials import GENERATION, SharedStudy
from survbench.studies.tuning import Tuning, TuningResult, parse_space, tune
from survbench.training.fit import EpochReport

CPU = torch.device("cpu")
SPACE = {"learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}}
WIDE = {"learning_rate": {"low": 1e-6, "high": 0.3, "log": True}}  # many of them hopeless


def jobs(data: Cohort | None = None, model: str = "snn", folds: int = 3) -> list[Job]:
    return [job(cohort() if data is None else data, model, fold=fold) for fold in range(folds)]


def tuned(out: Path, planned: Sequence[Job] | None = None, trials: int = 4, **changes: Any) -> TuningResult:
    request = Request(
        models=["snn"],
        cohorts=["toy"],
        endpoint="os",
        scheme="event-stratified",
        overrides=changes.pop("overrides", {}),
    )
    space = changes.pop("space", SPACE)
    tuning = Tuning(request=request, trials=trials, space=space, name="study", **changes)
    return tune(tuning, planned or jobs(), load_registry(), out, CPU)


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
    request = Request(
        models=["snn"], cohorts=["toy"], endpoint="os", scheme="event-stratified", preset=str(outcome.preset)
    )
    _, settings, origin = planning.resolve(card, data, request, load_registry())
    assert settings.learning_rate == outcome.settings["learning_rate"]
    assert origin == "tuned (4 trials)"
    with pytest.raises(BadConfig, match="was tuned for cohort_hash"):
        planning.resolve(card, cohort(seed=9), request, load_registry())
    with pytest.raises(BadConfig, match="was tuned for model snn, not mlp"):
        planning.resolve(load_registry().models["mlp"], data, request, load_registry())
    with pytest.raises(MissingFile, match="survbench tune --model snn"):
        planning.resolve(card, data, replace(request, preset="tuned", tuned=tmp_path), load_registry())


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
    with pytest.raises(BadConfig, match="cohort_hash differs"):
        tuned(tmp_path, jobs(cohort(seed=3)), trials=1)
    with pytest.raises(BadConfig, match="seeds_and_folds differs"):
        tuned(tmp_path, jobs(folds=2), trials=1)
    with pytest.raises(BadConfig, match=r"sampler_seed differs\. choose another --name for this one, or delete"):
        tuned(tmp_path, trials=1, seed=1)


def test_trials_of_an_earlier_version_are_refused(tmp_path: Path) -> None:
    journal = tmp_path / "tune/study/journal.log"
    journal.parent.mkdir(parents=True)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    earlier = optuna.create_study(storage=storage, study_name="study")
    earlier.set_user_attr("task", {"job": {"model": "snn"}, "space": {}})
    earlier.add_trial(optuna.trial.create_trial(value=0.1))
    with pytest.raises(BadConfig, match=r"version differs.*delete that folder"):
        tuned(tmp_path)
    journal.write_text("neither\nnor\n")
    with pytest.raises(BadFile, match=r"cannot be read as trials.*delete that folder"):
        tuned(tmp_path)


def test_registered_settings_outside_the_space_are_not_tried(tmp_path: Path) -> None:
    tuned(tmp_path, trials=2, space={"batch_size": {"choices": [8, 12]}})
    table = pd.read_csv(tmp_path / "tune/study/trials.csv")
    assert not table["default"].any()
    assert set(table["batch_size"]) <= {8, 12}


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


def test_bad_trials_are_pruned_between_folds(tmp_path: Path) -> None:
    """Enough hopeless learning rates beside good ones: none ends early in the first generation, some in the next."""
    outcome = tuned(tmp_path, trials=14, space=WIDE)
    table = pd.read_csv(tmp_path / "tune/study/trials.csv")
    pruned = table.index[table["state"] == "pruned"]
    assert outcome.pruned == len(pruned) > 0
    assert pruned.min() >= GENERATION
    assert table.loc[pruned, "val_loss"].isna().all()


class Killed(BaseException):
    """What no trial catches."""


def test_a_killed_trial_runs_again_under_its_own_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three deaths: in the first epoch, between two folds and in the second generation."""
    tuned(tmp_path / "whole", jobs(folds=2), trials=10, space=WIDE)
    train, epochs, moments = tuning_module.train_model, count(1), (1, 8, 37)

    def dying(planned: Job, device: torch.device, scratch: Path, out: Path, report: Any) -> Any:
        def reported(epoch: EpochReport) -> None:
            if next(epochs) in moments:
                raise Killed
            report(epoch)

        return train(planned, device, scratch, out, reported)

    monkeypatch.setattr(tuning_module, "train_model", dying)
    for _ in moments:
        with pytest.raises(Killed):
            tuned(tmp_path / "killed", jobs(folds=2), trials=10, space=WIDE)
    tuned(tmp_path / "killed", jobs(folds=2), trials=10, space=WIDE)
    whole, killed = (tmp_path / name / "tune/study" for name in ("whole", "killed"))
    for name in ("trials.csv", "preset.yaml", "history.png"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert next(epochs) == 41  # 10 trials, 2 folds, 2 epochs: what had been computed is not computed again
    assert not list((killed / "scratch").iterdir())


def test_a_file_system_without_locks_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    tuned(tmp_path / "locks", trials=2)
    monkeypatch.setattr(fcntl, "flock", none)
    tuned(tmp_path / "none", trials=2)
    assert values(tmp_path / "none") == values(tmp_path / "locks")


def opened(folder: Path, default: float | None = None) -> SharedStudy:
    """A study of one number, as a process of its own would open it."""
    settings = None if default is None else {"x": default}
    return SharedStudy(folder, {"about": 1}, {"x": FloatDistribution(0, 1)}, default=settings, seed=5)


def carried_out(study: SharedStudy, number: int) -> None:
    """Three folds whose values follow from the settings; some settings fail."""
    trial = study.ask(number)
    x = trial.params["x"]
    for fold in range(1, 4):
        trial.report(abs(x - 0.3) + fold, fold)
        if trial.should_prune():
            study.record(trial, state=TrialState.PRUNED)
            return
    if x > 0.9:
        study.record(trial, state=TrialState.FAIL)
    else:
        study.record(trial, abs(x - 0.3))


def ended(study: SharedStudy) -> list[tuple[Any, ...]]:
    return [(t.params["x"], t.state, t.value, t.intermediate_values) for t in study.history()]


@pytest.mark.parametrize("chance", range(5))
def test_trials_do_not_depend_on_how_many_processes_run_them_nor_on_deaths(tmp_path: Path, chance: int) -> None:
    """Up to four processes take and finish trials in any order; one in five deaths ends a trial before its time."""
    alone, rng = opened(tmp_path / "alone", default=0.7), random.Random(chance)
    for number in range(20):
        carried_out(alone, number)
    studies = [opened(tmp_path / "together", default=0.7) for _ in range(rng.randint(2, 4))]
    running: dict[int, tuple[ExitStack, int]] = {}  # by process
    while len(studies[0].finished()) < 20:
        process = rng.randrange(len(studies))
        if process in running:
            held, number = running.pop(process)
            if rng.random() > 0.2:
                carried_out(studies[process], number)
            held.close()
            continue
        held = ExitStack()
        claimed = held.enter_context(studies[process].reserve(20))
        if claimed is None:
            held.close()
        else:
            assert claimed not in [number for _, number in running.values()]
            running[process] = held, claimed
    for held, _ in running.values():
        held.close()
    assert ended(opened(tmp_path / "together", default=0.7)) == ended(alone)
    states = [t.state for t in alone.history()]
    assert len(set(states)) > 1
    assert alone.history()[0].params == {"x": 0.7}
    assert len({t.params["x"] for t in alone.history()}) == 20


def test_a_generation_begins_when_the_one_before_is_finished(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    for number in range(GENERATION - 1):
        carried_out(one, number)
    with one.reserve(20) as mine:
        assert mine == GENERATION - 1
        with other.reserve(20) as theirs:
            assert theirs is None
    with other.reserve(20) as theirs:  # the first gave up
        assert theirs == GENERATION - 1
        carried_out(other, theirs)
    with one.reserve(20) as mine, other.reserve(20) as theirs:
        assert (mine, theirs) == (GENERATION, GENERATION + 1)


def test_what_is_pruned_follows_from_earlier_generations_alone(tmp_path: Path) -> None:
    """Values 0 to 7 in the first generation, so a median of 3.5, whatever stands beside a trial in the second."""
    study = opened(tmp_path)
    for number in range(2 * GENERATION - 2):
        trial = study.ask(number)
        trial.report(number if number < GENERATION else -100, 1)
        assert not trial.should_prune()
        study.record(trial, float(number if number < GENERATION else -100))
    for value, pruned in ((3.4, False), (3.6, True)):
        trial = study.ask(2 * GENERATION - 1)
        trial.report(value, 1)
        assert trial.should_prune() == pruned


@pytest.mark.parametrize("left", [b'{"op_code":4,"work', b'{"a": 1}'])
def test_a_line_that_was_left_half_written_is_cut_off(
    left: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = opened(tmp_path)
    with (tmp_path / "journal.log").open("ab") as journal:
        journal.write(left)
    later = opened(tmp_path)
    carried_out(study, 0)
    with (tmp_path / "journal.log").open("ab") as journal:
        journal.write(left)
    carried_out(later, 1)
    assert len(study.history()) == len(opened(tmp_path).history()) == 2
    assert capsys.readouterr().err.count("dropped a line") == 2


@pytest.mark.parametrize("content", [b"\x93\x00\xff", b"\x93\n\x00\xff", b"[1]\n", b'{"op_code":77}\n'])
@pytest.mark.parametrize("kept", [True, False])
def test_other_bytes_in_a_journal_are_refused_and_left_alone(content: bytes, kept: bool, tmp_path: Path) -> None:
    carried_out(opened(tmp_path), 0)
    journal = tmp_path / "journal.log"
    journal.write_bytes(journal.read_bytes() * kept + content)
    for _ in range(2):
        with pytest.raises(BadFile, match=r"cannot be read as trials.*delete that folder"):
            opened(tmp_path)
    assert content in journal.read_bytes()


@pytest.mark.parametrize("number", ['"other":2', '"number":"2"', '"number":true', '"number":1', '"number":8'])
def test_trials_with_impossible_numbers_are_refused(number: str, tmp_path: Path) -> None:
    study, journal = opened(tmp_path), tmp_path / "journal.log"
    for each in (1, 2):
        carried_out(study, each)
    assert len(opened(tmp_path).finished()) == 2  # another process may run the first
    journal.write_text(journal.read_text().replace('"number":2', number))
    with pytest.raises(BadFile, match=r"cannot be read as trials.*delete that folder"):
        opened(tmp_path)


def test_a_trial_is_recorded_once(tmp_path: Path) -> None:
    study = opened(tmp_path)
    late = study.ask(0)
    carried_out(study, 0)
    opened(tmp_path).record(late, 5.0)
    assert opened(tmp_path).history()[0].value != 5.0


@pytest.mark.parametrize("name", ["", ".", "..", "../../x", "a/b", "a/", "/x", "a\\b"])
def test_a_study_cannot_be_outside_its_place(name: str) -> None:
    with pytest.raises(BadConfig, match="plain name of a folder"):
        Tuning(
            request=Request(models=["snn"], cohorts=["toy"], endpoint="os", scheme="event-stratified"),
            trials=1,
            space=SPACE,
            name=name,
        )


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"val_loss": null}', '{"val_loss": NaN}'])
def test_a_remembered_value_that_cannot_be_read_is_computed_again(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned(tmp_path, jobs(folds=1), trials=1)
    study, before = tmp_path / "tune/study", values(tmp_path)
    (study / "journal.log").unlink()
    (kept,) = (study / "folds").iterdir()
    whole = kept.read_text()
    kept.write_text(content)
    tuned(tmp_path, jobs(folds=1), trials=1)
    assert values(tmp_path) == before
    assert kept.read_text() == whole
    assert "computed again" in capsys.readouterr().err


def test_plots_leave_the_figures_of_the_process_alone(tmp_path: Path) -> None:
    before = matplotlib.get_backend()
    pyplot.switch_backend("svg")
    mine = pyplot.figure()
    try:
        tuned(tmp_path, jobs(folds=1), trials=1)
        assert matplotlib.get_backend() == "svg"
        assert pyplot.get_fignums() == [mine.number]
    finally:
        pyplot.close(mine)
        pyplot.switch_backend(before)


@pytest.mark.slow
def test_processes_and_kills_end_in_the_same_trials(small_root: DataRoot, tmp_path: Path) -> None:
    """The installed command: one process, two, and two of which three are killed and started again."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SURVBENCH_", "MLFLOW_"))}
    options = ("--trials=14", "--only-folds=0,1", "--set=epochs=2", "--set=patience=2", "--set=patches=8")
    command = [executable(), "tune", "--model=amkd", "--cohort=stad", f"--data={small_root.path}", "--device=cpu"]
    command += [*options, "--search=learning_rate=1e-6:0.1:log", "--search=alpha=0:1"]

    def started(out: str) -> subprocess.Popen[bytes]:
        with (tmp_path / f"{out}.log").open("ab") as log:
            return subprocess.Popen([*command, f"--out={tmp_path / out}"], env=environment, stdout=log, stderr=log)

    def ends(*processes: subprocess.Popen[bytes]) -> None:
        for process in processes:
            assert process.wait(timeout=300) == 0

    ends(started("one"))
    ends(started("two"), started("two"))
    rng, running = random.Random(0), [started("killed") for _ in range(2)]
    for folds in (1, 8, 17):  # so many are done
        while len(list((tmp_path / "killed").glob("tune/*/folds/*.json"))) < folds:
            time.sleep(0.02)
            assert any(process.poll() is None for process in running)
        time.sleep(rng.random() / 2)
        dead = rng.randrange(2)
        assert running[dead].poll() is None
        running[dead].kill()
        running[dead].wait()
        running[dead] = started("killed")
    ends(*running)
    (whole,) = (tmp_path / "one").glob("tune/*")
    for out in ("two", "killed"):
        for name in ("trials.csv", "preset.yaml"):
            assert (tmp_path / out / "tune" / whole.name / name).read_bytes() == (whole / name).read_bytes()
    table = pd.read_csv(whole / "trials.csv")
    assert table["trial"].to_list() == list(range(14))
    assert "pruned" in set(table["state"])
    assert (whole / "history.png").stat().st_size > 10_000


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
