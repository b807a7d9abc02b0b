"""The mirror in MLflow: rows with their folds nested below, models that load and predict, nothing written twice."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from support.toy import cohort, job, run
from survbench.errors import BadConfig
from survbench.experiments.mlflow.tracking import Mirror
from survbench.experiments.results import JobResult

FOLDS = 5
pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow and what it imports warn of each other


@dataclass
class Mirrored:
    """A results folder whose jobs are in MLflow, and a client to look at them."""

    out: Path
    jobs: list[Path]
    client: Any

    @property
    def database(self) -> str:
        """Address of its own database, which takes seconds to create."""
        return f"sqlite:///{self.out / 'mlflow.db'}"

    def runs(self, asked: str = "", experiment: str = "toy") -> list[Any]:
        """Runs of an experiment that are not deleted."""
        found = self.client.get_experiment_by_name(experiment)
        return self.client.search_runs([found.experiment_id], asked)

    def row(self, model: str) -> Any:
        (found,) = self.runs(f"tags.kind = 'row' and tags.model = '{model}'")
        return found

    def fold(self, model: str) -> Any:
        """The run of fold 0."""
        (found,) = self.runs(f"tags.kind = 'fold' and tags.model = '{model}' and params.fold = '0'")
        return found

    def model(self, model: str) -> Any:
        """What was logged as the model of fold 0."""
        (logged,) = self.fold(model).outputs.model_outputs
        return self.client.get_logged_model(logged.model_id)


def files(uri: str) -> dict[str, Path]:
    """Artifacts by name."""
    return {file.name: file for file in Path(uri.removeprefix("file://")).rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All folds of one model and one fold of another, mirrored offline by two who begin at the same moment."""
    out = tmp_path_factory.mktemp("mirrored")
    run(out, *(job(cohort(), "snn", fold) for fold in range(FOLDS)), job(cohort(), "amkd"))
    jobs = sorted(file.parent for file in out.glob("jobs/*/*/*/job.json"))
    called: list[Any] = []
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as both:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, lambda _, address: called.append(address))
        mirrors = [Mirror(out, "toy") for _ in range(2)]
        list(both.map(lambda mirror: [mirror.log(folder) for folder in jobs], mirrors))
        for mirror in mirrors:
            mirror.attach_text("leaderboard.md", "# a table")
            mirror.close()
            assert mirror.enabled  # a failure would have been said and would have ended it
    assert not called
    from mlflow.tracking import MlflowClient

    return Mirrored(out, jobs, MlflowClient(f"sqlite:///{out / 'mlflow.db'}"))


@pytest.fixture
def copied(mirrored: Mirrored, tmp_path: Path) -> Path:
    """A job's folder in a results folder of its own, of which nothing was mirrored."""
    folder = mirrored.jobs[0]
    return Path(shutil.copytree(folder, tmp_path / folder.relative_to(mirrored.out)))


def test_folds_are_nested_in_the_row_they_belong_to(mirrored: Mirrored) -> None:
    assert len(mirrored.runs("tags.kind = 'row'")) == 2
    assert len(mirrored.runs("tags.kind = 'fold'")) == FOLDS + 1
    rows = [mirrored.row("snn"), mirrored.row("amkd")]
    folds = mirrored.runs(f"tags.mlflow.parentRunId = '{rows[0].info.run_id}'")
    assert {fold.info.run_name for fold in folds} == {f"fold {number} seed 0" for number in range(FOLDS)}
    for found in (*rows, *folds):
        assert found.info.status == "FINISHED"
        assert found.data.tags["simulated"] == "simulated"
    assert "(simulated)" in rows[0].info.run_name
    assert "invented" in rows[0].data.tags["mlflow.note.content"]


def test_a_fold_has_its_settings_its_curves_and_its_files(mirrored: Mirrored) -> None:
    found, result = mirrored.fold("snn"), JobResult.open(next(f for f in mirrored.jobs if "snn" in f.parts))
    params, metrics = found.data.params, found.data.metrics
    assert params["training.learning_rate"] == "0.001"
    assert params["job"] == result.record["id"]
    assert params["code"] == result.code
    assert (params["fold"], params["hardware.device"]) == ("0", "cpu")
    assert metrics["fit/selected_epoch"] == result.record["selection"]["epochs"]["fit"]
    assert metrics["seconds/fit"] == result.record["seconds"]["fit"]
    curve = mirrored.client.get_metric_history(found.info.run_id, "fit/val_loss")
    assert [(point.step, point.value) for point in curve] == list(enumerate(result.history()["val_loss"], 1))
    assert set(files(found.info.artifact_uri)) == set(result.files(weights=False))


