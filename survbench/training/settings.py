"""Settings of the trainer, checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from survbench.errors import BadConfig

__all__ = ["SELECTION_RULE", "Settings"]

SELECTION_RULE = "lowest validation loss of the objective; stop after `patience` epochs without improvement"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How every model is trained.

    Attributes
    ----------
    epochs : at most, per stage.
    patience : epochs without a better validation loss before a stage stops.
    batch_size : patients per optimizer step.
    learning_rate : of Adam.
    weight_decay : of Adam.
    patches : larger bags are sampled down to this number while training; predictions use all patches.

    Raises
    ------
    BadConfig : an impossible value.
    """

    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    patches: int

    def __post_init__(self) -> None:
        for key, value in asdict(self).items():
            lowest = 0 if key == "weight_decay" else 1 if isinstance(value, int) else 1e-12
            if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value < float("inf"):
                raise BadConfig(f"training setting {key} is {value!r}", f"it must be a number of at least {lowest}")
        if self.batch_size < 2:
            raise BadConfig(f"training setting batch_size is {self.batch_size}", "a Cox loss needs several patients")

    @classmethod
    def build(cls, *layers: Mapping[str, Any]) -> Settings:
        """Merge settings.

        Parameters
        ----------
        layers : settings by name; later layers win.

        Raises
        ------
        BadConfig : an unknown or missing key, or an impossible value.
        """
        merged = {key: value for layer in layers for key, value in layer.items()}
        known = {f.name: f.type for f in fields(cls)}
        if wrong := sorted(set(merged) ^ set(known)):
            what = f"training setting '{wrong[0]}' is {'unknown' if wrong[0] in merged else 'missing'}"
            raise BadConfig(what, f"settings: {', '.join(known)}")
        for key in (key for key, kind in known.items() if kind == "int"):
            if isinstance(merged[key], float) and merged[key].is_integer():
                merged[key] = int(merged[key])
            if isinstance(merged[key], bool) or not isinstance(merged[key], int):
                raise BadConfig(f"training setting {key} is {merged[key]!r}", "it must be a whole number")
        return cls(**merged)
