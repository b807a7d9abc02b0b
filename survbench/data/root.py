"""A data root: its files, written and read with checks.

ROOT/root.json; per cohort: cohort.json, patients.csv, slides.csv, expression.parquet, pathways.gmt, folds/, packed/.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from survbench.data.delimited import read_table, write_table
from survbench.data.gene_sets import read_gmt, write_gmt
from survbench.data.replacing import put, recover
from survbench.data.validation import check_expression, label_problems
from survbench.errors import BadFile, BadFolds, BadLabels, MissingFile, UnknownName
from survbench.files import atomic_write, child

__all__ = ["CohortContent", "CohortFolder", "CohortInfo", "DataRoot"]

FORMAT = 1
COVARIATES = ("site", "age", "sex", "stage", "grade")
FOLD_COLUMNS = ("fold", "patient", "split")
DROP_INVALID = "correct the table, or import with `survbench data import --drop-invalid` to leave such labels out"


@dataclass(frozen=True, kw_only=True)
class CohortInfo:
    """The content of cohort.json.

    Attributes
    ----------
    name : of the cohort and its folder.
    title : for people.
    source : where it was imported from.
    simulated : whether everything is invented.
    simulated_slides : whether the slide features are.
    patch_size : edge of a patch in level-0 pixels, where feature files have coordinates and do not say.
    notes : for the reader of an import or a table.
    """

    name: str
    title: str = ""
    source: str = ""
    simulated: bool = False
    simulated_slides: bool = False
    patch_size: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(kw_only=True)
class CohortContent:
    """A cohort to be written.

    Attributes
    ----------
    info : for cohort.json.
    patients : columns patient, site, age, sex, stage, grade, `<endpoint>_months`, `<endpoint>_event`.
    slides : columns patient, slide, file.
    expression : (patients, genes), log2-scale; None without.
    pathways : name -> genes.
    families : name of a functional gene family -> genes.
    folds : scheme -> table (fold, patient, split).
    """

    info: CohortInfo
    patients: pd.DataFrame
    slides: pd.DataFrame
    expression: pd.DataFrame | None = None
    pathways: Mapping[str, list[str]] = field(default_factory=dict)
    families: Mapping[str, list[str]] = field(default_factory=dict)
    folds: Mapping[str, pd.DataFrame] = field(default_factory=dict)


class DataRoot:
    """A folder of cohorts.

    Parameters
    ----------
    path : of the folder.
    name : for people.
    simulated : whether all its cohorts are invented.
    """

    def __init__(self, path: Path, name: str, simulated: bool) -> None:
        self.path, self.name, self.simulated = path, name, simulated

    @classmethod
    def open(cls, path: Path) -> DataRoot:
        """Open an existing root.

        Raises
        ------
        MissingFile : no root at this path.
        """
        path = Path(path)
        if not (path / "root.json").is_file():
            what = "is not a data root (it has no root.json)" if path.is_dir() else "does not exist"
            raise MissingFile(f"data root {path} {what}", "make one with `survbench data import SOURCE --out DIR`")
        recover(path)
        content = read_info(path / "root.json")
        return cls(path, str(content.get("name", path.name)), bool(content.get("simulated", False)))

    @classmethod
    def create(cls, path: Path, simulated: bool = False) -> DataRoot:
        """Open a root; it is made first where there is none, and where a crash of the system left its file empty.

        Raises
        ------
        BadFile : a file is at this path, or root.json is empty beside cohorts.
        """
        path = Path(path)
        file = path / "root.json"
        if path.exists() and not path.is_dir():
            raise BadFile(f"{path} is a file, a data root is a folder", "name another --out")
        empty = file.is_file() and file.stat().st_size == 0
        if empty and any(path.glob("*/cohort.json")):
            raise BadFile(f"{file} cannot be read: it is empty", "delete it, and import again: the cohorts stay")
        if empty or not file.exists():
            write_info(file, {"name": path.resolve().name, "simulated": simulated})
        return cls.open(path)

    def cohorts(self) -> list[str]:
        """Names of the cohorts, sorted."""
        return sorted(file.parent.name for file in self.path.glob("*/cohort.json") if file.parent.name[0] != ".")

    def cohort(self, name: str) -> CohortFolder:
        """A cohort by name.

        Raises
        ------
        UnknownName : no such cohort.
        """
        if name not in self.cohorts():
            close = difflib.get_close_matches(name, self.cohorts(), n=1)
            hint = f"Did you mean '{close[0]}'?" if close else f"It has: {', '.join(self.cohorts()) or 'none'}"
            raise UnknownName(f"Unknown cohort '{name}' in data root {self.path}", hint)
        return CohortFolder(self.path / name)

    def write(self, content: CohortContent, *, overwrite: bool = False) -> CohortFolder:
        """Write a cohort; see `replacing.put`. Features, packed bags and files of the user that are there stay.

        Raises
        ------
        BadConfig : a name that cannot be a folder's.
        BadFile : the cohort exists and is not to be overwritten, or a folder of that name is none of this suite.
        """
        target = child(self.path, content.info.name, "a cohort")
        like = [name for name in self.cohorts() if name.lower() == target.name.lower() and name != target.name]
        if like:
            raise BadFile(
                f"cohort {target.name} differs from cohort {like[0]} in {self.path} by case alone", "rename one"
            )
        if (target.exists() or target.is_symlink()) and not overwrite:
            raise BadFile(f"cohort {target.name} is already in {self.path}", "add --overwrite to replace it")
        put(target, lambda folder: _write_cohort(folder, content))
        return CohortFolder(target)


@dataclass(frozen=True)
class CohortFolder:
    """One cohort of a root; every table is checked when it is read."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def info(self) -> CohortInfo:
        content = read_info(self.path / "cohort.json")
        content["notes"] = tuple(content.get("notes", ()))
        return CohortInfo(**{key: content[key] for key in CohortInfo.__dataclass_fields__ if key in content})

    def patients(self) -> pd.DataFrame:
        """All patients, indexed by patient, sorted, every value still text (blank = unknown).

        Raises
        ------
        BadLabels : no patients, or one twice.
        """
        file = self.path / "patients.csv"
        table = read_table(file)
        if "patient" not in table.columns or table.empty:
            raise BadLabels(f"{file} has no patients", "import the cohort again")
        twice = table.loc[table["patient"].duplicated(), "patient"]
        if len(twice):
            raise BadLabels(f"{file}: duplicate patient {twice.iloc[0]}", "keep one row per patient")
        return table.set_index("patient").sort_index().reindex(columns=_with_covariates(table))

    def endpoints(self) -> list[str]:
        """Outcomes that the cohort has labels for."""
        return _endpoints(self.patients())

    def labels(self, endpoint: str) -> pd.DataFrame:
        """time (months) and event (True = died) of the patients whose label is not blank, indexed by patient.

        Raises
        ------
        UnknownName : no such endpoint.
        BadLabels : half a label, a time that is not positive, an event that is not 0 or 1.
        """
        table = self.patients()
        if endpoint not in (known := _endpoints(table)):
            raise UnknownName(
                f"cohort {self.name} has no endpoint '{endpoint}'", f"It has: {', '.join(known) or 'none'}"
            )
        labels = table.loc[:, [f"{endpoint}_months", f"{endpoint}_event"]].set_axis(["time", "event"], axis=1)
        labels = labels[(labels != "").any(axis=1)]
        problems = label_problems(labels)
        if problems:
            patient, problem = next(iter(problems.items()))
            raise BadLabels(f"cohort {self.name}, endpoint {endpoint}: patient {patient} {problem}", DROP_INVALID)
        return pd.DataFrame(
            {"time": labels["time"].astype(np.float64), "event": labels["event"].astype(np.float64).astype(bool)}
        )

    def slides(self) -> pd.DataFrame:
        """patient, slide, file (absolute Path, or None where no feature file is known)."""
        file = self.path / "slides.csv"
        table = read_table(file) if file.exists() else pd.DataFrame(columns=["patient", "slide", "file"])
        if list(table.columns) != ["patient", "slide", "file"]:
            raise BadFile(f"{file} has the columns {list(table.columns)}, expected patient, slide, file")
        table["file"] = pd.Series([self.path / f if f else None for f in table["file"]], table.index, dtype=object)
        return table

    def expression(self) -> pd.DataFrame | None:
        """(patients, genes) float32, both unique and finite; None without expression.

        Raises
        ------
        BadExpression : NaN, a patient or a gene twice.
        """
        file = self.path / "expression.parquet"
        if not file.exists():
            return None
        try:
            table = pd.read_parquet(file)
        except Exception as error:
            raise BadFile(f"{file} cannot be read: {type(error).__name__}", "import the cohort again") from None
        check_expression(table, str(file))
        return table.astype(np.float32)

    def pathways(self) -> dict[str, list[str]]:
        """Name -> genes; empty without pathways."""
        return self._gene_sets("pathways.gmt")

    def families(self) -> dict[str, list[str]]:
        """Functional gene families (MCAT's six): name -> genes; empty without them."""
        return self._gene_sets("families.gmt")

    def _gene_sets(self, name: str) -> dict[str, list[str]]:
        file = self.path / name
        return read_gmt(file) if file.exists() else {}

    def fold_schemes(self) -> list[str]:
        """Imported fold schemes."""
        return sorted(file.stem for file in (self.path / "folds").glob("*.csv"))

    def folds(self, scheme: str) -> pd.DataFrame | None:
        """Table (fold, patient, split) of an imported scheme; None where there is none."""
        file = self.path / "folds" / f"{scheme}.csv"
        if scheme not in self.fold_schemes():
            return None
        table = read_table(file)
        if list(table.columns) != list(FOLD_COLUMNS):
            raise BadFolds(f"{file} has the columns {list(table.columns)}, expected {', '.join(FOLD_COLUMNS)}")
        wrong = table[~table["split"].isin(["train", "val", "test"]) | ~table["fold"].str.fullmatch(r"\d+")]
        if len(wrong):
            raise BadFolds(
                f"{file}: patient {wrong['patient'].iloc[0]} has the fold '{wrong['fold'].iloc[0]}' and the "
                f"split '{wrong['split'].iloc[0]}'",
                "folds are numbers, splits are train, val or test",
            )
        return table

    def write_slides(self, slides: pd.DataFrame, **changes: Any) -> None:
        """Replace slides.csv and fields of cohort.json.

        Parameters
        ----------
        slides : columns patient, slide, file (text, blank where there is none).
        changes : fields of `CohortInfo`.
        """
        write_table(self.path / "slides.csv", slides)
        write_info(self.path / "cohort.json", {**asdict(self.info), **changes})


