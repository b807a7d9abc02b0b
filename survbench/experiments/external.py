"""External validation: models of every fold and seed applied, frozen, to a cohort that no one of them has seen.

The training cohort's genes, scaler, time bins and risk cut are loaded from the jobs' folders; nothing is fitted here.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from survbench.cards import Modality
from survbench.console import note, track, warn
from survbench.data.batches import Split
from survbench.data.cohort import Cohort, ExpressionScaler, Simulated
from survbench.errors import BadConfig, BadModel
from survbench.experiments.job import Job
from survbench.experiments.plan import build_model, build_objective
from survbench.training.steps import predict_logits

__all__ = ["FORMAT", "apply_frozen", "check_external", "read_frozen"]

FORMAT = 1
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
    done = [job for job in jobs if job.folder(out).exists()]
    if len(done) < len(jobs):
        warn(f"{len(jobs) - len(done)} of {len(jobs)} jobs have no result and cannot be applied to {cohort.name}")
    for job in track(done, f"Applying to {cohort.name}"):
        target = _place(job, cohort, out)
        if not target.exists():
            _apply(job, cohort, out, target, device)


def read_frozen(jobs: Sequence[Job], cohort: Cohort, out: Path) -> pd.DataFrame:
    """What `apply_frozen` left: model, fold, seed, patient, time (months), event, risk, high, standardized.

    `high`: above the median risk of the job's training patients. `standardized`: in standard deviations of theirs.
    """
    tables = []
    for job in jobs:
        table = pd.read_parquet(_place(job, cohort, out) / "predictions.parquet")
        about: dict[str, Any] = {"model": job.card.name, "fold": job.fold.index, "seed": job.seed}
        for place, (key, value) in enumerate(about.items()):
            table.insert(place, key, value)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _place(job: Job, cohort: Cohort, out: Path) -> Path:
    identity = hashlib.sha256(f"{job.id}\n{cohort.content_hash}".encode()).hexdigest()
    task = f"{job.cohort.name}-to-{cohort.name}-{cohort.endpoint}-{job.scheme}"
    return out / "external" / job.card.name / task / f"fold{job.fold.index}-seed{job.seed}-{identity[:10]}"


def _apply(job: Job, cohort: Cohort, out: Path, target: Path, device: torch.device) -> None:
    trained = job.folder(out)
    record = json.loads((trained / "job.json").read_text(encoding="utf-8"))
    fitted = json.loads((trained / "fitted.json").read_text(encoding="utf-8"))
    objective = build_objective(job.objective).from_state(fitted["objective"])
    model = build_model(job, objective)
    model.load_state_dict(load_file(trained / "model.safetensors"))
    model.to(device).eval()
    split, absent = _prepared(cohort, job, fitted)
    logits = predict_logits(model, split, job.card.inference_inputs, device)
    if len(logits) != len(split) or not torch.isfinite(logits).all():
        raise BadModel(f"model {job.card.name} has no finite prediction for some patient of {cohort.name}")
    risk = objective.risk(logits).numpy()
    learned = pd.read_parquet(trained / "predictions.parquet")
    own = learned.loc[learned["split"] == "train", "risk"]
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    pd.DataFrame(
        {
            "patient": split.patients,
            "time": split.time,
            "event": split.event,
            "risk": risk,
            "high": risk > record["risk_cut"],
            "standardized": (risk - own.mean()) / (own.std(ddof=0) or 1.0),
        }
    ).to_parquet(temporary / "predictions.parquet")
    content = {
        "format": FORMAT,
        "job": job.id,
        "identity": job.identity,
        "card": record["card"],
        "selected": record["selected"],
        "as_registered": record.get("as_registered", False),
        "test_cohort": cohort.name,
        "test_hash": cohort.content_hash,
        "endpoint": cohort.endpoint,
        "simulated": _more_invented(record["simulated"], cohort.simulated),
        "risk_cut": record["risk_cut"],
        "genes_absent": absent,
        "excluded": {reason: list(patients) for reason, patients in cohort.excluded.items()},
    }
    (temporary / "external.json").write_text(json.dumps(content, indent=1, default=list), encoding="utf-8")
    os.rename(temporary, target)


def _prepared(cohort: Cohort, job: Job, fitted: Mapping[str, Any]) -> tuple[Split, list[str]]:
    """All patients, in the training cohort's genes and scale; genes that were not measured stand at their mean."""
    patients, absent, scaler = tuple(cohort.patients.index), list[str](), None
    if Modality.EXPRESSION in job.card.inference_inputs:
        scaler = ExpressionScaler(np.array(fitted["expression_mean"]), np.array(fitted["expression_scale"]))
        measured = cohort.folder.expression()
        assert measured is not None
        absent = sorted(set(fitted["genes"]) - set(measured.columns))
        values = measured.reindex(index=list(patients), columns=fitted["genes"])
        cohort = replace(cohort, expression=values.fillna(dict(zip(fitted["genes"], scaler.mean, strict=True))))
    if cohort.clinical is not None:
        cohort = replace(cohort, clinical=cohort.clinical.reindex(columns=list(job.cohort.inputs.clinical)))
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
