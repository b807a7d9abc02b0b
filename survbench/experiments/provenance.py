"""Versions of everything a number depends on."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import survbench

__all__ = ["package_versions"]

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
    found = {"python": platform.python_version(), "survbench": survbench.__version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
