"""A leaderboard for the terminal, as Markdown, as CSV, as JSON and as a data frame.

What is said is decided in `layout`; here it gets its looks. Names are shown as text, whatever markup they contain.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

from survbench.console import make_table
from survbench.files import plain
from survbench.leaderboard.board import MEASURED, Leaderboard, Row, Table
from survbench.leaderboard.contrasts import difference_plain
from survbench.leaderboard.published import published_cindex, published_logrank, published_parameters
from survbench.report import wording as layout
from survbench.report.sheet import markdown_table
from survbench.report.wording import Block, Figure, Kind

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Group
    from rich.table import Table as RichTable

__all__ = ["to_csv", "to_frame", "to_json", "to_markdown", "to_rich"]

_REFUSED_SHOWN = 20
_NAME_WIDTH = 20  # longer names wrap; four cohorts then fit into 100 columns
_STYLES = {Kind.MEASURED: "", Kind.DETAIL: "dim", Kind.PUBLISHED: "dim italic cyan"}
_CSV_COLUMNS = (
    "source",
    "data",
    "model",
    "title",
    "variant",
    "group",
    "cohort",
    "cohort_hash",
    "endpoint",
    "folds",
    "protocol_version",
    "status",
    "seeds",
    "metric",
    "mean",
    "sd",
    "sd_sample",
    "sd_seeds",
    "logrank_p",
    "logrank_p_stratified",
    "parameters",
    "fvcore_flops",
    "reason",
)
_PUBLISHED_COLUMNS = ("source", "model", "title", "cohort", "logrank_p", "parameters", "metric", "seeds", "mean", "sd")


def to_rich(board: Leaderboard, metric: str = "cindex") -> Group:
    """For the terminal; made for 100 columns and more.

    Raises
    ------
    UnknownName : no such metric.
    """
    from rich.console import Group
    from rich.text import Text

    layout.check_metric(metric)
    parts: list[Any] = []
    for table in board.tables:
        parts += [
            Text(layout.title(table, metric), style="bold black on yellow" if table.simulated != "" else "bold"),
            _rich_table(table, metric),
            *_rich_apart(table, metric),
            *_rich_contrasts(table),
            *(Text(note, style="dim") for note in layout.footnotes(table, metric)),
            Text(),
        ]
    if not board.tables:
        parts.append(Text(layout.nothing(board)))
    parts += [Text(note, style="yellow") for note in board.notes]
    if board.refused:
        heading, lines = _refused(board)
        more = (
            [f"- and {len(lines) - _REFUSED_SHOWN} more, which --format json lists"] if lines[_REFUSED_SHOWN:] else []
        )
        parts += [Text(heading, style="red"), *(Text(f"- {line}") for line in lines[:_REFUSED_SHOWN]), *map(Text, more)]
    return Group(*parts)


def to_markdown(board: Leaderboard, metric: str = "cindex") -> str:
    """As a Markdown document."""
    layout.check_metric(metric)
    parts = []
    for table in board.tables:
        parts.append(f"## {_escaped(layout.title(table, metric))}")
        parts.append("\n".join(_markdown_table(table, metric)))
        parts += ["\n".join(beside)] if (beside := _markdown_apart(table, metric)) else []
        parts += ["\n".join(_markdown_contrasts(table))] if table.contrasts else []
        parts.append("\n".join(f"- {_escaped(note)}" for note in layout.footnotes(table, metric)))
    if not board.tables:
        parts.append(_escaped(layout.nothing(board)))
    parts += [_escaped(note) for note in board.notes]
    if board.refused:
        heading, lines = _refused(board)
        parts.append("\n".join([f"**{_escaped(heading)}**", "", *(f"- {_escaped(line)}" for line in lines)]))
    return "\n\n".join(parts)


def to_csv(board: Leaderboard, metric: str = "cindex") -> str:
    """One line per model, configuration and cohort, published figures as lines of their own."""
    layout.check_metric(metric)
    text = io.StringIO()
    writer = csv.DictWriter(text, _CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in (*_csv_rows(board, metric), *_csv_published(board, metric)):
        writer.writerow(row | {"seeds": " ".join(map(str, row["seeds"]))})
    return text.getvalue().rstrip("\n")


def to_frame(board: Leaderboard, metric: str = "cindex", *, published: bool = False) -> pd.DataFrame:
    """The same as a data frame; `seeds` are tuples, `simulated` is a truth value or None where it is not known.

    Parameters
    ----------
    published : add the paper's figures, as rows whose `source` is `published`.
    """
    import pandas as pd

    layout.check_metric(metric)
    rows = [*_csv_rows(board, metric), *(_csv_published(board, metric) if published else ())]
    known = [row.invented for table in board.tables for line in table.lines for row in line.rows.values()]
    frame = pd.DataFrame(rows, columns=_CSV_COLUMNS)
    frame.insert(2, "simulated", known + [False] * (len(rows) - len(known)))
    return frame.astype(
        dict.fromkeys(("mean", "sd", "sd_sample", "sd_seeds", "logrank_p", "logrank_p_stratified"), float)
    )


def to_json(board: Leaderboard, metric: str = "cindex") -> str:
    """One JSON document with every metric: {rows: [...], refused: [{row, reason}], notes: [...]}; NaN is null."""
    layout.check_metric(metric)
    document = {
        "rows": [*(_json_row(row) for row in board.rows), *_published_rows(board)],
        "differences": [found for table in board.tables for found in _json_contrasts(table)],
        "refused": [{"row": dict(refusal.row), "reason": refusal.reason} for refusal in board.refused],
        "notes": list(board.notes),
    }
    return json.dumps(document, indent=1, allow_nan=False)


def _rich_table(table: Table, metric: str) -> RichTable:
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(**_looks())
    shown.add_column("model", overflow="fold", max_width=_NAME_WIDTH)
    columns = layout.headers(table)
    for header in (*columns, "seeds", "param."):
        shown.add_column(Text(header), justify="right")
    for group, members in groupby(layout.blocks(table, metric), key=lambda block: block.group):
        shown.add_row(Text(group, style="bold underline"))
        for block in members:
            shown.add_row(Text(block.name, style="bold"), *[""] * len(columns), block.seeds, block.parameters)
            if block.variant:
                shown.add_row(Text(block.variant, style="dim"))
            for figure in block.figures:
                shown.add_row(*_rich_figure(figure, table))
        shown.add_section()
    return shown


def _rich_apart(table: Table, metric: str) -> Iterator[Any]:
    """What the paper prints of models that have no row of their registered settings, in a table of its own."""
    from rich.text import Text

    if rows := layout.apart_rows(table, metric):
        style = _STYLES[Kind.PUBLISHED]
        cells = [(name, *(Text(cell, style=style) for cell in printed)) for name, *printed in rows]
        headed = ("model", "figure", *layout.headers(table)[: len(table.columns)])
        yield from (Text(layout.APART, style="bold"), make_table(headed, cells, range(2, len(headed)), **_looks()))


def _looks() -> dict[str, Any]:
    from rich import box

    return {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0), "pad_edge": False, "show_edge": False}


def _rich_contrasts(table: Table) -> Iterator[Any]:
    """Below the table, one line per pair and cohort."""
    from rich.text import Text

    if not table.contrasts:
        return
    yield Text("Differences in C-index", style="bold")
    names = [*(column.label for column in table.columns), "mean over cohorts"]
    for label, *cells in layout.contrast_rows(table):
        yield Text(f"  {label}")
        for name, cell in zip(names, cells, strict=False):
            if cell:
                yield Text(f"    {name:<18}{cell}")
    yield Text(f"  {layout.DIFFERENCES}", style="dim")


def _markdown_apart(table: Table, metric: str) -> list[str]:
    rows = [
        [_escaped(name), _escaped(label), *(f"*{_escaped(cell)}*" if cell else "" for cell in cells)]
        for name, label, *cells in layout.apart_rows(table, metric)
    ]
    headed = [*map(_escaped, ("model", "figure", *layout.headers(table)[: len(table.columns)]))]
    return [_escaped(f"{layout.APART}:"), "", *markdown_table(headed, rows, 2)] if rows else []


def _markdown_contrasts(table: Table) -> list[str]:
    shown = [("difference in C-index", *layout.headers(table)), *layout.contrast_rows(table)]
    rows = [[*map(_escaped, row)] for row in shown]
    return [*markdown_table(rows[0], rows[1:], 1), "", _escaped(layout.DIFFERENCES)]


def _json_contrasts(table: Table) -> Iterator[dict[str, Any]]:
    for pair in table.contrasts:
        named = {column.label: found for column, found in pair.cohorts.items()}
        for cohort, found in {**named, **({"mean over cohorts": pair.mean} if pair.mean else {})}.items():
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
                **difference_plain(found),
            }


def _rich_figure(figure: Figure, table: Table) -> list[Any]:
    from rich.text import Text

    style = _STYLES[figure.kind]
    label = "yellow" if figure.kind is Kind.MEASURED and table.simulated != "" else style
    cells = [Text(cell, style="bold red" if cell == "failed" else style) for cell in figure.cells]
    return [Text(figure.label, style=label), *cells]


def _markdown_table(table: Table, metric: str) -> list[str]:
    header = ["group", "model", "figure", *layout.headers(table), "seeds", "parameters"]
    rows = [
        _markdown_cells(block, figure, first=i == 0)
        for block in layout.blocks(table, metric)
        for i, figure in enumerate(block.figures)
    ]
    return markdown_table([*map(_escaped, header)], rows, 3)


def _markdown_cells(block: Block, figure: Figure, *, first: bool) -> list[str]:
    name = f"{block.name} ({block.variant})" if block.variant else block.name
    cells = [_escaped(c) for c in (figure.label, *figure.cells)]
    if figure.kind is Kind.PUBLISHED:
        cells = [f"*{cell}*" if cell else "" for cell in cells]
    about = [_escaped(block.group), _escaped(name)] if first else ["", ""]
    return [*about, *cells, *([block.seeds, block.parameters] if first else ["", ""])]


def _escaped(text: str) -> str:
    """Text that Markdown and HTML show as it is."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", text)


