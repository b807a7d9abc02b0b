"""What the files of a result folder must hold: JSON, records and tables of another form are refused.

Knows no file's name and no folder; folders.py does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from survbench.cards import ModelGroup
from survbench.files import digest

SCHEMA = 2  # of job.json and manifest.json; 1 is the first edition's
SPLITS = ("train", "val", "test")
_FIRST_CODE = re.compile(r"[\w.]+\+[0-9a-f]{12}")
_COLUMNS = ("patient", "split", "time", "event", "risk", "survival")
IDENTITY: Mapping[str, type] = {
    "protocol_version": int,
    "model": str,
    "model_version": str,
    "config": dict,
    "objective": dict,
    "training": dict,
    "cohort": str,
    "cohort_hash": str,
    "endpoint": str,
    "folds": str,
    "fold": int,
    "n_folds": int,
    "seed": int,
}
_PARTS: Mapping[str, tuple[type, ...]] = {  # kinds of the values of parts that a record may have
    "versions": (str,),
    "hardware": (str, int, float, type(None)),
    "seconds": (int, float),
    "phases": (int, float),
    "memory": (int, float),
    "selection": (object,),
    "excluded": (list,),
}
_MOST_FOLDS = 100_000
MALFORMED = (OSError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError)


class Identified:
    """Short names for the parts of `identity`, as `survbench.experiments.job` makes it; rows have no fold and seed."""

    identity: Mapping[str, Any]

    @property
    def model(self) -> str:
        return str(self.identity["model"])

    @property
    def cohort(self) -> str:
        return str(self.identity["cohort"])

    @property
    def fold(self) -> int:
        return int(self.identity["fold"])

    @property
    def seed(self) -> int:
        return int(self.identity["seed"])

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of model and trainer, and the objective; other models by their names."""
        config = {
            key: value["model"] if isinstance(value, Mapping) and "model" in value else value
            for key, value in self.identity["config"].items()
        }
        return {**self.identity["training"], **config, "objective": self.identity["objective"].get("name")}


def read_json(file: Path) -> Any:
    """What a file holds.

    Raises
    ------
    ValueError : it is no JSON, or has numbers or texts that cannot be computed with or written.
    """
    content = json.loads(file.read_text(encoding="utf-8"), parse_int=_int, parse_float=_float, parse_constant=_float)
    json.dumps(content, ensure_ascii=False).encode()  # half a character cannot be
    return content


def _float(text: str) -> float:
    if not abs(value := float(text)) < 1e100:
        raise ValueError(f"{text[:40]} is no number to compute with")
    return value


def _int(text: str) -> int:
    if len(text) > len(str(2**60)):
        raise ValueError(f"{text[:40]} is no number to compute with")
    return int(text)


def is_first_edition(content: Any) -> bool:
    """Whether a record is of the first edition by its form: another one without a manifest is no result.

    Raises
    ------
    ValueError : it is of neither.
    """
    if not isinstance(content, dict):
        raise ValueError("it holds no JSON object")
    version = content.get("format")
    if isinstance(version, int) and version > SCHEMA:
        raise ValueError(
            f"it has format {version}, written by a newer survbench; this one reads format {SCHEMA}. Update survbench"
        )
    if version not in (1, SCHEMA) or isinstance(version, bool):
        raise ValueError(f"its format is {version!r}, expected {SCHEMA}")
    identity = content.get("identity")
    if version == 1 and isinstance(identity, dict):
        task, code = typed(identity, "task_version", int), typed(identity, "code", str)
        if task != 1 or not _FIRST_CODE.fullmatch(code):
            raise ValueError(f"task_version {task} and code '{code[:40]}' are not of the first edition")
    return version == 1


