"""A cohort as a task sees it: one endpoint, complete cases, one content hash; and its folds made ready for training.

Reads what root.py and store.py hold. Everything fitted here is fitted on the training split (protocol rules 3 and 7).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from survbench.cards import Modality
from survbench.data.batches import Split
from survbench.data.covariates import encode_clinical
from survbench.data.folds import BUILT_IN, Fold, imported_folds, make_folds, validate
from survbench.data.gene_sets import match_genes
from survbench.data.packing import pack
from survbench.data.root import CohortFolder, DataRoot
from survbench.data.store import BagStore
from survbench.data.validation import check_counts
from survbench.errors import BadLabels, UnknownName
from survbench.model import Inputs

__all__ = ["Cohort", "ExpressionScaler", "Simulated", "load_cohort"]

POLICY = "complete cases: a patient counts when no modality that the cohort has is missing"


class Simulated(StrEnum):
    """How much of a cohort is invented; results on either kind never share a table with real ones."""

    NO = ""
    SLIDES = "slides"
    ALL = "all"


@dataclass(frozen=True)
class ExpressionScaler:
    """Standardization per gene, fitted on training patients; a gene that never varies becomes 0.

    Attributes
    ----------
    mean : (genes,) float64 of the training patients.
    scale : (genes,) float64, their standard deviation; 1 for a gene that never varies.
    """

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, expression: np.ndarray) -> ExpressionScaler:
        """Fit on (training patients, genes)."""
        values = expression.astype(np.float64)
        spread = values.std(axis=0)
        return cls(values.mean(axis=0), np.where(spread > 1e-12, spread, 1.0))

    def transform(self, expression: np.ndarray) -> np.ndarray:
        """(patients, genes) -> the same, standardized, float32."""
        return ((expression - self.mean) / self.scale).astype(np.float32)


@dataclass(frozen=True, repr=False, kw_only=True)
class Cohort:
    """Patients of one cohort with an outcome at one endpoint and no modality missing.

    Attributes
    ----------
    name : in the data root.
    title : for people.
    endpoint : such as `os`.
    patients : table indexed by patient (sorted) with `time` (months), `event` (died) and the covariates.
    expression : (patients, genes of the pathways, alphabetical), rows as in `patients`; None without expression.
    pathways : name -> genes, alphabetical.
    families : name of a functional gene family -> genes, alphabetical.
    clinical : (patients, columns) of `encode_clinical`.
    bags : packed features; None without slides.
    excluded : reason -> patients who are left out, for all models alike.
    simulated : how much is invented.
    folder : of the cohort in the data root.
    """

    name: str
    title: str
    endpoint: str
    patients: pd.DataFrame
    expression: pd.DataFrame | None
    pathways: Mapping[str, Sequence[str]]
    families: Mapping[str, Sequence[str]]
    clinical: pd.DataFrame | None
    bags: BagStore | None
    excluded: Mapping[str, tuple[str, ...]]
    simulated: Simulated
    folder: CohortFolder

    def __repr__(self) -> str:
        kind = {Simulated.ALL: "; simulated", Simulated.SLIDES: "; simulated slides"}.get(self.simulated, "")
        events = int(self.patients["event"].sum())
        return (
            f"Cohort {self.name}: {len(self.patients)} patients, {events} events ({self.endpoint}); "
            f"{', '.join(sorted(self.modalities)) or 'labels alone'}{kind}"
        )

    @property
    def modalities(self) -> frozenset[Modality]:
        has = {Modality.SLIDES: self.bags, Modality.EXPRESSION: self.expression, Modality.CLINICAL: self.clinical}
        return frozenset(modality for modality, content in has.items() if content is not None)

    @cached_property
    def content_hash(self) -> str:
        """Identity of the data: of patients, labels, sites, expression, pathways and features."""
        digest = hashlib.sha256(f"{self.name}\n{self.endpoint}\n".encode())
        known = self.patients.reindex(columns=["time", "event", "site"])
        for patient, time, event, site in zip(known.index, *(known[c].tolist() for c in known), strict=True):
            digest.update(f"{patient}\t{time:.9g}\t{int(event)}\t{site}\n".encode())
        if self.expression is not None:
            digest.update("\t".join(self.expression.columns).encode())
            digest.update(np.ascontiguousarray(self.expression.to_numpy(np.float32)).tobytes())
            for name, genes in [*self.pathways.items(), *self.families.items()]:
                digest.update(f"{name}\t{','.join(genes)}\n".encode())
        if self.clinical is not None:
            digest.update(self.clinical.to_csv(float_format="%.6g", lineterminator="\n").encode())
        if self.bags is not None:
            digest.update(self.bags.content_hash.encode())
        if self.simulated is Simulated.SLIDES:  # the same numbers from real slides are other data
            digest.update(b"simulated slides")
        return digest.hexdigest()

    @cached_property
    def inputs(self) -> Inputs:
        """What models are built from."""
        genes = tuple(self.expression.columns) if self.expression is not None else ()
        position = {gene: i for i, gene in enumerate(genes)}

        def located(sets: Mapping[str, Sequence[str]]) -> dict[str, tuple[int, ...]]:
            return {name: tuple(position[g] for g in members) for name, members in sets.items()}

        return Inputs(
            self.bags.dim if self.bags is not None else 0,
            genes=genes,
            pathways=located(self.pathways),
            families=located(self.families),
            clinical=() if self.clinical is None else tuple(map(str, self.clinical.columns)),
        )

    @property
    def sites(self) -> pd.Series:
        return self.patients["site"]

    def folds(self, scheme: str) -> list[Fold]:
        """Validated folds of a built-in or imported scheme."""
        labels, source = self.patients[["time", "event"]], f"cohort {self.name}, folds {scheme}"
        if scheme in BUILT_IN:
            folds = make_folds(labels, self.sites, scheme)
        elif (table := self.folder.folds(scheme)) is not None:
            folds = imported_folds(table, labels, source)
        else:
            known = ", ".join(dict.fromkeys([*BUILT_IN, *self.folder.fold_schemes()]))
            raise UnknownName(f"Unknown fold scheme '{scheme}' for cohort {self.name}", f"Known: {known}")
        validate(folds, self.patients.index, source, self.sites if scheme == "site-preserving" else None)
        return folds

    def scaler(self, fold: Fold) -> ExpressionScaler | None:
        """Standardization fitted on the fold's training patients."""
        if self.expression is None:
            return None
        return ExpressionScaler.fit(self.expression.loc[list(fold.train)].to_numpy())

    def split(self, members: tuple[str, ...], scaler: ExpressionScaler | None) -> Split:
        """The data of some patients, and of nobody else.

        Parameters
        ----------
        members : patients, in the order of the split.
        scaler : of the expression; None leaves expression out.
        """
        patients = list(members)
        expression = None
        if self.expression is not None and scaler is not None:
            expression = scaler.transform(self.expression.loc[patients].to_numpy())
        return Split(
            patients=tuple(members),
            time=self.patients.loc[patients, "time"].to_numpy(np.float64),
            event=self.patients.loc[patients, "event"].to_numpy(bool),
            expression=expression,
            bags=self.bags,
            clinical=None if self.clinical is None else self.clinical.loc[patients].to_numpy(np.float32),
        )


