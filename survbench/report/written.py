"""A leaderboard written to a folder, and whether a written one is what the predictions give (protocol rule 19).

Markdown is for reading, CSV for spreadsheets, JSON is complete; all three are checked.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from survbench.console import note
from survbench.errors import BadConfig, BadFile, MissingFile
from survbench.evaluation.metrics import METRICS
from survbench.files import atomic_write, plain
from survbench.leaderboard.board import Leaderboard
from survbench.report.columns import SCHEMA_VERSION, to_csv, to_plain
from survbench.report.studies import external_markdown
from survbench.report.tables import to_markdown
from survbench.studies.external_validation import ExternalRow, external_plain

__all__ = ["Checked", "Mismatch", "check_written", "document", "read_written", "write_leaderboard"]

STEM = "leaderboard"
TOLERANCE = 1e-9
_ABSENT = "absent"
_ROW = ("source", "title", "model", "cohort", "endpoint", "folds", "protocol_version", "cohort_hash", "simulated_kind")
_SETTINGS = ("selected", "config", "objective", "training", "model_version", "unsealed", "code")
_DIFFERENCE = ("first", "first_variant", "second", "second_variant", "cohort", "endpoint", "folds", "simulated")
_EXTERNAL = ("train", "test", "endpoint", "folds", "simulated", "model", "selected", "config")
_CSV = ("source", "data", "model", "title", "variant", "cohort", "cohort_hash", "endpoint", "folds", "protocol_version")


@dataclass(frozen=True)
class Mismatch:
    """One figure that the predictions do not give, or give and is not written."""

    row: str
    what: str
    written: str
    recomputed: str


@dataclass(frozen=True)
class Checked:
    """What became of a check. rows : how many are written."""

    file: Path
    rows: int
    mismatches: tuple[Mismatch, ...]


def document(
    board: Leaderboard, external: Sequence[ExternalRow], metric: str, selection: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The leaderboard and external validation as JSON values; `selection` says what was filtered, for a later check."""
    rows = {**to_plain(board, metric), "external": external_plain(external)}
    return {"schema_version": SCHEMA_VERSION, **({} if selection is None else {"selection": dict(selection)}), **rows}


def write_leaderboard(
    folder: Path, board: Leaderboard, external: Sequence[ExternalRow], metric: str, selection: Mapping[str, Any]
) -> list[Path]:
    """Write leaderboard.md, .csv and .json, each by one rename, so that a reader never sees half a file."""
    if folder.exists() and not folder.is_dir():
        raise BadConfig(f"--write {folder} is a file", "name a folder")
    texts = {
        "md": _markdown(board, external, metric),
        "csv": to_csv(board, metric),
        "json": json.dumps(document(board, external, metric, selection), indent=1, allow_nan=False),
    }
    for ending, text in texts.items():
        atomic_write(folder / f"{STEM}.{ending}", text + "\n")
    return [folder / f"{STEM}.{ending}" for ending in texts]


def read_written(path: Path) -> tuple[Path, dict[str, Any]]:
    """The JSON document of a folder or a file.

    Raises
    ------
    MissingFile, BadFile : there is none, or it is no leaderboard.
    """
    file = path / f"{STEM}.json" if path.is_dir() else path
    try:
        written = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFile(f"{file} does not exist", "write one with: survbench leaderboard --write DIR") from None
    except (ValueError, RecursionError) as error:
        raise BadFile(f"{file} is no JSON ({error})", "name what `survbench leaderboard --write` wrote") from None
    listed = isinstance(written, dict) and isinstance(written.get("rows"), list)
    if not listed or not all(isinstance(row, dict) for row in written["rows"]):
        raise BadFile(f"{file} is no leaderboard: it lists no rows", "name what `survbench leaderboard --write` wrote")
    if "asked" in written:  # the name of `selection` before it had this one
        written["selection"] = written.pop("asked")
    if "selection" in written and not _is_selection(written["selection"]):
        raise BadFile(f"{file}: its 'selection' is no choice of rows", "write it again")
    return file, written


def _is_selection(chosen: Any) -> bool:
    lists, texts = ("cohorts", "models"), ("metric", "endpoint", "scheme")
    return (
        isinstance(chosen, dict)
        and set(chosen) == {*lists, *texts}
        and all(isinstance(chosen[key], list) and all(isinstance(name, str) for name in chosen[key]) for key in lists)
        and all(chosen[key] is None or isinstance(chosen[key], str) for key in texts)
        and chosen["metric"] in METRICS
    )


