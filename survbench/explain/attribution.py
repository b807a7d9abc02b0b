"""How much each pathway moves a model's risk: integrated gradients of expression (Sundararajan et al. 2017; captum)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from survbench.cards import Modality
from survbench.console import track, warn
from survbench.data.batches import device_batch
from survbench.errors import BadConfig
from survbench.experiments.job import Job
from survbench.experiments.results import JobResult, find_results
from survbench.explain.pathways import PathwayRanking, rank_pathways
from survbench.model import Objective, SurvivalModel

__all__ = ["STEPS", "TOLERANCE", "Completeness", "gene_attribution", "pathway_attribution"]

STEPS = 64
TOLERANCE = 0.01
PATCHES = 16_384  # of a batch; gradients need several times the memory of a prediction


@dataclass(frozen=True)
class Completeness:
    """Whether attributions add up: over a patient's genes they must sum to risk(patient) - risk(training mean).

    Attributes
    ----------
    gap : largest absolute difference over patients, over the mean absolute change of risk.
    steps : of the path.
    """

    gap: float
    steps: int

    @property
    def holds(self) -> bool:
        return self.gap <= TOLERANCE


def pathway_attribution(
    jobs: Sequence[Job], out: Path, device: torch.device, steps: int = STEPS
) -> tuple[PathwayRanking, Completeness]:
    """Attribution of each pathway over the test patients of each job.

    A pathway's attribution for one patient is the sum over its genes; a gene of two pathways counts in both. Pathways
    are ranked by the mean absolute attribution over patients, since what is bad news for one patient is good news for
    another; more genes move more. `direction` is the correlation over patients of a pathway's attribution with the mean
    of its standardized genes: positive where more expression means more risk.

    Parameters
    ----------
    jobs : finished, of one model on one cohort.
    out : folder of the results.
    device : to predict on.
    steps : points on the path.

    Raises
    ------
    BadConfig : a job is not done, the model predicts without expression, has no gradient, or there are no pathways.
    """
    first = jobs[0]
    if Modality.EXPRESSION not in first.card.inference_inputs:
        seen = ", ".join(first.card.inference_inputs) or "nothing"
        raise BadConfig(f"model {first.card.name} predicts from {seen}", "name a model that predicts from expression")
    if not first.cohort.inputs.pathways:
        raise BadConfig(f"cohort {first.cohort.name} has no pathways", "import it with --pathways FILE.gmt")
    pairs = list(zip(jobs, find_results(jobs, out), strict=True))
    sizes, directions, gaps = [], [], []
    for job, result in track(pairs, f"{first.card.name} on {first.cohort.name}"):
        expression, genes, gap = _of_job(job, result, device, steps)
        members = [list(positions) for positions in job.cohort.inputs.pathways.values()]
        pathways = np.stack([genes[:, own].sum(1) for own in members], axis=1)
        scores = np.stack([expression[:, own].mean(1) for own in members], axis=1)
        sizes.append(np.abs(pathways).mean(0))
        directions.append([_correlation(a, s) for a, s in zip(pathways.T, scores.T, strict=True)])
        gaps.append(gap)
    more = {"direction": np.mean(directions, axis=0), "genes": np.array([len(own) for own in members])}
    complete = Completeness(max(gaps), steps)
    if not complete.holds:
        warn(
            f"{first.card.name} on {first.cohort.name}: attributions miss the change of risk by up to "
            f"{complete.gap:.1%}, more than {TOLERANCE:.0%}; take more --steps"
        )
    return rank_pathways("attribution", jobs, sizes, more), complete


def gene_attribution(
    model: SurvivalModel, objective: Objective, batch: Batch, steps: int = STEPS
) -> tuple[Tensor, Tensor, Tensor]:
    """Integrated gradients of the risk along the straight path from the training mean to each patient's expression.

    The training mean is 0, expression being standardized. Slides stay as they are; their part of the risk is not
    attributed.

    Parameters
    ----------
    model : in evaluation mode.
    objective : that turns its outputs into a risk.
    batch : B patients with expression.
    steps : points on the path.

    Returns
    -------
    attributions (B, genes); risk (B,) of the patients; risk (B,) at the training mean.
    """
    from captum.attr import IntegratedGradients

    def risk(expression: Tensor) -> Tensor:
        changed = copy.copy(batch)
        changed.expression = expression
        return objective.risk(model(changed).logits)

    # one step of the path at a time: captum would repeat the expression of several steps, but not the bags
    attributions = IntegratedGradients(risk, multiply_by_inputs=True).attribute(
        batch.expression, 0.0, n_steps=steps, internal_batch_size=len(batch.expression)
    )
    with torch.no_grad():
        return attributions.detach(), risk(batch.expression), risk(torch.zeros_like(batch.expression))


def _of_job(job: Job, result: JobResult, device: torch.device, steps: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Expression and attributions (test patients, genes), and how far they are from adding up."""
    model, objective = result.load_model(device, job=job)
    split = job.cohort.split(job.fold.test, job.cohort.scaler(job.fold))
    parts = []
    for granted in split.in_order(job.card.inference_inputs, PATCHES):
        batch = device_batch(granted, device)
        _refuse_without_gradient(model, objective, batch, job)
        attributed = gene_attribution(model, objective, batch, steps)
        parts.append([values.double().cpu().numpy() for values in (batch.expression, *attributed)])
    expression, genes, risk, start = (np.concatenate(column) for column in zip(*parts, strict=True))
    change = risk - start
    return expression, genes, float(np.abs(genes.sum(1) - change).max() / max(np.abs(change).mean(), 1e-12))


def _refuse_without_gradient(model: SurvivalModel, objective: Objective, batch: Batch, job: Job) -> None:
    changed = copy.copy(batch)
    changed.expression = batch.expression.clone().requires_grad_()
    risk = objective.risk(model(changed).logits).sum()
    if not risk.requires_grad or torch.autograd.grad(risk, changed.expression, allow_unused=True)[0] is None:
        raise BadConfig(f"the risk of model {job.card.name} has no gradient in expression", "name a neural network")


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's; NaN where one of them is constant."""
    return float(np.corrcoef(one, other)[0, 1]) if one.std() > 0 and other.std() > 0 else float("nan")
