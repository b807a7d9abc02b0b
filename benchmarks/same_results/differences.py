"""Two recorded folders against each other, value by value; what may differ for good reasons is named in `IGNORED`."""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.same_results.collected import read_csv

__all__ = ["IGNORED", "Compared", "compare_parts"]

# Keys of JSON documents and columns of tables that are not compared, and why. Nor are texts of hexadecimal digits, and
# a `config` that is a text: both are hashes.
IGNORED: Mapping[str, Sequence[str]] = {
    "a place on the disk": ("file", "files", "figure", "figures", "table", "geojson", "path", "folder"),
    "a duration or a size that the machine decides": (
        *("seconds", "phases", "forward_seconds", "step_seconds", "peak_bytes", "memory", "hardware", "started"),
    ),
    "a hash or an identifier, which depends on what is hashed": (
        *("id", "job", "cohort_hash", "folds_hash", "test_hash", "source_hash", "digest"),
    ),
    "a version of code or of a format; another version is what is being compared": (
        *("code", "task_version", "protocol_version", "model_version", "schema_version", "version", "versions"),
        *("format", "target"),
    ),
    "what is known of the files, not of the figures": ("unsealed",),
    "words for people, which name commands and options": ("notes", "note", "reconstruction", "paper"),
}
# What tells the items of a list from each other, where they have it.
_LABELS = (
    *("source", "kind", "model", "variant", "first", "second", "arm", "cohort", "train", "test", "endpoint", "folds"),
    *("fold", "seed", "settings", "split", "patient", "slide", "patch", "pathway", "name", "maps", "metric", "fact"),
    *("step", "trial", "quantity"),
)
_KINDS = ("risks in SD", "survival", "others")
_FLOOR = 1e-3  # numbers below it differ by what they differ from each other, relative to it
_HEX = re.compile(r"(?=.*\d)(?=.*[a-f])[0-9a-f]{6,}")
_TARGET = re.compile(r"[\w./]+:(\w+)|(\w+)@[\w.+]+")
_SKIPPED = {key for keys in IGNORED.values() for key in keys}


@dataclass(frozen=True)
class Numbers:
    """One number or several.

    Attributes
    ----------
    values : the numbers.
    scale : what a difference is divided by; None takes the numbers' own size.
    kind : one of those whose largest differences are shown apart.
    """

    values: np.ndarray
    scale: float | None = None
    kind: str = "others"

    def gaps(self, other: Numbers) -> np.ndarray:
        """Differences in units of the scale; infinite where only one side is a finite number."""
        a, b = self.values, other.values
        with np.errstate(invalid="ignore"):
            scale = np.maximum(np.maximum(np.abs(a), np.abs(b)), _FLOOR) if self.scale is None else self.scale
            gaps = np.abs(a - b) / scale
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        return np.where(same, 0.0, np.where(np.isfinite(gaps), gaps, math.inf))


Value = Numbers | str
Named = dict[str, Value]


@dataclass(kw_only=True)
class Compared:
    """How one part differs.

    Attributes
    ----------
    part : its name.
    values : how many were compared.
    largest : kind of number -> the largest difference.
    differences : a line for each.
    notes : lines on what is no difference.
    """

    part: str
    values: int = 0
    largest: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_KINDS, 0.0))
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        """In one line."""
        largest = ", ".join(f"{kind} {value:.3g}" for kind, value in self.largest.items())
        verdict = f"{len(self.differences):,} DIFFER" if self.differences else "the same"
        return f"{self.part:<14}{self.values:>12,} values; largest difference: {largest}; {verdict}"


def compare_parts(before: Path, after: Path, parts: Sequence[str], tolerance: float) -> list[Compared]:
    """Parts that were recorded on either side, or those that are named."""
    own = ("out", "cache")
    there = {f.name for side in (before, after) for f in side.iterdir() if f.is_dir() and f.name not in own}
    recorded = sorted(name for name in there if not name.startswith("."))
    return [_compare_part(before / name, after / name, tolerance) for name in parts or recorded]


