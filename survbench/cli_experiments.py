"""Commands that run many jobs to answer one question: ablations, tuning, and the study of known truth."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from survbench.cli_options import (
    chosen_endpoint,
    cohort_option,
    data_option,
    device_option,
    endpoint_option,
    examples,
    fold_option,
    folds_option,
    mlflow_option,
    objective_option,
    open_registry,
    open_root,
    out_option,
    preset_option,
    run_all,
    seeds_option,
    set_option,
)

__all__ = ["ablate"]


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
@cohort_option
@data_option
@out_option
@folds_option
@endpoint_option
@objective_option
@seeds_option
@fold_option
@preset_option
@set_option
@device_option
@mlflow_option
@click.pass_obj
def ablate(
    registries: tuple[Path, ...],
    study: str,
    model: str | None,
    cohorts: tuple[str, ...],
    data: Path | None,
    out: Path,
    scheme: str,
    endpoint: str | None,
    objective: str,
    seeds: tuple[int, ...],
    only_folds: tuple[int, ...],
    preset: str | None,
    overrides: tuple[str, ...],
    device: str,
    mlflow: bool,
) -> None:
    """Change one thing at a time, everything else equal, and say what it does, with the uncertainty.

    Ends in a table with the paper's figures beside it and writes table, plot and settings to OUT/studies. A teacher
    that several arms share is trained once. What is done is skipped; the same command goes on after an interruption.
    """
    from survbench.console import note, stdout
    from survbench.experiments.plan import Request, parse_overrides
    from survbench.experiments.study import all_jobs, find_study, plan_study
    from survbench.leaderboard.studies import study_frame, study_rich, write_study
    from survbench.training.device import resolve_device

    registry, root, where = open_registry(registries), open_root(data), resolve_device(device)
    found = find_study(study, model, registry)
    request = Request(
        [found.model.name],
        cohorts,
        chosen_endpoint(endpoint),
        scheme,
        objective,
        seeds,
        only_folds,
        preset,
        parse_overrides(overrides),
    )
    jobs = plan_study(found, request, registry, root)
    experiment = f"{found.model.name} study {found.name} | {','.join(cohorts)} | {request.endpoint} | {scheme}"
    summary = run_all(all_jobs(jobs), out, where, experiment, mlflow)
    frame = study_frame(found, jobs, out)
    folder = out / "studies" / f"{found.model.name}-{found.name}-{root.name}-{request.endpoint}-{scheme}"
    write_study(found, frame, {"data": root.name, **vars(request)}, folder)
    stdout().print(study_rich(found, frame))
    note(f"table, plot and settings are in {folder}")
    if summary.failed:
        sys.exit(1)
