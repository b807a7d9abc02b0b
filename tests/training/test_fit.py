"""The fit loop: resumed equals uninterrupted, the epoch is chosen on validation, test patients are out of reach."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

from amkd.model import AMKD
from baselines.snn import SNN
from support.builders import inputs, split
from survbench.cards import Modality
from survbench.errors import BadConfig, BadFolds, TrainingFailed
from survbench.training.checkpoint import load_checkpoint
from survbench.training.fit import EpochReport, fit
from survbench.training.objectives import Cox
from survbench.training.settings import Settings
from survbench.training.steps import predict_logits, seed_everything

BOTH, SLIDES, GENES = (Modality.SLIDES, Modality.EXPRESSION), (Modality.SLIDES,), (Modality.EXPRESSION,)
SETTINGS = Settings(epochs=4, patience=4, batch_size=8, learning_rate=1e-3, weight_decay=1e-5, patches=4)


class Killed(Exception):
    """Stands in for a kill between two epochs."""


def trained(scratch: Path, settings: Settings = SETTINGS, kill_after: int | None = None) -> AMKD:
    seed_everything((3,))
    model = AMKD(inputs(), 1)
    seen = 0

    def report(_: EpochReport) -> None:
        nonlocal seen
        seen += 1
        if seen == kill_after:
            raise Killed

    fit(
        model,
        model.stages(BOTH, SLIDES),
        Cox(),
        split(24, seed=1),
        split(12, seed=2),
        settings,
        seed=(3, 0),
        device=torch.device("cpu"),
        scratch=scratch,
        report=report,
    )
    return model


@pytest.mark.parametrize("kills", [(1,), (3, 1), (4,), (5,), (7, 1)])
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path, kills: tuple[int, ...]) -> None:
    whole = trained(tmp_path / "whole").state_dict()
    for epochs in kills:  # in the teacher, between the stages, in the student, twice
        with pytest.raises(Killed):
            trained(tmp_path / "killed", kill_after=epochs)
    resumed = trained(tmp_path / "killed").state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_damaged_checkpoint_starts_the_job_again(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole").state_dict()
    with pytest.raises(Killed):
        trained(tmp_path / "killed", kill_after=2)
    (tmp_path / "killed" / "checkpoint.pt").write_bytes(b"half a file")
    resumed = trained(tmp_path / "killed").state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_kept_epoch_is_the_one_of_lowest_validation_loss(tmp_path: Path) -> None:
    model = SNN(inputs(), 1)
    train, val = split(30, seed=1), split(20, seed=2)
    settings = Settings(epochs=30, patience=5, batch_size=8, learning_rate=3e-3, weight_decay=0.0, patches=4)
    stages = model.stages(GENES, GENES)
    result = fit(model, stages, Cox(), train, val, settings, seed=(0,), device=torch.device("cpu"), scratch=tmp_path)
    losses = [row["val_loss"] for row in result.history]
    assert result.selected == {"fit": int(np.argmin(losses)) + 1}
    assert len(losses) == min(30, result.selected["fit"] + 5)
    logits = predict_logits(model.eval(), val, GENES, torch.device("cpu"))
    kept = Cox().loss(logits, torch.from_numpy(val.time), torch.from_numpy(val.event)).item()
    assert kept == pytest.approx(min(losses), rel=1e-6)


def test_the_fit_is_not_given_test_patients() -> None:
    assert set(inspect.signature(fit).parameters) == {
        "model",
        "stages",
        "objective",
        "train",
        "val",
        "settings",
        "seed",
        "device",
        "scratch",
        "report",
        "stage_cache",
        "clock",
    }


def test_a_loss_that_explodes_is_a_clear_failure(tmp_path: Path) -> None:
    model = SNN(inputs(), 1)
    with torch.no_grad():
        model.head.weight.fill_(float("nan"))
    with pytest.raises(TrainingFailed, match="learning rate"):
        fit(
            model,
            model.stages(GENES, GENES),
            Cox(),
            split(12),
            split(12),
            SETTINGS,
            seed=(0,),
            device=torch.device("cpu"),
            scratch=tmp_path,
        )


@pytest.mark.parametrize("censored", ["training", "validation"])
def test_nothing_is_learned_or_chosen_without_a_death(tmp_path: Path, censored: str) -> None:
    train, val = split(12), split(12)
    (train if censored == "training" else val).event[:] = False
    model = SNN(inputs(), 1)
    with pytest.raises(BadFolds, match=censored):
        fit(
            model,
            model.stages(GENES, GENES),
            Cox(),
            train,
            val,
            SETTINGS,
            seed=(0,),
            device=torch.device("cpu"),
            scratch=tmp_path,
        )


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 1}, "batch_size"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"epoch": 3}, "'epoch' is unknown"),
        ({"patience": 2.5}, "whole"),
        ({"weight_decay": float("nan")}, "weight_decay"),
        ({"epochs": True}, "epochs"),
    ],
)
def test_impossible_settings_are_refused(layer: dict[str, object], message: str) -> None:
    with pytest.raises(BadConfig, match=message):
        Settings.build(vars(SETTINGS), layer)


def test_later_layers_of_settings_win() -> None:
    assert Settings.build(vars(SETTINGS), {"epochs": 9.0}, {"epochs": 7}).epochs == 7


def test_what_was_spent_before_a_kill_is_in_the_checkpoint_and_goes_on(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        trained(tmp_path, kill_after=2)
    before = load_checkpoint(tmp_path)
    assert before is not None
    trained(tmp_path)
    after = load_checkpoint(tmp_path)
    assert after is not None
    assert set(before.seconds) == {"data", "forward", "backward", "optimizer", "validation", "checkpoints", "other"}
    assert all(after.seconds[phase] > spent for phase, spent in before.seconds.items())
