"""Why a contestant is not in the race, beyond the suite's own errors."""

from __future__ import annotations

__all__ = ["NotInstalled", "NotMeasured"]


class NotMeasured(Exception):
    """A contestant that this race is not for; the table says why."""


class NotInstalled(NotMeasured):
    """A peer whose package is not there."""

    def __init__(self, package: str) -> None:
        super().__init__(f"not installed: {package}")
