"""The study of known truth: cohorts differ in what is swept and in nothing else, and the oracle is the oracle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sksurv.metrics import concordance_index_censored

from support.toy import run
from survbench.errors import BadConfig
from survbench.experiments.plan import Request
from survbench.registry import load_registry
from survbench.report.studies import transfer_sheet, write_transfer
from survbench.studies.transfer import (
    Grid,
    find_student,
    plan_transfer,
    read_transfer,
    simulated_root,
    transfer_map,
)

GRID = Grid(traces=(0.0, 2.0), patients=(60,), event_rates=(0.5,), replicates=2)


def test_cohorts_that_differ_in_traces_have_the_same_patients(out: Path) -> None:
    root = simulated_root(GRID, out)
    weak, strong = (root.cohort(cell.cohort) for cell in GRID.cells()[:2])
    assert GRID.cells()[0].trace != GRID.cells()[1].trace
    pd.testing.assert_frame_equal(weak.labels("os"), strong.labels("os"))
    pd.testing.assert_frame_equal(weak.expression(), strong.expression())
    assert weak.slides()["slide"].to_list() == strong.slides()["slide"].to_list()
    files = [sorted((c.path / "features").rglob("*.h5")) for c in (weak, strong)]
    assert all(a.name == b.name and a.read_bytes() != b.read_bytes() for a, b in zip(*files, strict=True))
    assert simulated_root(GRID, out).path == root.path  # not made again


def test_replicates_are_other_patients(out: Path) -> None:
    root = simulated_root(GRID, out)
    times = {c.replicate: tuple(root.cohort(c.cohort).labels("os")["time"]) for c in GRID.cells() if c.trace == 0}
    assert times[0] != times[1]


@pytest.mark.parametrize(
    "broken",
    [
        {"traces": (-1.0,)},
        {"traces": ()},
        {"patients": (20,)},
        {"event_rates": (0.05,)},
        {"event_rates": (1.0,)},
        {"event_rates": ()},
        {"replicates": 0},
    ],
)
def test_impossible_grids_are_refused(broken: dict[str, object]) -> None:
    with pytest.raises(BadConfig):
        replace(GRID, **broken)  # type: ignore[arg-type]


def test_a_model_with_nothing_beside_it_is_refused(out: Path) -> None:
    request = Request(models=["snn"], cohorts=[], endpoint="os", scheme="event-stratified")
    with pytest.raises(BadConfig, match="has nothing beside it"):
        plan_transfer(GRID, request, load_registry(), simulated_root(GRID, out))


def test_the_registry_names_the_model() -> None:
    registry = load_registry()
    assert find_student(None, registry).name == "amkd"
    other = replace(registry.models["amkd"], name="other")
    two = replace(registry, models={**registry.models, "other": other})
    with pytest.raises(BadConfig, match="amkd, other could be meant"):
        find_student(None, two)
    assert find_student("other", two) is other
    with pytest.raises(BadConfig, match="no model has others"):
        find_student(None, replace(registry, models={"snn": registry.models["snn"]}))


def test_the_map_stands_on_the_truth(out: Path, request_on_stad: Request, cpu: torch.device) -> None:
    grid = replace(GRID, replicates=1)
    registry, root = load_registry(), simulated_root(grid, out)
    jobs = plan_transfer(grid, request_on_stad, registry, root)
    assert run(out, *[job for of in jobs.values() for job in of]).failed == []
    transfer = transfer_map(jobs, registry.models["amkd"], root, out)
    curves, gains = transfer.curves, transfer.gains
    assert set(curves["model"]) == {"amkd", "amkd_teacher", "amkd_student", "oracle", "oracle on slides"}
    oracle = curves[curves["model"] == "oracle"]
    cell = grid.cells()[0]
    truth = pd.read_csv(root.cohort(cell.cohort).path / "truth.csv").set_index("patient")["true_log_hazard"]
    cohort = jobs[cell][0].cohort
    values = []
    for fold in cohort.folds("event-stratified"):
        labels = cohort.patients.loc[list(fold.test)]
        risk = truth[list(fold.test)].to_numpy()
        values.append(concordance_index_censored(labels["event"].to_numpy(bool), labels["time"], risk)[0])
    assert oracle["mean"].iloc[0] == pytest.approx(np.mean(values), abs=1e-9)
    on_slides = curves[curves["model"] == "oracle on slides"].set_index("trace")["mean"]
    assert (on_slides.loc[0.0] == 0.5).all()
    assert (on_slides.loc[2.0] > 0.6).all()
    assert len(gains) == 4
    assert set(gains["replicates"]) == {1}
    means = curves.groupby(["trace", "model"])["mean"].mean()
    for row in gains.to_dict("records"):
        expected = means[row["trace"], "amkd"] - means[row["trace"], row["against"]]
        assert row["difference"] == pytest.approx(expected, abs=1e-6)
    folder = out / "studies" / "transfer"
    write_transfer(transfer, folder)
    assert {file.name for file in folder.iterdir()} == {"curves.csv", "gains.csv", "table.md", "plot.png"}
    assert "simulated: every patient is invented" in (folder / "table.md").read_text()
    stored = read_transfer(folder)
    assert stored.title == "When does distillation pay? AMKD on simulated cohorts"
    assert stored.against == ["amkd_teacher", "amkd_student"]
    assert transfer_sheet(stored) == transfer_sheet(transfer)
