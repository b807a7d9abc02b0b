"""Settings that choose one of a few forms, with an error that lists them."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from survbench.errors import BadConfig

__all__ = ["member"]

Form = TypeVar("Form", bound=StrEnum)


def member(kind: type[Form], value: str, key: str) -> Form:
    """The member that a setting names.

    Raises
    ------
    BadConfig : there is no such member.
    """
    try:
        return kind(value)
    except ValueError:
        raise BadConfig(f"amkd: {key} is '{value}'", f"choose from {', '.join(kind)}") from None
