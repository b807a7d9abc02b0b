"""Everything is joined by identifier: the order of rows and columns in any input file changes no prediction."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from support import layouts
from survbench.data.importers import import_data
from survbench.data.root import DataRoot
from survbench.experiments.dispatch import run_jobs
from survbench.experiments.mlflow.tracking import Mirror
from survbench.experiments.plan import Request, plan
from survbench.registry import load_registry
from survbench.simulation.slides import simulate_slides

MODELS = ("snn", "smlp", "abmil", "abmil_cat", "mcat", "survpath", "amkd", "cox_clinical", "coxnet_pathways")


def predictions(folder: Path, shuffle: bool) -> dict[str, pd.DataFrame]:
    import_data(layouts.survpath(folder / "source", patients=60, shuffle=shuffle), folder / "DATA")
    simulate_slides(folder / "DATA", patches=4)
    overrides = {"epochs": 2, "learning_rate": 1e-3}
    request = Request(
        models=MODELS, cohorts=("luad",), endpoint="os", scheme="event-stratified", folds=(0,), overrides=overrides
    )
    jobs = plan(request, load_registry(), DataRoot.open(folder / "DATA"))
    summary = run_jobs(jobs, folder / "out", torch.device("cpu"), Mirror(folder / "out", "test", enabled=False))
    assert not summary.failed
    return {
        file.parents[2].name: pd.read_parquet(file) for file in (folder / "out").glob("jobs/*/*/*/predictions.parquet")
    }


def test_shuffled_files_give_identical_predictions(tmp_path: Path) -> None:
    plain, shuffled = predictions(tmp_path / "plain", False), predictions(tmp_path / "shuffled", True)
    assert set(plain) == set(shuffled) == set(MODELS)
    for model, table in plain.items():
        pd.testing.assert_frame_equal(table, shuffled[model], check_exact=True, obj=model)
    assert plain["snn"]["risk"].nunique() > 30  # equal because joined, not because nothing was predicted
