"""External validation: models of every fold and seed applied, frozen, to a cohort that no one of them has seen.

The training cohort's genes, scaler, time bins and risk cut are loaded from the jobs' folders; nothing is fitted here.
Importing this module loads no deep-learning library, since leaderboards read the stored predictions with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from survbench.cards import Modality
from survbench.console import note, track, warn
from survbench.errors import BadConfig, BadModel
from survbench.evaluation.compare import bootstrap_cindex
from survbench.evaluation.groups import logrank
from survbench.evaluation.metrics import METRICS, Value, harrell, score_fold
from survbench.experiments.cohort_labels import write_cohort
from survbench.experiments.folders import Unreadable, result_folder, validation_folder
from survbench.experiments.results import FittedState, JobResult
from survbench.experiments.validation_results import ValidationResult, read_validations, write_validation
from survbench.files import digest, plain
from survbench.leaderboard.board import KINDS, OfKind
from survbench.leaderboard.published import published_cindex
from survbench.leaderboard.rows import grouped
from survbench.studies.foreign_cohort import other_scale, refuse_other_scale, refuse_shared_patients

if TYPE_CHECKING:
    import torch

    from survbench.data.batches import Split
    from survbench.data.cohort import Cohort
    from survbench.experiments.job import Job

__all__ = ["ExternalRow", "apply_frozen", "check_external", "external_plain", "external_rows"]

FEWEST_GENES = 0.8  # share of the training genes below which a test cohort is refused


@dataclass(frozen=True, kw_only=True)
class ExternalRow(OfKind):
    """One model with one configuration, trained on one cohort and applied to another.

    Attributes
    ----------
    train : cohort of the training.
    test : cohort that the models were applied to.
    endpoint : outcome of both.
    folds : fold scheme of the training.
    simulated : kind of data of both cohorts together, a key of KINDS.
    model : its name.
    title : of the model.
    reconstruction : what had to be reconstructed; empty where nothing had to.
    selected : how the settings were chosen.
    patients : of the test cohort.
    events : of the test cohort.
    models : how many were applied (folds x seeds).
    seeds : how many.
    mean : of the models' C-indices.
    sd : of the models' C-indices, with ddof 0.
    low, high : 95 % patient bootstrap interval of the mean.
    ensemble : C-index of the mean of the models' risks, each standardized on its own training patients.
    ensemble_low, ensemble_high : 95 % patient bootstrap interval of the ensemble's C-index.
    logrank_p : of the groups that most models' training medians make.
    metrics : every metric's mean and SD (ddof 0) over the models, and why it is undefined where it takes training
        patients of this cohort or curves, which are not stored.
    genes_absent : training genes that the test cohort lacks.
    other_scale : of the test cohort's expression, in words; empty where it is that of the training.
    config : start of the digest of settings, trainer and objective.
    problem : why there are no C-indices.
    as_registered : with every setting as the registry has it.
    """

    train: str
    test: str
    endpoint: str
    folds: str
    simulated: str
    model: str
    title: str
    reconstruction: str
    selected: str
    patients: int = 0
    events: int = 0
    models: int = 0
    seeds: int = 0
    mean: float = math.nan
    sd: float = math.nan
    low: float = math.nan
    high: float = math.nan
    ensemble: float = math.nan
    ensemble_low: float = math.nan
    ensemble_high: float = math.nan
    logrank_p: float = math.nan
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    genes_absent: int = 0
    other_scale: str = ""
    config: str = ""
    problem: str = ""
    as_registered: bool = False

    @property
    def published(self) -> float | None:
        """C-index of the paper's Table 4 for this pair of cohorts, where the models are run as registered."""
        return self.printed if self.as_registered else None

    @property
    def printed(self) -> float | None:
        """That C-index, whatever the settings."""
        cindex = published_cindex(self.model, self.test, "external")
        return cindex[0] if cindex is not None and self.test.removeprefix("cptac-") == self.train else None


