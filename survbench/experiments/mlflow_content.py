"""What a person should see of a job and of a row in MLflow: names, parameters, metrics, a table and a figure.

Reads job folders; does not know where it is written to.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from survbench.identity import Identified

__all__ = [
    "MirroredJob",
    "fold_table",
    "job_metrics",
    "job_params",
    "read_row",
    "row_metrics",
    "row_note",
    "row_params",
    "training_figure",
]

_SIMULATED = {"": "", "slides": "simulated slides", "all": "simulated"}
_OWN = ("fold", "seed")  # what the jobs of one row differ in


@dataclass(frozen=True)
class MirroredJob(Identified):
    """A finished job's folder.

    Attributes
    ----------
    record : its job.json. identity : of the record. metrics : name -> value on the test patients; None where undefined.
    ended : milliseconds.
    """

    folder: Path
    record: dict[str, Any]
    identity: Mapping[str, Any]
    metrics: dict[str, float | None]
    ended: int

    @classmethod
    def read(cls, folder: Path) -> MirroredJob:
        file = folder / "job.json"
        record = json.loads(file.read_text(encoding="utf-8"))
        scores = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        values = {name: score["value"] for name, score in scores.items()}
        return cls(folder, record, record["identity"], values, int(1000 * file.stat().st_mtime))

    @property
    def started(self) -> int:
        return self.ended - int(1000 * sum(self.record["seconds"].values()))

    @property
    def simulated(self) -> str:
        """How much is invented, in words; empty where nothing is."""
        return _SIMULATED.get(self.record["simulated"], self.record["simulated"])

    @property
    def row(self) -> str:
        """Equal for the folds and seeds of one row of the leaderboard."""
        shared = {key: value for key, value in self.identity.items() if key not in _OWN}
        return json.dumps([shared, self.record["simulated"], self.record["selected"]], sort_keys=True)

    @property
    def tags(self) -> dict[str, str]:
        names = ("model", "cohort", "endpoint", "folds")
        own = {"title": self.record["card"]["title"], "simulated": self.simulated or "no"}
        return {**{name: str(self.identity[name]) for name in names}, **own, "selected": self.record["selected"]}


def read_row(job: MirroredJob) -> list[MirroredJob]:
    """All finished jobs of a job's row, by seed and fold."""
    found = [MirroredJob.read(file.parent) for file in job.folder.parent.glob("*/job.json")]
    return sorted((j for j in found if j.row == job.row), key=lambda j: (j.seed, j.fold))


def job_params(job: MirroredJob) -> list[Any]:
    """Everything that decides the result, and what it was computed on."""
    hardware = {f"hardware.{key}": job.record["hardware"][key] for key in ("device", "precision", "threads")}
    return _params({**job.identity, "job": job.record["id"], **hardware, "parameters": job.record["parameters"]})


def row_params(job: MirroredJob) -> list[Any]:
    """What the jobs of a row have in common."""
    return _params({key: value for key, value in job.identity.items() if key not in _OWN})


def job_metrics(job: MirroredJob, model: str | None) -> list[Any]:
    """Test metrics, chosen epochs, seconds, and the curve of every loss term with the epoch as step."""
    from mlflow.entities import Metric

    history = pd.read_parquet(job.folder / "history.parquet")
    tested = {f"test/{name}": value for name, value in job.metrics.items() if value is not None}
    metrics = [Metric(name, value, job.ended, 0, model_id=model) for name, value in tested.items()]
    chosen = {f"{stage}/selected_epoch": epoch for stage, epoch in job.record["selection"]["epochs"].items()}
    timed = {**job.record["seconds"], **job.record.get("phases", {})}  # results of older versions have no phases
    seconds = {f"seconds/{part}": value for part, value in timed.items()}
    metrics += [Metric(name, float(value), job.ended, 0) for name, value in {**chosen, **seconds}.items()]
    curves = history.drop(columns=["stage", "epoch"]).to_dict("records")
    for stage, epoch, terms in zip(history["stage"], history["epoch"], curves, strict=True):
        known = {name: float(value) for name, value in terms.items() if math.isfinite(value)}
        metrics += [Metric(f"{stage}/{name}", value, job.ended, int(epoch)) for name, value in known.items()]
    return metrics


