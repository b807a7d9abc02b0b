"""The mirror in MLflow: rows with their folds nested below, models that load and predict, nothing written twice."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from support.toy import cohort, job, run
from survbench.errors import BadConfig
from survbench.experiments.mlflow_model import RiskModel
from survbench.experiments.tracking import Mirror

FOLDS = 5
pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow and what it imports warn of each other


@dataclass
class Mirrored:
    """A results folder whose jobs are in MLflow, and a client to look at them."""

    out: Path
    jobs: list[Path]
    client: Any
    experiment: str

    def runs(self, asked: str) -> list[Any]:
        return self.client.search_runs([self.experiment], asked)

    def artifacts(self, found: Any) -> Path:
        return Path(found.info.artifact_uri.removeprefix("file://"))


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All folds of one model and one fold of another, mirrored by two who begin at the same moment."""
    out = tmp_path_factory.mktemp("mirrored")
    run(out, *(job(cohort(), "snn", fold) for fold in range(FOLDS)), job(cohort(), "amkd"))
    jobs = sorted(file.parent for file in out.glob("jobs/*/*/*/job.json"))
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as both:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        mirrors = [Mirror(out, "toy") for _ in range(2)]
        list(both.map(lambda mirror: [mirror.log(folder) for folder in jobs], mirrors))
        for mirror in mirrors:
            assert mirror.enabled  # a failure would have been said and would have ended it
            mirror.attach_text("leaderboard.md", "# a table")
            mirror.close()
        client = mirrors[0]._connect()
        yield Mirrored(out, jobs, client, client.get_experiment_by_name("toy").experiment_id)


def test_folds_are_nested_in_the_row_they_belong_to(mirrored: Mirrored) -> None:
    rows = {found.data.tags["model"]: found for found in mirrored.runs("tags.kind = 'row'")}
    assert set(rows) == {"snn", "amkd"}
    assert len(mirrored.runs("tags.kind = 'fold'")) == FOLDS + 1
    folds = mirrored.runs(f"tags.mlflow.parentRunId = '{rows['snn'].info.run_id}'")
    assert {fold.info.run_name for fold in folds} == {f"fold {number} seed 0" for number in range(FOLDS)}
    for found in (*rows.values(), *folds):
        assert found.info.status == "FINISHED"
        assert found.data.tags["simulated"] == "simulated"
    assert "(simulated)" in rows["snn"].info.run_name
    assert "invented" in rows["snn"].data.tags["mlflow.note.content"]
    assert folds[0].data.params["training.learning_rate"] == "0.001"
    curve = mirrored.client.get_metric_history(folds[0].info.run_id, "fit/val_loss")
    assert [point.step for point in curve] == [1, 2]


def test_a_row_has_its_means_once_all_its_folds_are_there(mirrored: Mirrored) -> None:
    rows = {found.data.tags["model"]: found for found in mirrored.runs("tags.kind = 'row'")}
    assert not rows["amkd"].data.metrics  # one fold of five has no mean
    values = [
        json.loads((folder / "metrics.json").read_text())["cindex"]["value"]
        for folder in mirrored.jobs
        if "/snn/" in str(folder)
    ]
    assert rows["snn"].data.metrics["test/cindex"] == pytest.approx(np.mean(values), abs=1e-12)
    assert rows["snn"].data.metrics["test/cindex_sd"] == pytest.approx(np.std(values), abs=1e-12)
    folder = mirrored.artifacts(rows["snn"])
    assert list(pd.read_csv(folder / "folds.csv")["cindex"]) == pytest.approx(
        [value for _, value in sorted(zip(_fold_numbers(mirrored), values, strict=True))]
    )
    assert (folder / "training.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "leaderboard.md").read_text() == "# a table"


def _fold_numbers(mirrored: Mirrored) -> list[int]:
    return [int(folder.name[4]) for folder in mirrored.jobs if "/snn/" in str(folder)]


@pytest.mark.parametrize("model", ["snn", "amkd"])
def test_a_logged_model_loads_without_pickle_and_predicts_the_stored_risks(mirrored: Mirrored, model: str) -> None:
    import mlflow.pyfunc

    (found,) = mirrored.runs(f"tags.kind = 'fold' and tags.model = '{model}' and params.fold = '0'")
    (logged,) = found.outputs.model_outputs
    described = mirrored.client.get_logged_model(logged.model_id)
    folder = Path(described.artifact_location.removeprefix("file://"))
    assert {file.suffix for file in folder.iterdir()} == {"", ".json", ".safetensors"}
    assert {metric.key for metric in described.metrics} >= {"test/cindex"}
    loaded = mlflow.pyfunc.load_model(str(folder))
    stored = pd.read_parquet(mirrored.artifacts(found) / "predictions.parquet").query("split == 'test'")
    given = _inputs(list(stored["patient"]), loaded.metadata.signature.inputs.input_names())
    predicted = loaded.predict(given)
    assert predicted["risk"].to_numpy() == pytest.approx(stored["risk"].to_numpy(), abs=0)
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
    from survbench.experiments.mlflow_model import _load_pyfunc

    model = _load_pyfunc(str(next(folder for folder in mirrored.jobs if "/amkd/" in str(folder))))
    assert isinstance(model, RiskModel)
    given = _inputs(["P000", "P001"], ["features", "coordinates", "slide", "patches"])
    with pytest.raises(BadConfig, match="the sum of patches"):
        model.predict({**given, "patches": given["patches"] + 1})


def test_what_is_mirrored_is_not_mirrored_again_and_half_a_run_is_replaced(mirrored: Mirrored) -> None:
    before = {found.info.run_id for found in mirrored.runs("")}
    again = Mirror(mirrored.out, "another experiment")
    for folder in mirrored.jobs:
        again.log(folder)
    assert {found.info.run_id for found in mirrored.runs("")} == before
    marker = again._marker(mirrored.jobs[-1])
    noted = json.loads(marker.read_text())
    marker.write_text(json.dumps({"uri": noted["uri"], "run": noted["run"]}))  # as a kill leaves it
    again.log(mirrored.jobs[-1])
    again.close()
    after = {found.info.run_id for found in mirrored.runs("")}
    assert noted["run"] not in after
    assert len(after) == len(before)
    assert len(after - before) == 1
    rows = [found for found in mirrored.runs("tags.kind = 'row'") if found.data.tags["model"] == "snn"]
    assert len(rows) == 1


def test_a_database_that_was_deleted_is_filled_again(mirrored: Mirrored) -> None:
    """What was noted of it is void; nothing is written here, the next mirror would make the database."""
    mirror = Mirror(mirrored.out, "toy")
    marker = mirror._marker(mirrored.jobs[0])
    assert mirror._noted(marker)["done"]
    mirror._database = mirrored.out / "deleted.db"
    assert mirror._noted(marker) == {}


def test_a_server_that_is_down_is_said_once(
    mirrored: Mirrored, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    mirror = Mirror(mirrored.out, "toy")
    for folder in mirrored.jobs:
        mirror.log(folder)
    mirror.attach_text("leaderboard.md", "")
    mirror.close()
    assert not mirror.enabled
    assert capsys.readouterr().err.replace("\n", "").count("does not take results") == 1
