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
from survbench.data.covariates import covariate_report
from survbench.data.folds import imported_folds, make_folds, validate
from survbench.data.packing import FEW
from survbench.data.reading_process import headers, read_all
from survbench.data.root import DROP_INVALID, CohortFolder, DataRoot
from survbench.data.store import BagStore, is_current
from survbench.data.validation import label_problems
from survbench.errors import SurvbenchError

__all__ = ["CheckReport", "CohortCounts", "Problem", "check"]

T = TypeVar("T")
DEFAULT_SCHEME = "event-stratified"


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
    files : number of feature files whose headers were read.
    packed : number of feature files that were read when they were packed, and have not changed since.
    remarks : covariates that were not understood, for the reader.
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
    files: int = 0
    packed: int = 0
    remarks: Sequence[str] = ()
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
    deep : whether the contents of feature files were read.
    """

    cohorts: Mapping[str, CohortCounts]
    problems: tuple[Problem, ...]
    published: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    deep: bool = False

    @property
    def read(self) -> str:
        """What was looked at, in words."""
        files, packed = (sum(getattr(of, kind) for of in self.cohorts.values()) for kind in ("files", "packed"))
        parts = ["tables", f"{packed:,} files when they were packed"] if packed else ["tables"]
        if files:
            parts.append(f"{'contents' if self.deep else 'headers'} of {files:,} files")
        return ", ".join(parts) + ("; contents not read: --deep" if files and not self.deep else "")

    def to_json(self) -> dict[str, Any]:
        """The fields that other programs read."""
        return {
            "cohorts": {name: asdict(counts) for name, counts in self.cohorts.items()},
            "problems": [asdict(problem) for problem in self.problems],
            "deep": self.deep,
        }


def check(
    root: DataRoot,
    cohorts: Sequence[str] = (),
    published: Mapping[str, Mapping[str, int]] | None = None,
    *,
    deep: bool = False,
) -> CheckReport:
    """Look for everything that packing or running will refuse: tables, folds, and the headers of feature files.

    Parameters
    ----------
    root : to read.
    cohorts : their names; all by default.
    published : see `CheckReport`.
    deep : read the contents of feature files, too.
    """
    problems: list[Problem] = []
    names = list(cohorts) or root.cohorts()
    counts = {name: _Check(root.cohort(name), problems, deep).counts() for name in names}
    return CheckReport(counts, tuple(problems), published or {}, deep=deep)


class _Check:
    """One cohort; what is wrong goes to `problems`."""

    def __init__(self, folder: CohortFolder, problems: list[Problem], deep: bool) -> None:
        self.folder, self.problems, self.deep = folder, problems, deep
        self.patch_size: float | None = None

    def found(self, file: str | Path, problem: str, fix: str = "", patient: str = "") -> None:
        at = str(self.folder.path / file)
        self.problems.append(Problem(cohort=self.folder.name, patient=patient, file=at, problem=problem, fix=fix))

    def attempt(self, file: str, read: Callable[..., T], *arguments: Any) -> T | None:
        """What a reader gives; whatever it raises is a problem."""
        try:
            return read(*arguments)
        except SurvbenchError as error:
            self.found(file, error.what, error.fix)
        except Exception as error:
            what = f"{self.folder.path / file} cannot be read ({type(error).__name__}: {str(error)[:200]})"
            self.found(file, what, "import the cohort again")
        return None

    def counts(self) -> CohortCounts:
        info = self.attempt("cohort.json", lambda: self.folder.info)
        kind: dict[str, Any] = {}
        if info is not None:
            kind = {"simulated": info.simulated, "simulated_slides": info.simulated_slides}
            self.patch_size = info.patch_size
        patients = self.attempt("patients.csv", self.folder.patients)
        if patients is None:
            return CohortCounts(**kind)
        labels = self.labels(patients)
        expression = self.attempt("expression.parquet", self.folder.expression)
        pathways = self.attempt("pathways.gmt", self.folder.pathways)
        self.attempt("families.gmt", self.folder.families)
        everyone, missing = set(patients.index), {}
        if expression is not None:
            missing["expression"] = sorted(everyone - set(expression.index))
        slides = self.attempt("slides.csv", self.folder.slides)
        patches, files, packed = 0, 0, 0
        if slides is not None and (with_file := slides[slides["file"].notna()]).size:
            with_file = with_file.sort_values("patient", kind="stable")
            store = self.packed(with_file)
            if store is None or (self.deep and with_file["file"].map(Path.exists).all()):
                patches, with_patches = self.features(with_file)
                files = len(with_file)
            else:
                patches, with_patches, packed = store.patches, set(store.patients), len(with_file)
            missing["slides"] = sorted(everyone - with_patches)
        for modality, lacking in missing.items():
            named = any(problem.cohort == self.folder.name and problem.patient for problem in self.problems)
            if len(lacking) == len(everyone) and not (modality == "slides" and named):
                self.found("patients.csv", f"nobody has {modality}", "import the cohort again; it says what it matched")
        self.folds(patients, labels, set().union(*missing.values()) if missing else set())
        return CohortCounts(
            patients=len(patients),
            events={endpoint: int(table["event"].sum()) for endpoint, table in labels.items()},
            slides=0 if slides is None else len(slides),
            patches=patches,
            genes=0 if expression is None else expression.shape[1],
            pathways=len(pathways or {}),
            missing=missing,
            files=files,
            packed=packed,
            remarks=covariate_report(patients),
            **kind,
        )

    def labels(self, patients: pd.DataFrame) -> dict[str, pd.DataFrame]:
        """Labels of every endpoint that can be used; of the others all patients whose label is wrong."""
        usable = {}
        for endpoint in self.folder.endpoints():
            table = patients[[f"{endpoint}_months", f"{endpoint}_event"]].set_axis(["time", "event"], axis=1)
            problems = label_problems(table[(table != "").any(axis=1)])
            for patient, problem in problems.items():
                at = f"{self.folder.path / 'patients.csv'}: cohort {self.folder.name}, endpoint {endpoint}"
                self.found("patients.csv", f"{at}: patient {patient} {problem}", DROP_INVALID, patient)
            if not problems and (read := self.attempt("patients.csv", self.folder.labels, endpoint)) is not None:
                usable[endpoint] = read
        return usable

    def folds(self, patients: pd.DataFrame, labels: Mapping[str, pd.DataFrame], lacking: set[str]) -> None:
        """Divide the patients that a run would have, by every scheme of the cohort."""
        sites = patients["site"] if "site" in patients else pd.Series("", index=patients.index)
        read = {of: self.attempt(f"folds/{of}.csv", self.folder.folds, of) for of in self.folder.fold_schemes()}
        imported = {scheme: table for scheme, table in read.items() if table is not None}
        for endpoint, table in labels.items():
            complete = table[~table.index.isin(lacking)].sort_index()
            if complete.empty:
                continue
            source = f"cohort {self.folder.name}, endpoint {endpoint}"
            self.attempt("patients.csv", make_folds, complete, sites.loc[complete.index], DEFAULT_SCHEME)
            for scheme, folds in imported.items():
                self.attempt(f"folds/{scheme}.csv", _divide, folds, complete, f"{source}, folds {scheme}")

    def features(self, slides: pd.DataFrame) -> tuple[int, set[str]]:
        """Patches in all feature files, and the patients who have some."""
        total, patients, kinds = 0, set(), dict[tuple[str, Any], Path]()
        owners = dict(zip(slides["file"], slides["patient"], strict=True))
        single = 0
        read = track(headers(list(slides["file"]), self.patch_size), f"Checking {self.folder.name}", len(slides))
        for file, answer in read:
            if isinstance(answer, SurvbenchError):
                self.found(file, answer.what, answer.fix, owners[file])
                continue
            patches, width, encoder = answer
            total, single = total + patches, single + (patches == 1)
            if patches:
                patients.add(owners[file])
                kinds.setdefault(("width", width), file)
                if encoder:
                    kinds.setdefault(("encoder", encoder), file)
        for what in ("width", "encoder"):
            found = [(value, file) for (kind, value), file in kinds.items() if kind == what]
            if len(found) > 1:
                (one, first), (other, second) = found[:2]
                problem = f"{first} has features of {what} {one}, {second} of {what} {other}"
                self.found(second, problem, "one cohort has features of one encoder")
        if single == len(slides) > FEW:
            what = (
                f"each of the {single} feature files of cohort {self.folder.name} has one row: vectors of whole slides"
            )
            self.found(slides["file"].iloc[0], what, "name the folder of patch features")
        if self.deep:
            self.contents(list(slides["file"]), owners)
        return total, patients

    def contents(self, files: list[Path], owners: Mapping[Path, str]) -> None:
        known = {problem.file for problem in self.problems}
        for file, answer in track(read_all(files, self.patch_size), f"Reading {self.folder.name}", len(files)):
            if isinstance(answer, SurvbenchError) and str(file) not in known:
                self.found(file, answer.what, answer.fix, owners[file])

    def packed(self, slides: pd.DataFrame) -> BagStore | None:
        """The store that a run would use, whose files were read when it was packed; None where it would pack."""
        if not self.attempt("packed", is_current, self.folder, slides):
            return None
        return self.attempt("packed", BagStore.open, self.folder.path / "packed")


def _divide(folds: pd.DataFrame, labels: pd.DataFrame, source: str) -> None:
    validate(imported_folds(folds, labels, source), labels.index, source)
