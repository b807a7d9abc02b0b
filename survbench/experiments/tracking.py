"""Finished jobs mirrored in MLflow: one experiment per run command, one MLflow run per job, logged once.

The job folders are the truth; a tracking server that is down costs a warning and is caught up with by the next run.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pandas as pd

from survbench.console import warn

__all__ = ["Mirror"]

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # a dead server must not hold up the jobs
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class Mirror:
    """Writes to `MLFLOW_TRACKING_URI`, or to a sqlite database in the output folder.

    Parameters
    ----------
    experiment : name of the MLflow experiment. enabled : False writes nothing.
    """

    def __init__(self, out: Path, experiment: str, *, enabled: bool = True) -> None:
        self.out, self.experiment, self.enabled = out, experiment, enabled
        self.uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(out / 'mlflow.db').resolve()}"
        self._client: Any = None
        self._experiment_id = ""

    def log(self, job: Path) -> None:
        """Mirror one job's folder unless that was done before; a failure is said once and ends the mirroring."""
        marker = self.out / "mirrored" / f"{job.parent.parent.name}-{job.parent.name}-{job.name}.json"
        if not self.enabled or (marker.exists() and json.loads(marker.read_text())["uri"] == self.uri):
            return
        try:
            run = self._write(job)
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.write_text(json.dumps({"uri": self.uri, "run": run}))
        except Exception as error:  # tracking is a convenience; results are already safe
            self.enabled = False
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            warn(
                f"MLflow at {self.uri} does not take results ({reason}); "
                "the run goes on, and the same command mirrors later"
            )

    def _write(self, job: Path) -> str:
        record = json.loads((job / "job.json").read_text(encoding="utf-8"))
        client, identity = self._connect(), record["identity"]
        name = f"{identity['model']} {identity['cohort']} fold {identity['fold']} seed {identity['seed']}"
        tags = {
            "model": identity["model"],
            "cohort": identity["cohort"],
            "endpoint": identity["endpoint"],
            "folds": identity["folds"],
            "job": record["id"],
            "simulated": record["simulated"] or "no",
        }
        run = client.create_run(self._experiment_id, run_name=name, tags=tags)
        run_id = run.info.run_id
        client.log_batch(run_id, metrics=_metrics(job), params=_params(identity))
        for file in ("job.json", "metrics.json", "predictions.parquet", "history.parquet"):
            client.log_artifact(run_id, str(job / file))
        client.set_terminated(run_id)
        return str(run_id)

    def _connect(self) -> Any:
        if self._client is None:
            for key, value in _QUIET.items():
                os.environ.setdefault(key, value)
            import logging

            from mlflow.tracking import MlflowClient

            for chatty in ("alembic", "mlflow"):
                logging.getLogger(chatty).setLevel(logging.WARNING)

            client = MlflowClient(self.uri)
            found = client.get_experiment_by_name(self.experiment)
            local = (self.out / "mlflow-artifacts").resolve().as_uri() if self.uri.startswith("sqlite:") else None
            self._experiment_id = found.experiment_id if found else client.create_experiment(self.experiment, local)
            self._client = client
        return self._client


def _params(identity: dict[str, Any]) -> list[Any]:
    from mlflow.entities import Param

    flat: dict[str, Any] = {}
    for key, value in identity.items():
        flat |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    return [Param(key, str(value)[:500]) for key, value in flat.items()]


def _metrics(job: Path) -> list[Any]:
    """Test metrics, and the curve of every loss term with the epoch as step, counted through the stages."""
    from mlflow.entities import Metric

    history = pd.read_parquet(job / "history.parquet")
    test = json.loads((job / "metrics.json").read_text(encoding="utf-8"))
    metrics = [Metric(f"test/{name}", m["value"], 0, 0) for name, m in test.items() if m["value"] is not None]
    curves = history.drop(columns=["stage", "epoch"])
    for step, (stage, row) in enumerate(zip(history["stage"], curves.to_dict("records"), strict=True)):
        metrics += [Metric(f"{stage}/{name}", float(v), 0, step) for name, v in row.items() if math.isfinite(v)]
    return metrics