def _csv_rows(board: Leaderboard, metric: str) -> Iterator[dict[str, Any]]:
    for table in board.tables:
        for line in table.lines:
            for row in line.rows.values():
                found = _json_row(row)
                reason = "; ".join(row.errors) or row.metrics[metric].reason
                about = {"data": table.kind, "variant": line.variant, "group": str(row.group or ""), "metric": metric}
                cells = found | found["metrics"][metric] | about | {"seeds": row.seeds, "reason": reason}
                yield {column: cells[column] for column in _CSV_COLUMNS}


def _csv_published(board: Leaderboard, metric: str) -> Iterator[dict[str, Any]]:
    if metric == "cindex":
        for found in _published_rows(board):
            cells = found | found["metrics"]["cindex"] | {"metric": metric, "seeds": ()}
            yield {column: cells[column] for column in _PUBLISHED_COLUMNS}


def _json_row(row: Row) -> dict[str, Any]:
    of, figures = row.identity, {name: vars(summary) for name, summary in row.metrics.items()}
    found = {
        **{key: of[key] for key in ("model", "cohort", "endpoint", "folds")},
        "source": row.source,
        "simulated": row.invented,
        "simulated_kind": row.simulated,
        "status": "failed" if row.failed else "complete",
        **_attributes(row, "errors", "seeds"),
        "metrics": figures,
        **_attributes(row, "logrank_p", "logrank_p_stratified", "logrank_reason"),
        "calibration": _attributes(row.calibration, "counts", "patients", "p", "reason"),
        **_attributes(row, "parameters", "fvcore_flops", "title"),
        "modality": None if row.group is None else str(row.group),
        **_attributes(row, "reconstruction", "selected"),
        **{key: of[key] for key in ("protocol_version", "cohort_hash", "model_version")},
        **_attributes(row, "unsealed", "code"),
        **{key: of[key] for key in ("config", "objective", "training")},
    }
    return dict(plain(found))


def _published_rows(board: Leaderboard) -> Iterator[dict[str, Any]]:
    """The paper's figures for the models and cohorts that are shown; its endpoint and folds are not ours."""
    for (model, cohort), row in {(r.model, r.cohort): r for r in board.rows if r.source == MEASURED}.items():
        if found := published_cindex(model, cohort):
            mean, sd = found
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


def _refused(board: Leaderboard) -> tuple[str, list[str]]:
    """Heading and lines about what was found and is not shown."""
    lines = [f"{' '.join(refusal.label.split())}: {refusal.reason}" for refusal in board.refused]
    return f"Not shown ({len(lines)}):", lines


def _attributes(of: object, *names: str) -> dict[str, Any]:
    return {name: getattr(of, name) for name in names}
