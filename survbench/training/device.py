"""Where training runs and in which precision; what that hardware is."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from typing import Any

import torch
from threadpoolctl import ThreadpoolController

from survbench.errors import BadConfig

__all__ = [
    "autocast",
    "cpu_threads",
    "hardware",
    "keep_freed_memory",
    "multiplied",
    "peak_memory",
    "precision",
    "products",
    "resolve_device",
]

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def resolve_device(name: str) -> torch.device:
    """The device of this name; `auto` prefers CUDA, then MPS, then the CPU.

    Raises
    ------
    BadConfig : the device is unknown or missing.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise BadConfig(f"device '{name}' cannot be used: {str(error).splitlines()[0]}", "try --device auto") from None
    return device


@cache
def precision(device: torch.device) -> str:
    """bfloat16 autocast on CUDA devices that have it, float32 elsewhere."""
    return "bf16-autocast" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"


def multiplied(device: torch.device) -> torch.dtype:
    """Type in which patches are multiplied."""
    return torch.float32 if precision(device) == "float32" else torch.bfloat16


@contextmanager
def autocast(device: torch.device) -> Iterator[None]:
    """Context for forward passes and losses; objectives compute in float32 by themselves."""
    with products(device):
        if precision(device) == "float32":
            yield
        else:
            with torch.autocast("cuda", torch.bfloat16):
                yield


@contextmanager
def products(device: torch.device) -> Iterator[None]:
    """Context for matrix products: beside bfloat16, products that need float32 are computed in TF32.

    One is Nystrom attention's iterated inverse, whose error in TF32 is a fortieth of what bfloat16 makes elsewhere.
    cuDNN's attention is switched off: it plans anew for every shape, and every batch has a shape of its own.
    """
    before, planned = torch.get_float32_matmul_precision(), torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    if precision(device) != "float32":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cuda.enable_cudnn_sdp(planned)


@contextmanager
def cpu_threads(number: int | None) -> Iterator[None]:
    """Context that computes with so many threads; the order of sums, and so the last digits, depend on it.

    Parameters
    ----------
    number : of threads; None leaves it to the libraries.
    """
    if number is None:
        yield
        return
    before = torch.get_num_threads()
    with _thread_pools(len(sys.modules)).limit(limits=number):
        torch.set_num_threads(number)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@lru_cache(maxsize=1)
def _thread_pools(modules: int) -> ThreadpoolController:
    """Thread pools of all loaded libraries; `modules` makes a new search where modules were imported since."""
    return ThreadpoolController()


def keep_freed_memory() -> None:
    """Have this process reuse the memory that its tensors free, instead of returning it to the system.

    Every step frees and allocates the same hundreds of megabytes, and a new page of memory costs more time than what is
    computed in it. Works with glibc; elsewhere nothing happens.
    """
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def hardware(device: torch.device) -> dict[str, Any]:
    """Device, precision, threads and platform, for the record of a result."""
    return {
        "device": str(device),
        "name": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine(),
        "precision": precision(device),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
    }


def peak_memory(device: torch.device) -> dict[str, int]:
    """Highest memory so far, in bytes.

    Returns
    -------
    `process_bytes`, resident memory of this process; on CUDA also `device_bytes`, of its tensors there.
    """
    unit = 1 if sys.platform == "darwin" else 1024  # macOS reports bytes, Linux kilobytes
    peak = {"process_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if device.type == "cuda":
        peak["device_bytes"] = torch.cuda.max_memory_allocated(device)
    return peak
