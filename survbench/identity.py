"""What the identity of a job says, for everything that carries one: jobs on disk, rows, mirrored runs.

Knows neither where the identity was read nor what it is used for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Identified"]


class Identified:
    """Short names for the parts of `identity`, as `survbench.experiments.job` makes it; rows have no fold and seed."""

    identity: Mapping[str, Any]

    @property
    def model(self) -> str:
        return str(self.identity["model"])

    @property
    def cohort(self) -> str:
        return str(self.identity["cohort"])

    @property
    def fold(self) -> int:
        return int(self.identity["fold"])

    @property
    def seed(self) -> int:
        return int(self.identity["seed"])
