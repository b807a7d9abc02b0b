"""What the page says about one table of the leaderboard: words, numbers and figures, ready for the template.

The template knows only these; nothing is computed here that the leaderboard's own modules can compute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from survbench.data.folds import FEW_EVENTS, FEW_PAIRS
from survbench.evaluation.metrics import METRICS
from survbench.experiments.results import JobResult
from survbench.leaderboard.board import Column, Table
from survbench.leaderboard.comparison import MEAN, Comparison
from survbench.report.page import charts
from survbench.report.page.charts import COSTS, Cost
from survbench.report.page.differences import Resampling, best_line, matrices, pairs_data, ranks_by_title
from survbench.report.page.provenance import provenance, seconds_per_job
from survbench.report.page.tables import model_table
from survbench.report.wording import APART, GROUPS, apart, contrast_rows, footnotes, line_name, simulation

__all__ = ["MOST_COMPARED", "MOST_FIGURES", "duration", "section"]

MOST_FIGURES = 40
MOST_COMPARED = 60  # a matrix of more is no longer read by anybody
_BEST_RULE = (
    "A figure is bold and green only where its model is told apart from every other model of that column, with both "
    "intervals and after Holm's correction; mostly none is. In brackets 95 % of a patient bootstrap inside folds "
    "(patients) and of a corrected resampled t over folds (folds)."
)
_FOLD_RULE = (
    f"Below {FEW_EVENTS} events or {FEW_PAIRS} comparable pairs a fold says little by itself; such cells are marked ‡."
)


def section(
    table: Table,
    metric: str,
    place: int,
    compared: Comparison | None,
    resampling: Resampling,
    jobs: Mapping[int, Sequence[JobResult]],
    advance: Callable[[str], None],
) -> dict[str, Any]:
    """Everything about one table, by the names that the template uses.

    Parameters
    ----------
    compared : all pairs of its models, if there are any. resampling : the draws that they were made from.
    jobs : of each row, from `provenance.jobs_of`. advance : told of every step that takes time.
    """
    identifier = f"table-{place}"
    others = [name for name in METRICS if name != metric and METRICS[name].larger_is_better is not None]
    best = {label: best_line(compared, label) for label in (*_labels(table), MEAN)} if metric == "cindex" else {}
    about = provenance(table, jobs)
    found: dict[str, Any] = {
        "id": identifier,
        "title": _title(table),
        "short": f"{table.endpoint} · {table.folds}",
        "kind": table.kind,
        "mark": "" if table.simulated == "" else table.kind,
        "simulation": " ".join(simulation(table)),
        "view": model_table(table, metric, resampling.interval, best),
        "others": [model_table(table, name, resampling.interval, {}) for name in others],
        "best_rule": _BEST_RULE if metric == "cindex" else "",
        "footnotes": footnotes(table, metric),
        "apart": APART,
        "apart_headers": ["model", "figure", *_labels(table)],
        "apart_rows": [(b.name, f.label, *f.cells) for b in apart(table, metric) for f in b.figures],
        "jobs_said": f"{about.jobs} jobs, {duration(about.seconds)} of computing",
        "facts": about.facts,
        "cohort_headers": list(about.cohorts[0]) if about.cohorts else [],
        "cohorts": [tuple(cohort.values()) for cohort in about.cohorts],
    }
    advance("differences and ranks")
    found |= _differences(compared, table) | _ranks(compared, table, identifier)
    advance("costs")
    found |= _costs(table, jobs, resampling, identifier)
    found |= _figures(table, identifier, advance) | _folds(table)
    return found | {"contents": _contents(found)}


def duration(seconds: float) -> str:
    """`4 h 5 min`, `12 min`, `40 s`."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if seconds >= 60 else f"{seconds:.0f} s"


def _title(table: Table) -> str:
    """Without what a mark beside it says."""
    version = f" · protocol version {table.protocol_version}" if table.protocol_version != 1 else ""
    return f"{table.endpoint} · {table.folds} folds{version}" + (f" · {table.kind}" if table.simulated == "" else "")


def _labels(table: Table) -> list[str]:
    return [column.label for column in table.columns]


