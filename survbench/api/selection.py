"""Which jobs of a folder of results are meant: the base of `Results`."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from survbench.api.arguments import Choice, Names, Place, mapping, names, of_kind, renamed, text, whole
from survbench.console import warn
from survbench.errors import BadConfig
from survbench.files import digest
from survbench.registry import Registry, pick

if TYPE_CHECKING:
    import pandas as pd

    from survbench.experiments.folders import Unreadable
    from survbench.experiments.job import Job
    from survbench.experiments.results import JobResult
    from survbench.experiments.schema import Identified
    from survbench.leaderboard.board import Refusal, Row

__all__ = ["Selection", "one_configuration", "with_job"]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Selection:
    """Which jobs `Results` holds, and how a part of them is chosen; `Results` documents the attributes."""

    out: Path
    registry: Registry
    data: Path | None = None
    models: tuple[str, ...] = ()
    cohorts: tuple[str, ...] = ()
    endpoint: str | None = None
    scheme: str | None = None
    external_predictions: tuple[Sequence[Row], Sequence[Refusal]] = ((), ())
    failures: tuple[str, ...] | None = None

    @renamed(folds="scheme")
    def select(
        self,
        *,
        models: Names | None = None,
        cohorts: Names | None = None,
        endpoint: str | None = None,
        scheme: str | None = None,
    ) -> Self:
        """A part of these results.

        Parameters
        ----------
        models : names or wildcards; None leaves it as it is.
        cohorts : the same of cohorts.
        endpoint : only this outcome.
        scheme : only this fold scheme.
        """
        return replace(
            self,
            models=self.models if models is None else names(models, "models"),
            cohorts=self.cohorts if cohorts is None else names(cohorts, "cohorts"),
            endpoint=self.endpoint if endpoint is None else text(endpoint, "endpoint").lower(),
            scheme=self.scheme if scheme is None else text(scheme, "scheme"),
        )

    @property
    def jobs(self) -> pd.DataFrame:
        """A row per job: model, cohort, endpoint, folds, fold, seed, status (done or failed), reason, folder."""
        import pandas as pd

        columns = ("model", "cohort", "endpoint", "folds", "fold", "seed")
        rows = [
            {**{key: job.identity[key] for key in columns}, "status": "failed" if job.error else "done"}
            | {"reason": job.error, "folder": str(job.path)}
            for job in self._read[0]
        ]
        return pd.DataFrame(rows, columns=[*columns, "status", "reason", "folder"])

    @property
    def failed(self) -> list[str]:
        """A line for each job that failed, of the call to `run` that returned these results or else of the folder."""
        if self.failures is not None:
            return list(self.failures)
        failed = [job for job in self._read[0] if job.error]
        return [f"{job.model} {job.cohort} fold {job.fold} seed {job.seed}: {job.error}" for job in failed]

    def planned(self, model: Place | type, cohort: str | None = None, settings: Choice = None) -> list[Job]:
        """The finished jobs of one row with their data, as `run` planned them.

        Parameters
        ----------
        model : its name, its file or its class.
        cohort : its name; None where there is one.
        settings : of several configurations of the model the one with these.

        Raises
        ------
        UnknownName, BadConfig : there is no such row, or more than one, or its data are not here.
        """
        from survbench.experiments.plan import plan_again
        from survbench.simulation.demo import open_root

        finished = one_configuration(self.choose(self.done, settings, model=self.name_of(model), cohort=cohort))
        return plan_again(finished, self.out, self.registry, open_root(self.data))

    def __repr__(self) -> str:
        from survbench.leaderboard.board import KINDS

        jobs, unreadable = self._read
        lost = f", {len(unreadable)} cannot be read" * bool(unreadable)
        if not jobs:
            return f"Results in {self.out}: nothing yet{lost}"
        parts = [
            ", ".join(dict.fromkeys(str(job.identity[key]) for job in jobs))
            for key in ("model", "cohort", "endpoint", "folds")
        ]
        kinds = ", ".join(dict.fromkeys(KINDS[job.simulated] for job in jobs))
        return (
            f"Results in {self.out}: {sum(not job.error for job in jobs)} jobs done, {len(self.failed)} failed{lost}\n"
            f"models: {parts[0]}; cohorts: {parts[1]}; endpoint: {parts[2]}; folds: {parts[3]}\n{kinds}"
        )

    def name_of(self, model: Place | type) -> str:
        """Name of a model that may be named by its file or class."""
        of_kind(model, "model", "a name, a file or a class", str, Path, type)
        pattern = self.registry.pattern_of(model) if isinstance(model, type) else str(model)
        is_file = pattern.partition(":")[0].endswith(".py")
        return self.registry.select_models([pattern])[0].name if is_file else pattern

    @property
    def done(self) -> list[JobResult]:
        """Finished jobs."""
        return [job for job in self._read[0] if not job.error]

    @cached_property
    def _read(self) -> tuple[list[JobResult], list[Unreadable]]:
        """Jobs of the selection, by cohort, model, seed and fold; a job that failed counts until it has succeeded.

        And what cannot be read, each with a warning.
        """
        from survbench.experiments.results import JobResult, read_results

        wanted = {"model": self.models, "cohort": self.cohorts, "endpoint": self.endpoint, "folds": self.scheme}
        jobs: dict[str, JobResult] = {}
        unreadable = []
        for job in read_results(self.out):
            if not isinstance(job, JobResult):
                warn(f"not read: {job.path}: {job.reason}")
                unreadable.append(job)
            elif all(_matches(job.identity[key], of) for key, of in wanted.items()):
                jobs.setdefault(digest(job.identity), job)
        return sorted(jobs.values(), key=lambda job: (job.cohort, job.model, job.seed, job.fold)), unreadable

    def choose(self, rows: Sequence[Identified], settings: Choice = None, **wanted: Any) -> list[Any]:
        """The jobs or rows that are wanted.

        Parameters
        ----------
        rows : to choose from.
        settings : that they must have.
        wanted : model and cohort by name or wildcard, fold and seed; None means all.

        Raises
        ------
        UnknownName, BadConfig : there are none.
        """
        if not rows:
            raise BadConfig(f"there is no finished job in {self.out}", [*self.failed, "run one"][0])
        for key, value in wanted.items():
            if value is not None:
                known = sorted({getattr(row, key) for row in rows})
                number = key in ("fold", "seed")
                chosen = [whole(value, key, 0)] if number else pick(text(value, key), known, key)
                rows = [row for row in rows if getattr(row, key) in chosen]
        required, have = mapping(settings, "settings"), [row.settings for row in rows]
        if unknown := sorted(required.keys() - {key for one in have for key in one}):
            raise BadConfig(f"no finished job here has a setting '{unknown[0]}'", f"settings: {', '.join(have[0])}")
        kept = [row for row, of in zip(rows, have, strict=True) if all(of.get(k, v) == v for k, v in required.items())]
        if not kept:
            what = ", ".join(f"{key} {value}" for key, value in {**wanted, **required}.items() if value is not None)
            raise BadConfig(f"no finished job in {self.out} has {what or 'what is selected'}", "`jobs` lists them")
        return kept


def with_job(table: pd.DataFrame, result: Identified) -> pd.DataFrame:
    """A table with model, cohort, fold and seed in its first columns."""
    job: dict[str, Any] = {key: getattr(result, key) for key in ("model", "cohort", "fold", "seed")}
    return table.assign(**job)[[*job, *table.columns]]


def _matches(name: str, patterns: str | Sequence[str] | None) -> bool:
    listed = [patterns] if isinstance(patterns, str) else patterns
    return not listed or "all" in listed or any(fnmatch.fnmatchcase(name, pattern) for pattern in listed)


def one_configuration(rows: Sequence[Any]) -> Sequence[Any]:
    """The rows or jobs, if they differ by fold and seed alone.

    Raises
    ------
    BadConfig : they are of several configurations.
    """
    kinds = {digest({k: v for k, v in row.identity.items() if k not in ("fold", "seed")}) for row in rows}
    if len(kinds) > 1:
        first = rows[0]
        raise BadConfig(
            f"{first.model} on {first.cohort} has {len(kinds)} configurations here",
            "choose one with settings={...}, or with select(endpoint=..., scheme=...)",
        )
    return rows
