"""Versions of the code behind a result: numbers for what is registered, digests for users' files, one for everything.

A model's version is part of a job's identity; the version of the whole code is recorded and decides nothing.
"""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from pathlib import Path
from typing import Any

import survbench
from survbench.cards import ModelCard
from survbench.registry import SHIPPED, Registry
from survbench.sources import source_digest

__all__ = [
    "changed",
    "code_version",
    "installed",
    "package_versions",
    "targets",
    "unversioned",
    "versioned",
    "versions_of",
]

_PACKAGES = (
    "torch",
    "torch-geometric",
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "scikit-survival",
    "mlflow",
    "fvcore",
)
_TARGET = re.compile(r"(?:[A-Za-z_][\w.]*|.*\.py):[A-Za-z_]\w*")


def versions_of(
    card: ModelCard, config: Mapping[str, Any], objective: Mapping[str, Any], registry: Registry
) -> dict[str, str]:
    """Target -> version, of a model, of all others that its settings name, and of its objective.

    Raises
    ------
    BadModel : a user's file that is no Python.
    """
    versions = {
        target: _shipped_version(target, registry) if _is_shipped(target) else _version(target)
        for target in (card.target, *targets([config, objective]))
    }
    base = versions[card.target]
    registered = base.split("@")[0] == card.name or card.target.partition(":")[0].endswith(".py")
    return versions | {card.target: base if registered else f"{card.name}@{card.version} of {base}"}


def changed(versions: Mapping[str, str]) -> list[str]:
    """The targets outside the suite whose code is of another version now."""
    return [target for target, known in versions.items() if not _is_shipped(target) and _version(target) not in known]


def versioned(value: Any, versions: Mapping[str, str]) -> Any:
    """A setting as it identifies a job: other models by name and version, wherever their code stands."""
    if isinstance(value, Mapping):
        target = str(value.get("target"))
        named = {key: versioned(v, versions) for key, v in value.items() if key != "target" or target not in versions}
        own = versions.get(target, "")
        return named | ({"version": own} if "@" in own else {})  # the suite's own code goes with the protocol's version
    if isinstance(value, list | tuple):
        return [versioned(v, versions) for v in value]
    return versions.get(value, value) if isinstance(value, str) else value


def unversioned(value: Any) -> Any:
    """A setting or objective without the place of code and its version."""
    if isinstance(value, Mapping):
        return {key: unversioned(v) for key, v in value.items() if key not in ("target", "version")}
    if isinstance(value, list | tuple):
        return [unversioned(v) for v in value]
    return value.rpartition(":")[2] if isinstance(value, str) and _TARGET.fullmatch(value) else value


def targets(value: Any) -> Iterator[str]:
    """Every `module:Class` or `file.py:Class` that settings name."""
    if isinstance(value, str) and _TARGET.fullmatch(value):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from targets(part)


def _is_shipped(target: str) -> bool:
    return re.split(r"[.:]", target, maxsplit=1)[0] in (*SHIPPED, "survbench")


def _shipped_version(target: str, registry: Registry) -> str:
    """`name@version` of a registered model; what no model is goes with who names it, so its name will do."""
    cards = [card for card in registry.models.values() if target in (card.target, *card.was)]
    return f"{cards[0].name}@{cards[0].version}" if cards else target.rpartition(":")[2]


def _version(target: str) -> str:
    """Of code outside the suite: its package's version or, where that may stay though the code changes, a digest."""
    place, _, attribute = target.partition(":")
    if place.endswith(".py"):
        return f"{attribute}@{source_digest(Path(place))[:16]}" if Path(place).is_file() else target
    if package := _installed(place.partition(".")[0]):
        return f"{attribute}@{package}"
    try:
        spec = importlib.util.find_spec(place)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return target
    root = Path(spec.origin).parents[place.count(".") + spec.origin.endswith("__init__.py")]
    return f"{attribute}@{source_digest(Path(spec.origin), root)[:16]}"


@cache
def _installed(top: str) -> str:
    """Name and version of the distribution that a module is of; empty where its files may change without a version."""
    for name in packages_distributions().get(top, ()):
        package = distribution(name)
        if '"editable": true' not in (package.read_text("direct_url.json") or ""):
            return f"{name} {package.version}"
    return ""


@cache
def code_version() -> str:
    """Release, and a digest of all code of the suite and its models as it is installed."""
    content = hashlib.sha256()
    for package in ("survbench", *SHIPPED):
        spec = importlib.util.find_spec(package)
        for folder in sorted(spec.submodule_search_locations or ()) if spec else ():
            for file in sorted(Path(folder).rglob("*.py")):
                content.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return f"{survbench.__version__}+{content.hexdigest()[:12]}"


@cache
def package_versions() -> dict[str, str]:
    """Python, the suite and the packages whose behavior can change a result."""
    return {"python": platform.python_version(), "survbench": survbench.__version__, **installed(_PACKAGES)}


def installed(packages: Sequence[str]) -> dict[str, str]:
    """Version of each; `not installed` where it is not."""
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions
