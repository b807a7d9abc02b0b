"""Pathways from the most to the least important, and how far folds agree; attention ranks them here (Figure 4).

What else than attention can rank pathways is in attribution.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from survbench.console import track
from survbench.data.batches import device_batch
from survbench.errors import BadConfig
from survbench.experiments.job import Job
from survbench.experiments.results import JobResult, find_results
from survbench.files import atomic_write
from survbench.leaderboard.board import KINDS
from survbench.report.plots.figures import save_figure, subplots
from survbench.training.device import autocast

__all__ = [
    "ENDS",
    "FEWEST_AGREE",
    "PathwayRanking",
    "draw_pathways",
    "pathway_attention",
    "rank_pathways",
    "write_pathways",
]

ENDS = 5  # pathways shown at either end
FEWEST_AGREE = 0.3  # Spearman correlation between folds below which an order is mostly chance


@dataclass(frozen=True)
class PathwayRanking:
    """Pathways of one cohort as one model ranks them.

    Attributes
    ----------
    quantity : what ranks them, `attention` or `attribution`.
    table : indexed by pathway, falling; `mean` and `sd` over jobs, 1 = every pathway equal, and `top`, the share
    of jobs with it among the first five; what else the quantity has.
    agreement : mean Spearman correlation between folds of the same seed; NaN with one fold.
    """

    quantity: str
    model: str
    title: str
    cohort: str
    simulated: str
    jobs: int
    table: pd.DataFrame
    agreement: float


def rank_pathways(
    quantity: str, jobs: Sequence[Job], values: Sequence[np.ndarray], more: Mapping[str, np.ndarray] | None = None
) -> PathwayRanking:
    """From one row of non-negative values per job.

    Parameters
    ----------
    values : (pathways,) of each job, in the cohort's order; each is divided by its mean. more : further columns.
    """
    first = jobs[0]
    scaled = np.stack([row / (row.mean() or 1.0) for row in values])
    frame = pd.DataFrame(scaled, columns=list(first.cohort.inputs.pathways))
    ranks = frame.rank(axis=1, ascending=False)
    table = pd.DataFrame({"mean": frame.mean(), "sd": frame.std(ddof=0), "top": (ranks <= ENDS).mean()})
    table = table.assign(**(more or {}))
    same_seed = [pair for pair in combinations(range(len(jobs)), 2) if jobs[pair[0]].seed == jobs[pair[1]].seed]
    correlations = frame.T.corr("spearman").to_numpy()
    return PathwayRanking(
        quantity,
        first.card.name,
        first.card.title,
        first.cohort.name,
        first.cohort.simulated,
        len(jobs),
        table.sort_values("mean", ascending=False, kind="stable"),
        float(np.mean([correlations[pair] for pair in same_seed])) if same_seed else float("nan"),
    )


def pathway_attention(jobs: Sequence[Job], out: Path, device: torch.device) -> PathwayRanking:
    """Of one model's finished jobs on one cohort, each asked about its own test patients.

    Raises
    ------
    BadConfig : a job is not done, or the model attends to no pathways.
    """
    pairs = list(zip(jobs, find_results(jobs, out), strict=True))
    weights = [_of_job(*pair, device) for pair in track(pairs, f"{jobs[0].card.name} on {jobs[0].cohort.name}")]
    return rank_pathways("attention", jobs, weights)


@torch.no_grad()
def _of_job(job: Job, result: JobResult, device: torch.device) -> np.ndarray:
    """(pathways,) mean over the fold's test patients, summing to 1."""
    model, _ = result.load_model(device, job=job)
    split = job.cohort.split(job.fold.test, job.cohort.scaler(job.fold))
    parts = []
    for batch in split.in_order(job.card.train_inputs):
        with autocast(device):
            attended = model.pathway_attention(device_batch(batch, device))
        if attended is None:
            raise BadConfig(f"model {job.card.name} attends to no pathways", "name one that does")
        parts.append(attended.double().cpu())
    return torch.cat(parts).mean(0).numpy()


def write_pathways(found: PathwayRanking, file: Path) -> None:
    """All pathways as CSV; each row says of what it is."""
    table = found.table.assign(
        model=found.model, cohort=found.cohort, quantity=found.quantity, jobs=found.jobs, data=KINDS[found.simulated]
    )
    atomic_write(file, table.to_csv(index_label="pathway", lineterminator="\n"))


def draw_pathways(found: PathwayRanking, file: Path) -> None:
    """The first five and the last five pathways, with the SD over folds and seeds."""
    ends = min(ENDS, len(found.table) // 2)
    shown = pd.concat([found.table.head(ends), found.table.tail(ends)]).iloc[::-1]
    figure, axis = subplots(figsize=(7.5, 1.5 + 0.32 * len(shown)))
    parts = ((shown.iloc[:ends], "#e69f00", f"{ends} least"), (shown.iloc[ends:], "#0072b2", f"{ends} most"))
    for part, color, label in reversed(parts):
        places = [list(shown.index).index(name) for name in part.index]
        axis.errorbar(part["mean"], places, xerr=part["sd"], fmt="o", color=color, capsize=2, label=label)
    axis.set_yticks(range(len(shown)), [name[:60] for name in shown.index])
    axis.axhline(ends - 0.5, color="0.8", linewidth=0.8)
    axis.axvline(1, color="0.5", linewidth=0.8, linestyle=":")
    axis.legend(frameon=False, fontsize="small", loc="lower right")
    axis.set_xlabel(f"{found.quantity} (1 = all pathways equal), mean ± SD over {found.jobs} folds and seeds")
    agree = "one model alone" if np.isnan(found.agreement) else f"folds agree with rho = {found.agreement:.2f}"
    axis.set_title(f"{found.title} on {found.cohort} · {KINDS[found.simulated]}\n{agree}", fontsize="medium")
    save_figure(figure, file)
