"""What arguments from Python may be: a wrong one is one line with its name, its value and what is expected.

Knows kinds of values alone; what a name stands for is decided where it is looked up.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from operator import index
from pathlib import Path
from typing import Any, TypeVar, cast

from survbench.errors import BadConfig

T = TypeVar("T")
Function = TypeVar("Function", bound=Callable[..., Any])
Place = str | Path
Data = Place | None
Models = Place | type | Sequence[Place | type]
Names = str | Sequence[str]
Numbers = int | Sequence[int]
Registries = Place | Sequence[Place]
Choice = Mapping[str, Any] | None


def renamed(**names: str) -> Callable[[Function], Function]:
    """A decorator of functions whose keyword arguments got new names: the old ones work for one minor version.

    Parameters
    ----------
    names : old name -> new name.

    Raises
    ------
    BadConfig : when the function is called with both.
    """

    def decorate(function: Function) -> Function:
        @wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            for old, new in names.items():
                if old in options:
                    if new in options:
                        raise BadConfig(f"{old} and {new} are the same argument", f"give {new} alone")
                    what = f"{function.__name__}({old}=...) is now {function.__name__}({new}=...)"
                    warnings.warn(what, DeprecationWarning, stacklevel=2)
                    options[new] = options.pop(old)
            return function(*arguments, **options)

        return cast(Function, call)

    return decorate


def of_kind(value: T, name: str, expected: str, *kinds: type) -> T:
    """The value, if it is of one of these kinds.

    Raises
    ------
    BadConfig : it is of none, as in all functions here.
    """
    if not isinstance(value, kinds):
        raise BadConfig(f"{name} is {value!r}", f"give {expected}")
    return value


def text(value: T, name: str, *also: type) -> T:
    """A text, or a value of some other kind."""
    return of_kind(value, name, "a text", str, *also)


def path(value: Any, name: str) -> Path:
    """A file or folder."""
    place = str(of_kind(value, name, "a path", str, Path))
    if not place or "\0" in place:
        raise BadConfig(f"{name} is {place!r}", "give a path")
    return Path(place)


def paths(value: Any, name: str) -> tuple[Path, ...]:
    """One path or several."""
    listed = [value] if isinstance(value, str | Path) else of_kind(value, name, "a path or a list of paths", Iterable)
    return tuple(path(one, name) for one in listed)


def names(value: Any, name: str, *also: type) -> tuple[Any, ...]:
    """One name or several, which may be of some other kinds."""
    several = isinstance(value, Iterable) and not isinstance(value, str | type | Mapping)
    listed = list(value) if several else [value]
    if not all(isinstance(one, (str, *also)) for one in listed):
        raise BadConfig(f"{name} is {value!r}", "give a name or a list of names")
    return tuple(listed)


def filled(values: Sequence[T], name: str) -> Sequence[T]:
    """One value at least."""
    if not values:
        raise BadConfig(f"{name} is empty", "name one at least")
    return values


def whole(value: Any, name: str, least: int) -> int:
    """A whole number from `least`; those of numpy are, `True` is not."""
    try:
        number = index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise BadConfig(f"{name} is {value!r}", f"give a whole number from {least}")
    return number


def numbers(value: Any, name: str) -> tuple[int, ...]:
    """One whole number from 0 or several."""
    return tuple(whole(one, name, 0) for one in (value if isinstance(value, Iterable) else [value]))


def mapping(value: Any, name: str) -> dict[str, Any]:
    """Plain values by name; None has none."""
    try:
        values = dict(of_kind({} if value is None else value, name, "", Mapping))
        json.dumps([values, names(values.keys(), name)], allow_nan=False)
    except (BadConfig, TypeError, ValueError, RecursionError):
        expected = "give a mapping of names to numbers, texts or lists, such as {'learning_rate': 1e-4}"
        raise BadConfig(f"{name} is {value!r}", expected) from None
    return values


@contextmanager
def writing(place: Path, name: str) -> Iterator[None]:
    """While files are written there."""
    try:
        yield
    except OSError as error:
        what = f"{name} {place} cannot be written: {error.strerror or error}"
        raise BadConfig(what, "check permissions, disk space and the path") from None
