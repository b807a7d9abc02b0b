"""Studies of one model: the same jobs with one thing changed at a time, as its card lists them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from survbench.cards import ModelCard
from survbench.console import warn
from survbench.data.root import DataRoot
from survbench.errors import BadConfig, SurvbenchError, UnknownName
from survbench.experiments.job import Job
from survbench.experiments.plan import Request, plan
from survbench.registry import Registry, pick

__all__ = ["Arm", "Study", "all_jobs", "find_study", "plan_study"]


@dataclass(frozen=True)
class Arm:
    """What is changed. published : setting under which the paper prints this arm; empty where it does not."""

    name: str
    settings: Mapping[str, Any]
    published: str = ""


@dataclass(frozen=True)
class Study:
    """A model's study. The first arm is the one that the others are compared with."""

    name: str
    title: str
    model: ModelCard
    arms: tuple[Arm, ...]


def find_study(name: str, model: str | None, registry: Registry) -> Study:
    """Study of a model's card, by name; of the only model that has it where none is named.

    Raises
    ------
    UnknownName : no such study. BadConfig : several models have it, or the card's entry is no study.
    """
    cards = [card for card in registry.models.values() if card.studies]
    if model is not None:
        (chosen, *more) = registry.select_models([model])
        if more:
            raise BadConfig(f"--model {model} names {1 + len(more)} models", "a study is of one")
        cards = [chosen]
    known = list(dict.fromkeys(study for card in cards for study in card.studies))
    if not known:
        raise UnknownName(f"model {model} has no studies", "its card lists them under `studies`")
    (found, *_) = pick(name, known, "study")
    owners = [card for card in cards if found in card.studies]
    if len(owners) > 1:
        raise BadConfig(f"several models have a study '{found}'", "name one of them with --model")
    return _read(found, owners[0])


def plan_study(study: Study, request: Request, registry: Registry, root: DataRoot) -> dict[str, list[Job]]:
    """Jobs of every arm. An arm that this data root does not allow is left out, said aloud; the first one must run."""
    jobs: dict[str, list[Job]] = {}
    for arm in study.arms:
        asked = replace(request, models=[study.model.name], overrides={**request.overrides, **arm.settings})
        clash = sorted(set(request.overrides) & {key for other in study.arms for key in other.settings})
        if clash:
            raise BadConfig(f"--set {clash[0]}: the study itself changes it", "leave it to the study")
        try:
            jobs[arm.name] = plan(asked, registry, root)
        except SurvbenchError as refused:
            if arm is study.arms[0]:
                raise
            warn(f"{arm.name}: {refused}; left out")
    return jobs


def _read(name: str, card: ModelCard) -> Study:
    entry = card.studies[name]
    owner = f"study '{name}' of model {card.name}"
    try:
        arms = tuple(
            Arm(arm, dict(content.get("set", {})), str(content.get("published", "")))
            for arm, content in entry["arms"].items()
        )
        title = str(entry["title"])
    except (KeyError, AttributeError, TypeError):
        raise BadConfig(f"{owner} is not {{title, arms: {{name: {{set, published}}}}}}", "correct the card") from None
    if len(arms) < 2:
        raise BadConfig(f"{owner} has {len(arms)} arms", "it needs one to compare with and one more")
    return Study(name, title, card, arms)


def all_jobs(jobs: Mapping[str, Sequence[Job]]) -> list[Job]:
    """Every job once, folds of all arms side by side, so that what they share is trained once and early."""
    unique = {job.id: job for arm in jobs.values() for job in arm}
    return sorted(unique.values(), key=lambda job: (job.cohort.name, job.seed, job.fold.index))
