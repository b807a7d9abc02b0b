"""How many jobs fit on a device: whatever they hold and in whatever order they come to need it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from survbench.experiments.executors.gpu_admission import CONTEXT, SHARE, GpuAdmission, device_memory

GB = 1 << 30


@dataclass(frozen=True)
class Need:
    """What a job comes to hold: after its first epoch, and before it ends."""

    model: str
    first: int
    last: int


@dataclass
class Device:
    """A device and the jobs on it: who finds it full gives all back and is tried again, if admission says so."""

    free: int
    admission: GpuAdmission
    waiting: dict[str, Need]
    running: dict[str, Need] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    measured: dict[str, int] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)

    def begin(self, job: str) -> None:
        """Let a job in, and see that what was measured speaks for it."""
        need = self.waiting.pop(job)
        if self.running:
            known = [self.measured.get(one.model, max(self.measured.values())) for one in self.running.values()]
            asked = self.measured.get(need.model, max(self.measured.values()))
            assert sum(self.held.values()) <= sum(known) <= SHARE * self.free - asked + 1
        self.running[job] = need
        self.admission.begin(job, need.model)
        assert 1 <= len(self.running) == len(self.admission) <= self.admission.most

    def go_on(self, job: str) -> None:
        """Take what a job needs next, or end it."""
        need = self.running[job]
        size = need.last if job in self.held else need.first
        if sum(self.held.values()) - self.held.get(job, 0) + size > self.free:
            self.end(job, "" if self.admission.may_retry(job) else "too large")
            return
        done = job in self.held
        self.held[job] = size
        self.measured[need.model] = max(size, self.measured.get(need.model, 0))
        self.admission.measure(need.model, size, self.free - sum(self.held.values()))
        if done:
            self.end(job, "done")

    def end(self, job: str, how: str) -> None:
        """Free what a job holds; without a word of how it ended, it waits again."""
        need = self.running.pop(job)
        self.held.pop(job, None)
        self.admission.end(job)
        if how:
            self.ended[job] = how
        else:
            self.waiting[job] = need


needs = st.builds(
    lambda model, first, more: Need(model, first, first + more),
    st.sampled_from(["snn", "mcat", "amkd"]),
    st.integers(1, 30 * GB),
    st.integers(0, 30 * GB),
)


@given(
    jobs=st.lists(needs, min_size=1, max_size=20),
    free=st.integers(1, 80 * GB),
    most=st.integers(1, 8),
    chance=st.randoms(use_true_random=False),
)
def test_all_jobs_end_and_none_begins_over_budget(jobs: list[Need], free: int, most: int, chance: Random) -> None:
    """In whatever order they come to need what they need, and though half of it shows only after the first epoch."""
    device = Device(free, GpuAdmission(most), {str(number): need for number, need in enumerate(jobs)})
    steps = 0
    while device.waiting or device.running:
        while fitting := [job for job, need in device.waiting.items() if device.admission.fits(job, need.model)]:
            device.begin(chance.choice(fitting))
        device.go_on(chance.choice(list(device.running)))
        steps += 1
        assert steps <= 2 * most * len(jobs)  # each is tried among fewer every time
    assert device.ended == {
        str(number): "done" if need.last <= free else "too large" for number, need in enumerate(jobs)
    }


@given(sizes=st.lists(st.integers(1, 10 * GB), min_size=1, max_size=12), free=st.integers(1, 80 * GB))
def test_those_who_run_stay_below_the_budget_where_a_model_is_as_large_as_measured(sizes: list[int], free: int) -> None:
    """One model whose size is known: as many as 90 % of the device hold, no more and, up to the limit, no fewer."""
    size = max(sizes)
    admission = GpuAdmission(8)
    admission.begin("0", "snn")
    assert not admission.fits("1", "snn")  # before anything was measured
    for known in sizes:
        admission.measure("snn", known, max(free - known, 0))
    for number in range(1, 9):
        if not admission.fits(str(number), "snn"):
            break
        admission.begin(str(number), "snn")
    assert admission.budget is not None
    assert len(admission) == 1 or len(admission) * size <= admission.budget
    assert len(admission) == 8 or (len(admission) + 1) * size > admission.budget


def test_an_unknown_model_is_taken_for_the_largest_known() -> None:
    admission = GpuAdmission(8)
    admission.begin("a", "small")
    admission.measure("small", 1 * GB, 9 * GB)
    admission.measure("large", 5 * GB, 0)
    assert admission.fits("b", "small")
    assert admission.fits("b", "unknown")  # 1 + 5 of 9
    admission.begin("b", "unknown")
    assert admission.fits("c", "small")
    assert not admission.fits("c", "unknown")


def test_a_number_that_was_asked_for_is_taken_as_it_is() -> None:
    admission = GpuAdmission(3, math.inf)
    for job in "abc":
        assert admission.fits(job, "snn")
        admission.begin(job, "snn")
    assert not admission.fits("d", "snn")
    admission.end("c")
    assert not admission.fits("a", "snn")  # it runs already
    assert admission.fits("c", "snn")


def test_who_found_the_device_full_is_tried_among_fewer_and_last_alone() -> None:
    admission = GpuAdmission(8, math.inf)
    for job in "abc":
        admission.begin(job, "snn")
    assert admission.may_retry("a")
    admission.end("a")
    assert not admission.fits("a", "snn")
    assert admission.fits("d", "snn")
    admission.end("b")
    assert admission.fits("a", "snn")
    admission.begin("a", "snn")
    assert not admission.fits("d", "snn")  # it would make them three again
    admission.end("c")  # which was there when it began
    assert admission.may_retry("a")
    admission.end("a")
    admission.begin("d", "snn")
    assert not admission.fits("a", "snn")
    admission.end("d")
    admission.begin("a", "snn")
    assert not admission.fits("d", "snn")
    assert not admission.may_retry("a")


def test_what_a_process_holds_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked of a CUDA device that it has used, and of no other."""
    cuda = torch.device("cuda")
    assert device_memory("cpu") == device_memory("cuda") == (0, 0)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", {cuda: 7}.get)
    monkeypatch.setattr(torch.cuda, "mem_get_info", {cuda: (5, 20)}.get)
    assert device_memory("cuda") == (7 + CONTEXT, 5)
    assert device_memory("cpu") == (0, 0)


def test_zeros_are_no_measurement() -> None:
    admission = GpuAdmission(8)
    admission.begin("a", "snn")
    admission.measure("snn", 0, 0)
    assert admission.budget is None
