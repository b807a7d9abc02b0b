"""External validation: what was trained is applied as it is, and a cohort that does not fit is refused first."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from sksurv.metrics import concordance_index_censored

from support.toy import cohort, job, run
from survbench.data.cohort import Cohort
from survbench.errors import BadConfig
from survbench.experiments.folders import result_folder
from survbench.experiments.job import Job
from survbench.experiments.trained_models import build_model, build_objective
from survbench.report.studies import external_markdown
from survbench.studies.external_validation import apply_frozen, check_external, external_plain, external_rows

CPU = torch.device("cpu")


def elsewhere(name: str = "other", drop: tuple[str, ...] = (), **changes: Any) -> Cohort:
    """Another cohort, whose expression table has its genes in another order, one more, and not those dropped."""
    data = cohort(seed=5, patients=40)
    assert data.expression is not None
    table = data.expression.drop(columns=list(drop)).assign(UNKNOWN=1.0)
    table = table[sorted(table.columns, reverse=True)]
    folder: Any = SimpleNamespace(expression=lambda: table)
    return replace(data, name=name, expression=table, folder=folder, **changes)


def trained(out: Path, model: str, folds: int = 5) -> list[Job]:
    jobs = [job(cohort(), model, fold=fold) for fold in range(folds)]
    assert run(out, *jobs).failed == []
    return jobs


@pytest.mark.parametrize("model", ["snn", "abmil", "amkd", "cox_clinical"])
def test_models_are_applied_as_they_were_left(model: str, tmp_path: Path) -> None:
    """Weights, genes, scaler and cut of the training cohort; nothing in the job's folder changes."""
    jobs = trained(tmp_path, model, folds=1)
    before = {f: f.read_bytes() for f in result_folder(jobs[0], tmp_path).iterdir()}
    test = elsewhere()
    apply_frozen(jobs, test, tmp_path, CPU)
    assert {f: f.read_bytes() for f in result_folder(jobs[0], tmp_path).iterdir()} == before
    (file,) = tmp_path.glob("external/*/*/*/external_validation.parquet")
    predicted = pd.read_parquet(file).set_index("patient")
    assert list(predicted.index) == list(test.patients.index)
    assert predicted["time"].to_list() == test.patients["time"].to_list()
    fitted = json.loads((result_folder(jobs[0], tmp_path) / "fitted.json").read_text())
    objective = build_objective(jobs[0].objective).from_state(fitted["objective"])
    net = build_model(jobs[0], objective).eval()
    net.load_state_dict(load_file(result_folder(jobs[0], tmp_path) / "model.safetensors"))
    values = (test.folder.expression()[fitted["genes"]] - fitted["expression_mean"]) / fitted["expression_scale"]
    split = replace(test.split(tuple(test.patients.index), None), expression=values.to_numpy(np.float32))
    with torch.no_grad():
        logits = torch.cat([net(b).logits for b in split.in_order(jobs[0].card.inference_inputs)]).double()
    np.testing.assert_allclose(predicted["risk"], objective.risk(logits).numpy(), rtol=1e-6)
    cut = json.loads((result_folder(jobs[0], tmp_path) / "job.json").read_text())["risk_cut"]
    assert (predicted["high"] == (predicted["risk"] > cut)).all()


def test_the_training_cohorts_scale_is_kept_whatever_the_test_cohort_measures(tmp_path: Path) -> None:
    """A test cohort on another scale is predicted differently; rescaling it on itself would hide that."""
    jobs, plain = trained(tmp_path, "snn", folds=1), elsewhere()
    shifted_table = plain.folder.expression() + 3.0
    folder: Any = SimpleNamespace(expression=lambda: shifted_table)
    shifted = replace(plain, name="shifted", expression=shifted_table, folder=folder)
    for test in (plain, shifted):
        apply_frozen(jobs, test, tmp_path, CPU)
    one, other = (
        pd.read_parquet(f)["risk"] for f in sorted(tmp_path.glob("external/*/*/*/external_validation.parquet"))
    )
    assert not np.allclose(one, other)


