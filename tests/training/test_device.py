"""What training changes about how torch multiplies, it changes back; memory is in bytes on every platform."""

from __future__ import annotations

import resource
import sys
from types import SimpleNamespace

import pytest
import torch

from survbench.training import device as devices
from survbench.training.device import multiplied, peak_memory, products

CPU = torch.device("cpu")


def settings() -> tuple[str, bool]:
    return torch.get_float32_matmul_precision(), torch.backends.cuda.cudnn_sdp_enabled()


def test_products_of_a_cpu_stay_exact() -> None:
    assert multiplied(CPU) is torch.float32
    with products(CPU):
        assert torch.get_float32_matmul_precision() == "highest"


def test_where_bfloat16_is_used_the_rest_may_use_tf32_for_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "precision", lambda _: "bf16-autocast")
    before = settings()

    def interrupted() -> None:
        with products(CPU):
            assert settings() == ("high", False)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert settings() == before
    assert multiplied(CPU) is torch.bfloat16


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_peak_memory_is_in_bytes_whatever_unit_the_system_reports(
    monkeypatch: pytest.MonkeyPatch, platform: str, unit: int
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=7 * 2**20 // unit))
    assert peak_memory(CPU) == {"process_bytes": 7 * 2**20}
