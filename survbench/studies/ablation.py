"""Ablations: the same jobs with one setting changed at a time, as a model's card lists them, and what they give.

Training is planned here and run elsewhere; importing this module loads no deep-learning library.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from survbench.cards import ModelCard
from survbench.console import warn
from survbench.errors import BadConfig, SurvbenchError, UnknownName
from survbench.evaluation.compare import Difference, mean_difference, unknown
from survbench.evaluation.metrics import METRICS
from survbench.experiments.folders import failure_file, result_folder
from survbench.leaderboard.aggregate import build
from survbench.leaderboard.board import KINDS, Row
from survbench.leaderboard.paired_differences import difference_columns, row_difference
from survbench.leaderboard.published import published_change, published_cindex
from survbench.registry import Registry, pick

if TYPE_CHECKING:
    from survbench.data.root import DataRoot
    from survbench.experiments.job import Job
    from survbench.experiments.plan import Request

__all__ = ["MEAN", "Arm", "Study", "all_jobs", "find_study", "plan_study", "read_study", "study_frame"]

MEAN = "mean"  # stands for a cohort in rows that are means over cohorts


@dataclass(frozen=True)
class Arm:
    """One variant of the model.

    Attributes
    ----------
    name : in tables and figures.
    settings : what is changed.
    published : setting under which the paper prints this arm; empty where it does not.
    """

    name: str
    settings: Mapping[str, Any]
    published: str = ""


@dataclass(frozen=True)
class Study:
    """A model's study. The first arm is the one that the others are compared with."""

    name: str
    title: str
    model: ModelCard
    arms: tuple[Arm, ...]

    def heading(self, frame: pd.DataFrame) -> str:
        """Model, what is studied, and the kind of data of a `study_frame`."""
        return f"{self.model.title}: {self.title} · {KINDS[frame['simulated'].iloc[0]]}"


def find_study(name: str, model: str | None, registry: Registry) -> Study:
    """Study of a model's card, by name; of the only model that has it where none is named.

    Raises
    ------
    UnknownName : no such study.
    BadConfig : several models have it, or the card's entry is no study.
    """
    cards = [card for card in registry.models.values() if card.studies]
    if model is not None:
        (chosen, *more) = registry.select_models([model])
        if more:
            raise BadConfig(f"--model {model} names {1 + len(more)} models", "a study is of one")
        cards = [chosen]
    known = list(dict.fromkeys(study for card in cards for study in card.studies))
    if not known:
        raise UnknownName(f"model {model} has no studies", "its card lists them under `studies`")
    (study, *_) = pick(name, known, "study")
    owners = [card for card in cards if study in card.studies]
    if len(owners) > 1:
        raise BadConfig(f"several models have a study '{study}'", "name one of them with --model")
    return _of_card(study, owners[0])


def plan_study(study: Study, request: Request, registry: Registry, root: DataRoot) -> dict[str, list[Job]]:
    """Jobs of every arm by its name. An arm that the data do not allow is left out with a warning.

    Raises
    ------
    BadConfig : the request sets what the study changes.
    SurvbenchError : the first arm is not possible.
    """
    from survbench.experiments.plan import plan

    clash = sorted(set(request.overrides) & {key for arm in study.arms for key in arm.settings})
    if clash:
        raise BadConfig(f"--set {clash[0]}: the study itself changes it", "leave it to the study")
    jobs: dict[str, list[Job]] = {}
    for arm in study.arms:
        changed = replace(request, models=[study.model.name], overrides={**request.overrides, **arm.settings})
        try:
            jobs[arm.name] = plan(changed, registry, root)
        except SurvbenchError as error:
            if arm is study.arms[0]:
                raise
            warn(f"{arm.name}: {error}; left out")
    return jobs


def all_jobs(jobs: Mapping[str, Sequence[Job]]) -> list[Job]:
    """Every job once, folds of all arms side by side, so that what they share is trained once and early."""
    unique = {job.id: job for arm in jobs.values() for job in arm}
    return sorted(unique.values(), key=lambda job: (job.cohort.name, job.seed, job.fold.index))


