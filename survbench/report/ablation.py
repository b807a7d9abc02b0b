"""What a study found: one table, as the terminal, Markdown, CSV and a plot show it."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from survbench.evaluation.compare import Difference, mean_difference, unknown
from survbench.experiments.folders import failure_file, result_folder
from survbench.files import atomic_write
from survbench.leaderboard.aggregate import build
from survbench.leaderboard.board import KINDS, Row
from survbench.leaderboard.contrasts import difference_columns, difference_of, row_difference
from survbench.leaderboard.published import published_change, published_cindex
from survbench.report.plots.figures import save_figure, subplots, title_figure
from survbench.report.sheet import Sheet
from survbench.report.wording import DIFFERENCES, difference_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from survbench.experiments.job import Job
    from survbench.studies.ablation import Study

__all__ = [
    "read_study",
    "sheet_of",
    "study_figure",
    "study_frame",
    "study_sheet",
    "write_study",
]

MEAN = "mean"
_ARM_WIDTH = 34  # letters of an arm's name in a line of the figure


def study_frame(study: Study, jobs: Mapping[str, Sequence[Job]], out: Path) -> pd.DataFrame:
    """One row per arm and cohort, and per arm one for the mean over cohorts.

    Columns: arm, cohort, simulated, seeds, mean, sd, sd_seeds, parameters, difference (from the first arm) with low,
    high, p, patient_low, patient_high, change_percent of the mean, published, published_sd, published_change_percent,
    reason.
    """
    found = {name: _rows(arm, out) for name, arm in jobs.items()}
    first = found[study.arms[0].name]
    table: list[dict[str, Any]] = []
    for arm in (arm for arm in study.arms if arm.name in found):
        rows, differences = found[arm.name], {}
        for cohort, row in rows.items():
            differences[cohort] = row_difference(row, first[cohort]) if cohort in first else unknown("no first arm")
            table.append({"arm": arm.name, **_row(row), **_difference(differences[cohort], row is first.get(cohort))})
            published = published_cindex(study.model.name, cohort, arm.published or "cross-validation")
            if published is not None and (arm.published or arm is study.arms[0]):
                table[-1] |= {"published": published[0], "published_sd": published[1]}
        if len(rows) > 1:
            means = [row.metrics["cindex"].mean for row in rows.values()]
            complete = set(rows) == set(first)
            overall = mean_difference(list(differences.values())) if complete else unknown("a cohort is missing")
            mean, reference = math.fsum(means) / len(means), _mean(first)
            published = published_cindex(study.model.name, "average", arm.published)
            table.append(
                {"arm": arm.name, "cohort": MEAN, "simulated": table[-1]["simulated"], "mean": mean}
                | {"change_percent": 100 * (mean - reference) / reference if complete else math.nan}
                | _difference(overall, rows is first)
                | {"published": published[0] if published else math.nan}
                | {"published_change_percent": published_change(study.model.name, arm.published)}
            )
    frame = pd.DataFrame(table)
    return frame.reindex(columns=list(dict.fromkeys([*frame.columns, "published", "published_sd"])))


def study_sheet(study: Study, frame: pd.DataFrame) -> Sheet:
    """In words, for the terminal and for Markdown."""
    return sheet_of(_title(study, frame), frame)


def sheet_of(title: str, frame: pd.DataFrame) -> Sheet:
    """The same of a table that `read_study` read."""
    return Sheet(title=title, headers=STUDY_HEADERS, rows=study_cells(frame), notes=study_notes(frame), align="llr")


def study_figure(frame: pd.DataFrame, title: str = "") -> Figure:
    """Mean and SD over folds of every arm, one panel per cohort; published figures as hollow diamonds."""
    cohorts, arms = list(dict.fromkeys(frame["cohort"])), list(dict.fromkeys(frame["arm"]))
    places = {arm: -i for i, arm in enumerate(arms)}
    figure, axes = subplots(
        1,
        len(cohorts),
        figsize=(2.4 + 2.2 * len(cohorts), 1.9 + 0.36 * len(arms)),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axis, cohort in zip(axes[0], cohorts, strict=True):
        rows = frame[frame["cohort"] == cohort]
        heights = [places[arm] for arm in rows["arm"]]
        spread = rows["sd"].to_numpy(float) if "sd" in rows else math.nan
        axis.errorbar(rows["mean"], heights, xerr=spread, fmt="o", color="#1f4e79", capsize=3, label="measured")
        axis.plot(rows["published"], heights, "D", mfc="none", color="#b35900", label="published (real patients)")
        axis.axvline(0.5, color="0.75", linewidth=0.8, zorder=0)
        axis.axvline(rows["mean"].iloc[0], color="#1f4e79", linewidth=0.8, linestyle=":", zorder=0)
        axis.set_title("mean over cohorts" if cohort == MEAN else cohort)
        axis.set_xlabel("C-index")
    axes[0][0].set_yticks(list(places.values()), [textwrap.fill(arm, _ARM_WIDTH) for arm in arms])
    axes[0][0].set_ylim(0.6 - len(arms), 0.6)
    handles, labels = axes[0][0].get_legend_handles_labels()
    title_figure(figure, title)
    shown = 2 if frame["published"].notna().any() else 1
    figure.legend(handles[-shown:], labels[-shown:], loc="outside lower center", ncols=shown, fontsize="small")
    return figure


def write_study(study: Study, frame: pd.DataFrame, request: Mapping[str, Any], folder: Path) -> None:
    """table.csv, table.md, plot.png and study.json, in a folder of the study's own."""
    atomic_write(folder / "table.csv", frame.to_csv(index=False))
    atomic_write(folder / "table.md", study_sheet(study, frame).to_markdown())
    about = {
        "study": study.name,
        "title": _title(study, frame),
        "model": study.model.name,
        "arms": {a.name: dict(a.settings) for a in study.arms},
    }
    atomic_write(folder / "study.json", json.dumps({**about, **request}, indent=1, default=str))
    save_figure(study_figure(frame, f"{_title(study, frame)}; mean ± SD over folds"), folder / "plot.png")


