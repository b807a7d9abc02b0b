"""Sheets of a leaderboard, of comparisons, of risk groups and of checks; what their cells say is `wording`'s."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from survbench.evaluation.ranks import ALPHA
from survbench.leaderboard.board import Leaderboard, Table
from survbench.leaderboard.comparison import Compared, Comparison
from survbench.report import wording
from survbench.report.columns import check_metric, p_text
from survbench.report.plots.ranks import ranks_text
from survbench.report.sheet import Cell, Look, Sheet, escape_markdown
from survbench.report.wording import Figure, Kind

if TYPE_CHECKING:
    from rich.console import Group

    from survbench.report.written import Mismatch

__all__ = ["comparison_sheet", "mismatch_sheet", "risk_group_sheet", "to_markdown", "to_rich"]

_REFUSED_SHOWN = 20
_NAME_WIDTH = 20  # longer names wrap; four cohorts then fit into 100 columns
_LOOKS = {Kind.MEASURED: Look.PLAIN, Kind.DETAIL: Look.DETAIL, Kind.PUBLISHED: Look.PUBLISHED}


def to_rich(board: Leaderboard, metric: str = "cindex") -> Group:
    """A leaderboard for the terminal; made for 100 columns and more.

    Raises
    ------
    UnknownName : no such metric.
    """
    from rich.console import Group
    from rich.text import Text

    check_metric(metric)
    parts: list[Any] = []
    for table in board.tables:
        models, *others = _sheets(table, metric)
        parts += [models.to_rich(_NAME_WIDTH), *(sheet.to_rich() for sheet in others), Text()]
    parts += [Text(note, style=Look.SIMULATED) for note in _notes(board)]
    if board.refused:
        heading, lines = _refused(board)
        more = len(lines) - _REFUSED_SHOWN
        shown = [*lines[:_REFUSED_SHOWN], *[f"and {more} more, which --format json lists"] * (more > 0)]
        parts += [Text(heading, style="red"), *(Text(f"- {line}") for line in shown)]
    return Group(*parts)


def to_markdown(board: Leaderboard, metric: str = "cindex") -> str:
    """A leaderboard as a Markdown document."""
    check_metric(metric)
    parts = []
    for table in board.tables:
        models, *others = _sheets(table, metric)
        parts += [models.to_markdown(), *(sheet.to_markdown("###") for sheet in others)]
    parts += map(escape_markdown, _notes(board))
    if board.refused:
        heading, lines = _refused(board)
        parts.append("\n".join([f"**{escape_markdown(heading)}**", "", *(f"- {escape_markdown(s)}" for s in lines)]))
    return "\n\n".join(parts)


def _sheets(table: Table, metric: str) -> list[Sheet]:
    """Models, what is published apart from them, and paired differences; the last one has the notes of all."""
    look = Look.SIMULATED_TITLE if table.simulated != "" else Look.TITLE
    headers = wording.headers(table)
    sheets = [
        Sheet(
            title=wording.title(table, metric),
            headers=("model", *headers, "seeds", "param."),
            rows=list(_model_rows(table, metric)),
            look=look,
        )
    ]
    if apart := wording.apart(table, metric):
        rows = [[block.name, *_cells(figure, table)] for block in apart for figure in block.figures]
        cohorts = headers[: len(table.columns)]
        sheets.append(Sheet(title=wording.APART, headers=("model", "figure", *cohorts), rows=rows, align="llr"))
    if table.contrasts:
        sheets.append(
            Sheet(
                title="Differences in C-index",
                headers=("models", "cohort", "difference"),
                rows=wording.contrast_rows(table),
                notes=[wording.DIFFERENCES],
                align="l",
            )
        )
    *others, last = sheets
    return [*others, replace(last, notes=[*last.notes, *wording.footnotes(table, metric)])]


def _model_rows(table: Table, metric: str) -> Iterator[Sequence[Any]]:
    """Groups, their models, and below each the figures, so that the terminal's width is the cohorts' alone."""
    columns = [""] * len(wording.headers(table))
    for group, members in groupby(wording.blocks(table, metric), key=lambda block: block.group):
        yield [Cell(group, Look.GROUP)]
        for block in members:
            yield [Cell(block.name, Look.NAME), *columns, block.seeds, block.parameters]
            if block.variant:
                yield [Cell(block.variant, Look.DETAIL)]
            for figure in block.figures:
                yield _cells(figure, table)
        yield []


def _cells(figure: Figure, table: Table) -> list[Cell]:
    look = _LOOKS[figure.kind]
    label = Look.SIMULATED if figure.kind is Kind.MEASURED and table.simulated != "" else look
    return [
        Cell(figure.label, label),
        *(Cell(text, Look.FAILED if text == "failed" else look) for text in figure.cells),
    ]


def _notes(board: Leaderboard) -> list[str]:
    return [*([] if board.tables else [wording.nothing(board)]), *board.notes]


def _refused(board: Leaderboard) -> tuple[str, list[str]]:
    """Heading and lines of what is not shown."""
    lines = [f"{' '.join(refusal.label.split())}: {refusal.reason}" for refusal in board.refused]
    return f"Not shown ({len(lines)}):", lines


def mismatch_sheet(mismatches: Sequence[Mismatch], file: Path, out: Path) -> Sheet:
    """Every figure of a written leaderboard that the predictions do not give."""
    title = f"Differences between {file} and the predictions in {out}: {len(mismatches)}"
    rows = [(one.row, one.what, one.written, one.recomputed) for one in mismatches]
    return Sheet(title=title, headers=("row", "figure", "written", "recomputed"), rows=rows, align="l")


def risk_group_sheet(records: Sequence[Mapping[str, Any]]) -> Sheet:
    """One row per Kaplan-Meier figure."""
    headers = ("model", "cohort", "low (events)", "high (events)", "p stratified", "p pooled", "published", "figure")
    rows = []
    for r in records:
        groups = [f"{r[side]['patients']} ({r[side]['events']})" for side in ("low", "high")]
        figures = ["" if r[k] is None else f"{r[k]:.3g}" for k in ("p_stratified", "p_pooled", "p_published")]
        cohort = r["cohort"] + (" (simulated)" if r["simulated"] else "")
        rows.append((f"{r['model']} {r['variant']}".strip(), cohort, *groups, *figures, r["file"]))
    title = "Risk groups: above and below the training patients' median"
    return Sheet(title=title, headers=headers, rows=rows, align="l")


def comparison_sheet(comparison: Comparison, figures: Sequence[Path]) -> Sheet:
    """All pairs of models of one table, their ranks, and what was not compared."""
    return Sheet(
        title=f"Differences in C-index · {comparison.table.title}",
        headers=("models", "cohort", "difference", "over folds", "over patients", "p", "Holm", "higher"),
        rows=list(_difference_rows(comparison.differences)),
        notes=[*_rank_notes(comparison), *_comparison_notes(comparison), *(f"figure: {file}" for file in figures)],
        align="llrrrrrl",
    )


def _difference_rows(differences: Sequence[Compared]) -> Iterator[Sequence[Any]]:
    for (first, second), pair in groupby(differences, key=lambda one: (one.first, one.second)):
        for i, one in enumerate(pair):
            names, of = "" if i else f"{first} − {second}", one.difference
            if of.reason:
                yield names, one.cohort, "undefined"
                continue
            higher = (first if of.mean > 0 else second) if one.separated else "not distinguished"
            intervals = _interval(of.low, of.high), _interval(of.patient_low, of.patient_high)
            yield names, one.cohort, f"{of.mean:+.3f}", *intervals, p_text(of.p), p_text(one.p_holm), higher
        yield ()


def _interval(low: float, high: float) -> str:
    return "undefined" if math.isnan(low) else f"[{low:+.3f}, {high:+.3f}]"


def _rank_notes(comparison: Comparison) -> list[str]:
    if comparison.ranks is None or comparison.ranks.ranks.isna().any():
        return []
    same_rank = comparison.ranks.ranks.groupby(comparison.ranks.ranks)
    ranked = ", ".join(f"{' = '.join(same.index)} {rank:.2f}" for rank, same in same_rank)
    groups = "; ".join(", ".join(group) for group in comparison.ranks.groups)
    return [
        f"Average ranks over cohorts: {ranked}",
        f"{ranks_text(comparison.ranks)}. Not distinguished: {groups or 'nobody'}",
    ]


def _comparison_notes(comparison: Comparison) -> list[str]:
    undefined = [one for one in comparison.differences if one.difference.reason]
    table = comparison.table
    return [
        "Paired by fold, seed and patient. Over folds: corrected resampled t (other training patients); over patients: "
        "bootstrap inside folds (other test patients); both 95 %.",
        f"Holm: over the differences on single cohorts together, and over those of the means together. Higher: both "
        f"intervals leave out zero and the adjusted p is below {100 * ALPHA:.0f} %.",
        *(f"undefined: {one.first} − {one.second}, {one.cohort}: {one.difference.reason}" for one in undefined),
        *comparison.notes,
        *([f"{table.kind}: the figures say nothing about a cancer."] if table.invented else []),
    ]
