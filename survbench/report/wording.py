"""What a table of the leaderboard says, in words and formatted numbers, for every way of showing it.

Neither the terminal nor Markdown is known here, and nothing is computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from survbench.cards import ModelGroup
from survbench.data.folds import FEW_EVENTS, FEW_PAIRS
from survbench.evaluation.compare import Difference
from survbench.evaluation.metrics import METRICS
from survbench.leaderboard.board import EXTERNAL, MEASURED, UNKNOWN, Column, Leaderboard, Line, Row, Table
from survbench.leaderboard.comparison import MEAN
from survbench.leaderboard.published import published_cindex, published_logrank
from survbench.report.columns import COLUMNS, p_text

__all__ = [
    "APART",
    "DIFFERENCES",
    "GROUPS",
    "Block",
    "Figure",
    "Kind",
    "apart",
    "blocks",
    "contrast_rows",
    "difference_text",
    "footnotes",
    "headers",
    "line_name",
    "nothing",
    "number_text",
    "simulation",
    "title",
]

GROUPS: Mapping[ModelGroup | None, str] = {
    ModelGroup.WSI: "slides (WSI)",
    ModelGroup.OMICS: "omics",
    ModelGroup.MULTIMODAL: "multimodal",
    ModelGroup.MISSING: "missing modality",
    ModelGroup.SANITY: "sanity",
    None: EXTERNAL,
}
RECONSTRUCTED, THIN = "†", "‡"
ENOUGH_SEEDS = 3


class Kind(Enum):
    """How a figure came about, which decides how it looks."""

    MEASURED = "computed from stored predictions"
    DETAIL = "a statistic beside it"
    PUBLISHED = "printed in the paper"


@dataclass(frozen=True)
class Figure:
    """One figure of a model in every column.

    Attributes
    ----------
    cells : one text per column and for the mean over cohorts, below `headers`, empty where there is none.
    """

    kind: Kind
    label: str
    cells: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Block:
    """One model with its figures, measured first."""

    group: str
    name: str
    variant: str = ""
    seeds: str = ""
    parameters: str = ""
    figures: tuple[Figure, ...] = ()


def title(table: Table, metric: str) -> str:
    """Metric, endpoint, folds and kind of data."""
    version = f" · protocol version {table.protocol_version}" if table.protocol_version != 1 else ""
    return f"{METRICS[metric].title} · {table.title}{version}"


def headers(table: Table) -> list[str]:
    """One header per column, marked where a fold says little, and one for the mean where there are several."""
    labels = [f"{c.label} {THIN}" if c.thin_folds else c.label for c in table.columns]
    return [*labels, "mean"] if len(labels) > 1 else labels


def blocks(table: Table, metric: str) -> list[Block]:
    """Models in the order of the table."""
    return [_block(line, table, metric) for line in table.lines]


APART = "Published figures of models that were not run as registered: own settings, default preset, own loss"


def apart(table: Table, metric: str) -> list[Block]:
    """Published figures that may stand beside no row: of models whose rows all have other settings than the paper's."""
    if metric != "cindex":
        return []
    blocks_apart = []
    for model, line in {line.model: line for line in reversed(table.lines) if line.source == MEASURED}.items():
        rows = [[other.rows.get(c) for other in table.lines if other.model == model] for c in table.columns]
        counterparts = [[row for row in of if row is not None and row.of_the_paper] for of in rows]
        columns = [bool(of) and not any(row.as_registered for row in of) for of in counterparts]
        if figures := _printed(model, table, columns):
            blocks_apart.append(Block(group=GROUPS[line.group], name=_one_line(line.title), figures=figures))
    return blocks_apart[::-1]


DIFFERENCES = (
    "paired by fold, seed and patient; in brackets 95 % of a corrected resampled t over folds (other training "
    "patients) and of a patient bootstrap inside folds (other test patients); * where both leave out zero."
)


def contrast_rows(table: Table) -> list[tuple[str, str, str]]:
    """Models (once), cohort and difference of every pair that belongs to a row, then the means over cohorts."""
    rows = []
    for pair in table.contrasts:
        cohorts = {column.label: difference for column, difference in pair.cohorts.items()}
        over = {} if pair.mean is None else {MEAN: pair.mean}
        for i, (cohort, difference) in enumerate({**cohorts, **over}.items()):
            names = "" if i else f"{line_name(pair.first)} − {line_name(pair.second)}"
            rows.append((names, cohort, difference_text(difference)))
    return rows


