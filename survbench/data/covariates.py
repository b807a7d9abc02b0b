"""Clinical covariates as numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd

__all__ = ["encode_clinical"]


def encode_clinical(patients: pd.DataFrame) -> pd.DataFrame | None:
    """Age in years, sex (female 1, male 0), stage 1-4 and grade 1-4 as numbers; NaN where unknown.

    `Stage IIIA`, `IIIA` and `III` are 3, `G2` and `2` are 2. Nothing is fitted. A column that is known of nobody is
    left out; None if that leaves nothing.
    """
    given = patients.reindex(columns=["age", "sex", "stage", "grade"]).astype(object)
    text = given.where(given.notna(), "").astype(str).apply(lambda column: column.str.strip().str.upper())
    stage = text["stage"].str.extract(r"^(?:STAGE\s*)?(IV|III|II|I)(?:[ABC]\d?)?$")[0]
    numbers = pd.DataFrame(
        {
            "age": pd.to_numeric(text["age"], errors="coerce"),
            "sex": text["sex"].map({"F": 1.0, "FEMALE": 1.0, "M": 0.0, "MALE": 0.0}),
            "stage": stage.map({"I": 1.0, "II": 2.0, "III": 3.0, "IV": 4.0}),
            "grade": pd.to_numeric(text["grade"].str.extract(r"^G?([1-4])$")[0], errors="coerce"),
        },
        index=patients.index,
    ).astype(np.float64)
    known = numbers.loc[:, numbers.notna().any()]
    return known if len(known.columns) else None
