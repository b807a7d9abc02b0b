"""Reads a CSV of predictions that were made elsewhere; every fault is one line that names the row.

Knows the columns and checks them; what becomes of the predictions is in `external_predictions`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from survbench.console import note
from survbench.data.delimited import read_table
from survbench.data.importers.endpoints import DAYS_PER_MONTH
from survbench.data.root import DataRoot
from survbench.errors import BadFile, BadLabels, SurvbenchError

__all__ = ["TIME_UNITS", "read_predictions_file"]

Labeled = tuple[pd.DataFrame, dict[str, str]]

TIME_UNITS = {"months": 1.0, "days": DAYS_PER_MONTH}
PATIENT = ("case", "patient", "case_id")
REQUIRED = ("model", "cohort", "fold", "risk")
OPTIONAL = ("seed", "split", "time", "event")
SPLITS = ("train", "val", "test")
_FORMAT = "model, cohort, fold, case, risk; time and event; if there are any, seed and split"


def read_predictions_file(
    file: Path,
    *,
    censorship: str | None = None,
    time_unit: str = "months",
    root: DataRoot | None = None,
    endpoint: str | None = None,
) -> Labeled:
    """Checked predictions with labels.

    Parameters
    ----------
    file : columns model, cohort, fold, case (or patient, case_id), risk (higher = worse); time with event (1 = died) or
        a column whose name contains `cens` (1 = censored); optionally seed (0) and split (test). Text stays text.
    censorship : the column that is 1 for censored patients.
    time_unit : of the times, a key of TIME_UNITS.
    root : where the labels are, if not in the file.
    endpoint : which of its labels.

    Returns
    -------
    Columns model, cohort, fold (text), seed, split, patient, time (months), event (True = died), risk. And for cohorts
    whose labels come from the data root, what is simulated of them, as a key of `KINDS`.

    Raises
    ------
    BadFile, BadLabels, MissingFile : what is wrong, where, and what to do.
    """
    text = read_table(file)
    text = text.rename(columns={c: str(c).strip().lower() for c in text.columns}).drop(
        columns=["", "unnamed: 0"], errors="ignore"
    )
    if text.empty:
        raise BadFile(f"{file} holds no prediction", f"expected a line each with: {_FORMAT}")
    table = pd.DataFrame(index=text.index)
    patient, flag = _columns(file, text, censorship and censorship.strip().lower())
    for name, column in (("model", "model"), ("cohort", "cohort"), ("fold", "fold"), ("patient", patient)):
        table[name] = text[column].str.strip()
        _refuse(file, table[name] == "", f"has no {column}", "fill it in")
    table["seed"] = _numbers(file, text, "seed", whole=True).astype(int) if "seed" in text else 0
    table["split"] = text["split"].str.strip().str.lower() if "split" in text else "test"
    _refuse(file, ~table["split"].isin(SPLITS), "has a split other than train, val and test", "correct it", table)
    table["risk"] = _numbers(file, text, "risk")
    _check_places(file, table)
    if flag is None:
        return _with_known_labels(file, table, root, endpoint)
    table["time"] = _numbers(file, text, "time") / TIME_UNITS[time_unit]
    _refuse(file, table["time"] <= 0, "has a time that is not above 0", "correct it", table)
    table["event"] = _flags(file, text, flag) != (flag != "event")
    if root is not None:
        note(f"{file} has labels of its own; those of the data root are not used")
    return _with_one_outcome(file, table), {}


def _columns(file: Path, text: pd.DataFrame, censorship: str | None) -> tuple[str, str | None]:
    """The patient's column, and the one that says who died; None where the file has no labels."""
    columns = f"found: {', '.join(text.columns)}"
    twice = text.columns[text.columns.duplicated()]
    if len(twice):
        raise BadFile(f"{file} has the column '{twice[0]}' twice; {columns}", "keep one of them")
    patients = [column for column in PATIENT if column in text]
    lacking = [column for column in REQUIRED if column not in text] + ([] if patients else ["case"])
    if lacking:
        raise BadFile(f"{file} lacks the column {', '.join(lacking)}; {columns}", f"expected: {_FORMAT}")
    if len(patients) > 1:
        raise BadFile(f"{file} names patients in {' and '.join(patients)}", "keep one of these columns")
    if censorship is not None and censorship not in text:
        raise BadFile(f"{file} has no column '{censorship}' for --censorship; {columns}", "name one of these")
    inverted = [censorship] if censorship else [column for column in text.columns if "cens" in column]
    known = {*PATIENT, *REQUIRED, *OPTIONAL, *inverted}
    unknown = [column for column in text.columns if column not in known]
    if unknown:
        raise BadFile(
            f"{file} has the unknown column {', '.join(unknown)}; {columns}", f"drop or rename it; known: {_FORMAT}"
        )
    flags = [*inverted, *(["event"] if "event" in text and "event" not in inverted else [])]
    if len(flags) > 1:
        raise BadFile(f"{file} says in {' and '.join(flags)} who died", "keep one of these columns")
    if bool(flags) != ("time" in text):
        raise BadFile(f"{file} has {'no time' if flags else 'a time, but no event or censorship'}; {columns}", "add it")
    return patients[0], flags[0] if flags else None


