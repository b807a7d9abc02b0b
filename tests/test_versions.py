"""Numbers that move without a raised version: results of old and new code would stand in one row as if they were equal.

Every registered model is trained for two epochs on a tiny cohort and compared with the predictions stored for its
version. Elsewhere than on x86-64 with the pinned packages the same code may give other numbers.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import store_predictions
import torch

from support import tiny
from support.stored_predictions import (
    DECISIVE,
    FOLDER,
    TOLERANCE,
    Form,
    Stored,
    Versions,
    complaint,
    forms,
    not_comparable,
    store,
    strangers,
)
from survbench.errors import BadConfig
from survbench.experiments.trained_models import build_model

FORMS = forms()
HEADROOM = 1e-7  # SD of the risks; a hundredth of the tolerance
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
QUICK = FORMS["mlp_survpath"]


@pytest.fixture(scope="module")
def comparable() -> None:
    if reason := not_comparable():
        pytest.skip(reason)


def now(form: Form, **changes: Any) -> str:
    """What the guard says of a form as the code is now, or with planted changes."""
    return complaint(form, Versions.of(form.card), Stored.read(form, FOLDER), lambda: form.risks(**changes))


@every_form
@pytest.mark.usefixtures("comparable")
def test_predictions_are_those_that_are_stored_for_the_version(form: Form) -> None:
    said = now(form)
    assert not said, said


@every_form
def test_every_version_has_its_stored_predictions(form: Form) -> None:
    stored = Stored.read(form, FOLDER)
    said = complaint(form, Versions.of(form.card), stored, lambda: stored.risks if stored else {})
    assert not said, said


def test_no_stored_predictions_without_a_model() -> None:
    assert not strangers(), f"delete from {FOLDER}: {', '.join(strangers())}"


LEARNING_RATE = {"training": {"learning_rate": 1.01 * 5e-5}}
DROPOUT = {"config": {"dropout": 0.26}}
SEED = {"seed": 1}


@pytest.mark.parametrize("change", [LEARNING_RATE, DROPOUT, SEED], ids=["learning rate", "dropout", "seed"])
@pytest.mark.parametrize("model", ["abmil", "snn", "survpath", "amkd"])  # slides, expression, both, distilled
@pytest.mark.usefixtures("comparable")
def test_a_changed_number_is_caught_by_name(model: str, change: dict[str, Any]) -> None:
    said = now(FORMS[model], **change)
    assert f"'{model}' moved by" in said
    assert f"raise `version` of '{model}' in registry.yaml to {FORMS[model].card.version + 1} " in said
    assert "PROTOCOL_VERSION" in said
    assert f"python tests/store_predictions.py {model}" in said


def test_a_version_that_was_raised_lacks_its_predictions_until_they_are_stored() -> None:
    card, stored = QUICK.card, Stored.read(QUICK, FOLDER)
    assert stored is not None
    raised = replace(stored.versions, version=card.version + 1)
    command = "python tests/store_predictions.py mlp_survpath"

    def untouched() -> tiny.Risks:
        raise AssertionError("there is nothing to compare with")

    said = complaint(QUICK, raised, stored, untouched)
    assert f"'mlp_survpath' is {raised}" in said
    assert f"those of {stored.versions}" in said
    assert command in said
    assert "versions never fall" in complaint(QUICK, stored.versions, replace(stored, versions=raised), untouched)
    said = complaint(QUICK, stored.versions, None, untouched)
    assert "'mlp_survpath' has no stored predictions" in said
    assert command in said


def test_a_stored_file_of_no_model_is_found(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "mlp.json", tmp_path / "mlp.json")
    shutil.copy(FOLDER / "mlp.json", tmp_path / "gone.json")
    assert strangers(tmp_path) == ["gone.json"]


def test_predictions_of_other_patients_or_another_constant_are_no_match() -> None:
    constant = Stored(Versions(1, 1), {"train": {"A": 1.0, "B": 1.0}, "test": {"C": 1.0}})
    assert constant.distance(constant.risks) == 0
    assert constant.distance({"train": {"A": 1.0, "B": 1.0}, "test": {"C": 1.0 + 1e-9}}) > TOLERANCE
    assert constant.distance({"train": {"A": 1.0}, "test": {"B": 1.0, "C": 1.0}}) > TOLERANCE


@pytest.mark.usefixtures("comparable")
def test_numbers_of_an_unchanged_version_are_never_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert store_predictions.main(["mlp_survpath"], tmp_path) == 0
    file = tmp_path / "mlp_survpath.json"
    stored, again = Stored.read(QUICK, FOLDER), Stored.read(QUICK, tmp_path)
    assert stored is not None
    assert again is not None
    assert stored.distance(again.risks) <= TOLERANCE
    content = json.loads(file.read_text())
    content["risks"]["test"]["P70"] += 1.0
    file.write_text(json.dumps(content))
    kept = file.read_bytes()
    capsys.readouterr()
    assert store_predictions.main(["mlp_survpath"], tmp_path) == 2
    assert "not stored: 'mlp_survpath' is version" in capsys.readouterr().out
    with pytest.raises(BadConfig, match="raise `version` of 'mlp_survpath'"):
        store(QUICK, tmp_path)
    assert file.read_bytes() == kept
    file.write_text(json.dumps({**content, "version": 0}))  # as if the card's had been raised since
    assert store_predictions.main(["mlp_survpath"], tmp_path) == 0
    assert "SD from version 0" in capsys.readouterr().out
    assert Stored.read(QUICK, tmp_path) == again


def test_it_is_strict_on_x86_64_with_the_pinned_packages_alone() -> None:
    pinned = stand_in()
    assert not not_comparable("x86_64", pinned)
    assert not not_comparable("AMD64", lambda name: f"{pinned(name)}+cpu")
    assert "x86-64" in not_comparable("aarch64", pinned)
    for other in DECISIVE:
        assert f"for {other} " in not_comparable("x86_64", stand_in(other))


def stand_in(other: str = "") -> Callable[[str], str]:
    """Looks up what is pinned; of one package another version."""
    lines = (Path(__file__).parents[1] / "constraints.txt").read_text().split()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    return lambda name: "0.0" if name == other else pinned[name]


@pytest.mark.slow
@pytest.mark.usefixtures("comparable")
def test_rounding_stays_far_below_the_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    """First weights and inputs are moved by a hundred times as much as processors round differently."""
    generator = torch.Generator().manual_seed(0)

    def shaken(values: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(values.shape, generator=generator, dtype=torch.float64)
        return values * (1 + 1e-14 * noise)

    def shaken_model(*job: Any) -> Any:
        model = build_model(*job)
        for weights in model.parameters():
            weights.data = shaken(weights.data)
        return model

    batch, seen = tiny.DoubleSplit.batch, ("x", "expression", "clinical")
    monkeypatch.setattr("survbench.experiments.execute.build_model", shaken_model)
    monkeypatch.setattr(tiny.DoubleSplit, "batch", lambda *args, **kwargs: batch(*args, **kwargs).apply(shaken, *seen))
    moved = {}
    for form in FORMS.values():
        stored = Stored.read(form, FOLDER)
        assert stored is not None
        moved[form.name] = stored.distance(form.risks())
    largest = max(moved, key=lambda name: moved[name])
    assert moved[largest] < HEADROOM, f"{largest} moved by {moved[largest]:.1e} SD"
    assert moved["abmil"] > 0  # the shaking reached it
