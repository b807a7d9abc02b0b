"""What training changes about how torch multiplies, it changes back."""

from __future__ import annotations

import pytest
import torch

from survbench.training import device as devices
from survbench.training.device import multiplied, products

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