def difference_text(difference: Difference) -> str:
    """`+0.012 [-0.03, 0.05] [-0.02, 0.04]`, with a star where both intervals leave out zero."""
    if difference.reason or math.isnan(difference.mean):
        return "undefined"
    star = " *" if difference.clear else ""
    folds = f"[{difference.low:+.3f}, {difference.high:+.3f}]"
    return f"{difference.mean:+.3f} {folds} [{difference.patient_low:+.3f}, {difference.patient_high:+.3f}]{star}"


def footnotes(table: Table, metric: str) -> list[str]:
    """What a reader must know to read the table right."""
    shown = METRICS[metric]
    better = {True: "", False: "; smaller is better", None: ""}[shown.larger_is_better]
    notes = [
        *simulation(table),
        f"{shown.title}: {shown.meaning}{better}. Mean ± SD (ddof 0) over folds, computed inside each fold.",
        "log-rank p: pooled / stratified by fold; test patients of all folds, cut at the median risk of their fold's "
        "training patients.",
        "cohorts: " + "; ".join(_content(column) for column in table.columns) + ".",
    ]
    if any(line.source == EXTERNAL for line in table.lines):
        notes.append(
            "external predictions: scored here, made elsewhere; how they were trained and selected is not known. Their "
            "folds are numbered from 0 in their order."
        )
    if metric == "cindex" and (apart(table, metric) or any(_published_figures(line, table) for line in table.lines)):
        notes.append(_about_published(table))
    rows = [row for line in table.lines for row in line.rows.values()]
    if any(len(row.seeds) < ENOUGH_SEEDS for row in rows):
        notes.append(f"seeds: a claim needs at least {ENOUGH_SEEDS}; with 1 seed the spread over seeds is unknown.")
    notes += [
        f"{RECONSTRUCTED} {name} is a reconstruction: {what}."
        for name, what in dict.fromkeys(
            (n.title, n.reconstruction.rstrip(".")) for n in table.lines if n.reconstruction
        )
    ]
    notes += [
        f"{THIN} {c.label}: the test split of fold {', '.join(map(str, c.thin_folds))} has under {FEW_EVENTS} events "
        f"or {FEW_PAIRS} comparable pairs; its figure says little by itself."
        for c in table.columns
        if c.thin_folds
    ]
    notes += [
        f"undefined: {line_name(pair.first)} − {line_name(pair.second)} on {column.label}: {difference.reason}"
        for pair in table.contrasts
        for column, difference in pair.cohorts.items()
        if difference.reason
    ]
    return [*notes, *_undefined(table, metric)]


def simulation(table: Table) -> list[str]:
    """What has to be notes of simulated data; nothing where there are none."""
    notes = {
        "all": "demo (simulated): every patient of these cohorts is invented; the figures say nothing about a cancer.",
        "slides": "simulated slides: real patients and labels, invented slide features; a rehearsal, not a result.",
        UNKNOWN: "data not known here: nothing tells whether these patients are real or simulated.",
    }
    return [notes[table.simulated]] if table.simulated in notes else []


def _about_published(table: Table) -> str:
    if table.simulated == "":
        return "published: as printed in AMKD's paper, on its own patients and folds; never part of a mean here."
    return (
        "published: as printed in AMKD's paper; those figures come from real TCGA patients and slides and are not "
        "comparable with these."
    )


def _content(column: Column) -> str:
    patients = f"{column.patients} patients, " if column.patients else ""
    return f"{column.label} {patients}content {column.content[:10]}"


def _undefined(table: Table, metric: str) -> list[str]:
    """One note per reason; rows that share it stand in one line."""
    failed, undefined = [], dict[str, list[str]]()
    for line in table.lines:
        for column, row in line.rows.items():
            where = f"{line_name(line)} on {column.label}"
            if row.failed:
                failed.append(f"failed: {where}: {'; '.join(row.errors)}")
                continue
            if row.metrics[metric].reason:
                undefined.setdefault(f"{METRICS[metric].title}, {row.metrics[metric].reason}", []).append(where)
            if row.logrank_reason:
                undefined.setdefault(f"log-rank p, {row.logrank_reason}", []).append(where)
    return [*failed, *(f"undefined: {', '.join(where)}: {what}" for what, where in undefined.items())]


