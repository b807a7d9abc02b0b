"""Names, wildcards, hints, and models from outside the suite."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from survbench import registry as registry_module
from survbench.cards import Modality, ModelCard, ModelGroup
from survbench.errors import BadConfig, BadFile, BadModel, MissingFile, UnknownName
from survbench.experiments.plan import model_settings
from survbench.registry import import_target, load_registry, pick
from survbench.training.settings import Settings

MODEL_FILE = """
from torch import nn
from survbench.model import Inputs, Modality, ModelCard, ModelGroup, Prediction, SurvivalModel

class Mine(SurvivalModel):
    card = ModelCard(name="mine", title="Mine", modality=ModelGroup.OMICS,
                     train_inputs=(Modality.EXPRESSION,), inference_inputs=(Modality.EXPRESSION,))

    def __init__(self, inputs: Inputs, outputs: int, *, width: int = 4):
        super().__init__()
        self.head = nn.Linear(len(inputs.genes), outputs)

    def forward(self, batch):
        return Prediction(self.head(batch.expression))
"""

ENTRY = """
models:
  mine:
    title: Mine
    target: my_model.py:Mine
    modality: omics
    train_inputs: [expression]
    inference_inputs: [expression]
"""


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "my_model.py"
    path.write_text(MODEL_FILE)
    return path


def test_wildcards_and_all() -> None:
    names = ["abmil", "abmil_cat", "snn"]
    assert pick("all", names, "model") == names
    assert pick("abmil*", names, "model") == ["abmil", "abmil_cat"]
    assert pick("SNN", names, "model") == ["snn"]


@pytest.mark.parametrize(
    ("name", "hint"), [("abmli", "Did you mean 'abmil'"), ("zzz", "Known: abmil, snn"), ("x*", "Known")]
)
def test_an_unknown_name_gets_a_hint(name: str, hint: str) -> None:
    with pytest.raises(UnknownName, match=hint):
        pick(name, ["abmil", "snn"], "model")


def test_every_registered_model_loads_and_describes_itself() -> None:
    registry = load_registry()
    for card in registry.models.values():
        assert import_target(card.target).__doc__
        assert card.paper or card.reconstruction
        assert set(card.public()) == {
            "name",
            "title",
            "modality",
            "train_inputs",
            "inference_inputs",
            "paper",
            "variant_of",
            "reconstruction",
        }
    assert not registry.problems


def test_a_model_in_a_single_file(model_file: Path) -> None:
    (by_file,) = load_registry().select_models([str(model_file)])
    (by_class,) = load_registry().select_models([f"{model_file}:Mine"])
    assert by_file == by_class
    assert by_file.name == "mine"
    assert import_target(by_file.target).__name__ == "Mine"


def test_a_model_in_a_users_registry_file(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = model_file.with_name("registry.yaml")
    file.write_text(ENTRY)
    assert import_target(load_registry([file]).models["mine"].target).__name__ == "Mine"
    monkeypatch.setenv("SURVBENCH_REGISTRY", str(file))
    assert "mine" in load_registry().models


class FakeDistribution:
    name = "their-package"


class FakeEntryPoint:
    def __init__(self, name: str, value: object) -> None:
        self.name, self.value, self.dist, self._loaded = name, f"theirs:{name}", FakeDistribution(), value

    def load(self) -> object:
        if isinstance(self._loaded, Exception):
            raise self._loaded
        return self._loaded


def card(name: str) -> ModelCard:
    return ModelCard(
        name=name,
        title="T",
        modality=ModelGroup.OMICS,
        train_inputs=(Modality.EXPRESSION,),
        inference_inputs=(Modality.EXPRESSION,),
    )


def test_packages_register_models_and_broken_ones_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        FakeEntryPoint("good", card("good")),
        FakeEntryPoint("bad", ImportError("no such thing")),
        FakeEntryPoint("other", card("another name")),
    ]
    monkeypatch.setattr(registry_module, "entry_points", lambda group: points if group == "survbench.models" else [])
    registry = load_registry()
    assert registry.models["good"].target == "theirs:good"
    assert "bad" not in registry.models
    assert any("no such thing" in p and "their-package" in p for p in registry.problems)
    assert any("another name" in p for p in registry.problems)


def test_two_owners_of_a_name_are_both_named(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "entry_points", lambda group: [FakeEntryPoint("snn", card("snn"))])
    with pytest.raises(BadConfig, match="their-package"):
        load_registry()


SHARED = MODEL_FILE.replace("width: int = 4", "width: int = 4, learning_rate: float = 1e-3")


def test_a_setting_that_model_and_trainer_share_is_refused_with_both_owners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One `--set learning_rate=...` would change both."""
    path = tmp_path / "my_model.py"
    path.write_text(SHARED)
    both = r"model 'mine' \(.*my_model.py:Mine\) and the trainer both have a setting 'learning_rate'"
    for pattern in (str(path), f"{path}:Mine"):
        with pytest.raises(BadConfig, match=both):
            load_registry().select_models([pattern])
    file = tmp_path / "registry.yaml"
    file.write_text(ENTRY)  # whose class is imported when it is first used
    with pytest.raises(BadConfig, match=both):
        model_settings(load_registry([file]).models["mine"])
    file.write_text(ENTRY + "    config: {epochs: 3}\n")
    with pytest.raises(BadConfig, match="trainer both have a setting 'epochs'"):
        load_registry([file])
    mine = import_target(f"{path}:Mine")
    monkeypatch.setattr(registry_module, "entry_points", lambda group: [FakeEntryPoint("mine", mine)])
    registry = load_registry()
    assert "mine" not in registry.models
    assert any("their-package" in p and "trainer both" in p for p in registry.problems)


