"""The command: which suites, how large, for how long, and what becomes of the results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from survbench.cli.options import Command, names
from survbench.console import note, stderr, stdout
from survbench.errors import BadConfig, MissingFile, SurvbenchError

if TYPE_CHECKING:
    import torch

    from benchmarks.peers import Peer
    from benchmarks.rounds import Limits, Meter, Outcome, Race
    from survbench.cards import ModelCard

__all__ = ["main"]

SUITES = ("step", "forward", "peers", "memory", "data", "packing", "statistics", "startup", "run")
RESULTS = Path("benchmarks/results")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large the simulated work is."""

    models: tuple[str, ...]
    patches: tuple[int, ...]
    patients: tuple[int, ...]
    samples: tuple[int, ...] = (300, 3000, 30_000)
    slides: int = 16
    slide_patches: int = 3000


QUICK = Sizes(
    models=("abmil", "dsmil", "snn", "smlp"),
    patches=(1000,),
    patients=(8,),
    samples=(100,),
    slides=4,
    slide_patches=1000,
)
QUICK_SUITES = ("step", "peers", "data", "statistics")  # the others start processes that import for seconds


def _integers(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part.replace("_", "")) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"'{value}' is not a list of whole numbers such as 1000,3000") from None
    if min(numbers) < 1:
        raise click.BadParameter("numbers must be at least 1")
    return numbers


@click.command(cls=Command)
@click.argument("what", nargs=-1, metavar="[SUITE | FILE]...")
@click.option("--models", callback=names, default="all", show_default=True, help="Names or wildcards.")
@click.option("--patches", callback=_integers, default="1000,3000,10000", show_default=True, help="Per patient.")
@click.option("--patients", callback=_integers, default="1,8,32", show_default=True, help="Per optimizer step.")
@click.option(
    "--rounds", type=click.IntRange(1), default=7, show_default=True, help="That no load from outside spoils."
)
@click.option(
    "--budget-seconds",
    "seconds",
    type=click.FloatRange(min=0.1),
    default=60.0,
    show_default=True,
    help="For one contestant in one cell; what takes longer is shown as skipped.",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="On a CPU; a job of `run` has 1.")
