"""Commands that run jobs: `run`, `ablate`, `tune`, and the study of known truth."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import click

from survbench import api
from survbench.cli import options
from survbench.console import note, stdout
from survbench.errors import BadConfig

__all__ = ["ablate", "run", "study", "tune"]


@click.command(cls=options.Command)
@options.files_too
@click.option("--train", help="Learn on this cohort alone and apply the models, frozen, to --test.")
@click.option("--test", help="Cohort for external validation; no one is trained or tuned on it.")
@click.option("--allow-other-scale", is_flag=True, help="Apply to expression on another scale; the table then says so.")
@options.mlflow
@options.workers
@options.threads
@click.option("--dry-run", is_flag=True, help="Start nothing: time a few steps and estimate what the jobs would take.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: the estimate as one JSON document.")
@options.of_jobs
def run(
    models: tuple[str, ...],
    cohorts: tuple[str, ...],
    train: str | None,
    test: str | None,
    allow_other_scale: bool,
    mlflow: bool,
    dry_run: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Train models on every fold of every cohort and score them on patients they never saw.

    With --train and --test, models of all folds of one cohort are applied, frozen, to another cohort.

    Finished jobs are skipped, and interrupted ones continue where they stopped: repeat the same command.

    With --dry-run no job starts and nothing is written: a few warm steps of each model on each cohort are timed, which
    takes seconds to minutes, and a table says what the jobs that remain would take, from early stopping at once to all
    epochs.

    Examples:
      survbench run --model amkd --cohort all
      survbench run --model 'abmil,snn' --cohort stad --data DATA --endpoint dss --scheme official --seeds 0,1,2
      survbench run --model ./my_model.py --cohort stad --set width=128 --set learning_rate=1e-4
      survbench run --model amkd,abmil --cohort all --seeds 0,1,2 --dry-run    how long would that take?
      survbench run --model amkd,abmil --train hnsc --test cptac-hnsc --seeds 0,1,2     AMKD's Table 4
    """
    if (train is None) != (test is None):
        raise BadConfig("--train and --test belong together", "for example --train hnsc --test cptac-hnsc")
    if train is not None and cohorts != ("all",):
        raise BadConfig(f"--cohort {','.join(cohorts)} and --train {train}", "--train names the cohort")
    if as_json and not dry_run:
        raise BadConfig("--json without --dry-run", "for results: survbench leaderboard --format json")
    cohorts = cohorts if train is None else (train,)
    if dry_run:
        forecast = api.estimate(models, cohorts, test=test, allow_other_scale=allow_other_scale, **chosen)
        from survbench.report.listings import forecast_sheet
        from survbench.training.device import resolve_device

        device = str(resolve_device(chosen["device"]))
        options.print_result(as_json, forecast.to_json(), forecast_sheet(forecast, device))
        return
    results = api.run(models, cohorts, test=test, allow_other_scale=allow_other_scale, mlflow=mlflow, **chosen)

    from survbench.report.terminal import show_board

    show_board(results.board, results.external_validation if test else [], "rich", "cindex")
    if results.failed:
        sys.exit(1)


@click.command(cls=options.Command)
@click.option("--study", required=True, help="losses, alpha, temperature, teacher, targets; a model's card lists them.")
@click.option("--model", "-m", help="Whose study, where several models have one of that name.")
@options.mlflow
@options.workers
@options.threads
@options.of_jobs
def ablate(**chosen: Any) -> None:
    """Change one thing at a time, everything else equal, and report its effect with the uncertainty.

    Ends in a table with the paper's figures beside it and writes table, plot and settings to OUT/studies. A teacher
    that several arms share is trained once. Finished jobs are skipped; after an interruption, repeat the same command.

    Examples:
      survbench ablate --study losses --cohort all --seeds 0,1,2     AMKD's Table 5
      survbench ablate --study alpha                                  AMKD's Table 6
      survbench ablate --study teacher --cohort stad,crad --data DATA
      survbench ablate --study targets --preset rehearsal
    """
    ablation = api.ablate(**chosen)

    from survbench.report.studies import study_sheet

    if ablation.folder is None:
        note("no arm has all its folds yet, so there is nothing to compare: give the same command without --only-folds")
    else:
        stdout().print(study_sheet(ablation.study.heading(ablation.frame), ablation.frame).to_rich())
        note(f"table, plot and settings are in {ablation.folder}")
    if ablation.results.failed:
        sys.exit(1)


@click.command(cls=options.Command)
@options.files_too
@click.option("--trials", type=click.IntRange(1), default=50, show_default=True, help="Per model and cohort.")
@click.option(
    "--search",
    "searches",
    multiple=True,
    metavar="KEY=SPACE",
    help="low:high, low:high:log or one,two,three. Default: what the model's card declares (AMKD: alpha, tau).",
)
@click.option("--name", help="Folder of the study below OUT/tune; a second study of one model needs its own.")
@partial(options.of_jobs, seeds=options.trial_seeds)
def tune(trials: int, searches: tuple[str, ...], **chosen: Any) -> None:
    """Choose settings by the validation splits alone: mean over folds of the lowest validation loss.

    Test patients are not read. Processes with the same command share the study, and the trial of one that was killed
    continues in another. The best trial becomes a preset; `run --preset tuned` uses it, and its row on the leaderboard
    is marked `tuned (n trials)`.

    Examples:
      survbench tune --model amkd --cohort stad --trials 50
      survbench tune --model amkd --cohort stad --trials 50 &     a second process shares the study
      survbench tune --model abmil --cohort stad --search learning_rate=1e-5:1e-3:log --search width=128,256
      survbench tune --model all --cohort stad --trials 20       the same budget for every model
      survbench run --model amkd --cohort stad --preset tuned
    """
    from survbench.report.listings import tuned_sheet
    from survbench.studies.tuning import parse_space

    outcomes = api.tune(trials=trials, search=parse_space(searches), **chosen)
    stdout().print(tuned_sheet(outcomes, trials).to_rich())


@click.group(cls=options.Group)
def study() -> None:
    """Studies whose answer is known beforehand, because the cohorts are simulated.

    Examples:
      survbench study transfer --preset brisk
    """


@study.command()
@click.option("--model", "-m", help="One whose card puts other models beside it. Default: the one registered.")
@click.option(
    "--traces",
    callback=options.fractions,
    default="0,0.5,1,2",
    show_default=True,
    help="Strengths of the traces; 1 is the demo's.",
)
@click.option(
    "--patients", callback=options.numbers, default="120,300", show_default=True, help="Sizes of the cohorts."
)
@click.option(
    "--event-rates",
    callback=options.fractions,
    default="0.2,0.5",
    show_default=True,
    help="Shares of patients who die.",
)
@click.option("--replicates", type=click.IntRange(1), default=3, show_default=True, help="Cohorts of each kind.")
@options.out
@options.seeds
@options.preset
@options.set_
@options.device
@options.workers
@options.threads
@options.registry
def transfer(**chosen: Any) -> None:
    """When does distillation pay? Sweep traces in slides, cohort size and event rate where the truth is known.

    The model is compared with its teacher, its undistilled student and the oracle, with intervals. Tables and plot go
    to OUT/studies. Finished jobs are skipped.

    Examples:
      survbench study transfer --preset brisk
      survbench study transfer --traces 0,1 --patients 100 --event-rates 0.4 --replicates 1 --preset rehearsal
    """
    transferred = api.study_transfer(**chosen)

    from survbench.report.studies import transfer_sheet

    stdout().print(transfer_sheet(transferred.map).to_rich())
    note(f"tables and plot are in {transferred.folder}")
    if transferred.failed:
        sys.exit(1)
