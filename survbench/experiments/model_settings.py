"""Settings of models that cannot be are refused while planning, not when a job has started."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from survbench.errors import BadConfig

__all__ = ["refuse_impossible"]

MOST = 65_536  # of anything that is counted: a layer of this size on both sides would have 17 GB
SHARES = ("dropout", "network_dropout", "hidden")  # where 1 would leave nothing; `hidden` where it is no width
UP_TO_ONE = ("alpha", "kept")
POSITIVE = ("tau", "enhancement_tau", "pretrain_learning_rate", "learning_rate")
COUNTS = (  # of units, layers and the like: there is at least one
    *("width", "attention", "bag_width", "heads", "landmarks", "kernel", "head_width", "query", "examples", "layers"),
    *("nearest", "hidden", "feed_forward", "pretrain_patches", "gate", "bottleneck", "enhancement", "pathway_width"),
    *("pathway_hidden", "components", "trees", "leaf", "depth", "dim", "experts"),
)
MAY_BE_NONE = ("crossfit",)


def refuse_impossible(model: str, known: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Refuse values of another kind than the defaults, and numbers that no layer, share or temperature can have.

    Parameters
    ----------
    model : its name, for the message.
    known : settings with their defaults.
    config : settings as they are to be.

    Raises
    ------
    BadConfig : names setting, value and what is expected.
    """
    for key, default in known.items():
        value = config[key]
        same = value == default and isinstance(value, bool) == isinstance(default, bool)  # True equals 1
        if not same and (expected := _expected(key, default, value)):
            raise BadConfig(f"setting {key} of model {model} is {value!r}", f"it must be {expected}")


def _expected(key: str, default: Any, value: Any) -> str:
    """What a value must be; empty where it is."""
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(default, int):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if key not in COUNTS + MAY_BE_NONE:  # of somebody's own model: nobody here knows its bounds
            return "" if whole else "a whole number"
        lowest = 0 if key in MAY_BE_NONE else 1
        return "" if whole and lowest <= value <= MOST else f"a whole number from {lowest} to {MOST:,}"
    if isinstance(default, float):
        return _expected_number(key, value)
    return "a name" if isinstance(default, str) and not isinstance(value, str | Mapping) else ""


def _expected_number(key: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "a finite number"
    if key in SHARES:
        return "" if 0 <= value < 1 else "at least 0 and below 1"
    if key in UP_TO_ONE:
        return "" if 0 <= value <= 1 else "from 0 to 1"
    return "above 0" if key in POSITIVE and value <= 0 else ""
