"""External validation: models of every fold and seed applied, frozen, to a cohort that no one of them has seen.

The training cohort's genes, scaler, time bins and risk cut are loaded from the jobs' folders; nothing is fitted here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from survbench.cards import Modality
from survbench.console import note, track, warn
from survbench.data.batches import Split
from survbench.data.cohort import Cohort, Simulated
from survbench.errors import BadConfig, BadModel
from survbench.experiments.cohort_labels import write_cohort
from survbench.experiments.folders import result_folder, validation_folder
from survbench.experiments.job import Job
from survbench.experiments.results import FittedState, JobResult
from survbench.experiments.validation_results import write_validation
from survbench.training.steps import predict_logits

__all__ = ["apply_frozen", "check_external"]

FEWEST_GENES = 0.8  # share of the training genes below which a test cohort is refused


def check_external(jobs: Sequence[Job], cohort: Cohort) -> None:
    """Refuse, before anything is trained, what cannot be applied.

    Raises
    ------
    BadConfig : the test cohort lacks a modality, has other features, or too few of the training genes.
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


def _apply(job: Job, cohort: Cohort, out: Path, target: Path, device: torch.device) -> None:
    trained = JobResult.of(job, out)
    record = trained.record
    model, objective = trained.load_model(device, job=job)
    split, absent = _prepared(cohort, job, trained.fitted_state)
    logits = predict_logits(model, split, job.card.inference_inputs, device)
    if len(logits) != len(split) or not torch.isfinite(logits).all():
        raise BadModel(f"model {job.card.name} has no finite prediction for some patient of {cohort.name}")
    risk = objective.risk(logits).numpy()
    learned = trained.predictions()
    own = learned.loc[learned["split"] == "train", "risk"]
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
    kept = ("identity", "config", "card", "code", "selected", "as_registered", "risk_cut")
    content = {
        "job": job.id,
        **{key: record[key] for key in kept},
        "test_cohort": cohort.name,
        "test_hash": cohort.content_hash,
        "endpoint": cohort.endpoint,
        "simulated": _more_invented(record["simulated"], cohort.simulated),
        "genes_absent": absent,
        "excluded": {reason: list(patients) for reason, patients in cohort.excluded.items()},
    }
    write_validation(target, content, table)


def _prepared(cohort: Cohort, job: Job, fitted: FittedState) -> tuple[Split, list[str]]:
    """All patients, in the training cohort's genes and scale; genes that were not measured stand at their mean."""
    patients, absent, scaler, genes = tuple(cohort.patients.index), list[str](), None, list(fitted.inputs.genes)
    if Modality.EXPRESSION in job.card.inference_inputs:
        scaler = fitted.scaler
        measured = cohort.folder.expression()
        assert scaler is not None
        assert measured is not None
        absent = sorted(set(genes) - set(measured.columns))
        values = measured.reindex(index=list(patients), columns=genes)
        cohort = replace(cohort, expression=values.fillna(dict(zip(genes, scaler.mean, strict=True))))
    if cohort.clinical is not None:
        cohort = replace(cohort, clinical=cohort.clinical.reindex(columns=list(fitted.inputs.clinical)))
    return cohort.split(patients, scaler), absent


def _check_genes(genes: Sequence[str], cohort: Cohort) -> None:
    measured = cohort.folder.expression()
    assert measured is not None
    absent = sorted(set(genes) - set(measured.columns))
    if len(absent) > (1 - FEWEST_GENES) * len(genes):
        raise BadConfig(
            f"cohort {cohort.name} lacks {len(absent)} of the {len(genes)} genes that the models were trained on, "
            f"first {absent[0]}",
            "bring both cohorts to the same gene names",
        )
    if absent:
        note(f"{cohort.name} lacks {len(absent)} of {len(genes)} genes; they are set to the training patients' mean")


def _more_invented(one: str, other: str) -> str:
    order = [Simulated.NO, Simulated.SLIDES, Simulated.ALL]
    return max(one, other, key=order.index)
