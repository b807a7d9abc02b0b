"""Survival prediction from slides and transcriptomes: one interface, one trainer, one leaderboard.

Nothing heavy is imported here: what is exported loads when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from survbench.api import Results, ablate, compare, load_cohort, load_results, predict, run, tune

__version__ = "0.1.0"
__all__ = ["Results", "ablate", "compare", "load_cohort", "load_results", "predict", "run", "tune"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'survbench' has no attribute '{name}'")
    from survbench import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - {"TYPE_CHECKING", "Any"})
