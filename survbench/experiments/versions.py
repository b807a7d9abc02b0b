"""Versions of the code behind a result: numbers for what is registered, digests for users' files, one for everything.

A model's version is part of a job's identity; the version of the whole code is recorded and decides nothing.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import survbench
from survbench.cards import ModelCard
from survbench.errors import BadModel
from survbench.registry import SHIPPED, Registry

__all__ = ["changed_files", "code_version", "source_digest", "targets", "unversioned", "versioned", "versions_of"]

_TARGET = re.compile(r"(?:[A-Za-z_][\w.]*|.*\.py):[A-Za-z_]\w*")


def versions_of(
    card: ModelCard, config: Mapping[str, Any], objective: Mapping[str, Any], registry: Registry
) -> dict[str, str]:
    """Target -> version, of a model, of all others that its settings name, and of its objective.

    Raises
    ------
    BadModel : a user's file that is no Python.
    """
    others = {target: _version(target, registry) for target in targets([config, objective])}
    base = _version(card.target, registry)
    registered = base.split("@")[0] == card.name or card.target.partition(":")[0].endswith(".py")
    own = base if registered else f"{card.name}@{card.version} of {base}"
    return others | {card.target: own}


def changed_files(versions: Mapping[str, str]) -> list[str]:
    """Of the targets in users' files those whose version is another one now."""
    files = {target: Path(target.partition(":")[0]) for target in versions if ".py:" in target}
    return [
        target
        for target, file in files.items()
        if not file.is_file() or source_digest(file)[:16] not in versions[target]
    ]


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
    """A setting or objective without what says where code stands or which version it has."""
    if isinstance(value, Mapping):
        return {key: unversioned(v) for key, v in value.items() if key not in ("target", "version")}
    if isinstance(value, list | tuple):
        return [unversioned(v) for v in value]
    return value.rpartition(":")[2] if isinstance(value, str) and _TARGET.fullmatch(value) else value


def targets(value: Any) -> Iterator[str]:
    """Every `module:Class` or `file.py:Class` that settings name."""
    if isinstance(value, Mapping):
        for part in value.values():
            yield from targets(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from targets(part)
    elif isinstance(value, str) and _TARGET.fullmatch(value):
        yield value


def _version(target: str, registry: Registry) -> str:
    """`name@version` of a registered model; else a file's digest, a package's version or the class's name."""
    place, _, attribute = target.partition(":")
    if place.endswith(".py"):
        return f"{attribute}@{source_digest(Path(place))[:16]}" if Path(place).is_file() else target
    for card in registry.models.values():
        if target in (card.target, *card.was):
            return f"{card.name}@{card.version}"
    top = place.partition(".")[0]
    if top in SHIPPED or top == "survbench":
        return attribute  # its numbers are those of the model that names it
    found = packages_distributions().get(top)
    return f"{attribute}@{found[0]} {version(found[0])}" if found else target


@cache
def source_digest(file: Path) -> str:
    """Digest of what a user's file says, comments, docstrings and layout apart, and of what it imports beside it.

    Raises
    ------
    BadModel : it is no Python.
    """
    seen: dict[Path, str] = {}
    _read_source(file.resolve(), seen)
    content = "\0".join(f"{path.name}\0{text}" for path, text in sorted(seen.items(), key=lambda item: item[0].name))
    return hashlib.sha256(content.encode()).hexdigest()


def _read_source(file: Path, seen: dict[Path, str]) -> None:
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except (SyntaxError, ValueError) as error:
        raise BadModel(f"{file} is no Python: {error}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body[0] = ast.Pass()
    seen[file] = ast.unparse(tree)
    for name in _imported(tree):
        for other in (file.parent / f"{name}.py", file.parent / name / "__init__.py"):
            if other.is_file() and other.resolve() not in seen:
                _read_source(other.resolve(), seen)


def _imported(tree: ast.Module) -> Iterator[str]:
    """Names, as paths, of modules that stand in the same folder, if they do."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.replace(".", "/") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            place = (node.module or "").replace(".", "/")
            yield from filter(None, [place, *(f"{place}/{alias.name}".strip("/") for alias in node.names)])


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
