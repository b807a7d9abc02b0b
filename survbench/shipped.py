"""Files that travel with the package: inside it in a wheel, beside it in a checkout."""

from __future__ import annotations

from pathlib import Path

__all__ = ["shipped"]


def shipped(name: str) -> Path:
    """Path of a shipped file such as `registry.yaml` or `leaderboards/published.csv`."""
    package = Path(__file__).parent
    inside = package / name
    return inside if inside.exists() else package.parent / name