def check_external(jobs: Sequence[Job], cohort: Cohort, *, allow_other_scale: bool = False) -> None:
    """Refuse, before anything is trained, what cannot be applied.

    Parameters
    ----------
    allow_other_scale : of expression, which is then recorded and said.

    Raises
    ------
    BadConfig : the test cohort lacks a modality, has other features, too few of the training genes, patients
        of the training, or expression on another scale.
    """
    for job in {job.card.name: job for job in jobs}.values():
        if job.cohort.name == cohort.name:
            raise BadConfig(f"--train and --test are both {cohort.name}", "an external cohort is another one")
        lacking = sorted(set(job.card.inference_inputs) - cohort.modalities)
        if lacking:
            raise BadConfig(
                f"model {job.card.name} predicts from {lacking[0]}, and cohort {cohort.name} has none",
                "name models that need what it has",
            )
        widths = [c.bags.dim for c in (job.cohort, cohort) if c.bags is not None]
        if Modality.SLIDES in job.card.inference_inputs and len(set(widths)) > 1:
            raise BadConfig(
                f"slides of {job.cohort.name} have {widths[0]} features per patch, those of {cohort.name} {widths[1]}",
                "use the same patch encoder",
            )
        if Modality.EXPRESSION in job.card.inference_inputs:
            _check_genes(job.cohort.inputs.genes, cohort)
    for train in {job.cohort.content_hash: job.cohort for job in jobs}.values():
        refuse_shared_patients(train, cohort)
    refuse_other_scale(jobs, cohort, allowed=allow_other_scale)


def apply_frozen(jobs: Sequence[Job], cohort: Cohort, out: Path, device: torch.device) -> None:
    """Predict the cohort with every finished job; what is there already is left alone."""
    done = [job for job in jobs if result_folder(job, out).exists()]
    if len(done) < len(jobs):
        warn(f"{len(jobs) - len(done)} of {len(jobs)} jobs have no result and cannot be applied to {cohort.name}")
    write_cohort(cohort, out)
    for job in track(done, f"Applying to {cohort.name}"):
        target = validation_folder(job, cohort, out)
        if not target.exists():
            _apply(job, cohort, out, target, device)


def external_rows(out: Path, models: Sequence[str] | None = None) -> list[ExternalRow]:
    """Rows of a results folder, newest code of each configuration; incomplete ones name what is missing."""
    results = []
    for result in read_validations(out):
        if isinstance(result, Unreadable):
            warn(f"{result.path} is not used: {result.reason}")
        elif models is None or result.model in models:
            results.append(result)
    rows = []
    for same in grouped(results, _setup):
        versions = grouped(same, lambda result: (result.identity["model_version"], result.code))
        rows.append(_row(max(versions, key=lambda results: max(result.modified for result in results))))
    return sorted(rows, key=lambda r: (r.train, r.test, r.endpoint, r.folds, r.model, r.config))


def external_plain(rows: Iterable[ExternalRow]) -> list[dict[str, Any]]:
    """Rows as JSON values, with `published`; NaN is None."""
    return [plain({**vars(row), "published": row.published}) for row in rows]


def _apply(job: Job, cohort: Cohort, out: Path, target: Path, device: torch.device) -> None:
    from survbench.training.steps import predict_logits

    trained = JobResult.of(job, out)
    record = trained.record
    model, objective = trained.load_model(device, job=job)
    split, absent = _prepared(cohort, job, trained.fitted_state)
    logits = predict_logits(model, split, job.card.inference_inputs, device)
    if len(logits) != len(split) or not logits.isfinite().all():
        raise BadModel(f"model {job.card.name} has no finite prediction for some patient of {cohort.name}")
    risk = objective.risk(logits).numpy()
    predictions = trained.predictions()
    own = predictions.loc[predictions["split"] == "train", "risk"]
    table = pd.DataFrame(
        {
            "patient": split.patients,
            "time": split.time,
            "event": split.event,
            "risk": risk,
            "high": risk > record["risk_cut"],
            "standardized": (risk - own.mean()) / (own.std(ddof=0) or 1.0),
        }
    )
    copied = ("identity", "config", "card", "code", "selected", "as_registered", "risk_cut")
    content = {
        "job": job.id,
        **{key: record[key] for key in copied},
        "test_cohort": cohort.name,
        "test_hash": cohort.content_hash,
        "endpoint": cohort.endpoint,
        "simulated": max(record["simulated"], cohort.simulated, key=list(KINDS).index),  # as the less real of the two
        "genes_absent": absent,
        "excluded": {reason: list(patients) for reason, patients in cohort.excluded.items()},
    }
    if Modality.EXPRESSION in job.card.inference_inputs and (differs := other_scale(job.cohort, cohort)):
        content["other_scale"] = differs
    write_validation(target, content, table)


def _prepared(cohort: Cohort, job: Job, fitted: FittedState) -> tuple[Split, list[str]]:
    """All patients, in the training cohort's genes and scale; genes that were not measured stand at their mean."""
    patients, absent, scaler, genes = tuple(cohort.patients.index), list[str](), None, list(fitted.inputs.genes)
    if Modality.EXPRESSION in job.card.inference_inputs:
        scaler = fitted.scaler
        assert scaler is not None
        measured, absent = _measured(genes, cohort)
        values = measured.reindex(index=list(patients), columns=genes)
        cohort = replace(cohort, expression=values.fillna(dict(zip(genes, scaler.mean, strict=True))))
    if cohort.clinical is not None:
        cohort = replace(cohort, clinical=cohort.clinical.reindex(columns=list(fitted.inputs.clinical)))
    return cohort.split(patients, scaler), absent