def row_metrics(jobs: Sequence[MirroredJob]) -> list[Any]:
    """Mean over the folds of every seed that has all of them, and SD over folds (ddof 0); the step is their number.

    A metric that is undefined in one fold has no mean.
    """
    from mlflow.entities import Metric

    complete = _complete(jobs)
    if not complete:
        return []
    seeds, metrics = len({j.seed for j in complete}), []
    ended = max(j.ended for j in complete)
    for name in complete[0].metrics:
        values = np.array([math.nan if j.metrics.get(name) is None else j.metrics[name] for j in complete], float)
        per_fold = values.reshape(seeds, -1).mean(axis=0)
        if np.isfinite(per_fold).all():
            for key, value in ((name, per_fold.mean()), (f"{name}_sd", per_fold.std())):
                metrics.append(Metric(f"test/{key}", float(value), ended, seeds))
    return metrics


def _complete(jobs: Sequence[MirroredJob]) -> list[MirroredJob]:
    folds = {seed: {j.fold for j in jobs if j.seed == seed} for seed in {j.seed for j in jobs}}
    return [j for j in jobs if folds[j.seed] == set(range(j.identity["n_folds"]))]


def row_note(job: MirroredJob) -> str:
    """The description that MLflow shows above a row's run."""
    title, of = job.record["card"]["title"], job.identity
    lines = [
        f"**{title}** on {of['cohort']}, {of['endpoint']}, {of['folds']} folds.",
        f"All patients or slides here are invented ({job.simulated})." if job.simulated else "",
        "The runs below are its folds and seeds. The metrics here are means over the folds of every complete seed, "
        "`_sd` is the SD over folds; `folds.csv` and `training.png` show each of them.",
        f"Settings: {job.record['selected']}. {job.record['card'].get('reconstruction') or ''}",
    ]
    return "\n\n".join(line.strip() for line in lines if line)


def fold_table(jobs: Sequence[MirroredJob]) -> pd.DataFrame:
    """A line per seed and fold: test metrics, chosen epochs, seconds."""
    rows = []
    for job in jobs:
        epochs = {f"{stage}_epoch": epoch for stage, epoch in job.record["selection"]["epochs"].items()}
        seconds = {"fit_seconds": round(job.record["seconds"]["fit"], 2)}
        rows.append({"seed": job.seed, "fold": job.fold, **job.metrics, **epochs, **seconds})
    return pd.DataFrame(rows)


def training_figure(jobs: Sequence[MirroredJob], file: Path) -> Path:
    """Validation loss of every fold and seed, a panel per stage; a dot marks the epoch whose weights were kept."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    histories = [pd.read_parquet(job.folder / "history.parquet") for job in jobs]
    stages = list(jobs[0].record["selection"]["epochs"])
    figure = Figure(figsize=(1.5 + 4.5 * len(stages), 3.6))  # a computed layout would take as long as the drawing
    FigureCanvasAgg(figure)
    for axes, stage in zip(figure.subplots(1, len(stages), squeeze=False)[0], stages, strict=True):
        for job, history in zip(jobs, histories, strict=True):
            curve = history[history["stage"] == stage].set_index("epoch")["val_loss"]
            kept = job.record["selection"]["epochs"][stage]
            (line,) = axes.plot(curve.index, curve, linewidth=1, label=f"fold {job.fold} seed {job.seed}")
            axes.plot(kept, curve[kept], "o", color=line.get_color(), markersize=5)
        axes.set(title=stage, xlabel="epoch", ylabel="validation loss")
    axes.legend(fontsize="x-small", ncols=1 + len(jobs) // 10)
    figure.subplots_adjust(left=0.7 / figure.get_figwidth(), right=0.98, bottom=0.14, top=0.84, wspace=0.25)
    tags = jobs[0].tags
    told = f" ({jobs[0].simulated})" if jobs[0].simulated else ""
    figure.suptitle(
        f"{tags['title']} on {tags['cohort']}, {tags['endpoint']}, {tags['folds']}{told}", fontsize="medium"
    )
    figure.savefig(file, dpi=100)
    return file


def _params(content: dict[str, Any]) -> list[Any]:
    from mlflow.entities import Param

    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    return [Param(key, str(value)[:500]) for key, value in flat.items()]
