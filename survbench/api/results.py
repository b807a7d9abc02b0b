"""`Results`: finished jobs as data frames, figures and trained models.

How results are made is in jobs.py, what may be compared in leaderboard/, how it is shown in report/ and explain/.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from survbench.api.arguments import Choice, Names, Place, mapping, names, path, text, whole, writing
from survbench.api.selection import Selection, one_configuration, with_job
from survbench.console import warn
from survbench.errors import BadConfig

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from survbench.leaderboard.board import Leaderboard
    from survbench.leaderboard.comparison import Comparison
    from survbench.model import SurvivalModel
    from survbench.report.written import Checked
    from survbench.studies.external_validation import ExternalRow

__all__ = ["Results"]


class Results(Selection):
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
        from survbench.leaderboard.external_predictions import read_rows

        root = None if data is None else DataRoot.open(path(data, "data"))
        unit, column = text(time_unit, "time_unit"), text(censorship, "censorship", type(None))
        outcome = text(endpoint, "endpoint", type(None))
        rows = read_rows(path(file, "file"), root, outcome, censorship=column, time_unit=unit)
        return replace(self, external_predictions=rows)

    @cached_property
    def board(self) -> Leaderboard:
        """Every row that can be shown, and what was refused, computed from the stored predictions."""
        from survbench.leaderboard.aggregate import build

        rows, refused = self.external_predictions
        chosen: dict[str, Any] = {"endpoint": self.endpoint, "folds": self.scheme, "external_predictions": rows}
        board = build(self.out, cohorts=list(self.cohorts) or None, models=list(self.models) or None, **chosen)
        return replace(board, refused=(*board.refused, *refused))

    @cached_property
    def external_validation(self) -> list[ExternalRow]:
        """Rows of models that were applied, frozen, to other cohorts."""
        from survbench.studies.external_validation import external_rows

        return external_rows(self.out, list(self.models) or None)

    def leaderboard(self, metric: str = "cindex", *, published: bool = False) -> pd.DataFrame:
        """The board as a data frame; what is not in it or never compared is a warning.

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
        for line in (*self.board.notes, *refused):
            warn(line)
        return to_frame(self.board, text(metric, "metric"), published=published)

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
        for job in self.choose(self.done, model=model, cohort=cohort, fold=fold, seed=seed):
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
        row = one_configuration(self.choose(rows, settings, model=model, cohort=cohort))[0]
        return risk_figure(row, variants[id(row)])

    def write_km(self) -> list[dict[str, Any]]:
        """Draw a Kaplan-Meier figure of every row into OUT/figures; a record of each says what it shows and where."""
        from survbench.report.plots.kaplan_meier import plot_risk_groups

        return plot_risk_groups(self.board, self.out / "figures")

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

        wanted = {"model": self.name_of(model), "cohort": cohort, "fold": fold, "seed": seed}
        result = one_configuration(self.choose(self.done, settings, **wanted))[0]
        return result.load_model(resolve_device(device), registry=self.registry)[0]

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
        device : such as cpu or cuda; auto takes what is available.

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
        """Which patches of a patient the model attends to, by the fold in which it is a test patient.

        Parameters
        ----------
        model : its name, its file or its class; one with attention over patches.
        cohort : its name.
        patient : None takes the test patient of highest risk.
        pathways : attention between patches and these pathways instead.
        settings : of several configurations of the model the one with these.
        device : such as cpu or cuda; auto takes what is available.

        Raises
        ------
        UnknownName, BadConfig : there is no such row or patient, or nothing that can be drawn.
        """
        from survbench.explain.heatmap import heatmap_figure, slide_canvas
        from survbench.explain.patches import chosen_patients, patch_attention
        from survbench.training.device import resolve_device

        jobs, where = self.planned(model, cohort, settings), resolve_device(device)
        ((job, shown),) = chosen_patients(jobs, self.out, [] if patient is None else [text(patient, "patient")], 1)
        maps = patch_attention(job, shown, self.out, where, names(pathways, "pathways"))
        figure = heatmap_figure(maps, slide_canvas(maps, job.cohort, ()))
        if figure is None:
            raise BadConfig(f"the features of patient {shown} have no coordinates", "there is no heatmap without")
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

        file, content = read_written(path(written, "written"))
        of, selected = self, (self.models, self.cohorts, self.endpoint, self.scheme)
        if selected == ((), (), None, None) and metric == "cindex" and "selection" in content:
            chosen = dict(content["selection"])
            metric = chosen.pop("metric")
            of = self.select(**chosen)
        mismatches = check_written(Path(written), content, of.board, of.external_validation, text(metric, "metric"))
        return Checked(file, len(content["rows"]), tuple(mismatches))

    def _choice(self, metric: str) -> dict[str, Any]:
        """What is selected, as a written board records it."""
        chosen = {"metric": metric, "cohorts": self.cohorts, "models": self.models}
        return {**chosen, "endpoint": self.endpoint, "scheme": self.scheme}
