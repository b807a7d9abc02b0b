"""Puts the page together and writes it; what stands on it is decided in the modules beside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from survbench import __version__
from survbench.console import note
from survbench.data.folds import FEW_EVENTS, FEW_PAIRS
from survbench.errors import BadConfig
from survbench.files import atomic_write
from survbench.leaderboard.board import Leaderboard, OfKind
from survbench.report.columns import check_metric
from survbench.report.page.charts import Picture, ablation_picture, transfer_picture
from survbench.report.page.provenance import JobsByRow, jobs_of, seconds_of
from survbench.report.page.sections import Section, section
from survbench.report.page.svg import page_style
from survbench.report.sheet import Sheet
from survbench.report.studies import external_tables, study_sheet, transfer_sheet
from survbench.report.wording import APART, DIFFERENCES, nothing
from survbench.studies.ablation import read_study
from survbench.studies.external_validation import ExternalRow
from survbench.studies.transfer import read_transfer

__all__ = ["Page", "StudyPart", "page_html", "write_page"]

_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class StudyPart(OfKind):
    """A study on the page.

    Attributes
    ----------
    simulated : kind of its data, a key of KINDS.
    sheet : its table.
    picture : its figure.
    """

    simulated: str
    sheet: Sheet
    picture: Picture


@dataclass(frozen=True, kw_only=True)
class Page:
    """What stands on the page.

    Attributes
    ----------
    board : the leaderboard, for its notes, what it refused and its source.
    glance : name and value of a few totals.
    sections : one per table of the board.
    external : tables of external validation.
    studies : ablations.
    maps : studies whose cohorts are simulated for them.
    banner : lines on everything that is simulated.
    """

    board: Leaderboard
    glance: Sequence[tuple[str, str]]
    sections: Sequence[Section]
    external: Sequence[Sheet]
    studies: Sequence[StudyPart]
    maps: Sequence[StudyPart]
    banner: Sequence[str]


def write_page(
    file: Path, board: Leaderboard, external: Sequence[ExternalRow], out: Path, metric: str = "cindex"
) -> None:
    """Write a leaderboard as one HTML file, by one rename, so that a reader never sees half of it.

    Parameters
    ----------
    file : the page.
    board : to show.
    external : rows of external validation.
    out : results folder that the leaderboard was built from; job records and studies are read there.
    metric : that comes first.

    Raises
    ------
    UnknownName : no such metric.
    BadConfig : `file` is a folder.
    """
    check_metric(metric)
    if file.is_dir():
        raise BadConfig(f"--html {file} is a folder", f"name a file, for example {file / 'leaderboard.html'}")
    text = page_html(board, external, out, metric)
    atomic_write(file, text)
    note(f"{file} holds the page, {len(text.encode()) / 2**20:.1f} MB; it needs no network")


def page_html(board: Leaderboard, external: Sequence[ExternalRow], out: Path, metric: str = "cindex") -> str:
    """The page as text; see `write_page`."""
    jobs = jobs_of(board, out)
    with page_style():
        sections = [section(table, metric, place, jobs) for place, table in enumerate(board.tables, start=1)]
        studies, maps = list(_parts(out, "table.csv", _ablation)), list(_parts(out, "gains.csv", _map))
    also = {"external validation": external, "ablations": studies, "cohorts of known truth": maps}
    simulated = [f"{one.kind}: also the {name} below." for name, of in also.items() for one in of if one.simulated]
    page = Page(
        board=board,
        glance=_glance(board, jobs),
        sections=sections,
        external=external_tables(external, metric),
        studies=studies,
        maps=maps,
        banner=list(dict.fromkeys([*filter(None, (one.simulation for one in sections)), *simulated])),
    )
    return _rendered(page)


def _rendered(page: Page) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    loader = PackageLoader("survbench.report.page")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {"stacked": _stacked, "duration": _duration}
    environment.globals |= {
        "apart": APART,
        "differences": DIFFERENCES,
        "few_events": FEW_EVENTS,
        "few_pairs": FEW_PAIRS,
        "nothing": nothing(page.board),
        "version": __version__,
    }
    css, script = ((_TEMPLATES / name).read_text("utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = environment.get_template("page.html")
    return template.render(page=page, css=Markup(css), script=Markup(script), script_hash=f"sha256-{digest}")


def _stacked(text: object) -> str:
    """A figure above its intervals, none of them broken; other text as it is."""
    joined = str(text).replace(" ± ", "\u00a0±\u00a0")
    return joined.replace(", ", ",\u00a0").replace(" [", "\n[") if "[" in joined else joined


def _duration(seconds: float) -> str:
    """`4 h 5 min`, `12 min`, `40 s`."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if seconds >= 60 else f"{seconds:.0f} s"


def _glance(board: Leaderboard, jobs: JobsByRow) -> list[tuple[str, str]]:
    every = [job for of in jobs.values() for job in of]
    rows = [row for row in board.rows if not row.failed]
    if not rows:
        return []
    patients = {row.identity["cohort_hash"]: len({patient for _, patient, *_ in row.labels}) for row in rows}
    glance = [
        ("models", str(len({row.model for row in rows}))),
        ("cohorts", str(len({row.cohort for row in rows}))),
        ("patients", f"{sum(patients.values()):,}"),
        ("trainings", f"{len(every):,}"),
        ("computing", _duration(seconds_of(every))),
    ]
    if every:
        newest = datetime.fromtimestamp(max(job.modified for job in every), UTC)
        glance.append(("newest result", newest.strftime("%d %b %Y")))
    return glance


def _ablation(folder: Path, i: int) -> StudyPart:
    title, frame = read_study(folder)
    picture = ablation_picture(frame, f"study-figure-{i}", title)
    return StudyPart(str(frame["simulated"].iloc[0]), study_sheet(title, frame), picture)


def _map(folder: Path, i: int) -> StudyPart:
    transfer = read_transfer(folder)
    sheet = transfer_sheet(transfer)
    return StudyPart("all", sheet, transfer_picture(transfer, sheet.rows, f"map-figure-{i}"))


def _parts(out: Path, name: str, read: Callable[[Path, int], StudyPart]) -> Iterator[StudyPart]:
    """Studies that left a file of this name; damaged ones are named and left out."""
    for i, file in enumerate(sorted((out / "studies").glob(f"*/{name}"))):
        try:
            yield read(file.parent, i)
        except (OSError, ValueError, KeyError) as problem:
            note(f"{file.parent} is left out of the page: {problem}")