def _block(line: Line, table: Table, metric: str) -> Block:
    rows = [line.rows.get(column) for column in table.columns]
    measured = [row for row in rows if row is not None]

    def detail(label: str, text: Callable[[Row], str]) -> Figure:
        return Figure(Kind.DETAIL, label, tuple("" if row is None or row.failed else text(row) for row in rows))

    ranked = METRICS[metric].larger_is_better is not None  # a mean of counts or of p over cohorts says nothing
    average = line.average(metric, table.columns) if ranked else None
    figures = [Figure(Kind.MEASURED, _origin(line, table), tuple(_cell(row, metric) for row in rows))]
    if any(row.metrics[metric].sd_seeds is not None for row in measured):
        figures.append(detail("SD over seeds", lambda row: _seed_spread(row, metric)))
    if metric == "d_calibration":
        figures.append(detail("all folds pooled", lambda row: p_text(row.calibration.p)))
    figures += [detail(column.label, column.text) for column in COLUMNS if column.label]
    if metric == "cindex":
        figures.extend(_published_figures(line, table))
    if len(table.columns) > 1:
        means = ["" if average is None else f"{average:.3f}", *[""] * (len(figures) - 1)]
        figures = [replace(figure, cells=(*figure.cells, mean)) for figure, mean in zip(figures, means, strict=True)]
    return Block(
        group=GROUPS[line.group],
        name=_one_line(line.title) + (f" {RECONSTRUCTED}" if line.reconstruction else ""),
        variant=_one_line(line.variant),
        seeds=_seeds(measured),
        parameters=_parameters(measured),
        figures=tuple(figures),
    )


def _origin(line: Line, table: Table) -> str:
    if line.source == MEASURED:
        return "measured" if not table.simulated else table.kind
    return line.source if not table.invented else f"{line.source}, {table.kind}"


def _published_figures(line: Line, table: Table) -> tuple[Figure, ...]:
    """What the paper prints of this model, where the row was run as registered; elsewhere it is no counterpart."""
    rows = [line.rows.get(column) for column in table.columns]
    return _printed(line.model, table, [row is not None and row.as_registered and row.of_the_paper for row in rows])


def _printed(model: str, table: Table, columns: Sequence[bool]) -> tuple[Figure, ...]:
    """The paper's figures of a model in the chosen columns; none where it has none."""
    cindices = [published_cindex(model, c.cohort) if at else None for c, at in zip(table.columns, columns, strict=True)]
    tests = [published_logrank(model, c.cohort) if at else None for c, at in zip(table.columns, columns, strict=True)]
    figures = {
        "published": ["" if f is None else f"{f[0]:.3f} ± {f[1]:.3f}" for f in cindices],
        "published p": ["" if p is None else p_text(p) for p in tests],
    }
    return tuple(Figure(Kind.PUBLISHED, name, tuple(cells)) for name, cells in figures.items() if any(cells))


def _cell(row: Row | None, metric: str) -> str:
    if row is None:
        return ""
    if row.failed:
        return "failed"
    return number_text(row.metrics[metric].mean, row.metrics[metric].sd)


def number_text(mean: float, sd: float) -> str:
    """Mean ± SD; large numbers without decimals."""
    if math.isnan(mean):
        return "undefined"
    digits = ",.0f" if mean >= 10 else ".3f"
    return f"{mean:{digits}} ± {sd:{digits}}"


def _seed_spread(row: Row, metric: str) -> str:
    spread = row.metrics[metric].sd_seeds
    if spread is None:
        return "1 seed"
    return "undefined" if math.isnan(spread) else f"{spread:.3f}"


def _seeds(rows: Sequence[Row]) -> str:
    fewest, most = min(len(r.seeds) for r in rows), max(len(r.seeds) for r in rows)
    if most == 1:
        return "1 seed"
    return f"{most} seeds" if fewest == most else f"{fewest}-{most} seeds"


def _parameters(rows: Iterable[Row]) -> str:
    """The number of parameters; the largest where it depends on a cohort's genes."""
    counts = {row.parameters for row in rows if row.parameters is not None}
    if not counts:
        return ""
    return ("≤" if len(counts) > 1 else "") + _size(max(counts))


def _size(count: int) -> str:
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "K")):
        if count >= unit:
            digits = 2 if count < 10 * unit else 1 if count < 100 * unit else 0
            return f"{count / unit:.{digits}f} {name}"
    return str(count)


def line_name(line: Line) -> str:
    """Title of a model with what sets this configuration of it apart."""
    return _one_line(f"{line.title} ({line.variant})" if line.variant else line.title)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def nothing(board: Leaderboard) -> str:
    """What an empty leaderboard says."""
    return f"Nothing to show from {board.source}. Make results with: survbench run --model MODEL --cohort COHORT"
