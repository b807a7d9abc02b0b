"""Measuring what models cost: the trainer's own step, memory as the trainer reports it, and the command."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch
from click.testing import CliRunner

from survbench.cli import cli
from survbench.complexity import measure as measuring
from survbench.complexity.measure import measure
from survbench.registry import load_registry
from survbench.training.steps import train_step


def test_the_command_measures_and_sets_published_figures_beside() -> None:
    arguments = ["complexity", "--model", "mcat,mlp,null", "--patches", "32", "--pathways", "5", "--json"]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    rows = {row["model"]: row for row in json.loads(done.stdout)}
    assert list(rows) == ["mcat", "mlp", "null"]
    assert rows["mcat"]["published"] == {"parameters": 2_640_000, "flops": 1_080_000_000}
    assert rows["mlp"]["published"] is None
    assert rows["mlp"]["parameters"] == 4999 * 256 + 256 + 256 * 256 + 256 + 257
    assert rows["mcat"]["step_seconds"] > 0
    assert rows["null"]["step_seconds"] is None
    assert all(row["peak_bytes"] > 0 for row in rows.values())


def test_the_step_is_the_trainers_and_memory_grows_by_what_the_trainer_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks: Iterator[int] = iter((3_000, 45_000))
    devices = []

    def step(stage: object, objective: object, batch: object, optimizer: object, device: torch.device, *rest: object):  # type: ignore[no-untyped-def]
        devices.append(device.type)
        return train_step(stage, objective, batch, optimizer, device, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(measuring, "peak_memory", lambda _: {"process_bytes": next(peaks)})
    monkeypatch.setattr(measuring, "train_step", step)
    cost = measure(load_registry().models["mlp"], patches=8, pathways=5, device="cpu")
    assert cost.peak_bytes == 42_000
    assert set(devices) == {"cpu"}
    assert cost.step_seconds is not None


def test_on_an_accelerator_memory_is_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter(({"process_bytes": 9, "device_bytes": 100}, {"process_bytes": 10, "device_bytes": 700}))
    monkeypatch.setattr(measuring, "peak_memory", lambda _: next(peaks))
    assert measure(load_registry().models["null"], patches=8, pathways=5, device="cpu").peak_bytes == 600
