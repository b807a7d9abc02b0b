"""Where a job's time goes: seconds by phase, recorded in job.json and summed up after `run`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["OTHER", "STEPS", "Clock", "shares"]

T = TypeVar("T")

OTHER = "other"
STEPS = "steps"
_OF_A_STEP = ("forward", "backward", "optimizer")


class Clock:
    """Adds up the seconds of each phase: `with clock("forward"): ...`. Phases aren't nested.

    Parameters
    ----------
    separable : False for devices that compute asynchronously: a forward pass returns before it is done, and waiting
        for it would slow training down. Forward, backward and optimizer are then one phase, `steps`, which ends when
        the epoch's numbers are read.
    now : gives the time in seconds.
    """

    def __init__(self, *, separable: bool = True, now: Callable[[], float] = time.perf_counter) -> None:
        self._separable, self._now, self._began = separable, now, now()
        self._before, self._spent = 0.0, dict[str, float]()

    def resume(self, seconds: Mapping[str, float]) -> None:
        """Go on from what was spent before an interruption."""
        self._before += sum(seconds.values())
        for phase, spent in seconds.items():
            if phase != OTHER:
                self._add(phase, spent)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        began = self._now()
        try:
            yield
        finally:
            self._add(phase, self._now() - began)

    def each(self, phase: str, items: Iterable[T]) -> Iterator[T]:
        """The items; making them is the phase, using them is not."""
        iterator, end = iter(items), object()
        while True:
            with self(phase):
                item = next(iterator, end)
            if item is end:
                return
            yield item  # type: ignore[misc]

    @property
    def total(self) -> float:
        """Seconds since the work began, interruptions left out."""
        return self._before + self._now() - self._began

    def seconds(self) -> dict[str, float]:
        """Seconds of every phase so far; the rest of the total is `other`."""
        return {**self._spent, OTHER: max(0.0, self.total - sum(self._spent.values()))}

    def _add(self, phase: str, seconds: float) -> None:
        name = phase if self._separable or phase not in _OF_A_STEP else STEPS
        self._spent[name] = self._spent.get(name, 0.0) + seconds


def shares(jobs: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Each phase's share of all the jobs' seconds, the largest first."""
    sums: dict[str, float] = {}
    for seconds in jobs:
        for phase, spent in seconds.items():
            sums[phase] = sums.get(phase, 0.0) + spent
    total = sum(sums.values())
    return {phase: spent / total for phase, spent in sorted(sums.items(), key=lambda item: -item[1])} if total else {}
