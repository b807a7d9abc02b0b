"""Tables of ablations, of the map of when distillation pays and of external validation, and their files below OUT."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from survbench.evaluation.metrics import METRICS
from survbench.files import atomic_write
from survbench.leaderboard.board import KINDS
from survbench.leaderboard.paired_differences import difference_of
from survbench.leaderboard.rows import grouped
from survbench.report.columns import SCHEMA_VERSION
from survbench.report.plots.ablation import ablation_figure
from survbench.report.plots.figures import save_figure, title_figure
from survbench.report.plots.transfer import transfer_figure
from survbench.report.sheet import Look, Sheet
from survbench.report.wording import DIFFERENCES, difference_text, number_text
from survbench.studies.external_validation import ExternalRow
from survbench.studies.transfer import SETTING, Transfer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from survbench.studies.ablation import Study

__all__ = [
    "external_markdown",
    "external_tables",
    "study_sheet",
    "transfer_sheet",
    "write_study",
    "write_transfer",
]


def study_sheet(title: str, frame: pd.DataFrame) -> Sheet:
    """One row per arm and cohort of a `study_frame`."""
    rows = [
        {
            "arm": row["arm"],
            "cohort": row["cohort"],
            "C-index": _known(row["mean"]) + _known(row.get("sd"), " ± {:.3f}"),
            "seeds": _known(row.get("seeds"), "{:.0f}"),
            "difference": "" if row["first"] else difference_text(difference_of(row)),
            "change": _known(row.get("change_percent"), "{:+.1f} %"),
            "published": _known(row["published"]) + _known(row["published_sd"], " ± {:.3f}"),
            "published change": _known(row.get("published_change_percent"), "{:+.1f} %"),
        }
        for row in frame.to_dict("records")
    ]
    return _sheet(title, rows, notes=_study_notes(frame), align="llr")


def write_study(study: Study, frame: pd.DataFrame, request: Mapping[str, Any], folder: Path) -> None:
    """table.csv, table.md, plot.png and study.json, in a folder of the study's own."""
    title = study.heading(frame)
    about = {
        "schema_version": SCHEMA_VERSION,
        "study": study.name,
        "title": title,
        "model": study.model.name,
        "arms": {a.name: dict(a.settings) for a in study.arms},
    }
    atomic_write(folder / "study.json", json.dumps({**about, **request}, indent=1, default=str))
    figure = ablation_figure(frame, f"{title}; mean ± SD over folds")
    _write(folder, {"table": frame}, study_sheet(title, frame), figure)


def transfer_sheet(transfer: Transfer) -> Sheet:
    """One row per setting: C-index of every model and oracle, then the gains."""
    titles = dict(zip(transfer.curves["model"], transfer.curves["title"], strict=True))
    means = transfer.curves.groupby([*SETTING, "model"])["mean"].mean()
    rows = []
    for _, of in transfer.gains.groupby(SETTING, sort=False):
        patients, rate, trace = of[SETTING].iloc[0]
        values = [means.get((patients, rate, trace, model), math.nan) for model in titles]
        gains = of.drop_duplicates("against").set_index("against").loc[transfer.against].to_dict("records")
        texts = [difference_text(difference_of(gain)) for gain in gains]
        rows.append((f"{patients:.0f}", f"{100 * rate:.0f} %", f"{trace:g}", *map(_known, values), *texts))
    headers = ["patients", "events", "trace", *titles.values()]
    headers += [f"gain over {titles.get(other, other)}" for other in transfer.against]
    notes = [
        "simulated: every patient is invented; the figures say when a method can help, and nothing about a cancer.",
        "trace: how strongly the programmes show in slides, 1 is the demo's; with 0 slides hold nothing.",
        "oracle: the true log hazard; oracle on slides: the part of it that leaves traces.",
        f"gain: C-index, mean over {int(transfer.gains['replicates'].max())} simulated cohorts, {DIFFERENCES}",
    ]
    return Sheet(title=transfer.title, headers=headers, rows=rows, notes=notes, align="r", look=Look.SIMULATED_TITLE)


def write_transfer(transfer: Transfer, folder: Path) -> None:
    """curves.csv, gains.csv, table.md and plot.png."""
    figure = transfer_figure(transfer)
    title_figure(figure, transfer.title)
    _write(folder, {"curves": transfer.curves, "gains": transfer.gains}, transfer_sheet(transfer), figure)


def external_tables(rows: Iterable[ExternalRow], metric: str = "cindex") -> list[Sheet]:
    """One table per pair of cohorts, endpoint and kind of data, which are never mixed; with a metric beside C."""
    pairs = grouped(rows, lambda row: (row.train, row.test, row.endpoint, row.folds, row.simulated))
    return [_external_table(same, metric) for same in pairs]


def external_markdown(rows: Iterable[ExternalRow], metric: str = "cindex") -> str:
    """The tables as Markdown."""
    return "\n\n".join(table.to_markdown() for table in external_tables(rows, metric))


