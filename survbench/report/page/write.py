"""Puts the page together and writes it; what stands on it is decided in the modules beside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from survbench import __version__
from survbench.console import note, progress_bars
from survbench.errors import BadConfig
from survbench.experiments.results import JobResult
from survbench.files import atomic_write
from survbench.leaderboard.board import KINDS, Leaderboard, Table
from survbench.leaderboard.comparison import Comparison, compare_table
from survbench.report.columns import check_metric
from survbench.report.page.charts import study_drawing, transfer_drawing
from survbench.report.page.differences import MATRIX_RULE, Resampling
from survbench.report.page.provenance import jobs_of, seconds_of
from survbench.report.page.sections import MOST_COMPARED, MOST_FIGURES, duration, section
from survbench.report.page.svg import page_style
from survbench.report.studies import external_tables, study_sheet, transfer_sheet
from survbench.report.wording import DIFFERENCES, nothing
from survbench.studies.ablation import read_study
from survbench.studies.external_validation import ExternalRow
from survbench.studies.transfer import read_transfer

__all__ = ["page_html", "write_page"]

T = TypeVar("T")
_SHOWN_PARTS = (
    ("interval", "intervals", True),
    ("published", "published", True),
    ("detail", "log-rank p, seeds", False),
)


def write_page(
    file: Path, board: Leaderboard, external: Sequence[ExternalRow], out: Path, metric: str = "cindex"
) -> None:
    """Write a leaderboard as one HTML file, by one rename, so that a reader never sees half of it.

    Parameters
    ----------
    external : rows of external validation. out : results folder that the leaderboard was built from; job records and
    studies are read there.

    Raises
    ------
    UnknownName : no such metric. BadConfig : `file` is a folder.
    """
    check_metric(metric)
    if file.is_dir():
        raise BadConfig(f"--html {file} is a folder", f"name a file, for example {file / 'leaderboard.html'}")
    text = page_html(board, external, out, metric)
    atomic_write(file, text)
    note(f"{file} holds the page, {len(text.encode()) / 2**20:.1f} MB; it needs no network")


def page_html(board: Leaderboard, external: Sequence[ExternalRow], out: Path, metric: str = "cindex") -> str:
    """The page as text; see `write_page`."""
    jobs, resampling = jobs_of(board, out), Resampling()
    compared = [_compared(table, resampling) for table in board.tables]
    with page_style(), _progress(board) as advance:
        sections = [
            section(table, metric, i, pairs, resampling, jobs, advance)
            for i, (table, pairs) in enumerate(zip(board.tables, compared, strict=True), start=1)
        ]
        studies, maps = list(_studies(out)), list(_maps(out))
    return _rendered(
        glance=_glance(board, jobs),
        simulations=_simulations(sections, external, studies, maps),
        sections=sections,
        external=external_tables(external),
        studies=studies,
        maps=maps,
        notes=board.notes,
        refused=[(refusal.label, refusal.reason) for refusal in board.refused],
        nothing=nothing(board),
        source=board.source,
    )


def _rendered(**content: Any) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("survbench.report.page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["stacked"] = _stacked
    environment.globals |= {"differences_rule": DIFFERENCES, "matrix_rule": MATRIX_RULE, "shown_parts": _SHOWN_PARTS}
    css, script = (
        Path(__file__).with_name("templates").joinpath(name).read_text("utf-8") for name in ("page.css", "page.js")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = environment.get_template("page.html")
    return template.render(
        **content,
        version=__version__,
        css=Markup(css),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
    )


def _simulations(
    sections: Sequence[Mapping[str, Any]],
    external: Sequence[ExternalRow],
    studies: Sequence[Mapping[str, Any]],
    maps: Sequence[Mapping[str, Any]],
) -> list[str]:
    """What the banner says of everything on the page that is simulated, each thing once."""
    said = [one["simulation"] for one in sections]
    said += [f"{row.kind}: also the external validation below." for row in external if row.simulated]
    said += [f"{one['kind']}: also the ablations below." for one in studies if one["simulated"]]
    said += [f"{KINDS['all']}: also the cohorts of known truth below."] if maps else []
    return list(dict.fromkeys(text for text in said if text))


def _compared(table: Table, resampling: Resampling) -> Comparison | None:
    models = {line.model for line in table.lines}
    return compare_table(table, resampling) if 1 < len(models) <= MOST_COMPARED else None


def _stacked(text: object) -> str:
    """A figure above its intervals, none of them broken; other text as it is."""
    joined = str(text).replace(" ± ", "\u00a0±\u00a0")
    return joined.replace(", ", ",\u00a0").replace(" [", "\n[") if "[" in joined else joined


@contextmanager
def _progress(board: Leaderboard) -> Iterator[Callable[[str], None]]:
    steps = sum(2 + min(len(table.lines), MOST_FIGURES) for table in board.tables)
    with progress_bars() as bars:
        task = bars.add_task("Drawing the page", total=steps)

        def advance(what: str) -> None:
            bars.update(task, advance=1, description=f"Drawing the page: {what}")

        yield advance


def _glance(board: Leaderboard, jobs: dict[int, list[JobResult]]) -> list[tuple[str, str]]:
    everything = [job for of in jobs.values() for job in of]
    rows = [row for row in board.rows if not row.failed]
    newest = max((job.modified for job in everything), default=None)
    patients = {row.identity["cohort_hash"]: len({patient for _, patient, *_ in row.labels}) for row in rows}
    found = [
        ("models", str(len({row.model for row in rows}))),
        ("cohorts", str(len({row.cohort for row in rows}))),
        ("patients", f"{sum(patients.values()):,}"),
        ("trainings", f"{len(everything):,}"),
        ("computing", duration(seconds_of(everything))),
    ]
    if newest is not None:
        found.append(("newest result", datetime.fromtimestamp(newest, UTC).strftime("%d %b %Y")))
    return found if rows else []


def _studies(out: Path) -> Iterator[dict[str, Any]]:
    for i, (title, frame) in _read(out, "table.csv", read_study):
        simulated, sheet = str(frame["simulated"].iloc[0]), study_sheet(title, frame)
        drawing = study_drawing(frame, f"study-figure-{i}", title)
        yield {**vars(sheet), "simulated": simulated, "kind": KINDS[simulated], "drawing": drawing}


def _maps(out: Path) -> Iterator[dict[str, Any]]:
    """Of `survbench study transfer`; all of its cohorts are simulated."""
    for i, found in _read(out, "gains.csv", read_transfer):
        sheet = transfer_sheet(found)
        drawing = transfer_drawing(found, sheet.rows, f"map-figure-{i}")
        yield {**vars(sheet), "kind": KINDS["all"], "drawing": drawing}


def _read(out: Path, name: str, read: Callable[[Path], T]) -> Iterator[tuple[int, T]]:
    """Studies that left a file of this name; damaged ones are named and left out."""
    for i, file in enumerate(sorted((out / "studies").glob(f"*/{name}"))):
        try:
            yield i, read(file.parent)
        except (OSError, ValueError, KeyError) as problem:
            note(f"{file.parent} is left out of the page: {problem}")