def _contents(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    parts = {
        "models": ("Models", True),
        "differences": ("Differences", found["contrasts"] or found["matrices"] or found["pairs_reason"]),
        "ranks": ("Ranks", found["ranks"]),
        "costs": ("Costs", found["costs"]),
        "figures": ("Risk groups, calibration", found["figures"]),
        "folds": ("Folds", found["folds"]),
        "provenance": ("Provenance", True),
    }
    return [(f"{found['id']}-{key}", name) for key, (name, there) in parts.items() if there]


def _differences(found: Comparison | None, table: Table) -> dict[str, Any]:
    """The pairs that the cards ask for, and all pairs, where there are two models and not too many."""
    models = len({line.model for line in table.lines})
    reason = "" if models <= MOST_COMPARED else f"{models} models are too many for a matrix; choose some with --model"
    if models < 2:
        reason = "there is one model only, and nothing to compare it with"
    shown = found if not reason else None
    found_matrices = list(matrices(shown)) if shown else []
    if shown and not found_matrices:
        reason = f"undefined, {shown.differences[0].found.reason}"
    return {
        "contrasts": contrast_rows(table),
        "contrast_headers": ["models", "cohort", "difference"],
        "pairs_reason": reason,
        "pairs_notes": shown.notes if shown else (),
        "matrices": found_matrices,
        "pairs_data": pairs_data(shown) if shown else {},
    }


def _ranks(found: Comparison | None, table: Table, identifier: str) -> dict[str, Any]:
    if found is None or found.ranks is None:
        return {"ranks": None}
    return {"ranks": charts.ranks_drawing(ranks_by_title(found.ranks, found.lines), f"{identifier}-rank", table.kind)}


def _costs(
    table: Table, jobs: Mapping[int, Sequence[JobResult]], resampling: Resampling, identifier: str
) -> dict[str, Any]:
    """Of the lines with a figure on every cohort, so that all points are means of the same things."""
    points: list[Cost] = []
    for line in table.lines:
        rows = [line.rows[c] for c in table.columns if c in line.rows]
        score = line.average("cindex", table.columns) if len(table.columns) > 1 else rows[0].metrics["cindex"].mean
        if score is None or math.isnan(score):
            continue
        low, high = resampling.mean_interval(rows)
        values = {
            "parameters": max((r.parameters for r in rows if r.parameters is not None), default=None),
            "flops": max((r.fvcore_flops for r in rows if r.fvcore_flops is not None), default=None),
            "seconds": seconds_per_job(line, jobs),
        }
        points.append(Cost(len(points) + 1, line_name(line), line.group, score, low, high, values))
    about = MEAN if len(table.columns) > 1 else table.columns[0].label
    return {
        "costs": charts.costs_drawing(points, f"{identifier}-cost", about, table.kind) if points else None,
        "cost_headers": ["model", "number", "C-index", "95 %, patients", *COSTS.values()],
        "cost_rows": [_cost_row(p) for p in points],
    }


def _cost_row(p: Cost) -> tuple[object, ...]:
    known = ("" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.2g}" for value in p.values.values())
    interval = "" if math.isnan(p.low) else f"[{p.low:.3f}, {p.high:.3f}]"
    return p.name, p.number, f"{p.score:.3f}", interval, *known


def _figures(table: Table, identifier: str, advance: Callable[[str], None]) -> dict[str, Any]:
    """Risk groups and calibration of each model, cohorts side by side; those that belong beside others are open."""
    shown = []
    asked = [line for line in table.lines if any(row.beside for row in line.rows.values())]
    opened = asked or list(table.lines[:1])
    for i, line in enumerate(table.lines[:MOST_FIGURES]):
        advance("risk groups and calibration")
        name = line_name(line)
        drawn = [
            draw(line, table.columns, f"{identifier}-{what}-{i}", name, table.kind)
            for what, draw in (("risk", charts.risk_drawing), ("calibration", charts.calibration_drawing))
        ]
        drawings = [drawing for drawing in drawn if drawing is not None]
        if drawings:
            shown.append({"name": name, "group": GROUPS[line.group], "open": line in opened, "drawings": drawings})
    return {"figures": shown, "figures_left": max(0, len(table.lines) - MOST_FIGURES)}


def _folds(table: Table) -> dict[str, Any]:
    columns = [(column, _fold_counts(table, column)) for column in table.columns]
    folds = max((len(counts) for _, counts in columns), default=0)
    rows = [
        (
            f"fold {fold}",
            *(cell for _, counts in columns for cell in (counts[fold] if fold < len(counts) else ("",) * 3)),
        )
        for fold in range(folds)
    ]
    headers = [f"{column.label} {what}" for column, _ in columns for what in ("patients", "events", "pairs")]
    return {"folds": rows, "fold_headers": ["fold", *headers], "fold_rule": _FOLD_RULE}


def _fold_counts(table: Table, column: Column) -> list[tuple[str, str, str]]:
    rows = [line.rows[column] for line in table.lines if column in line.rows and not line.rows[column].failed]
    if not rows:
        return []
    per_fold = [row.metrics["comparable_pairs"].per_fold for row in rows]
    labels = pd.DataFrame(sorted(rows[0].labels), columns=["fold", "patient", "time", "event"])
    counts = []
    for fold, members in labels.groupby("fold"):
        pairs = max(
            (found[int(str(fold))] for found in per_fold if not math.isnan(found[int(str(fold))])), default=math.nan
        )
        mark = " ‡" if fold in column.thin_folds else ""
        events = f"{int(members['event'].sum())}{mark}"
        counts.append((str(len(members)), events, "undefined" if math.isnan(pairs) else f"{pairs:,.0f}"))
    return counts
