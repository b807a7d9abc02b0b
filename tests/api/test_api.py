"""The door from Python: what is exported, what it gives, and what it says where something is wrong."""

from __future__ import annotations

import errno
import importlib
import inspect
import math
import pkgutil
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import survbench
from support.toy import TINY
from survbench import api
from survbench.cards import Modality, ModelCard, ModelGroup
from survbench.cli import cli, main
from survbench.data.root import DataRoot
from survbench.errors import BadConfig, BadModel, SurvbenchError, UnknownName
from survbench.model import SurvivalModel
from survbench.training.steps import predict_logits

MODEL = """
import torch
from survbench.model import Modality, ModelCard, ModelGroup, Prediction, SurvivalModel

class Constant(SurvivalModel):
    card = ModelCard(name="constant", title="Constant", modality=ModelGroup.OMICS,
                     train_inputs=(Modality.EXPRESSION,), inference_inputs=(Modality.EXPRESSION,))

    def __init__(self, inputs, outputs):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.zeros(outputs))

    def forward(self, batch):
        return Prediction(FACTOR * batch.expression[:, :1] + self.slope)
"""


@pytest.fixture(scope="module")
def options(small_root: DataRoot, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of all calls: the small data root, a folder of results, little training."""
    return {"data": small_root.path, "out": tmp_path_factory.mktemp("api") / "out", "settings": TINY}


@pytest.fixture(scope="module")
def results(options: dict[str, Any]) -> survbench.Results:
    return survbench.run(["abmil", "snn"], "stad", workers=1, **options)


@pytest.fixture
def empty(tmp_path: Path) -> survbench.Results:
    return survbench.load_results(tmp_path)


def test_every_export_is_called_after_every_module_was_imported(small_root: DataRoot, tmp_path: Path) -> None:
    """An export with the name of a subpackage would be replaced by it."""
    for module in pkgutil.walk_packages(survbench.__path__, "survbench."):
        importlib.import_module(module.name)
    assert all(getattr(survbench, name) is getattr(api, name) for name in survbench.__all__)
    assert set(survbench.__all__) <= set(api.__all__)
    data = {"data": small_root.path}
    nothing = survbench.load_results(tmp_path)
    assert isinstance(nothing, survbench.Results)
    calls: dict[str, Callable[[], Any]] = {
        "ablate": lambda: survbench.ablate("loses", **data),
        "compare": lambda: survbench.compare(out=tmp_path),
        "load_cohort": lambda: survbench.load_cohort("stat", **data),
        "predict": lambda: survbench.predict(nothing, "snn", "stad"),
        "run": lambda: survbench.run("amdk", **data),
        "tune": lambda: survbench.tune("amdk", **data),
    }
    assert set(calls) == set(survbench.__all__) - {"Results", "load_results"}
    for call in calls.values():
        with pytest.raises(SurvbenchError) as refused:
            call()
        assert "\n" not in str(refused.value)


def test_importing_is_light() -> None:
    code = (
        "import sys, survbench; assert survbench.run and survbench.Results;"
        "heavy = {'torch', 'pandas', 'numpy', 'mlflow', 'matplotlib', 'rich'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_cohort_says_what_it_is(small_root: DataRoot) -> None:
    cohort = survbench.load_cohort("stad", data=small_root.path)
    assert repr(cohort).startswith(f"Cohort stad: {len(cohort.patients)} patients, ")
    assert repr(cohort).endswith("(os); clinical, expression, slides; simulated")


def test_results_say_what_they_are_in_a_few_lines(results: survbench.Results, empty: survbench.Results) -> None:
    assert repr(results).splitlines() == [
        f"Results in {results.out}: 10 jobs done, 0 failed",
        "models: abmil, snn; cohorts: stad; endpoint: os; folds: event-stratified",
        "demo (simulated)",
    ]
    assert repr(empty).endswith("nothing yet")
    assert (len(empty.jobs), len(empty.leaderboard()), empty.failed) == (0, 0, [])


def test_the_board_is_a_data_frame(results: survbench.Results) -> None:
    board = results.leaderboard()
    assert list(board["model"]) == ["abmil", "snn"]
    assert set(board["source"]) == {"measured"}
    assert board["simulated"].all()
    for _, row in board.iterrows():
        folds = results.board.rows[0 if row["model"] == "abmil" else 1].metrics["cindex"].per_fold
        assert row["mean"] == pytest.approx(np.mean(folds))
        assert row["sd_sample"] == pytest.approx(np.std(folds, ddof=1))
    beside = results.leaderboard(published=True)
    assert set(beside["source"]) == {"measured", "published"}
    assert beside.loc[beside["source"] == "published", "simulated"].eq(False).all()
    assert set(results.leaderboard("uno_c")["metric"]) == {"uno_c"}
    assert list(results.select(models="snn").leaderboard()["model"]) == ["snn"]


def test_a_comparison_is_a_data_frame(results: survbench.Results) -> None:
    (row,) = results.compare("abmil", "snn").to_dict("records")
    means = results.leaderboard().set_index("model")["mean"]
    assert row["difference"] == pytest.approx(means["abmil"] - means["snn"])
    assert row["low"] < row["difference"] < row["high"]
    assert row["patient_low"] < row["patient_high"]
    assert row["p_holm"] == row["p"]
    whole = survbench.compare(["abmil", "snn"], out=results.out)
    assert whole.to_dict("records") == [row]


def test_a_figure_is_no_files_and_leaves_pyplot_alone(results: survbench.Results) -> None:
    from matplotlib import pyplot as plt

    figure = results.km("snn", "stad")
    assert "SNN on stad · demo (simulated)" in figure.axes[0].get_title()
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    assert not plt.get_fignums()
    assert not (results.out / "figures").exists()


def test_predictions_are_those_of_the_model(results: survbench.Results) -> None:
    table = results.predictions("snn", "stad", fold=1)
    assert set(table["split"]) == {"train", "val", "test"}
    assert set(results.jobs["fold"]) == set(range(5))
    tests = results.predictions("snn").query("split == 'test'")
    assert tests["patient"].is_unique
    assert len(tests) == len(table)
    assert all(len(row["survival"]) == len(row["grid"]) for _, row in table.iterrows())
    job = next(job for job in results.planned("snn", "stad") if job.fold.index == 1)
    split = job.cohort.split(job.fold.test, job.cohort.scaler(job.fold))
    model = results.model("snn", "stad", fold=1)
    assert not model.training
    logits = predict_logits(model, split, job.card.inference_inputs, torch.device("cpu"))
    stored = table.query("split == 'test'")
    assert list(stored["patient"]) == list(split.patients)
    assert np.array_equal(logits[:, 0].numpy(), stored["risk"].to_numpy(np.float32))


def test_what_models_looked_at(results: survbench.Results) -> None:
    ranking = results.pathways("snn", "stad", by="attribution", steps=4)
    assert ranking["mean"].is_monotonic_decreasing
    assert {"direction", "genes"} <= set(ranking)
    assert "ABMIL on stad" in results.heatmap("abmil", "stad").get_suptitle()
    with pytest.raises(BadConfig, match="attends to no pathways"):
        results.pathways("snn", "stad")


def test_another_cohort_is_predicted_with_frozen_models(results: survbench.Results, small_root: DataRoot) -> None:
    table = survbench.predict(results, "snn", "crad")
    cohort = survbench.load_cohort("crad", data=small_root.path)
    assert len(table) == 5 * len(cohort.patients)
    assert set(table["cohort"]) == {"stad"}
    assert survbench.predict(results, "snn", cohort).equals(table)
    (row,) = results.select(models="snn").external_validation
    assert (row.train, row.test, row.models) == ("stad", "crad", 5)


def test_results_on_disk_are_the_same_results(results: survbench.Results, small_root: DataRoot) -> None:
    again = survbench.load_results(results.out, data=small_root.path)
    assert again.leaderboard().equals(results.leaderboard())
    assert again.predictions("snn", fold=0).equals(results.predictions("snn", fold=0))
    assert len(again.planned("snn")) == 5
    demo = replace(results, data=small_root.path.parent / "nowhere")
    with pytest.raises(SurvbenchError, match="nowhere"):
        demo.planned("snn")


def test_configurations_are_told_apart(options: dict[str, Any], results: survbench.Results, tmp_path: Path) -> None:
    out = tmp_path / "out"  # of its own: other tests read the shared folder, in any order
    shutil.copytree(results.out, out)
    wide = {**options, "out": out, "settings": {**TINY, "width": 32}}
    both = survbench.run("snn", "stad", workers=1, only_folds=0, **wide)
    with pytest.raises(BadConfig, match="2 configurations"):
        both.planned("snn")
    assert len(both.planned("snn", settings={"width": 32})) == 1
    assert both.model("snn", "stad", settings={"width": 32}).training is False
    assert len(both.predictions("snn", fold=0)) == 2 * len(results.predictions("snn", fold=1))


def test_what_is_incomplete_is_said(
    options: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = survbench.run("snn", "stad", only_folds=0, workers=1, **{**options, "out": tmp_path})
    assert part.leaderboard().empty
    assert "incomplete: fold 1, 2, 3, 4 of seed 0 missing" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(BadConfig, match="no complete row"):
        part.km("snn", "stad")
    assert len(part.predictions()) > 0


def test_a_job_that_fails_does_not_raise(options: dict[str, Any], tmp_path: Path) -> None:
    broken = {**options, "out": tmp_path, "settings": {**TINY, "learning_rate": 1e12}}
    results = survbench.run("snn", "stad", only_folds=[0, 1], workers=1, **broken)
    assert len(results.failed) == 2
    assert results.failed[0].startswith("snn stad fold 0 seed 0: ")
    assert set(results.jobs["status"]) == {"failed"}
    assert len(survbench.load_results(tmp_path).failed) == 2
    assert math.isnan(results.leaderboard()["mean"].iloc[0])


def test_a_class_is_found_by_its_file_or_its_name(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "my_own_model.py"
    file.write_text(MODEL.replace("FACTOR", "1"))
    model = importlib.import_module("my_own_model").Constant
    chosen = {**options, "out": tmp_path / "out", "workers": 1, "only_folds": 0}
    first = survbench.run(model, "stad", **chosen)
    assert list(first.jobs["model"]) == ["constant"]
    assert isinstance(first.model(model, "stad"), SurvivalModel)
    file.write_text(MODEL.replace("FACTOR", "-1"))  # as in a notebook beside an editor
    second = survbench.run(str(file), "stad", **chosen)
    assert len(second.jobs) == 2
    one, other = (table["risk"].to_numpy() for _, table in second.predictions().groupby("job"))
    assert np.corrcoef(one, other)[0, 1] == pytest.approx(-1)
    snn = importlib.import_module("baselines.snn").SNN
    assert list(survbench.run(snn, "stad", **chosen).jobs["model"]) == ["snn"]


def test_a_model_file_that_ends_the_process_is_refused(options: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "ends.py"
    file.write_text("import sys; sys.exit(3)")
    with pytest.raises(BadModel, match="SystemExit: 3"):
        survbench.run(str(file), "stad", **options)


def test_a_deleted_folder_is_a_line(options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(BadConfig, match="the current folder cannot be used"):
        survbench.run("snn", "stad", **options)
    with pytest.raises(SystemExit) as end:
        main(["models"])
    assert end.value.code == 2
    monkeypatch.chdir(tmp_path)


def test_the_import_path_may_hold_paths(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path])
    results = survbench.run("snn", "stad", only_folds=0, workers=1, **{**options, "out": tmp_path})
    assert results.failed == []


def test_nobody_need_listen(options: dict[str, Any], tmp_path: Path) -> None:
    """Streams that are closed take what is said."""
    settings = " ".join(f"--set {key}={value}" for key, value in TINY.items())
    command = f"run -m snn -c stad --only-folds 0 --no-mlflow --data {options['data']} --out {tmp_path} {settings}"
    for closed in (">&-", "<&- >&- 2>&-"):
        done = subprocess.run(f"{sys.executable} -m survbench {command} {closed}", shell=True, stderr=subprocess.PIPE)
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert len(survbench.load_results(tmp_path).jobs) == 1


@pytest.mark.parametrize(
    "error", [OSError(errno.ENAMETOOLONG, "File name too long", "x"), UnicodeEncodeError("ascii", "\u03b1", 0, 1, "no")]
)
def test_what_a_system_refuses_is_a_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(cli, "main", refuse)
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_class_that_other_processes_cannot_import_is_refused(options: dict[str, Any]) -> None:
    card = ModelCard("mine", "Mine", ModelGroup.OMICS, (Modality.EXPRESSION,), (Modality.EXPRESSION,))
    model = type("Mine", (SurvivalModel,), {"__module__": "__main__", "card": card})
    with pytest.raises(BadModel, match=r"save it as my_model\.py and give models=\['my_model\.py'\]"):
        survbench.run(model, "stad", **options)


def test_settings_are_tuned(options: dict[str, Any], tmp_path: Path) -> None:
    space = {"learning_rate": {"low": 1e-4, "high": 1e-3, "log": True}}
    chosen = {**options, "out": tmp_path, "only_folds": 0, "settings": {"epochs": 1, "patience": 1}}
    (best,) = survbench.tune("snn", "stad", trials=2, search=space, **chosen)
    assert best.trials == 2
    assert best.preset.is_file()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda o, r: survbench.run("amdk", **o), "Did you mean 'amkd'"),
        (lambda o, r: survbench.run("snn", "stat", **o), "Did you mean 'stad'"),
        (lambda o, r: survbench.run([], "stad", **o), "models is empty"),
        (lambda o, r: survbench.run("snn", "stad", seeds=[], **o), "seeds is empty"),
        (lambda o, r: survbench.run(3, **o), "models is 3"),
        (lambda o, r: survbench.run("snn", ["stad", None], **o), "cohorts is ['stad', None]"),
        (lambda o, r: survbench.run("snn", "stad", seeds="a", **o), "seeds is 'a'"),
        (lambda o, r: survbench.run("snn", "stad", workers=0, **o), "workers is 0"),
        (lambda o, r: survbench.run("snn", "stad", threads=1.5, **o), "threads is 1.5"),
        (lambda o, r: survbench.run("snn", "stad", **{**o, "settings": ["a"]}), "settings is ['a']"),
        (lambda o, r: survbench.run("snn", "stad", **{**o, "settings": {"widht": 3}}), "widht"),
        (lambda o, r: survbench.run("snn", "stad", scheme="official", **o), "Unknown fold scheme 'official'"),
        (lambda o, r: survbench.run("snn", "stad", test="stad", **o), "both stad"),
        (lambda o, r: survbench.tune("snn", "stad", trials=0, **o), "trials is 0"),
        (lambda o, r: survbench.load_cohort("*", data=o["data"]), "names 2 cohorts"),
        (lambda o, r: survbench.load_cohort("stad", data=o["data"], endpoint="dss"), "dss"),
        (lambda o, r: r.leaderboard("accuracy"), "Unknown metric"),
        (lambda o, r: r.compare("snn", "nobody"), "no result of a model 'nobody'"),
        (lambda o, r: r.km("snn", "crad"), "Unknown cohort 'crad'"),
        (lambda o, r: r.model("snm", "stad"), "Did you mean 'snn'"),
        (lambda o, r: r.model("snn", "stad", fold=7), "fold 7"),
        (lambda o, r: r.predictions(seed=3), "seed 3"),
        (lambda o, r: r.pathways("snn", "stad", by="chance"), "choose attention or attribution"),
        (lambda o, r: survbench.predict(r, "snn", "stad"), "both stad"),
        (lambda o, r: r.planned("snn", settings={"widht": 32}), "has a setting 'widht'"),
    ],
)
def test_mistakes_are_one_line(
    call: Callable[..., Any], said: str, options: dict[str, Any], results: survbench.Results
) -> None:
    with pytest.raises((BadConfig, UnknownName, SurvbenchError)) as refused:
        call(options, results)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def run(**wrong: Any) -> Callable[..., Any]:
    """A call to `run` with something wrong in it."""
    return lambda o, r: survbench.run(**{"models": "snn", "cohorts": "stad", **o, **wrong})


def tune(**wrong: Any) -> Callable[..., Any]:
    return lambda o, r: survbench.tune(**{"models": "snn", "cohorts": "stad", "trials": 1, **o, **wrong})


def of(method: str, *arguments: Any, **more: Any) -> Callable[..., Any]:
    """A call to a method of results."""
    return lambda o, r: getattr(r, method)(*arguments, **more)


WRONG: dict[str, list[Any]] = {
    "models": [None, 5, [None], {"snn": 1}, [], Path("missing.py"), int],
    "cohorts": [None, 5, [5], [], Path("stad")],
    "endpoint": [5, ["os"], ""],
    "scheme": [None, 5, [], "", "../official"],
    "only_folds": ["0", -1, True, 1.0],
    "seeds": [-1, True, [0, True], "0", [], None, 1.5],
    "objective": [None, 5, [], ""],
    "preset": [5, [], Path("missing.yaml"), "missing.yaml", ""],
    "settings": [5, [1], {1: 2}, {"width": {1, 2}}, {"width": object()}, {"epochs": "a"}, {"epochs": math.nan}],
    "test": [5, ["crad"], ""],
    "data": [5, [], "", "missing", "a\0b"],
    "out": [None, 5, [], "", "a\0b", "/proc/x", "/dev/null/x", "x" * 300],
    "device": [None, 5, [], "", "abacus"],
    "registry": [5, [5], "missing.yaml", None],
    "workers": [0, -1, 1.0, "2", True, []],
    "threads": [0, 1.5, "1", True],
    "mlflow": [None, 5, []],
}
SEARCH = [5, [1], {"width": 5}, {"width": ["a"]}, {"width": {}}, {"width": {"choices": 5}}, {"width": {"choices": []}}]
SEARCH += [{1: {}}, {"width": {"low": "a", "high": "b"}}, {"width": {"low": 1, "high": object()}}]


@pytest.mark.parametrize(
    "call",
    [
        *(run(**{name: value}) for name, values in WRONG.items() for value in values),
        *(tune(trials=value) for value in (0, -1, 1.5, "1", None, True)),
        *(tune(search=value) for value in SEARCH),
        *(tune(name=value) for value in (5, "", ".", "..", "a/b", "../a", "/a", "a\0b", Path("a"))),
        *(tune(**{name: []}) for name in ("models", "cohorts", "seeds")),
        *(lambda o, r, v=value: survbench.load_cohort(v, data=o["data"]) for value in (None, 5, ["stad"], "")),
        *(lambda o, r, v=value: survbench.load_results(v) for value in (None, 5, [], "")),
        *(lambda o, r, v=value: survbench.ablate(v, data=o["data"]) for value in (None, 5, [], "")),
        lambda o, r: survbench.ablate("losses", 5, data=o["data"]),
        *(lambda o, r, v=value: survbench.predict(v, "snn", "crad") for value in (None, "out", 5)),
        *(lambda o, r, v=value: survbench.predict(r, v, "crad") for value in (None, 5, [])),
        *(lambda o, r, v=value: survbench.predict(r, "snn", v) for value in (None, 5, ["crad"])),
        *(lambda o, r, v=value: survbench.predict(r, "snn", "crad", train=v) for value in (5, [])),
        *(lambda o, r, v=value: survbench.predict(r, "snn", "crad", settings=v) for value in (5, {"widht": 1})),
        *(lambda o, r, v=value: survbench.compare(v, out=r.out) for value in (None, 5, [5])),
        *(lambda o, r, v=value: survbench.compare(out=r.out, settings=v) for value in (5, [1], {"widht": 1})),
        *(of("compare", "snn", value) for value in (None, 5)),
        *(of("predictions", fold=value) for value in ("0", -1, True, 0.0)),
        *(of("predictions", seed=value) for value in ("0", [0])),
        *(of("predictions", value) for value in (5, ["snn"])),
        *(of("model", "snn", "stad", settings=value) for value in (5, [1], {"widht": 1}, {1: 1})),
        *(of("model", value, "stad") for value in (None, 5, [], int, Path("missing.py"))),
        *(of("model", "snn", "stad", device=value) for value in (None, [], "abacus")),
        *(of("select", **{key: value}) for key in ("endpoint", "scheme", "models", "cohorts") for value in (5, [5])),
        *(of("add_predictions", value) for value in (None, 5, "missing.csv")),
        *(of("pathways", "snn", "stad", by="attribution", steps=value) for value in (0, "a", True, 1.5)),
        *(of("pathways", "snn", "stad", by=value) for value in (None, [])),
        *(of("heatmap", "abmil", "stad", value) for value in (5, "nobody")),
        *(of("km", value, "stad") for value in (None, 5, [])),
        *(of(method, value) for method in ("write", "write_page") for value in (None, 5, "/proc/x", "/dev/null/x")),
        *(of("check", value) for value in (None, 5, "missing")),
        *(of("leaderboard", value) for value in (None, 5, [])),
    ],
)
def test_wrong_arguments_are_refused_in_a_line(
    call: Callable[..., Any], options: dict[str, Any], results: survbench.Results
) -> None:
    with pytest.raises(SurvbenchError) as refused:
        call(options, results)
    assert "\n" not in str(refused.value)


def test_right_arguments_of_several_kinds(options: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MODEL.replace("FACTOR", "1"))
    number, place = np.int64(1), {**options, "out": str(tmp_path / "out")}
    given = {"workers": number, "threads": number, "seeds": np.arange(1), "only_folds": np.int64(0)}
    results = survbench.run(file, "stad", preset=None, **given, **place)
    assert results.failed == []
    assert isinstance(results.model(file, "stad"), SurvivalModel)


def test_models_are_compared_in_a_list_or_one_by_one(results: survbench.Results) -> None:
    assert results.compare(["snn", "abmil"]).equals(results.compare("snn", "abmil"))


def test_folders_that_cannot_be_read_are_named(
    results: survbench.Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(results.out, tmp_path / "out")
    whole = survbench.load_results(tmp_path / "out")
    folder = Path(whole.jobs["folder"][0])
    table = whole.predictions()
    (folder / "job.json").write_text("{")
    again = survbench.load_results(tmp_path / "out")
    assert set(whole.jobs["folder"]) - set(again.jobs["folder"]) == {str(folder)}
    assert len(again.predictions()) < len(table)
    assert "1 cannot be read" in repr(again).splitlines()[0]
    assert capsys.readouterr().err.count(f"warning: not read: {folder}: ") == 1


def test_the_old_name_of_an_argument_works_and_warns(
    results: survbench.Results, options: dict[str, Any], small_root: DataRoot
) -> None:
    with pytest.warns(DeprecationWarning, match=r"select\(folds=\.\.\.\) is now select\(scheme=\.\.\.\)") as warned:
        old = results.select(folds="event-stratified")  # type: ignore[call-arg]
    assert warned[0].filename == __file__
    assert old.scheme == "event-stratified"
    calls: list[Callable[..., Any]] = [
        lambda **o: survbench.run("snn", "stad", **options, **o),
        lambda **o: survbench.tune("snn", "stad", **options, **o),
        lambda **o: survbench.ablate("losses", cohorts="stad", **options, **o),
        lambda **o: api.fold_summaries("stad", data=small_root.path, **o),
    ]
    for call in calls:
        with pytest.warns(DeprecationWarning, match="scheme"), pytest.raises(SurvbenchError, match="'official'"):
            call(folds="official")
        with pytest.raises(BadConfig, match="folds and scheme are the same argument"):
            call(folds="official", scheme="official")
    assert "scheme : " in (survbench.run.__doc__ or "")
    assert "scheme" in inspect.signature(survbench.run).parameters


@pytest.mark.parametrize("wrong", [{"workerz": 1}, {"test": "crad"}, {"models": "snn"}])
def test_an_option_that_does_not_exist_is_a_type_error(wrong: dict[str, Any], options: dict[str, Any]) -> None:
    calls: list[Callable[..., Any]] = [
        lambda **o: survbench.tune("snn", "stad", **options, **o),
        lambda **o: survbench.ablate("losses", cohorts="stad", **options, **o),
        lambda **o: api.explain_pathways("snn", "stad", **options, **o),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=next(iter(wrong))):
            call(**wrong)
