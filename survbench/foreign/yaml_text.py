"""YAML of strangers: a plain file of a sensible size, not nested or multiplied beyond use, read without any code."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import yaml

__all__ = ["read_yaml", "yaml_value"]

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the compiled one where there is one: every command waits
LARGEST = 4_000_000  # bytes
DEEPEST = 50
MOST_VALUES = 100_000  # with every alias written out


def read_yaml(file: Path) -> Any:
    """What a file holds.

    Raises
    ------
    OSError, ValueError, yaml.YAMLError : it cannot be read, is no plain file, or holds what `yaml_value` refuses.
    """
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise ValueError("it is a folder" if stat.S_ISDIR(status.st_mode) else "it is a pipe or a device, no file")
    if status.st_size > LARGEST:
        raise ValueError(f"it has {status.st_size:,} bytes, expected at most {LARGEST:,}")
    return yaml_value(file.read_text(encoding="utf-8"))


def yaml_value(text: str) -> Any:
    """The value of a text.

    Raises
    ------
    ValueError, yaml.YAMLError : it is no YAML, is nested too deep, or its aliases multiply it.
    """
    _refuse_excess(text)
    return yaml.load(text, LOADER)


def _refuse_excess(text: str) -> None:
    sizes, nested = dict[str, int](), [("", 0)]  # anchor -> values; anchor and values of what is open
    for event in yaml.parse(text, LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            nested.append((event.anchor or "", 1))
            if len(nested) > DEEPEST:
                raise ValueError(f"it is nested more than {DEEPEST} deep")
            continue
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"the alias '{event.anchor}' stands inside what it names, or names nothing")
            anchor, size = "", sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor or "", 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = nested.pop()
        else:
            continue
        if anchor:
            sizes[anchor] = size
        outer, values = nested[-1]
        if values + size > MOST_VALUES:
            raise ValueError(f"it holds more than {MOST_VALUES:,} values with its aliases written out")
        nested[-1] = (outer, values + size)
