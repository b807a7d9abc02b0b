"""Pathways from the most to the least important, and how far folds agree; attention ranks them here (Figure 4).

What else than attention can rank pathways is in attribution.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

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
from survbench.report.plots.figures import subplots
from survbench.training.device import autocast

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "ENDS",
    "FEWEST_AGREE",
    "PathwayRanking",
    "pathway_attention",
    "rank_pathways",
    "ranking_figure",
    "write_pathways",
]

ENDS = 5  # pathways shown at either end
FEWEST_AGREE = 0.3  # Spearman correlation between folds below which an order is mostly chance


@dataclass(frozen=True, kw_only=True)
class PathwayRanking:
    """Pathways of one cohort as one model ranks them.

    Attributes
    ----------
    quantity : what ranks them, `attention` or `attribution`.
    model : its name.
    title : the model's for tables and figures.
    cohort : its name.
    simulated : empty, `slides` or `all`: how much of the cohort is simulated.
    jobs : how many folds and seeds.
    table : indexed by pathway, falling; `mean` and `sd` over jobs, 1 = every pathway equal, and `top`, the share of
        jobs with it among the first five; what else the quantity has.
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

    def ends(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The first and the last rows of the table, five of each at most."""
        size = min(ENDS, len(self.table) // 2)
        return self.table.head(size), self.table.tail(size)


def rank_pathways(
    quantity: str, jobs: Sequence[Job], values: Sequence[np.ndarray], more: Mapping[str, np.ndarray] | None = None
) -> PathwayRanking:
    """From one row of non-negative values per job.

    Parameters
    ----------
    quantity : `attention` or `attribution`.
    jobs : of one model on one cohort.
    values : (pathways,) of each job, in the cohort's order; each is divided by its mean.
    more : further columns of the table by name, (pathways,) each.
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
        quantity=quantity,
        model=first.card.name,
        title=first.card.title,
        cohort=first.cohort.name,
        simulated=first.cohort.simulated,
        jobs=len(jobs),
        table=table.sort_values("mean", ascending=False, kind="stable"),
        agreement=float(np.mean([correlations[pair] for pair in same_seed])) if same_seed else float("nan"),
    )


def pathway_attention(jobs: Sequence[Job], out: Path, device: torch.device) -> PathwayRanking:
    """Mean attention to each pathway over the test patients of each job.

    Parameters
    ----------
    jobs : finished, of one model on one cohort.
    out : folder of the results.
    device : to predict on.

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


def write_pathways(ranking: PathwayRanking, file: Path) -> None:
    """All pathways as CSV; each row names model, cohort and data."""
    fields = {key: getattr(ranking, key) for key in ("model", "cohort", "quantity", "jobs")}
    table = ranking.table.assign(**fields, data=KINDS[ranking.simulated])
    atomic_write(file, table.to_csv(index_label="pathway", lineterminator="\n"))


def ranking_figure(ranking: PathwayRanking) -> Figure:
    """The first five and the last five pathways, with the SD over folds and seeds."""
    most, least = ranking.ends()
    names = [*least.index[::-1], *most.index[::-1]]  # from below
    figure, axis = subplots(figsize=(7.5, 1.5 + 0.32 * len(names)))
    for part, color, end in ((most, "#0072b2", "most"), (least, "#e69f00", "least")):
        places, label = [names.index(name) for name in part.index], f"{len(part)} {end}"
        axis.errorbar(part["mean"], places, xerr=part["sd"], fmt="o", color=color, capsize=2, label=label)
    axis.set_yticks(range(len(names)), [name[:60] for name in names])
    axis.axhline(len(least) - 0.5, color="0.8", linewidth=0.8)
    axis.axvline(1, color="0.5", linewidth=0.8, linestyle=":")
    axis.legend(frameon=False, fontsize="small", loc="lower right")
    axis.set_xlabel(f"{ranking.quantity} (1 = all pathways equal), mean ± SD over {ranking.jobs} folds and seeds")
    agree = "one model alone" if np.isnan(ranking.agreement) else f"folds agree with rho = {ranking.agreement:.2f}"
    axis.set_title(f"{ranking.title} on {ranking.cohort} · {KINDS[ranking.simulated]}\n{agree}", fontsize="medium")
    return figure
