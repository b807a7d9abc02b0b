"""The commands `record` and `compare`. Nothing here imports the suite: two versions of it are driven alike."""

from __future__ import annotations

import sys
from pathlib import Path

import click

__all__ = ["main"]

TOLERANCE = 1e-5
only_option = click.option("--only", "parts", multiple=True, metavar="PART", help="Only this part; may be repeated.")


@click.group()
def main() -> None:
    """Record what the importable survbench answers on the demo, and compare two such folders."""


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@only_option
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Processes that train.")
def record(folder: Path, parts: tuple[str, ...], workers: int) -> None:
    """Drive the command line of the survbench that `python -m survbench` starts here, on a CPU.

    Its own files go to FOLDER/out, the demo to FOLDER/cache, and what is compared to FOLDER/PART. The same command goes
    on after an interruption.
    """
    from benchmarks.same_results.parts import PARTS
    from benchmarks.same_results.suite import Suite

    if unknown := sorted(set(parts) - set(PARTS)):
        raise click.UsageError(f"there is no part '{unknown[0]}'; parts: {', '.join(PARTS)}")
    folder.mkdir(parents=True, exist_ok=True)
    suite = Suite(folder.resolve(), workers)
    failed = 0
    for name in parts or PARTS:
        if (folder / name).exists():
            click.echo(f"{name}: recorded before; remove {folder / name} to record it again", err=True)
            continue
        failed += suite.record(name, PARTS[name])
    if failed:
        click.echo(f"{failed} commands failed; {suite.log} has their messages", err=True)
        sys.exit(1)


@main.command()
@click.argument("before", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("after", type=click.Path(path_type=Path, exists=True, file_okay=False))
@only_option
@click.option("--exact", is_flag=True, help="The same bits.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    default=TOLERANCE,
    show_default=True,
    help="Of risks in their SD, of probabilities of survival as they are, of other numbers relative to themselves.",
)
@click.option("--show", type=click.IntRange(0), default=10, show_default=True, help="Differences named in each part.")
def compare(before: Path, after: Path, parts: tuple[str, ...], exact: bool, tolerance: float, show: int) -> None:
    """Say of every part how many values there are and how far they differ; exit code 1 if anything does."""
    from benchmarks.same_results.differences import compare_parts

    compared = compare_parts(before, after, parts, 0.0 if exact else tolerance)
    if not compared:
        raise click.UsageError(f"nothing has been recorded in {before} or {after}")
    for part in compared:
        click.echo(part.line())
        for difference in part.differences[:show]:
            click.echo(f"    {difference}")
        if len(part.differences) > show:
            click.echo(f"    and {len(part.differences) - show:,} more")
        for note in part.notes:
            click.echo(f"    note: {note}")
    if any(part.differences for part in compared):
        sys.exit(1)
