"""What describes a model or a cohort before one is loaded: names, modalities, sources.

Import-light on purpose: listing models imports no model and no torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import wraps
from typing import Any, TypeVar, cast

from survbench.errors import BadConfig

__all__ = [
    "CohortCard",
    "CohortRole",
    "Modalities",
    "Modality",
    "ModelCard",
    "ModelGroup",
    "Reference",
    "card_from_mapping",
    "member",
    "takes_old_calls",
]

Kind = TypeVar("Kind", bound=StrEnum)
Described = TypeVar("Described")


def takes_old_calls(
    renamed: Mapping[str, str] = {}, grouped: Mapping[str, type[Any]] = {}
) -> Callable[[type[Described]], type[Described]]:
    """A decorator of dataclasses whose old calls, in files of users, work for one minor version and warn.

    Values without names become those of the fields in their order, with those of a group in its place.

    Parameters
    ----------
    renamed : old name of a field -> new one.
    grouped : field -> dataclass whose own fields could be named beside it before.
    """

    def decorate(kind: type[Described]) -> type[Described]:
        build, order = kind.__init__, [f.name for f in fields(cast(Any, kind))]
        free = sum(not f.kw_only for f in fields(cast(Any, kind)))
        before = [n for name in order for n in ([f.name for f in fields(grouped[name])] if name in grouped else [name])]

        @wraps(build)
        def init(self: Described, *values: Any, **named: Any) -> None:
            if twice := set(before[: len(values)]) & named.keys():
                raise TypeError(f"{kind.__name__}() got multiple values for argument '{min(twice)}'")
            given = dict(zip(before, values, strict=False)) | named
            changed = {new: given.pop(old) for old, new in renamed.items() if old in given}
            for name, group in grouped.items():
                own = {f.name: given.pop(f.name) for f in fields(group) if f.name in given}
                changed |= {name: group(**own)} if own else {}
            if changed or len(values) > free:
                written = dict.fromkeys([*(n for n in before[: len(values)] if n in order), *changed])
                calls = ", ".join(f"{name}=..." for name in written)
                warnings.warn(f"name the fields: {kind.__name__}({calls})", DeprecationWarning, stacklevel=2)
            build(self, *values[len(before) :], **given, **changed)

        kind.__init__ = init  # type: ignore[assignment]
        return kind

    return decorate


class Modality(StrEnum):
    """What a model may be granted; a batch carries nothing else (protocol rule 8)."""

    SLIDES = "slides"
    EXPRESSION = "expression"
    CLINICAL = "clinical"  # age, sex, stage and grade, as numbers


Modalities = tuple[Modality, ...]


class ModelGroup(StrEnum):
    """Where a model stands on the leaderboard, in the order of the paper's Table 2."""

    WSI = "wsi"
    OMICS = "omics"
    MULTIMODAL = "multimodal"
    MISSING = "missing"  # learns with both modalities, predicts from slides alone
    SANITY = "sanity"


class CohortRole(StrEnum):
    """What a cohort is for."""

    DEVELOPMENT = "development"  # cross-validated; part of `--cohort all`
    EXTERNAL = "external"  # models trained elsewhere are applied to it


@takes_old_calls()
@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """A model's entry in a registry.

    Attributes
    ----------
    name : as commands and results spell it.
    title : as tables show it.
    modality : its group on the leaderboard.
    train_inputs : modalities granted while training.
    inference_inputs : modalities granted while predicting, all of them among `train_inputs`.
    target : `package.module:Class`, or `path/to/file.py:Class`.
    was : targets of the same model in earlier results.
    version : raised when the numbers of this model change, so that no row mixes old and new ones.
    paper : where the model is from.
    variant_of : name of the model that it is a variant of.
    reconstruction : empty where the model is its paper's; otherwise what had to be reconstructed.
    objective : the only one that fits the model, where it is fitted by a formula of its own; empty means any.
    config : settings of the model that differ from its class's defaults.
    training : settings of the trainer that differ from the suite's defaults.
    presets : named sets of `config` and `training` overrides.
    beside : models without which this one's figures mean little; their paired differences are shown with it.
    studies : name -> {title, arms: name -> {set: settings, published: setting in the published figures}}; the first arm
        is the one that the others are compared with.
    search : setting -> {low, high, log} or {choices}; what `survbench tune` searches by default.
    """

    name: str
    title: str
    modality: ModelGroup
    train_inputs: Modalities
    inference_inputs: Modalities
    target: str = ""
    was: tuple[str, ...] = ()
    version: int = 1
    paper: str = ""
    variant_of: str | None = None
    reconstruction: str = ""
    objective: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    studies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    search: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        owner = f"the card of model '{self.name}'"
        object.__setattr__(self, "modality", member(ModelGroup, self.modality, owner, "modality"))
        for key in ("train_inputs", "inference_inputs"):
            inputs = tuple(member(Modality, value, owner, key) for value in getattr(self, key))
            object.__setattr__(self, key, inputs)
        for key in ("beside", "was"):
            object.__setattr__(self, key, tuple(getattr(self, key)))
        if isinstance(self.version, bool) or not isinstance(self.version, int) or self.version < 1:
            raise BadConfig(f"{owner} has version {self.version!r}", "it must be a whole number from 1")
        if not set(self.inference_inputs) <= set(self.train_inputs):
            raise BadConfig(
                f"{owner} predicts from {list(self.inference_inputs)} and learns from {list(self.train_inputs)}",
                "a model must learn with every modality it predicts from",
            )

    def public(self) -> dict[str, Any]:
        """The fields that other programs read (`survbench models --json`)."""
        return {
            "name": self.name,
            "title": self.title,
            "modality": str(self.modality),
            "train_inputs": [str(i) for i in self.train_inputs],
            "inference_inputs": [str(i) for i in self.inference_inputs],
            "paper": self.paper,
            "variant_of": self.variant_of,
            "reconstruction": self.reconstruction,
        }


