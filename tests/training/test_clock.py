"""The clock: phases add up, interruptions don't lose what was spent, and a step on an accelerator is one phase."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from survbench.training.clock import Clock, shares


class Time:
    """A time that the test moves."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def test_phases_and_the_rest_are_the_total() -> None:
    time = Time()
    clock = Clock(now=time)
    for seconds in (1.0, 2.0):
        with clock("forward"):
            time.at += seconds
    time.at += 4
    assert clock.seconds() == {"forward": 3.0, "other": 4.0}
    assert clock.total == 7.0


def test_making_an_item_is_timed_and_using_it_is_not() -> None:
    time = Time()

    def items() -> Iterator[int]:
        for item in (1, 2):
            time.at += 1
            yield item
        time.at += 1  # what it takes to find that there is no more

    clock = Clock(now=time)
    for _ in clock.each("data", items()):
        time.at += 10
    assert clock.seconds() == {"data": 3.0, "other": 20.0}


def test_what_was_spent_before_an_interruption_is_added() -> None:
    time = Time()
    clock = Clock(now=time)
    clock.resume({"forward": 5.0, "other": 2.0})
    with clock("forward"):
        time.at += 1
    time.at += 1
    assert clock.seconds() == {"forward": 6.0, "other": 3.0}
    assert clock.total == 9.0


def test_a_phase_that_fails_counts() -> None:
    time = Time()
    clock = Clock(now=time)

    def fail() -> None:
        with clock("data"):
            time.at += 1
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert clock.seconds()["data"] == 1.0


def test_on_an_accelerator_the_parts_of_a_step_are_one_phase() -> None:
    time = Time()
    clock = Clock(separable=False, now=time)
    for phase in ("forward", "backward", "optimizer", "data"):
        with clock(phase):
            time.at += 1
    assert clock.seconds() == {"steps": 3.0, "data": 1.0, "other": 0.0}


def test_shares_are_of_all_jobs_and_ordered() -> None:
    assert list(shares([{"data": 1.0, "forward": 2.0}, {"forward": 5.0}]).items()) == [
        ("forward", 0.875),
        ("data", 0.125),
    ]
    assert shares([]) == {}
