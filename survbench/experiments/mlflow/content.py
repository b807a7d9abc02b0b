"""What a person sees of a job and of a row in MLflow: names, tags, parameters, metrics, a table and a figure.

Does not know where it is written to.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from survbench.experiments.results import JobResult
from survbench.files import digest

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities import Metric, Param


__all__ = ["fold_table", "job_metrics", "job_run", "row", "row_metrics", "row_run", "times", "training_figure"]


def times(result: JobResult) -> tuple[int, int]:
    """When the job began and ended, in milliseconds since 1970."""
    ended = int(1000 * result.modified)
    return ended - int(1000 * sum(result.record["seconds"].values())), ended


def row(result: JobResult) -> str:
    """Equal for the folds and seeds of one row of the leaderboard."""
    return digest([_shared(result), result.simulated, result.selected])


def job_run(result: JobResult) -> tuple[str, dict[str, str], list[Param]]:
    """Name, tags and parameters: everything that decides the result, and what it was computed on."""
    hardware = {key: result.record["hardware"][key] for key in ("device", "precision", "threads")}
    details = {"job": result.record["id"], "code": result.code, "parameters": result.parameters, "hardware": hardware}
    name = f"fold {result.fold} seed {result.seed}"
    return name, {**_tags(result), "kind": "fold"}, _params({**result.identity, **details})


def row_run(result: JobResult) -> tuple[str, dict[str, str], list[Param]]:
    """Name, tags with the note that MLflow shows, and parameters of a row: what its jobs have in common."""
    of = _tags(result)
    name, simulated = f"{of['model']} {of['cohort']} {of['endpoint']} {of['folds']}", result.simulated
    notes = [
        f"**{of['title']}** on {of['cohort']}, {of['endpoint']}, {of['folds']} folds.",
        f"All patients or slides here are invented ({of['simulated']})." if simulated else "",
        "The runs below are its folds and seeds. The metrics here are means over the folds of every complete seed, "
        "`_sd` is the SD over folds; `folds.csv` and `training.png` show each of them.",
        f"Settings: {of['selected']}. {result.reconstruction}".strip(),
    ]
    tags = {**of, "kind": "row", "mlflow.note.content": "\n\n".join(filter(None, notes))}
    return f"{name} ({of['simulated']})" if simulated else name, tags, _params(_shared(result))


def _tags(result: JobResult) -> dict[str, str]:
    simulated = {"slides": "simulated slides", "all": "simulated"}.get(result.simulated or "", "no")
    details = {"title": result.title, "simulated": simulated, "selected": result.selected}
    return {**{key: str(result.identity[key]) for key in ("model", "cohort", "endpoint", "folds")}, **details}


def _shared(result: JobResult) -> dict[str, Any]:
    return {key: value for key, value in result.identity.items() if key not in ("fold", "seed")}


def _params(settings: dict[str, Any]) -> list[Param]:
    from mlflow.entities import Param

    (flat,) = pd.json_normalize(settings, max_level=1).to_dict("records")
    return [Param(str(key), str(value)[:500]) for key, value in flat.items()]


def job_metrics(result: JobResult, model: str | None) -> list[Metric]:
    """Test metrics, chosen epochs, seconds, and the curve of every loss term with the epoch as step.

    Parameters
    ----------
    model : identifier in MLflow of the model that was tested.
    """
    from mlflow.entities import Metric

    record, ended = result.record, times(result)[1]
    seconds = {f"seconds/{part}": value for part, value in {**record["seconds"], **record.get("phases", {})}.items()}
    epochs = {f"{stage}/selected_epoch": epoch for stage, epoch in record["selection"]["epochs"].items()}
    tested = {f"test/{name}": value for name, value in result.metrics().items() if value is not None}
    metrics = [Metric(name, value, ended, 0, model_id=model) for name, value in tested.items()]
    metrics += [Metric(name, float(value), ended, 0) for name, value in {**epochs, **seconds}.items()]
    for stage, epoch, term, value in result.history().melt(["stage", "epoch"]).to_numpy().tolist():
        if np.isfinite(value):
            metrics.append(Metric(f"{stage}/{term}", value, ended, epoch))
    return metrics


def row_metrics(results: Sequence[JobResult]) -> list[Metric]:
    """Mean over the folds of every seed that has all of them, and SD over folds (ddof 0); the step is their number.

    A metric that is undefined in one fold has no mean.
    """
    from mlflow.entities import Metric

    folds, ended, metrics = results[0].identity["n_folds"], max(times(result)[1] for result in results), []
    complete = fold_table(results).groupby("seed").filter(lambda of_seed: len(of_seed) == folds)
    for name in results[0].metrics():
        values = complete[name].to_numpy(float).reshape(-1, folds)
        for key, value in ((name, values.mean(axis=0).mean()), (f"{name}_sd", values.mean(axis=0).std())):
            if np.isfinite(value):
                metrics.append(Metric(f"test/{key}", float(value), ended, len(values)))
    return metrics


def fold_table(results: Sequence[JobResult]) -> pd.DataFrame:
    """A line per seed and fold: test metrics, chosen epochs, seconds."""
    rows = []
    for result in results:
        epochs = {f"{stage}_epoch": epoch for stage, epoch in result.record["selection"]["epochs"].items()}
        seconds = round(result.record["seconds"]["fit"], 2)
        rows.append({"seed": result.seed, "fold": result.fold, **result.metrics(), **epochs, "fit_seconds": seconds})
    return pd.DataFrame(rows)


def training_figure(results: Sequence[JobResult]) -> Figure:
    """Validation loss of every fold and seed, a panel per stage; a dot marks the epoch whose weights were kept."""
    from matplotlib.figure import Figure

    of, stages = _tags(results[0]), list(results[0].record["selection"]["epochs"])
    figure = Figure(figsize=(1.5 + 4.5 * len(stages), 3.6))  # a computed layout would take as long as the drawing
    panels = figure.subplots(1, len(stages), squeeze=False)[0]
    for axes, stage in zip(panels, stages, strict=True):
        axes.set(title=stage, xlabel="epoch", ylabel="validation loss")
        for result in results:
            curve = result.history().query("stage == @stage").set_index("epoch")["val_loss"]
            kept = [result.record["selection"]["epochs"][stage]]
            name = f"fold {result.fold} seed {result.seed}"
            axes.plot(curve, "-o", linewidth=1, markersize=5, markevery=curve.index.isin(kept), label=name)
    panels[-1].legend(fontsize="x-small", ncols=1 + len(results) // 10)
    figure.subplots_adjust(left=0.7 / figure.get_figwidth(), right=0.98, bottom=0.14, top=0.84, wspace=0.25)
    simulated = f" ({of['simulated']})" if results[0].simulated else ""
    title = f"{of['title']} on {of['cohort']}, {of['endpoint']}, {of['folds']}{simulated}"
    letters = int(11 * figure.get_figwidth())  # that fit into the width; matplotlib would cut off the rest
    figure.suptitle(textwrap.fill(title, letters), fontsize="medium", parse_math=False)
    return figure
