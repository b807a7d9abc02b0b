"""Looks at a whole data root and says what is there, what is missing for whom, and what is wrong.

Collects every problem instead of stopping at the first; changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from survbench.console import make_table, track
from survbench.data.formats import patch_count
from survbench.data.root import CohortFolder, DataRoot
from survbench.errors import SurvbenchError

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["CheckReport", "CohortCounts", "Problem", "check", "render"]

T = TypeVar("T")
NAMED = 5  # patients named in the table for people; JSON has all


@dataclass(frozen=True)
class Problem:
    """Something that a run would stumble over."""

    cohort: str
    patient: str
    file: str
    problem: str
    fix: str


@dataclass
class CohortCounts:
    """What a cohort holds. missing : modality -> patients without it; a modality that nobody has is not listed."""

    patients: int = 0
    events: dict[str, int] = field(default_factory=dict)
    slides: int = 0
    patches: int = 0
    genes: int = 0
    pathways: int = 0
    missing: dict[str, list[str]] = field(default_factory=dict)
    simulated: bool = False
    simulated_slides: bool = False


@dataclass(frozen=True)
class CheckReport:
    """Counts per cohort, problems, and the counts that a publication states (patients, slides, patches)."""

    cohorts: Mapping[str, CohortCounts]
    problems: tuple[Problem, ...]
    published: Mapping[str, Mapping[str, int]]

    def to_json(self) -> dict[str, Any]:
        return {
            "cohorts": {name: asdict(counts) for name, counts in self.cohorts.items()},
            "problems": [asdict(problem) for problem in self.problems],
        }


def check(
    root: DataRoot, cohorts: list[str] | None = None, published: Mapping[str, Mapping[str, int]] | None = None
) -> CheckReport:
    """Read every table of the cohorts and the headers of their feature files."""
    problems: list[Problem] = []
    counts = {name: _count(root.cohort(name), problems) for name in cohorts or root.cohorts()}
    return CheckReport(counts, tuple(problems), published or {})


def _count(folder: CohortFolder, problems: list[Problem]) -> CohortCounts:
    def attempt(read: Callable[[], T], file: str) -> T | None:
        try:
            return read()
        except SurvbenchError as error:
            problems.append(Problem(folder.name, "", str(folder.path / file), error.what, error.fix))
            return None

    counts = CohortCounts()
    if (info := attempt(lambda: folder.info, "cohort.json")) is not None:
        counts.simulated, counts.simulated_slides = info.simulated, info.simulated_slides
    patients = attempt(folder.patients, "patients.csv")
    if patients is None:
        return counts
    counts.patients = len(patients)
    for endpoint in folder.endpoints():
        labels = attempt(lambda e=endpoint: folder.labels(e), "patients.csv")  # type: ignore[misc]
        if labels is not None:
            counts.events[endpoint] = int(labels["event"].sum())
    expression = attempt(folder.expression, "expression.parquet")
    if expression is not None:
        counts.genes = expression.shape[1]
        counts.missing["expression"] = sorted(set(patients.index) - set(expression.index))
    counts.pathways = len(attempt(folder.pathways, "pathways.gmt") or {})
    for scheme in folder.fold_schemes():
        attempt(lambda s=scheme: folder.folds(s), f"folds/{scheme}.csv")  # type: ignore[misc]
    _count_slides(folder, set(patients.index), counts, problems)
    return counts


def _count_slides(folder: CohortFolder, patients: set[str], counts: CohortCounts, problems: list[Problem]) -> None:
    slides = folder.slides()
    counts.slides = len(slides)
    known = slides[slides["file"].notna()]
    with_patches: set[str] = set()
    widths: dict[int, Path] = {}
    for row in track(known.to_dict("records"), f"Checking {folder.name}"):
        try:
            patches, width = patch_count(row["file"])
        except SurvbenchError as error:
            problems.append(Problem(folder.name, row["patient"], str(row["file"]), error.what, error.fix))
            continue
        counts.patches += patches
        if patches:
            with_patches.add(row["patient"])
            widths.setdefault(width, row["file"])
    if len(widths) > 1:
        (one, first), (other, second) = list(widths.items())[:2]
        what = f"{first} has features of width {one}, {second} of width {other}"
        problems.append(Problem(folder.name, "", str(second), what, "one cohort has features of one encoder"))
    if len(known):
        counts.missing["slides"] = sorted(patients - with_patches)


def render(report: CheckReport) -> RenderableType:
    """A table for people; what a publication states stands beside our count, in brackets."""
    from rich.console import Group
    from rich.text import Text

    title = "Cohorts; in brackets what the paper's Table 1 states for the real ones"
    headers = ("cohort", "patients", "events", "slides", "patches", "genes", "pathways", "data")
    table = make_table(headers, (), (1, 3, 4, 5, 6), title=title, fold=False)
    lines = []
    for name, counts in report.cohorts.items():
        stated = report.published.get(name, {})
        patients, slides, patches = (
            f"{getattr(counts, k):,}" + (f" [{stated[k]:,}]" if k in stated else "")
            for k in ("patients", "slides", "patches")
        )
        kind = "simulated" if counts.simulated else "simulated slides" if counts.simulated_slides else "real"
        events = ", ".join(f"{endpoint} {n}" for endpoint, n in counts.events.items())
        cells = (name, patients, events, slides, patches, f"{counts.genes:,}", str(counts.pathways), kind)
        table.add_row(*map(Text, cells))
        for modality, lacking in counts.missing.items():
            if lacking:
                more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
                lines.append(f"{name}: {len(lacking)} without {modality}: {', '.join(lacking[:NAMED])}{more}")
    lines += [f"problem: {p.problem}. {p.fix}" for p in report.problems] or ["no problems found"]
    return Group(table, *(Text(line) for line in lines))
