"""Jobs in processes of their own: the same results, and a process that is killed loses its own epoch and no more."""

from __future__ import annotations

import json
import math
import operator
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from support.toy import TINY
from survbench.data.root import DataRoot
from survbench.experiments.dispatch import Summary, run_jobs
from survbench.experiments.executors import gpu_admission, local
from survbench.experiments.executors.gpu_admission import MOST, GpuAdmission, admission_of, sensible_workers
from survbench.experiments.executors.local import LocalExecutor, TaskFailed, call, start_ahead
from survbench.experiments.job import Job, JobSpec
from survbench.experiments.mlflow.tracking import Mirror
from survbench.experiments.plan import Request, plan
from survbench.registry import load_registry
from survbench.studies.ablation import all_jobs, find_study, plan_study

CPU = torch.device("cpu")

MODEL = """
import os, signal, sys, time
from pathlib import Path
import torch
from torch import nn
from survbench.experiments.executors import gpu_admission
from survbench.model import Inputs, Modality, ModelCard, ModelGroup, Prediction, SurvivalModel

STARTED = []  # is empty in a process that has run no job

def room(folder, number):
    for place in range(number):
        try:
            Path(f"{{folder}}-{{place}}").touch(exist_ok=False)  # by one process alone
        except FileExistsError:
            continue
        (folder / f"{{os.getpid()}}-{{os.getppid()}}-{{os.environ.get('TRACE')}}-{{place}}").touch()
        return True
    return False

class Planted(SurvivalModel):
    card = ModelCard(name="planted", title="Planted", modality=ModelGroup.OMICS,
                     train_inputs=(Modality.EXPRESSION,), inference_inputs=(Modality.EXPRESSION,))

    def __init__(self, inputs: Inputs, outputs: int, *, times: int = 1, folder: str = "", free: int = 90) -> None:
        super().__init__()
        self.head, self.times, self.folder = nn.Linear(len(inputs.genes), outputs), times, Path(folder)
        {at_start}

    def forward(self, batch):
        {at_work}
        return Prediction(self.head(batch.expression))
"""

KILLED = """if self.training and room(self.folder, self.times):
            os.kill(os.getpid(), signal.SIGKILL)"""
SERVER_KILLED = """if self.training and room(self.folder, self.times):
            os.kill(os.getppid(), signal.SIGKILL)"""
MEASURED = "gpu_admission.device_memory = lambda device: (10, free)  # as if there were a device"
FULL = """if not self.training and room(self.folder, self.times):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 is full.")"""
TRACED = """if self.training and not STARTED:
            STARTED.append(room(self.folder, 1000))"""
ENDLESS = """if self.training and room(self.folder, 1000):
            time.sleep(1000)"""

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from survbench.experiments.executors.local import start_ahead
start_ahead()
try:
    time.sleep(0.3)  # the server is importing by now
    os.killpg(0, signal.SIGINT)  # as a terminal does
    time.sleep(60)
except KeyboardInterrupt:
    pass
