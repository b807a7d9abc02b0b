"""What single models promise beyond what every model must hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from baselines.dsmil import DSMIL
from baselines.ghanet import GHANet
from baselines.pomp import POMP
from support.builders import batch, inputs, split
from survbench.cards import Modality
from survbench.errors import BadConfig, ModalityDenied
from survbench.model import Inputs, Stage
from survbench.registry import import_target, load_registry
from survbench.training.fit import fit
from survbench.training.objectives import Cox
from survbench.training.settings import Settings

BOTH, SLIDES = (Modality.SLIDES, Modality.EXPRESSION), (Modality.SLIDES,)
SETTINGS = Settings(epochs=3, patience=3, batch_size=8, learning_rate=1e-3, weight_decay=0.0, patches=8)


def stage_of(model: POMP | GHANet, name: str) -> Stage:
    (stage,) = (own for own in model.stages(BOTH, BOTH) if own.name == name)
    return stage


def test_pomp_fine_tunes_from_its_pre_trained_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = POMP(inputs(), 1, width=16)
    train, val = split(16, seed=1), split(8, seed=2)
    fitted = fit(
        model,
        model.stages(BOTH, BOTH),
        Cox(),
        train,
        val,
        SETTINGS,
        seed=(0, 0),
        device=torch.device("cpu"),
        scratch=tmp_path,
    )
    weights = fitted.weights
    assert weights["survival"]["began"] == weights["pretrain"]["selected"] != weights["pretrain"]["began"]
    rows = [row for row in fitted.history if row["stage"] == "pretrain"]
    assert {"train_contrast", "train_match", "train_rebuild"} <= set(rows[0])
    assert rows[fitted.selected["pretrain"] - 1]["val_loss"] == min(row["val_loss"] for row in rows)


def test_pomps_pre_training_reads_no_outcome() -> None:
    model, full = POMP(inputs(), 1, width=16), batch(sizes=(3, 2, 4))
    del full.time, full.event
    stage = stage_of(model, "pretrain")
    assert torch.isfinite(stage.loss(stage.predict(full), full, Cox())["total"])


def test_pomp_learns_which_slide_belongs_to_which_expression() -> None:
    torch.manual_seed(0)
    model, full = POMP(inputs(), 1, width=32), batch(sizes=(3, 2, 4, 3, 5, 2))
    stage = stage_of(model, "pretrain")
    optimizer = torch.optim.Adam(stage.trained.parameters(), lr=2e-3)
    losses = []
    for _ in range(60):
        terms = stage.loss(stage.predict(full), full, Cox())
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        losses.append({name: value.item() for name, value in terms.items()})
    assert losses[-1]["contrast"] < 0.2 * losses[0]["contrast"]
    assert losses[-1]["rebuild"] < 0.5 * losses[0]["rebuild"]


def test_pomp_without_pre_training() -> None:
    model = POMP(inputs(), 1, width=16, pretrain=False)
    assert [stage.name for stage in model.stages(BOTH, BOTH)] == ["survival"]


def test_ghanet_refuses_expression_when_it_predicts() -> None:
    model, full = GHANet(inputs(), 1, width=16).eval(), batch()
    with pytest.raises(ModalityDenied, match="slides alone"):
        model(full)
    del full.expression
    assert torch.isfinite(model(full).logits).all()


def test_ghanet_rebuilds_expression_that_slides_show() -> None:
    torch.manual_seed(0)
    model, full = GHANet(inputs(), 1, width=32, dropout=0.0).train(), batch(sizes=(4,) * 24)
    means = torch.stack([bag.mean(0) for bag in full.x.split(4)])
    full.expression = means @ torch.randn(16, 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(80):
        terms = model.loss(model(full), full, Cox())
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        losses.append(terms["squared"].item())
    assert losses[-1] < 0.3 * losses[0]


def test_ghanets_deployed_part_has_no_reconstruction_heads() -> None:
    model = GHANet(inputs(), 1, width=16)
    heads = sum(p.numel() for p in model.rebuild.parameters())
    deployed = sum(p.numel() for p in model.deployed().parameters())
    assert deployed == sum(p.numel() for p in model.parameters()) - heads


def test_dsmil_without_its_instance_loss_never_learns_to_choose() -> None:
    model, full = DSMIL(inputs(), 1, instance=0.0), batch(sizes=(3, 4, 5))
    full.event = torch.tensor([True, False, True])
    model.loss(model(full), full, Cox())["total"].backward()
    assert model.instances.weight.grad is None or not model.instances.weight.grad.any()


def test_of_equal_patches_the_first_is_critical() -> None:
    model = DSMIL(Inputs(16), 1).eval()
    full = batch(sizes=(3,))
    full.x = full.x[:1].repeat(3, 1)
    assert torch.equal(model(full).aux["critical"], model.instances(full.x[:1]))


def test_dsmil_may_average_both_streams() -> None:
    torch.manual_seed(0)
    plain, averaged = (DSMIL(inputs(), 1, averaged=flag).eval() for flag in (False, True))
    averaged.load_state_dict(plain.state_dict())
    bag = plain(batch())
    torch.testing.assert_close(averaged(batch()).logits, (bag.logits + bag.aux["critical"]) / 2)


def test_uniform_attention_has_entropy_one() -> None:
    model, full = DSMIL(inputs(), 1), batch(sizes=(3, 5))
    full.x = torch.cat([full.x[:1].repeat(3, 1), full.x[3:4].repeat(5, 1)])
    full.event = torch.tensor([True, True])
    terms = model.loss(model(full), full, Cox())
    assert terms["entropy"].item() == pytest.approx(1)
    assert not terms["entropy"].requires_grad


@pytest.mark.parametrize("name", ["mcat", "pomp", "ghanet"])
def test_gene_families_are_needed_and_pathways_can_stand_in(name: str) -> None:
    card = load_registry().models[name]
    build = import_target(card.target)
    without = Inputs(16, genes=tuple("abc"), pathways={"p": (0, 1), "q": (2,)})
    with pytest.raises(BadConfig, match="--families"):
        build(without, 1)
    assert build(without, 1, groups="pathways") is not None
    with pytest.raises(BadConfig, match="families, pathways"):
        build(without, 1, groups="tissues")


def test_reconstructions_are_marked() -> None:
    models = load_registry().models
    for name in ("pomp", "ghanet", "amkd", "clam_sb"):
        assert models[name].reconstruction
        module = import_target(models[name].target).__module__
        assert "reconstruct" in (__import__(module, fromlist=["x"]).__doc__ or "").lower()
