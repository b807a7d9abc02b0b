"""The figure of when distillation pays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from survbench.report.plots.figures import subplots

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from survbench.studies.transfer import Transfer

__all__ = ["transfer_figure"]

# Colors that the page knows in light and dark.
_STYLES = (("#2a7a4b", "s-"), ("#b35900", "^-"), ("#1f4e79", "o-"), ("#1f2933", ":"), ("#808080", "--"))


def transfer_figure(transfer: Transfer) -> Figure:
    """C-index and the gain over the undistilled student against the strength of the traces.

    One column of panels per size and event rate. Above with standard errors, below with both 95 % intervals.
    """
    gains = transfer.gains[transfer.gains["against"] == transfer.against[-1]]
    panels: list[tuple[Any, pd.DataFrame]] = list(transfer.curves.groupby(["patients", "event_rate"], sort=False))
    size = (1.2 + 2.7 * len(panels), 6.2)
    figure, (above, below) = subplots(2, len(panels), figsize=size, sharex=True, sharey="row", squeeze=False)
    for upper, lower, ((patients, rate), curves) in zip(above, below, panels, strict=True):
        _plot_curves(upper, curves)
        upper.set_title(f"{patients} patients, {100 * rate:.0f} % die", fontsize="medium")
        _plot_gains(lower, gains[gains["patients"].eq(patients) & gains["event_rate"].eq(rate)].sort_values("trace"))
    above[0].set_ylabel("C-index")
    below[0].set_ylabel("gain over the undistilled student")
    below[0].legend(fontsize="small")
    handles, labels = above[0].get_legend_handles_labels()
    columns = min(5, 1 + len(panels))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize="small")
    return figure


def _plot_curves(axis: Axes, curves: pd.DataFrame) -> None:
    """One line per model; its error bar is the standard error over replicates' means, or over folds with one."""
    for (_, of), (color, style) in zip(curves.groupby(["model", "title"], sort=False), _STYLES, strict=False):
        traces = of.groupby("trace")
        means, count = traces["mean"].mean(), traces["mean"].count()
        spread = (
            traces["mean"].std(ddof=1) / np.sqrt(count) if (count > 1).all() else traces["sd"].mean() / math.sqrt(5)
        )
        label = of["title"].iloc[0]
        axis.errorbar(means.index, means, yerr=spread, fmt=style, color=color, label=label, markersize=4, capsize=2)
    axis.axhline(0.5, color="#bfbfbf", linewidth=0.8, zorder=0)


def _plot_gains(axis: Axes, gains: pd.DataFrame) -> None:
    axis.fill_between(gains["trace"], gains["low"], gains["high"], color="#1f4e79", alpha=0.15, label="95 %, folds")
    bars = [gains["difference"] - gains["patient_low"], gains["patient_high"] - gains["difference"]]
    axis.errorbar(gains["trace"], gains["difference"], yerr=bars, fmt="o-", color="#1f4e79", label="95 %, patients")
    axis.axhline(0, color="#808080", linewidth=0.8)
    axis.set_xlabel("strength of the traces in slides")