import torch
from survbench.data.root import DataRoot
from survbench.experiments.dispatch import run_jobs
from survbench.experiments.plan import Request, plan
from survbench.experiments.mlflow.tracking import Mirror
from survbench.registry import load_registry
torch.set_num_threads(2)
torch.nn.Linear(500, 500)(torch.ones(500, 500)).sum().backward()
root, out, model, folder = sys.argv[1:]
overrides = {"epochs": 1, "patience": 1, "folder": folder} if folder else {"epochs": 1, "patience": 1}
task = {"cohorts": ["stad"], "endpoint": "os", "scheme": "event-stratified", "folds": (0, 1)}
request = Request(models=[model], **task, overrides=overrides)
jobs = plan(request, load_registry(), DataRoot.open(Path(root)))
print(run_jobs(jobs, Path(out), torch.device("cpu"), Mirror(Path(out), "test", enabled=False), workers=2).done)
"""


class Watched(GpuAdmission):
    """Remembers which jobs ran at once, each time that one began."""

    def __init__(self, most: int, budget: float | None = None) -> None:
        super().__init__(most, budget)
        self.now: list[str] = []
        self.seen: list[tuple[str, ...]] = []

    def begin(self, job: str, model: str) -> None:
        super().begin(job, model)
        self.now.append(job)
        self.seen.append(tuple(self.now))

    def end(self, job: str) -> None:
        super().end(job)
        self.now.remove(job)


def planned(root: DataRoot, models: list[str], folds: tuple[int, ...] = (), **settings: object) -> list[Job]:
    request = Request(
        models=models,
        cohorts=["stad"],
        endpoint="os",
        scheme="event-stratified",
        folds=folds,
        overrides={**TINY, **settings},
    )
    return plan(request, load_registry(), root)


def run(jobs: list[Job], out: Path, workers: int, threads: int | None = None) -> Summary:
    return run_jobs(jobs, out, CPU, Mirror(out, "test", enabled=False), workers=workers, threads=threads)


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a model that does something at its start or at work; gives its file and the settings of its traces."""
    monkeypatch.setattr(gpu_admission, "device_memory", gpu_admission.device_memory)  # a model replaces it here, too

    def write(at_work: str, at_start: str = "") -> tuple[list[str], dict[str, str]]:
        (tmp_path / "traces").mkdir()
        (tmp_path / "planted.py").write_text(MODEL.format(at_work=at_work, at_start=at_start))
        return [str(tmp_path / "planted.py")], {"folder": str(tmp_path / "traces")}

    return write


def traces(folder: dict[str, str]) -> list[tuple[int, int, str]]:
    """Process, parent and the variable TRACE of each process that left a trace."""
    found = [file.name.split("-") for file in Path(folder["folder"]).iterdir()]
    return [(int(process), int(parent), text) for process, parent, text, _ in found]


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(processes: set[int]) -> bool:
    """Whether processes end within seconds."""
    deadline = time.time() + 15
    while any(map(lives, processes)) and time.time() < deadline:
        time.sleep(0.05)
    return not any(map(lives, processes))


def contents(out: Path) -> dict[str, bytes]:
    """Everything that a job computes; job.json has its seconds besides."""
    return {
        f"{folder.name}/{file}": (folder / file).read_bytes()
        for folder in out.glob("jobs/*/*/*")
        for file in ("model.safetensors", "fitted.json", "history.parquet", "predictions.parquet", "metrics.json")
    }


def test_a_spec_is_a_small_json_value(small_root: DataRoot, tmp_path: Path) -> None:
    for job in planned(small_root, ["amkd", "cox_clinical"], (1,)):
        spec = JobSpec.of(job, tmp_path, "cpu", 2)
        text = json.dumps(asdict(spec))
        again = JobSpec(**json.loads(text))
        assert len(text) < 10_000
        assert json.dumps(asdict(again)) == text
        assert again.load().id == job.id
        assert json.dumps(again.load().plain()) == json.dumps(job.plain())


