"""Contestants timed in turns: every round calls each of them once, with a matrix product before and after.

What is timed is in suites/; how raw rounds become figures is in figures.py.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.errors import NotMeasured
from benchmarks.figures import Round, kept

__all__ = ["Contestant", "Limits", "Meter", "Outcome", "Race", "Work", "run_races"]

SHORTEST = 0.1  # seconds: quicker work is repeated until a measurement takes this long; /proc counts hundredths
LONG = 2.0  # seconds: work that takes this long needs no second call to warm up
TRIES = 3  # rounds at most, as a multiple of those wanted, when load from outside spoils some
FEWEST = 3  # rounds that must fit into the budget, or the contestant is left out

Work = Callable[[], float | None]
"""One call of what is timed. One that times itself returns its seconds."""


class Meter(Protocol):
    """Clock, reference product and load of the machine; real.py has the real one, tests have their own."""

    def now(self) -> float:
        """Seconds."""

    def probe(self) -> float:
        """Seconds of the matrix product that everything is measured by."""

    def others(self) -> float:
        """Processor seconds that other processes have used so far."""

    def count(self, work: Work) -> int:
        """Do the work once and count the floating-point operations of its matrix products."""

    def memory(self) -> int:
        """Bytes that are still free."""

    def growth(self, work: Callable[[], object]) -> int:
        """Do the work once; bytes that the process needed on top of what it had."""


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """Something to be timed.

    Attributes
    ----------
    name : in the tables.
    prepare : makes the work, untimed.
    units : what one call works through, such as patients.
    growth : exponent with which time and memory follow the size of a race.
    counted : whether its matrix products are counted.
    bytes : that one call delivers, for throughput.
    """

    name: str
    prepare: Callable[[], Work]
    units: int = 1
    growth: float = 1.0
    counted: bool = False
    bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Race:
    """Contestants for one cell of a table.

    Attributes
    ----------
    suite : its name.
    cell : column -> value.
    contestants : timed in turns.
    unit : of the work, for tables.
    size : of the work, to foresee how long the next larger race will take.
    """

    suite: str
    cell: Mapping[str, int | str]
    contestants: Sequence[Contestant]
    unit: str = "call"
    size: float = 1.0


@dataclass(frozen=True)
class Limits:
    """How long a race may last.

    Attributes
    ----------
    rounds : wanted.
    seconds : of a contestant in a race, preparation not counted.
    """

    rounds: int = 7
    seconds: float = 60.0


@dataclass(kw_only=True)
class Outcome:
    """A contestant's measurements in a race.

    Attributes
    ----------
    suite : of the race.
    contestant : its name.
    cell : of the race.
    unit : of the work.
    units : in one call.
    status : `measured`, or why not.
    flops : of one call.
    bytes : that one call delivers.
    rounds : raw measurements.
    peak_bytes : memory that one call needs, in suites that measure it.
    """

    suite: str
    contestant: str
    cell: dict[str, int | str]
    unit: str = "call"
    units: int = 1
    status: str = "measured"
    flops: int | None = None
    bytes: int | None = None
    rounds: list[Round] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)


def run_races(
    races: Iterable[Race], meter: Meter, limits: Limits, report: Callable[[str], None] = lambda _: None
) -> Iterable[Outcome]:
    """Outcomes race by race. Races of a suite should come in order of size: smaller ones predict larger ones."""
    known: dict[tuple[str, ...], _Known] = {}
    for race in races:
        lanes = []
        for contestant in race.contestants:
            report(f"{race.suite} {_words(race.cell)}: {contestant.name}")
            lanes.append(_ready(race, contestant, meter, limits, known))
        report(f"{race.suite} {_words(race.cell)}")
        _take_turns([lane for lane in lanes if lane.work is not None], meter, limits)
        yield from (lane.outcome for lane in lanes)
        del lanes
        gc.collect()  # models of this race must not stand in the next one's memory


@dataclass
class _Known:
    """What a contestant took in an earlier race."""

    size: float
    seconds: float
    bytes: int

    def at(self, size: float, growth: float) -> tuple[float, float]:
        factor = (size / self.size) ** growth
        return self.seconds * factor, self.bytes * factor


@dataclass(kw_only=True)
class _Lane:
    outcome: Outcome
    work: Work | None = None
    seconds: float = 0.0  # of the last call
    spent: float = 0.0
    repeats: int = 1

    def wants(self, limits: Limits, best: float) -> bool:
        """Whether another round is wanted and can be afforded."""
        rounds = self.outcome.rounds
        affordable = len(rounds) < FEWEST or self.spent + self.seconds * self.repeats <= limits.seconds
        return len(kept(rounds, best)) < limits.rounds and len(rounds) < TRIES * limits.rounds and affordable


def _ready(
    race: Race, contestant: Contestant, meter: Meter, limits: Limits, known: dict[tuple[str, ...], _Known]
) -> _Lane:
    """Prepare and warm up, unless an earlier race says that it would take too much."""
    outcome = Outcome(
        suite=race.suite,
        contestant=contestant.name,
        cell=dict(race.cell),
        unit=race.unit,
        units=contestant.units,
        bytes=contestant.bytes,
    )
    lane = _Lane(outcome=outcome)
    same = (contestant.name, *(value for value in race.cell.values() if isinstance(value, str)))
    if same in known:
        seconds, memory = known[same].at(race.size, contestant.growth)
        outcome.status = _refusal(seconds, memory, meter.memory(), limits)
    if outcome.status != "measured":
        return lane
    try:
        lane.work = contestant.prepare()
        started = meter.now()
        memory = meter.growth(lambda: _warm_up(lane, contestant, meter))
        lane.seconds = meter.now() - started
        if lane.seconds < LONG:
            lane.seconds = _timed(lane.work, meter, 1)  # the first call also touches memory and fills caches
    except NotMeasured as error:
        lane.work, outcome.status = None, str(error)
        return lane
    except Exception as error:  # one contestant's failure must not hide the others' figures
        lane.work, outcome.status = None, f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return lane
    known[same] = _Known(race.size, lane.seconds, memory)
    lane.repeats = max(1, math.ceil(SHORTEST / max(lane.seconds, 1e-7)))
    outcome.status = _refusal(lane.seconds, 0, 1, limits)
    if outcome.status != "measured":
        lane.work = None
    return lane


def _warm_up(lane: _Lane, contestant: Contestant, meter: Meter) -> None:
    assert lane.work is not None
    if contestant.counted:
        lane.outcome.flops = meter.count(lane.work)
    else:
        lane.work()


def _refusal(seconds: float, memory: float, free: float, limits: Limits) -> str:
    if memory > free:
        return f"skipped: needs about {memory / 2**30:.0f} GiB, {free / 2**30:.0f} are free"
    if FEWEST * seconds > limits.seconds:
        return f"skipped: about {seconds:,.0f} s a call, {FEWEST} of them exceed the budget of {limits.seconds:.0f} s"
    return "measured"


def _take_turns(lanes: Sequence[_Lane], meter: Meter, limits: Limits) -> None:
    best = math.inf
    while waiting := [lane for lane in lanes if lane.wants(limits, best)]:
        start, others, before = meter.now(), meter.others(), meter.probe()
        for lane in waiting:
            assert lane.work is not None
            lane.seconds = _timed(lane.work, meter, lane.repeats)
            lane.spent += lane.seconds * lane.repeats
            after, end, others_end = meter.probe(), meter.now(), meter.others()
            outside = max(0.0, others_end - others) / max(end - start, 1e-9)
            lane.outcome.rounds.append(Round(lane.seconds, before, after, outside))
            best = min(best, before, after)
            start, others, before = end, others_end, after


def _timed(work: Work, meter: Meter, repeats: int) -> float:
    """Seconds of one call."""
    started = meter.now()
    own = [work() for _ in range(repeats)]
    wall = meter.now() - started
    timed = [seconds for seconds in own if seconds is not None]
    return sum(timed) / len(timed) if timed else wall / repeats


def _words(cell: Mapping[str, int | str]) -> str:
    return ", ".join(f"{value:,} {key}" if isinstance(value, int) else f"{value}" for key, value in cell.items())