def study_frame(study: Study, jobs: Mapping[str, Sequence[Job]], out: Path) -> pd.DataFrame:
    """One row per arm and cohort, and per arm one for the mean over cohorts.

    Columns: arm, cohort, simulated, seeds, mean, sd, sd_seeds, parameters, as_registered, first (whether it is the
    arm that the others are compared with), difference (from that arm) with low, high, p, patient_low, patient_high,
    reason, published, published_sd, change_percent of the mean, published_change_percent.
    """
    rows = {name: _rows_by_cohort(arm, out) for name, arm in jobs.items()}
    first = rows[study.arms[0].name]
    lines: list[dict[str, Any]] = []
    for arm in study.arms:
        own, differences = rows.get(arm.name, {}), list[Difference]()
        for cohort, row in own.items():
            differences.append(row_difference(row, first[cohort]) if cohort in first else unknown("no first arm"))
            lines.append(_line(study, arm, row, differences[-1]))
        if len(own) > 1:
            complete = set(own) == set(first)
            overall = mean_difference(differences) if complete else unknown("a cohort is missing")
            mean, reference = _mean(own), _mean(first)
            change = 100 * (mean - reference) / reference if complete else math.nan
            about = {"arm": arm.name, "cohort": MEAN, "simulated": lines[-1]["simulated"], "mean": mean}
            published = published_cindex(study.model.name, "average", arm.published) or (math.nan,)
            printed = {
                "published": published[0],
                "published_change_percent": published_change(study.model.name, arm.published),
            }
            lines.append({**about, "change_percent": change, **_difference(study, arm, overall), **printed})
    frame = pd.DataFrame(lines)
    return frame.reindex(columns=list(dict.fromkeys([*frame.columns, "published", "published_sd"])))


def read_study(folder: Path) -> tuple[str, pd.DataFrame]:
    """Title and table that `write_study` left in a folder; damaged ones raise OSError, ValueError or KeyError."""
    frame = pd.read_csv(folder / "table.csv", dtype={"arm": str, "cohort": str, "simulated": str, "reason": str})
    frame = frame.assign(simulated=frame["simulated"].fillna(""), reason=frame["reason"].fillna(""))
    about = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    return str(about.get("title") or f"{about['model']}: {about['study']} · {KINDS[frame['simulated'].iloc[0]]}"), frame


def _of_card(name: str, card: ModelCard) -> Study:
    entry = card.studies[name]
    owner = f"study '{name}' of model {card.name}"
    try:
        arms = tuple(
            Arm(arm, dict(content.get("set", {})), str(content.get("published", "")))
            for arm, content in entry["arms"].items()
        )
        title = str(entry["title"])
    except (KeyError, AttributeError, TypeError):
        raise BadConfig(f"{owner} is not {{title, arms: {{name: {{set, published}}}}}}", "correct the card") from None
    if len(arms) < 2:
        raise BadConfig(f"{owner} has {len(arms)} arms", "it needs one to compare with and one more")
    return Study(name, title, card, arms)


def _rows_by_cohort(jobs: Sequence[Job], out: Path) -> dict[str, Row]:
    """A cohort whose jobs failed has a row, too."""
    places = {place for job in jobs for place in (result_folder(job, out), failure_file(job, out))}
    return {row.cohort: row for row in build(out, only=places).rows}


def _line(study: Study, arm: Arm, row: Row, difference: Difference) -> dict[str, Any]:
    summary = row.metrics["cindex"]
    line = {
        "arm": arm.name,
        "cohort": row.cohort,
        "simulated": row.simulated,
        "seeds": len(row.seeds),
        "mean": summary.mean,
        "sd": summary.sd,
        "sd_seeds": math.nan if summary.sd_seeds is None else summary.sd_seeds,
        "parameters": row.parameters,
        "as_registered": row.as_registered,
        **{name: row.metrics[name].mean for name in METRICS if name != "cindex"},
        **_difference(study, arm, difference),
    }
    published = published_cindex(study.model.name, row.cohort, arm.published or "cross-validation")
    if published is not None and (arm.published or arm is study.arms[0]):
        line |= {"published": published[0], "published_sd": published[1]}
    return line


def _difference(study: Study, arm: Arm, difference: Difference) -> dict[str, Any]:
    return {"first": arm is study.arms[0], **difference_columns(difference), "reason": difference.reason}


def _mean(rows: Mapping[str, Row]) -> float:
    return math.fsum(row.metrics["cindex"].mean for row in rows.values()) / len(rows)
