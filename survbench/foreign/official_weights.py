"""Weights of official implementations: out of their checkpoints, under our names, complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from survbench.console import shown
from survbench.errors import BadModel

__all__ = ["load_whole", "rename_state", "unwrapped"]


def unwrapped(weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights of a checkpoint, without what training scripts wrap around them and their names."""
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(inner := weights.get(key), Mapping):
            return unwrapped(inner)
    while weights and all(key.startswith("module.") for key in weights):
        weights = {key.removeprefix("module."): value for key, value in weights.items()}
    return dict(weights)


def load_whole(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load weights under a model's own names.

    Raises
    ------
    BadModel : in one line, which have no counterpart on either side, or another shape.
    """
    own, name = model.state_dict(), type(model).__name__
    strange, missing = ([key for key in one if key not in other] for one, other in ((state, own), (own, state)))
    if strange or missing:
        raise BadModel(
            f"official weights: {_counted(strange)} without a counterpart in {name}, {_counted(missing)} of {name} "
            "without one in the file",
            "use the checkpoint of the same model and settings",
        )
    for key, value in state.items():
        if value.shape != own[key].shape:
            what = f"official weight {key} has the shape {tuple(value.shape)}, expected {tuple(own[key].shape)}"
            raise BadModel(what, "use the checkpoint of the same settings")
    model.load_state_dict(state)


def rename_state(state: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Rename the entries of an official state dictionary to ours.

    Parameters
    ----------
    state : official name -> weight.
    names : prefix in the official implementation -> prefix here. The longest matching prefix wins.

    Raises
    ------
    BadModel : official weights have no counterpart, which would silently drop them.
    """
    prefixes = {key: max((of for of in names if key.startswith(of)), key=len, default=None) for key in state}
    if strange := [key for key, prefix in prefixes.items() if prefix is None]:
        raise BadModel(
            f"official weights: {_counted(strange)} without a counterpart; known prefixes: {', '.join(sorted(names))}",
            "use the checkpoint of the same model and settings",
        )
    return {names[of] + key.removeprefix(of): state[key] for key, of in prefixes.items() if of is not None}


def _counted(keys: Sequence[str]) -> str:
    named = f" ({shown(keys)})" if keys else ""
    return f"{len(keys)} key{'' if len(keys) == 1 else 's'}{named}"
