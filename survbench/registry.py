"""Every model, cohort, objective and preset by name: registry.yaml, users' registry files and entry points.

Looks up and imports what a name stands for; what models do is no matter here.
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import inspect
import os
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from survbench.cards import CohortCard, CohortRole, ModelCard, card_from_mapping
from survbench.console import warn
from survbench.errors import BadConfig, BadFile, BadModel, MissingFile, UnknownName
from survbench.files import shipped
from survbench.foreign.yaml_text import read_yaml
from survbench.sources import load_file

__all__ = [
    "ENTRY_POINTS",
    "Registry",
    "import_target",
    "load_registry",
    "open_registry",
    "pick",
    "refuse_shared_settings",
    "settings_of",
]

SHIPPED = ("baselines", "amkd")  # packages of models in this distribution

ENTRY_POINTS = "survbench.models"
REGISTRY_VARIABLE = "SURVBENCH_REGISTRY"
SECTIONS = ("models", "cohorts", "objectives", "presets")


@dataclass(kw_only=True)
class Registry:
    """What is registered, and what could not be.

    Attributes
    ----------
    models : name -> card.
    cohorts : name -> card.
    objectives : name -> {target, and the settings it is built with}.
    presets : name -> trainer settings; `default` is what every run starts from.
    problems : one line for each third-party entry that could not be loaded.
    owners : (section, name) -> the file or package that registered it.
    """

    models: dict[str, ModelCard] = field(default_factory=dict)
    cohorts: dict[str, CohortCard] = field(default_factory=dict)
    objectives: dict[str, dict[str, Any]] = field(default_factory=dict)
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    owners: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, section: str, name: str, entry: Any, owner: str) -> None:
        """Register one entry.

        Parameters
        ----------
        section : one of `SECTIONS`.
        name : of the entry.
        entry : a card, or a mapping of settings.
        owner : the file or package that registers it.

        Raises
        ------
        BadConfig : the name has another owner, or the trainer has one of the model's settings; names both owners.
        """
        if (section, name) in self.owners:
            raise BadConfig(
                f"{section[:-1]} '{name}' is registered twice: by {self.owners[section, name]} and by {owner}",
                "rename one of them",
            )
        if isinstance(entry, ModelCard):
            refuse_shared_settings(entry, entry.config, self.presets.get("default", {}))
        self.owners[section, name] = owner
        getattr(self, section)[name] = entry

    def pattern_of(self, model: type) -> str:
        """What `select_models` takes for a model class: its registered name, or the file that it stands in.

        Raises
        ------
        BadModel : the class is not where other processes can import it, or is registered under several names.
        """
        target = f"{model.__module__}:{model.__qualname__}"
        names = [card.name for card in self.models.values() if card.target == target]
        if len(names) > 1:
            raise BadModel(f"class {model.__name__} is registered as {', '.join(names)}", "give one of these names")
        if names:
            return names[0]
        if model.__module__ == "__main__" or "." in model.__qualname__:
            raise BadModel(
                f"class {model.__qualname__} is defined in a script, notebook or function, where the processes that "
                "run jobs cannot import it",
                f"save it as my_model.py and give models=['my_model.py'], or: from my_model import {model.__name__}",
            )
        file = getattr(sys.modules.get(model.__module__), "__file__", None)
        if file and "." not in model.__module__:
            return f"{file}:{model.__name__}"
        card = self._card_of(model, target)
        self.add("models", card.name, card, target)
        return card.name

    def select_models(self, patterns: Iterable[str]) -> list[ModelCard]:
        """Models named by exact names, wildcards, `all`, or `file.py[:Class]`."""
        chosen: dict[str, ModelCard] = {}
        for pattern in patterns:
            if pattern.partition(":")[0].endswith(".py"):
                card = self._card_of_file(pattern)
                if self.models.get(card.name) != card:
                    self.add("models", card.name, card, pattern)
                chosen[card.name] = card
            else:
                chosen |= {name: self.models[name] for name in pick(pattern, self.models, "model")}
        return list(chosen.values())

    def select_cohorts(self, patterns: Iterable[str], present: Collection[str]) -> list[str]:
        """Names of cohorts that are present.

        Parameters
        ----------
        patterns : as those of models, or names that files use; `all` leaves out cohorts for external validation.
        present : names of the cohorts of a data root.
        """
        chosen: dict[str, None] = {}
        for pattern in patterns:
            names = pick(self.aliases().get(pattern, pattern), present, "cohort")
            if pattern == "all":
                external = {name for name, card in self.cohorts.items() if card.role is CohortRole.EXTERNAL}
                names = [name for name in names if name not in external]
            chosen |= dict.fromkeys(names)
        return list(chosen)

    def expected(self) -> dict[str, Mapping[str, Any]]:
        """Counts that the cards of cohorts state, where they do."""
        return {name: card.expected for name, card in self.cohorts.items() if card.expected}

    def aliases(self) -> dict[str, str]:
        """Names that files use -> names of cohorts."""
        return {alias: card.name for card in self.cohorts.values() for alias in card.aliases}

    def _card_of_file(self, spec: str) -> ModelCard:
        """Card of a model in a Python file: `file.py:Class`, or `file.py` when it holds one class with a card."""
        path, _, attribute = spec.partition(":")
        module = _module(path)
        if not attribute:
            own = {name: vars(value) for name, value in vars(module).items() if isinstance(value, type)}
            classes = [name for name, content in own.items() if isinstance(content.get("card"), ModelCard)]
            if len(classes) != 1:
                raise BadModel(
                    f"{path} holds {len(classes)} classes with a `card`, expected one", f"name it: {path}:Class"
                )
            attribute = classes[0]
        return self._card_of(_attribute(module, attribute, spec), f"{Path(path).resolve()}:{attribute}")

    def _card_of(self, value: Any, target: str, name: str | None = None) -> ModelCard:
        """Card of a model's class, or the card that an entry point leads to; `name` is the entry point's."""
        card = value if isinstance(value, ModelCard) else getattr(value, "card", None)
        if not isinstance(card, ModelCard):
            raise BadModel(f"{target} has no `card`", "write `card = ModelCard(...)` into the class")
        if name is not None and card.name != name:
            raise BadModel(f"the entry point '{name}' leads to a card named '{card.name}'", "use one name for both")
        card = card if card.target else replace(card, target=target)
        if isinstance(value, type):
            refuse_shared_settings(card, settings_of(value), self.presets.get("default", {}))
        return card


def refuse_shared_settings(card: ModelCard, settings: Iterable[str], trainer: Collection[str]) -> None:
    """Refuse a setting that model and trainer both have: one `--set` would change both.

    Parameters
    ----------
    card : of the model.
    settings : of the model.
    trainer : settings of the trainer.

    Raises
    ------
    BadConfig : names the setting and both owners.
    """
    for name in sorted(set(settings) & set(trainer)):
        raise BadConfig(
            f"model '{card.name}' ({card.target}) and the trainer both have a setting '{name}'",
            "rename the model's; the card's `training` changes the trainer's",
        )


def settings_of(model: type) -> dict[str, Any]:
    """Keyword-only parameters of a model's constructor with their defaults.

    Raises
    ------
    BadModel : one has no default.
    """
    settings = {}
    for name, parameter in inspect.signature(model).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            if parameter.default is inspect.Parameter.empty:
                raise BadModel(f"{model.__module__}:{model.__qualname__}: setting '{name}' has no default", "write one")
            value = parameter.default
            settings[name] = list(value) if isinstance(value, tuple) else value
    return settings


def pick(pattern: str, known: Iterable[str], kind: str) -> list[str]:
    """Names that a pattern stands for.

    Parameters
    ----------
    pattern : `all`, wildcards, or one exact name.
    known : all names.
    kind : what they name, for the message.

    Raises
    ------
    UnknownName : none; hints at the nearest name.
    """
    names = list(known)
    if pattern == "all":
        return names
    matching = [name for name in names if fnmatch.fnmatchcase(name, pattern.lower())]
    if matching:
        return matching
    close = difflib.get_close_matches(pattern.lower(), names, n=1)
    hint = f"Did you mean '{close[0]}'?" if close else f"Known: {', '.join(names) or 'none'}"
    raise UnknownName(f"Unknown {kind} '{pattern}'", hint)


def open_registry(files: Path | str | Iterable[Path | str] = ()) -> Registry:
    """Everything registered; what could not be read is a warning."""
    registry = load_registry(files)
    for problem in registry.problems:
        warn(problem)
    return registry


def load_registry(files: Path | str | Iterable[Path | str] = ()) -> Registry:
    """Registered names of the suite, of installed packages, and of the user's own registry files."""
    registry = Registry()
    _read_file(registry, shipped("registry.yaml"))
    for entry_point in sorted(entry_points(group=ENTRY_POINTS), key=lambda e: e.name):
        owner = f"package '{entry_point.dist.name if entry_point.dist else entry_point.value}'"
        try:
            card = registry._card_of(entry_point.load(), entry_point.value, entry_point.name)
        except Exception as error:  # a broken package of somebody else must not take the suite down
            registry.problems.append(f"model '{entry_point.name}' of {owner} does not load: {error!r}")
            continue
        registry.add("models", card.name, card, owner)
    from_environment = [p for p in os.environ.get(REGISTRY_VARIABLE, "").split(os.pathsep) if p]
    for file in [*from_environment, *([files] if isinstance(files, Path | str) else files)]:
        _read_file(registry, Path(file))
    return registry