def read_study(folder: Path) -> tuple[str, pd.DataFrame]:
    """Title and table that `write_study` left in a folder; damaged ones raise OSError, ValueError or KeyError."""
    frame = pd.read_csv(folder / "table.csv", dtype={"arm": str, "cohort": str, "simulated": str, "reason": str})
    frame = frame.assign(simulated=frame["simulated"].fillna(""), reason=frame["reason"].fillna(""))
    about = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    return str(about.get("title") or f"{about['model']}: {about['study']} · {KINDS[frame['simulated'].iloc[0]]}"), frame


STUDY_HEADERS = ("arm", "cohort", "C-index", "seeds", "difference", "change", "published", "published change")


def study_cells(frame: pd.DataFrame) -> list[tuple[str, ...]]:
    """One row of texts per arm and cohort, below `STUDY_HEADERS`."""
    rows: list[tuple[str, ...]] = []
    for row in frame.to_dict("records"):
        spread = _known(row.get("sd"))
        seeds = _known(row.get("seeds"))
        rows.append(
            (
                str(row["arm"]),
                str(row["cohort"]),
                _number(row["mean"]) + (f" ± {spread:.3f}" if spread is not None else ""),
                "" if seeds is None else str(int(seeds)),
                "" if row["first"] else difference_text(difference_of(row)),
                _percent(row.get("change_percent")),
                _number(row["published"]) + (f" ± {row['published_sd']:.3f}" if _known(row["published_sd"]) else ""),
                _percent(row.get("published_change_percent")),
            )
        )
    return rows


def _rows(jobs: Sequence[Job], out: Path) -> dict[str, Row]:
    """Rows by cohort; a cohort whose jobs failed has a row that says so."""
    places = {place for job in jobs for place in (result_folder(job, out), failure_file(job, out))}
    return {row.cohort: row for row in build(out, only=places).rows}


def _row(row: Row) -> dict[str, Any]:
    found = row.metrics["cindex"]
    return {
        "cohort": row.cohort,
        "simulated": row.simulated,
        "seeds": len(row.seeds),
        "mean": found.mean,
        "sd": found.sd,
        "sd_seeds": math.nan if found.sd_seeds is None else found.sd_seeds,
        "parameters": row.parameters,
        "as_registered": row.as_registered,
    }


def _difference(found: Difference, first: bool) -> dict[str, Any]:
    return {"first": first, **difference_columns(found), "reason": found.reason}


def _mean(rows: Mapping[str, Row]) -> float:
    return math.fsum(row.metrics["cindex"].mean for row in rows.values()) / len(rows)


def _title(study: Study, frame: pd.DataFrame) -> str:
    return f"{study.model.title}: {study.title} · {KINDS[frame['simulated'].iloc[0]]}"


def study_notes(frame: pd.DataFrame) -> list[str]:
    """What a reader must know to read the table right."""
    notes = [
        "C-index: mean ± SD (ddof 0) over folds, computed inside each fold.",
        f"difference: from '{frame['arm'].iloc[0]}', {DIFFERENCES}",
        "change: of the mean over cohorts, in percent of the first arm's, as the paper's Table 5 prints it.",
    ]
    if frame["published"].notna().any() or frame.get("published_change_percent", pd.Series(dtype=float)).notna().any():
        notes.append("published: as printed in AMKD's paper, on real patients and its own folds; never part of a mean.")
    if frame["simulated"].iloc[0]:
        notes.append(f"{KINDS[frame['simulated'].iloc[0]]}: the measured figures say nothing about a cancer.")
    registered = frame["as_registered"].iloc[0] if "as_registered" in frame else None  # unknown to older tables
    if str(registered) == "False":  # text where the table was read back
        notes.append("settings: not the registered ones (a preset or --set), for every arm; study.json has them.")
    if (frame["seeds"].dropna() < 3).any():
        notes.append("a claim needs at least 3 seeds (--seeds 0,1,2).")
    return notes


def _known(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def _number(value: Any) -> str:
    known = _known(value)
    return "" if known is None else f"{known:.3f}"


def _percent(value: Any) -> str:
    known = _known(value)
    return "" if known is None else f"{known:+.1f} %"
