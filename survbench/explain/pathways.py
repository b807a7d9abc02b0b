"""Which pathways a model attends to: the most and the least, with how far folds agree (the paper's Figure 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from survbench.console import track
from survbench.data.batches import device_batch
from survbench.errors import BadConfig
from survbench.experiments.job import Job
from survbench.experiments.plan import build_model, build_objective
from survbench.training.device import autocast

__all__ = ["PathwayAttention", "draw_pathways", "pathway_attention"]

ENDS = 5  # pathways shown at either end


@dataclass(frozen=True)
class PathwayAttention:
    """Attention over pathways on one cohort.

    Attributes
    ----------
    table : indexed by pathway, falling; `mean` and `sd` over jobs, 1 = every pathway equal, and `top`, the share
    of jobs with it among the first five. agreement : mean Spearman correlation between folds of the same seed.
    """

    model: str
    title: str
    cohort: str
    simulated: str
    jobs: int
    table: pd.DataFrame
    agreement: float


def pathway_attention(jobs: Sequence[Job], out: Path, device: torch.device) -> PathwayAttention:
    """Of one model's finished jobs on one cohort, each asked about its own test patients.

    Raises
    ------
    BadConfig : a job is not done, or the model attends to no pathways.
    """
    first = jobs[0]
    missing = [job.title for job in jobs if not job.folder(out).exists()]
    if missing:
        raise BadConfig(
            f"{len(missing)} of {len(jobs)} jobs have no result in {out}, first {missing[0]}",
            f"survbench run --model {first.card.name} --cohort {first.cohort.name}, with the same options",
        )
    weights = [_of_job(job, out, device) for job in track(jobs, f"{first.card.name} on {first.cohort.name}")]
    values = pd.DataFrame(weights, columns=list(first.cohort.inputs.pathways)) * len(first.cohort.inputs.pathways)
    ranks = values.rank(axis=1, ascending=False)
    table = pd.DataFrame({"mean": values.mean(), "sd": values.std(ddof=0), "top": (ranks <= ENDS).mean()})
    same_seed = [pair for pair in combinations(range(len(jobs)), 2) if jobs[pair[0]].seed == jobs[pair[1]].seed]
    correlations = values.T.corr("spearman").to_numpy()
    agreement = float(np.mean([correlations[pair] for pair in same_seed])) if same_seed else float("nan")
    return PathwayAttention(
        first.card.name,
        first.card.title,
        first.cohort.name,
        first.cohort.simulated,
        len(jobs),
        table.sort_values("mean", ascending=False),
        agreement,
    )


@torch.no_grad()
def _of_job(job: Job, out: Path, device: torch.device) -> np.ndarray:
    """(pathways,) mean over the fold's test patients, summing to 1."""
    objective = build_objective(job.objective)
    model = build_model(job, objective)
    model.load_state_dict(load_file(job.folder(out) / "model.safetensors"))
    model.to(device).eval()
    split = job.cohort.split(job.fold.test, job.cohort.scaler(job.fold))
    parts = []
    for batch in split.in_order(job.card.train_inputs):
        with autocast(device):
            attended = model.pathway_attention(device_batch(batch, device))
        if attended is None:
            raise BadConfig(f"model {job.card.name} attends to no pathways", "name one that does, such as survpath")
        parts.append(attended.double().cpu())
    return torch.cat(parts).mean(0).numpy()


def draw_pathways(found: PathwayAttention, file: Path) -> None:
    """The five most and the five least attended pathways, with the SD over folds and seeds."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    from survbench.leaderboard.board import KINDS

    ends = min(ENDS, len(found.table) // 2)
    shown = pd.concat([found.table.head(ends), found.table.tail(ends)]).iloc[::-1]
    figure, axis = plt.subplots(figsize=(7.5, 1.3 + 0.32 * len(shown)), layout="constrained")
    for part, color in ((shown.iloc[:ends], "#7f9dbb"), (shown.iloc[ends:], "#1f4e79")):
        axis.errorbar(
            part["mean"], [name[:60] for name in part.index], xerr=part["sd"], fmt="o", color=color, capsize=2
        )
    axis.axvline(1, color="0.5", linewidth=0.8, linestyle=":")
    axis.set_xlabel("attention (1 = all pathways equal), mean ± SD over folds and seeds")
    axis.set_title(
        f"{found.title} on {found.cohort} · {KINDS[found.simulated]} · folds agree with rho = {found.agreement:.2f}",
        fontsize="medium",
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)
    plt.close(figure)
