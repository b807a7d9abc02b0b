"""What every registered model must hold; a new model is tested by being registered."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch_geometric.data import Batch

from support.builders import batch, inputs, split
from survbench.batch import patient_batch
from survbench.cards import Modality, ModelCard
from survbench.evaluation.metrics import harrell
from survbench.model import Asking, Objective, Stage, SurvivalModel
from survbench.registry import import_target, load_registry
from survbench.training.fit import fit
from survbench.training.objectives import Cox, DiscreteNLL
from survbench.training.settings import Settings
from survbench.training.steps import predict_logits, seed_everything

CARDS = list(load_registry().models.values())
SETTINGS = Settings(epochs=12, patience=12, batch_size=16, learning_rate=2e-3, weight_decay=0.0, patches=64)

LEARNED = [card for card in CARDS if not card.objective]  # the others are fitted by a formula of their own
SLIDES = ("x", "pos", "ptr", "batch", "sizes", "slide")

every_model = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
every_learned_model = pytest.mark.parametrize("card", LEARNED, ids=lambda card: card.name)
CPU = torch.device("cpu")


def build(card: ModelCard, outputs: int = 1, seed: int = 0) -> SurvivalModel:
    torch.manual_seed(seed)
    return import_target(card.target)(inputs(), outputs, **card.config)


def granted(full: Batch, card: ModelCard) -> Batch:
    """The batch as inference sees it."""
    keys = set(SLIDES) if Modality.SLIDES in card.inference_inputs else set()
    keys |= {str(i) for i in card.inference_inputs} & {"expression", "clinical"}
    return patient_batch({key: full[key] for key in keys}, len(full.time))


def alone(full: Batch, patient: int) -> Batch:
    start, stop = full.ptr[patient], full.ptr[patient + 1]
    content = {
        "x": full.x[start:stop],
        "pos": full.pos[start:stop],
        "ptr": torch.tensor([0, int(stop - start)]),
        "batch": torch.zeros(int(stop - start), dtype=torch.long),
        "sizes": (int(stop - start),),
        "slide": torch.zeros(int(stop - start), dtype=torch.long),
        "clinical": full.clinical[patient : patient + 1],
        "expression": full.expression[patient : patient + 1],
        "time": full.time[patient : patient + 1],
        "event": full.event[patient : patient + 1],
    }
    return patient_batch(content, 1)


def fit_model(card: ModelCard, model: SurvivalModel, objective: Objective, scratch: Path, **data: object) -> None:
    train, val = data["train"], data["val"]
    stages = model.stages(card.train_inputs, card.inference_inputs)
    settings = data.get("settings", SETTINGS)
    fit(model, stages, objective, train, val, settings, seed=(0, 0), device=CPU, scratch=scratch)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("card", "outputs"),
    [(c, o) for c in CARDS for o in ((1,) if c.objective else (1, 4))],
    ids=lambda v: getattr(v, "name", v),
)
def test_one_row_of_logits_per_patient(card: ModelCard, outputs: int) -> None:
    prediction = build(card, outputs).eval()(granted(batch(sizes=(3, 1, 5)), card))
    assert prediction.logits.shape == (3, outputs)
    assert torch.isfinite(prediction.logits).all()


@every_model
def test_a_bag_of_one_patch_is_enough(card: ModelCard) -> None:
    assert torch.isfinite(build(card).eval()(granted(batch(sizes=(1, 1)), card)).logits).all()


@every_model
def test_a_patient_gets_the_same_alone_and_among_others(card: ModelCard) -> None:
    model, full = build(card).double().eval(), batch(sizes=(3, 1, 7, 2), dtype=torch.float64)
    together = model(granted(full, card)).logits
    for patient in range(4):
        by_itself = model(granted(alone(full, patient), card)).logits
        torch.testing.assert_close(by_itself[0], together[patient], atol=1e-10, rtol=0)


@every_model
def test_the_order_of_patches_changes_nothing(card: ModelCard) -> None:
    if Modality.SLIDES not in card.inference_inputs or build(card).order_matters:
        return
    model, full = build(card).double().eval(), batch(sizes=(9,), dtype=torch.float64)
    shuffled = copy.copy(full)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    shuffled.x, shuffled.pos = full.x[order], full.pos[order]
    before, after = model(granted(full, card)), model(granted(shuffled, card))
    torch.testing.assert_close(before.logits, after.logits, atol=1e-10, rtol=0)
    if before.attention is not None:
        torch.testing.assert_close(before.attention[order], after.attention, atol=1e-10, rtol=0)


@every_model
def test_attention_is_a_distribution_over_each_bag(card: ModelCard) -> None:
    full = batch(sizes=(4, 1, 6))
    prediction = build(card).eval()(granted(full, card))
    if prediction.attention is not None:
        assert (prediction.attention >= 0).all()
        sums = torch.zeros(3).index_add(0, full.batch, prediction.attention)
        torch.testing.assert_close(sums, torch.ones(3))


@every_model
def test_what_explains_a_model_is_a_distribution_and_each_patients_own(card: ModelCard) -> None:
    """Maps over each bag; gene sets over the sets of each patch, or over each bag."""
    if Modality.SLIDES not in card.train_inputs:
        return
    model, full = build(card).double().eval(), batch(sizes=(4, 1, 6), dtype=torch.float64)
    prediction = model(granted(full, card))
    maps, sets = model.attention_maps(prediction, full), model.gene_set_attention(prediction, full)
    assert bool(maps) == (prediction.attention is not None)
    single = alone(full, 2)
    of_single = model(granted(single, card))
    for name, weights in maps.items():
        assert (weights >= 0).all()
        sums = torch.zeros(3, dtype=torch.float64).index_add(0, full.batch, weights)
        torch.testing.assert_close(sums, torch.ones(3, dtype=torch.float64))
        torch.testing.assert_close(model.attention_maps(of_single, single)[name], weights[5:])
    if sets is not None:
        assert sets.weights.shape == (11, len(sets.sets))
        assert set(sets.sets) in ({*inputs().pathways}, {*inputs().families})
        assert (sets.weights >= 0).all()
        if sets.asking is Asking.PATCHES:
            sums = sets.weights.sum(1)
        else:
            sums = torch.zeros(3, len(sets.sets), dtype=torch.float64).index_add(0, full.batch, sets.weights)
        torch.testing.assert_close(sums, torch.ones_like(sums))
        again = model.gene_set_attention(of_single, single)
        assert again is not None
        torch.testing.assert_close(again.weights, sets.weights[5:])


@every_learned_model
def test_the_gradient_reaches_every_weight_in_its_stage(card: ModelCard) -> None:
    model, full = build(card), batch(sizes=(3, 2, 5, 4))
    full.event = torch.tensor([True, True, False, True])
    trained = set()
    for stage in model.stages(card.train_inputs, card.inference_inputs):
        assert isinstance(stage, Stage)
        stage.trained.train()
        model.zero_grad()
        stage.loss(stage.predict(full), full, Cox())["total"].backward()
        for name, parameter in stage.trained.named_parameters():
            assert parameter.grad is not None, f"{stage.name}: {name} gets no gradient"
            assert torch.isfinite(parameter.grad).all()
        trained |= {id(p) for p in stage.trained.parameters()}
    assert trained == {id(p) for p in model.parameters()}


@every_learned_model
@pytest.mark.parametrize("objective", [Cox(), DiscreteNLL(bins=4)], ids=lambda o: o.name)
def test_it_overfits_few_patients_with_either_head(card: ModelCard, objective: Objective, tmp_path: Path) -> None:
    few = split(patients=8, seed=3)
    fitted = objective.fit(few.time, few.event)
    time, event = torch.tensor(few.time), torch.tensor(few.event)

    def overfits(learning_rate: float) -> bool:
        model = build(card, fitted.outputs)

        def loss() -> float:
            return fitted.loss(predict_logits(model.eval(), few, card.inference_inputs, CPU), time, event).item()

        before = loss()
        settings = Settings(
            epochs=30, patience=30, batch_size=8, learning_rate=learning_rate, weight_decay=0.0, patches=64
        )
        fit_model(card, model, fitted, tmp_path / str(learning_rate), train=few, val=few, settings=settings)
        return loss() < 0.25 * before

    assert any(overfits(rate) for rate in (3e-3, 3e-2))  # small and large models differ in the steps they take


@every_model
def test_it_finds_a_planted_signal(card: ModelCard, tmp_path: Path) -> None:
    train, val, test = (split(patients=n, seed=s, signal=2.0) for n, s in ((96, 1), (24, 2), (60, 3)))

    def found(learning_rate: float) -> float:
        model = build(card)
        settings = replace(SETTINGS, learning_rate=learning_rate)
        fit_model(card, model, Cox(), tmp_path / str(learning_rate), train=train, val=val, settings=settings)
        risk = predict_logits(model.eval(), test, card.inference_inputs, CPU)[:, 0].numpy()
        return harrell(test.time, test.event, risk).value

    if card.train_inputs:
        assert any(found(rate) > 0.7 for rate in (2e-3, 3e-2))
    else:
        assert found(2e-3) == 0.5  # who sees nothing must find nothing


@every_model
def test_saving_and_loading_is_exact(card: ModelCard, tmp_path: Path) -> None:
    model, other = build(card, seed=1).eval(), build(card, seed=2).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    full = granted(batch(), card)
    assert torch.equal(model(full).logits, other(full).logits)


@every_model
def test_half_precision_runs(card: ModelCard) -> None:
    model, full = build(card).eval(), granted(batch(), card)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(full).logits
    torch.testing.assert_close(half.float(), model(full).logits.float(), atol=0.1, rtol=0.1)


@every_model
def test_the_same_seed_gives_the_same_weights(card: ModelCard, tmp_path: Path) -> None:
    train, val = split(patients=20, seed=1), split(patients=10, seed=2)
    weights = []
    for run in ("a", "b"):
        seed_everything((7,))
        model = import_target(card.target)(inputs(), 1, **card.config)
        settings = Settings(epochs=2, patience=2, batch_size=8, learning_rate=1e-3, weight_decay=0.0, patches=4)
        fit_model(card, model, Cox(), tmp_path / run, train=train, val=val, settings=settings)
        weights.append([v.numpy() for v in model.state_dict().values()])
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))
