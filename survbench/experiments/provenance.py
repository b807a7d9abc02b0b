"""Versions of everything a number depends on."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import survbench

__all__ = ["installed", "package_versions"]

_PACKAGES = (
    "torch",
    "torch-geometric",
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "scikit-survival",
    "mlflow",
    "fvcore",
)


@cache
def package_versions() -> dict[str, str]:
    """Python, the suite and the packages whose behavior can change a result."""
    return {"python": platform.python_version(), "survbench": survbench.__version__, **installed(_PACKAGES)}


def installed(packages: Sequence[str]) -> dict[str, str]:
    """Version of each; `not installed` where it is not."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
