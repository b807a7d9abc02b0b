"""From a request to the list of jobs; every mistake in it is an error here, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from survbench.cards import Modality, ModelCard
from survbench.console import warn
from survbench.data.batches import Split
from survbench.data.cohort import Cohort, ExpressionScaler, load_cohort
from survbench.data.folds import Fold, folds_hash
from survbench.data.root import DataRoot
from survbench.errors import BadConfig, BadFile, BadModel, MissingFile, SurvbenchError, UnknownName
from survbench.experiments.job import Job
from survbench.experiments.model_settings import refuse_impossible
from survbench.experiments.results import JobResult, find_results
from survbench.experiments.trained_models import build_objective, trusted
from survbench.experiments.versions import versions_of
from survbench.foreign.yaml_text import read_yaml
from survbench.model import Reference, SurvivalModel
from survbench.registry import Registry, import_target, pick, refuse_shared_settings, settings_of
from survbench.training.device import multiplied
from survbench.training.settings import Settings

__all__ = [
    "Request",
    "altered",
    "job_split",
    "plan",
    "plan_again",
    "resolve",
    "tuned_name",
]

TUNED = "tuned"
OBJECTIVE = "cox"  # the default, as in AMKD's paper


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which jobs are wanted.

    Attributes
    ----------
    models : names, wildcards or `all`.
    cohorts : the same of cohorts.
    endpoint : os, dss, pfi, ...
    scheme : of the folds.
    objective : its name in the registry.
    seeds : one run per seed.
    folds : numbers of the outer folds to run; empty means all.
    preset : of the registry or a card, a file that `survbench tune` wrote, or `tuned`: each model's own such file.
    overrides : settings of the models or the trainer, by name.
    tuned : folder where `tuned` looks.
    """

    models: Sequence[str]
    cohorts: Sequence[str]
    endpoint: str
    scheme: str
    objective: str = OBJECTIVE
    seeds: Sequence[int] = (0,)
    folds: Sequence[int] = ()
    preset: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    tuned: Path | None = None


def plan(request: Request, registry: Registry, root: DataRoot) -> list[Job]:
    """Jobs in the order in which they run: by cohort, then model, seed and fold."""
    cards = registry.select_models(request.models)
    names = registry.select_cohorts(request.cohorts, root.cohorts())
    objectives = {card.name: _objective_entry(card.objective or request.objective, registry) for card in cards}
    _refuse_unused(request.overrides, {card.name: model_settings(card) for card in cards})
    exactly_named = not any(set("*?[") & set(p) or p == "all" for p in (*request.models, *request.cohorts))
    jobs = []
    for name in names:
        expected = None if root.simulated else registry.expected().get(name)
        cohort = load_cohort(root, name, request.endpoint, expected)
        folds = cohort.folds(request.scheme)
        wanted = _wanted(folds, request.folds)
        for model in cards:
            lacking = sorted(set(model.train_inputs) - cohort.modalities)
            if lacking:
                what = f"model {model.name} learns from {lacking[0]}, and cohort {name} has none"
                if exactly_named:
                    raise BadConfig(what, "`survbench data check` shows what is there")
                warn(f"{what}; left out")
                continue
            config, settings, origin = resolve(model, cohort, request, registry)
            objective = objectives[model.name]
            if (refused := _try(model, config, objective, cohort, bool(request.overrides))) is not None:
                if exactly_named:
                    raise refused
                warn(f"cohort {name}: {refused}; left out")
                continue
            registered = resolve(model, cohort, replace(request, preset=None, overrides={}), registry)
            job = Job(
                card=model,
                config=config,
                objective=objective,
                settings=settings,
                cohort=cohort,
                scheme=request.scheme,
                folds=len(folds),
                folds_hash=folds_hash(folds),
                fold=wanted[0],
                seed=request.seeds[0],
                origin=origin,
                as_registered=(config, settings, origin) == registered
                and objective == _objective_entry(model.objective or OBJECTIVE, registry),
                versions=versions_of(model, config, objective, registry),
            )
            jobs += [replace(job, fold=fold, seed=seed) for seed in request.seeds for fold in wanted]
    if not jobs:
        raise BadConfig("nothing to run: no cohort has the modalities that these models learn from")
    return jobs


