"""Folds: the two built-in schemes, imported ones, their validation and their summary (protocol rules 1 and 4).

A fold is three lists of patients.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from survbench.errors import BadFolds, UnknownName

__all__ = [
    "BUILT_IN",
    "DEFAULT_SCHEME",
    "FOLDS",
    "Fold",
    "folds_hash",
    "imported_folds",
    "make_folds",
    "summarize",
    "validate",
]

DEFAULT_SCHEME = "event-stratified"
BUILT_IN = {
    "event-stratified": "patients shuffled, the share of events kept equal; the paper's",
    "site-preserving": "all patients of a tissue source site on the same side; events balanced as far as sites allow",
}
FOLDS = 5
LEAST = 7  # deaths, and censored patients: without a test fifth, rounded up, there must be FOLDS left to divide again
FEW_EVENTS, FEW_PAIRS = 10, 300
_SEED = 0  # part of the protocol: everybody gets the same folds


@dataclass(frozen=True)
class Fold:
    """One outer fold: 64 % of the patients to learn from, 16 % to select with, 20 % to be scored on once.

    Attributes
    ----------
    index : number of the fold, from 0.
    train : patients to learn from.
    val : patients to select with.
    test : patients to score.
    """

    index: int
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def patients(self) -> tuple[str, ...]:
        return self.train + self.val + self.test

    def splits(self) -> dict[str, tuple[str, ...]]:
        return {"train": self.train, "val": self.val, "test": self.test}


def make_folds(labels: pd.DataFrame, sites: pd.Series, scheme: str) -> list[Fold]:
    """Folds of a built-in scheme.

    Parameters
    ----------
    labels : indexed by patient, sorted, with a boolean column `event`.
    sites : tissue source site of each patient, same index; needed by `site-preserving`.
    scheme : a name in `BUILT_IN`.

    Raises
    ------
    UnknownName : no such scheme.
    BadFolds : fewer events, censored patients or sites than folds.
    """
    if scheme not in BUILT_IN:
        raise UnknownName(f"Unknown fold scheme '{scheme}'", f"Built in: {', '.join(BUILT_IN)}")
    groups = sites.reindex(labels.index).to_numpy(dtype=object) if scheme == "site-preserving" else None
    if groups is not None and pd.isna(groups).any():
        lacking = labels.index[pd.isna(groups)][0]
        raise BadFolds(
            f"patient {lacking} has no site, which site-preserving folds need", "use --scheme event-stratified"
        )
    patients, event = labels.index.to_numpy(dtype=str), labels["event"].to_numpy(dtype=bool)
    deaths, censored = int(event.sum()), int((~event).sum())
    if min(deaths, censored) < LEAST:
        raise BadFolds(
            f"{len(event)} patients with {deaths} events and {censored} censored cannot be divided into {FOLDS} folds",
            f"training, validation and test patients of every fold need both: at least {LEAST} of either",
        )
    folds = []
    for index, (rest, test) in enumerate(_partition(event, groups, _SEED)):
        train, val = _train_val(event[rest], None if groups is None else groups[rest], index)
        folds.append(Fold(index, *(_names(patients, rows) for rows in (rest[train], rest[val], test))))
    return folds


def imported_folds(table: pd.DataFrame, labels: pd.DataFrame, source: str) -> list[Fold]:
    """Folds of a table (fold, patient, split), restricted to the cohort's patients.

    Without `val` in the table, a fifth of `train` becomes it: event-stratified, the same for everybody.

    Parameters
    ----------
    table : columns fold, patient, split.
    labels : indexed by patient, with a boolean column `event`.
    source : of the table, for messages.

    Raises
    ------
    BadFolds : a patient in two splits of a fold, or a split without patients.
    """
    folds = []
    for index, (_, rows) in enumerate(sorted(table.groupby("fold"), key=lambda item: int(str(item[0])))):
        twice = rows.loc[rows.duplicated("patient"), "patient"]
        if len(twice):
            raise BadFolds(
                f"{source}: patient {twice.iloc[0]} is twice in fold {index}", "keep one row per fold and patient"
            )
        rows = rows[rows["patient"].isin(labels.index)]
        split = {name: tuple(sorted(rows.loc[rows["split"] == name, "patient"])) for name in ("train", "val", "test")}
        if not split["val"] and split["train"]:
            rest = np.array(split["train"])
            train, val = _train_val(labels.loc[list(rest), "event"].to_numpy(dtype=bool), None, index)
            split |= {"train": _names(rest, train), "val": _names(rest, val)}
        folds.append(Fold(index, **split))
    return folds


def validate(folds: Sequence[Fold], patients: Iterable[str], source: str, sites: pd.Series | None = None) -> None:
    """Refuse folds that overlap, leave a patient out, score one twice, or divide a site.

    Whole patients are assigned, so no slide can be in two splits once no patient is.

    Parameters
    ----------
    folds : of one scheme.
    patients : of the cohort.
    source : of the folds, for messages.
    sites : of each patient, where no site may be divided.

    Raises
    ------
    BadFolds : any of these.
    """
    cohort = set(patients)
    for fold in folds:
        for name, members in fold.splits().items():
            if not members:
                raise BadFolds(f"{source}: fold {fold.index} has no {name} patients of this cohort")
            if len(set(members)) != len(members):
                raise BadFolds(f"{source}: fold {fold.index} lists a patient twice in {name}")
        for (one, first), (other, second) in combinations(fold.splits().items(), 2):
            where = f"in {one} and in {other} of fold {fold.index}"
            if both := set(first) & set(second):
                raise BadFolds(f"{source}: patient {min(both)} is {where}", "a patient belongs to one split of a fold")
            if sites is not None and (divided := set(sites.loc[list(first)]) & set(sites.loc[list(second)])):
                raise BadFolds(f"{source}: site {min(divided)} is {where}")
        unknown, missing = set(fold.patients) - cohort, cohort - set(fold.patients)
        if unknown or missing:
            what = (
                f"names {min(unknown)}, who is not in the cohort" if unknown else f"leaves out patient {min(missing)}"
            )
            raise BadFolds(f"{source}: fold {fold.index} {what}", "every fold must divide the whole cohort")
    tested = [patient for fold in folds for patient in fold.test]
    if len(set(tested)) != len(tested):
        raise BadFolds(f"{source}: some patient is in the test split of two folds", "test splits must be disjoint")
    if set(tested) != cohort:
        raise BadFolds(f"{source}: patient {min(cohort - set(tested))} is in no test split")


def folds_hash(folds: Sequence[Fold]) -> str:
    """Content hash of the folds: which patient is in which split."""
    digest = hashlib.sha256()
    for fold in folds:
        for name, members in fold.splits().items():
            digest.update(f"{fold.index}\t{name}\t{','.join(sorted(members))}\n".encode())
    return digest.hexdigest()


def summarize(folds: Sequence[Fold], labels: pd.DataFrame, sites: pd.Series) -> pd.DataFrame:
    """Per fold and split: patients, events, comparable pairs, median follow-up (months), sites shared with training.

    Parameters
    ----------
    folds : of one scheme.
    labels : `time` (months) and `event`, indexed by patient.
    sites : of each patient.
    """
    rows = []
    for fold in folds:
        training_sites = set(sites.loc[list(fold.train)].dropna())
        for name, members in fold.splits().items():
            part = labels.loc[list(members)]
            events, own_sites = int(part["event"].sum()), sites.loc[list(members)]
            pairs = comparable_pairs(part["time"].to_numpy(), part["event"].to_numpy())
            shared = None if name == "train" else len(set(own_sites.dropna()) & training_sites)
            rows.append(
                {
                    "fold": fold.index,
                    "split": name,
                    "patients": len(part),
                    "events": events,
                    "pairs": pairs,
                    "median_followup": median_followup(part),
                    "sites": own_sites.nunique(),
                    "sites_shared": shared,
                    "few": name == "test" and (events < FEW_EVENTS or pairs < FEW_PAIRS),
                }
            )
    return pd.DataFrame(rows)


def comparable_pairs(time: np.ndarray, event: np.ndarray) -> int:
    """Ordered pairs that Harrell's C compares: the first died, the second lived longer or was censored at that time."""
    died = event.astype(bool)
    later = time[died][:, None] < time[None, :]
    tied = (time[died][:, None] == time[None, :]) & ~died[None, :]
    return int((later | tied).sum())