def _compare_part(before: Path, after: Path, tolerance: float) -> Compared:
    part = Compared(part=before.name)
    absent = [side for side in (before, after) if not side.is_dir()]
    part.differences += [f"{side} is missing" for side in absent]
    if absent:
        return part
    same = _same_settings(before, after, part.notes)
    for name in sorted({file.name for side in (before, after) for file in side.iterdir()}):
        if name == "settings.json":
            continue
        lacking = [side / name for side in (before, after) if not (side / name).is_file()]
        part.differences += [f"{file} is missing" for file in lacking]
        if not lacking:
            _compare_values(part, name, _values(before / name, {}), _values(after / name, same), tolerance)
    return part


def _compare_values(part: Compared, file: str, before: Named, after: Named, tolerance: float) -> None:
    """A field that no item had before is noted; a new item, or a field that is gone, is a difference."""
    fields = set(map(_field, before))
    new = sorted({_field(name) for name in after} - fields)
    part.notes += [f"{file}: fields that are only after: {', '.join(new)}"] if new else []
    for name in [*before, *(name for name in after if name not in before and _field(name) in fields)]:
        label = f"{file}: {name}"
        if name not in after or name not in before:
            part.differences.append(f"{label} is only {'before' if name in before else 'after'}")
            continue
        one, other = before[name], after[name]
        if isinstance(one, Numbers) and isinstance(other, Numbers) and one.values.shape == other.values.shape:
            part.values += one.values.size
            if not np.array_equal(one.values, other.values, equal_nan=True):
                _judge(part, label, one, other, tolerance)
            continue
        part.values += 1
        if isinstance(one, Numbers) or isinstance(other, Numbers) or one != other:
            part.differences.append(f"{label}: {_shown(one)} -> {_shown(other)}")


def _field(name: str) -> str:
    """What a value is, whatever the item: `rows.metrics.auc.mean`, or `risk` of a patient."""
    return re.sub(r"\[[^\]]*\]", "", name).partition(" of ")[0]


def _judge(part: Compared, label: str, one: Numbers, other: Numbers, tolerance: float) -> None:
    gaps = one.gaps(other)
    place, gap = int(gaps.argmax()), float(gaps.max())
    part.largest[one.kind] = max(part.largest[one.kind], gap)
    if gap > tolerance:
        part.differences.append(f"{label}: {float(one.values[place])!r} -> {float(other.values[place])!r} ({gap:.3g})")


def _shown(value: Value) -> str:
    text = value if isinstance(value, str) else " ".join(f"{v:.6g}" for v in value.values[:5])
    return text if len(text) < 80 else f"{text[:80]}..."


