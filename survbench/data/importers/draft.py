"""A cohort on its way from a source to a data root, and how its files are found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from survbench.data.formats import slide_stem
from survbench.data.gene_sets import read_gene_sets
from survbench.data.importers.expression import read_expression
from survbench.data.importers.hidden_outcomes import refuse_hidden_outcomes
from survbench.data.root import FOLD_COLUMNS, CohortContent
from survbench.errors import BadFolds

__all__ = ["Draft", "first_file", "select"]


@dataclass(kw_only=True)
class Draft(CohortContent):
    """A cohort as it is in its source, until `finish` has checked it: all values are text, slides have no file.

    Attributes
    ----------
    remarks : what was found, changed or not used, a line each, for the user.
    duplicated_expression : patients with several rows in the expression table.
    unlabeled_in_folds : patients that are in the folds and not in the label table.
    unit_stated : whether the user said what the times are; otherwise they must be plausible.
    """

    remarks: list[str] = field(default_factory=list)
    duplicated_expression: tuple[str, ...] = ()
    unlabeled_in_folds: tuple[str, ...] = ()
    unit_stated: bool = False

    def add_expression(self, expression: Path, pathways: Path | None, families: Path | None) -> None:
        """Read an expression table, and gene sets where there are files of them."""
        say = self.remarks.append
        self.expression, self.duplicated_expression = read_expression(expression, self.patients["patient"], say)
        refuse_hidden_outcomes(self.expression, self.patients, expression)
        measured = frozenset(self.expression.columns)
        self.pathways = read_gene_sets(pathways, say, measured) if pathways is not None else {}
        self.families = read_gene_sets(families, say, measured) if families is not None else {}

    def add_official(self, folds: pd.DataFrame) -> None:
        """Keep folds as published, without the patients who have no label; these are listed.

        Raises
        ------
        BadFolds : nobody in them has a label, or slides of a patient are on two sides.
        """
        folds = self._of_patients(folds)
        labeled = folds["patient"].isin(self.patients["patient"])
        if not labeled.any():
            listed, known = folds["patient"].iloc[0] if len(folds) else "nobody", self.patients["patient"].iloc[0]
            raise BadFolds(
                f"{self.info.source}: nobody in the folds has a label: they list {listed}, the labels {known}",
                "list patients as the label table names them",
            )
        self.unlabeled_in_folds = tuple(sorted(set(folds.loc[~labeled, "patient"])))
        self.folds = {"official": folds.loc[labeled, list(FOLD_COLUMNS)]}

    def _of_patients(self, folds: pd.DataFrame) -> pd.DataFrame:
        """Folds that list slides are those of their patients."""
        owner = dict(zip(self.slides["slide"].map(slide_stem), self.slides["patient"], strict=True))
        names = folds["patient"]
        stems = names.map(slide_stem)
        if names.isin(self.patients["patient"]).any() or not stems.isin(owner).any():
            return folds
        patients = folds.assign(patient=stems.map(owner).fillna(names)).drop_duplicates(["fold", "patient", "split"])
        twice = patients[patients.duplicated(["fold", "patient"])]
        if len(twice):
            fold, patient = twice[["fold", "patient"]].iloc[0]
            raise BadFolds(
                f"{self.info.source}: in fold {fold} slides of patient {patient} are on two sides",
                "all slides of a patient belong to one split",
            )
        first = f"{names.iloc[0]} is {patients['patient'].iloc[0]}"
        self.remarks.append(f"folds list slides; their patients were taken: {first}")
        return patients


def select(
    places: Iterable[tuple[str, Path]], aliases: Mapping[str, str], only: Sequence[str] | None
) -> list[tuple[str, str, Path]]:
    """Cohorts to import.

    Parameters
    ----------
    places : (stem, path) of each cohort in the source.
    aliases : stem -> name of the cohort, where they differ.
    only : stems or names; None for all.

    Returns
    -------
    (stem, name, path) of each.
    """
    named = [(stem, aliases.get(stem, stem), place) for stem, place in places]
    return [of for of in named if only is None or of[0] in only or of[1] in only]


def first_file(folder: Path, *names: str) -> Path | None:
    """The first of these files that exists."""
    return next((file for name in names if (file := folder / name).exists()), None)