def _read_file(registry: Registry, path: Path) -> None:
    try:
        content = read_yaml(path) or {}
    except FileNotFoundError:
        raise MissingFile(f"registry file {path} does not exist") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise BadFile(f"registry file {path} cannot be read: {error}") from None
    if not isinstance(content, Mapping) or set(content) - set(SECTIONS):
        raise BadFile(f"registry file {path} is not a mapping with the sections {', '.join(SECTIONS)}")
    for section in SECTIONS:
        entries = content.get(section) or {}
        if not isinstance(entries, Mapping):
            raise BadFile(f"registry file {path}: {section} is not a mapping of names to entries")
        for name, entry in entries.items():
            if not isinstance(entry, Mapping):
                raise BadFile(f"registry file {path}: {section[:-1]} '{name}' is not a mapping of keys to values")
            registry.add(section, name, _parse(section, name, entry, path), str(path))


def _parse(section: str, name: str, entry: Mapping[str, Any], path: Path) -> Any:
    kind = {"models": ModelCard, "cohorts": CohortCard}.get(section)
    if kind is None:
        return dict(entry)
    card = card_from_mapping(kind, name, entry, str(path))
    file, _, attribute = getattr(card, "target", "").partition(":")
    if file.endswith(".py") and not Path(file).is_absolute():  # relative to the registry that names it
        return replace(card, target=f"{(path.parent / file).resolve()}:{attribute}")
    return card


def import_target(target: str) -> Any:
    """The class behind `package.module:Class` or `file.py:Class`."""
    module, _, attribute = target.partition(":")
    return _attribute(_module(module), attribute, target)


def _attribute(module: ModuleType, attribute: str, target: str) -> Any:
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise BadModel(f"{target} does not exist: {module.__file__} has no '{attribute}'") from None


def _module(name: str) -> ModuleType:
    try:
        return load_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    except (MissingFile, BadModel):
        raise
    except (Exception, SystemExit) as error:  # whatever its code raises, the user needs to know whose code it is
        raise BadModel(f"{name} cannot be imported: {type(error).__name__}: {error}") from error