@pytest.mark.slow
def test_results_do_not_depend_on_processes(
    small_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [*planned(small_root, ["amkd"], (0,)), *planned(small_root, ["snn", "coxnet_pathways"], (1,))]
    for workers in (1, 2):
        summary = run(jobs, tmp_path / str(workers), workers)
        assert (summary.done, summary.skipped, summary.failed) == (3, 0, [])
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    assert run(jobs, tmp_path / "2", 2).skipped == 3
    assert not list((tmp_path / "2" / "scratch").iterdir())
    records = [json.loads(file.read_text()) for file in tmp_path.glob("*/jobs/*/*/*/job.json")]
    assert {record["hardware"]["threads"] for record in records} == {1}
    monkeypatch.setattr(local, "FORKED", ())  # as on CUDA and on macOS
    assert run(jobs[1:], tmp_path / "new", 2).done == 2
    assert contents(tmp_path / "new").items() < contents(tmp_path / "1").items()


def test_each_job_has_a_process_of_its_own_from_a_server_that_knows_none_of_them(
    small_root: DataRoot, tmp_path: Path, planted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, folder = planted(TRACED)
    start_ahead()
    monkeypatch.setenv("TRACE", "seen")  # by processes whose server began before
    assert run(planned(small_root, models, **folder), tmp_path / "out", 2).done == 5
    processes, parents, texts = zip(*traces(folder), strict=True)
    assert len(set(processes)) == 5
    (server,) = set(parents)
    assert server != os.getpid()
    assert set(texts) == {"seen"}
    if sys.platform == "linux":
        assert len(list(Path(f"/proc/{server}/task").iterdir())) == 1
        opened = Path(f"/proc/{server}/maps").read_text()
        assert "torch" in opened
        assert str(small_root.path) not in opened
        assert gone(set(processes))


def test_where_nothing_can_be_forked_each_job_is_a_process_that_began_anew(
    small_root: DataRoot, tmp_path: Path, planted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, folder = planted(TRACED)
    monkeypatch.setattr(local, "FORKED", ())
    assert run(planned(small_root, models, (0, 1), **folder), tmp_path / "out", 1).done == 2
    assert len({process for process, _, _ in traces(folder)}) == 2
    assert {parent for _, parent, _ in traces(folder)} == {os.getpid()}


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_killed_process_costs_at_most_its_own_job(
    small_root: DataRoot, tmp_path: Path, planted: Any, deaths: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed once, the job is done all the same; killed twice, it is a failure that the leaderboard can show."""
    models, folder = planted(KILLED)
    fragile = planned(small_root, models, (0,), times=deaths, **folder)
    summary = run([*fragile, *planned(small_root, ["snn"])], tmp_path / "out", 2)
    assert len(traces(folder)) == deaths
    assert "goes on in a new one" in capsys.readouterr().err
    assert summary.done == (6 if deaths == 1 else 5)
    assert [failure.partition(": ")[2][:11] for failure in summary.failed] == ["its process"] * (deaths - 1)
    assert len(list((tmp_path / "out").glob("failures/planted/*/*.json"))) == deaths - 1


def test_a_killed_server_costs_nothing(small_root: DataRoot, tmp_path: Path, planted: Any) -> None:
    models, folder = planted(SERVER_KILLED)
    summary = run(planned(small_root, models, times=2, **folder), tmp_path / "out", 2)
    assert (summary.done, summary.failed) == (5, [])
    assert len(traces(folder)) == 2


def test_a_task_that_fails_says_why(planted: Any) -> None:
    with pytest.raises(TaskFailed, match="KeyError: <function"):
        call(operator.getitem, {}, "cpu")


def test_a_failure_in_a_process_is_recorded(
    small_root: DataRoot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [
        *planned(small_root, ["snn"], (0,), learning_rate=1e13),
        *planned(small_root, ["snn"], (1,), learning_rate=1e12),
        *planned(small_root, ["snn"], (2,)),
    ]
    summary = run(jobs, tmp_path, 2)
    assert summary.done == 1
    assert len(summary.failed) == len(list(tmp_path.glob("failures/snn/*/*.json"))) == 2
    assert capsys.readouterr().err.count("failed: ") == 2  # said by this process


@pytest.mark.parametrize(
    ("most", "budget", "free", "began"),
    [(3, None, 90, [1, 2, 3]), (8, None, 23, [1, 2]), (8, None, 0, [1, 1]), (2, math.inf, 0, [1, 2])],
)
def test_as_many_jobs_as_a_device_holds(
    small_root: DataRoot, tmp_path: Path, planted: Any, most: int, budget: float | None, free: int, began: list[int]
) -> None:
    """One until it is measured, then as many as fit."""
    models, folder = planted("pass", MEASURED)
    jobs = planned(small_root, models, epochs=3, free=free, **folder)
    admission, shown = Watched(most, budget), dict[int, list[Any]]()
    executor = LocalExecutor(admission, lambda slot, progress: shown.setdefault(slot, []).append(progress))
    outcomes = list(executor.run([JobSpec.of(job, tmp_path, "cpu", 1) for job in jobs]))
    assert [outcome.status for _, outcome in outcomes] == ["done"] * 5
    assert {spec.id for spec, _ in outcomes} == {job.id for job in jobs}
    together = [len(jobs) for jobs in admission.seen]
    assert together[: len(began)] == began
    assert max(together) == began[-1]
    assert len(admission) == 0
    assert len(shown) == began[-1]
    for messages in shown.values():
        assert messages[0]["total"] == 3
        assert not messages[-1]


@pytest.mark.parametrize("times", [1, 2])
def test_a_job_that_finds_the_device_full_is_tried_again_alone(
    small_root: DataRoot, tmp_path: Path, planted: Any, times: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Alone and still without memory it fails, and says what may help."""
    models, folder = planted(FULL, MEASURED)
    hungry = planned(small_root, models, (0,), times=times, **folder)
    jobs = [*hungry, *planned(small_root, ["snn"])]
    summary = run(jobs, tmp_path / "out", 2)
    assert len(traces(folder)) == times
    assert capsys.readouterr().err.count("goes on when fewer jobs run beside it") == 1
    assert summary.done == (6 if times == 1 else 5)
    assert len(list((tmp_path / "out").glob("failures/planted/*/*.json"))) == len(summary.failed) == times - 1
    for failure in summary.failed:
        assert "Tried to allocate 2.50 GiB. try" in failure
        assert "--set batch_size" in failure
        assert "--workers 1" in failure


def test_a_job_without_memory_fails_at_once_where_it_is_alone(
    small_root: DataRoot, tmp_path: Path, planted: Any
) -> None:
    models, folder = planted(FULL, MEASURED)
    hungry = planned(small_root, models, (0,), times=1, **folder)
    assert "--set batch_size" in run(hungry, tmp_path / "out", 1).failed[0]
    assert run(hungry, tmp_path / "out", 1).done == 1  # given the same command again
    assert run(hungry, tmp_path / "other", 1).done == 1
    assert contents(tmp_path / "out") == contents(tmp_path / "other")


def test_data_that_change_under_a_command_are_noticed(small_root: DataRoot, tmp_path: Path) -> None:
    jobs = planned(small_root, ["snn"], (0, 1))
    expression = jobs[0].cohort.expression
    assert expression is not None
    changed = replace(jobs[0].cohort, expression=expression + 1)
    summary = run([replace(job, cohort=changed) for job in jobs], tmp_path, 2)
    assert len(summary.failed) == len(list(tmp_path.glob("failures/snn/*/*.json"))) == 2
    assert "changed since the command began" in summary.failed[0]


def test_finished_jobs_are_mirrored_here_once_each(small_root: DataRoot, tmp_path: Path) -> None:
    class Noted:
        def __init__(self) -> None:
            self.folders: list[Path] = []

        def log(self, folder: Path) -> None:
            self.folders.append(folder)

    jobs = planned(small_root, ["snn"], (0, 1))
    for _ in range(2):  # also those that were done before
        mirror: Any = Noted()
        run_jobs(jobs, tmp_path, CPU, mirror, workers=2)
        assert len(mirror.folders) == 2
        assert set(mirror.folders) == set(tmp_path.glob("jobs/*/*/*"))


def test_jobs_that_may_share_a_teacher_are_not_begun_together(small_root: DataRoot, tmp_path: Path) -> None:
    registry = load_registry()
    request = Request(models=["amkd"], cohorts=["stad"], endpoint="os", scheme="event-stratified", overrides=TINY)
    jobs = all_jobs(plan_study(find_study("alpha", "amkd", registry), request, registry, small_root))
    folds = {job.id: job.fold.index for job in jobs}
    only = [job for job in jobs if job.fold.index == 0]
    for number, (some, expected) in enumerate([(jobs, (0, 1)), (only, (0, 0))]):  # better two of one fold than one job
        admission = Watched(2, math.inf)
        specs = [JobSpec.of(job, tmp_path / str(number), "cpu", 1) for job in some]
        with closing(LocalExecutor(admission, lambda *_: None).run(specs)) as outcomes:
            next(outcomes)
        assert tuple(folds[job] for job in admission.seen[1]) == expected


def test_closing_the_iterator_ends_what_runs(small_root: DataRoot, tmp_path: Path, planted: Any) -> None:
    models, folder = planted(ENDLESS)
    jobs = [*planned(small_root, ["snn"], (0,)), *planned(small_root, models, (1, 2), **folder)]
    specs = [JobSpec.of(job, tmp_path, "cpu", 1) for job in jobs]
    with closing(LocalExecutor(GpuAdmission(3, math.inf), lambda *_: None).run(specs)) as outcomes:
        assert next(outcomes)[0].model == "snn"
        began = time.time()
        while len(traces(folder)) < 2 and time.time() < began + 60:
            time.sleep(0.05)
        began = time.time()
    assert time.time() - began < 2
    assert gone({process for process, _, _ in traces(folder)})


def script(tmp_path: Path, *arguments: object) -> list[str]:
    (tmp_path / "script.py").write_text(SCRIPT)
    return [sys.executable, str(tmp_path / "script.py"), *map(str, arguments)]


@pytest.mark.slow
def test_a_script_needs_no_main_guard_and_ctrl_c_reaches_no_server(small_root: DataRoot, tmp_path: Path) -> None:
    command = script(tmp_path, small_root.path, tmp_path / "out", "snn", "")
    done = subprocess.run(command, capture_output=True, text=True, start_new_session=True, timeout=200, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "2"), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_process_outlives_the_user_s(small_root: DataRoot, tmp_path: Path, planted: Any) -> None:
    (model,), folder = planted(ENDLESS)
    command = script(tmp_path, small_root.path, tmp_path / "out", model, folder["folder"])
    with subprocess.Popen(command, start_new_session=True) as process:
        deadline = time.time() + 120
        while len(traces(folder)) < 2 and process.poll() is None and time.time() < deadline:
            time.sleep(0.05)
        assert len(traces(folder)) == 2
        process.send_signal(signal.SIGKILL)
    assert gone({number for process, parent, _ in traces(folder) for number in (process, parent)})


def test_jobs_have_threads_of_their_own_though_this_process_has_used_torch(
    small_root: DataRoot, tmp_path: Path
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.nn.Linear(1000, 1000)(torch.ones(1000, 1000)).sum().backward()
        summary = run(planned(small_root, ["mcat", "coxnet_pathways"], (0,)), tmp_path, 2, threads=2)
    finally:
        torch.set_num_threads(before)
    assert summary.done == 2
    records = [json.loads(file.read_text()) for file in tmp_path.glob("jobs/*/*/*/job.json")]
    assert [record["hardware"]["threads"] for record in records] == [2, 2]


def test_what_a_signal_does_is_as_before() -> None:
    before = signal.getsignal(signal.SIGINT), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    start_ahead()
    start_ahead()
    assert (signal.getsignal(signal.SIGINT), signal.pthread_sigmask(signal.SIG_BLOCK, ())) == before


def test_as_many_workers_as_the_machine_can_bear() -> None:
    assert sensible_workers(CPU) >= 1
    assert sensible_workers(torch.device("meta")) == 1


@pytest.mark.parametrize(
    ("workers", "device", "jobs", "most", "measured"),
    [
        (None, "cuda", 100, MOST, True),
        (None, "cuda:1", 3, 3, True),
        (4, "cuda", 100, 4, False),
        (None, "mps", 100, 1, False),
        (None, "cpu", 100, 16, False),
        (20, "cpu", 5, 5, False),
    ],
)
def test_only_on_cuda_and_unasked_memory_is_measured(
    monkeypatch: pytest.MonkeyPatch, workers: int | None, device: str, jobs: int, most: int, measured: bool
) -> None:
    monkeypatch.setattr(gpu_admission, "bearable_workers", lambda: 16)
    admission = admission_of(workers, torch.device(device), jobs)
    assert (admission.most, admission.budget is None) == (most, measured)
