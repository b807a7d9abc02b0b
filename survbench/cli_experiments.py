"""Commands that run many jobs to answer one question: ablations, tuning, and the study of known truth."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import click

from survbench.cli_options import (
    Asked,
    about_jobs,
    device_option,
    examples,
    make_out,
    mlflow_option,
    names,
    numbers,
    open_registry,
    out_option,
    preset_option,
    run_all,
    seeds_option,
    set_option,
    threads_option,
    workers_option,
)
from survbench.console import warn
from survbench.errors import BadConfig, SurvbenchError

if TYPE_CHECKING:
    from survbench.experiments.tune import Outcome

__all__ = ["ablate", "study", "tune"]


@click.command(
    epilog=examples(
        "survbench ablate --study losses --cohort all --seeds 0,1,2     AMKD's Table 5",
        "survbench ablate --study alpha                                  AMKD's Table 6",
        "survbench ablate --study teacher --cohort stad,crad --data DATA",
        "survbench ablate --study targets --preset rehearsal",
    )
)
@click.option("--study", required=True, help="losses, alpha, temperature, teacher, targets; a model's card lists them.")
@click.option("--model", "-m", help="Whose study, where several models have one of that name.")
@mlflow_option
@workers_option
@threads_option
@about_jobs
def ablate(asked: Asked, study: str, model: str | None, mlflow: bool, workers: int | None, threads: int | None) -> None:
    """Change one thing at a time, everything else equal, and say what it does, with the uncertainty.

    Ends in a table with the paper's figures beside it and writes table, plot and settings to OUT/studies. A teacher
    that several arms share is trained once. What is done is skipped; the same command goes on after an interruption.
    """
    from survbench.console import note, stdout
    from survbench.experiments.mlflow.tracking import Mirror
    from survbench.experiments.study import all_jobs, find_study, plan_study
    from survbench.leaderboard.studies import study_frame, study_rich, write_study

    found = find_study(study, model, asked.registry)
    request = asked.of([found.model.name])
    jobs = plan_study(found, request, asked.registry, asked.root)
    about = f"{found.model.name} study {found.name} | {','.join(asked.cohorts)} | {request.endpoint} | {request.scheme}"
    mirror = Mirror(asked.out, f"survbench {about}", enabled=mlflow, address=os.environ.get("MLFLOW_TRACKING_URI"))
    summary = run_all(all_jobs(jobs), asked.out, asked.device, mirror, workers, threads)
    frame = study_frame(found, jobs, asked.out)
    if frame.empty:
        note("no arm has all its folds yet, so there is nothing to compare: give the same command without --fold")
    else:
        name = "-".join((found.model.name, found.name, asked.root.name, request.endpoint, request.scheme))
        folder = asked.out / "studies" / name
        write_study(found, frame, {"data": asked.root.name, **vars(request)}, folder)
        mirror.attach_files(*(file for file in sorted(folder.iterdir()) if file.suffix in (".md", ".png")))
        stdout().print(study_rich(found, frame))
        note(f"table, plot and settings are in {folder}")
    if summary.failed:
        sys.exit(1)


@click.command(
    epilog=examples(
        "survbench tune --model amkd --cohort stad --trials 50",
        "survbench tune --model amkd --cohort stad --trials 50 &     a second process shares the study",
        "survbench tune --model abmil --cohort stad --search learning_rate=1e-5:1e-3:log --search width=128,256",
        "survbench tune --model all --cohort stad --trials 20       the same budget for every model",
        "survbench run --model amkd --cohort stad --preset tuned",
    )
)
@click.option("--model", "-m", "models", callback=names, required=True, help="Names, wildcards or `all`.")
@click.option("--trials", type=click.IntRange(1), default=50, show_default=True, help="Per model and cohort.")
@click.option(
    "--search",
    "searches",
    multiple=True,
    metavar="KEY=SPACE",
    help="low:high, low:high:log or one,two,three. Default: what the model's card declares (AMKD: alpha, tau).",
)
@click.option("--name", help="Folder of the study below OUT/tune; a second question about one model needs its own.")
@about_jobs
def tune(asked: Asked, models: tuple[str, ...], trials: int, searches: tuple[str, ...], name: str | None) -> None:
    """Choose settings by the validation splits alone: mean over folds of the lowest validation loss.

    Test patients are not read. Processes given the same command share the study, and one that was killed loses
    nothing: its trial goes on in another. The winner becomes a preset; `run --preset tuned` uses it, and its row on the
    leaderboard says `tuned (n trials)`.
    """
    from survbench.console import note
    from survbench.experiments.plan import tuned_name
    from survbench.experiments.tune import Tuning, parse_space
    from survbench.experiments.tune import tune as search

    space, cards = parse_space(searches), asked.registry.select_models(models)
    studies = list(product(asked.registry.select_cohorts(asked.cohorts, asked.root.cohorts()), cards))
    if name is not None and len(studies) > 1:
        raise BadConfig(f"--name {name} for {len(studies)} studies", "name one model and one cohort")
    make_out(asked.out)
    found = []
    try:
        for cohort, card in studies:
            request = asked.of([card.name], [cohort])
            place = name or tuned_name(card.name, cohort, request.endpoint, request.scheme)
            try:
                tuning = Tuning(request, trials, space, place, request.seeds[0])
                found.append(search(tuning, asked.registry, asked.root, asked.out, asked.device))
            except SurvbenchError as refused:
                if len(studies) == 1:
                    raise
                warn(f"{card.name} on {cohort}: {refused}; left out")
    except KeyboardInterrupt:
        note("\ninterrupted; nothing is lost: the same command goes on with the trial that was under way")
        sys.exit(130)
    _show_tuned(found, trials)


def _show_tuned(outcomes: Sequence[Outcome], trials: int) -> None:
    from rich.table import Table
    from rich.text import Text

    from survbench.console import note, stdout

    shown = Table(title=f"Tuned on validation patients, {trials} trials each")
    for i, header in enumerate(("model", "cohort", "trials", "pruned", "failed", "val. loss", "default", "settings")):
        shown.add_column(header, justify="left" if i in (0, 1, 7) else "right", overflow="fold")
    for o in outcomes:
        settings = ", ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in o.settings.items())
        default = "" if o.default is None else f"{o.default:.4f}"
        cells = (o.model, o.cohort, o.trials, o.pruned, o.failed, f"{o.value:.4f}", default, settings)
        shown.add_row(*(Text(str(cell)) for cell in cells))
    stdout().print(shown)
    for o in outcomes:
        note(f"use it with: survbench run --model {o.model} --cohort {o.cohort} --preset {o.preset}")


@click.group(epilog=examples("survbench study transfer --preset brisk"))
def study() -> None:
    """Questions whose answer is known beforehand, because the cohorts are simulated."""


@study.command(
    epilog=examples(
        "survbench study transfer --preset brisk",
        "survbench study transfer --traces 0,1 --patients 100 --event-rates 0.4 --replicates 1 --preset rehearsal",
    )
)
@click.option("--model", "-m", help="One whose card puts other models beside it. Default: the one registered.")
@click.option("--traces", default="0,0.5,1,2", show_default=True, help="Strengths of the traces; 1 is the demo's.")
@click.option("--patients", callback=numbers, default="120,300", show_default=True, help="Sizes of the cohorts.")
@click.option("--event-rates", default="0.2,0.5", show_default=True, help="Shares of patients who die.")
@click.option("--replicates", type=click.IntRange(1), default=3, show_default=True, help="Cohorts of each kind.")
@out_option
@seeds_option
@preset_option
@set_option
@device_option
@workers_option
@threads_option
@click.pass_obj
def transfer(
    registries: tuple[Path, ...],
    model: str | None,
    traces: str,
    patients: tuple[int, ...],
    event_rates: str,
    replicates: int,
    out: Path,
    seeds: tuple[int, ...],
    preset: str | None,
    overrides: tuple[str, ...],
    device: str,
    workers: int | None,
    threads: int | None,
) -> None:
    """When does distillation pay? Sweep traces in slides, cohort size and event rate where the truth is known.

    The model stands against its teacher, its undistilled student and the oracle, with intervals. Tables and plot go to
    OUT/studies. What is done is skipped.
    """
    from survbench.console import note, stdout
    from survbench.experiments.mlflow.tracking import Mirror
    from survbench.experiments.plan import Request, parse_overrides
    from survbench.experiments.transfer import Grid, find_student, plan_transfer, simulated_root
    from survbench.leaderboard.transfer import write_transfer
    from survbench.training.device import resolve_device

    registry, where = open_registry(registries), resolve_device(device)
    card = find_student(model, registry)
    grid = Grid(_fractions(traces, "--traces"), patients, _fractions(event_rates, "--event-rates"), replicates)
    make_out(out)
    root = simulated_root(grid, out)
    request = Request(
        [card.name], [], "os", "event-stratified", "cox", seeds, (), preset, parse_overrides(overrides), out / "tune"
    )
    jobs = plan_transfer(grid, request, registry, root)
    unmirrored = Mirror(out, f"survbench {card.name} study transfer", enabled=False)
    summary = run_all([job for of in jobs.values() for job in of], out, where, unmirrored, workers, threads)
    folder = out / "studies" / f"{card.name}-transfer"
    stdout().print(write_transfer(jobs, card, root, out, folder))
    note(f"tables and plot are in {folder}")
    if summary.failed:
        sys.exit(1)


def _fractions(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise BadConfig(
            f"{option} {text}: expected numbers separated by commas", f"for example {option} 0,0.5"
        ) from None