def check_written(
    path: Path, written: Mapping[str, Any], board: Leaderboard, external: Sequence[ExternalRow], metric: str
) -> list[Mismatch]:
    """Every difference between what is written and what the predictions give; numbers agree within 1e-9.

    Parameters
    ----------
    path : folder, whose Markdown and CSV are checked too where they are there, or a JSON file.
    written : its document.
    """
    expected = document(board, external, metric)
    current = written.get("schema_version") == SCHEMA_VERSION
    if not current:  # written before documents said their version: fields that it did not have are no differences
        known = {name for row in _entries(written.get("external")) for name in row}
        expected["external"] = [{k: v for k, v in row.items() if k in known} for row in expected["external"]]
    mismatches = [
        *_lists(written.get("rows"), expected["rows"], (*_ROW, *_SETTINGS), ("model", "cohort", "endpoint", "source")),
        *_lists(written.get("differences", []), expected["differences"], _DIFFERENCE, ("first", "second", "cohort")),
        *_lists(written.get("external", []), expected["external"], _EXTERNAL, ("model", "train", "test")),
    ]
    texts = {"csv": to_csv(board, metric), "md": _markdown(board, external, metric)} if path.is_dir() else {}
    if texts and not current:
        texts.pop("md")
        note(f"{path / STEM}.md has the form of an older version and is not compared; write the board again")
    for ending, text in texts.items():
        file, compare = path / f"{STEM}.{ending}", _csv if ending == "csv" else _tables
        mismatches += compare(file, text) if file.exists() else [Mismatch(file.name, "file", _ABSENT, "recomputed")]
    return mismatches


def _markdown(board: Leaderboard, external: Sequence[ExternalRow], metric: str) -> str:
    below = [external_markdown(external, metric)] if external else []
    return "\n\n".join([to_markdown(board, metric), *below])


def _lists(
    written: Any, recomputed: Iterable[Mapping[str, Any]], key: Sequence[str], shown: Sequence[str]
) -> list[Any]:
    """Entries with the same key are compared; one that is on one side only is a mismatch."""
    one, other = _keyed(_entries(written), key), _keyed(recomputed, key)
    mismatches: list[Mismatch] = []
    for name in [*one, *(name for name in other if name not in one)]:
        entry = one.get(name) or other[name]
        label = " · ".join(str(entry.get(k)) for k in shown)
        if name not in other:
            mismatches.append(Mismatch(label, "row", "written", _ABSENT))
        elif name not in one:
            mismatches.append(Mismatch(label, "row", _ABSENT, "recomputed"))
        else:
            mismatches += [Mismatch(label, *rest) for rest in _compared(one[name], other[name], "")]
    return mismatches


def _entries(written: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in written if isinstance(entry, Mapping)] if isinstance(written, list) else []


def _keyed(entries: Iterable[Mapping[str, Any]], key: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Entries by their key, counted where several share it."""
    keyed: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        name = json.dumps([entry.get(k) for k in key], sort_keys=True)
        keyed[f"{name}#{sum(known.startswith(name + '#') for known in keyed)}"] = entry
    return keyed


def _compared(written: Any, recomputed: Any, at: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(written, Mapping) and isinstance(recomputed, Mapping):
        for key in dict.fromkeys([*written, *recomputed]):
            where = f"{at}.{key}" if at else str(key)
            if key not in written or key not in recomputed:
                yield where, _text(written.get(key, _ABSENT)), _text(recomputed.get(key, _ABSENT))
            else:
                yield from _compared(written[key], recomputed[key], where)
    elif isinstance(written, list) and isinstance(recomputed, list) and len(written) == len(recomputed):
        for i, pair in enumerate(zip(written, recomputed, strict=True)):
            yield from _compared(*pair, f"{at}[{i}]")
    elif not _equal(written, recomputed):
        yield at, _text(written), _text(recomputed)


def _equal(written: Any, recomputed: Any) -> bool:
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in (written, recomputed)]
    if all(numbers):
        return math.isclose(written, recomputed, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(written == recomputed) and type(written) is type(recomputed)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _csv(file: Path, text: str) -> list[Mismatch]:
    """Figures of the CSV; numbers as numbers."""
    try:
        written, expected = (plain(pd.read_csv(source).to_dict("records")) for source in (file, io.StringIO(text)))
    except ValueError as error:  # of pandas' and of decoding
        return [Mismatch(file.name, "file", " ".join(str(error).split()), "recomputed")]
    mismatches = _lists(written, expected, _CSV, ("model", "cohort", "source"))
    return [Mismatch(f"{file.name}: {one.row}", one.what, one.written, one.recomputed) for one in mismatches]


def _tables(file: Path, text: str) -> list[Mismatch]:
    """The lines of the Markdown's tables; notes around them may name folders, which may have moved."""
    written, expected = (
        [line for line in of.splitlines() if line.startswith("|")]
        for of in (file.read_text(encoding="utf-8", errors="replace"), text)
    )
    longest = max(len(written), len(expected))
    pairs = zip(*(lines + [_ABSENT] * (longest - len(lines)) for lines in (written, expected)), strict=True)
    return [Mismatch(file.name, f"table line {i + 1}", *pair) for i, pair in enumerate(pairs) if pair[0] != pair[1]]
