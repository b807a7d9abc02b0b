"""What only a GPU can show; skipped where there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from support.builders import batch, inputs, split
from survbench.cards import Modality, ModelCard
from survbench.data.bags import PinnedBags, ResidentBags, bags_for, gather
from survbench.data.batches import device_batch
from survbench.data.store import BagStore
from survbench.model import Stage, SurvivalModel
from survbench.registry import import_target, load_registry
from survbench.training.device import autocast, multiplied
from survbench.training.objectives import Cox

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
CARDS = [card for card in load_registry().models.values() if not card.objective]
SIZES = (70, 1, 300, 33, 300)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
every_model = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)


def stages(card: ModelCard, device: torch.device) -> tuple[SurvivalModel, list[Stage]]:
    """A model without dropout, whose random numbers differ from device to device."""
    torch.manual_seed(0)
    model: SurvivalModel = import_target(card.target)(inputs(), 1, **card.config)
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.AlphaDropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    model = model.to(device).train()
    every = model.stages(card.train_inputs, card.inference_inputs)
    return model, [stage for stage in every if isinstance(stage, Stage) and stage.name != "pretrain"]  # which draws


def drawn() -> Batch:
    content = batch(SIZES)
    content["part"], content["whole"] = (0, 1, 2, 3, 4), (0, 1, 2, None, 4)
    return content


def step(card: ModelCard, device: torch.device, half: bool = False) -> list[dict[str, Tensor]]:
    """Losses and gradients of every stage."""
    model, every = stages(card, device)
    seen = device_batch(drawn(), device)
    if half:
        seen["x"] = seen.x.to(multiplied(device))
    found = []
    for stage in every:
        model.zero_grad()
        with autocast(device) if half else torch.autocast(device.type, enabled=False):
            losses = stage.loss(stage.predict(seen), seen, Cox())
        losses["total"].backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append({name: value.detach().cpu() for name, value in {**losses, **gradients}.items()})
    return found


@every_model
def test_a_step_in_float32_is_that_of_a_cpu(card: ModelCard) -> None:
    for ours, expected in zip(step(card, CUDA), step(card, CPU), strict=True):
        assert ours.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(
                ours[name],
                value,
                atol=2e-4 * max(1.0, float(value.abs().max())),
                rtol=2e-3,
                msg=lambda t, n=name: n + t,
            )


@every_model
def test_a_step_in_the_precision_of_training_is_close(card: ModelCard) -> None:
    for ours, expected in zip(step(card, CUDA, half=True), step(card, CPU), strict=True):
        torch.testing.assert_close(ours["total"].float(), expected["total"], atol=0.05, rtol=0.05)
        every = [torch.cat([g[name].flatten().float() for name in expected if g[name].dim()]) for g in (ours, expected)]
        assert torch.isfinite(every[0]).all()
        assert torch.cosine_similarity(every[0], every[1], dim=0) > 0.95


@every_model
def test_a_step_waits_for_nothing(card: ModelCard) -> None:
    """A step that needs a number from the device cannot be issued ahead of it."""
    if card.name in ("patchgcn", "clam_sb") or card.config.get("targets") == "out-of-fold":
        pytest.skip("looks for neighbors, or for the ends of each bag, on the host")
    _, every = stages(card, CUDA)
    seen = device_batch(drawn(), CUDA)
    for waiting in ("default", "error"):  # the first time fills caches
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode(waiting)
        try:
            for stage in every:
                with autocast(CUDA):
                    losses = stage.loss(stage.predict(seen), seen, Cox())
                losses["total"].backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")


def store(folder: Path) -> BagStore:
    rng = np.random.default_rng(0)
    sizes = {"P000": 50, "P001": 9, "P002": 1}
    stops = np.cumsum(list(sizes.values()))
    lines = [f"{p},{p},{stop - sizes[p]},{stop}" for p, stop in zip(sizes, stops, strict=True)]
    (folder / "index.csv").write_text("\n".join(["patient,slide,start,stop", *lines]) + "\n", encoding="utf-8")
    rng.standard_normal((60, 16)).astype(np.float16).tofile(folder / "features.bin")
    rng.standard_normal((60, 2)).astype(np.float32).tofile(folder / "coords.bin")
    return BagStore(folder=folder, dim=16, dtype="float16", patches=60, content_hash="", encoder=None, simulated=True)


def test_a_cohort_lies_on_the_device_where_it_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = store(tmp_path)
    expected = gather(packed, ["P001", "P000"], None, None)
    fits = bags_for(packed, CUDA, torch.float32)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (100, 100))
    does_not = bags_for(packed, CUDA, torch.bfloat16)
    assert isinstance(fits, ResidentBags)
    assert isinstance(does_not, PinnedBags)
    for bags, dtype in ((fits, torch.float32), (does_not, torch.bfloat16)):
        patients = replace(split(patients=3), bags=bags)
        ours = device_batch(patients.batch(np.array([1, 0]), (Modality.SLIDES,), labels=True), CUDA)
        assert ours.x.device.type == ours.time.device.type == "cuda"
        assert torch.equal(ours.x.cpu(), expected["x"].to(dtype))
        assert torch.equal(ours.slide.cpu(), expected["slide"])
    sampled = gather(fits, ["P001", "P000"], 20, np.random.default_rng(0))
    rows = {tuple(row) for row in expected["x"].tolist()}
    assert sampled["sizes"] == (9, 20)
    assert all(tuple(row) in rows for row in sampled["x"].tolist())
