"""A cohort on its way from a source to a data root, and how its files are found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from survbench.data.gene_sets import read_gene_sets
from survbench.data.importers.expression import read_expression
from survbench.data.root import FOLD_COLUMNS, CohortContent

__all__ = ["Draft", "first_file", "select"]


@dataclass(kw_only=True)
class Draft(CohortContent):
    """A cohort as it is in its source, until `finish` has checked it: all values are text, slides have no file.

    Attributes
    ----------
    remarks : what was found, changed or not used, a line each, for the user.
    duplicated_expression : patients with several rows in the expression table.
    unlabeled_in_folds : patients that are in the folds and not in the label table.
    """

    remarks: list[str] = field(default_factory=list)
    duplicated_expression: tuple[str, ...] = ()
    unlabeled_in_folds: tuple[str, ...] = ()

    def add_expression(self, expression: Path, pathways: Path | None, families: Path | None) -> None:
        """Read an expression table, and gene sets where there are files of them."""
        say = self.remarks.append
        self.expression, self.duplicated_expression = read_expression(expression, self.patients["patient"], say)
        measured = frozenset(self.expression.columns)
        self.pathways = read_gene_sets(pathways, say, measured) if pathways is not None else {}
        self.families = read_gene_sets(families, say, measured) if families is not None else {}

    def add_official(self, folds: pd.DataFrame) -> None:
        """Keep folds as published, without the patients who have no label; these are listed."""
        labeled = folds["patient"].isin(self.patients["patient"])
        self.unlabeled_in_folds = tuple(sorted(set(folds.loc[~labeled, "patient"])))
        self.folds = {"official": folds.loc[labeled, list(FOLD_COLUMNS)]}


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