def _check_places(file: Path, table: pd.DataFrame) -> None:
    """One prediction per patient and place, one test fold per patient, nobody on both sides of a fold."""
    row = ["model", "cohort", "seed"]
    again = table.duplicated([*row, "fold", "patient", "split"])
    _refuse(file, again, "has a second prediction for the same model, cohort, seed, fold and split", "keep one", table)
    both = table.duplicated([*row, "fold", "patient"])
    _refuse(file, both, "is in two splits of one fold", "a patient belongs to one", table)
    tests = table[table["split"] == "test"]
    elsewhere = tests.duplicated([*row, "patient"]).reindex(table.index, fill_value=False)
    _refuse(file, elsewhere, "is tested in two folds", "a patient belongs to one", table)
    places = table.groupby([*row, "fold"])["split"].agg(lambda splits: "test" in set(splits))
    if not places.all():
        model, cohort, seed, fold = places.index[~places][0]
        raise BadFile(f"{file}: {model} on {cohort}, seed {seed}, fold {fold} has no test patient", "add its tests")


def _with_one_outcome(file: Path, table: pd.DataFrame) -> pd.DataFrame:
    """One outcome per patient of a cohort, whoever predicts it."""
    first = table.groupby(["cohort", "patient"])[["time", "event"]].transform("first")
    differs = (first["time"] - table["time"]).abs().gt(1e-6) | (first["event"] != table["event"])
    _refuse(file, differs, "has another time or event than in an earlier row", "a patient has one outcome", table)
    return table.assign(time=first["time"])


def _with_known_labels(
    file: Path, table: pd.DataFrame, root: DataRoot | None, endpoint: str | None
) -> tuple[pd.DataFrame, dict[str, str]]:
    if root is None or endpoint is None:
        raise BadLabels(
            f"{file} has no time and event",
            "add them, or name the data root and the outcome that have them: --data DATA --endpoint os",
        )
    parts, simulated = [], {}
    for cohort, of in table.groupby("cohort", sort=False):
        try:
            folder = root.cohort(str(cohort))
            labels = folder.labels(endpoint)
        except SurvbenchError as error:
            raise BadLabels(f"{file} has predictions for cohort '{cohort}': {error}") from None
        _refuse(
            file,
            ~of["patient"].isin(labels.index).reindex(table.index, fill_value=True),
            f"is no patient of {cohort} with a {endpoint} label in {root.path}",
            "correct the name, or give time and event in the file",
            table,
        )
        parts.append(of.join(labels[["time", "event"]], on="patient"))
        simulated[str(cohort)] = "all" if folder.info.simulated else ""
    return pd.concat(parts).sort_index().astype({"event": bool}), simulated


def _numbers(file: Path, text: pd.DataFrame, column: str, *, whole: bool = False) -> pd.Series:
    values = pd.to_numeric(text[column], errors="coerce").astype(float)
    bad = ~values.between(-np.inf, np.inf, inclusive="neither")  # NaN neither
    bad = bad | (values % 1 != 0) if whole else bad
    what = "a whole number" if whole else "a number"
    if bad.any():
        _refuse(file, bad, f"has the {column} '{text[column][bad].iloc[0]}', which is not {what}", "correct it")
    return values


def _flags(file: Path, text: pd.DataFrame, column: str) -> pd.Series:
    flags = text[column].str.strip().str.lower().map({"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0})
    if flags.isna().any():
        wrong = text[column][flags.isna()].iloc[0]
        _refuse(file, flags.isna(), f"has the {column} '{wrong}', expected 0 or 1", "correct it")
    return flags.astype(bool)


def _refuse(file: Path, bad: pd.Series, what: str, fix: str, table: pd.DataFrame | None = None) -> None:
    """Name the first bad line, as an editor counts it, and how many more there are."""
    if not bad.any():
        return
    first = int(np.flatnonzero(bad.to_numpy())[0])
    who = "" if table is None else f" (patient {table['patient'].iloc[first]}, {table['model'].iloc[first]})"
    more = f" ({int(bad.sum()) - 1} more lines)" if bad.sum() > 1 else ""
    raise BadFile(f"{file}, line {first + 2}{who} {what}{more}", fix)