def _endpoints(patients: pd.DataFrame) -> list[str]:
    columns = set(patients.columns)
    return sorted(c.removesuffix("_months") for c in columns if c.endswith("_months") and f"{c[:-7]}_event" in columns)


def _with_covariates(table: pd.DataFrame) -> list[str]:
    rest = [c for c in table.columns if c not in ("patient", *COVARIATES)]
    return [*(c for c in COVARIATES if c in table.columns), *rest]


def _write_cohort(folder: Path, content: CohortContent) -> None:
    write_table(folder / "patients.csv", content.patients.sort_values("patient"))
    write_table(folder / "slides.csv", content.slides)
    if content.expression is not None:
        content.expression.rename_axis("patient").sort_index().astype(np.float32).to_parquet(
            folder / "expression.parquet"
        )
    for name, sets in (("pathways.gmt", content.pathways), ("families.gmt", content.families)):
        if sets:
            write_gmt(folder / name, sets)
    for scheme, table in content.folds.items():
        write_table(
            child(folder / "folds", f"{scheme}.csv", "a fold scheme"),
            table.loc[:, list(FOLD_COLUMNS)].sort_values(list(FOLD_COLUMNS)),
        )
    write_info(folder / "cohort.json", asdict(content.info))


def read_info(file: Path) -> dict[str, Any]:
    """Read a file of `write_info`.

    Raises
    ------
    BadFile : it is missing, damaged, or of another format.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadFile(f"{file} cannot be read: {error}", "import the data again") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BadFile(f"{file} is not of format {FORMAT}", "it was written by another version; import the data again")
    return content


def write_info(file: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file that describes the folder it is in; each has the number of the format."""
    atomic_write(file, json.dumps({"format": FORMAT, **content}, indent=1) + "\n")
