"""Finished jobs mirrored in MLflow: a run per row of the leaderboard, and nested in it a run per fold and seed.

The job folders are the truth; a tracking server that is down costs a warning and is caught up with by the next run.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from survbench.console import warn
from survbench.errors import BadFile
from survbench.experiments.mlflow import content
from survbench.experiments.mlflow.model import save_model
from survbench.experiments.results import JobResult
from survbench.files import lock, write_json

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["Mirror"]

_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",  # the current folder has nothing to do with a model
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # a dead server must not hold up the jobs
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class Mirror:
    """Writes to one tracking server; the user's active run, address and environment stay as they are.

    What was mirrored is noted in OUT/mirrored, so that nothing is mirrored twice; processes that share OUT take turns.

    Parameters
    ----------
    out : folder of the results.
    experiment : name of the MLflow experiment.
    enabled : False writes nothing.
    address : of the tracking server; without one, a sqlite database in `out`.
    """

    def __init__(self, out: Path, experiment: str, *, enabled: bool = True, address: str | None = None) -> None:
        self.out, self.experiment, self.enabled = out, experiment, enabled
        self._database = None if address else (out / "mlflow.db").resolve()
        self.address = address or f"sqlite:///{self._database}"
        self._marks = out / "mirrored"
        self._rows: set[str] = set()  # runs of the rows that this process added to

    def log(self, folder: Path) -> None:
        """Mirror one job's folder unless that was done before; a failure is one warning and ends the mirroring."""
        mark = self._marks / f"{'-'.join(folder.parts[-3:])}.json"
        with self._forgiving():
            if not self.enabled or self._noted(mark).get("done"):
                return
            with lock(self._marks / "all"):  # two cannot create a database at once
                noted = self._noted(mark)
                if noted.get("done"):  # by another process while this one waited
                    return
                with _connected(self.address) as client, ThreadPoolExecutor(1) as own:  # the active model is a thread's
                    own.submit(self._write, client, JobResult.open(folder), mark, noted.get("run")).result()

    def attach_text(self, name: str, text: str) -> None:
        """Put a text beside every row that this process added to."""
        self._for_rows(lambda client, run: client.log_text(run, text, name))

    def attach_files(self, *files: Path) -> None:
        """Put files beside every row that this process added to."""

        def log(client: MlflowClient, run: str) -> None:
            for file in files:
                client.log_artifact(run, str(file))

        self._for_rows(log)

    def close(self) -> None:
        """Rows are no longer under way."""
        self._for_rows(lambda client, run: client.set_terminated(run))

    def _for_rows(self, act: Callable[[MlflowClient, str], object]) -> None:
        if self.enabled and self._rows:
            with self._forgiving(), _connected(self.address) as client:
                for run in self._rows:
                    act(client, run)

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except BadFile as error:
            warn(f"not in MLflow: {error}")
        except Exception as error:  # tracking is a convenience; results are already safe
            self.enabled = False
            reason = (str(error) or type(error).__name__).splitlines()[0]
            what = f"MLflow at {self.address} does not take results ({reason})"
            warn(f"{what}; the run goes on, and the same command mirrors later")

    def _noted(self, mark: Path) -> dict[str, Any]:
        """What was noted about this tracking server; nothing where its database has been deleted."""
        if (self._database and not self._database.exists()) or not mark.exists():
            return {}
        noted: dict[str, Any] = json.loads(mark.read_text(encoding="utf-8"))
        return noted if noted["uri"] == self.address else {}

    def _note(self, mark: Path, **noted: Any) -> None:
        write_json(mark, {"uri": self.address, **noted})

    def _write(self, client: MlflowClient, result: JobResult, mark: Path, half: str | None) -> None:
        row, experiment, jobs = self._row(client, result)
        if half is not None:  # a process was killed or cut off while it wrote this run
            with suppress(Exception):
                client.delete_run(half)
        began, ended = content.times(result)
        name, tags, params = content.job_run(result)
        info = client.create_run(experiment, began, {**tags, "mlflow.parentRunId": row}, name).info
        self._note(mark, run=info.run_id)
        model = self._log_model(client, result, experiment, info.run_id, tags)
        client.log_batch(info.run_id, content.job_metrics(result, model), params)
        for file in result.files(weights=False).values():
            client.log_artifact(info.run_id, str(file))
        self._link(result, info.artifact_uri)
        client.set_terminated(info.run_id, end_time=ended)
        if sum(job.seed == result.seed for job in jobs) == result.identity["n_folds"]:
            client.log_batch(row, content.row_metrics(jobs))
            client.log_text(row, content.fold_table(jobs).to_csv(index=False), "folds.csv")
            client.log_figure(row, content.training_figure(jobs), "training.png")
        self._note(mark, run=info.run_id, done=True)

    def _row(self, client: MlflowClient, result: JobResult) -> tuple[str, str, list[JobResult]]:
        """Run and experiment of the job's row, made when its first job arrives, and its jobs so far, with this one."""
        mark = self._marks / "rows" / f"{content.row(result)[:16]}.json"
        noted = self._noted(mark)
        if noted and noted["run"] not in self._rows:
            try:
                client.update_run(noted["run"], "RUNNING")
            except Exception:  # somebody cleaned up on the server
                del noted["run"]
        if "run" not in noted:
            known = client.get_experiment_by_name(self.experiment)
            own = (self.out / "mlflow-artifacts").resolve().as_uri() if self._database else None
            noted["experiment"] = known.experiment_id if known else client.create_experiment(self.experiment, own)
            name, tags, params = content.row_run(result)
            noted["run"] = client.create_run(noted["experiment"], content.times(result)[0], tags, name).info.run_id
            client.log_batch(noted["run"], params=params)
        noted["jobs"] = sorted({*noted.get("jobs", ()), result.path.name})
        self._note(mark, **noted)
        self._rows.add(noted["run"])
        jobs = []
        for name in noted["jobs"]:
            with suppress(BadFile):  # removed or altered since it was mirrored
                jobs.append(JobResult.open(result.path.with_name(name)))
        return noted["run"], noted["experiment"], sorted(jobs, key=lambda job: (job.seed, job.fold))

    def _log_model(
        self, client: MlflowClient, result: JobResult, experiment: str, run: str, tags: Mapping[str, str]
    ) -> str | None:
        """Identifier of the job's model in MLflow; None of one that looks at nothing."""
        from mlflow.entities import LoggedModelOutput

        if not result.identity.get("inference_inputs"):
            return None
        details = {key: tags[key] for key in ("model", "cohort", "simulated")}
        model = client.create_logged_model(experiment, "model", run, details, model_type="survival")
        with TemporaryDirectory() as folder:
            save_model(result, folder, model.model_id)
            client.log_model_artifacts(model.model_id, folder)
        self._link(result, model.artifact_location)
        client.finalize_logged_model(model.model_id, "READY")
        client.log_outputs(run, [LoggedModelOutput(model.model_id, 0)])
        return model.model_id

    def _link(self, result: JobResult, uri: str) -> None:
        """In our own database, make the copies of a job's files links to them, so that weights are not stored twice."""
        if self._database and uri.startswith("file:"):
            from mlflow.utils.file_utils import local_file_uri_to_path

            for copy in Path(local_file_uri_to_path(uri)).rglob("*.*"):
                beside = copy.with_name(f".{copy.name}")
                with suppress(OSError):  # no file of the job, or a file system without links
                    os.link(result.path / copy.name, beside)
                    os.replace(beside, copy)  # results are replaced by renames and never written into


@contextmanager
def _connected(address: str) -> Iterator[MlflowClient]:
    """A client of one address; what keeps MLflow quiet holds inside the context alone."""
    added = {key: value for key, value in _QUIET.items() if key not in os.environ}
    before = logging.root.manager.disable
    os.environ.update(added)
    logging.disable(max(before, logging.WARNING))
    try:
        from mlflow.tracking import MlflowClient

        yield MlflowClient(address)
    finally:
        logging.disable(before)
        for key in added:
            os.environ.pop(key, None)