def load_cohort(root: DataRoot, name: str, endpoint: str, expected: Mapping[str, Any] | None = None) -> Cohort:
    """Load, join by patient identifier, and reduce to complete cases.

    Parameters
    ----------
    root : that holds the cohort.
    name : of the cohort.
    endpoint : outcome to load.
    expected : `patients` and `events` (per endpoint) that a cohort card states.

    Raises
    ------
    UnknownName : no such cohort or endpoint.
    BadLabels : invalid labels, or counts other than the card's.
    """
    folder = root.cohort(name)
    table, labels = folder.patients(), folder.labels(endpoint)
    patients = labels.join(table.reindex(columns=["site", "age", "sex", "stage", "grade"]))
    stated = dict(expected or {})
    stated["events"] = {of: count for of, count in stated.get("events", {}).items() if of == endpoint}
    check_counts(name, len(labels), {endpoint: int(labels["event"].sum())}, stated)
    expression = folder.expression()
    bags = pack(folder) if folder.slides()["file"].notna().any() else None
    excluded = {f"no {endpoint} label": tuple(sorted(set(table.index) - set(labels.index)))}
    if expression is not None:
        excluded["no expression"] = tuple(sorted(set(patients.index) - set(expression.index)))
    if bags is not None:
        excluded["no slides"] = tuple(sorted(set(patients.index) - set(bags.patients)))
    complete = patients.drop(index=sorted(set().union(*excluded.values()) & set(patients.index))).sort_index()
    if complete.empty:
        raise BadLabels(
            f"cohort {name} has no patient with {endpoint} label and all modalities", "see `survbench data check`"
        )
    pathways: dict[str, list[str]] = {}
    families: dict[str, list[str]] = {}
    if expression is not None:
        pathways = match_genes(dict(sorted(folder.pathways().items())), expression.columns, name)
        genes = set().union(*pathways.values()) or set(expression.columns)  # all where there are no pathways
        expression = expression.loc[complete.index, sorted(genes)]
        left = {family: sorted(genes & set(members)) for family, members in sorted(folder.families().items())}
        families = {family: members for family, members in left.items() if members}
    info = folder.info
    slides_alone = bags is not None and (info.simulated_slides or bags.simulated)
    return Cohort(
        name=name,
        title=info.title,
        endpoint=endpoint,
        patients=complete,
        expression=expression,
        pathways=pathways,
        families=families,
        clinical=encode_clinical(complete),
        bags=bags,
        excluded={reason: patients for reason, patients in excluded.items() if patients},
        simulated=Simulated.ALL if info.simulated else Simulated.SLIDES if slides_alone else Simulated.NO,
        folder=folder,
    )
