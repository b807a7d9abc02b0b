"""From a command to a leaderboard: demo data, kill and resume, models from outside, bad input."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest

from support.commands import Command, Refused, executable

FAST = ("--set", "epochs=3", "--set", "patience=3", "--no-mlflow")

MODEL_FILE = """
import torch
from torch import nn
from survbench.model import Inputs, Modality, ModelCard, ModelGroup, Prediction, SurvivalModel

class Linear(SurvivalModel):
    '''One linear layer on expression.'''
    card = ModelCard(name="NAME", title="Linear", modality=ModelGroup.OMICS,
                     train_inputs=(Modality.EXPRESSION,), inference_inputs=(Modality.EXPRESSION,))

    def __init__(self, inputs: Inputs, outputs: int, *, scale: float = 1.0):
        super().__init__()
        self.scale, self.head = scale, nn.Linear(len(inputs.genes), outputs)

    def forward(self, batch):
        return Prediction(self.head(batch.expression) * self.scale)
"""


def results(out: Path) -> dict[str, Path]:
    return {str(p.parent.relative_to(out)): p.parent for p in sorted(out.glob("jobs/*/*/*/job.json"))}


def rows(document: str) -> list[dict]:
    return json.loads(document)["rows"]


def test_a_run_ends_with_a_leaderboard_that_says_what_it_is(survbench: Command, tmp_path: Path) -> None:
    done = survbench("run", "--model", "snn", "--cohort", "stad,crad", "--out", "out", *FAST)
    assert "demo (simulated)" in done.stdout
    assert "SNN" in done.stdout
    assert "published" in done.stdout
    board = rows(survbench("leaderboard", "--out", "out", "--format", "json").stdout)
    measured = [row for row in board if row["source"] == "measured"]
    assert {row["cohort"] for row in measured} == {"stad", "crad"}
    for row in measured:
        assert row["simulated"]
        assert len(row["metrics"]["cindex"]["per_fold"]) == 5
        assert 0 <= row["metrics"]["cindex"]["mean"] <= 1
    assert len(results(tmp_path / "out")) == 10
    again = survbench("run", "--model", "snn", "--cohort", "stad,crad", "--out", "out", *FAST)
    assert "0 jobs done, 10 were done before" in again.stderr


def test_a_result_can_be_traced(survbench: Command, tmp_path: Path) -> None:
    survbench("run", "--model", "snn", "--cohort", "crad", "--only-folds", "0", "--out", "out", *FAST)
    (folder,) = results(tmp_path / "out").values()
    record = json.loads((folder / "job.json").read_text())
    assert record["selection"]["split"] == "val"
    assert record["selection"]["epochs"]["fit"] in (1, 2, 3)
    assert record["code"]
    for key in ("cohort_hash", "config", "seed", "endpoint", "protocol_version", "model_version", "folds_hash"):
        assert record["identity"][key] is not None
    assert record["versions"]["torch"]
    assert record["hardware"]["device"] == "cpu"
    assert record["parameters"] > 0
    assert record["fvcore_flops"] > 0
    predictions = pd.read_parquet(folder / "predictions.parquet")
    assert set(predictions["split"]) == {"train", "val", "test"}
    assert predictions["patient"].is_unique
    assert all(len(curve) == len(record["grid"]) for curve in predictions["survival"])
    assert record["excluded"]


def predictions(out: Path) -> dict[str, bytes]:
    return {
        name: pd.read_parquet(folder / "predictions.parquet").drop(columns="survival").to_csv().encode()
        + b"".join(c.tobytes() for c in pd.read_parquet(folder / "predictions.parquet")["survival"])
        for name, folder in results(out).items()
    }


@pytest.mark.slow
def test_kill_9_then_the_same_command_gives_the_same_predictions(
    survbench: Command, tmp_path: Path, environment: dict[str, str]
) -> None:
    arguments = [
        "run",
        "--model",
        "amkd",
        "--cohort",
        "crad",
        "--only-folds",
        "0,1",
        "--set",
        "epochs=4",
        "--set",
        "patience=4",
    ]
    survbench(*arguments, "--out", "whole", "--no-mlflow")
    killed = 0
    for wanted in (1, 6, 10):  # in the first job's teacher, in its student, in the second job
        process = subprocess.Popen(
            [executable(), *arguments, "--out", "killed", "--no-mlflow"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.time() + 120
        while process.poll() is None and time.time() < deadline and progress(tmp_path / "killed") < wanted:
            time.sleep(0.02)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
    assert killed >= 2
    survbench(*arguments, "--out", "killed", "--no-mlflow")
    assert predictions(tmp_path / "killed") == predictions(tmp_path / "whole")
    assert not list((tmp_path / "killed" / "scratch").iterdir())


def progress(out: Path) -> int:
    """Roughly how many epochs have been checkpointed: 8 for each finished job, and those of the current one."""
    import torch

    epochs = 8 * len(results(out))
    for file in out.glob("scratch/*/checkpoint.pt"):
        try:
            epochs += len(torch.load(file, weights_only=True)["history"])
        except (OSError, RuntimeError, EOFError):  # replaced while we were reading
            continue
    return epochs


def test_ctrl_c_loses_nothing_and_says_so(survbench: Command, tmp_path: Path, environment: dict[str, str]) -> None:
    arguments = [
        "run",
        "--model",
        "snn",
        "--cohort",
        "crad",
        "--set",
        "epochs=100",
        "--set",
        "patience=100",
        "--no-mlflow",
        "--out",
        "out",
    ]
    process = subprocess.Popen(
        [executable(), *arguments],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells start background jobs deaf to it
    )
    deadline = time.time() + 120
    while not list(tmp_path.glob("out/scratch/*/checkpoint.pt")) and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "nothing is lost" in errors
    assert "Traceback" not in errors


@pytest.mark.slow
def test_workers_leave_nothing_behind_and_lose_nothing(
    survbench: Command, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Interrupted from the terminal, then killed, then let be: no process stays, and the results are those of one."""
    arguments = ["run", "--model", "snn", "--cohort", "crad", "--only-folds", "0,1,2", "--no-mlflow"]
    arguments += ["--set", "epochs=50", "--set", "patience=50"]
    survbench(*arguments, "--out", "alone", "--workers", "1")
    for number in (signal.SIGINT, signal.SIGKILL):
        process = subprocess.Popen(
            [executable(), *arguments, "--out", "side", "--workers", "2"],
            cwd=tmp_path,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a process group of its own, as a terminal gives it
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        deadline, before = time.time() + 120, progress(tmp_path / "side")
        while process.poll() is None and progress(tmp_path / "side") <= before and time.time() < deadline:
            time.sleep(0.05)
        assert process.poll() is None
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does it
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 130
            assert "nothing is lost" in errors
            assert "Traceback" not in errors
        else:
            process.kill()
            process.communicate(timeout=60)
        assert gone(process.pid)
    survbench(*arguments, "--out", "side", "--workers", "2")
    assert predictions(tmp_path / "side") == predictions(tmp_path / "alone")
    assert not list((tmp_path / "side" / "scratch").iterdir())


def gone(group: int) -> bool:
    """Whether the last process of a group ends within seconds."""
    deadline = time.time() + 20
    while time.time() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_a_model_in_a_single_file_stands_on_the_leaderboard(survbench: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODEL_FILE.replace("NAME", "mine"))
    survbench("run", "--model", "./mine.py,snn", "--cohort", "crad", "--out", "out", *FAST)
    board = rows(survbench("leaderboard", "--out", "out", "--format", "json").stdout)
    assert {row["model"] for row in board if row["source"] == "measured"} == {"mine", "snn"}


@pytest.mark.slow
def test_a_model_in_a_registry_file_runs_by_name(survbench: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODEL_FILE.replace("NAME", "mine"))
    (tmp_path / "mine.yaml").write_text(
        "models: {theirs: {title: Theirs, target: 'mine.py:Linear', modality: omics, train_inputs: [expression],"
        " inference_inputs: [expression], config: {scale: 0.5}}}"
    )
    survbench("--registry", "mine.yaml", "run", "--model", "theirs", "--cohort", "crad", "--out", "out", *FAST)
    board = rows(survbench("leaderboard", "--out", "out", "--format", "json").stdout)
    assert "theirs" in {row["model"] for row in board}


@pytest.mark.slow
def test_a_model_in_an_installed_package_runs_by_name(survbench: Command, tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "their_models-1.0.dist-info").mkdir(parents=True)
    (site / "their_models.py").write_text(MODEL_FILE.replace("NAME", "packaged"))
    (site / "their_models-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: their-models\nVersion: 1.0\n"
    )
    (site / "their_models-1.0.dist-info" / "entry_points.txt").write_text(
        "[survbench.models]\npackaged = their_models:Linear\n"
    )
    listed = json.loads(survbench("models", "--json", PYTHONPATH=str(site)).stdout)
    assert "packaged" in {model["name"] for model in listed}
    survbench("run", "--model", "packaged", "--cohort", "crad", "--out", "out", *FAST, PYTHONPATH=str(site))
    board = rows(survbench("leaderboard", "--out", "out", "--format", "json").stdout)
    assert "packaged" in {row["model"] for row in board}


@pytest.mark.slow
def test_a_model_that_fails_is_a_row_that_says_failed(survbench: Command, tmp_path: Path) -> None:
    broken = MODEL_FILE.replace("NAME", "broken").replace("* self.scale", "* float('nan')")
    (tmp_path / "broken.py").write_text(broken)
    done = survbench("run", "--model", "./broken.py,snn", "--cohort", "crad", "--out", "out", *FAST, check=False)
    assert done.returncode == 1
    assert "5 failed" in done.stderr
    assert "failed" in done.stdout
    assert "SNN" in done.stdout


def test_a_model_that_peeks_at_expression_while_predicting_fails(survbench: Command, tmp_path: Path) -> None:
    peeking = MODEL_FILE.replace("NAME", "peek").replace(
        "train_inputs=(Modality.EXPRESSION,), inference_inputs=(Modality.EXPRESSION,)",
        "train_inputs=(Modality.SLIDES, Modality.EXPRESSION), inference_inputs=(Modality.SLIDES,)",
    )
    (tmp_path / "peek.py").write_text(peeking)
    done = survbench(
        "run", "--model", "./peek.py", "--cohort", "crad", "--only-folds", "0", "--out", "out", *FAST, check=False
    )
    assert done.returncode == 1
    assert "not granted slides" not in done.stderr
    assert "was not granted expression" in done.stderr


@pytest.mark.slow
def test_mlflow_mirrors_the_run_and_may_be_down(survbench: Command, tmp_path: Path) -> None:
    import sqlite3

    one_fold = ("run", "--model", "snn", "--cohort", "crad", "--only-folds", "0", "--set", "epochs=2", "--out", "out")
    down = survbench(*one_fold, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert "the run goes on" in down.stderr
    assert "SNN" in down.stdout
    again = survbench(*one_fold)  # caught up with, without training again
    assert "1 were done before" in again.stderr
    with sqlite3.connect(tmp_path / "out" / "mlflow.db") as database:
        kinds = "select value, count(*) from tags where key = 'kind' group by value order by value"
        assert database.execute(kinds).fetchall() == [("fold", 1), ("row", 1)]
        assert database.execute("select count(*) from params where key = 'model' and value = 'snn'").fetchone() == (2,)
        assert database.execute("select count(*) from metrics where key = 'test/cindex'").fetchone() == (1,)
    assert list(tmp_path.glob("out/mlflow-artifacts/*/artifacts/leaderboard.md"))
    survbench(*one_fold)
    with sqlite3.connect(tmp_path / "out" / "mlflow.db") as database:
        assert database.execute(kinds).fetchall() == [("fold", 1), ("row", 1)]
    (tmp_path / "out" / "mlflow.db").unlink()  # what was noted of it is void
    survbench(*one_fold)
    with sqlite3.connect(tmp_path / "out" / "mlflow.db") as database:
        assert database.execute(kinds).fetchall() == [("fold", 1), ("row", 1)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--model", "amdk"), "Did you mean 'amkd'"),
        (("run", "--model", "snn", "--cohort", "stat"), "Did you mean 'stad'"),
        (("run", "--model", "snn", "--cohort", "stad", "--scheme", "official"), "official"),
        (("run", "--model", "snn", "--cohort", "stad", "--endpoint", "dss"), "dss"),
        (("run", "--model", "snn", "--cohort", "stad", "--set", "widht=3"), "widht"),
        (("run", "--model", "snn", "--cohort", "stad", "--set", "epochs"), "key=value"),
        (("run", "--model", "snn", "--cohort", "stad", "--set", "epochs=0"), "epochs"),
        (("run", "--model", "snn", "--cohort", "stad", "--only-folds", "7"), "fold 7"),
        (("run", "--model", "snn", "--cohort", "stad", "--preset", "best"), "best"),
        (("run", "--model", "snn", "--cohort", "stad", "--objective", "coxx"), "Did you mean 'cox'"),
        (("run", "--model", "snn", "--cohort", "stad", "--device", "tpu"), "tpu"),
        (("run", "--model", "snn", "--data", "nowhere"), "nowhere"),
        (("run", "--model", "nowhere.py"), "nowhere.py"),
        (("run", "--model", "amkd", "--cohort", "stad", "--set", "alpha=2"), "alpha"),
        (("--registry", "nowhere.yaml", "models"), "nowhere.yaml"),
        (("leaderboard", "--metric", "accuracy"), "accuracy"),
        (("leaderboard", "--predictions", "nowhere.csv"), "nowhere.csv"),
        (("leaderboard", "--check", "nowhere"), "nowhere"),
        (("compare", "snn", "abmil", "--out", "nowhere"), "survbench run"),
        (("data", "import", "nowhere", "--out", "x"), "nowhere"),
        (("data", "check", "--data", "nowhere"), "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(refused: Refused, arguments: tuple[str, ...], message: str) -> None:
    errors = [line for line in refused(*arguments).splitlines() if line.lower().startswith("error")]
    assert len(errors) == 1
    assert message in errors[0]


def test_the_installed_command_hands_the_refusal_on(survbench: Command) -> None:
    done = survbench("run", "--model", "amdk", check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: Unknown model 'amdk'")


def test_listings_as_json_print_nothing_else(survbench: Command) -> None:
    models = json.loads(survbench("models", "--json").stdout)
    assert {m["name"] for m in models} >= {"abmil", "snn", "amkd"}
    cohorts = json.loads(survbench("cohorts", "--json").stdout)
    assert {c["name"] for c in cohorts} == {"brca", "stad", "hnsc", "crad", "cptac-hnsc"}
    folds = json.loads(survbench("folds", "--cohort", "stad", "--json").stdout)
    assert len(folds["stad"]) == 15
    check = json.loads(survbench("data", "check", "--json").stdout)
    assert check["problems"] == []
    assert check["cohorts"]["stad"]["simulated"]


def test_folds_of_site_preserving_show_no_shared_site(survbench: Command) -> None:
    folds = json.loads(survbench("folds", "--cohort", "hnsc", "--scheme", "site-preserving", "--json").stdout)["hnsc"]
    assert all(row["sites_shared"] == 0 for row in folds if row["split"] != "train")


@pytest.mark.slow
def test_a_damaged_data_root_is_said_in_one_line(survbench: Command, tmp_path: Path) -> None:
    survbench("data", "demo", "--out", "demo")
    table = tmp_path / "demo" / "stad" / "patients.csv"
    good = table.read_text()
    for damage, message in (
        (good + good.splitlines()[1] + "\n", "duplicate|twice"),
        (good.replace(",0.0\n", ",2\n").replace(",0\n", ",2\n"), "event"),
        ("", "empty|patient"),
    ):
        table.write_text(damage)
        done = survbench("run", "--model", "snn", "--cohort", "stad", "--data", "demo", *FAST, check=False)
        assert done.returncode == 2, message
        assert "Traceback" not in done.stderr
        assert "stad" in done.stderr
    shutil.rmtree(tmp_path / "demo" / "stad")
    done = survbench("run", "--model", "snn", "--cohort", "stad", "--data", "demo", *FAST, check=False)
    assert done.returncode == 2


@pytest.mark.slow
def test_external_validation_ends_in_a_table_that_the_leaderboard_repeats(survbench: Command, tmp_path: Path) -> None:
    command = ("run", "--model", "snn,abmil", "--train", "hnsc", "--test", "cptac-hnsc", "--out", "out", *FAST)
    done = survbench(*command)
    assert "trained on hnsc, tested on cptac-hnsc" in done.stdout
    assert "demo (simulated)" in done.stdout
    stamps = {f: f.stat().st_mtime_ns for f in (tmp_path / "out/external").rglob("*.parquet")}
    assert len(stamps) == 10
    assert "10 were done before" in survbench(*command).stderr
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "out/external").rglob("*.parquet")} == stamps
    external = json.loads(survbench("leaderboard", "--out", "out", "--format", "json").stdout)["external"]
    assert {(row["model"], row["models"], row["published"]) for row in external} == {
        ("snn", 5, None),
        ("abmil", 5, None),
    }
    assert "for other settings than here: ABMIL 0.533, SNN 0.518" in " ".join(done.stdout.split())
    drawn = json.loads(survbench("km", "--out", "out", "--model", "snn", "--json").stdout)
    assert (tmp_path / drawn[0]["file"]).exists()


@pytest.mark.slow
def test_a_study_and_its_pathways_from_the_command_line(survbench: Command, tmp_path: Path) -> None:
    fast = ("--cohort", "crad", "--out", "out", "--set", "epochs=1", "--set", "patience=1", "--set", "crossfit=2")
    early = survbench("ablate", "--study", "targets", *fast, "--only-folds", "0", "--no-mlflow")
    assert "no arm has all its folds yet" in early.stderr
    done = survbench("ablate", "--study", "targets", *fast, "--no-mlflow")
    assert "out-of-fold" in done.stdout
    assert "demo (simulated)" in done.stdout
    assert len(list((tmp_path / "out/studies").glob("*/plot.png"))) == 1
    assert len(list((tmp_path / "out/stages").glob("*.safetensors"))) == 5 + 10
    ranked = json.loads(survbench("explain", "pathways", "--model", "amkd", *fast, "--json").stdout)
    assert len(ranked[0]["pathways"]) == 26
    assert (tmp_path / ranked[0]["file"]).exists()
    pictured = json.loads(survbench("explain", "heatmap", "--model", "amkd", *fast, "--json").stdout)
    assert pictured[0]["simulated"]
    assert [one["name"] for one in pictured[0]["maps"]][-1] == "student's pooling"
    assert (tmp_path / pictured[0]["files"]["figure"]).exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ablate", "--study", "loses"), "Did you mean 'losses'"),
        (("ablate", "--study", "alpha", "--set", "alpha=1"), "the study itself changes it"),
        (("run", "--model", "snn", "--train", "hnsc"), "--train and --test belong together"),
        (("run", "--model", "snn", "--train", "hnsc", "--test", "hnsc"), "both hnsc"),
        (("run", "--model", "snn", "--train", "hnsc", "--test", "cptac"), "Did you mean 'cptac-hnsc'"),
        (("run", "--model", "snn", "--cohort", "crad", "--preset", "tuned"), "survbench tune --model snn"),
        (("run", "--model", "amkd", "--cohort", "crad", "--set", "teacher=ghanet"), "predicts from less"),
        (("tune", "--model", "snn", "--cohort", "crad", "--search", "alpha=0:1"), "has no setting 'alpha'"),
        (("tune", "--model", "snn", "--cohort", "crad", "--search", "epochs"), "expected key=low:high"),
        (("study", "transfer", "--traces", "some"), "expected numbers"),
        (("km",), "no finished row"),
        (("explain", "pathways", "--model", "amkd", "--cohort", "crad"), "have no result"),
    ],
)
def test_mistakes_in_experiments_are_one_line(refused: Refused, arguments: tuple[str, ...], message: str) -> None:
    assert message in refused(*arguments, "--out", "out")


@pytest.mark.slow
def test_a_dry_run_estimates_what_is_left_and_writes_nothing(
    survbench: Command, refused: Refused, tmp_path: Path
) -> None:
    command = ("run", "--model", "snn,null", "--cohort", "crad", "--only-folds", "0,1", "--out", "out", *FAST)
    planned = json.loads(survbench(*command, "--dry-run", "--json", "--workers", "2").stdout)
    assert not (tmp_path / "out").exists()
    assert [(line["model"], len(line["each"]), line["untimed"]) for line in planned["lines"]] == [
        ("snn", 2, 0),
        ("null", 0, 2),
    ]
    assert 0 < planned["wall_seconds"]["least"] <= planned["wall_seconds"]["most"]
    done = survbench("run", "--model", "snn", "--cohort", "crad", "--only-folds", "0", "--out", "out", *FAST)
    assert re.search(r"^time: .*% (forward|evaluation|other).* s per job", done.stderr, re.MULTILINE)
    before = sorted(str(file) for file in tmp_path.rglob("*"))
    table = survbench(*command, "--dry-run").stdout
    assert "Estimate for 3 jobs on cpu; 1 are done" in table
    assert "not estimated" in table
    nothing = ("run", "--model", "snn", "--cohort", "crad", "--only-folds", "0", "--out", "out", *FAST, "--dry-run")
    assert "Nothing is left to run: all 1 jobs are done." in survbench(*nothing).stdout
    assert sorted(str(file) for file in tmp_path.rglob("*")) == before
    assert "--json without --dry-run" in refused(*command, "--json")
