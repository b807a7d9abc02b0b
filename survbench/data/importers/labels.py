"""Outcomes of a source: what events and times mean, whether they can be right, and which patients have none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from survbench.data.importers.draft import Draft
from survbench.data.root import COVARIATES
from survbench.data.validation import label_problems
from survbench.errors import BadConfig, BadLabels

__all__ = [
    "MONTHS",
    "as_event",
    "as_sex",
    "blanked",
    "check_labels",
    "drop_limit",
    "event_counts",
    "one_per_patient",
]

MONTHS = {"months": 1.0, "days": 30.4375, "years": 1 / 12}  # how many make a month
NOTHING = frozenset((
    "na", "n/a", "#n/a", "n.a.", "nan", "none", "null", "nil", "-", "--", "'--", ".", "?", "unknown", "missing",
    "[not_available]", "[not_applicable]", "[not_evaluated]", "[unknown]", "[discrepancy]", "[completed]",
    "not_available", "not_applicable", "not_reported", "not_evaluated",
))  # fmt: skip
DIED = frozenset((
    "dead", "deceased", "died", "death", "event", "recurred", "relapsed", "progressed", "progression", "recurrence",
    "relapse",
))  # fmt: skip
LIVED = frozenset((
    "alive", "living", "lived", "censored", "diseasefree", "progressionfree", "eventfree", "recurrencefree", "nonevent",
))  # fmt: skip
YES, NO = frozenset(("1", "true", "yes", "y")), frozenset(("0", "false", "no", "n"))
FLAG = re.compile(r"\s*([01])\s*:")  # cBioPortal: what comes after the colon are words for people
DROP = 0.05  # of the patients with a label, by default
SHORT, LONG, WHOLE = 2.0, 400.0, 1000.0  # months: medians, and a time in whole numbers, that nobody means


def blanked(values: pd.Series) -> pd.Series:
    """Text without blanks around it; what says that nothing is known is blank."""
    text = values.astype(str).str.strip()
    return text.mask(text.str.lower().str.replace(" ", "_").isin(NOTHING), "").astype(object)


def as_event(values: pd.Series, *, censorship: bool) -> pd.Series:
    """Flags and words as `1` (died), `0` (censored) or blank; other texts are kept, to be refused by name later.

    Parameters
    ----------
    values : of the source's column.
    censorship : whether 1 means censored there; a word such as `dead` means the same in either.
    """
    text = blanked(values)
    died, censored = ("0", "1") if censorship else ("1", "0")

    def flag(value: str) -> str:
        word = re.sub(r"[\s_-]", "", value.lower())
        if match := FLAG.match(value):
            words = re.sub(r"[\s_-]", "", value[match.end() :].lower())
            event = died if match[1] == "1" else censored
            if words in (LIVED if event == "1" else DIED):
                return value  # `0:DECEASED`: the flag and its word disagree
            word = match[1]
        elif re.fullmatch(r"[01]\.0*", word):
            word = word[0]
        if word in YES or word in NO:
            if censorship and not word.isdigit() and word not in ("true", "false"):
                return value  # nobody knows whether `yes` is said of the censoring
            return died if word in YES else censored
        return "1" if word in DIED else "0" if word in LIVED else value

    return text.map({value: flag(value) for value in text.unique()}).astype(object)


def as_sex(flags: pd.Series, *, male: bool = False) -> pd.Series:
    """F, M or blank, of a column named `is_female` or, where `male`, `is_male`."""
    events = as_event(flags, censorship=male)
    return events.map({"1": "F", "0": "M"}).fillna("")


def one_per_patient(table: pd.DataFrame, source: Path) -> pd.DataFrame:
    """One row per patient of a table with a row per slide.

    Numbers that are equal are the same value (55, 55.0), and a value beside a blank is the value.

    Raises
    ------
    BadLabels : two rows of a patient disagree, naming the patient and the column.
    """
    if not table["patient"].duplicated().any():
        return table.reset_index(drop=True)
    several = table["patient"].duplicated(keep=False)
    rows = table.drop_duplicates("patient").set_index("patient")
    for column in table.columns.drop("patient"):
        values = pd.DataFrame({"patient": table["patient"], "value": table[column]})[several]
        values = values[values["value"] != ""]
        numbers = pd.to_numeric(values["value"], errors="coerce")
        same = numbers.map(repr, na_action="ignore").where(numbers.notna(), values["value"])
        differing = same.groupby(values["patient"]).nunique()
        if (differing > 1).any():
            patient = differing.index[differing > 1][0]
            texts = sorted(set(values.loc[values["patient"] == patient, "value"]))
            raise BadLabels(
                f"{source}: the rows of patient {patient} disagree on {column}: {', '.join(texts[:3])}",
                "a patient has one outcome",
            )
        first = values.drop_duplicates("patient").set_index("patient")["value"]
        rows.loc[first.index, column] = first
    return rows.reset_index().loc[:, list(table.columns)]


def check_labels(draft: Draft, drop_invalid: bool | float | str | None) -> dict[str, dict[str, str]]:
    """Sort patients and columns, blank invalid labels if they are dropped; endpoint -> patient -> problem.

    Raises
    ------
    BadLabels : a label that cannot be right, times of another unit, or more labels to drop than the limit.
    """
    patients, invalid = draft.patients.sort_values("patient").reset_index(drop=True), {}
    endpoints = [c.removesuffix("_months") for c in map(str, patients.columns) if c.endswith("_months")]
    where, limit = f"{draft.info.source}: cohort {draft.info.name}", drop_limit(drop_invalid)
    if not endpoints:
        raise BadLabels(f"{where} has no pair of time and event columns")
    for endpoint in endpoints:
        columns = [f"{endpoint}_months", f"{endpoint}_event"]
        labels = patients.set_index("patient")[columns].set_axis(["time", "event"], axis=1).astype(str)
        labels = labels[(labels != "").any(axis=1)]
        at = f"{where}, endpoint {endpoint}"
        _refuse_codes(labels, at)
        problems = label_problems(labels)
        for patient, problem in problems.items():
            if limit is None and not _tolerated(str(labels.at[patient, "time"]), str(labels.at[patient, "event"])):
                raise BadLabels(
                    f"{at}: patient {patient} {problem}",
                    "correct the table, or add --drop-invalid to leave such labels out",
                )
        if not draft.unit_stated:
            _refuse_unit(labels, at)
        if problems:
            invalid[endpoint] = problems
        if limit is not None and problems:
            _refuse_many(labels, problems, limit, at)
            patients.loc[patients["patient"].isin(problems), columns] = ""
        if without := len(patients) - len(labels):
            draft.remarks.append(f"without an {endpoint} label: {without} of {len(patients)} patients")
    order = [
        "patient",
        *(c for c in COVARIATES if c in patients),
        *(c for e in endpoints for c in (f"{e}_months", f"{e}_event")),
    ]
    draft.patients = patients.loc[:, order]
    return invalid


def drop_limit(drop_invalid: bool | float | str | None) -> float | None:
    """Share of the labels that may be left out; None where none may.

    Parameters
    ----------
    drop_invalid : a share such as 0.12 or `12%`; True is `DROP`, False is None.

    Raises
    ------
    BadConfig : it is no share between 0 and 1.
    """
    if drop_invalid is False or drop_invalid is None:
        return None
    if drop_invalid is True:
        return DROP
    text = str(drop_invalid).strip()
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = np.nan
    if not 0 <= share <= 1:
        raise BadConfig(f"the limit of --drop-invalid is '{drop_invalid}'", "expected a share such as 5% or 0.05")
    return share


def _refuse_codes(labels: pd.DataFrame, at: str) -> None:
    """1 and 2 are never guessed to be 0 and 1: in R's survival package 2 is the event, elsewhere it is not."""
    numbers = pd.to_numeric(labels["event"].replace("", None), errors="coerce")
    if len(labels) and set(numbers.dropna()) <= {1.0, 2.0} and (numbers == 2).any():
        patient = numbers.index[numbers == 2][0]
        raise BadLabels(
            f"{at}: events are {', '.join(sorted(set(numbers.dropna().map('{:g}'.format))))} (patient {patient} has "
            "event 2), expected 0 (censored) or 1 (died); R's survival package writes 1 for censored and 2 for died",
            "write 0 and 1",
        )