@click.option("--device", default="cpu", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
@click.option("--peer", "peers", multiple=True, metavar="NAME=FILE.py", help="An adapter; see benchmarks/README.md.")
@click.option("--quick", is_flag=True, help="A small subset, in under two minutes.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="JSON; beside it the tables as .md.")
@click.option("--compare", is_flag=True, help="Two FILEs: times faster, by the matrix product beside each.")
@click.option("--show", is_flag=True, help="FILEs, put together: print the tables as Markdown and measure nothing.")
def bench(
    what: tuple[str, ...],
    models: tuple[str, ...],
    patches: tuple[int, ...],
    patients: tuple[int, ...],
    rounds: int,
    seconds: float,
    threads: int,
    device: str,
    peers: tuple[str, ...],
    quick: bool,
    out: Path | None,
    compare: bool,
    show: bool,
) -> None:
    """Measure speed and memory of the suite, in turns with its peers and with a matrix product.

    \b
    SUITEs (all, where none is named):
      step        one optimizer step of every model        data        an epoch over stored slides
      forward     predictions of every model               packing     making the packed store
      peers       torchmil's models beside ours            statistics  Cox loss, concordance, bootstrap
      memory      of a training step                       startup     --help, models, imports
      run         a whole `survbench run`

    A share is relative to the matrix product measured in the same rounds. Rounds in which other processes were busy
    are dropped and counted.

    Examples:
      python -m benchmarks --quick                              a few models and statistics, in two minutes
      python -m benchmarks step --models abmil,dsmil --patches 3000 --patients 8,32
      python -m benchmarks peers --peer mine=my_adapter.py      our models beside somebody else's
      python -m benchmarks --compare before.json after.json     what a change was worth
      python -m benchmarks --show monday.json tuesday.json      saved results as Markdown
    """
    if compare or show:
        _from_files([Path(name) for name in what], compare)
        return
    suites = _chosen(what)
    sizes, limits = Sizes(models=models, patches=patches, patients=patients), (rounds, seconds)
    if quick:
        sizes, limits = replace(QUICK, models=QUICK.models if models == ("all",) else models), (3, 5.0)
        suites = suites if what else QUICK_SUITES
    _measure(suites, sizes, limits, threads, device, peers, out)


def _chosen(what: tuple[str, ...]) -> tuple[str, ...]:
    from survbench.registry import pick

    return tuple(dict.fromkeys(suite for name in what for suite in pick(name, SUITES, "suite"))) or SUITES


def _from_files(files: list[Path], compare: bool) -> None:
    from benchmarks.results import merged, read
    from benchmarks.tables import compared, markdown, screen

    if compare:
        if len(files) != 2:
            raise BadConfig(f"--compare got {len(files)} files", "give two: before.json after.json")
        stdout().print(screen([compared(read(files[0]), read(files[1]))]))
    elif not files:
        raise MissingFile("--show got no file", "name results, such as benchmarks/results/*.json")
    else:
        click.echo(markdown(merged([read(file) for file in files])), nl=False)


def _measure(
    suites: tuple[str, ...],
    sizes: Sizes,
    limits: tuple[int, float],
    threads: int,
    device: str,
    peers: tuple[str, ...],
    out: Path | None,
) -> None:
    from benchmarks import machine
    from benchmarks.peers import read_peers
    from benchmarks.real import DeviceMeter
    from benchmarks.results import Results, write
    from benchmarks.rounds import Limits
    from benchmarks.tables import described, markdown, screen, tables
    from survbench.registry import load_registry
    from survbench.training.device import cpu_threads, keep_freed_memory, resolve_device

    where, others = resolve_device(device), read_peers(peers)
    cards = load_registry().select_models(sizes.models)
    options = {"suites": suites, **vars(sizes), "rounds": limits[0], "budget_seconds": limits[1]}
    keep_freed_memory()  # as training does
    with cpu_threads(threads if where.type == "cpu" else None):
        meter = DeviceMeter(where)
        results = Results(
            date=machine.today(),
            commit=machine.commit(),
            machine=machine.about(where),
            versions=machine.versions(),
            options=options,
            probe_flops=meter.probe_flops,
        )
        file = out or RESULTS / f"{results.date}-{results.commit.strip('+') or 'unknown'}.json"
        for outcome in _outcomes(suites, sizes, cards, others, where, meter, Limits(*limits)):
            results = replace(results, outcomes=(*results.outcomes, outcome))
            write(results, file)  # after each, so that a call that is stopped keeps what it has
    file.with_suffix(".md").write_text(markdown(results), encoding="utf-8")
    stdout().print(screen(tables(results), described(results.machine, results.peak)))
    note(f"written: {file} and {file.with_suffix('.md').name}")


def _outcomes(
    suites: tuple[str, ...],
    sizes: Sizes,
    cards: list[ModelCard],
    peers: list[Peer],
    device: torch.device,
    meter: Meter,
    limits: Limits,
) -> Iterator[Outcome]:
    from benchmarks.rounds import run_races
    from benchmarks.suites import commands, data, models, statistics

    cells = models.Cells(sizes.patches, sizes.patients)
    races: dict[str, Callable[[], Iterable[Race]]] = {
        "step": lambda: models.steps(cards, cells, device),
        "forward": lambda: models.forwards(cards, cells, device),
        "peers": lambda: models.peers(cards, peers, cells, device),
        "data": lambda: data.data(sizes.slide_patches, sizes.slides, min(8, sizes.slides)),
        "packing": lambda: data.packing(sizes.slide_patches, sizes.slides),
        "statistics": lambda: statistics.statistics(sizes.samples),
        "startup": commands.startup,
        "run": commands.runs,
    }
    with stderr().status("preparing") as status:
        for suite in suites:
            if suite == "memory":
                yield from models.memory(cards, cells, device, meter, limits)
            else:
                yield from run_races(races[suite](), meter, limits, status.update)


def main() -> None:
    """A mistake is one line and exit code 2."""
    try:
        bench.main(prog_name="python -m benchmarks")
    except SurvbenchError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