def test_a_row_has_its_means_once_all_its_folds_are_there(mirrored: Mirrored) -> None:
    assert not mirrored.row("amkd").data.metrics  # one fold of five has no mean
    results = sorted(map(JobResult.open, mirrored.jobs), key=lambda result: result.fold)
    values = [result.metrics()["cindex"] for result in results if result.model == "snn"]
    row = mirrored.row("snn")
    assert row.data.metrics["test/cindex"] == pytest.approx(np.mean(values), abs=1e-12)
    assert row.data.metrics["test/cindex_sd"] == pytest.approx(np.std(values), abs=1e-12)
    beside = files(row.info.artifact_uri)
    assert list(pd.read_csv(beside["folds.csv"])["cindex"]) == pytest.approx(values)
    assert beside["training.png"].read_bytes().startswith(b"\x89PNG")
    assert beside["leaderboard.md"].read_text() == "# a table"


@pytest.mark.parametrize("model", ["snn", "amkd"])
def test_a_logged_model_loads_without_pickle_and_predicts_the_stored_risks(mirrored: Mirrored, model: str) -> None:
    import mlflow.pyfunc

    described = mirrored.model(model)
    assert {metric.key for metric in described.metrics} >= {"test/cindex"}
    stored = files(described.artifact_location)
    assert {file.suffix for file in stored.values()} == {"", ".json", ".safetensors", ".txt", ".yaml"}
    needed = {line.partition("==")[0] for line in stored["requirements.txt"].read_text().splitlines()}
    assert {"survbench", "torch"} <= needed
    loaded = mlflow.pyfunc.load_model(described.artifact_location)
    folder = next(folder for folder in mirrored.jobs if model in folder.parts)
    predictions = JobResult.open(folder).predictions().query("split == 'test'")
    given = _inputs(list(predictions["patient"]), loaded.metadata.signature.inputs.input_names())
    assert loaded.predict(given)["risk"].to_numpy() == pytest.approx(predictions["risk"].to_numpy(), abs=0)
    assert loaded.metadata.signature.outputs.input_names() == ["risk"]
    with pytest.raises(mlflow.exceptions.MlflowException):  # the signature holds
        loaded.predict({name: values[:, :-1] if values.ndim == 2 else values for name, values in given.items()})


def _inputs(patients: list[str], names: list[str]) -> dict[str, np.ndarray]:
    data = cohort()
    assert data.expression is not None
    assert data.bags is not None
    spans = [data.bags.span(patient) for patient in patients]
    rows = np.concatenate([np.arange(*span) for span in spans])
    everything = {
        "features": data.bags.features[rows],
        "coordinates": data.bags.coords[rows],
        "slide": data.bags.slide_of(rows),
        "patches": np.array([stop - start for start, stop in spans]),
        "expression": data.expression.loc[patients].to_numpy(),
    }
    return {name: everything[name] for name in names}


def test_a_model_refuses_arrays_that_contradict_each_other(mirrored: Mirrored) -> None:
    import mlflow.pyfunc

    loaded = mlflow.pyfunc.load_model(mirrored.model("amkd").artifact_location)
    given = _inputs(["P000", "P001"], ["features", "coordinates", "slide", "patches"])
    with pytest.raises(BadConfig, match="the sum of patches"):
        loaded.predict({**given, "patches": given["patches"] + 1})


def test_weights_are_stored_once(mirrored: Mirrored) -> None:
    for folder in mirrored.jobs:
        result = JobResult.open(folder)
        (weights,) = set(result.files()) - set(result.files(weights=False))
        copies = [file for file in mirrored.out.rglob(weights) if file.samefile(folder / weights)]
        assert len(copies) == 2
    assert len(list(mirrored.out.glob(f"mlflow-artifacts/**/{weights}"))) == len(mirrored.jobs)


def test_what_is_mirrored_is_not_mirrored_again(mirrored: Mirrored) -> None:
    before = {found.info.run_id for found in mirrored.runs()}
    again = Mirror(mirrored.out, "another experiment")
    for folder in mirrored.jobs:
        again.log(folder)
    assert {found.info.run_id for found in mirrored.runs()} == before
    assert mirrored.client.get_experiment_by_name("another experiment") is None


