"""Results as tables, on the screen and in Markdown: the same cells in both."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from benchmarks.figures import share, speedup
from benchmarks.results import Results, Row

__all__ = ["Table", "compared", "markdown", "screen", "tables"]


@dataclass(frozen=True)
class Table:
    """title, column heads, rows of text."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(results: Results) -> list[Table]:
    """One per suite. Models are a grid of sizes, everything else a list."""
    made = []
    for suite, members in groupby(sorted(results.rows(), key=lambda r: r.outcome.suite), lambda r: r.outcome.suite):
        rows = list(members)
        grid = {"patches", "patients"} == set(rows[0].outcome.cell)
        made.append(_grid(suite, rows, results.probe_flops) if grid else _list(suite, rows, results.probe_flops))
    return made


def _grid(suite: str, rows: Sequence[Row], probe_flops: float) -> Table:
    cells = sorted({(int(r.outcome.cell["patches"]), int(r.outcome.cell["patients"])) for r in rows})
    by_cell = {(r.outcome.contestant, *r.outcome.cell.values()): r for r in rows}
    names = list(dict.fromkeys(r.outcome.contestant for r in rows))
    what = "MiB per step" if suite == "memory" else f"ms per {rows[0].outcome.unit} (share of peak)"
    lines = []
    for name in names:
        line = [name]
        for cell in cells:
            row = by_cell.get((name, *cell))
            text = "not measured" if row is None else _brief(row, probe_flops)
            ours = by_cell.get((name.partition(" (")[0], *cell))
            if row is not None and ours is not None and row is not ours and row.figure and ours.figure:
                text += f", {speedup(row.figure, ours.figure):.2f} x ours"
            line.append(text)
        lines.append(tuple(line))
    heads = tuple(f"{patches:,} patches x {patients}" for patches, patients in cells)
    return Table(f"{suite}: {what}", ("model", *heads), tuple(lines))


def _brief(row: Row, probe_flops: float) -> str:
    outcome, measured = row.outcome, row.figure
    if outcome.status != "measured":
        return outcome.status
    if outcome.peak_bytes:
        return f"{max(outcome.peak_bytes) / 2**20:,.0f}"
    if measured is None:
        return "not measured"
    text = milliseconds(measured.seconds / outcome.units) + ("*" if measured.loaded else "")
    reached = share(measured, outcome.flops, probe_flops)
    return text if math.isnan(reached) else f"{text} ({_percent(reached)})"


def _list(suite: str, rows: Sequence[Row], probe_flops: float) -> Table:
    cell = list(rows[0].outcome.cell)
    first: dict[str, Row] = {}  # of each cell, what the others are set against
    lines = []
    for row in rows:
        outcome, measured = row.outcome, row.figure
        where = [f"{v:,}" if isinstance(v, int) else str(v) for v in outcome.cell.values()]
        if measured is None:
            lines.append((*where, outcome.contestant, outcome.status, "", "", "", ""))
            continue
        low, high = (milliseconds(v / outcome.units) for v in (measured.low, measured.high))
        speed = f"{outcome.bytes / measured.seconds / 1e6:,.0f}" if outcome.bytes else ""
        mark = "*" if measured.loaded else ""
        median = milliseconds(measured.seconds / outcome.units) + mark
        rounds = f"{measured.kept} of {measured.kept + measured.dropped}"
        reference = first.setdefault(str(outcome.cell), row)
        times = "" if row is reference or reference.figure is None else f"{measured.cost / reference.figure.cost:.2f}"
        lines.append((*where, outcome.contestant, median, f"{low} to {high}", times, speed, rounds))
    heads = (
        *cell,
        "contestant",
        f"ms per {rows[0].outcome.unit}",
        "quartiles",
        "times the first",
        "MB/s",
        "rounds kept",
    )
    return _without_empty(Table(suite, heads, tuple(lines)))


def _without_empty(table: Table) -> Table:
    used = [i for i in range(len(table.heads)) if any(row[i] for row in table.rows)]
    return Table(table.title, tuple(table.heads[i] for i in used), tuple(tuple(r[i] for i in used) for r in table.rows))


def compared(before: Results, after: Results) -> Table:
    """Every cell that both have: milliseconds, and how many times faster by the matrix product beside it."""
    earlier = {_key(row): row for row in before.rows() if row.figure}
    lines = []
    for row in after.rows():
        old = earlier.get(_key(row))
        if row.figure is None or old is None or old.figure is None:
            continue
        gain = speedup(old.figure, row.figure, old.outcome.units, row.outcome.units)
        times = (milliseconds(r.figure.seconds / r.outcome.units) for r in (old, row) if r.figure)
        cell = ", ".join(
            f"{value:,} {key}" if isinstance(value, int) else value for key, value in row.outcome.cell.items()
        )
        lines.append((row.outcome.suite, cell, row.outcome.contestant, *times, f"{gain:.2f}"))  # fmt: skip
    title = f"{before.commit or before.date} -> {after.commit or after.date}"
    heads = ("suite", "cell", "contestant", "ms before", "ms after", "times faster")
    return Table(title, heads, tuple(lines))


def _key(row: Row) -> tuple[str, str, str]:
    return row.outcome.suite, row.outcome.contestant, json.dumps(row.outcome.cell, sort_keys=True)


def markdown(results: Results) -> str:
    """All tables with what they were measured on."""
    return "\n\n".join([_about(results), *(markdown_table(t) for t in tables(results)), *_footnote(results)]) + "\n"


def markdown_table(table: Table) -> str:
    lines = [f"### {table.title}", "", _line(table.heads), _line(["---"] * len(table.heads))]
    return "\n".join([*lines, *(_line(row) for row in table.rows)])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def screen(tables: Iterable[Table], about: str = "") -> Group:
    """The same for the terminal."""
    parts: list[Any] = [Text(about)] if about else []
    for table in tables:
        drawn = RichTable(title=table.title, title_justify="left")
        for i, head in enumerate(table.heads):
            drawn.add_column(head, justify="left" if i == 0 else "right", overflow="fold")
        for row in table.rows:
            drawn.add_row(*(Text(cell) for cell in row))
        parts.append(drawn)
    return Group(*parts)


def _about(results: Results) -> str:
    return f"{described(results.machine, results.peak)}. {results.date}, commit {results.commit or 'unknown'}, " + (
        ", ".join(f"{name} {number}" for name, number in results.versions.items())
    )


def described(machine: Mapping[str, Any], peak: float) -> str:
    """One line on the machine."""
    reached = "" if math.isnan(peak) else f", {machine['precision']} matrix product {peak / 1e9:,.0f} GFLOP/s"
    threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    kind = f"{machine['cores']}-core {machine['architecture']} ({machine['processor']})"
    return f"{kind}, {machine['device']}, {threads}{reached}"


def _footnote(results: Results) -> list[str]:
    loaded = any(row.figure is not None and row.figure.loaded for row in results.rows())
    return ["\\* other processes were busy in every round; none could be dropped."] if loaded else []


def milliseconds(seconds: float) -> str:
    """Three digits."""
    value = 1000 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %" if value >= 0.095 else f"{100 * value:.1f} %"