def median_followup(labels: pd.DataFrame) -> float:
    """Reverse Kaplan-Meier median of the follow-up in months (deaths censor it); NaN where it is not reached."""
    from sksurv.nonparametric import kaplan_meier_estimator

    censored = ~labels["event"].to_numpy(dtype=bool)
    if not censored.any():
        return float("nan")
    times, survival = kaplan_meier_estimator(censored, labels["time"].to_numpy())
    reached = survival <= 0.5
    return float(times[reached][0]) if reached.any() else float("nan")


def _partition(event: np.ndarray, groups: np.ndarray | None, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    fewest = min(int(event.sum()), int((~event).sum()))
    if fewest < FOLDS:
        raise BadFolds(
            f"{len(event)} patients with {int(event.sum())} events cannot be divided into {FOLDS} folds",
            f"each fold needs a death and a censored patient, so at least {FOLDS} of either",
        )
    if groups is None:
        splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
        return splitter.split(np.zeros(len(event)), event)
    if len(set(groups)) < FOLDS:
        raise BadFolds(
            f"{len(set(groups))} sites cannot be divided into {FOLDS} folds", "use --scheme event-stratified"
        )
    return StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(np.zeros(len(event)), event, groups)


def _train_val(event: np.ndarray, groups: np.ndarray | None, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of train and validation inside what is not test: four fifths and one fifth, so 64 % and 16 % of all."""
    return next(_partition(event, groups, _SEED + 1 + fold))


def _names(patients: np.ndarray, rows: np.ndarray) -> tuple[str, ...]:
    return tuple(sorted(str(p) for p in patients[rows]))
