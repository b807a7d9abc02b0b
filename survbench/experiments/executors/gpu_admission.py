"""How many jobs may run at once: on this machine, and on a device by what running jobs hold of its memory.

It starts nothing. All sizes are in bytes.
"""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

import torch

__all__ = ["CONTEXT", "MOST", "GpuAdmission", "admission_of", "bearable_workers", "device_memory", "sensible_workers"]

MOST = 8  # jobs on one device, however large it is
SHARE = 0.9  # of what was free when the run began; the rest is for what jobs come to need after they were measured
GIGABYTES_EACH = 3  # of memory for a job on the CPU
CONTEXT = 600 << 20  # of a CUDA device that a process takes beside its tensors: kernels, handles, stacks


class GpuAdmission:
    """Which jobs run, and which may run beside them.

    A job is expected to need the most that was measured of its model, or else of any; also where it was measured
    itself: a later stage or its evaluation may need what its first epoch did not.

    Parameters
    ----------
    most : jobs at once.
    budget : what all of them may hold together, math.inf for any amount; None is a share of what the first measurement
        finds, until which one job runs alone.
    """

    def __init__(self, most: int, budget: float | None = None) -> None:
        self.most, self.budget = most, budget
        self._running: dict[str, str] = {}  # job -> model
        self._largest: dict[str, int] = {}  # model -> the most that was measured
        self._beside: dict[str, int] = {}  # job -> the most jobs that ran at once since it began, itself included
        self._limit: dict[str, int] = {}  # job -> the most jobs, itself included, among which it may still be tried

    def __len__(self) -> int:
        """How many run."""
        return len(self._running)

    def fits(self, job: str, model: str) -> bool:
        """Whether a job may begin now; always where none runs."""
        if not self._running:
            return True
        if self.budget is None or job in self._running:  # twice in a command: the second time it is done already
            return False
        together = [*self._running, job]
        if len(together) > min(self._limit.get(one, self.most) for one in together):
            return False
        return sum(self._need(one) for one in [*self._running.values(), model]) <= self.budget

    def begin(self, job: str, model: str) -> None:
        """A job begins."""
        self._running[job] = model
        self._beside[job] = 0
        for one in self._running:
            self._beside[one] = max(self._beside[one], len(self))

    def end(self, job: str) -> None:
        """A job has ended, whatever became of it."""
        del self._running[job]

    def measure(self, model: str, held: int, free: int) -> None:
        """Note how much a job's process holds and how much is free beside it; zeros stand for unknown."""
        self._largest[model] = max(held, self._largest.get(model, 0))
        if self.budget is None and held:  # the first to be measured is alone
            self.budget = SHARE * (held + free)

    def may_retry(self, job: str) -> bool:
        """Note that a job found no memory left; whether it ran beside others, and so can be tried beside fewer."""
        self._limit[job] = self._beside[job] - 1
        return self._limit[job] > 0

    def _need(self, model: str) -> int:
        return self._largest.get(model) or max(self._largest.values(), default=0)


def device_memory(name: str) -> tuple[int, int]:
    """Bytes of a CUDA device: the most that this process has held, and what is free for any process now.

    Zeros where that is unknown: on other devices, and before this one was used.
    """
    device = torch.device(name)
    if device.type != "cuda" or not torch.cuda.is_initialized():
        return 0, 0
    try:
        free, _ = torch.cuda.mem_get_info(device)
    except RuntimeError:  # the device may be too full for a query
        return 0, 0
    return torch.cuda.max_memory_reserved(device) + CONTEXT, free


def sensible_workers(device: torch.device) -> int:
    """As many as the machine bears; on an accelerator one."""
    return bearable_workers() if device.type == "cpu" else 1


def bearable_workers() -> int:
    """One per core that this process may use and per 3 GB of memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limits = Path("/sys/fs/cgroup")  # of a container
    with suppress(OSError, ValueError):
        quota, period = (limits / "cpu.max").read_text().split()
        cores = min(cores, -(-int(quota) // int(period)))
    with suppress(OSError, ValueError):
        memory = min(memory, int((limits / "memory.max").read_text()))
    return max(1, min(cores, memory // (GIGABYTES_EACH << 30)))


def admission_of(workers: int | None, device: torch.device, jobs: int) -> GpuAdmission:
    """For a number of workers; None is on CUDA as many as its memory turns out to hold, else `sensible_workers`."""
    if workers is None and device.type == "cuda":
        return GpuAdmission(min(MOST, bearable_workers(), jobs))
    return GpuAdmission(min(workers or sensible_workers(device), jobs), budget=math.inf)
