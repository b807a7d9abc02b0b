"""Tables of the listing commands, for people. The same facts as JSON come from the cards and reports themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from survbench.cards import ModelGroup
from survbench.console import shown, warn
from survbench.data.folds import FEW_EVENTS, FEW_PAIRS
from survbench.errors import SurvbenchError
from survbench.report.sheet import Cell, Look, Sheet

if TYPE_CHECKING:
    import pandas as pd

    from survbench.complexity.measure import Cost
    from survbench.data.root import DataRoot
    from survbench.experiments.forecast import Forecast, Line, Range
    from survbench.registry import Registry
    from survbench.studies.tuning import TuningResult

__all__ = [
    "cohort_rows",
    "cohorts_sheet",
    "costs_sheet",
    "folds_sheet",
    "forecast_sheet",
    "import_sheet",
    "models_sheet",
    "simulation_sheet",
    "tuned_sheet",
]

NAMED = 5  # patients in a line


def models_sheet(registry: Registry) -> Sheet:
    """One row per model, grouped as on the leaderboard."""
    groups, rows = list(ModelGroup), []
    for card in sorted(registry.models.values(), key=lambda c: groups.index(c.modality)):
        title = card.title + (" (reconstruction)" if card.reconstruction else "")
        inputs = ", ".join(card.train_inputs), ", ".join(card.inference_inputs)
        rows.append((card.name, title, card.modality, *inputs, card.paper))
    headers = ("model", "title", "group", "learns from", "predicts from", "paper")
    reconstructed = [card for card in registry.models.values() if card.reconstruction]
    notes = [f"{card.name} is a reconstruction: {card.reconstruction}" for card in reconstructed]
    return Sheet(title="Registered models", headers=headers, rows=rows, notes=notes, align="l")


def forecast_sheet(forecast: Forecast, device: str) -> Sheet:
    """One row per model and cohort; beneath it the whole, what it was estimated from and what is not in it."""
    count = sum(line.jobs for line in forecast.lines)
    headers = ("model", "cohort", "jobs left", "s per epoch", "per job", "peak memory", "weights on disk")
    rows = [(line.model, line.cohort, line.jobs, *_calibration_cells(line)) for line in forecast.lines]
    title = f"Estimate for {count} jobs on {device}; {forecast.done} are done"
    if not forecast.lines:
        title = f"Nothing is left to run: all {forecast.done} jobs are done."
    notes = [*_wall_notes(forecast), ABOUT_FORECAST] if forecast.lines else []
    return Sheet(title=title, headers=headers if forecast.lines else (), rows=rows, notes=notes, align="l")


ABOUT_FORECAST = (
    "This is an estimate: from a few warm steps on training batches of the first fold that is left, a few validation "
    "patients and a checkpoint, one model at a time. Other load, jobs side by side and slower disks change it. Peak "
    "memory is of one process while it was timed, features read from disk included; larger bags need more. Start-up, "
    "scoring, MLflow and what --test adds are not in it; epochs of interrupted jobs are counted again; disk is the "
    "final weights alone."
)


def _wall_notes(forecast: Forecast) -> Iterator[str]:
    wall = forecast.wall
    if wall.most:
        ranged = (
            ": the lower figure if every stage stops as soon as its patience allows, the upper one if each runs "
            "through all its epochs"
            if wall.least < wall.most
            else "; patience stops no stage before its last epoch"
        )
        yield f"All together {_span(wall)} with {forecast.workers} at a time{ranged}."
    if forecast.untimed:
        yield f"{forecast.untimed} jobs are not in it: models that take no steps, and what could not be timed."


def _calibration_cells(line: Line) -> tuple[str, ...]:
    known = line.calibration
    if known is None or not known.stages:
        return ("not estimated" if known is not None else "failed", *[""] * 3)
    epochs = ", ".join(f"{stage.name} {stage.epoch_seconds:.3g}" for stage in known.stages)
    memory = " + ".join(
        f"{size / 2**20:,.0f} MB{' on device' if kind == 'device_bytes' else ''}"
        for kind, size in (known.memory or {}).items()
    )
    return epochs, _span(known.job), memory, f"{line.jobs * known.weights_bytes / 2**20:,.0f} MB"


def _span(seconds: Range) -> str:
    least, most = (_duration(value) for value in (seconds.least, seconds.most))
    return least if least == most else f"{least} to {most}"


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def costs_sheet(costs: Sequence[Cost], patches: int, pathways: int) -> Sheet:
    """One row per model; published figures in columns of their own."""
    from survbench.leaderboard.published import published_cost

    headers = ("model", "parameters", "trained", "fvcore G", "GMAC", "forward ms", "step ms", "peak MB", "published")
    rows = []
    for cost in costs:
        known = published_cost(cost.model)
        flops = "not traced" if cost.fvcore_flops is None else f"{cost.fvcore_flops / 1e9:.4f}"
        macs = "" if cost.macs is None else f"{cost.macs / 1e9:.4f}"
        step = "" if cost.step_seconds is None else f"{1e3 * cost.step_seconds:.1f}"
        measured = f"{1e3 * cost.forward_seconds:.1f}", step, f"{cost.peak_bytes / 2**20:.0f}"
        printed = "" if known is None else f"{known['parameters'] / 1e6:.3g} M / {known['flops'] / 1e9:.3g} G"
        sizes = f"{cost.parameters:,}", f"{cost.training_parameters:,}"
        rows.append((cost.model, *sizes, flops, macs, *measured, printed))
    title = f"One patient, {patches} patches, {pathways} pathways, one output"
    return Sheet(title=title, headers=headers, rows=rows, notes=ABOUT_COSTS)


ABOUT_COSTS = (
    "parameters: of what predicts; trained: of everything that training moves, heads for training only included.",
    "fvcore G: one multiply-accumulate counts 1, normalization 5 per element, fused attention included. GMAC: every "
    "matrix product, attention written out. Counted is what is computed here for the official code's result: MCAT and "
    "G-HANet do without keys and values (about 0.5 GMAC less each), Nystrom attention multiplies small matrices first.",
    "published (AMKD's Table 7, parameters / GFLOPs): MCAT's pair is what a counter of module hooks (thop) gives at "
    "1,281 genes; it misses 1.3 M attention parameters and 0.56 of the official code's 1.64 GMAC. SurvPath's 24.8 M is "
    "its true size, its 3.48 G was reproduced by no counter tried; under the hooks' count SurvPath has 1.69 G, the "
    "figure printed for AMKD.",
)


def cohort_rows(registry: Registry, root: DataRoot) -> list[dict[str, Any]]:
    """Cohorts of the data root with their endpoints, then those that only the registry knows."""
    rows = []
    for name in root.cohorts():
        folder, card = root.cohort(name), registry.cohorts.get(name)
        role = str(card.role) if card else "development"
        facts: tuple[Any, ...]
        try:
            endpoints = {e: _events(folder, e) for e in folder.endpoints()}
            info, patients = folder.info, len(folder.patients())
            facts = (info.title, role, True, patients, endpoints, info.simulated, info.simulated_slides)
        except SurvbenchError as error:  # one damaged folder never takes the listing down
            warn(f"cohort {name}: {error}")
            facts = ("", role, True, None, {}, root.simulated, False)
        rows.append(dict(zip(_COHORT, (name, *facts), strict=True)))
    present = {row["name"] for row in rows}
    absent = [card for card in registry.cohorts.values() if card.name not in present]
    known: list[Any] = [(card.name, card.title, str(card.role), False, None, {}, False, False) for card in absent]
    return rows + [dict(zip(_COHORT, of, strict=True)) for of in known]


_COHORT = ("name", "title", "role", "in_data", "patients", "events", "simulated", "simulated_slides")


def _events(folder: Any, endpoint: str) -> int | None:
    """Events at an endpoint; None where its labels are invalid, which `data check` explains."""
    from survbench.errors import BadLabels

    try:
        return int(folder.labels(endpoint)["event"].sum())
    except BadLabels:
        return None


def cohorts_sheet(rows: Iterable[dict[str, Any]]) -> Sheet:
    """One row per cohort."""
    cells = []
    for row in rows:
        events = ", ".join(f"{e} {'?' if n is None else n}" for e, n in row["events"].items())
        kind = "simulated" if row["simulated"] else "simulated slides" if row["simulated_slides"] else "real"
        kind = "cannot be read" if row["patients"] is None else kind
        kind = kind if row["in_data"] else "not in this data root"
        cells.append((row["name"], row["title"], row["role"], row["patients"] or "", events, kind))
    headers = ("cohort", "title", "role", "patients", "events", "data")
    return Sheet(title="Cohorts", headers=headers, rows=cells, align="l")


def folds_sheet(cohort: str, scheme: str, summary: pd.DataFrame) -> Sheet:
    """One row per fold and split; few events or pairs are pointed out."""
    counts = ("patients", "events", "comparable pairs", "median follow-up (months)", "sites", "sites shared with train")
    rows: list[Sequence[Any]] = []
    for _, row in summary.iterrows():
        shared = "" if row["split"] == "train" else int(row["sites_shared"])
        median = row["median_followup"]
        followup = "not reached" if median != median else f"{median:.1f}"
        cells = *row[["fold", "split", "patients", "events"]], f"{row['pairs']:,}", followup, row["sites"], shared
        look = Look.SIMULATED if row["few"] else Look.PLAIN
        rows += [[Cell(str(cell), look) for cell in cells], *([()] if row["split"] == "test" else [])]
    few = ", ".join(map(str, summary.loc[summary["few"], "fold"]))
    note = f"{cohort}: the test split of fold {few} has under {FEW_EVENTS} events or {FEW_PAIRS} comparable pairs; its "
    notes = [f"{note}C-index says little by itself"] if few else []
    return Sheet(
        title=f"{cohort}, {scheme} folds", headers=("fold", "split", *counts), rows=rows, notes=notes, align="rlr"
    )


def import_sheet(report: Any, out: Path) -> Sheet:
    """What was read per cohort, and everything that was left out or looks wrong, named."""
    headers = ("cohort", "patients", "events", "slides", "with features", "genes", "pathways", "families", "folds")
    rows = []
    for c in report.cohorts:
        events = ", ".join(f"{endpoint} {n}" for endpoint, n in c.events.items())
        schemes = ", ".join(f"{scheme} {n}" for scheme, n in c.folds.items())
        counts = c.slides, c.slides_with_features, c.genes, c.pathways, c.families
        rows.append((c.name, c.patients, events, *counts, schemes))
    remarks = [f"{cohort.name}: {text}" for cohort in report.cohorts for text in _remarks(cohort)]
    notes = [*remarks, f"written to {out}"]
    return Sheet(title="Imported", headers=headers, rows=rows, notes=notes, align="l")


def _remarks(cohort: Any) -> Iterable[str]:
    if cohort.genes == 0:
        yield "no expression table"
    elif cohort.without_expression:
        yield f"{len(cohort.without_expression)} patients without expression: {shown(cohort.without_expression, NAMED)}"
    if cohort.expression_only:
        yield f"{cohort.expression_only} rows of expression belong to nobody with a label and were left out"
    if cohort.duplicated_expression:
        yield f"twice in the expression table, the first row was kept: {shown(cohort.duplicated_expression, NAMED)}"
    if cohort.unlabeled_in_folds:
        yield f"in the folds but without a label: {shown(cohort.unlabeled_in_folds, NAMED)}"
    for endpoint, problems in cohort.invalid.items():
        what = (
            "left out" if cohort.dropped else "kept as they are, so this endpoint cannot be used yet (--drop-invalid)"
        )
        yield f"{endpoint}: {shown([f'{patient} {text}' for patient, text in problems.items()], NAMED, 120)}; {what}"
    yield from (*cohort.remarks, *cohort.notes)


def simulation_sheet(report: Any) -> Sheet:
    """What was simulated, and for whom the slides carry nothing."""
    headers = ("cohort", "patients", "simulated slides", "without expression, so without a trace", "folder")
    rows = [(c.cohort, c.patients, c.slides, len(c.without_trace), c.folder) for c in report.cohorts]
    return Sheet(title="Simulated slides", headers=headers, rows=rows, align="lrrrl")


def tuned_sheet(outcomes: Sequence[TuningResult], trials: int) -> Sheet:
    """One row per study, and how to use its winner."""
    headers = ("model", "cohort", "trials", "pruned", "failed", "val. loss", "default", "settings")
    rows = []
    for o in outcomes:
        settings = ", ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in o.settings.items())
        default = "" if o.default is None else f"{o.default:.4f}"
        rows.append((o.model, o.cohort, o.trials, o.pruned, o.failed, f"{o.value:.4f}", default, settings))
    notes = [f"use it with: survbench run --model {o.model} --cohort {o.cohort} --preset {o.preset}" for o in outcomes]
    title = f"Tuned on validation patients, {trials} trials each"
    return Sheet(title=title, headers=headers, rows=rows, notes=notes, align="llrrrrrl")
