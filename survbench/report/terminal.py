"""What the commands about results print: boards, comparisons, risk groups and checks, with what stands beside them.

Nothing is computed here; the same facts as JSON come from the modules that compute them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from survbench.console import make_table, show_table, stdout, warn
from survbench.evaluation.ranks import ALPHA
from survbench.leaderboard.board import Leaderboard
from survbench.leaderboard.comparison import Compared, Comparison
from survbench.report import render
from survbench.report.external_validation import ExternalRow, external_markdown, external_tables
from survbench.report.plots.ranks import ranks_text
from survbench.report.wording import p_text
from survbench.report.written import Mismatch, document

__all__ = ["show_board", "show_comparisons", "show_mismatches", "show_risk_groups"]


def show_board(board: Leaderboard, external: Sequence[ExternalRow], form: str, metric: str) -> None:
    """A leaderboard and the external validation below it, as rich, markdown, csv or json."""
    if form == "rich":
        stdout().print(render.to_rich(board, metric))
        for table in external_tables(external):
            stdout().print(table.to_rich(), "")
    elif form == "markdown":
        print(render.to_markdown(board, metric), flush=True)
        if external:
            print(external_markdown(external), flush=True)
    elif form == "csv":
        print(render.to_csv(board, metric), flush=True)
    else:
        print(json.dumps(document(board, external, metric), indent=1), flush=True)


def show_mismatches(mismatches: Sequence[Mismatch], file: Path, out: Path) -> None:
    """Every figure of a written leaderboard that the predictions do not give."""
    title = f"Differences between {file} and the predictions in {out}: {len(mismatches)}"
    rows = [(one.row, one.what, one.written, one.recomputed) for one in mismatches]
    show_table(title, ("row", "figure", "written", "recomputed"), rows, fold=True)


def show_risk_groups(records: Sequence[Mapping[str, Any]]) -> None:
    """One row per Kaplan-Meier figure."""
    headers = ("model", "cohort", "low (events)", "high (events)", "p stratified", "p pooled", "published", "figure")
    rows = []
    for r in records:
        groups = [f"{r[side]['patients']} ({r[side]['events']})" for side in ("low", "high")]
        figures = ["" if r[k] is None else f"{r[k]:.3g}" for k in ("p_stratified", "p_pooled", "p_published")]
        cohort = r["cohort"] + (" (simulated)" if r["simulated"] else "")
        rows.append((f"{r['model']} {r['variant']}".strip(), cohort, *groups, *figures, r["file"]))
    show_table("Risk groups: above and below the training patients' median", headers, rows, fold=True)


def show_comparisons(found: Sequence[Comparison], figures: Sequence[Sequence[Path]], board: Leaderboard) -> None:
    """All pairs of models of each table, and what was not compared."""
    for one, files in zip(found, figures, strict=True):
        for part in _comparison(one, files):
            stdout().print(part)
    for note in board.notes:
        warn(note)
    for refusal in board.refused:
        warn(f"not compared: {refusal.label}: {refusal.reason}")


def _comparison(found: Comparison, files: Sequence[Path]) -> list[object]:
    undefined = [one for one in found.differences if one.found.reason]
    notes = [
        "Paired by fold, seed and patient. Over folds: corrected resampled t (other training patients); over patients: "
        "bootstrap inside folds (other test patients); both 95 %.",
        f"Holm: over the differences on single cohorts together, and over those of the means together. Higher: both "
        f"intervals leave out zero and the adjusted p is below {100 * ALPHA:.0f} %.",
        *(f"undefined: {one.first} − {one.second}, {one.cohort}: {one.found.reason}" for one in undefined),
        *found.notes,
    ]
    if found.table.invented:
        notes.append(f"{found.table.kind}: the figures say nothing about a cancer.")
    title = Text(f"Differences in C-index · {found.table.title}", style="bold")
    parts: list[object] = [title, _differences(found.differences)]
    if found.ranks is not None and not found.ranks.ranks.isna().any():
        same_rank = found.ranks.ranks.groupby(found.ranks.ranks)
        ranked = ", ".join(f"{' = '.join(same.index)} {rank:.2f}" for rank, same in same_rank)
        groups = "; ".join(", ".join(group) for group in found.ranks.groups)
        parts.append(Text(f"Average ranks over cohorts: {ranked}"))
        parts.append(Text(f"{ranks_text(found.ranks)}. Not told apart: {groups or 'nobody'}"))
    return [*parts, *(Text(note, style="dim") for note in notes), *(Text(f"figure: {file}") for file in files), Text()]


def _differences(differences: tuple[Compared, ...]) -> Table:
    headers = ("models", "cohort", "difference", "over folds", "over patients", "p", "Holm", "higher")
    shown = make_table(headers, (), range(2, 7), box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    previous = ""
    for one in differences:
        name, of = f"{one.first} − {one.second}", one.found
        if previous and name != previous:
            shown.add_section()
        label, previous = "" if name == previous else name, name
        if of.reason:
            shown.add_row(*map(Text, (label, one.cohort, "undefined")))
            continue
        higher = (one.first if of.mean > 0 else one.second) if one.separated else "not told apart"
        intervals = _interval(of.low, of.high), _interval(of.patient_low, of.patient_high)
        cells = (label, one.cohort, f"{of.mean:+.3f}", *intervals, p_text(of.p), p_text(one.p_holm), higher)
        shown.add_row(*map(Text, cells))
    return shown


def _interval(low: float, high: float) -> str:
    return "undefined" if math.isnan(low) else f"[{low:+.3f}, {high:+.3f}]"