def common_fields(content: Mapping[str, Any], first: bool, key_of_id: str = "id") -> dict[str, Any]:
    """What finished and failed jobs and external validations have in common, as fields; ValueError for another form."""
    identity, card = dict(typed(content, "identity", dict)), typed(content, "card", dict)
    if first:  # its versions were numbered by the suite's code
        identity["protocol_version"] = identity.pop("task_version", None)
        identity["model_version"] = "unsealed"
    code = identity.pop("code") if first else content.get("code", "")
    for key, kind in IDENTITY.items():
        typed(identity, key, kind)
    if not 0 <= identity["fold"] < identity["n_folds"] < _MOST_FOLDS:
        raise ValueError(f"fold {identity['fold']} of {identity['n_folds']} folds does not exist")
    if not first and content.get(key_of_id) != digest(identity):
        raise ValueError("its id is not that of its identity")
    for key, kinds in _PARTS.items():
        part = content.get(key) or {}
        if not isinstance(part, dict) or not all(isinstance(value, kinds) for value in part.values()):
            raise ValueError(f"'{key}' is {str(part)[:40]!r}, not of its form")
    encoder = content.get("encoder")
    if encoder is not None and not isinstance(encoder, str):
        raise ValueError(f"'encoder' is {str(encoder)[:40]!r}, a {type(encoder).__name__}")
    origin = str(content.get("selected", "default"))
    marked = "unsealed" if origin == "default" else f"{origin}, unsealed"
    return {
        "record": content,
        "identity": identity,
        "unsealed": first,
        "code": str(code),
        "title": typed(card, "title", str),
        "group": ModelGroup(typed(card, "modality", str)),
        "reconstruction": str(card.get("reconstruction") or ""),
        "selected": marked if first else origin,
        "beside": texts(card.get("beside") or [], "beside"),
        "as_registered": content.get("as_registered") is True,
    }


def typed(content: Mapping[str, Any], key: str, kind: type | tuple[type, ...]) -> Any:
    """A value of this kind; ValueError where it is missing or another. No bool is a number."""
    if key not in content:
        raise ValueError(f"'{key}' is missing")
    value = content[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"'{key}' is {str(value)[:40]!r}, a {type(value).__name__}")
    return value


def kind_of_data(content: Mapping[str, Any]) -> str:
    """How much is invented: "", "slides" or "all"; ValueError otherwise."""
    simulated: str = typed(content, "simulated", str)
    if simulated not in ("", "slides", "all"):
        raise ValueError(f"'simulated' is {simulated!r}, expected '', 'slides' or 'all'")
    return simulated


def texts(value: Any, key: str) -> tuple[str, ...]:
    """A list of texts; ValueError for anything else."""
    if not isinstance(value, list) or not all(isinstance(of, str) for of in value):
        raise ValueError(f"'{key}' is {str(value)[:40]!r}, not a list of texts")
    return tuple(value)


def count(content: Mapping[str, Any], key: str) -> int | None:
    """A whole number, or None where there is none; ValueError otherwise."""
    return None if content.get(key) is None else int(typed(content, key, int))


def table_problem(table: pd.DataFrame, times: int) -> str:
    """What is wrong with a table of predictions; empty where nothing is. An infinite or NaN risk is for the metrics."""
    lacking = [column for column in _COLUMNS if column not in table]
    if lacking:
        return f"the column '{lacking[0]}' is missing"
    if not table["split"].isin(SPLITS).all():
        return f"a split is {table.loc[~table['split'].isin(SPLITS), 'split'].iloc[0]!r}, expected {', '.join(SPLITS)}"
    if table["patient"].isna().any() or table["patient"].duplicated().any():
        return "a patient stands in it twice or has no name"
    numbers = table[["time", "risk"]].dtypes.map(pd.api.types.is_numeric_dtype)
    if not numbers.all() or not np.isfinite(table["time"]).all() or (table["time"] < 0).any():
        return "a time or a risk is not a number"
    if not table["event"].isin([True, False]).all():
        return "an event is neither true nor false"
    lengths = {np.size(curve) for curve in table["survival"]}
    if lengths - {times}:
        return f"a survival curve has {min(lengths - {times})} values, and the grid of job.json {times}"
    return "" if set(table["split"]) >= {"train", "test"} else "its train or its test split is empty"


def one_line(error: BaseException) -> str:
    """An error in one short line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
