"""Clinical covariates: the columns that hold them, what their values mean, and how many of them were understood."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import pandas as pd

from survbench.data.barcodes import BARCODE

__all__ = ["covariate_columns", "covariate_report", "encode_clinical", "site_of", "years"]

DAYS_PER_YEAR = 365.25
OLDEST = 120.0  # years
DAYS = 1000.0  # nobody is 1,000 years old: a column that is above everywhere holds days
_NAMES = {  # covariate -> names of columns, the first that is there counts; without case and punctuation
    "site": "site tissuesourcesite tss center centre hospital institution",
    "age": "age ageatdiagnosis ageatinitialpathologicdiagnosis ageatindex diagnosisage ageyears ageinyears agedays",
    "sex": "sex gender isfemale female ismale male",
    "stage": "stage ajccpathologictumorstage ajccpathologicstage pathologicstage ajccstage tumorstage tumourstage "
    "clinicalstage pathstage",
    "grade": "grade histologicalgrade histologicgrade tumorgrade tumourgrade neoplasmhistologicgrade",
}
_STAGE = re.compile(r"^(?:STAGE\s*)?(IV|III|II|I|[1-4])(?:\.0+|\s*[ABC]\d?)?$")
_GRADE = re.compile(r"^(?:G|GRADE\s*)?([1-4])(?:\.0+)?$")
_UNKNOWN = r"(?:STAGE|GRADE|G)?\s*X|TX|NX|UNKNOWN|OTHER"  # says itself that it is not known
_ROMAN = {"I": 1.0, "II": 2.0, "III": 3.0, "IV": 4.0}
_SEX = {"F": 1.0, "FEMALE": 1.0, "WOMAN": 1.0, "M": 0.0, "MALE": 0.0, "MAN": 0.0}


def covariate_columns(columns: Iterable[str]) -> dict[str, str]:
    """Covariate -> the column that holds it, by the column's name."""
    plain = {re.sub(r"[^a-z]", "", column.lower()): column for column in reversed(list(columns))}
    found = {}
    for covariate, names in _NAMES.items():
        column = next((plain[name] for name in names.split() if name in plain), None)
        if column is not None:
            found[covariate] = column
    return found


def encode_clinical(patients: pd.DataFrame) -> pd.DataFrame | None:
    """Age in years, sex (female 1, male 0), stage 1-4 and grade 1-4 as numbers; NaN where unknown.

    `Stage IIIA`, `IIIA`, `III` and `3` are 3, `G2`, `Grade 2` and `2.0` are 2. Nothing is fitted. A column that is
    known of nobody is left out; None if that leaves nothing.
    """
    numbers = _numbers(patients)
    known = numbers.loc[:, numbers.notna().any()]
    return known if len(known.columns) else None


def covariate_report(patients: pd.DataFrame) -> list[str]:
    """A line for each covariate of which values were not understood.

    Parameters
    ----------
    patients : text columns age, sex, stage and grade, as far as they are there.
    """
    numbers, lines = _numbers(patients), []
    for name in numbers.columns:
        if name not in patients or not (given := _text(patients)[name] != "").any():
            continue
        lost = given & numbers[name].isna() & ~_text(patients)[name].str.fullmatch(_UNKNOWN)
        if lost.any():
            first = patients.loc[lost, name].iloc[0]
            understood = int(given.sum() - lost.sum())
            hint = "; 0 and 1 say which under the name is_female" if name == "sex" and _flags(patients[name]) else ""
            lines.append(f"{name}: {understood} of {int(given.sum())} values understood; not '{first}'{hint}")
        elif name == "age" and float(numbers["age"].max()) > OLDEST:
            lines.append(f"age: up to {numbers['age'].max():.0f} years; are they days?")
    return lines


def years(ages: pd.Series, say: Callable[[str], None]) -> pd.Series:
    """Ages as text in years; days, which a column holds that is above 1,000 everywhere, are converted aloud."""
    numbers = pd.to_numeric(ages.replace("", None), errors="coerce")
    if numbers.notna().sum() == 0 or not (numbers.dropna() > DAYS).all():
        return ages
    say(f"age: {numbers.min():.0f} to {numbers.max():.0f} are days; read as years of {DAYS_PER_YEAR} days")
    return (numbers / DAYS_PER_YEAR).round(2).map(repr).where(numbers.notna(), ages).astype(object)


def site_of(patients: pd.Series) -> pd.Series | None:
    """The site in TCGA barcodes; None where not every patient has such a name."""
    found = [BARCODE.fullmatch(patient) for patient in patients]
    sites = [of[1].upper() for of in found if of is not None]
    return pd.Series(sites, patients.index, dtype=object) if sites and len(sites) == len(found) else None


def _numbers(patients: pd.DataFrame) -> pd.DataFrame:
    text = _text(patients)
    stage = text["stage"].str.extract(_STAGE)[0]
    return pd.DataFrame(
        {
            "age": pd.to_numeric(text["age"], errors="coerce"),
            "sex": text["sex"].map(_SEX),
            "stage": stage.map(_ROMAN).fillna(pd.to_numeric(stage, errors="coerce")),
            "grade": pd.to_numeric(text["grade"].str.extract(_GRADE)[0], errors="coerce"),
        },
        index=patients.index,
    ).astype("float64")


def _text(patients: pd.DataFrame) -> pd.DataFrame:
    given = patients.reindex(columns=["age", "sex", "stage", "grade"]).astype(object)
    return given.where(given.notna(), "").astype(str).apply(lambda column: column.str.strip().str.upper())


def _flags(values: pd.Series) -> bool:
    numbers = pd.to_numeric(values.replace("", None), errors="coerce").dropna()
    return len(numbers) > 0 and set(numbers) <= {0.0, 1.0, 2.0}