def test_no_registered_model_shares_a_setting_with_the_trainer() -> None:
    registry = load_registry()
    trainer = {f.name for f in fields(Settings)}
    assert set(registry.presets["default"]) == trainer
    for card in registry.models.values():
        assert not set(model_settings(card)) & trainer


def test_old_calls_of_cards_work_and_warn() -> None:
    with pytest.warns(DeprecationWarning, match=r"name the fields: ModelCard\(name=\.\.\., title=\.\.\., modality="):
        old = ModelCard("m", "T", ModelGroup.OMICS, (Modality.EXPRESSION,), (Modality.EXPRESSION,))
    assert old == card("m")
    with pytest.raises(TypeError, match="unexpected keyword"):
        ModelCard(**vars(card("m")), nonsense=1)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("models: {m: {title: T, nonsense: 1}}", BadConfig, "nonsense"),
        ("models: {m: {title: T}}", BadConfig, "incomplete"),
        ("models: {m: 3}", BadFile, "not a mapping"),
        ("- 1", BadFile, "not a mapping"),
        ("modles: {}", BadFile, "sections"),
        ("models: [", BadFile, "cannot be read"),
        (ENTRY.replace("omics", "omic"), BadConfig, "modality 'omic'"),
        (ENTRY.replace("inference_inputs: [expression]", "inference_inputs: [slides]"), BadConfig, "must learn"),
    ],
)
def test_a_wrong_registry_file_is_refused(tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    file = tmp_path / "registry.yaml"
    file.write_text(text)
    with pytest.raises(error, match=message):
        load_registry([file])


def test_a_missing_registry_or_model_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"nowhere\.yaml"):
        load_registry([tmp_path / "nowhere.yaml"])
    with pytest.raises(MissingFile, match=r"nowhere\.py"):
        load_registry().select_models([str(tmp_path / "nowhere.py")])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "holds 0 classes"),
        ("import nowhere", "cannot be imported: ModuleNotFoundError"),
        ("def f(:", "no Python: invalid syntax"),
    ],
)
def test_a_model_file_without_a_model_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(text)
    with pytest.raises(BadModel, match=message):
        load_registry().select_models([str(path)])


def test_a_class_that_is_not_in_the_file_is_named(model_file: Path) -> None:
    with pytest.raises(BadModel, match="Yours"):
        load_registry().select_models([f"{model_file}:Yours"])


def test_listing_models_imports_no_torch() -> None:
    code = (
        "import sys; from survbench.registry import load_registry; load_registry(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
