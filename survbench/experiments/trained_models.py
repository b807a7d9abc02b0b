"""Models and objectives made from what describes them: a planned job, or a result, whose strings are never trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from survbench.errors import BadModel
from survbench.experiments.versions import targets, versions_of
from survbench.model import Inputs, Objective, SurvivalModel
from survbench.registry import Registry, import_target, load_registry

if TYPE_CHECKING:
    from survbench.experiments.job import Job
    from survbench.experiments.results import JobResult

__all__ = ["build_model", "build_objective", "load_trained", "trusted"]


def build_objective(entry: Mapping[str, Any]) -> Objective:
    """Objective of a registry entry (`target` and the settings it is built with)."""
    settings = {key: value for key, value in entry.items() if key not in ("name", "target")}
    return import_target(entry["target"])(**settings)


def build_model(job: Job, objective: Objective, inputs: Inputs | None = None) -> SurvivalModel:
    """A job's model, with new weights, for its cohort's inputs or for others."""
    inputs = inputs or job.cohort.inputs
    model: SurvivalModel = import_target(job.card.target)(inputs, objective.outputs, **job.config)
    return model


def load_trained(
    result: JobResult, job: Job | None = None, registry: Registry | None = None
) -> tuple[SurvivalModel, Objective]:
    """The trained model of a result, on the CPU and in evaluation mode, and its fitted objective.

    Parameters
    ----------
    job : the planned job of the result, where there is one.
    registry : where the model is looked up by name without one; by default what is registered here.

    Raises
    ------
    BadModel : the model is not registered, has another version now, or its settings name code that is not registered,
        or its weights have other names or shapes.
    """
    fitted = result.fitted_state
    if job is not None:
        objective = build_objective(job.objective).from_state(fitted.objective)
        model = build_model(job, objective, fitted.inputs)
    else:
        target, config, entry = _registered(result, registry or load_registry())
        objective = build_objective(entry).from_state(fitted.objective)
        model = import_target(target)(fitted.inputs, objective.outputs, **config)
    try:
        model.load_state_dict(result.weights())
    except RuntimeError as error:  # names and shapes that differ, one a line
        raise BadModel(f"the weights in {result.path} are of another model: {str(error).splitlines()[-1]}") from None
    return model.eval(), objective


def _registered(result: JobResult, registry: Registry) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Target, settings and objective of a result, from the registry by name."""
    card = registry.models.get(result.model)
    if card is None:
        raise BadModel(
            f"{result.path} is of model {result.model}, which is not registered here",
            "name its registry with --registry, or its file",
        )
    config = result.record.get("config", result.identity["config"])
    named = trusted(config, registry, str(result.path))
    objective = result.identity["objective"]
    registered = registry.objectives.get(str(objective.get("name")))
    if registered is None:
        raise BadModel(f"{result.path} has objective {objective.get('name')}, which is not registered here")
    entry = {**{key: value for key, value in objective.items() if key != "version"}, "target": registered["target"]}
    version = versions_of(card, named, entry, registry)[card.target]
    if result.unsealed and result.record.get("target") not in (card.target, *card.was):
        raise BadModel(
            f"{result.path} was made by {result.record.get('target')}, model {card.name} is {card.target} now",
            "if it is the same, list the old one under `was` in the registry",
        )
    if not result.unsealed and result.identity["model_version"] != version:
        raise BadModel(
            f"{result.path} was made by version {result.identity['model_version']}, here it is {version}",
            "run the job again, or use the version that made it",
        )
    return card.target, named, entry


def trusted(value: Any, registry: Registry, path: str) -> Any:
    """Settings from a file, whose other models are those of the registry.

    Raises
    ------
    BadModel : they name code that is not registered.
    """
    if isinstance(value, Mapping):
        settings = {key: trusted(v, registry, path) for key, v in value.items() if key != "target"}
        if "target" not in value:
            return settings
        card = registry.models.get(str(value.get("model")))
        if card is None:
            raise BadModel(f"{path} names model {value.get('model')}, which is not registered here")
        return {**settings, "target": card.target}
    if isinstance(value, list | tuple):
        return [trusted(v, registry, path) for v in value]
    known = {name for card in registry.models.values() for name in (card.target, *card.was, *targets(card.config))}
    for target in targets(value):
        if target not in known:
            raise BadModel(f"{path} names {target}, which is not registered here", "register it to load this result")
    return value
