"""Barcodes of TCGA: whose a name is, and from which site, wherever it stands."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["BARCODE", "all_of_tcga", "person"]

# Site, patient, and what a sample, slide or aliquot adds: TCGA-AA-0001-01Z-00-DX1; R writes dots in names of columns.
BARCODE = re.compile(r"TCGA[-.]([0-9A-Z]{2})[-.]([0-9A-Z]{4})([-.](\d{2})([A-Z]?)([-.].*)?)?", re.IGNORECASE)


def person(name: str) -> str | None:
    """The patient of a barcode, its first 12 characters; None for any other name."""
    found = BARCODE.fullmatch(name.strip())
    return f"TCGA-{found[1]}-{found[2]}".upper() if found else None


def all_of_tcga(patients: Iterable[str]) -> bool:
    """Whether every name is a barcode; a hospital's own cohort may have a cohort's name, and not its patients."""
    return all(person(name) is not None for name in patients)