def _refuse_unit(labels: pd.DataFrame, at: str) -> None:
    """Times that nobody is followed up for are in another unit than their column says."""
    times = pd.to_numeric(labels["time"].replace("", None), errors="coerce").dropna()
    times = times[(times > 0) & np.isfinite(times)]
    if times.empty:
        return
    median, longest = float(times.median()), float(times.max())
    fix = "say what the column holds with --time-unit days, months or years"
    if median > LONG or (longest > WHOLE and np.equal(np.mod(times, 1), 0).all()):
        raise BadLabels(f"{at}: times up to {longest:.0f} months ({longest / 12:.0f} years) look like days", fix)
    if median < SHORT:
        raise BadLabels(
            f"{at}: median follow-up of {median:.2g} months: the times may be in another unit",
            fix,
        )


def _refuse_many(labels: pd.DataFrame, problems: Mapping[str, str], limit: float, at: str) -> None:
    """Too many labels to leave out, or most of the dead or of the living, mean that a column was read wrongly."""
    patient, problem = next(iter(problems.items()))
    first = f"the first: patient {patient} {problem}"
    share = len(problems) / len(labels)
    if share > limit:
        raise BadLabels(
            f"{at}: {len(problems)} of {len(labels)} labels cannot be right ({share:.0%}), --drop-invalid leaves out "
            f"at most {limit:.0%}; {first}",
            "correct the table, or name a limit, such as --drop-invalid 12%",
        )
    texts = labels["event"]
    for value, count in texts[texts != ""].value_counts().items():
        dropped = int((texts[list(problems)] == value).sum())
        if dropped > count / 2 and count > 1:
            raise BadLabels(
                f"{at}: --drop-invalid would leave out {dropped} of the {count} patients whose event is '{value}'; "
                f"{first}",
                "correct the table: most of one kind of patient is never left out",
            )


def _tolerated(time: str, event: str) -> bool:
    """Whether a label lacks its time, or has a time of zero, and is valid otherwise: no follow-up at this endpoint."""
    zero_or_blank = time == "" or (pd.notna(number := pd.to_numeric(time, errors="coerce")) and number == 0)
    return event in ("", "0", "1") and (zero_or_blank or event == "")


def event_counts(patients: pd.DataFrame) -> dict[str, int]:
    """Endpoint -> deaths."""
    columns = [c for c in map(str, patients.columns) if c.endswith("_event")]
    return {c.removesuffix("_event"): int((patients[c] == "1").sum()) for c in columns}