def _values(file: Path, same: Mapping[str, str]) -> Named:
    """A file's values by name; `same` has settings of this side -> their name on the other side."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".json":
        return dict(_flat(json.loads(text)))
    rows = read_csv(text)
    for row in rows:
        if "settings" in row:
            row["settings"] = same.get(row["settings"], row["settings"])
    return dict(_predicted(rows) if "risk" in (rows[0] if rows else {}) else _flat(rows, ordered=False))


def _predicted(rows: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, Value]]:
    """Risks in units of their standard deviation in each job, probabilities of survival as they are."""
    jobs: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for row in rows:
        jobs[_label({key: value for key, value in row.items() if key not in ("patient", "split")})].append(row)
    for job, patients in jobs.items():
        spread = float(np.std([float(row["risk"]) for row in patients])) or 1.0
        for row in patients:
            name = f"{job} {row['patient']}"
            for key, text in row.items():
                if key in ("time", "event", "split", "high"):
                    yield f"{key} of {name}", _read(text)
                elif key == "risk":
                    yield f"risk of {name}", Numbers(np.array([float(text)]), spread, "risks in SD")
                elif key not in _LABELS and key not in _SKIPPED:
                    kind = "survival" if key.startswith("survival") else "others"
                    yield f"{key} of {name}", Numbers(np.array([float(v) for v in text.split()]), 1.0, kind)


def _flat(value: Any, name: str = "", ordered: bool = True) -> Iterator[tuple[str, Value]]:
    """Leaves by name. Items of lists are named by what tells them apart; then their order is a value of its own."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            if key not in _SKIPPED and not (key == "config" and isinstance(part, str)):
                yield from _flat(part, f"{name}.{key}" if name else key, ordered)
    elif isinstance(value, list) and value and all(isinstance(part, Mapping) for part in value):
        labels = _numbered([_label(part) for part in value])
        if ordered:
            yield f"order of {name}", " | ".join(labels)
        for label, part in zip(labels, value, strict=True):
            yield from _flat(part, f"{name}[{label}]", ordered)
    elif isinstance(value, list) and value and all(_is_number(part) for part in value):
        yield name, Numbers(np.array([math.nan if part is None else part for part in value], dtype=float))
    elif isinstance(value, list):
        yield name, json.dumps(value)
    elif isinstance(value, str) and not _HEX.fullmatch(value):
        yield name, _read(value)
    elif _is_number(value):
        yield name, Numbers(np.array([math.nan if value is None else value], dtype=float))
    elif not isinstance(value, str):
        yield name, str(value)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _numbered(labels: Sequence[str]) -> list[str]:
    """Those that come again get a number."""
    seen = Counter[str]()
    numbered = []
    for label in labels:
        seen[label] += 1
        numbered.append(label if label and seen[label] == 1 else f"{label} #{seen[label]}".strip())
    return numbered


def _label(item: Mapping[str, Any]) -> str:
    known = {key: item[key] for key in _LABELS if isinstance(item.get(key), str | int | list)}
    texts = {key: "/".join(map(str, value)) if isinstance(value, list) else str(value) for key, value in known.items()}
    return " ".join(f"{k} {v}" if k in ("fold", "seed", "step", "trial") else v for k, v in texts.items() if v)


def _read(text: str) -> Value:
    """A number, or else a text."""
    try:
        return Numbers(np.array([float(text or "nan")]))
    except ValueError:
        return _plain(text)


def _plain(text: str) -> str:
    """Models by name alone, `mcat` for `baselines.mcat:MCAT` and for `mcat@1`; other single words lose their case."""
    target = _TARGET.fullmatch(text)
    word = text if target is None else target[1] or target[2]
    return word.replace("_", "").lower() if word.isidentifier() else word


def _same_settings(before: Path, after: Path, notes: list[str]) -> dict[str, str]:
    """Digest after -> digest before, of settings that agree wherever both sides have them.

    New, renamed and dropped settings leave it to the others which is which; they are noted.
    """
    sides = [_settings(side / "settings.json") for side in (before, after)]
    same: dict[str, str] = {}
    differ = set[str]()
    for new, settings in sides[1].items():
        agreeing = [old for old, those in sides[0].items() if not _clashes(settings, those)]
        alike = [old for old, those in sides[0].items() if those["model"] == settings["model"]]
        if len(alike) == 1 and sum(s["model"] == settings["model"] for s in sides[1].values()) == 1:
            agreeing = alike
        if len(agreeing) == 1 and agreeing[0] not in same.values():
            (old,) = agreeing
            same[new] = old
            differing = sorted(sides[0][old].keys() ^ settings.keys()) + _clashes(settings, sides[0][old])
            differ |= {f"settings differ: {', '.join(differing)}"} if differing else set()
    notes += sorted(differ)
    return same


def _clashes(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return [key for key in one if key in other and one[key] != other[key]]


def _settings(file: Path) -> dict[str, dict[str, str]]:
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {digest: dict(_leaves(settings)) for digest, settings in content.items()}


def _leaves(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    """Settings by name; a list is one, so that an empty one differs from an absent one."""
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            if key not in _SKIPPED:
                yield from _leaves(part, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        yield name, json.dumps([_plain(v) if isinstance(v, str) else v for v in value])
    else:
        yield name, _plain(value) if isinstance(value, str) else json.dumps(value)
