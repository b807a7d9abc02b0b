"""Names of patients as tables write them, joined with those of the labels; never compared as numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from survbench.console import shown
from survbench.data.barcodes import BARCODE, person

__all__ = ["PATIENT", "SAMPLE", "Matched", "alike", "match_patients", "normal", "persons"]

PATIENT = ("patient", "patientid", "case", "caseid", "bcrpatientbarcode", "participant", "participantid",
           "casesubmitterid", "submitterid", "subject", "subjectid", "usubjid",
           "donor", "donorid", "individual", "individualid")  # fmt: skip
SAMPLE = ("sample", "sampleid", "barcode", "samplebarcode", "bcrsamplebarcode", "aliquot", "aliquotid",
          "aliquotbarcode", "samplesubmitterid", "tumorsamplebarcode")  # fmt: skip
TUMOURS = ("01", "03", "05", "09", "02", "04", "06", "07", "08", "40")  # primary ones first
ZEROS = re.compile(r"(?<!\d)0+(?=\d)|\.0+$")


@dataclass(frozen=True)
class Matched:
    """Which patient each name of a table is.

    Attributes
    ----------
    patients : name -> patient of the labels, of the names that are one; one name a patient.
    left : other samples of these patients.
    remarks : for the user.
    """

    patients: dict[str, str]
    left: frozenset[str]
    remarks: tuple[str, ...]


def normal(name: str) -> str:
    """A column's name without case, blanks and punctuation: `Patient ID`, `patient_id` and `_PATIENT` are two."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def persons(names: pd.Series, file: Path, say: Callable[[str], None]) -> pd.Series:
    """Patients of a column in which all are samples of TCGA: their first 12 characters; other names as they are."""
    joined = names.map(person)
    if joined.isna().any() or (joined == names.str.upper()).all():
        return names
    say(f"{file.name}: samples are patients by their first 12 characters: {names.iloc[0]} is {joined.iloc[0]}")
    return joined.astype(object)


def match_patients(names: Iterable[str], patients: Iterable[str]) -> Matched:
    """Join names with patients: as they are, else by the first twelve characters of a TCGA barcode.

    Parameters
    ----------
    names : of a table, in its order.
    patients : of the labels.
    """
    known, names = set(patients), list(dict.fromkeys(names))
    matched = {name: name for name in names if name in known}
    taken, normals, mine = set(matched.values()), set(), set()
    samples: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        if name in matched or (found := BARCODE.fullmatch(name)) is None:
            continue
        patient, kind = f"TCGA-{found[1]}-{found[2]}".upper(), found[4] or "01"
        if patient not in known:
            continue
        mine.add(name)
        if patient in taken:
            continue
        if kind in TUMOURS:
            samples.setdefault(patient, []).append((TUMOURS.index(kind), name))
        else:
            normals.add(patient)
    matched |= {min(found)[1]: patient for patient, found in samples.items()}
    return Matched(matched, frozenset(mine - set(matched)), tuple(_remarks(samples, normals - set(samples))))


def _remarks(samples: dict[str, list[tuple[int, str]]], normals: set[str]) -> Iterable[str]:
    if samples:
        patient, found = next(iter(samples.items()))
        yield f"samples are joined by their first 12 characters ({len(samples)}): {min(found)[1]} is patient {patient}"
    several = {patient: sorted(found) for patient, found in samples.items() if len(found) > 1}
    if several:
        patient, found = next(iter(several.items()))
        left = ", ".join(name for _, name in found[1:3])
        yield (
            f"of several samples of a patient ({len(several)} patients) the primary tumour, and the first in order, is "
            f"taken: of {patient} {found[0][1]}, not {left}"
        )
    if normals:
        yield f"patients who have samples of normal tissue only, not used ({len(normals)}): {shown(sorted(normals))}"


def alike(names: Iterable[str], patients: Iterable[str]) -> tuple[str, list[tuple[str, str]]]:
    """Names and patients that are not equal and differ by little: by what, and the pairs.

    Parameters
    ----------
    names : of a table, those that no patient has.
    patients : of the labels, those that the table lacks.
    """
    names, patients = list(names), list(patients)
    ways = (
        ("leading zeros or .0", lambda name: ZEROS.sub("", name)),
        ("upper and lower case", str.lower),
        ("punctuation", lambda name: re.sub(r"[\W_]+", "", name).lower()),
        ("an X that R puts before numbers", lambda name: re.sub(r"^X(?=\d)", "", name)),
    )
    for way, form in ways:
        forms = {form(patient): patient for patient in patients}
        pairs = [(name, forms[form(name)]) for name in names if form(name) in forms]
        if pairs:
            return way, pairs
    longer = [(name, patient) for patient in patients[:50] for name in names[:50] if _goes_on(name, patient)]
    return ("an ending", longer) if longer else ("", [])


def _goes_on(name: str, patient: str) -> bool:
    short, long = sorted((name, patient), key=len)
    decimal = re.fullmatch(r"\d+[.,]\d+", long) is not None
    return bool(short) and long.startswith(short) and not decimal and re.match(r"[\W_]", long[len(short) :]) is not None
