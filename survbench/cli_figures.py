"""Commands that draw what finished runs have found."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import click

from survbench.cli_options import (
    Asked,
    about_jobs,
    examples,
    json_option,
    names,
    out_option,
    print_json,
)
from survbench.console import warn
from survbench.errors import BadConfig, SurvbenchError

if TYPE_CHECKING:
    from survbench.explain.pathways import PathwayAttention

__all__ = ["explain", "km"]


@click.command(
    epilog=examples("survbench km --model amkd", "survbench km --model 'amkd,abmil' --cohort stad --json > groups.json")
)
@click.option("--model", "-m", "models", callback=names, default="all", show_default=True, help="Names or wildcards.")
@click.option("--cohort", "-c", "cohorts", callback=names, default="all", show_default=True, help="Names or wildcards.")
@out_option
@click.option("--endpoint", help="Only this outcome.")
@click.option("--folds", "scheme", help="Only these folds.")
@json_option
def km(
    models: tuple[str, ...],
    cohorts: tuple[str, ...],
    out: Path,
    endpoint: str | None,
    scheme: str | None,
    as_json: bool,
) -> None:
    """Kaplan-Meier curves of low and high risk, with numbers at risk and log-rank p, one figure per model and cohort.

    High risk is above the median of the fold's training patients. The p is stratified by fold; the pooled one, which
    the paper prints, stands beside it. Figures go to OUT/figures.
    """
    from rich.table import Table
    from rich.text import Text

    from survbench.console import stdout
    from survbench.leaderboard.risk_groups import draw_risk_groups

    records = draw_risk_groups(out, models, cohorts, endpoint, scheme)
    if as_json:
        print_json(records)
        return
    if not records:
        raise BadConfig(f"no finished row in {out}", "make one with: survbench run --model MODEL --cohort COHORT")
    shown = Table(title="Risk groups: above and below the training patients' median")
    for header in (
        "model",
        "cohort",
        "low (events)",
        "high (events)",
        "p stratified",
        "p pooled",
        "published",
        "figure",
    ):
        shown.add_column(header, overflow="fold")
    for r in records:
        groups = [f"{r[side]['patients']} ({r[side]['events']})" for side in ("low", "high")]
        figures = ["" if r[k] is None else f"{r[k]:.3g}" for k in ("p_stratified", "p_pooled", "p_published")]
        name = f"{r['model']} {r['variant']}".strip()
        cells = (name, r["cohort"] + (" (simulated)" if r["simulated"] else ""), *groups, *figures, r["file"])
        shown.add_row(*map(Text, cells))
    stdout().print(shown)


@click.group(epilog=examples("survbench explain pathways --model amkd"))
def explain() -> None:
    """What a trained model looked at."""


@explain.command(
    epilog=examples(
        "survbench explain pathways --model amkd",
        "survbench explain pathways --model survpath --cohort stad --data DATA --json",
    )
)
@click.option("--model", "-m", "models", callback=names, required=True, help="Names or wildcards.")
@json_option
@about_jobs
def pathways(asked: Asked, models: tuple[str, ...], as_json: bool) -> None:
    """The five most and the five least attended pathways per cohort, and how far the folds agree.

    Takes the options of the `run` whose models are asked, each about its own test patients. AMKD's teacher is asked:
    its student knows no pathways. Tables and figures go to OUT/figures.
    """
    from survbench.experiments.plan import plan, select_cohorts
    from survbench.explain.pathways import draw_pathways, pathway_attention

    cards, found = asked.registry.select_models(models), []
    pairs = list(product(select_cohorts(asked.cohorts, asked.registry, asked.root), cards))
    for cohort, card in pairs:
        request = asked.of([card.name], [cohort])
        try:
            attended = pathway_attention(plan(request, asked.registry, asked.root), asked.out, asked.device)
        except SurvbenchError as refused:
            if len(pairs) == 1:
                raise
            warn(f"{card.name} on {cohort}: {refused}; left out")
            continue
        file = asked.out / "figures" / f"pathways-{card.name}-{cohort}-{request.endpoint}-{request.scheme}.png"
        draw_pathways(attended, file)
        attended.table.to_csv(file.with_suffix(".csv"), index_label="pathway")
        found.append((attended, file))
    if as_json:
        print_json([_plain(attended, file) for attended, file in found])
    else:
        _show_pathways(found)


def _plain(found: PathwayAttention, file: Path) -> dict[str, object]:
    about = {k: v for k, v in vars(found).items() if k != "table"}
    rows = found.table.rename_axis("pathway").reset_index().to_dict("records")
    return {**about, "simulated": bool(found.simulated), "pathways": rows, "file": str(file)}


def _show_pathways(results: Sequence[tuple[PathwayAttention, Path]]) -> None:
    from rich.table import Table
    from rich.text import Text

    from survbench.console import stdout
    from survbench.explain.pathways import ENDS
    from survbench.leaderboard.board import KINDS

    for found, file in results:
        title = f"{found.title} on {found.cohort} · {KINDS[found.simulated]} · {found.jobs} models"
        shown = Table(title=title, caption=f"folds agree with rho = {found.agreement:.2f} (Spearman) · {file}")
        for header in ("", "pathway", "attention (1 = equal)", "SD", "among the first five"):
            shown.add_column(header, justify="left" if header in ("", "pathway") else "right")
        ends = min(ENDS, len(found.table) // 2)
        for label, part in (("most", found.table.head(ends)), ("least", found.table.tail(ends))):
            for pathway, row in part.iterrows():
                cells = (label, str(pathway), f"{row['mean']:.3f}", f"{row['sd']:.3f}", f"{100 * row['top']:.0f} %")
                shown.add_row(*map(Text, cells))
        stdout().print(shown)
