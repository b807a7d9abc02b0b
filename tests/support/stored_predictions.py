"""Predictions of every registered model that are stored for its version: reading, comparing, storing.

What is trained for them is in tiny.py; test_versions.py compares, store_predictions.py stores.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from support.tiny import Risks, predicted_risks, tiny_job
from survbench.cards import ModelCard
from survbench.errors import BadConfig
from survbench.experiments import job
from survbench.registry import load_registry

TESTS = Path(__file__).resolve().parents[1]
FOLDER = TESTS / "stored_predictions"
COMMAND = "python tests/store_predictions.py"
TOLERANCE = 1e-5  # of the SD of a model's stored risks
EQUAL = 1e-12  # difference between risks where the stored ones do not differ
DECISIVE = ("numpy", "scikit-learn", "scikit-survival", "scipy", "torch", "torch-geometric")
OURS = ("baselines.", "amkd.")


@dataclass(frozen=True)
class Form:
    """A model as it is trained for one file of predictions, which has this name."""

    name: str
    model: str
    objective: str = "cox"
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def card(self) -> ModelCard:
        return load_registry().models[self.model]

    def risks(self, **changes: Any) -> Risks:
        """Train and predict. changes : `seed`, settings of the trainer as `training` and of the model as `config`."""
        config = {**self.config, **changes.pop("config", {})}
        return predicted_risks(tiny_job(self.model, self.objective, config=config, **changes))


OTHER_FORMS = (  # code that no model runs as it is registered
    Form("abmil-nll", "abmil", "nll"),
    Form("abmil-cox-breslow", "abmil", "cox-breslow"),
    Form("amkd-out-of-fold", "amkd", config={"targets": "out-of-fold", "crossfit": 2}),
)


def forms() -> dict[str, Form]:
    """Every model of this repository as it is registered, and the forms above."""
    ours = [card.name for card in load_registry().models.values() if card.target.startswith(OURS)]
    return {form.name: form for form in (*(Form(name, name) for name in ours), *OTHER_FORMS)}


@dataclass(frozen=True)
class Versions:
    """The two numbers that say which predictions are meant."""

    version: int
    protocol: int

    @classmethod
    def of(cls, card: ModelCard) -> Versions:
        """Those of the code as it is."""
        return cls(card.version, job.PROTOCOL_VERSION)

    def __str__(self) -> str:
        return f"version {self.version} under protocol {self.protocol}"

    def raised_from(self, stored: Versions) -> bool:
        return self != stored and self.version >= stored.version and self.protocol >= stored.protocol


@dataclass(frozen=True)
class Stored:
    """One file."""

    versions: Versions
    risks: Risks

    @classmethod
    def read(cls, form: Form, folder: Path) -> Stored | None:
        """None where nothing is stored."""
        try:
            content = json.loads(_file(form, folder).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return cls(Versions(content["version"], content["protocol"]), content["risks"])

    def write(self, form: Form, folder: Path) -> None:
        content = {"model": form.model, **vars(self.versions), "risks": self.risks}
        _file(form, folder).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def distance(self, risks: Risks) -> float:
        """The largest difference from the stored risks, in SDs of those of training and test patients."""
        if {split: set(own) for split, own in risks.items()} != {split: set(own) for split, own in self.risks.items()}:
            return float("inf")
        largest = max(abs(risks[split][p] - risk) for split, own in self.risks.items() for p, risk in own.items())
        spread = float(np.std([risk for split in ("train", "test") for risk in self.risks[split].values()]))
        if spread > EQUAL:
            return largest / spread
        return 0.0 if largest <= EQUAL else float("inf")


def complaint(form: Form, versions: Versions, stored: Stored | None, risks: Callable[[], Risks]) -> str:
    """What is wrong with a form's stored predictions, and what to do about it; empty where nothing is.

    Parameters
    ----------
    risks : gives those of now; asked where there is something to compare them with.
    """
    to_store = f"store them with: {COMMAND} {form.model}"
    if stored is None:
        return f"'{form.name}' has no stored predictions; {to_store}"
    if versions != stored.versions:
        if not versions.raised_from(stored.versions):
            return f"'{form.name}' is {versions}, below the stored {stored.versions}; versions never fall, raise it"
        return f"'{form.name}' is {versions}, and its stored predictions are those of {stored.versions}; {to_store}"
    distance = stored.distance(risks())
    if distance <= TOLERANCE:
        return ""
    return (
        f"the predictions of '{form.name}' moved by {distance:.2g} SD of its risks, more than {TOLERANCE:.0e}. "
        f"If that is meant, raise `version` of '{form.model}' in registry.yaml to {versions.version + 1} "
        f"(or, if the numbers of every model change, PROTOCOL_VERSION in survbench/experiments/job.py to "
        f"{versions.protocol + 1}), and {to_store}"
    )


def strangers(folder: Path = FOLDER) -> list[str]:
    """Files that belong to no registered model."""
    return sorted({file.name for file in folder.iterdir()} - {f"{name}.json" for name in forms()})


def store(form: Form, folder: Path = FOLDER) -> str:
    """Store the predictions of a new model or of a raised version.

    Returns
    -------
    What was stored, and how far it is from what was stored before.

    Raises
    ------
    BadConfig : the version is that of the stored predictions, or an earlier one; these are never overwritten.
    """
    versions, before = Versions.of(form.card), Stored.read(form, folder)
    if before is not None and not versions.raised_from(before.versions):
        raise BadConfig(
            f"'{form.name}' is {versions}, and predictions of {before.versions} are stored",
            f"raise `version` of '{form.model}' in registry.yaml to {before.versions.version + 1} first",
        )
    after = Stored(versions, form.risks())
    after.write(form, folder)
    moved = "" if before is None else f"; {before.distance(after.risks):.2g} SD from {before.versions}"
    return f"{form.name}: stored {versions}{moved}"


def not_comparable(machine: str = platform.machine(), installed: Callable[[str], str] = metadata.version) -> str:
    """Why predictions may differ from the stored ones with the same code; empty where they may not."""
    if machine not in ("x86_64", "AMD64"):
        return f"predictions are stored for x86-64, and this machine is {machine}"
    for name, pinned in _pinned().items():
        if (found := installed(name).partition("+")[0]) != pinned:
            return f"predictions are stored for {name} {pinned} (constraints.txt), and {found} is installed"
    return ""


def _pinned() -> dict[str, str]:
    lines = (TESTS.parent / "constraints.txt").read_text(encoding="utf-8").splitlines()
    versions = dict(line.split("==") for line in lines if "==" in line)
    return {name: versions[name] for name in DECISIVE}


def _file(form: Form, folder: Path) -> Path:
    return folder / f"{form.name}.json"
