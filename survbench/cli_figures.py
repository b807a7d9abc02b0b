"""Commands that draw what finished runs have found; those about what models looked at are in cli_explain.py."""

from __future__ import annotations

from pathlib import Path

import click

from survbench.cli_options import examples, json_option, names, out_option, print_json
from survbench.errors import BadConfig

__all__ = ["km"]


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