def altered(job: Job, changes: Mapping[str, Any], registry: Registry) -> Job:
    """The same job with some settings of its model or of the trainer changed."""
    trainer = {f.name for f in fields(Settings)}
    config = {**job.config, **{key: value for key, value in changes.items() if key not in trainer}}
    for key in import_target(job.card.target).model_settings:
        config[key] = _referenced(job.card, key, config[key], registry)
    settings = Settings.build(vars(job.settings), {key: value for key, value in changes.items() if key in trainer})
    versions = versions_of(job.card, config, job.objective, registry)
    return replace(job, config=config, settings=settings, as_registered=False, versions=versions)


def plan_again(finished: Sequence[JobResult], out: Path, registry: Registry, root: DataRoot) -> list[Job]:
    """Finished jobs that differ by fold and seed alone, planned again, so that they have their data.

    Raises
    ------
    BadConfig : registry or data are not those that the results in `out` are of.
    """
    first, places = finished[0], {(result.seed, result.fold) for result in finished}
    seeds, folds = ([*dict.fromkeys(numbers)] for numbers in zip(*sorted(places), strict=True))
    config = first.record.get("config", first.identity["config"])
    overrides = replace(first, identity={**first.identity, "config": config}).settings
    request = Request(
        models=[first.model],
        cohorts=[first.cohort],
        endpoint=first.identity["endpoint"],
        scheme=first.identity["folds"],
        objective=overrides.pop("objective"),
        seeds=seeds,
        folds=folds,
        overrides=overrides,
    )
    jobs = [job for job in plan(request, registry, root) if (job.seed, job.fold.index) in places]
    try:
        find_results(jobs, out)
    except BadConfig:
        what = f"the data, or the version of model {first.model}, are not those of its results on {first.cohort}"
        raise BadConfig(what, "name their data root with data=..., or run them again") from None
    return jobs


def _try(
    card: ModelCard, config: Mapping[str, Any], objective: Mapping[str, Any], cohort: Cohort, changed: bool
) -> SurvbenchError | None:
    """Build the model once, so that what it refuses is an answer now and not a failure of every job."""
    outputs = build_objective(objective).outputs
    try:
        import_target(card.target)(cohort.inputs, outputs, **config)
    except SurvbenchError as refused:
        return refused
    except (ValueError, TypeError, AssertionError, ZeroDivisionError) as error:
        if changed:  # settings that do not go together, such as heads that do not divide a width
            return BadConfig(f"model {card.name} cannot be built with these settings: {error}", "change --set")
        warn(f"model {card.name} cannot be built ({type(error).__name__}: {error}); its jobs will fail")
    except Exception as error:  # a bug of the model's, which its jobs will record; the other models still run
        warn(f"model {card.name} cannot be built ({type(error).__name__}: {error}); its jobs will fail")
    return None


def job_split(job: Job, members: tuple[str, ...], scaler: ExpressionScaler | None, device: torch.device) -> Split:
    """Some of a job's patients, the patches of their cohort on the device if the model sees any."""
    split = job.cohort.split(members, scaler)
    return split.on(device, multiplied(device)) if Modality.SLIDES in job.card.train_inputs else split


def _objective_entry(name: str, registry: Registry) -> dict[str, Any]:
    (chosen, *more) = pick(name, registry.objectives, "objective")
    if more:
        raise UnknownName(f"objective '{name}' names {1 + len(more)} objectives", "name one")
    return {"name": chosen, **registry.objectives[chosen]}


def resolve(
    card: ModelCard, cohort: Cohort, request: Request, registry: Registry
) -> tuple[dict[str, Any], Settings, str]:
    """Full configuration: class defaults, card, preset, overrides; later ones win. And where it is from."""
    known, trainer = model_settings(card), {f.name for f in fields(Settings)}
    preset, origin = _preset(card, cohort, request, registry)
    own, training = ({k: v for k, v in request.overrides.items() if k in of} for of in (known, trainer))
    config = {**known, **card.config, **preset.get("config", {}), **own}
    unknown = sorted(set(config) - set(known))
    if unknown:
        raise BadConfig(f"model {card.name} has no setting '{unknown[0]}'", f"its settings: {', '.join(known)}")
    refuse_impossible(card.name, known, {**config, **{key: known[key] for key in known if key not in own}})
    for key in import_target(card.target).model_settings:
        config[key] = _referenced(card, key, config[key], registry)
    settings = Settings.build(registry.presets["default"], card.training, preset.get("training", {}), training)
    return config, settings, origin


