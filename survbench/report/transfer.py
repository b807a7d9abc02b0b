"""The map of when distillation pays: a model against its teacher, its undistilled student and the truth.

Every cohort is simulated and says so. Intervals are over cohorts, folds and patients as in `evaluation/compare`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from survbench.evaluation.compare import mean_difference
from survbench.evaluation.metrics import harrell
from survbench.experiments.folders import result_folder
from survbench.files import atomic_write
from survbench.leaderboard.aggregate import build
from survbench.leaderboard.board import Row
from survbench.leaderboard.contrasts import difference_columns, difference_of, row_difference
from survbench.report.plots.figures import save_figure, subplots, title_figure
from survbench.report.sheet import Look, Sheet
from survbench.report.wording import DIFFERENCES, difference_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from survbench.cards import ModelCard
    from survbench.data.root import DataRoot
    from survbench.experiments.job import Job
    from survbench.studies.transfer import Cell

__all__ = [
    "Transfer",
    "curves_frame",
    "gains_frame",
    "read_transfer",
    "transfer_cells",
    "transfer_figure",
    "transfer_sheet",
    "write_transfer",
]

ORACLE, SLIDES_ORACLE = "oracle", "oracle on slides"
_SETTING = ["patients", "event_rate", "trace"]


def _rows(jobs: Mapping[Cell, Sequence[Job]], out: Path) -> dict[Cell, dict[str, Row]]:
    folders = {result_folder(job, out) for of in jobs.values() for job in of}
    board = build(out, only=folders)
    by_cohort = {cell.cohort: cell for cell in jobs}
    found: dict[Cell, dict[str, Row]] = {cell: {} for cell in jobs}
    for row in board.rows:
        found[by_cohort[row.cohort]][row.model] = row
    return found


def curves_frame(jobs: Mapping[Cell, Sequence[Job]], root: DataRoot, out: Path) -> pd.DataFrame:
    """One row per cohort and model, oracles included.

    Columns: patients, event_rate, trace, replicate, model, title, mean, sd (over folds).
    """
    table = []
    order = list(dict.fromkeys(job.card.name for of in jobs.values() for job in of))
    for cell, rows in _rows(jobs, out).items():
        about = {**{key: getattr(cell, key) for key in _SETTING}, "replicate": cell.replicate}
        for name, row in sorted(rows.items(), key=lambda item: order.index(item[0])):
            summary = row.metrics["cindex"]
            table.append({**about, "model": name, "title": row.title, "mean": summary.mean, "sd": summary.sd})
        if rows:
            for name, per_fold in _oracles(cell, next(iter(rows.values())), root).items():
                values = np.array(per_fold)
                table.append({**about, "model": name, "title": name, "mean": values.mean(), "sd": values.std()})
    return pd.DataFrame(table)


def _oracles(cell: Cell, row: Row, root: DataRoot) -> dict[str, list[float]]:
    """C of the true log hazard, and of its part that slides can show, in each test fold."""
    folder = root.cohort(cell.cohort).path
    truth = pd.read_csv(folder / "truth.csv").set_index("patient")
    about = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    seen = sum(truth[name] * about["programmes"][name]["log_hazard_ratio"] for name in about["traced"])
    risks = {ORACLE: truth["true_log_hazard"], SLIDES_ORACLE: seen if cell.trace > 0 else 0 * truth["true_log_hazard"]}
    tests = [row.tests[row.seeds[0], fold] for fold in sorted({fold for _, fold in row.tests})]
    return {
        name: [harrell(t["time"].to_numpy(), t["event"].to_numpy(), risk[t["patient"]].to_numpy()).value for t in tests]
        for name, risk in risks.items()
    }


def gains_frame(jobs: Mapping[Cell, Sequence[Job]], model: str, against: Sequence[str], out: Path) -> pd.DataFrame:
    """One row per setting and model compared with: the difference's mean over replicates, with both intervals."""
    rows = _rows(jobs, out)
    settings = dict.fromkeys(tuple(getattr(cell, key) for key in _SETTING) for cell in jobs)
    table = []
    for setting in settings:
        cells = [cell for cell in jobs if tuple(getattr(cell, key) for key in _SETTING) == setting]
        for other in against:
            pairs = [(rows[cell].get(model), rows[cell].get(other)) for cell in cells]
            found = [row_difference(a, b) for a, b in pairs if a is not None and b is not None]
            gain = mean_difference(found)
            about = {"against": other, "replicates": len(found), "clear": gain.clear, "reason": gain.reason}
            table.append({**dict(zip(_SETTING, setting, strict=True)), **about, **difference_columns(gain)})
    return pd.DataFrame(table)


