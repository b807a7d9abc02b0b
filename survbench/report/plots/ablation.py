"""The figure of an ablation: mean and SD over folds of every arm."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from survbench.report.plots.figures import subplots, title_figure
from survbench.studies.ablation import MEAN

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["ablation_figure"]

_ARM_WIDTH = 34  # letters of an arm's name in a line


def ablation_figure(frame: pd.DataFrame, title: str = "") -> Figure:
    """One panel per cohort of a `study_frame`; published C-indices as hollow diamonds."""
    cohorts, arms = list(dict.fromkeys(frame["cohort"])), list(dict.fromkeys(frame["arm"]))
    heights = {arm: -i for i, arm in enumerate(arms)}
    size = (2.4 + 2.2 * len(cohorts), 1.9 + 0.36 * len(arms))
    figure, ((first, *others),) = subplots(1, len(cohorts), figsize=size, sharex=True, sharey=True, squeeze=False)
    for axis, cohort in zip((first, *others), cohorts, strict=True):
        rows = frame[frame["cohort"] == cohort]
        places = rows["arm"].map(heights)
        spread = rows["sd"].to_numpy(float) if "sd" in rows else math.nan
        axis.errorbar(rows["mean"], places, xerr=spread, fmt="o", color="#1f4e79", capsize=3, label="measured")
        axis.plot(rows["published"], places, "D", mfc="none", color="#b35900", label="published (real patients)")
        axis.axvline(0.5, color="0.75", linewidth=0.8, zorder=0)
        axis.axvline(rows["mean"].iloc[0], color="#1f4e79", linewidth=0.8, linestyle=":", zorder=0)
        axis.set_title("mean over cohorts" if cohort == MEAN else cohort)
        axis.set_xlabel("C-index")
    first.set_yticks(list(heights.values()), [textwrap.fill(arm, _ARM_WIDTH) for arm in arms])
    first.set_ylim(0.6 - len(arms), 0.6)
    title_figure(figure, title)
    shown = 2 if frame["published"].notna().any() else 1
    handles, labels = (of[-shown:] for of in first.get_legend_handles_labels())
    figure.legend(handles, labels, loc="outside lower center", ncols=shown, fontsize="small")
    return figure
