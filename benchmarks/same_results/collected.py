"""What results folders hold, read without knowing their structure: a job is where its files are, whatever
their names.

An identity is any JSON object that names model, cohort, fold and seed.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["StoredJob", "as_csv", "read_csv", "read_external", "read_jobs", "read_mlflow", "with_tables"]

_SETTINGS = ("config", "objective", "training")
_FACTS = ("parameters", "fvcore_flops", "risk_cut", "horizon", "genes_absent")
Row = dict[str, Any]


@dataclass(frozen=True)
class StoredJob:
    """The folder of a job, or of a job that was applied to another cohort.

    Attributes
    ----------
    documents : its JSON files by name.
    table : a row per patient.
    """

    documents: Mapping[str, Any]
    table: pd.DataFrame

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        wanted = {"model", "cohort", "fold", "seed"}
        return next(o for o in _objects(list(self.documents.values())) if wanted <= o.keys())

    @property
    def id(self) -> str:
        """The job's own identifier, as MLflow knows it."""
        return str(next((o["id"] for o in _objects(list(self.documents.values())) if "id" in o), ""))

    @property
    def settings(self) -> Row:
        """Everything that was chosen."""
        chosen = {key: self.identity[key] for key in _SETTINGS if key in self.identity}
        return {"model": self.identity["model"], **chosen}

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def _name(self) -> Row:
        folds = self.identity.get("folds") or self.identity.get("scheme") or ""
        about = {key: self.identity[key] for key in ("model", "cohort", "fold", "seed")}
        return {**about, "folds": folds, "settings": self.digest}

    def predictions(self) -> Iterator[Row]:
        """A row per patient, in the order of the names."""
        split = "split" if "split" in self.table else None
        for row in self.table.sort_values(["patient", *filter(None, [split])]).to_dict("records"):
            yield {**self._name, **{str(key): _text(value) for key, value in row.items()}}

    def facts(self) -> Iterator[Row]:
        """Metrics, chosen epochs, sizes and cuts."""
        for name, value in sorted(_facts(self.documents).items()):
            yield {**self._name, "fact": name, "value": _text(value)}


def read_jobs(folder: Path) -> list[StoredJob]:
    """Finished jobs, by name."""
    return _sorted(_read(file.parent) for file in folder.rglob("job.json"))


def read_external(folder: Path) -> list[StoredJob]:
    """Jobs applied to another cohort."""
    return _sorted(_read(place) for place in {file.parent for file in folder.rglob("*.parquet")})


def _read(folder: Path) -> StoredJob:
    documents = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))}
    documents = {name: documents[name] for name in sorted(documents, key=lambda n: n != "job")}  # its own word first
    tables = {file.stem: file for file in sorted(folder.glob("*.parquet"))}
    return StoredJob(documents, pd.read_parquet(tables.get("predictions") or next(iter(tables.values()))))


def _sorted(jobs: Iterable[StoredJob]) -> list[StoredJob]:
    def key(job: StoredJob) -> tuple[Any, ...]:
        return (*(job.identity[k] for k in ("model", "cohort", "seed", "fold")), job.digest)

    return sorted(jobs, key=key)


def _objects(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every JSON object in a document, outer ones first."""
    if isinstance(value, Mapping):
        yield value
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for part in inner:
        yield from _objects(part)


def _facts(documents: Mapping[str, Any]) -> Row:
    facts: Row = {}
    for name, score in (documents.get("metrics") or {}).items():
        facts[f"metric {name}"] = score["value"] if isinstance(score, Mapping) else score
    for one in _objects([content for name, content in documents.items() if name != "metrics"]):
        facts |= {key: one[key] for key in _FACTS if key in one and key not in facts}
        if isinstance(one.get("epochs"), Mapping):
            facts |= {f"epoch of {stage}": epoch for stage, epoch in one["epochs"].items()}
    return facts


def read_mlflow(out: Path, jobs: Sequence[StoredJob]) -> list[Row]:
    """Every metric of every run, with its steps; seconds are left out.

    Parameters
    ----------
    out : folder of the results.
    jobs : all of `out`, for their settings.
    """
    import logging

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.tracking import MlflowClient

    for chatty in ("alembic", "mlflow"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    rows: list[Row] = []
    for database in sorted(out.rglob("mlflow.db")):
        client = MlflowClient(f"sqlite:///{database}")
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        runs = list(client.search_runs(experiments, max_results=10_000))
        digests = {run.info.run_id: _settings_of(run, jobs) for run in runs}
        for run in runs:
            parent = run.data.tags.get("mlflow.parentRunId")
            if parent is not None and digests[run.info.run_id]:
                digests[parent] = digests[run.info.run_id]
        for run in runs:
            about = {**_run_name(run), "settings": digests[run.info.run_id]}
            for metric in sorted(name for name in run.data.metrics if not name.startswith("seconds")):
                points = client.get_metric_history(run.info.run_id, metric)
                curve = sorted((point.step, point.value) for point in points)
                rows += [{**about, "metric": metric, "step": step, "value": _text(value)} for step, value in curve]
    keys = ("kind", "model", "cohort", "seed", "fold", "settings", "metric", "step")
    return sorted(rows, key=lambda row: tuple(row[key] for key in keys))


def _settings_of(run: Any, jobs: Sequence[StoredJob]) -> str:
    """Of the job whose identifier the run has, or else of the only one of its name."""
    known, name = {*run.data.params.values(), *run.data.tags.values()}, _run_name(run)
    keys = ("model", "cohort", "fold", "seed")
    of_name = [job for job in jobs if all(str(job.identity[key]) == name[key] for key in keys)]
    matching = [job for job in of_name if job.id in known] or of_name
    return matching[0].digest if len(matching) == 1 else ""


def _run_name(run: Any) -> Row:
    known = {**run.data.tags, **run.data.params}
    about = {key: known.get(key, "") for key in ("kind", "model", "cohort", "fold", "seed")}
    named = re.search(r"fold (\d+) seed (\d+)", run.info.run_name or "")
    return about | ({"fold": named[1], "seed": named[2]} if named else {})


def with_tables(document: Any) -> Any:
    """The document, and beside the path of each CSV file its rows."""
    if isinstance(document, list):
        return [with_tables(part) for part in document]
    if not isinstance(document, Mapping):
        return document
    filled = {key: with_tables(value) for key, value in document.items()}
    paths = {key: Path(value) for key, value in document.items() if isinstance(value, str) and value.endswith(".csv")}
    tables = {f"rows of {key}": read_csv(path.read_text("utf-8")) for key, path in paths.items() if path.is_file()}
    return filled | tables


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """With every column that some row has."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read_csv(text: str) -> list[dict[str, str]]:
    """All values as texts."""
    return list(csv.DictReader(io.StringIO(text)))


def _text(value: Any) -> str:
    """Numbers so that the same bits come back; several, separated by spaces."""
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, np.ndarray | list | tuple):
        return " ".join(_text(v) for v in value)
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        return repr(float(value))
    return "" if value is None else str(value)
