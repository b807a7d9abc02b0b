"""Turns, budgets and refusals under a simulated clock: nothing here takes time."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.errors import NotInstalled
from benchmarks.rounds import Contestant, Limits, Outcome, Race, Work, run_races


class Invented:
    """A clock that only work moves, and outside load that a test turns on."""

    def __init__(self, free: int = 1 << 40) -> None:
        self.time = self.foreign = 0.0
        self.load = 0.0
        self.free = free
        self.calls: list[str] = []

    def pass_by(self, seconds: float) -> None:
        self.time += seconds
        self.foreign += self.load * seconds

    def now(self) -> float:
        return self.time

    def probe(self) -> float:
        self.pass_by(0.02)
        return 0.02

    def others(self) -> float:
        return self.foreign

    def count(self, work: Work) -> int:
        work()
        return 1_000

    def memory(self) -> int:
        return self.free

    def growth(self, work: Callable[[], object]) -> int:
        work()
        return 1 << 20

    def contestant(self, name: str, seconds: float, counted: bool = False) -> Contestant:
        def work() -> None:
            self.calls.append(name)
            self.pass_by(seconds)

        return Contestant(name=name, prepare=lambda: work, counted=counted)


def run(meter: Invented, *contestants: Contestant, limits: Limits, sizes: tuple[int, ...] = (1,)) -> list[Outcome]:
    races = [Race(suite="step", cell={"n": size}, contestants=contestants, size=size) for size in sizes]
    return list(run_races(races, meter, limits))


def test_contestants_take_turns() -> None:
    meter = Invented()
    run(meter, meter.contestant("a", 0.2), meter.contestant("b", 0.2), limits=Limits(3))
    assert meter.calls[-6:] == ["a", "b", "a", "b", "a", "b"]


def test_every_round_has_a_matrix_product_on_both_sides() -> None:
    meter = Invented()
    (a, b) = run(meter, meter.contestant("a", 0.1, counted=True), meter.contestant("b", 0.3), limits=Limits(4))
    assert [len(a.rounds), len(b.rounds)] == [4, 4]
    assert {(round(r.seconds, 6), r.before, r.after) for r in b.rounds} == {(0.3, 0.02, 0.02)}
    assert (a.flops, b.flops) == (1_000, None)


def test_quick_work_is_repeated_and_given_per_call() -> None:
    meter = Invented()
    (only,) = run(meter, meter.contestant("a", 0.001), limits=Limits(1))
    assert len(meter.calls) == 2 + 100
    assert abs(only.rounds[0].seconds - 0.001) < 1e-9


def test_work_that_times_itself_is_believed() -> None:
    (only,) = run(Invented(), Contestant(name="a", prepare=lambda: lambda: 7.0), limits=Limits(2, seconds=1e6))
    assert [r.seconds for r in only.rounds] == [7.0, 7.0]


def test_spoiled_rounds_are_taken_again_but_not_for_ever() -> None:
    meter = Invented()
    meter.load = 1.0
    (only,) = run(meter, meter.contestant("a", 0.1), limits=Limits(3))
    assert len(only.rounds) == 9
    assert all(abs(r.outside - 1) < 1e-6 for r in only.rounds)


def test_the_budget_ends_a_race_early() -> None:
    meter = Invented()
    (only,) = run(meter, meter.contestant("a", 1.0), limits=Limits(100, seconds=5))
    assert len(only.rounds) == 5


def test_what_cannot_be_done_in_the_budget_is_skipped_and_says_so() -> None:
    meter = Invented()
    (only,) = run(meter, meter.contestant("a", 10.0), limits=Limits(seconds=20))
    assert only.status.startswith("skipped: about 10 s")
    assert not only.rounds


def test_a_small_race_foretells_that_a_large_one_takes_too_long() -> None:
    meter = Invented()
    small, large = run(meter, meter.contestant("a", 1.0), limits=Limits(3, seconds=20), sizes=(1, 100))
    assert small.status == "measured"
    assert large.status.startswith("skipped: about 100 s")


def test_a_small_race_foretells_that_a_large_one_takes_too_much_memory() -> None:
    meter = Invented(free=10 << 20)
    small, large = run(meter, meter.contestant("a", 0.01), limits=Limits(3), sizes=(1, 100))
    assert small.status == "measured"
    assert large.status.startswith("skipped: needs about")


def test_a_missing_package_and_a_failure_are_told_and_stop_nobody() -> None:
    def missing() -> Work:
        raise NotInstalled("torchmil")

    def broken() -> Work:
        raise ValueError("no\nway")

    meter = Invented()
    contestants = (
        Contestant(name="p", prepare=missing),
        Contestant(name="q", prepare=broken),
        meter.contestant("a", 0.1),
    )
    p, q, a = run(meter, *contestants, limits=Limits(2))
    assert p.status == "not installed: torchmil"
    assert q.status == "failed: ValueError: no way"
    assert a.status == "measured"
