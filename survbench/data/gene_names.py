"""Gene symbols that a spreadsheet turned into dates or numbers (MARCH1, SEPT2, DEC1 and others)."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["damaged_names"]

ENGLISH = (
    "jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?"
    "|aug(ust)?|sept?(ember)?|oct(ober)?|nov(ember)?|dec(ember)?"
)
GERMAN = "j[aä]nn?(er|uar)?|febr?(uar)?|m[aä]rz|mrz|m[aä]r|mai|juni?|juli?|okt(ober)?|dez(ember)?"
FRENCH = "janv(ier)?|f[eé]vr?(ier)?|mars|avr(il)?|juin|juil(let)?|ao[uû]t|d[eé]c(embre)?"
OTHERS = (
    "ene|abr|ago|dic|gen|mag|giu|lug|set|ott|mrt|mei|fev|out|dez|maj|okt|m[aá]j"  # after a day only: AGO2 is a gene
)
MONTH = f"({ENGLISH}|{GERMAN}|{FRENCH})"
CLOCK = r"([ T]\d{1,2}:\d{2}(:\d{2})?(\.\d+)?( ?[AaPp]\.?[Mm]\.?)?)?"
GAP = r"[-./\s]{1,2}"
DATE = re.compile(
    rf"\d{{1,2}}{GAP}({MONTH}|{OTHERS})\.?({GAP}\d{{2,4}})?{CLOCK}"  # 2-Sep, 1. Mrz, 01-Mar-21
    rf"|{MONTH}{GAP}\d{{1,4}}(,?{GAP}\d{{2,4}})?{CLOCK}"  # Sep-02, Sep 2, 2024, Mar-01
    rf"|\d{{4}}([-./])\d{{1,2}}([-./]\d{{1,2}})?{CLOCK}"  # 2024-09-02 00:00:00
    rf"|\d{{1,2}}([-/])\d{{1,2}}([-/]\d{{2,4}})?{CLOCK}"  # 9/2, 9/2/2024
    rf"|\d{{1,2}}\.\d{{1,2}}\.(\d{{2,4}})?{CLOCK}"  # 02.09.2024, 2.9.
    r"|\d{1,2}月\d{1,2}日",
    re.IGNORECASE,
)
SCIENTIFIC = re.compile(r"\d([.,]\d+)?E\+\d+", re.IGNORECASE)  # a RIKEN clone such as 2310009E13
WHOLE = re.compile(r"\d{1,9}(\.0+)?")
SERIAL = range(20_000, 60_000)  # days since 1900 of the years 1954 to 2064


def damaged_names(names: Iterable[str]) -> dict[str, str]:
    """Names that are no gene symbols any more -> what they are: a date, or a number.

    Whole numbers are days in a spreadsheet's calendar only where most names are symbols; else they are Entrez numbers.
    """
    names = list(names)
    whole = [name for name in names if name[:1].isdigit() and WHOLE.fullmatch(name)]
    found = {name: "a date" for name in names if _may_be_date(name) and DATE.fullmatch(name)}
    found |= {name: "a number" for name in names if name[:1].isdigit() and SCIENTIFIC.fullmatch(name)}
    if 2 * len(whole) < len(names):
        found |= {name: "a date (days since 1900)" for name in whole if int(float(name)) in SERIAL}
    return found


def _may_be_date(name: str) -> bool:
    """Quick: tables have 20,000 names."""
    return name[:1].isdigit() or (name[-1:].isdigit() and any(mark in name for mark in "-./ ")) or " " in name