def _preset(card: ModelCard, cohort: Cohort, request: Request, registry: Registry) -> tuple[Mapping[str, Any], str]:
    """`config` and `training` of the preset, and how the row says its settings were chosen (protocol rule 2)."""
    name = request.preset
    if name is None:
        return {}, "default"
    if name in card.presets:
        return card.presets[name], "default"
    if name in registry.presets:
        return {"training": registry.presets[name]}, "default"
    if name != TUNED and not name.endswith((".yaml", ".yml")):
        known = ", ".join([*registry.presets, *card.presets, TUNED])
        raise UnknownName(f"Unknown preset '{name}' for model {card.name}", f"Known: {known}, or a file of `tune`")
    if name == TUNED:
        place = tuned_name(card.name, cohort.name, cohort.endpoint, request.scheme)
        file = (request.tuned or Path()) / place / "preset.yaml"
    else:
        file = Path(name)
    return _tuned(file, card, cohort, registry)


def tuned_name(model: str, cohort: str, endpoint: str, scheme: str) -> str:
    """Folder below OUT/tune of a study without a name of its own."""
    return f"{model}-{cohort}-{endpoint}-{scheme}"


def _tuned(file: Path, card: ModelCard, cohort: Cohort, registry: Registry) -> tuple[Mapping[str, Any], str]:
    hint = f"survbench tune --model {card.name} --cohort {cohort.name} --endpoint {cohort.endpoint}"
    try:
        content = read_yaml(file)
        trials, made = int(content["trials"]), {key: content[key] for key in ("model", "cohort", "cohort_hash")}
        preset = {key: dict(content[key]) for key in ("config", "training")}
    except FileNotFoundError:
        raise MissingFile(f"preset {file} does not exist", f"make it with: {hint}") from None
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise BadFile(f"preset {file} cannot be used ({error})", f"make it again with: {hint}") from None
    preset["config"] = trusted(preset["config"], registry, f"preset {file}")
    for key, value in (("model", card.name), ("cohort", cohort.name), ("cohort_hash", cohort.content_hash)):
        if made[key] != value:
            raise BadConfig(f"preset {file} was tuned for {key} {made[key]}, not {value}", f"tune it: {hint}")
    return preset, f"tuned ({trials} trials)"


def _referenced(card: ModelCard, key: str, value: Any, registry: Registry) -> Any:
    """A registered model's name becomes all that decides what that model learns; other values stay."""
    if not isinstance(value, str) or value not in registry.models:
        return value
    named = registry.models[value]
    if value == card.name:
        raise BadConfig(f"model {card.name}: {key} is the model itself", "name another one")
    if set(named.train_inputs) - set(card.train_inputs):
        raise BadConfig(
            f"model {card.name}: {key} {value} learns from {', '.join(named.train_inputs)}",
            f"{card.name} is granted {', '.join(card.train_inputs)}",
        )
    own = model_settings(named) | dict(named.config)
    return Reference(
        model=value,
        target=named.target,
        config=own,
        train_inputs=named.train_inputs,
        inference_inputs=named.inference_inputs,
        training=named.training,
    ).plain()


def model_settings(card: ModelCard) -> dict[str, Any]:
    """Settings of a model with their defaults; none may be the trainer's, too."""
    model = import_target(card.target)
    if not (isinstance(model, type) and issubclass(model, SurvivalModel)):
        raise BadModel(f"{card.target} is not a subclass of survbench.model.SurvivalModel")
    settings = settings_of(model)
    refuse_shared_settings(card, settings, {f.name for f in fields(Settings)})
    return settings


def _refuse_unused(overrides: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]]) -> None:
    known = {f.name for f in fields(Settings)} | {key for own in settings.values() for key in own}
    for key in overrides:
        if key not in known:
            raise BadConfig(
                f"--set {key}: no setting of that name in {', '.join(settings)} or the trainer",
                f"settings: {', '.join(sorted(known))}",
            )


def _wanted(folds: Sequence[Fold], numbers: Sequence[int]) -> list[Fold]:
    missing = sorted(set(numbers) - {fold.index for fold in folds})
    if missing:
        raise UnknownName(f"there is no fold {missing[0]}", f"folds: {', '.join(str(f.index) for f in folds)}")
    return [fold for fold in folds if not numbers or fold.index in numbers]
