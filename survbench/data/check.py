"""Reads a whole data root and counts what it has, what is missing for whom, and what is wrong.

Collects every problem instead of stopping at the first; changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from survbench.console import track
from survbench.data.formats import patch_count
from survbench.data.root import CohortFolder, DataRoot
from survbench.errors import SurvbenchError

__all__ = ["CheckReport", "CohortCounts", "Problem", "check"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that would stop a run.

    Attributes
    ----------
    cohort : its name.
    patient : whose file it is; empty where it is nobody's.
    file : path of the file.
    problem : what is wrong.
    fix : what to do.
    """

    cohort: str
    patient: str = ""
    file: str
    problem: str
    fix: str


@dataclass(frozen=True, kw_only=True)
class CohortCounts:
    """Contents of a cohort.

    Attributes
    ----------
    patients : number of patients.
    events : endpoint -> deaths.
    slides : number of slides, with or without a feature file.
    patches : number of patches in all feature files.
    genes : number of genes in the expression table.
    pathways : number of pathways.
    missing : modality -> patients without it; a modality that nobody has is not listed.
    simulated : whether everything is simulated.
    simulated_slides : whether the slide features are.
    """

    patients: int = 0
    events: Mapping[str, int] = field(default_factory=dict)
    slides: int = 0
    patches: int = 0
    genes: int = 0
    pathways: int = 0
    missing: Mapping[str, list[str]] = field(default_factory=dict)
    simulated: bool = False
    simulated_slides: bool = False


@dataclass(frozen=True)
class CheckReport:
    """Contents and problems of a data root.

    Attributes
    ----------
    cohorts : counts by name.
    problems : of all cohorts.
    published : name -> `patients`, `slides` and `patches` that a publication states of the real cohort.
    """

    cohorts: Mapping[str, CohortCounts]
    problems: tuple[Problem, ...]
    published: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The fields that other programs read."""
        return {
            "cohorts": {name: asdict(counts) for name, counts in self.cohorts.items()},
            "problems": [asdict(problem) for problem in self.problems],
        }


def check(
    root: DataRoot, cohorts: Sequence[str] = (), published: Mapping[str, Mapping[str, int]] | None = None
) -> CheckReport:
    """Read every table of the cohorts and the headers of their feature files.

    Parameters
    ----------
    root : to read.
    cohorts : their names; all by default.
    published : see `CheckReport`.
    """
    problems: list[Problem] = []
    counts = {name: _count(root.cohort(name), problems) for name in cohorts or root.cohorts()}
    return CheckReport(counts, tuple(problems), published or {})


def _count(folder: CohortFolder, problems: list[Problem]) -> CohortCounts:
    def attempt(file: str, read: Callable[..., T], *arguments: str) -> T | None:
        try:
            return read(*arguments)
        except SurvbenchError as error:
            at = str(folder.path / file)
            problems.append(Problem(cohort=folder.name, file=at, problem=error.what, fix=error.fix))
            return None

    info = attempt("cohort.json", lambda: folder.info)
    kind: dict[str, Any] = {}
    if info is not None:
        kind = {"simulated": info.simulated, "simulated_slides": info.simulated_slides}
    patients = attempt("patients.csv", folder.patients)
    if patients is None:
        return CohortCounts(**kind)
    labels = {endpoint: attempt("patients.csv", folder.labels, endpoint) for endpoint in folder.endpoints()}
    expression = attempt("expression.parquet", folder.expression)
    pathways = attempt("pathways.gmt", folder.pathways)
    for scheme in folder.fold_schemes():
        attempt(f"folds/{scheme}.csv", folder.folds, scheme)
    everyone, missing = set(patients.index), {}
    if expression is not None:
        missing["expression"] = sorted(everyone - set(expression.index))
    slides = folder.slides()
    with_file = slides[slides["file"].notna()]
    patches, with_patches = _count_patches(folder.name, with_file, problems)
    if len(with_file):
        missing["slides"] = sorted(everyone - with_patches)
    return CohortCounts(
        patients=len(patients),
        events={endpoint: int(table["event"].sum()) for endpoint, table in labels.items() if table is not None},
        slides=len(slides),
        patches=patches,
        genes=0 if expression is None else expression.shape[1],
        pathways=len(pathways or {}),
        missing=missing,
        **kind,
    )


def _count_patches(cohort: str, slides: pd.DataFrame, problems: list[Problem]) -> tuple[int, set[str]]:
    """Patches in all feature files, and the patients who have some."""
    total, patients, widths = 0, set(), dict[int, Path]()
    for slide in track(slides.to_dict("records"), f"Checking {cohort}"):
        patient, file = slide["patient"], slide["file"]
        try:
            patches, width = patch_count(file)
        except SurvbenchError as error:
            at = {"cohort": cohort, "patient": patient, "file": str(file)}
            problems.append(Problem(**at, problem=error.what, fix=error.fix))
            continue
        total += patches
        if patches:
            patients.add(patient)
            widths.setdefault(width, file)
    if len(widths) > 1:
        (one, first), (other, second) = list(widths.items())[:2]
        what = f"{first} has features of width {one}, {second} of width {other}"
        fix = "one cohort has features of one encoder"
        problems.append(Problem(cohort=cohort, file=str(second), problem=what, fix=fix))
    return total, patients
