"""Pathway attention: of the named models and patients, and none where a model has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch

from amkd.teacher import Teacher
from support.builders import batch, inputs
from support.toy import cohort, job, run
from survbench.errors import BadConfig
from survbench.explain.pathways import pathway_attention, ranking_figure
from survbench.registry import import_target, load_registry
from survbench.report.plots.figures import save_figure

CPU = torch.device("cpu")
ATTENDING = ("amkd", "amkd_teacher", "survpath")


@pytest.mark.parametrize("name", ATTENDING)
def test_attention_over_pathways_sums_to_one_per_patient(name: str) -> None:
    card = load_registry().models[name]
    model = import_target(card.target)(inputs(), 1, **card.config).eval()
    weights = model.pathway_attention(batch())
    assert weights.shape == (3, len(inputs().pathways))
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(3))
    alone = model.pathway_attention(batch())[1:2]
    torch.testing.assert_close(weights[1:2], alone)


def test_the_table_is_the_mean_over_each_folds_test_patients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention planted as a function of expression, so that its patient is recognized."""

    def planted(self: Teacher, batch: Batch) -> Tensor:
        return batch.expression[:, :2].double().softmax(1)

    jobs = [job(cohort(), "amkd_teacher", fold=fold) for fold in range(3)]
    run(tmp_path, *jobs)
    monkeypatch.setattr(Teacher, "pathway_attention", planted)
    ranking = pathway_attention(jobs, tmp_path, CPU)
    expected = []
    for one in jobs:
        expression = one.cohort.split(one.fold.test, one.cohort.scaler(one.fold)).expression
        assert expression is not None
        expected.append(2 * np.exp(expression[:, 0]) / np.exp(expression[:, :2]).sum(1))
    means = [float(weights.mean()) for weights in expected]
    assert ranking.table.loc["A", "mean"] == pytest.approx(np.mean(means), rel=1e-5)
    assert ranking.table.loc["A", "sd"] == pytest.approx(np.std(means), rel=1e-4)
    assert ranking.table["mean"].mean() == pytest.approx(1.0)
    assert list(ranking.table["mean"]) == sorted(ranking.table["mean"], reverse=True)
    assert ranking.jobs == 3
    save_figure(ranking_figure(ranking), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5_000


def test_models_without_pathways_and_jobs_that_were_not_run_are_refused(tmp_path: Path) -> None:
    abmil = job(cohort(), "abmil")
    with pytest.raises(BadConfig, match="1 of 1 jobs have no result"):
        pathway_attention([abmil], tmp_path, CPU)
    run(tmp_path, abmil)
    with pytest.raises(BadConfig, match="attends to no pathways"):
        pathway_attention([abmil], tmp_path, CPU)
