"""Kaplan-Meier curves of the risk groups, one figure per row of a leaderboard as in the paper's Figure 2.

High risk is a risk above the median of the fold's training patients; the curves are of the test patients of all folds.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from survbench.evaluation.groups import LogRank, logrank, stratified_logrank
from survbench.files import plain
from survbench.leaderboard.board import Leaderboard, Row
from survbench.leaderboard.published import published_logrank
from survbench.report.columns import p_text
from survbench.report.plots.figures import file_name, save_figure, subplots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

__all__ = [
    "group_handles",
    "group_sizes",
    "logrank_text",
    "plot_curves",
    "plot_risk_groups",
    "risk_figure",
    "risk_groups",
]

_GROUPS = ((False, "low risk", "#1f4e79"), (True, "high risk", "#b3261e"))


def risk_groups(row: Row, seed: int) -> tuple[pd.DataFrame, LogRank, LogRank]:
    """Test patients of all folds (patient, fold, time, event, high); pooled and fold-stratified log-rank test."""
    tests = [table.assign(fold=fold) for (of, fold), table in sorted(row.tests.items()) if of == seed]
    patients = pd.concat(tests, ignore_index=True)
    time, event, high, fold = (patients[c].to_numpy() for c in ("time", "event", "high", "fold"))
    return patients, logrank(time, event, high), stratified_logrank(time, event, high, fold)


def plot_curves(patients: pd.DataFrame, above: Axes, below: Axes) -> None:
    """Kaplan-Meier curves of both groups into `above`, and how many are at risk into `below`; the legend is left."""
    marks = np.linspace(0, patients["time"].max(), 6)
    for place, ((high, _, color), (label, size, events)) in enumerate(zip(_GROUPS, group_sizes(patients), strict=True)):
        group = patients[patients["high"] == high]
        _curve(above, group, f"{label} ({size}, {events} events)", color)
        for mark in marks:
            below.text(mark, place, str(int((group["time"] >= mark).sum())), ha="center", va="center", color=color)
    above.set_ylim(0, 1.02)
    below.set_yticks([0, 1], [label for _, label, _ in _GROUPS])
    below.tick_params(left=False)  # a tick before a number reads as a minus
    for text, (*_, color) in zip(below.get_yticklabels(), _GROUPS, strict=True):
        text.set_color(color)
    below.set_ylim(1.6, -0.6)
    below.spines[["top", "right", "left"]].set_visible(False)


def group_sizes(patients: pd.DataFrame) -> list[tuple[str, int, int]]:
    """Name, patients and events of both groups."""
    groups = [(label, patients[patients["high"] == high]) for high, label, _ in _GROUPS]
    return [(label, len(group), int(group["event"].sum())) for label, group in groups]


def group_handles() -> list[Line2D]:
    """For a legend of both groups, whether or not anybody is in them."""
    from matplotlib.lines import Line2D

    return [Line2D([], [], color=color, label=label) for _, label, color in _GROUPS]


def plot_risk_groups(board: Leaderboard, folder: Path) -> list[dict[str, Any]]:
    """One figure of every row that has not failed, written into a folder.

    Returns
    -------
    One record per figure: model, cohort, seed, patients and events per group, p pooled, stratified, published, file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for table in board.tables:
        for line in table.lines:
            for row in (row for row in line.rows.values() if not row.failed):
                name = file_name("km", row.model, line.variant, row.cohort, table.endpoint, table.folds)
                file = save_figure(risk_figure(row, line.variant), folder / name)
                records.append({**_record(row, line.variant), "file": str(file)})
    return records


def risk_figure(row: Row, variant: str = "") -> Figure:
    """Curves of a row's first seed, numbers at risk, both tests and the published p."""
    seed = row.seeds[0]
    patients, pooled, stratified = risk_groups(row, seed)
    figure, (above, below) = subplots(2, 1, figsize=(5.6, 5.2), height_ratios=(5, 1), sharex=True)
    plot_curves(patients, above, below)
    above.legend(loc="lower left", fontsize="small")
    above.set_ylabel("survival")
    title = f"{row.title}{f' ({variant})' if variant else ''} on {row.cohort} · {row.kind}"
    above.set_title(title, fontsize="medium")
    published = _published(row)
    beside = "" if published is None else f"; published {p_text(published, 1)}"
    tests = f"log-rank p: {logrank_text(stratified)} stratified by fold\n{logrank_text(pooled)} pooled{beside}"
    above.text(0.98, 0.97, tests, transform=above.transAxes, ha="right", va="top", fontsize="small")
    endpoint = row.identity["endpoint"]
    below.set_xlabel(f"months · number at risk above; {endpoint}, seed {seed}, test patients of all folds")
    return figure


def _published(row: Row) -> float | None:
    return published_logrank(row.model, row.cohort) if row.as_registered and row.of_the_paper else None


def _record(row: Row, variant: str) -> dict[str, Any]:
    patients, pooled, stratified = risk_groups(row, row.seeds[0])
    sizes = {label.split()[0]: {"patients": size, "events": events} for label, size, events in group_sizes(patients)}
    return {
        "model": row.model,
        "variant": variant,
        "cohort": row.cohort,
        "seed": row.seeds[0],
        "simulated": bool(row.simulated),
        **sizes,
        "p_pooled": plain(pooled.p),
        "p_stratified": plain(stratified.p),
        "reason": pooled.reason or stratified.reason,
        "p_published": _published(row),
    }


def _curve(axis: Axes, group: pd.DataFrame, label: str, color: str) -> None:
    """Kaplan-Meier with a log-log 95 % band; ticks where patients were censored."""
    from sksurv.nonparametric import kaplan_meier_estimator

    if group.empty:
        return
    time, event = group["time"].to_numpy(float), group["event"].to_numpy(bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        at, survival, band = kaplan_meier_estimator(event, time, conf_type="log-log")
    steps = np.isin(at, time[event]) | (at == at[-1])  # in between nothing changes
    x, y = np.concatenate([[0.0], at[steps]]), np.concatenate([[1.0], survival[steps]])
    axis.step(x, y, where="post", color=color, label=label)
    low, high = (np.concatenate([[1.0], np.nan_to_num(edge[steps], nan=1.0)]) for edge in band)
    axis.fill_between(x, low, high, step="post", color=color, alpha=0.15, linewidth=0)
    censored = np.unique(time[~event])
    heights = survival[np.searchsorted(at, censored)]
    ticks = np.stack([heights - 0.012, heights + 0.012, np.full(len(censored), np.nan)], axis=1)
    axis.plot(np.repeat(censored, 3), ticks.ravel(), "-", color=color, linewidth=0.8)


def logrank_text(test: LogRank) -> str:
    """Its p, or why there is none."""
    return test.reason or p_text(test.p, 1)