def test_the_table_equals_scikit_survival(tmp_path: Path) -> None:
    jobs, test = trained(tmp_path, "snn"), elsewhere()
    apply_frozen(jobs, test, tmp_path, CPU)
    (row,) = external_rows(tmp_path)
    tables = [pd.read_parquet(f) for f in tmp_path.glob("external/*/*/*/external_validation.parquet")]
    event, time = tables[0]["event"].to_numpy(bool), tables[0]["time"].to_numpy()
    values = [concordance_index_censored(event, time, t["risk"])[0] for t in tables]
    together = concordance_index_censored(event, time, np.mean([t["standardized"] for t in tables], axis=0))[0]
    assert (row.models, row.seeds, row.patients, row.events) == (5, 1, len(event), event.sum())
    assert row.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert row.ensemble == pytest.approx(together, abs=1e-9)
    assert row.metrics["cindex"]["mean"] == pytest.approx(row.mean, abs=1e-12)
    assert row.metrics["comparable_pairs"]["mean"] > 0
    assert "no training patients" in row.metrics["uno_c"]["reason"]
    assert f"{row.metrics['comparable_pairs']['mean']:,.0f} ± " in external_markdown([row], "comparable_pairs")
    assert row.low < row.mean < row.high
    assert row.ensemble_low < row.ensemble < row.ensemble_high
    assert external_plain([row])[0]["published"] is None
    named = replace(row, train="hnsc", test="cptac-hnsc", as_registered=True)
    assert external_plain([named])[0]["published"] == 0.518
    changed = replace(named, as_registered=False)
    assert external_plain([changed])[0]["published"] is None
    assert "for other settings than here: SNN 0.518" in external_markdown([changed])
    assert "demo (simulated)" in external_markdown([row])


def test_it_is_done_once_and_an_incomplete_row_has_no_figure(tmp_path: Path) -> None:
    jobs, test = trained(tmp_path, "snn"), elsewhere()
    apply_frozen(jobs[:3], test, tmp_path, CPU)
    (row,) = external_rows(tmp_path)
    assert np.isnan(row.mean)
    assert "fold 3 of seed 0, fold 4 of seed 0 missing" in row.problem
    stamps = {f: f.stat().st_mtime_ns for f in tmp_path.glob("external/*/*/*/*")}
    apply_frozen(jobs, test, tmp_path, CPU)
    assert all(f.stat().st_mtime_ns == stamp for f, stamp in stamps.items())
    assert external_rows(tmp_path)[0].models == 5


def test_genes_that_were_not_measured_stand_at_their_training_mean(tmp_path: Path) -> None:
    jobs, test = trained(tmp_path, "snn", folds=1), elsewhere(drop=("G3",))
    check_external(jobs, test)
    apply_frozen(jobs, test, tmp_path, CPU)
    (row,) = external_rows(tmp_path)
    assert row.genes_absent == 1
    assert pd.read_parquet(next(tmp_path.glob("external/*/*/*/external_validation.parquet")))["risk"].notna().all()


def test_what_does_not_fit_is_refused_before_training() -> None:
    snn, abmil = job(cohort(), "snn"), job(cohort(), "abmil")
    with pytest.raises(BadConfig, match="lacks 2 of the 8 genes"):
        check_external([snn], elsewhere(drop=("G3", "G4")))
    with pytest.raises(BadConfig, match="both toy"):
        check_external([snn], elsewhere(name="toy"))
    with pytest.raises(BadConfig, match="predicts from slides, and cohort other has none"):
        check_external([abmil], elsewhere(bags=None))
    narrow: Any = SimpleNamespace(dim=8)
    with pytest.raises(BadConfig, match="16 features per patch, those of other 8"):
        check_external([abmil], elsewhere(bags=narrow))
    check_external([snn], elsewhere(bags=None))
