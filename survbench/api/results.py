"""`Results`: what a folder of results holds, as data frames, figures and trained models.

How results are made is api.py's; what may be said of them is decided in leaderboard/ and explain/.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from survbench.api.arguments import mapping, names, of_kind, path, renamed, text, whole, writing
from survbench.console import warn
from survbench.errors import BadConfig
from survbench.files import digest
from survbench.registry import Registry, pick

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from survbench.experiments.folders import Unreadable
    from survbench.experiments.job import Job
    from survbench.experiments.results import JobResult
    from survbench.experiments.schema import Identified
    from survbench.leaderboard.board import Leaderboard, Refusal, Row
    from survbench.leaderboard.comparison import Comparison
    from survbench.model import SurvivalModel
    from survbench.report.written import Checked
    from survbench.studies.external_validation import ExternalRow

__all__ = ["Results", "with_job"]

Place = str | Path
Names = str | Sequence[str]
Choice = Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Results:
    """Finished and failed jobs of a folder, or the part of them that `select` or `run` left.

    What was read is kept: call `load_results` again for what has been added to the folder since.

    Attributes
    ----------
    out : folder of results.
    registry : where models are looked up.
    data : data root for explanations and `predict`; None is the demo.
    models : names or wildcards; empty means all.
    cohorts : the same of cohorts.
    endpoint : only this outcome.
    scheme : only this fold scheme.
    external_predictions : rows of `add_predictions`, and what made none.
    failures : a line for each job that failed in the call to `run`; None where there was none.
    """

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
    ) -> Results:
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

    def add_predictions(
        self,
        file: Place,
        *,
        data: Place | None = None,
        endpoint: str | None = None,
        censorship: str | None = None,
        time_unit: str = "months",
    ) -> Results:
        """Set predictions that were made elsewhere beside the measured ones on the board.

        Parameters
        ----------
        file : CSV with model, cohort, fold, case, risk, and time and event unless `data` has them.
        data : data root with the labels.
        endpoint : outcome that they predict.
        censorship : column that is 1 for censored patients.
        time_unit : months or days.

        Raises
        ------
        BadFile, BadLabels : what is wrong in the file, and where.
        """
        from survbench.data.root import DataRoot
        from survbench.leaderboard.external_predictions import read_brought

        root = None if data is None else DataRoot.open(path(data, "data"))
        unit, column = text(time_unit, "time_unit"), text(censorship, "censorship", type(None))
        outcome = text(endpoint, "endpoint", type(None))
        found = read_brought(path(file, "file"), root, outcome, censorship=column, time_unit=unit)
        return replace(self, external_predictions=found)

    @cached_property
    def board(self) -> Leaderboard:
        """Everything that can be said about the results, computed from the stored predictions."""
        from survbench.leaderboard.aggregate import build

        rows, refused = self.external_predictions
        chosen: dict[str, Any] = {"endpoint": self.endpoint, "folds": self.scheme, "brought": rows}
        board = build(self.out, cohorts=list(self.cohorts) or None, models=list(self.models) or None, **chosen)
        return replace(board, refused=(*board.refused, *refused))

    @cached_property
    def external_validation(self) -> list[ExternalRow]:
        """Rows of models that were applied, frozen, to other cohorts."""
        from survbench.studies.external_validation import external_rows

        return external_rows(self.out, list(self.models) or None)

    def leaderboard(self, metric: str = "cindex", *, published: bool = False) -> pd.DataFrame:
        """The board as a data frame; what is not in it or never compared is said on standard error.

        Parameters
        ----------
        metric : cindex (Harrell), uno_c, ibs, auc, d_calibration or comparable_pairs.
        published : add the paper's figures, as rows whose `source` is `published`.

        Returns
        -------
        A row per model, configuration and cohort: `source`, `data` and `simulated`, `model`, `title`, `variant`,
        `cohort`, `endpoint`, `folds`, `status`, `seeds`, `metric` with its `mean` over folds, `sd` (ddof 0) and
        `sd_sample` (ddof 1), `sd_seeds`, `logrank_p` (pooled, and stratified by fold), `parameters`, `fvcore_flops`,
        and `reason` where there is no mean. Never rank rows with another endpoint, folds or kind of data together.

        Raises
        ------
        UnknownName : no such metric.
        """
        from survbench.report.columns import to_frame

        refused = (f"not shown: {refusal.label}: {refusal.reason}" for refusal in self.board.refused)
        for said in (*self.board.notes, *refused):
            warn(said)
        return to_frame(self.board, text(metric, "metric"), published=published)

    @property
    def jobs(self) -> pd.DataFrame:
        """A row per job: model, cohort, endpoint, folds, fold, seed, status (done or failed), reason, folder."""
        import pandas as pd

        columns = ("model", "cohort", "endpoint", "folds", "fold", "seed")
        rows = [
            {**{key: job.identity[key] for key in columns}, "status": "failed" if job.error else "done"}
            | {"reason": job.error, "folder": str(job.path)}
            for job in self._records
        ]
        return pd.DataFrame(rows, columns=[*columns, "status", "reason", "folder"])

    @property
    def failed(self) -> list[str]:
        """A line for each job that failed, of the call to `run` that gave these results or else of the folder."""
        if self.failures is not None:
            return list(self.failures)
        failed = [job for job in self._records if job.error]
        return [f"{job.model} {job.cohort} fold {job.fold} seed {job.seed}: {job.error}" for job in failed]

    def predictions(
        self, model: str | None = None, cohort: str | None = None, fold: int | None = None, seed: int | None = None
    ) -> pd.DataFrame:
        """Stored predictions of finished jobs.

        Parameters
        ----------
        model : name or wildcard; None means all.
        cohort : the same of cohorts.
        fold : only this outer fold.
        seed : only this seed.

        Returns
        -------
        A row per job and patient: `model`, `cohort`, `fold`, `seed`, `patient`, `split` (train, val or test), `time`
        (months), `event` (died), `risk` (higher is worse), `survival` (probabilities) at the months of `grid`, and
        `job`, the name of its folder.

        Raises
        ------
        UnknownName, BadConfig : there are none.
        """
        import numpy as np
        import pandas as pd

        parts = []
        for job in self._chosen(self._done, model=model, cohort=cohort, fold=fold, seed=seed):
            table = job.predictions()
            grids: Any = [np.array(job.grid)] * len(table)
            parts.append(with_job(table.assign(job=job.path.name, grid=grids), job))
        return pd.concat(parts, ignore_index=True)

    def compare(self, *models: Names, settings: Choice = None) -> pd.DataFrame:
        """Paired differences in C-index between models; see `comparison_frame` for the columns.

        Parameters
        ----------
        models : names or wildcards; without any, all pairs of these results.
        settings : of several configurations of a model those with these.

        Raises
        ------
        UnknownName : a model has no result.
        BadConfig : no two of them can be compared.
        """
        from survbench.leaderboard.comparison import comparison_frame

        return comparison_frame(self.comparisons(*models, settings=settings)[0])

    def comparisons(self, *models: Names, settings: Choice = None) -> tuple[list[Comparison], Leaderboard]:
        """The same with ranks and notes, a comparison per table of the board that stands beside."""
        from survbench.leaderboard.comparison import compare_models

        wanted = [name for several in models for name in names(several, "models")] or self.models or ("all",)
        chosen = self.endpoint, self.scheme, mapping(settings, "settings")
        return compare_models(self.out, wanted, list(self.cohorts) or None, *chosen)

    def km(self, model: str, cohort: str, *, settings: Choice = None) -> Figure:
        """Kaplan-Meier curves of low and high risk, with numbers at risk and log-rank p.

        High risk is above the median of the fold's training patients.

        Parameters
        ----------
        model : its name.
        cohort : its name.
        settings : of several configurations of the model the one with these.

        Raises
        ------
        UnknownName, BadConfig : there is no such row, or more than one.
        """
        from survbench.report.plots.kaplan_meier import risk_figure

        lines = [line for table in self.board.tables for line in table.lines]
        variants = {id(row): line.variant for line in lines for row in line.rows.values()}
        rows = [row for line in lines for row in line.rows.values() if not row.failed]
        if not rows:
            why = [*(refusal.reason for refusal in self.board.refused), *self.failed, "run one"]
            raise BadConfig(f"there is no complete row in {self.out}", why[0])
        row = _only(self._chosen(rows, settings, model=model, cohort=cohort))[0]
        return risk_figure(row, variants[id(row)])

    def write_km(self) -> list[dict[str, Any]]:
        """Draw a Kaplan-Meier figure of every row into OUT/figures; a record of each says what it shows and where."""
        from survbench.report.plots.kaplan_meier import draw_risk_groups

        return draw_risk_groups(self.board, self.out / "figures")

    def model(
        self,
        model: Place | type,
        cohort: str,
        fold: int = 0,
        seed: int = 0,
        *,
        settings: Choice = None,
        device: str = "cpu",
    ) -> SurvivalModel:
        """A trained model, in evaluation mode.

        Parameters
        ----------
        model : its name, its file or its class.
        cohort : that it was trained on.
        fold : outer fold.
        seed : of its training.
        settings : of several configurations of the model the one with these.
        device : such as cpu or cuda.

        Raises
        ------
        UnknownName, BadConfig : there is no such job, or more than one.
        """
        from survbench.training.device import resolve_device

        wanted = {"model": self._name(model), "cohort": cohort, "fold": fold, "seed": seed}
        found = _only(self._chosen(self._done, settings, **wanted))
        return found[0].load_model(resolve_device(device), registry=self.registry)[0]

    def pathways(
        self,
        model: Place | type,
        cohort: str,
        *,
        by: str = "attention",
        steps: int = 64,
        settings: Choice = None,
        device: str = "auto",
    ) -> pd.DataFrame:
        """Pathways from the most to the least important, over the test patients of all folds and seeds.

        Parameters
        ----------
        model : its name, its file or its class.
        cohort : its name.
        by : attention, or attribution: how much each moves the risk, by integrated gradients of expression.
        steps : points on the path of gradients.
        settings : of several configurations of the model the one with these.
        device : such as cpu or cuda; auto takes what is there.

        Returns
        -------
        Indexed by pathway: `mean` and `sd` over jobs (1 = all equal), and `top`, the share of jobs with it among the
        first five; by attribution also `direction` (positive where more expression means more risk) and `genes`.

        Raises
        ------
        UnknownName, BadConfig : there is no such row, or the model has no attention or gradient of that kind.
        """
        from survbench.explain.report import rank
        from survbench.training.device import resolve_device

        jobs = self.planned(model, cohort, settings)
        return rank(by, jobs, self.out, resolve_device(device), whole(steps, "steps", 1))[0].table

    def heatmap(
        self,
        model: Place | type,
        cohort: str,
        patient: str | None = None,
        *,
        pathways: Names = (),
        settings: Choice = None,
        device: str = "auto",
    ) -> Figure:
        """Which patches of a patient the model attends to, asked of the fold that never saw the patient.

        Parameters
        ----------
        model : its name, its file or its class; one with attention over patches.
        cohort : its name.
        patient : None takes the test patient of highest risk.
        pathways : attention between patches and these pathways instead.
        settings : of several configurations of the model the one with these.
        device : such as cpu or cuda; auto takes what is there.

        Raises
        ------
        UnknownName, BadConfig : there is no such row or patient, or nothing that can be drawn.
        """
        from survbench.explain.heatmap import heatmap_figure, lay_out
        from survbench.explain.patches import chosen_patients
        from survbench.explain.report import attention
        from survbench.training.device import resolve_device

        jobs, where = self.planned(model, cohort, settings), resolve_device(device)
        ((job, who),) = chosen_patients(jobs, self.out, [] if patient is None else [text(patient, "patient")], 1)
        found = attention(job, who, names(pathways, "pathways"), self.out, where)
        figure = heatmap_figure(found, lay_out(found, job.cohort, ()))
        if figure is None:
            raise BadConfig(f"the features of patient {who} have no coordinates", "there is no heatmap without")
        return figure

    def write(self, folder: Place, metric: str = "cindex") -> list[Path]:
        """Write the board as Markdown, CSV and JSON; see `check`."""
        from survbench.report.written import write_leaderboard

        place, shown = path(folder, "folder"), text(metric, "metric")
        with writing(place, "folder"):
            return write_leaderboard(place, self.board, self.external_validation, shown, self._choice(shown))

    def write_page(self, file: Place, metric: str = "cindex") -> None:
        """Write the board as one HTML page that needs no network."""
        from survbench.report.page import write_page

        place, shown = path(file, "file"), text(metric, "metric")
        with writing(place, "file"):
            write_page(place, self.board, self.external_validation, self.out, shown)

    def check(self, written: Place, metric: str = "cindex") -> Checked:
        """Recompute a board that `write` wrote and list what differs.

        Parameters
        ----------
        written : folder or JSON file. What was selected when it was written is selected again, unless these results are
            a selection themselves.
        metric : that the board shows.

        Raises
        ------
        MissingFile, BadFile : there is no such board.
        """
        from survbench.report.written import Checked, check_written, read_written

        file, found = read_written(path(written, "written"))
        of, selected = self, (self.models, self.cohorts, self.endpoint, self.scheme)
        if selected == ((), (), None, None) and metric == "cindex" and "asked" in found:
            chosen = dict(found["asked"])
            metric = chosen.pop("metric")
            of = self.select(**chosen)
        mismatches = check_written(Path(written), found, of.board, of.external_validation, text(metric, "metric"))
        return Checked(file, len(found["rows"]), tuple(mismatches))

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
        from survbench.data.demo import open_root
        from survbench.experiments.plan import Request, plan
        from survbench.experiments.results import find_results

        found = _only(self._chosen(self._done, settings, model=self._name(model), cohort=cohort))
        of, places = found[0], {(job.seed, job.fold) for job in found}
        seeds, folds = ([*dict.fromkeys(numbers)] for numbers in zip(*sorted(places), strict=True))
        config = of.record.get("config", of.identity["config"])
        overrides = _settings({**of.identity, "config": config})
        objective, task = overrides.pop("objective"), (of.identity["endpoint"], of.identity["folds"])
        request = Request([of.model], [of.cohort], *task, objective, seeds, folds, overrides=overrides)
        planned = plan(request, self.registry, open_root(self.data))
        jobs = [job for job in planned if (job.seed, job.fold.index) in places]
        try:
            find_results(jobs, self.out)
        except BadConfig:
            what = f"the data, or the version of model {of.model}, are not those of its results on {of.cohort}"
            raise BadConfig(what, "name their data root with data=..., or run them again") from None
        return jobs

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

    def _choice(self, metric: str) -> dict[str, Any]:
        """What is selected, as a written board says it."""
        chosen = {"metric": metric, "cohorts": self.cohorts, "models": self.models}
        return {**chosen, "endpoint": self.endpoint, "scheme": self.scheme}

    def _name(self, model: Place | type) -> str:
        """Name of a model that is given by its file or class."""
        known = of_kind(model, "model", "a name, a file or a class", str, Path, type)
        pattern = self.registry.pattern_of(known) if isinstance(known, type) else str(known)
        is_file = pattern.partition(":")[0].endswith(".py")
        return self.registry.select_models([pattern])[0].name if is_file else pattern

    @property
    def _records(self) -> list[JobResult]:
        return self._read[0]

    @cached_property
    def _read(self) -> tuple[list[JobResult], list[Unreadable]]:
        """Jobs of the selection, by cohort, model, seed and fold; a job that failed counts until it has succeeded.

        And what cannot be read, each with a warning.
        """
        from survbench.experiments.results import JobResult, read_results

        wanted = {"model": self.models, "cohort": self.cohorts, "endpoint": self.endpoint, "folds": self.scheme}
        found: dict[str, JobResult] = {}
        unreadable = []
        for job in read_results(self.out):
            if not isinstance(job, JobResult):
                warn(f"not read: {job.path}: {job.reason}")
                unreadable.append(job)
            elif all(_matches(job.identity[key], of) for key, of in wanted.items()):
                found.setdefault(digest(job.identity), job)
        return sorted(found.values(), key=lambda job: (job.cohort, job.model, job.seed, job.fold)), unreadable

    def _chosen(self, rows: Sequence[Any], settings: Choice = None, **wanted: Any) -> list[Any]:
        """Those that are wanted; names may be wildcards."""
        if not rows:
            raise BadConfig(f"there is no finished job in {self.out}", [*self.failed, "run one"][0])
        for key, value in wanted.items():
            if value is not None:
                known = sorted({getattr(row, key) for row in rows})
                number = key in ("fold", "seed")
                found = [whole(value, key, 0)] if number else pick(text(value, key), known, key)
                rows = [row for row in rows if getattr(row, key) in found]
        chosen, have = mapping(settings, "settings"), [_settings(row.identity) for row in rows]
        if unknown := sorted(chosen.keys() - {key for one in have for key in one}):
            raise BadConfig(f"no finished job here has a setting '{unknown[0]}'", f"settings: {', '.join(have[0])}")
        kept = [row for row, one in zip(rows, have, strict=True) if all(one.get(k, v) == v for k, v in chosen.items())]
        if not kept:
            said = ", ".join(f"{key} {value}" for key, value in {**wanted, **chosen}.items() if value is not None)
            raise BadConfig(f"no finished job in {self.out} has {said or 'what is selected'}", "`jobs` lists them")
        return kept

    @property
    def _done(self) -> list[JobResult]:
        return [job for job in self._records if not job.error]


def with_job(table: pd.DataFrame, result: Identified) -> pd.DataFrame:
    """A table whose first columns say of which model, fold and seed it is."""
    about: dict[str, Any] = {key: getattr(result, key) for key in ("model", "cohort", "fold", "seed")}
    return table.assign(**about)[[*about, *table.columns]]


def _matches(name: str, patterns: str | Sequence[str] | None) -> bool:
    listed = [patterns] if isinstance(patterns, str) else patterns
    return not listed or "all" in listed or any(fnmatch.fnmatchcase(name, pattern) for pattern in listed)


def _settings(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Of model and trainer; other models by their names."""
    config = {k: v["model"] if isinstance(v, Mapping) and "model" in v else v for k, v in identity["config"].items()}
    return {**identity["training"], **config, "objective": identity["objective"].get("name")}


def _only(rows: Sequence[Any]) -> Sequence[Any]:
    """Rows or jobs that differ by fold and seed alone.

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