def write_transfer(
    jobs: Mapping[Cell, Sequence[Job]], card: ModelCard, root: DataRoot, out: Path, folder: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """curves.csv, gains.csv, table.md and plot.png; returns curves and gains."""
    curves, gains = curves_frame(jobs, root, out), gains_frame(jobs, card.name, card.beside, out)
    atomic_write(folder / "curves.csv", curves.to_csv(index=False))
    atomic_write(folder / "gains.csv", gains.to_csv(index=False))
    atomic_write(folder / "table.md", transfer_sheet(curves, gains, card.title).to_markdown())
    figure = transfer_figure(curves, gains, card.beside[-1])
    title_figure(figure, _title(card.title))
    save_figure(figure, folder / "plot.png")
    return curves, gains


@dataclass(frozen=True)
class Transfer:
    """What `write_transfer` left in a folder. student : the model without distillation, which the gain is over."""

    model: str
    curves: pd.DataFrame
    gains: pd.DataFrame
    student: str

    @property
    def title(self) -> str:
        return _title(self.model)


def read_transfer(folder: Path) -> Transfer:
    """Back from a folder; damaged tables raise OSError, ValueError or KeyError."""
    curves = pd.read_csv(folder / "curves.csv")
    gains = pd.read_csv(folder / "gains.csv", dtype={"reason": str})
    gains = gains.assign(reason=gains["reason"].fillna(""))
    against = list(dict.fromkeys(gains["against"]))
    titles = dict(zip(curves["model"], curves["title"], strict=True))
    (model,) = (name for name in titles if name not in (*against, ORACLE, SLIDES_ORACLE))
    return Transfer(titles[model], curves, gains, against[-1])


def _title(model: str) -> str:
    return f"When does distillation pay? {model} on simulated cohorts"


def transfer_sheet(curves: pd.DataFrame, gains: pd.DataFrame, model: str) -> Sheet:
    """In words, for the terminal and for Markdown."""
    headers, lines = transfer_cells(curves, gains)
    return Sheet(
        title=_title(model),
        headers=headers,
        rows=lines,
        notes=transfer_notes(gains),
        align="r",
        look=Look.SIMULATED_TITLE,
    )


def transfer_cells(curves: pd.DataFrame, gains: pd.DataFrame) -> tuple[list[str], list[tuple[str, ...]]]:
    """Headers, and one row of texts per setting: C-index of every model and oracle, then the gains."""
    titles = dict(zip(curves["model"], curves["title"], strict=True))
    against = list(dict.fromkeys(gains["against"]))
    means = curves.groupby([*_SETTING, "model"])["mean"].mean()
    lines = []
    for setting, of in gains.groupby(_SETTING, sort=False):
        patients, rate, trace = (float(value) for value in np.atleast_1d(np.array(setting)))
        values = [means.get((patients, rate, trace, model), math.nan) for model in titles]
        texts = [difference_text(difference_of(of[of["against"] == other].iloc[0])) for other in against]
        figures = ["" if math.isnan(v) else f"{v:.3f}" for v in values]
        lines.append((f"{patients:.0f}", f"{100 * rate:.0f} %", f"{trace:g}", *figures, *texts))
    gain_headers = [f"gain over {titles.get(other, other)}" for other in against]
    return ["patients", "events", "trace", *titles.values(), *gain_headers], lines


def transfer_notes(gains: pd.DataFrame) -> list[str]:
    """What a reader must know to read the table right."""
    return [
        "simulated: every patient is invented; the figures say when a method can help, and nothing about a cancer.",
        "trace: how strongly the programmes show in slides, 1 is the demo's; with 0 slides hold nothing.",
        "oracle: the true log hazard; oracle on slides: the part of it that leaves traces.",
        f"gain: C-index, mean over {int(gains['replicates'].max())} simulated cohorts, {DIFFERENCES}",
    ]


def transfer_figure(curves: pd.DataFrame, gains: pd.DataFrame, student: str) -> Figure:
    """C-index and the gain over the undistilled student against the strength of the traces.

    One column of panels per size and event rate. Above with standard errors, below with both 95 % intervals.
    """
    panels = list(dict.fromkeys(zip(curves["patients"], curves["event_rate"], strict=True)))
    figure, axes = subplots(
        2, len(panels), figsize=(1.2 + 2.7 * len(panels), 6.2), sharex=True, sharey="row", squeeze=False
    )
    for column, (patients, rate) in enumerate(panels):
        here = curves[(curves["patients"] == patients) & (curves["event_rate"] == rate)]
        _curves(axes[0][column], here)
        axes[0][column].set_title(f"{patients} patients, {100 * rate:.0f} % die", fontsize="medium")
        gain = gains[(gains["patients"] == patients) & (gains["event_rate"] == rate) & (gains["against"] == student)]
        gain = gain.sort_values("trace")
        below = axes[1][column]
        below.fill_between(gain["trace"], gain["low"], gain["high"], color="#1f4e79", alpha=0.15, label="95 %, folds")
        bars = [gain["difference"] - gain["patient_low"], gain["patient_high"] - gain["difference"]]
        below.errorbar(gain["trace"], gain["difference"], yerr=bars, fmt="o-", color="#1f4e79", label="95 %, patients")
        below.axhline(0, color="#808080", linewidth=0.8)
        below.set_xlabel("strength of the traces in slides")
    axes[0][0].set_ylabel("C-index")
    axes[1][0].set_ylabel("gain over the undistilled student")
    axes[1][0].legend(fontsize="small")
    figure.legend(
        *axes[0][0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=min(5, 1 + len(panels)),
        fontsize="small",
    )
    return figure


# Colors that the page knows in light and dark.
_STYLES = (("#2a7a4b", "s-"), ("#b35900", "^-"), ("#1f4e79", "o-"), ("#1f2933", ":"), ("#808080", "--"))


def _curves(axis: Any, here: pd.DataFrame) -> None:
    """One line per model; its error bar is the standard error over replicates' means, or over folds with one."""
    models = list(dict.fromkeys(here["model"]))
    for model, (color, style) in zip(models, _STYLES, strict=False):
        of = here[here["model"] == model].groupby("trace")
        means, count = of["mean"].mean(), of["mean"].count()
        spread = of["mean"].std(ddof=1) / np.sqrt(count) if (count > 1).all() else of["sd"].mean() / math.sqrt(5)
        title = here.loc[here["model"] == model, "title"].iloc[0]
        axis.errorbar(means.index, means, yerr=spread, fmt=style, color=color, label=title, markersize=4, capsize=2)
    axis.axhline(0.5, color="#bfbfbf", linewidth=0.8, zorder=0)
