"""How many jobs may run at once on a device: told who runs and what jobs hold of it, says whether one more fits.

It starts nothing. All sizes are in bytes.
"""

from __future__ import annotations

import torch

__all__ = ["CONTEXT", "MOST", "GpuAdmission", "device_memory"]

MOST = 8  # jobs on one device, however large it is
SHARE = 0.9  # of what was free when the run began; the rest is for what jobs come to need after they were measured
CONTEXT = 600 << 20  # of a CUDA device that a process takes beside its tensors: kernels, handles, stacks


class GpuAdmission:
    """Which jobs run, and which may run beside them.

    A job that was not measured is taken to need the most that was measured of its model, or else of any. So is one
    that was: a later stage or its evaluation may need what its first epoch did not.

    Parameters
    ----------
    most : jobs at once.
    budget : what all of them may hold together, math.inf for any amount. None: what the first measurement says, until
        when one job runs alone.
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
        if self.budget is None or job in self._running:  # given twice, it is found done the second time
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
        """Learn from a job that its process holds so much, and that so much is free beside it; zeros say nothing."""
        self._largest[model] = max(held, self._largest.get(model, 0))
        if self.budget is None and held:  # the first to be measured is alone
            self.budget = SHARE * (held + free)

    def may_retry(self, job: str) -> bool:
        """Learn that a job found no memory left; whether it ran beside others, and so can be tried beside fewer."""
        self._limit[job] = self._beside[job] - 1
        return self._limit[job] > 0

    def _need(self, model: str) -> int:
        return self._largest.get(model) or max(self._largest.values(), default=0)


def device_memory(name: str) -> tuple[int, int]:
    """Bytes of a CUDA device: what this process held at most so far, and what is free for any process now.

    Zeros where that is not known: on other devices, and where nothing was done on this one.
    """
    device = torch.device(name)
    if device.type != "cuda" or not torch.cuda.is_initialized():
        return 0, 0
    try:
        free, _ = torch.cuda.mem_get_info(device)
    except RuntimeError:  # the device may be too full to be asked
        return 0, 0
    return torch.cuda.max_memory_reserved(device) + CONTEXT, free
