"""What is known of a row of a leaderboard: one entry of COLUMNS is all that a new fact takes.

CSV, data frames and JSON hold its value; with a label, tables that people read and the page show its text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from survbench.errors import UnknownName
from survbench.evaluation.metrics import METRICS
from survbench.files import plain
from survbench.leaderboard.board import MEASURED, Leaderboard, Line, Row, Summary, Table
from survbench.leaderboard.comparison import MEAN
from survbench.leaderboard.paired_differences import difference_plain
from survbench.leaderboard.published import published_cindex, published_logrank, published_parameters

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "COLUMNS",
    "SCHEMA_VERSION",
    "Entry",
    "RowColumn",
    "check_metric",
    "p_text",
    "to_csv",
    "to_frame",
    "to_plain",
]

SCHEMA_VERSION = 1  # of JSON documents; raised when a field changes its meaning or goes


@dataclass(frozen=True)
class Entry:
    """A row, the line that it stands in, and the metric that is shown."""

    row: Row
    line: Line
    metric: str

    @property
    def summary(self) -> Summary:
        return self.row.metrics[self.metric]

    @property
    def reason(self) -> str:
        return "; ".join(self.row.errors) or self.summary.reason


@dataclass(frozen=True, kw_only=True)
class RowColumn:
    """A fact about a row.

    Attributes
    ----------
    name : in CSV, data frames and JSON.
    value : a JSON value; NaN is shown as missing.
    csv : whether it is a column of CSV.
    frame : whether it is a column of data frames; None: where CSV has it.
    json : whether it is a field of JSON.
    label : of the line below a model's mean in tables for people and on the page; without one it is not shown there.
    text : of that line, for a row that has not failed.
    """

    name: str
    value: Callable[[Entry], Any]
    csv: bool = True
    frame: bool | None = None
    json: bool = True
    label: str = ""
    text: Callable[[Row], str] = str


def p_text(value: float, digits: int = 0) -> str:
    """A p; small ones as a power of ten with so many decimals."""
    return "undefined" if math.isnan(value) else f"{value:.3f}" if value >= 0.001 else f"{value:.{digits}e}"


def _logrank(row: Row) -> str:
    return "undefined" if row.logrank_reason else f"{p_text(row.logrank_p)} / {p_text(row.logrank_p_stratified)}"


def _calibration(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry.row.calibration, name) for name in ("counts", "patients", "p", "reason")}


def _of_row(name: str, **options: Any) -> RowColumn:
    return RowColumn(name=name, value=attrgetter(f"row.{name}"), **options)


def _of_identity(name: str, **options: Any) -> RowColumn:
    return RowColumn(name=name, value=lambda entry: entry.row.identity[name], **options)


def _of_summary(name: str) -> RowColumn:
    return RowColumn(name=name, value=attrgetter(f"summary.{name}"), json=False)  # JSON has those of all metrics


COLUMNS = [
    _of_row("source"),
    RowColumn(name="data", value=attrgetter("row.kind"), json=False),
    RowColumn(name="simulated", value=attrgetter("row.invented"), csv=False, frame=True),
    RowColumn(name="simulated_kind", value=attrgetter("row.simulated"), csv=False),
    _of_identity("model"),
    _of_row("title"),
    RowColumn(name="variant", value=attrgetter("line.variant"), json=False),
    RowColumn(name="group", value=lambda entry: str(entry.row.group or ""), json=False),
    RowColumn(name="modality", value=lambda entry: entry.row.group and str(entry.row.group), csv=False),
    *map(_of_identity, ("cohort", "cohort_hash", "endpoint", "folds", "protocol_version")),
    RowColumn(name="status", value=lambda entry: "failed" if entry.row.failed else "complete"),
    _of_row("seeds"),
    RowColumn(name="metric", value=attrgetter("metric"), json=False),
    *map(_of_summary, ("mean", "sd", "sd_sample", "sd_seeds")),
    _of_row("logrank_p", label="log-rank p", text=_logrank),
    _of_row("logrank_p_stratified"),
    _of_row("logrank_reason", csv=False),
    _of_row("parameters"),
    _of_row("fvcore_flops"),
    RowColumn(name="reason", value=attrgetter("reason"), json=False),
    _of_row("errors", csv=False),
    RowColumn(name="metrics", value=lambda entry: {k: vars(v) for k, v in entry.row.metrics.items()}, csv=False),
    RowColumn(name="calibration", value=_calibration, csv=False),
    *(_of_row(name, csv=False) for name in ("reconstruction", "selected", "unsealed", "code")),
    *(_of_identity(name, csv=False) for name in ("model_version", "config", "objective", "training")),
]


def check_metric(metric: str) -> None:
    """Raise UnknownName for a metric that no table can show."""
    if metric not in METRICS:
        raise UnknownName(f"Unknown metric '{metric}'", f"Known: {', '.join(METRICS)}")


def to_csv(board: Leaderboard, metric: str = "cindex") -> str:
    """One line per model, configuration and cohort, published figures as lines of their own."""
    import pandas as pd

    columns = [column for column in COLUMNS if column.csv]
    lines = list(_lines(board, metric, columns, published=True))
    for line in lines:
        line["seeds"] = " ".join(map(str, line["seeds"]))
    table = pd.DataFrame(lines, columns=[column.name for column in columns], dtype=object)
    return str(table.to_csv(index=False, lineterminator="\n")).rstrip("\n")


def to_frame(board: Leaderboard, metric: str = "cindex", *, published: bool = False) -> pd.DataFrame:
    """A row per model, configuration and cohort.

    Parameters
    ----------
    board : its rows.
    metric : a key of METRICS.
    published : add the paper's figures, as rows whose `source` is `published`.

    Returns
    -------
    The columns that CSV has, and `simulated`: a truth value, or None where it is not known; `seeds` are tuples.
    """
    import pandas as pd

    columns = [column for column in COLUMNS if (column.csv if column.frame is None else column.frame)]
    lines = list(_lines(board, metric, columns, published=published))
    frame = pd.DataFrame(lines, columns=[column.name for column in columns])
    numbers = ("mean", "sd", "sd_sample", "sd_seeds", "logrank_p", "logrank_p_stratified")
    return frame.astype(dict.fromkeys(numbers, float))


def to_plain(board: Leaderboard, metric: str = "cindex") -> dict[str, Any]:
    """JSON values with every metric: {rows: [...], refused: [{row, reason}], notes: [...]}; NaN is None."""
    check_metric(metric)
    fields = [column for column in COLUMNS if column.json]
    rows = [{column.name: plain(column.value(entry)) for column in fields} for entry in _entries(board, metric)]
    return {
        "rows": [*rows, *_published_rows(board)],
        "differences": [difference for table in board.tables for difference in _differences(table)],
        "refused": [{"row": dict(refusal.row), "reason": refusal.reason} for refusal in board.refused],
        "notes": list(board.notes),
    }


def _entries(board: Leaderboard, metric: str) -> Iterator[Entry]:
    for table in board.tables:
        for line in table.lines:
            yield from (Entry(row, line, metric) for row in line.rows.values())


def _lines(
    board: Leaderboard, metric: str, columns: Sequence[RowColumn], *, published: bool
) -> Iterator[dict[str, Any]]:
    """Of CSV and data frames."""
    check_metric(metric)
    for entry in _entries(board, metric):
        yield {column.name: plain(column.value(entry)) for column in columns} | {"seeds": entry.row.seeds}
    for row in _published_rows(board) if published and metric == "cindex" else ():
        figures = row | row["metrics"]["cindex"] | {"metric": metric, "seeds": ()}
        yield {name: value for name, value in figures.items() if value is not None}


def _published_rows(board: Leaderboard) -> Iterator[dict[str, Any]]:
    """The paper's figures for the models and cohorts that are shown; its endpoint and folds are not ours."""
    for (model, cohort), row in {
        (r.model, r.cohort): r for r in board.rows if r.source == MEASURED and r.of_the_paper
    }.items():
        if figure := published_cindex(model, cohort):
            mean, sd = figure
            yield {
                "model": model,
                "cohort": cohort,
                "endpoint": None,
                "folds": None,
                "source": "published",
                "simulated": False,
                "seeds": [],
                "metrics": {"cindex": {"mean": mean, "sd": plain(sd), "sd_sample": None, "per_fold": []}},
                "logrank_p": published_logrank(model, cohort),
                "parameters": published_parameters(model),
                "fvcore_flops": None,
                "title": row.title,
            }


def _differences(table: Table) -> Iterator[dict[str, Any]]:
    for pair in table.contrasts:
        cohorts = {column.label: difference for column, difference in pair.cohorts.items()}
        for cohort, difference in {**cohorts, **({MEAN: pair.mean} if pair.mean else {})}.items():
            yield {
                "first": pair.first.model,
                "first_variant": pair.first.variant,
                "second": pair.second.model,
                "second_variant": pair.second.variant,
                "cohort": cohort,
                "endpoint": table.endpoint,
                "folds": table.folds,
                "simulated": table.invented,
                "metric": "cindex",
                **difference_plain(difference),
            }
