"""The demo: the same for everybody, like real cohorts where it claims to be, and true to its stated truth."""

from __future__ import annotations

import hashlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from survbench.data.cohort import Simulated, load_cohort
from survbench.data.formats import read_features
from survbench.data.root import CohortFolder, DataRoot
from survbench.errors import BadFile
from survbench.simulation import demo as demo_module
from survbench.simulation.demo import RECIPES, build_demo, demo_root

NAMES = [recipe.name for recipe in RECIPES]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    return DataRoot.open(build_demo(tmp_path_factory.mktemp("demo") / "root", scale=0.5))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The demo with two small cohorts, and a cache folder of its own."""
    monkeypatch.setattr(demo_module, "RECIPES", tuple(replace(r, patients=12) for r in RECIPES[3:]))
    monkeypatch.setenv("SURVBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / f"demo-v{demo_module.VERSION}"


def contents(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def truth(folder: CohortFolder) -> tuple[pd.DataFrame, dict]:
    table = pd.read_csv(folder.path / "truth.csv", index_col="patient")
    return table, json.loads((folder.path / "truth.json").read_text())


def pooled(folder: CohortFolder, how: str = "mean") -> pd.DataFrame:
    """Mean or maximum over all patches of each patient."""
    bags = {
        patient: np.concatenate([read_features(file).features for file in slides["file"]]).astype(np.float64)
        for patient, slides in folder.slides().groupby("patient")
    }
    return pd.DataFrame({patient: getattr(bag, how)(axis=0) for patient, bag in bags.items()}).T


def harrell(time_: np.ndarray, event: np.ndarray, risk: np.ndarray) -> float:
    """By its definition; a censored patient outlives whoever died at the same time."""
    outlived = (time_[:, None] < time_[None]) | ((time_[:, None] == time_[None]) & ~event[None])
    comparable = event[:, None] & outlived
    agreement = (risk[:, None] > risk[None]) + 0.5 * (risk[:, None] == risk[None])
    return float(agreement[comparable].mean())


def test_two_builds_are_the_same_bytes(tmp_path: Path) -> None:
    first, second = (contents(build_demo(tmp_path / name, scale=0.15)) for name in ("one", "two"))
    assert first == second
    assert len(first) > 50


def test_a_patients_data_do_not_depend_on_who_else_is_generated(tmp_path: Path, root: DataRoot) -> None:
    small = DataRoot.open(build_demo(tmp_path / "small", scale=0.1))
    for name in NAMES:
        few, many = small.cohort(name), root.cohort(name)
        slides = few.slides()
        assert set(slides["slide"]) < set(many.slides()["slide"])
        for file in slides["file"]:
            assert file.read_bytes() == (many.path / file.relative_to(few.path)).read_bytes()
        expression, larger = few.expression(), many.expression()
        assert expression is not None
        assert larger is not None
        pd.testing.assert_frame_equal(expression, larger.loc[expression.index])
        covariates = ["site", "age", "sex", "stage", "grade"]
        pd.testing.assert_frame_equal(few.patients()[covariates], many.patients().loc[few.patients().index, covariates])


def test_the_root_says_that_it_is_simulated(root: DataRoot) -> None:
    assert (root.name, root.simulated) == ("demo", True)
    assert root.cohorts() == sorted(NAMES)
    for name in NAMES:
        info = root.cohort(name).info
        assert info.simulated
        assert info.simulated_slides
        assert all(read_features(file).simulated for file in root.cohort(name).slides()["file"][:3])
        assert load_cohort(root, name, "os").simulated == Simulated.ALL


def test_the_oracle_is_what_the_truth_says(root: DataRoot) -> None:
    for name in NAMES:
        folder = root.cohort(name)
        table, about = truth(folder)
        labels = folder.labels("os").loc[table.index]
        outcome = labels["time"].to_numpy(), labels["event"].to_numpy()
        ratios = {k: p["log_hazard_ratio"] for k, p in about["programmes"].items()}
        seen = table[about["traced"]] @ pd.Series(ratios)[about["traced"]]
        assert harrell(*outcome, table["true_log_hazard"].to_numpy()) == pytest.approx(about["oracle_cindex"], abs=1e-6)
        assert harrell(*outcome, seen.to_numpy()) == pytest.approx(about["oracle_cindex_slides"], abs=1e-6)
        assert set(about["prognostic"]) == {k for k, ratio in ratios.items() if ratio}
        assert set(about["prognostic"]) - set(about["traced"])
        assert len(set(about["prognostic"]) & set(about["traced"])) >= 2


def test_the_log_hazard_is_programmes_and_covariates(root: DataRoot) -> None:
    folder = root.cohort("hnsc")
    table, about = truth(folder)
    patients = folder.patients().loc[table.index]
    patients = patients[patients["stage"] != ""]
    programmes = sum(table[k] * p["log_hazard_ratio"] for k, p in about["programmes"].items())
    stage = patients["stage"].map({"I": 0, "II": 1, "III": 2, "IV": 3})
    covariates = (
        about["covariates"]["age_per_10_years"] * patients["age"].astype(float) / 10
        + about["covariates"]["per_stage"] * stage
    )
    rest = (table["true_log_hazard"] - programmes).loc[patients.index] - covariates
    assert rest.std() < 1e-5


def test_the_full_size_truth_lies_where_it_is_meant_to() -> None:
    for recipe in RECIPES:
        people = demo_module.People(recipe)
        outcome = people.months, people.event
        # the effects aim at 0.77 and 0.71; with 21 to 58 deaths a cohort lies up to 0.06 beside that
        assert 0.71 <= harrell(*outcome, people.log_hazard) <= 0.83
        assert 0.65 <= harrell(*outcome, people.log_hazard_in_slides) <= 0.78
        assert 18 <= np.median(people.months[~people.event]) <= 45


def test_events_are_exactly_as_many_as_wanted(root: DataRoot) -> None:
    rates = {"brca": 0.13, "stad": 0.38, "hnsc": 0.45, "crad": 0.20, "cptac-hnsc": 0.35}
    for name, rate in rates.items():
        labels = root.cohort(name).labels("os")
        assert labels["event"].sum() == round(rate * len(labels))
        assert labels["time"].between(1 / 31, 240).all()


def test_real_datas_irregularities(root: DataRoot) -> None:
    lacking_slides = lacking_expression = 0
    for name in NAMES:
        folder = root.cohort(name)
        slides, expression = folder.slides(), folder.expression()
        assert expression is not None
        known = set(folder.patients().index)
        assert set(slides["patient"]) <= known
        assert set(expression.index) <= known
        lacking_slides += len(known - set(slides["patient"]))
        lacking_expression += len(known - set(expression.index))
        assert slides["patient"].duplicated().any()
        sizes = [len(read_features(file).features) for file in slides["file"]]
        assert len(set(sizes)) > 10
        assert 5 <= min(sizes) <= max(sizes) <= 40
        sites = folder.patients()["site"]
        assert (folder.patients().index.str.split("-").str[1] == sites).all()
        assert sites.value_counts().max() >= 3 * sites.value_counts().min()
    assert lacking_slides > 0
    assert lacking_expression > 0


def test_features_and_expression_are_finite_and_of_the_stated_form(root: DataRoot) -> None:
    for name in NAMES:
        folder = root.cohort(name)
        for file in folder.slides()["file"]:
            features = read_features(file).features
            assert features.dtype == np.float16
            assert features.shape[1] == 1024
            assert np.isfinite(features).all()
        expression = folder.expression()
        assert expression is not None
        assert expression.to_numpy().min() == pytest.approx(np.log2(0.001), abs=1e-3)
        pathways = folder.pathways()
        genes = [gene for members in pathways.values() for gene in members]
        assert all(10 <= len(members) <= 20 for members in pathways.values())
        assert all(pathway.startswith("DEMO_") for pathway in pathways)
        assert len(set(genes)) < len(genes)
        assert set(genes) <= set(expression.columns)


def decodable(inputs: pd.DataFrame, target: pd.Series) -> float:
    """Correlation of the target with its cross-validated ridge prediction."""
    model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 6, 13)))
    predicted = cross_val_predict(model, inputs.to_numpy(), target.loc[inputs.index].to_numpy(), cv=5)
    return float(np.corrcoef(predicted, target.loc[inputs.index])[0, 1])


def test_slides_show_the_traced_programmes_and_no_others(root: DataRoot) -> None:
    folder = root.cohort("brca")
    table, about = truth(folder)
    inputs = pooled(folder).join(pooled(folder, "max").add_suffix("max"))
    for name in about["programmes"]:
        if name in about["traced"]:
            assert decodable(inputs, table[name]) > 0.7
        else:
            assert decodable(inputs, table[name]) < 0.3


def test_expression_shows_every_programme(root: DataRoot) -> None:
    folder = root.cohort("brca")
    table, about = truth(folder)
    expression, pathways = folder.expression(), folder.pathways()
    assert expression is not None
    scores = (expression - expression.mean()) / (expression.std() + 1e-9)
    for name, programme in about["programmes"].items():
        means = pd.concat([scores[pathways[p]].mean(axis=1) for p in programme["pathways"]], axis=1)
        assert decodable(means, table[name]) > 0.4


def spread_of_groups(values: pd.DataFrame, groups: np.ndarray) -> float:
    """Variance of the group means, weighted by group size, summed over columns."""
    means = (values - values.mean()).groupby(groups).transform("mean")
    return float((means.to_numpy() ** 2).sum())


def test_sites_shift_features_and_expression(root: DataRoot) -> None:
    folder, rng = root.cohort("hnsc"), np.random.default_rng(0)
    expression = folder.expression()
    assert expression is not None
    for values in (pooled(folder), (expression - expression.mean()) / (expression.std() + 1e-9)):
        sites = folder.patients().loc[values.index, "site"].to_numpy()
        by_chance = [spread_of_groups(values, rng.permutation(sites)) for _ in range(20)]
        assert spread_of_groups(values, sites) > 1.2 * max(by_chance)


def test_cptac_is_another_domain(root: DataRoot) -> None:
    means = {name: pooled(root.cohort(name)) for name in ("hnsc", "stad", "cptac-hnsc")}

    def distance(one: str, other: str) -> float:
        return float(np.linalg.norm(means[one].mean() - means[other].mean()))

    assert distance("hnsc", "cptac-hnsc") > 1.5 * distance("hnsc", "stad")
    assert means["cptac-hnsc"].to_numpy().std() > 1.1 * means["hnsc"].to_numpy().std()
    assert not set(root.cohort("hnsc").patients()["site"]) & set(root.cohort("cptac-hnsc").patients()["site"])


def test_the_cache_is_built_once(tiny: Path) -> None:
    assert demo_root() == tiny
    before = {file: file.stat().st_mtime_ns for file in tiny.rglob("*")}
    assert demo_root() == tiny
    assert {file: file.stat().st_mtime_ns for file in tiny.rglob("*")} == before


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: Path) -> None:
    monkeypatch.delenv("SURVBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert demo_root().parent == tmp_path / "xdg" / "survbench"


def test_two_builds_at_once_do_not_hurt_each_other(tiny: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(lambda _: demo_root(), range(3))) == {tiny}
    assert [entry.name for entry in tiny.parent.iterdir()] == [tiny.name]
    assert DataRoot.open(tiny).cohorts() == ["cptac-hnsc", "crad"]


def test_remains_of_killed_builds_go_and_running_ones_stay(tiny: Path) -> None:
    old, young = tiny.parent / f".{tiny.name}.old", tiny.parent / f".{tiny.name}.young"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (time.time() - 3 * 24 * 3600,) * 2)
    demo_root()
    assert not old.exists()
    assert young.exists()


def test_a_build_that_fails_leaves_nothing(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(demo_module, "write_features", broken)
    with pytest.raises(OSError, match="disk full"):
        demo_root()
    assert not list(tiny.parent.iterdir())


def test_an_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BadFile, match="exists already"):
        build_demo(tmp_path, scale=0.05)
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.txt"]


def test_a_cache_folder_that_is_no_root_is_refused(tiny: Path) -> None:
    tiny.mkdir(parents=True)
    (tiny / "mine.txt").write_text("mine")
    with pytest.raises(BadFile, match="is no data root"):
        demo_root()


def test_building_is_announced_as_simulated(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    demo_root()
    output = capfd.readouterr()
    assert "demo (simulated)" in output.err
    assert output.out == ""
