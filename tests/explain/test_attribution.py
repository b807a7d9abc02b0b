"""Integrated gradients: exact where the answer is known, complete, of test patients, and refused where impossible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from support.builders import batch, inputs
from support.toy import cohort, job, run
from survbench.batch import take_patients
from survbench.errors import BadConfig
from survbench.experiments.results import JobResult
from survbench.explain.attribution import gene_attribution, pathway_attribution
from survbench.explain.pathways import ranking_figure, write_pathways
from survbench.model import Objective, Prediction, SurvivalModel
from survbench.registry import import_target, load_registry
from survbench.report.plots.figures import save_figure
from survbench.training.objectives import Cox, DiscreteNLL

CPU = torch.device("cpu")


class Known(SurvivalModel):
    """Linear in some genes, a product of two others."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0, -1.0, 0.5, 0, 0, 0, 0, 0]))

    def forward(self, batch: Any) -> Prediction:
        risk = batch.expression @ self.weight + batch.expression[:, 6] * batch.expression[:, 7]
        return Prediction((risk + batch.x.sum()).unsqueeze(1))


def test_linear_and_product_risks_have_their_known_attributions() -> None:
    full, model = batch(sizes=(3, 1, 5)), Known()
    attributed, risk, start = gene_attribution(model, Cox(), full, steps=8)
    expected = full.expression * model.weight.detach()
    product = full.expression[:, 6] * full.expression[:, 7]
    expected[:, 6], expected[:, 7] = product / 2, product / 2
    torch.testing.assert_close(attributed, expected)
    torch.testing.assert_close(attributed.sum(1), risk - start, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(start, full.x.sum().expand(3))


def built(name: str, objective: Objective) -> SurvivalModel:
    card = load_registry().models[name]
    torch.manual_seed(0)
    model: SurvivalModel = import_target(card.target)(inputs(), objective.outputs, **card.config)
    return model.double().eval()


@pytest.mark.parametrize(("name", "objective"), [("snn", Cox()), ("smlp", DiscreteNLL(bins=4))])
def test_attributions_agree_with_a_sum_of_our_own(name: str, objective: Objective) -> None:
    model, full = built(name, objective), batch(sizes=(3, 1, 5), dtype=torch.float64)
    attributed, risk, start = gene_attribution(model, objective, full, steps=128)
    total, steps = torch.zeros_like(full.expression), 256
    for step in range(steps):
        expression = ((step + 0.5) / steps * full.expression).requires_grad_()
        shifted = batch(sizes=(3, 1, 5), dtype=torch.float64)
        shifted.expression = expression
        total += torch.autograd.grad(objective.risk(model(shifted).logits).sum(), expression)[0]
    expected = full.expression * total / steps
    torch.testing.assert_close(attributed, expected, rtol=0.05, atol=0.02 * float(expected.abs().max()))
    torch.testing.assert_close(
        attributed.sum(1), risk - start, rtol=0.01, atol=0.01 * float((risk - start).abs().max())
    )


@pytest.mark.parametrize("name", ["abmil_cat", "mcat", "survpath", "pomp", "amkd_teacher"])
def test_attributions_add_up_where_slides_have_a_word_too(name: str) -> None:
    model, full = built(name, Cox()), batch(sizes=(3, 1, 5), dtype=torch.float64)
    attributed, risk, start = gene_attribution(model, Cox(), full, steps=24)
    assert (attributed.sum(1) - (risk - start)).abs().max() < 0.05 * attributed.abs().sum(1).mean()
    alone, _, _ = gene_attribution(model, Cox(), take_patients(full, [2]), steps=24)
    torch.testing.assert_close(alone[0], attributed[2])


def test_pathways_are_ranked_by_their_genes_over_each_folds_test_patients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [job(cohort(), "snn", fold=fold) for fold in range(3)]
    run(tmp_path, *jobs)
    weights = np.array([2.0, -1.0, 0.5, 0.1, 0, 0, 0, 3.0])

    def linear(self: Any, batch: Any) -> Prediction:
        return Prediction(batch.expression @ torch.tensor(weights, dtype=torch.float32).unsqueeze(1))

    monkeypatch.setattr(type(JobResult.of(jobs[0], tmp_path).load_model(CPU)[0]), "forward", linear)
    ranking, complete = pathway_attribution(jobs, tmp_path, CPU, steps=4)
    assert complete.holds
    rows = []
    for one in jobs:
        expression = one.cohort.split(one.fold.test, one.cohort.scaler(one.fold)).expression
        assert expression is not None
        genes = expression * weights
        sizes = np.abs([genes[:, :3].sum(1), genes[:, 2:].sum(1)]).mean(1)
        rows.append(sizes / sizes.mean())
    assert ranking.table.loc["A", "mean"] == pytest.approx(np.mean(rows, axis=0)[0], rel=1e-4)
    assert ranking.table.loc["B", "sd"] == pytest.approx(np.std(rows, axis=0)[1], rel=1e-3)
    assert ranking.table.loc["A", "genes"] == 3
    assert ranking.table.loc["B", "direction"] > 0
    save_figure(ranking_figure(ranking), tmp_path / "figure.png")
    write_pathways(ranking, tmp_path / "table.csv")
    assert (tmp_path / "figure.png").stat().st_size > 5_000
    assert (tmp_path / "table.csv").read_text().count("demo (simulated)") == 2


def test_what_has_no_expression_or_no_gradient_is_refused(tmp_path: Path) -> None:
    for name, message in (("amkd", "predicts from slides"), ("null", "predicts from nothing")):
        with pytest.raises(BadConfig, match=message):
            pathway_attribution([job(cohort(), name)], tmp_path, CPU)
    with pytest.raises(BadConfig, match="1 of 1 jobs have no result"):
        pathway_attribution([job(cohort(), "snn")], tmp_path, CPU)
    forest = job(cohort(), "rsf_pathways")
    run(tmp_path, forest)
    with pytest.raises(BadConfig, match="has no gradient"):
        pathway_attribution([forest], tmp_path, CPU)