@dataclass(frozen=True, kw_only=True)
class CohortCard:
    """A cohort's entry in a registry.

    Attributes
    ----------
    name : as commands and results spell it.
    title : as tables show it.
    role : development, or external validation.
    aliases : other names under which files list the cohort (`coadread` for `crad`).
    expected : patients, and events per endpoint, that an imported cohort must have (protocol rule 5).
    """

    name: str
    title: str
    role: CohortRole = CohortRole.DEVELOPMENT
    aliases: tuple[str, ...] = ()
    expected: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        owner = f"the card of cohort '{self.name}'"
        object.__setattr__(self, "role", member(CohortRole, self.role, owner, "role"))
        object.__setattr__(self, "aliases", tuple(self.aliases))


@takes_old_calls()
@dataclass(frozen=True, kw_only=True)
class Reference:
    """Another registered model, named in a model's settings, with all that decides what it learns.

    Attributes
    ----------
    model : its registered name.
    target : `module:Class` of it.
    config : every setting of it.
    train_inputs : modalities that it learns from.
    inference_inputs : modalities that it predicts from.
    training : trainer settings in which its card differs from the run's.
    """

    model: str
    target: str
    config: Mapping[str, Any]
    train_inputs: Modalities
    inference_inputs: Modalities
    training: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, entry: Mapping[str, Any], key: str) -> Reference:
        """From plain values, as a job's identity holds them."""
        try:
            inputs = {name: tuple(Modality(m) for m in entry[name]) for name in ("train_inputs", "inference_inputs")}
            return cls(**{**entry, **inputs})
        except (KeyError, TypeError, ValueError):
            raise BadConfig(f"{key} is {entry!r}", "it must be the name of a registered model") from None

    def plain(self) -> dict[str, Any]:
        """As plain JSON values."""
        inputs = {k: [str(m) for m in getattr(self, k)] for k in ("train_inputs", "inference_inputs")}
        return {**vars(self), "config": dict(self.config), "training": dict(self.training), **inputs}

    def build(self, inputs: Any, outputs: int) -> Any:
        """The model with new weights, for the `Inputs` of a cohort and so many outputs."""
        from survbench.registry import import_target

        return import_target(self.target)(inputs, outputs, **self.config)


def member(kind: type[Kind], value: str, owner: str, key: str) -> Kind:
    """The member of an enumeration that a setting names.

    Raises
    ------
    BadConfig : there is no such member; names the owner of the setting, the setting and all members.
    """
    try:
        return kind(value)
    except ValueError:
        raise BadConfig(f"{owner} has {key} '{value}'", f"choose from {', '.join(kind)}") from None


def card_from_mapping(kind: type[Any], name: str, entry: Mapping[str, Any], owner: str) -> Any:
    """Build a card from one entry of a registry file, refusing keys that no card has."""
    known = {f.name for f in fields(kind)} - {"name"}
    unknown = sorted(set(entry) - known)
    if unknown:
        raise BadConfig(
            f"{owner}: '{name}' has the unknown key '{unknown[0]}'", f"known keys: {', '.join(sorted(known))}"
        )
    try:
        return kind(name=name, **entry)
    except TypeError as error:
        raise BadConfig(f"{owner}: '{name}' is incomplete ({error})") from None
