"""Finished jobs mirrored in MLflow: a run per row of the leaderboard, and nested in it a run per fold and seed.

The job folders are the truth; a tracking server that is down costs a warning and is caught up with by the next run.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from survbench.console import warn
from survbench.experiments.mlflow_content import (
    MirroredJob,
    fold_table,
    job_metrics,
    job_params,
    read_row,
    row_metrics,
    row_note,
    row_params,
    training_figure,
)
from survbench.experiments.mlflow_model import MODEL_FILES, can_describe, describe_model

__all__ = ["Mirror"]

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # a dead server must not hold up the jobs
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_FILES = ("job.json", "metrics.json", "fitted.json", "predictions.parquet", "history.parquet")


class Mirror:
    """Writes to `MLFLOW_TRACKING_URI`, or to a sqlite database in the output folder.

    What was mirrored is noted in OUT/mirrored, so that nothing is mirrored twice; processes that share OUT take turns.

    Parameters
    ----------
    experiment : name of the MLflow experiment. enabled : False writes nothing.
    """

    def __init__(self, out: Path, experiment: str, *, enabled: bool = True) -> None:
        self.out, self.experiment, self.enabled = out, experiment, enabled
        given = os.environ.get("MLFLOW_TRACKING_URI")
        self._database = None if given else (out / "mlflow.db").resolve()
        self.uri = given or f"sqlite:///{self._database}"
        self._client: Any = None
        self._rows: dict[str, str] = {}  # run -> experiment of each row that this process added to

    def log(self, job: Path) -> None:
        """Mirror one job's folder unless that was done before; a failure is said once and ends the mirroring."""
        if not self.enabled:
            return
        with self._forgiving():
            marker = self._marker(job)
            if self._noted(marker).get("done"):
                return
            with self._alone():
                noted = self._noted(marker)
                if not noted.get("done"):  # another process may have done it while this one waited
                    self._write(MirroredJob.read(job), marker, noted.get("run"))

    def _marker(self, job: Path) -> Path:
        return self.out / "mirrored" / f"{job.parent.parent.name}-{job.parent.name}-{job.name}.json"

    def attach_text(self, name: str, text: str) -> None:
        """Put a text beside every row that this process added to."""
        self._for_rows(lambda run: self._client.log_text(run, text, name))

    def attach_files(self, *files: Path) -> None:
        """Put files beside every row that this process added to."""
        self._for_rows(lambda run: [self._client.log_artifact(run, str(file)) for file in files])

    def close(self) -> None:
        """Rows are no longer under way."""
        self._for_rows(lambda run: self._client.set_terminated(run))

    def _for_rows(self, act: Callable[[str], Any]) -> None:
        if self.enabled:
            with self._forgiving():
                for run in self._rows:
                    act(run)

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # tracking is a convenience; results are already safe
            self.enabled = False
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            warn(
                f"MLflow at {self.uri} does not take results ({reason}); "
                "the run goes on, and the same command mirrors later"
            )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process of this output folder at a time: creating the database twice at once fails."""
        folder = self.out / "mirrored"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _noted(self, marker: Path) -> dict[str, Any]:
        """What was noted about this tracking server; nothing where its database has been deleted."""
        if (self._database and not self._database.exists()) or not marker.exists():
            return {}
        noted: dict[str, Any] = json.loads(marker.read_text(encoding="utf-8"))
        return noted if noted["uri"] == self.uri else {}

    def _note(self, marker: Path, **content: Any) -> None:
        marker.parent.mkdir(parents=True, exist_ok=True)
        temporary = marker.with_suffix(".tmp")
        temporary.write_text(json.dumps({"uri": self.uri, **content}), encoding="utf-8")
        os.replace(temporary, marker)

    def _write(self, job: MirroredJob, marker: Path, half: str | None) -> None:
        client = self._connect()
        row, experiment = self._row(job)
        if half is not None:  # a process was killed or cut off while it wrote this run
            with suppress(Exception):
                client.delete_run(half)
        tags = {**job.tags, "kind": "fold", "mlflow.parentRunId": row}
        run = client.create_run(experiment, job.started, tags, f"fold {job.fold} seed {job.seed}")
        run_id = run.info.run_id
        self._note(marker, run=run_id)
        model = self._log_model(job, experiment, run_id)
        client.log_batch(run_id, job_metrics(job, model), job_params(job))
        files = {name: job.folder / name for name in _FILES}
        self._store(files, run.info.artifact_uri, lambda folder: client.log_artifacts(run_id, folder))
        client.set_terminated(run_id, end_time=job.ended)
        self._summarize(job, row)
        self._note(marker, run=run_id, done=True)

    def _row(self, job: MirroredJob) -> tuple[str, str]:
        """Run and experiment of the job's row, made when its first job arrives."""
        client = self._connect()
        marker = self.out / "mirrored" / "rows" / f"{hashlib.sha256(job.row.encode()).hexdigest()[:16]}.json"
        noted = self._noted(marker)
        run, experiment = noted.get("run", ""), noted.get("experiment", "")
        if run not in self._rows and not (run and self._revived(run)):
            experiment = self._experiment()
            tags = {**job.tags, "kind": "row", "mlflow.note.content": row_note(job)}
            name = " ".join([job.tags["model"], *(job.tags[key] for key in ("cohort", "endpoint", "folds"))])
            name += f" ({job.simulated})" if job.simulated else ""
            run = client.create_run(experiment, job.started, tags, name).info.run_id
            client.log_batch(run, params=row_params(job))
            self._note(marker, run=run, experiment=experiment)
        self._rows[run] = experiment
        return run, experiment

    def _revived(self, run: str) -> bool:
        """Whether a row's run is still there; it is under way again."""
        try:
            if self._client.get_run(run).info.lifecycle_stage != "active":
                return False
            self._client.update_run(run, "RUNNING")
        except Exception:  # somebody cleaned up on the server
            return False
        return True

    def _summarize(self, job: MirroredJob, row: str) -> None:
        """Means, table and figure, when this is the last fold of its seed."""
        jobs = read_row(job)
        others = [j for j in jobs if j.seed == job.seed and j.fold != job.fold]
        if len(others) + 1 < job.identity["n_folds"]:
            return
        if all(self._noted(self._marker(other.folder)).get("done") for other in others):
            self._client.log_batch(row, row_metrics(jobs))
            self._client.log_text(row, fold_table(jobs).to_csv(index=False), "folds.csv")
            with TemporaryDirectory() as folder:
                self._client.log_artifact(row, str(training_figure(jobs, Path(folder) / "training.png")))

    def _log_model(self, job: MirroredJob, experiment: str, run_id: str) -> str | None:
        fitted = json.loads((job.folder / "fitted.json").read_text(encoding="utf-8"))
        if not can_describe(job.record, fitted):
            return None
        from mlflow.entities import LoggedModelOutput

        client = self._client
        about = {"model_type": "survival", "tags": {key: job.tags[key] for key in ("model", "cohort", "simulated")}}
        model = client.create_logged_model(experiment, "model", run_id, **about)
        with TemporaryDirectory() as folder:
            description = Path(folder) / "MLmodel"
            description.write_text(describe_model(job.record, fitted, model.model_id), encoding="utf-8")
            files = {"MLmodel": description, **{name: job.folder / name for name in MODEL_FILES}}
            self._store(
                files, model.artifact_location, lambda staged: client.log_model_artifacts(model.model_id, staged)
            )
        client.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
        return str(model.model_id)

    def _store(self, files: Mapping[str, Path], uri: str, upload: Callable[[str], None]) -> None:
        """Upload files; in our own database's folder link them instead, so that weights are not stored twice."""
        if self._database is not None and uri.startswith("file:"):
            from mlflow.utils.file_utils import local_file_uri_to_path

            target = Path(local_file_uri_to_path(uri))
            target.mkdir(parents=True, exist_ok=True)
            for name, source in files.items():
                _link(source, target / name)
            return
        with TemporaryDirectory() as staged:
            for name, source in files.items():
                _link(source, Path(staged) / name)
            upload(staged)

    def _experiment(self) -> str:
        client = self._connect()
        found = client.get_experiment_by_name(self.experiment)
        if found:
            return str(found.experiment_id)
        local = (self.out / "mlflow-artifacts").resolve().as_uri() if self._database else None
        return str(client.create_experiment(self.experiment, local))

    def _connect(self) -> Any:
        if self._client is None:
            for key, value in _QUIET.items():
                os.environ.setdefault(key, value)
            import logging

            from mlflow.tracking import MlflowClient

            for chatty in ("alembic", "mlflow"):
                logging.getLogger(chatty).setLevel(logging.WARNING)
            self._client = MlflowClient(self.uri)
        return self._client


def _link(source: Path, target: Path) -> None:
    """Results are replaced by renames and never written into, so a link stays what it is."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