def _check_genes(genes: Sequence[str], cohort: Cohort) -> None:
    _, absent = _measured(genes, cohort)
    if len(absent) > (1 - FEWEST_GENES) * len(genes):
        raise BadConfig(
            f"cohort {cohort.name} lacks {len(absent)} of the {len(genes)} genes that the models were trained on, "
            f"first {absent[0]}",
            "bring both cohorts to the same gene names",
        )
    if absent:
        note(f"{cohort.name} lacks {len(absent)} of {len(genes)} genes; they are set to the training patients' mean")


def _measured(genes: Sequence[str], cohort: Cohort) -> tuple[pd.DataFrame, list[str]]:
    """Expression as it was measured, and which of the genes it lacks."""
    measured = cohort.folder.expression()
    assert measured is not None
    return measured, sorted(set(genes) - set(measured.columns))


def _row(results: Sequence[ValidationResult]) -> ExternalRow:
    content, identity, first = results[0].record, results[0].identity, results[0].table
    row = ExternalRow(
        train=identity["cohort"],
        test=content["test_cohort"],
        endpoint=content["endpoint"],
        folds=identity["folds"],
        simulated=content["simulated"],
        model=identity["model"],
        title=content["card"]["title"],
        reconstruction=content["card"]["reconstruction"],
        selected=results[0].selected,
        as_registered=all(r.record.get("as_registered") is True for r in results),
        patients=len(first),
        events=int(first["event"].sum()),
        models=len(results),
        seeds=len({r.seed for r in results}),
        genes_absent=len(content["genes_absent"]),
        other_scale=str(content.get("other_scale", "")),
        config=digest([identity["config"], identity["training"], identity["objective"]])[:6],
    )
    folds = {(r.seed, r.fold) for r in results}
    seeds = {seed for seed, _ in folds}
    missing = [f"fold {f} of seed {s}" for s in seeds for f in range(identity["n_folds"]) if (s, f) not in folds]
    if missing:
        return replace(row, problem=f"{', '.join(missing)} missing; give the same command again")
    tables = [r.table.sort_values("patient") for r in results]
    if any(list(t["patient"]) != list(tables[0]["patient"]) for t in tables):
        return replace(row, problem="its models were applied to different patients")
    return _scored(row, tables)


def _scored(row: ExternalRow, tables: Sequence[pd.DataFrame]) -> ExternalRow:
    time, event = tables[0]["time"].to_numpy(float), tables[0]["event"].to_numpy(bool)
    risks = np.stack([t["risk"].to_numpy(float) for t in tables])
    ensemble = np.mean([t["standardized"].to_numpy(float) for t in tables], axis=0)
    scores = [score_fold(table.assign(split="test"), np.empty(0), math.nan) for table in tables]
    if reason := scores[0]["cindex"].reason:
        return replace(row, problem=reason)
    resampled = bootstrap_cindex(time, event, np.vstack([risks, ensemble]))
    low, high = np.nanpercentile(resampled[:-1].mean(axis=0), [2.5, 97.5])
    ensemble_low, ensemble_high = np.nanpercentile(resampled[-1], [2.5, 97.5])
    votes = np.mean([t["high"].to_numpy(float) for t in tables], axis=0)
    metrics = _metrics(scores)
    return replace(
        row,
        mean=metrics["cindex"]["mean"],
        sd=metrics["cindex"]["sd"],
        low=float(low),
        high=float(high),
        ensemble=harrell(time, event, ensemble).value,
        ensemble_low=float(ensemble_low),
        ensemble_high=float(ensemble_high),
        logrank_p=logrank(time, event, votes > 0.5).p,
        metrics=metrics,
    )


def _metrics(scores: Sequence[Mapping[str, Value]]) -> dict[str, dict[str, Any]]:
    """Mean and SD over the models; a metric that is undefined for one of them is undefined for all."""
    spread = {}
    for name in METRICS:
        values = np.array([score[name].value for score in scores])
        reason = next((score[name].reason for score in scores if score[name].reason), "")
        spread[name] = {"mean": float(values.mean()), "sd": float(values.std()), "reason": reason}
    return spread


def _setup(result: ValidationResult) -> str:
    identity = {k: v for k, v in result.identity.items() if k not in ("fold", "seed", "model_version")}
    return digest([identity, result.record["test_hash"], result.record["endpoint"], result.selected])
