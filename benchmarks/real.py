"""The real meter: this process's clock, a matrix product on the device, /proc for what others do."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.rounds import Work
from survbench.training.device import peak_memory, precision

__all__ = ["DeviceMeter", "peak_growth"]

SIDE = {"cpu": 1024, "cuda": 8192}  # of the square matrices: 20 ms on one core, 2 ms on a large GPU
_TICK = os.sysconf("SC_CLK_TCK")


class DeviceMeter:
    """Measures on one device; the matrix product is in the precision that training multiplies in."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        side = SIDE.get(device.type, 2048)
        dtype = torch.float32 if precision(device) == "float32" else torch.bfloat16
        self._left, self._right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        self._result = torch.empty_like(self._left)
        self.probe_flops = 2.0 * side**3
        self.probe()

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def probe(self) -> float:
        """The fastest of three: the first one finds its matrices gone from the cache."""
        return min(self._multiply() for _ in range(3))

    def _multiply(self) -> float:
        started = self.now()
        torch.mm(self._left, self._right, out=self._result)
        return self.now() - started

    def others(self) -> float:
        """What all processors did, less what this process and its finished children did; 0 where /proc is missing."""
        busy = _busy_seconds()
        own = os.times()
        return 0.0 if busy is None else busy - time.process_time() - own.children_user - own.children_system

    def count(self, work: Work) -> int:
        with FlopCounterMode(display=False, custom_mapping=_own_counts()) as counter:
            work()
        return int(counter.get_total_flops())

    def memory(self) -> int:
        """Bytes that may still be used, with a tenth left for the rest of the machine."""
        if self.device.type == "cuda":
            return int(0.9 * torch.cuda.mem_get_info(self.device)[0])
        for line in _lines("/proc/meminfo"):
            if line.startswith("MemAvailable"):
                return int(0.9 * 1024 * int(line.split()[1]))
        return sys.maxsize

    def growth(self, work: Callable[[], object]) -> int:
        if self.device.type != "cuda":
            return peak_growth(work)
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        work()
        return peak_memory(self.device)["device_bytes"] - before


def peak_growth(work: Callable[[], object]) -> int:
    """Bytes by which the process's resident memory rose above what it was, at its highest, while working."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark starts from here
    except OSError:
        process = torch.device("cpu")
        before = peak_memory(process)["process_bytes"]
        work()
        return peak_memory(process)["process_bytes"] - before
    before = _status("VmRSS")
    work()
    return max(0, _status("VmHWM") - before)


def _status(key: str) -> int:
    return next(1024 * int(line.split()[1]) for line in _lines("/proc/self/status") if line.startswith(f"{key}:"))


def _busy_seconds() -> float | None:
    """Seconds that all processors were not idle, time used by other virtual machines included."""
    for line in _lines("/proc/stat"):
        if line.startswith("cpu "):
            user, nice, system, _, _, irq, softirq, steal, *_ = (int(v) for v in line.split()[1:])
            return (user + nice + system + irq + softirq + steal) / _TICK
    return None


def _lines(file: str) -> list[str]:
    try:
        return Path(file).read_text(encoding="ascii").splitlines()
    except OSError:
        return []


def _own_counts() -> dict[Any, Any]:
    """What torch's counter does not know, the fused attention of CPUs, or counts too high, gradients of grouped
    convolutions: it takes every channel for an input of every other.

    Attention is two products forward and four backward, however often a kernel recomputes.
    """
    aten = torch.ops.aten
    return {
        aten._scaled_dot_product_flash_attention_for_cpu: lambda query, key, *_, **__: _attention(2, query, key),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: (
            lambda _, query, key, *__, **___: _attention(4, query, key)
        ),
        aten.convolution_backward: _convolution_backward,
    }


def _attention(products: int, query: Sequence[int], key: Sequence[int]) -> int:
    """Shapes (batch, heads, rows, width)."""
    return 2 * products * math.prod(query) * key[-2]


def _convolution_backward(
    gradient: Sequence[int], _: Sequence[int], weight: Sequence[int], *options: Any, **__: Any
) -> int:
    """As many operations as forward for each gradient that is wanted. Weights are (out, in of a group, kernel)."""
    wanted = sum(options[-1][:2])
    return wanted * 2 * math.prod(gradient) * math.prod(weight[1:])
