"""Draws the picture in the README from a written board.

python docs/images/board.py leaderboards/demo/leaderboard.csv docs/images/board.svg
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

INPUTS = {
    "wsi": ("slides", "#0072b2"),
    "omics": ("expression", "#d55e00"),
    "multimodal": ("slides and expression", "#009e73"),
    "missing": ("both in training, slides to predict", "#cc79a7"),
    "sanity": ("sanity rows", "#666666"),
}


def draw(board: Path, picture: Path) -> None:
    """A line per model: its mean C-index over the cohorts as a disc, each cohort as a tick; best first in its group."""
    rows = pd.read_csv(board)
    rows = rows[(rows["source"] == "measured") & (rows["metric"] == "cindex")]
    models = rows.groupby(["group", "title"])["mean"].agg(["mean", list]).sort_values("mean", ascending=False)
    with mpl.rc_context({"svg.hashsalt": "survbench", "font.size": 9}):  # the same file from the same board
        figure = Figure(figsize=(8.4, 6.4), layout="constrained")
        axes = figure.subplots()
        height, heights = 0.0, {}
        for group, (inputs, color) in INPUTS.items():
            members = models.loc[[group]].droplevel("group") if group in models.index else models.iloc[:0]
            for title, (mean, cohorts) in zip(members.index, members.to_numpy(), strict=True):
                heights[title] = height
                axes.plot(cohorts, [height] * len(cohorts), "|", color=color, alpha=0.6, markersize=8)
                axes.plot(mean, height, "o", color=color, label=inputs if title == members.index[0] else None)
                height += 1
            height += 0.6
        axes.axvline(0.5, color="#999999", linewidth=0.8, zorder=0)
        axes.set_yticks([*heights.values()], [*heights])
        axes.set_ylim(height - 0.6, -1)
        axes.set_xlabel(f"C-index of test patients: mean of {rows['cohort'].nunique()} cohorts, and each cohort")
        label = "demo (simulated): every patient is invented; the figures say nothing about a cancer"
        axes.set_title(label, fontsize=9, loc="left", backgroundcolor="#fff2cc")
        axes.legend(title="predicts from", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(picture, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    draw(*map(Path, sys.argv[1:]))
