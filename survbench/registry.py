"""Every model, cohort, objective and preset by name: registry.yaml, users' registry files and entry points.

Finds and imports what a name stands for; knows nothing about what models do.
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib
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
from survbench.sources import load_file

__all__ = ["ENTRY_POINTS", "Registry", "import_target", "load_registry", "open_registry", "pick"]

SHIPPED = ("baselines", "amkd")  # packages of models in this distribution

ENTRY_POINTS = "survbench.models"
REGISTRY_VARIABLE = "SURVBENCH_REGISTRY"
SECTIONS = ("models", "cohorts", "objectives", "presets")


@dataclass
class Registry:
    """What is registered, and what could not be.

    Attributes
    ----------
    objectives : name -> {target, and the settings it is built with}.
    presets : name -> trainer settings; `default` is what every run starts from.
    problems : one line for each third-party entry that could not be loaded.
    """

    models: dict[str, ModelCard] = field(default_factory=dict)
    cohorts: dict[str, CohortCard] = field(default_factory=dict)
    objectives: dict[str, dict[str, Any]] = field(default_factory=dict)
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    owners: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, section: str, name: str, entry: Any, owner: str) -> None:
        """Register one entry; a second owner of the same name is refused, naming both."""
        if (section, name) in self.owners:
            raise BadConfig(
                f"{section[:-1]} '{name}' is registered twice: by {self.owners[section, name]} and by {owner}",
                "rename one of them",
            )
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
        card = _card_of(model, target, None)
        self.add("models", card.name, card, target)
        return card.name

    def select_models(self, patterns: Iterable[str]) -> list[ModelCard]:
        """Models named by exact names, wildcards, `all`, or `file.py[:Class]`."""
        chosen: dict[str, ModelCard] = {}
        for pattern in patterns:
            if pattern.partition(":")[0].endswith(".py"):
                card = card_of_file(pattern)
                if card.name in self.models and self.models[card.name] != card:
                    self.add("models", card.name, card, pattern)
                self.models[card.name] = card
                self.owners["models", card.name] = pattern
                chosen[card.name] = card
            else:
                chosen |= {name: self.models[name] for name in pick(pattern, self.models, "model")}
        return list(chosen.values())

    def select_cohorts(self, patterns: Iterable[str], present: Collection[str]) -> list[str]:
        """Of the cohorts that are present those named, in any of the ways of models, or by the name that files use.

        `all` leaves out those that are for external validation.
        """
        chosen: dict[str, None] = {}
        for pattern in patterns:
            found = pick(self.aliases().get(pattern, pattern), present, "cohort")
            if pattern == "all":
                external = {name for name, card in self.cohorts.items() if card.role is CohortRole.EXTERNAL}
                found = [name for name in found if name not in external]
            chosen |= dict.fromkeys(found)
        return list(chosen)

    def expected(self) -> dict[str, Mapping[str, Any]]:
        """Counts that the cards of cohorts state, where they do."""
        return {name: card.expected for name, card in self.cohorts.items() if card.expected}

    def aliases(self) -> dict[str, str]:
        """Names that files use -> names of cohorts."""
        return {alias: card.name for card in self.cohorts.values() for alias in card.aliases}


def pick(pattern: str, known: Iterable[str], kind: str) -> list[str]:
    """Names that a pattern stands for: `all`, wildcards, or one exact name; otherwise a hint at what was meant."""
    names = list(known)
    if pattern == "all":
        return names
    found = [name for name in names if fnmatch.fnmatchcase(name, pattern.lower())]
    if found:
        return found
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
            card = _card_of(entry_point.load(), entry_point.value, entry_point.name)
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
        content = _parse_yaml(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise MissingFile(f"registry file {path} does not exist") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadFile(f"registry file {path} cannot be read: {error}") from None
    if not isinstance(content, Mapping) or set(content) - set(SECTIONS):
        raise BadFile(f"registry file {path} is not a mapping with the sections {', '.join(SECTIONS)}")
    for section in SECTIONS:
        for name, entry in (content.get(section) or {}).items():
            if not isinstance(entry, Mapping):
                raise BadFile(f"registry file {path}: {section[:-1]} '{name}' is not a mapping of keys to values")
            registry.add(section, name, _parse(section, name, entry, path), str(path))


def _parse_yaml(text: str) -> Any:
    """What `yaml.safe_load` gives, from its compiled twin where there is one: every command waits for this."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _parse(section: str, name: str, entry: Mapping[str, Any], path: Path) -> Any:
    if section == "models":
        card = card_from_mapping(ModelCard, name, entry, str(path))
        file, _, attribute = card.target.partition(":")
        if file.endswith(".py") and not Path(file).is_absolute():  # relative to the registry that names it
            card = replace(card, target=f"{(path.parent / file).resolve()}:{attribute}")
        return card
    if section == "cohorts":
        return card_from_mapping(CohortCard, name, entry, str(path))
    return dict(entry)


def card_of_file(spec: str) -> ModelCard:
    """Card of a model in a single Python file: `file.py:Class`, or `file.py` when it holds one class with a card."""
    path, _, attribute = spec.partition(":")
    module = _module(path)
    if attribute:
        return _card_of(_attribute(module, attribute, spec), f"{Path(path).resolve()}:{attribute}", None)
    named = {
        n: v for n, v in vars(module).items() if isinstance(v, type) and isinstance(vars(v).get("card"), ModelCard)
    }
    if len(named) != 1:
        raise BadModel(f"{path} holds {len(named)} classes with a `card`, expected one", f"name it: {path}:Class")
    name, value = next(iter(named.items()))
    return _card_of(value, f"{Path(path).resolve()}:{name}", None)


def _card_of(value: Any, target: str, name: str | None) -> ModelCard:
    card = value if isinstance(value, ModelCard) else getattr(value, "card", None)
    if not isinstance(card, ModelCard):
        raise BadModel(f"{target} has no `card`", "give the class an attribute `card = ModelCard(...)`")
    if name is not None and card.name != name:
        raise BadModel(f"the entry point '{name}' leads to a card named '{card.name}'", "give both the same name")
    return card if card.target else replace(card, target=target)


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
    except (Exception, SystemExit) as error:  # whatever their code raises, the user needs to know whose code it was
        raise BadModel(f"{name} cannot be imported: {type(error).__name__}: {error}") from error
