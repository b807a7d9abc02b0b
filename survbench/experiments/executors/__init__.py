"""Where jobs run: one protocol, whatever machine and however many processes are behind it.

What a job does is in execute.py, what becomes of its outcome in dispatch.py.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from survbench.experiments.execute import Outcome
    from survbench.experiments.job import JobSpec

__all__ = ["Executor"]


class Executor(Protocol):
    """Runs jobs that are described by small JSON values; results appear in the folders that the specs name."""

    def run(self, specs: Sequence[JobSpec]) -> Generator[tuple[JobSpec, Outcome], None, None]:
        """Each job with its outcome as soon as it has ended, once; closing the iterator stops those that run.

        A job that could not be run to its end is `lost`, and the caller records it.
        """
        ...
