"""Models of other libraries beside ours: how an adapter file is read and used.

An adapter is a Python file with `STEPS`, a dictionary from a name in our registry to a function

    def step(setting: Setting) -> Callable[[], object]

which builds the peer's model with the widths of `setting.config` and returns a function that takes one optimizer step
on `setting.x`. benchmarks/adapters/ has examples. An ImportError in it means `not installed`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.errors import NotInstalled
from survbench.errors import BadConfig, MissingFile
from survbench.training.device import autocast
from survbench.training.objectives import Cox

__all__ = ["BUILT_IN", "Peer", "Setting", "read_peers", "survival_step"]

BUILT_IN = {"torchmil": Path(__file__).parent / "adapters" / "torchmil.py"}


@dataclass(frozen=True)
class Setting:
    """What a peer takes its step on: the very tensors that our model gets.

    Attributes
    ----------
    config : settings of our model with their values, such as width or dropout.
    x : (patients, patches, features).
    time : (patients,), months.
    event : (patients,), True = died.
    """

    config: Mapping[str, Any]
    x: Tensor
    time: Tensor
    event: Tensor

    @property
    def features(self) -> int:
        return self.x.shape[2]


Step = Callable[[Setting], Callable[[], object]]


@dataclass(frozen=True)
class Peer:
    """Another library.

    Attributes
    ----------
    name : of the library.
    file : its adapter.
    """

    name: str
    file: Path

    def steps(self) -> dict[str, Step]:
        """Name of our model -> how to build the peer's.

        Raises
        ------
        NotInstalled : a package that the adapter imports is missing.
        BadConfig : the file has no STEPS, or cannot be run.
        """
        spec = importlib.util.spec_from_file_location(f"survbench_peer_{self.name}", self.file)
        if spec is None or spec.loader is None:
            raise BadConfig(f"peer {self.name}: {self.file} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except ImportError as error:
            raise NotInstalled(error.name or self.name) from None
        except Exception as error:
            raise BadConfig(f"peer {self.name}: {self.file} cannot be run: {type(error).__name__}: {error}") from error
        steps = getattr(module, "STEPS", None)
        if not isinstance(steps, dict) or not steps or not all(callable(step) for step in steps.values()):
            raise BadConfig(
                f"peer {self.name}: {self.file} has no STEPS", "give it a dictionary: name of a model -> function"
            )
        return steps


def read_peers(given: tuple[str, ...]) -> list[Peer]:
    """The built-in peers and those of `NAME=path/to/adapter.py`; a given one replaces a built-in one of its name."""
    files = dict(BUILT_IN)
    for text in given:
        name, _, path = text.partition("=")
        if not name or not path.endswith(".py"):
            raise BadConfig(f"--peer {text}", "write it as NAME=path/to/adapter.py")
        if not Path(path).is_file():
            raise MissingFile(f"--peer {name}: {path} does not exist")
        files[name] = Path(path)
    return [Peer(name, file) for name, file in files.items()]


def survival_step(model: nn.Module, logits: Callable[[], tuple[Tensor, ...]], setting: Setting) -> Callable[[], object]:
    """A step with all that ours has: fused Adam, the suite's Cox loss, the same precision.

    Parameters
    ----------
    model : the peer's.
    setting : the batch.
    logits : one (patients,) tensor for each term of the loss.
    """
    device, cox = setting.x.device, Cox()
    model.to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-5, weight_decay=1e-5, fused=device.type in ("cpu", "cuda"))

    def step() -> None:
        with autocast(device):
            terms = [cox.loss(one.unsqueeze(1), setting.time, setting.event) for one in logits()]
        optimizer.zero_grad()
        torch.stack(terms).mean().backward()
        optimizer.step()

    return step
