"""Results on disk: one JSON document with every raw round, read back as it was written."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Round, figure
from benchmarks.rounds import Outcome
from survbench.errors import BadFile, MissingFile

__all__ = ["Results", "Row", "merged", "read", "write"]

FORMAT = 1


@dataclass(frozen=True)
class Row:
    """An outcome with its figure, None where nothing was timed."""

    outcome: Outcome
    figure: Figure | None


@dataclass(frozen=True, kw_only=True)
class Results:
    """What one call of the harness measured.

    Attributes
    ----------
    date : of the call.
    commit : of the code.
    machine : see machine.py.
    versions : of packages.
    options : of the call.
    probe_flops : operations of the matrix product that everything is measured by.
    outcomes : of all races.
    """

    date: str
    commit: str
    machine: dict[str, Any]
    versions: dict[str, str]
    options: dict[str, Any]
    probe_flops: float
    outcomes: tuple[Outcome, ...] = ()

    @property
    def peak(self) -> float:
        """Floating-point operations per second of the fastest matrix product; NaN where nothing was timed."""
        best = min(_probes(self.outcomes), default=math.nan)
        return self.probe_flops / best

    def rows(self) -> list[Row]:
        """Every outcome with the figures of its rounds. Which rounds had company is decided race by race."""
        races: dict[tuple[str, str], list[Outcome]] = {}
        for outcome in self.outcomes:
            races.setdefault((outcome.suite, json.dumps(outcome.cell)), []).append(outcome)
        best = {key: min(_probes(race), default=math.nan) for key, race in races.items()}
        return [
            Row(o, figure(o.rounds, best[o.suite, json.dumps(o.cell)]) if o.rounds else None) for o in self.outcomes
        ]


def _probes(outcomes: Iterable[Outcome]) -> Iterable[float]:
    return (value for outcome in outcomes for r in outcome.rounds for value in (r.before, r.after))


def write(results: Results, file: Path) -> None:
    """The raw rounds are the record; medians in it are for readers without this program."""
    document = {"format": FORMAT, **asdict(results)}
    for entry, row in zip(document["outcomes"], results.rows(), strict=True):
        entry["figure"] = None if row.figure is None else asdict(row.figure)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read(file: Path) -> Results:
    """What `write` wrote.

    Raises
    ------
    MissingFile : no such file.
    BadFile : not one that `write` wrote.
    """
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']}")
        outcomes = tuple(_outcome(entry) for entry in document["outcomes"])
        known = {f.name: document[f.name] for f in fields(Results) if f.name != "outcomes"}
    except FileNotFoundError:
        raise MissingFile(f"{file} does not exist") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadFile(f"{file} is not a result of `python -m benchmarks`: {error}") from None
    return Results(**known, outcomes=outcomes)


def _outcome(entry: dict[str, Any]) -> Outcome:
    known = {key: value for key, value in entry.items() if key != "figure"}
    return Outcome(**{**known, "rounds": [Round(**values) for values in known["rounds"]]})


def merged(parts: Sequence[Results]) -> Results:
    """Several calls as one document, for a table; where two measured the same, the last one counts."""
    outcomes = sorted((o for part in parts for o in part.outcomes), key=lambda o: o.status == "measured")
    newest = {(o.suite, o.contestant, json.dumps(o.cell)): o for o in outcomes}  # what was skipped later stays measured
    last = parts[-1]
    return Results(
        date=last.date,
        commit=last.commit,
        machine=last.machine,
        versions=last.versions,
        options=last.options,
        probe_flops=last.probe_flops,
        outcomes=tuple(newest.values()),
    )