def _sheet(title: str, rows: Sequence[Mapping[str, str]], **looks: Any) -> Sheet:
    """A table of rows whose cells are named by their columns."""
    return Sheet(title=title, headers=tuple(rows[0]), rows=[tuple(row.values()) for row in rows], **looks)


def _write(folder: Path, frames: Mapping[str, pd.DataFrame], sheet: Sheet, figure: Figure) -> None:
    for name, frame in frames.items():
        atomic_write(folder / f"{name}.csv", frame.to_csv(index=False))
    atomic_write(folder / "table.md", sheet.to_markdown())
    save_figure(figure, folder / "plot.png")


def _study_notes(frame: pd.DataFrame) -> list[str]:
    kind = KINDS[frame["simulated"].iloc[0]]
    notes = [
        "C-index: mean ± SD (ddof 0) over folds, computed inside each fold.",
        f"difference: from '{frame['arm'].iloc[0]}', {DIFFERENCES}",
        "change: of the mean over cohorts, in percent of the first arm's, as the paper's Table 5 prints it.",
    ]
    if frame["published"].notna().any() or frame.get("published_change_percent", pd.Series(dtype=float)).notna().any():
        notes.append("published: as printed in AMKD's paper, on real patients and its own folds; never part of a mean.")
    if frame["simulated"].iloc[0]:
        notes.append(f"{kind}: the measured figures say nothing about a cancer.")
    registered = frame["as_registered"].iloc[0] if "as_registered" in frame else None  # unknown to older tables
    if str(registered) == "False":  # text where the table was read back
        notes.append("settings: not the registered ones (a preset or --set), for every arm; study.json has them.")
    if (frame["seeds"].dropna() < 3).any():
        notes.append("a claim needs at least 3 seeds (--seeds 0,1,2).")
    return notes


def _external_table(rows: Sequence[ExternalRow], metric: str) -> Sheet:
    first = rows[0]
    pair = f"trained on {first.train}, tested on {first.test} · {first.endpoint} · {first.folds} folds"
    title = f"External: {pair} · {first.kind}"
    cells, notes = [_external_cells(row, metric) for row in rows], _external_notes(rows)
    if reason := metric != "cindex" and first.metrics.get(metric, {}).get("reason"):
        notes.append(f"{METRICS[metric].title}: {reason}.")
    return _sheet(title, cells, notes=notes)


def _external_cells(row: ExternalRow, metric: str) -> dict[str, str]:
    name = row.title + (" †" if row.reconstruction else "") + (f", {row.selected}" if row.selected != "default" else "")
    each = f"{row.mean:.3f} ± {row.sd:.3f} [{row.low:.3f}, {row.high:.3f}]"
    ensemble = f"{row.ensemble:.3f} [{row.ensemble_low:.3f}, {row.ensemble_high:.3f}]"
    cells = {
        "model": name,
        "models": f"{row.models} ({row.seeds} seed{'s' if row.seeds > 1 else ''})",
        "C-index of each [95 %]": row.problem or each,
        "ensemble [95 %]": "" if row.problem else ensemble,
        "log-rank p": "" if row.problem else _known(row.logrank_p) or "undefined",
        "published": _known(row.published),
    }
    if metric != "cindex":
        of = row.metrics.get(metric)
        cells[METRICS[metric].title] = number_text(of["mean"], of["sd"]) if of else ""
    return cells


def _external_notes(rows: Sequence[ExternalRow]) -> list[str]:
    first = rows[0]
    notes = [
        f"{first.patients} patients, {first.events} events; models of all folds and seeds, frozen, with the training "
        "cohort's genes, scaler and risk cut.",
        "C-index of each: mean ± SD (ddof 0) over the models; ensemble: mean of their risks, each standardized on its "
        "own training patients. Intervals: patient bootstrap of the test cohort.",
        "log-rank p: high risk where most models say so, each by its training median.",
    ]
    shown = {row.model for row in rows if row.published is not None}
    if shown:
        notes.append("published: Table 4 of AMKD's paper, on real patients; one figure, without a spread.")
    others = {row.title: row.printed for row in rows if row.model not in shown and row.printed is not None}
    if others:
        printed = ", ".join(f"{name} {value:.3f}" for name, value in others.items())
        notes.append(f"published (Table 4 of AMKD's paper, real patients), for other settings than here: {printed}.")
    if first.simulated:
        notes.append(f"{first.kind}: the figures say nothing about a cancer.")
    notes += [
        f"{row.title}: {row.genes_absent} training genes were not measured and stand at their training mean."
        for row in rows
        if row.genes_absent
    ]
    notes += [f"{row.title}: expression of {row.test} {row.other_scale}." for row in rows if row.other_scale]
    notes += [f"† {t} is a reconstruction: {w}." for t, w in {r.title: r.reconstruction for r in rows}.items() if w]
    return notes


def _known(value: Any, form: str = "{:.3f}") -> str:
    """A number as text; empty where there is none."""
    return "" if value is None or pd.isna(value) else form.format(value)
