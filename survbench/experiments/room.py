"""How many jobs may run at once: told who runs and what jobs hold of the device, it says whether one more fits.

It knows neither processes nor devices. All sizes are in bytes.
"""

from __future__ import annotations

__all__ = ["MOST", "Room"]

MOST = 8  # jobs on one device, however large it is
SHARE = 0.9  # of what was free when the run began; the rest is for what jobs come to need after they were measured


class Room:
    """Who runs now, and who may run beside them.

    A job that nobody has measured is taken to need the most that was measured of its model, or else of any. So is one
    that was: a later stage or its evaluation may need what its first epoch did not.

    Parameters
    ----------
    most : jobs at once. budget : what all of them may hold together, math.inf for any amount. None: what the first
    measurement says, until when one job runs alone.
    """

    def __init__(self, most: int, budget: float | None = None) -> None:
        self.most, self.budget = most, budget
        self._running: dict[str, str] = {}  # job -> model
        self._largest: dict[str, int] = {}  # model -> the most that was measured
        self._company: dict[str, int] = {}  # job -> the most jobs that ran at once since it began, itself included
        self._bearable: dict[str, int] = {}  # job -> the most jobs, itself included, among which it may still be tried

    def __len__(self) -> int:
        """How many run."""
        return len(self._running)

    def fits(self, job: str, model: str) -> bool:
        """Whether a job may begin now; always where none runs."""
        if not self._running:
            return True
        if self.budget is None or job in self._running:  # asked for twice, it is found done the second time
            return False
        together = [*self._running, job]
        if len(together) > min(self._bearable.get(one, self.most) for one in together):
            return False
        return sum(self._need(one) for one in [*self._running.values(), model]) <= self.budget

    def enter(self, job: str, model: str) -> None:
        """A job begins."""
        self._running[job] = model
        self._company[job] = 0
        for one in self._running:
            self._company[one] = max(self._company[one], len(self))

    def leave(self, job: str) -> None:
        """A job has ended, whatever became of it."""
        del self._running[job]

    def measure(self, model: str, held: int, free: int) -> None:
        """Learn from a job that its process holds so much, and that so much is free beside it."""
        self._largest[model] = max(held, self._largest.get(model, 0))
        if self.budget is None:  # whoever is the first to be measured is alone
            self.budget = SHARE * (held + free)

    def crowded(self, job: str) -> bool:
        """Learn that a job found no memory left; whether it had company, and so can be tried in a smaller one."""
        self._bearable[job] = self._company[job] - 1
        return self._bearable[job] > 0

    def _need(self, model: str) -> int:
        return self._largest.get(model) or max(self._largest.values(), default=0)