def test_half_a_run_is_replaced(mirrored: Mirrored, copied: Path, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    def kill(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MlflowClient, "finalize_logged_model", kill)
        with pytest.raises(KeyboardInterrupt):
            Mirror(tmp_path, "killed", address=mirrored.database).log(copied)
    (half,) = mirrored.runs("tags.kind = 'fold'", "killed")
    again = Mirror(tmp_path, "killed", address=mirrored.database)
    again.log(copied)
    again.close()
    (whole,) = mirrored.runs("tags.kind = 'fold'", "killed")
    assert whole.info.run_id != half.info.run_id
    assert {found.info.status for found in mirrored.runs("", "killed")} == {"FINISHED"}
    assert len(mirrored.runs("", "killed")) == 2


def test_a_row_that_somebody_deleted_is_made_again(mirrored: Mirrored, copied: Path, tmp_path: Path) -> None:
    Mirror(tmp_path, "deleted", address=mirrored.database).log(copied)
    (row,) = mirrored.runs("tags.kind = 'row'", "deleted")
    mirrored.client.delete_run(row.info.run_id)
    other = copied.with_name("another")
    shutil.copytree(copied, other)
    Mirror(tmp_path, "deleted", address=mirrored.database).log(other)
    (new,) = mirrored.runs("tags.kind = 'row'", "deleted")
    assert len(mirrored.runs(f"tags.mlflow.parentRunId = '{new.info.run_id}'", "deleted")) == 1


def test_an_altered_result_is_said_and_ends_nothing(
    mirrored: Mirrored, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = copied.with_name("whole")
    shutil.copytree(copied, whole)
    altered = copied / "job.json"
    altered.write_text(json.dumps({**json.loads(altered.read_text()), "selected": "by hand"}))
    mirror = Mirror(tmp_path, "altered", address=mirrored.database)
    mirror.log(copied)
    assert "was altered" in capsys.readouterr().err.replace("\n", " ")
    mirror.log(whole)
    assert len(mirrored.runs("tags.kind = 'fold'", "altered")) == 1


def test_the_users_own_tracking_stays_as_it_is(mirrored: Mirrored, copied: Path, tmp_path: Path) -> None:
    import mlflow

    shutil.copyfile(mirrored.out / "mlflow.db", tmp_path / "users.db")  # creating one takes seconds
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'users.db'}")

    def state() -> tuple[Any, ...]:
        active = mlflow.active_run()
        assert active is not None
        levels = [logging.getLogger(name).getEffectiveLevel() for name in ("mlflow", "alembic", "")]
        addresses = mlflow.get_tracking_uri(), mlflow.get_registry_uri(), mlflow.get_active_model_id()
        return *addresses, active.info.run_id, dict(os.environ), levels, logging.root.manager.disable

    try:
        mlflow.set_active_model(name="theirs")
        with mlflow.start_run(experiment_id="0", run_name="mine") as own:
            before, theirs = state(), set(mlflow.search_runs(search_all_experiments=True)["run_id"])
            mirror = Mirror(tmp_path, "not theirs", address=mirrored.database)
            mirror.log(copied)
            mirror.attach_text("leaderboard.md", "")
            mirror.close()
            assert mirror.enabled  # metrics of a model that its database does not know would have ended it
            assert state() == before
            mlflow.log_metric("still", 1.0)
        assert set(mlflow.search_runs(search_all_experiments=True)["run_id"]) == theirs
        assert mlflow.get_run(own.info.run_id).data.metrics == {"still": 1.0}
    finally:
        mlflow.clear_active_model()
        mlflow.set_tracking_uri(None)
    assert len(mirrored.runs("", "not theirs")) == 2


def test_a_server_that_is_down_is_said_once(mirrored: Mirrored, capsys: pytest.CaptureFixture[str]) -> None:
    mirror = Mirror(mirrored.out, "toy", address="http://127.0.0.1:9")
    for folder in mirrored.jobs:
        mirror.log(folder)
    mirror.attach_text("leaderboard.md", "")
    mirror.close()
    assert not mirror.enabled
    assert capsys.readouterr().err.replace("\n", "").count("does not take results") == 1
