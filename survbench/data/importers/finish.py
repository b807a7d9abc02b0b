"""What every draft must pass before it is written, and the report of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from survbench.data.formats import slide_stem
from survbench.data.gene_sets import match_genes, measured_remark
from survbench.data.importers.draft import Draft
from survbench.data.importers.labels import check_labels, event_counts
from survbench.errors import BadLabels

__all__ = ["CohortReport", "ImportReport", "finish"]


@dataclass(frozen=True, kw_only=True)
class CohortReport:
    """What was imported, and what was not.

    Attributes
    ----------
    name : of the cohort.
    patients : number of patients.
    slides : number of slides.
    slides_with_features : number of slides with a feature file.
    events : endpoint -> deaths.
    genes : number of genes in the expression table.
    pathways : number of pathways.
    families : number of functional gene families.
    folds : scheme -> number of folds.
    without_expression : patients without expression, where the cohort has some.
    expression_only : number of rows of the expression table whose patient has no label.
    duplicated_expression : see `Draft`.
    unlabeled_in_folds : see `Draft`.
    invalid : endpoint -> patient -> what is wrong with the label.
    dropped : whether invalid labels were left out.
    remarks : see `Draft`.
    notes : for the user.
    """

    name: str
    patients: int
    slides: int
    slides_with_features: int
    events: Mapping[str, int]
    genes: int
    pathways: int
    families: int
    folds: Mapping[str, int]
    without_expression: tuple[str, ...]
    expression_only: int
    duplicated_expression: tuple[str, ...]
    unlabeled_in_folds: tuple[str, ...]
    invalid: Mapping[str, Mapping[str, str]]
    dropped: bool
    remarks: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ImportReport:
    """One report per cohort."""

    cohorts: tuple[CohortReport, ...]


def _measured(draft: Draft, kind: str, sets: Mapping[str, list[str]]) -> Mapping[str, list[str]]:
    """Gene sets without the genes that were not measured, aloud."""
    if not sets or draft.expression is None:
        return sets
    matched = match_genes(sets, draft.expression.columns, draft.info.name, draft.remarks.append)
    draft.remarks.append(measured_remark(kind, sets, matched))
    return matched


def finish(draft: Draft, files: Mapping[str, str], drop_invalid: bool | float | str | None) -> CohortReport:
    """Check a draft and complete it in place, so that it can be written.

    Parameters
    ----------
    draft : to check.
    files : slide -> feature file.
    drop_invalid : leave out labels that cannot be right.

    Raises
    ------
    BadLabels : a negative time, or an event that is not 0 or 1. Times of zero and half labels, which public tables have
        at single endpoints, are kept and reported; using that endpoint is then an error.
    BadExpression : a pathway or family without measured genes.
    """
    invalid, name = check_labels(draft, drop_invalid), draft.info.name
    labeled = measured = set(draft.patients["patient"])
    if draft.expression is None:
        draft.families = {}  # gene sets mean nothing without it
    else:
        measured = set(draft.expression.index)
        draft.expression = draft.expression.loc[draft.expression.index.isin(labeled)].sort_index()
        draft.pathways = _measured(draft, "pathways", draft.pathways)
        draft.families = _measured(draft, "families", draft.families)
    stems = draft.slides["slide"].map(slide_stem)
    if stems.duplicated().any():
        raise BadLabels(
            f"{draft.info.source}: cohort {name} lists slide {draft.slides['slide'][stems.duplicated()].iloc[0]} twice",
            "a slide belongs to one patient, or it could be learned from and scored on",
        )
    slides = draft.slides.assign(file=[files.get(slide, "") for slide in draft.slides["slide"]])
    draft.slides = slides.loc[:, ["patient", "slide", "file"]].sort_values(["patient", "slide"], ignore_index=True)
    return CohortReport(
        name=name,
        patients=len(draft.patients),
        slides=len(draft.slides),
        slides_with_features=int((draft.slides["file"] != "").sum()),
        events=event_counts(draft.patients),
        genes=0 if draft.expression is None else draft.expression.shape[1],
        pathways=len(draft.pathways),
        families=len(draft.families),
        folds={scheme: table["fold"].nunique() for scheme, table in draft.folds.items()},
        without_expression=tuple(sorted(labeled - measured)),
        expression_only=len(measured - labeled),
        duplicated_expression=draft.duplicated_expression,
        unlabeled_in_folds=draft.unlabeled_in_folds,
        invalid=invalid,
        dropped=bool(drop_invalid),
        remarks=tuple(draft.remarks),
        notes=draft.info.notes,
    )
