"""Paired differences between lines of one table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from survbench.evaluation.compare import Difference, FoldPair, compare, mean_difference, unknown
from survbench.leaderboard.board import Column, Contrast, Line, Row

__all__ = ["beside", "contrast", "row_difference"]


def row_difference(first: Row, second: Row) -> Difference:
    """C-index of one row minus another's, on the seeds that both have; the rows share data and folds."""
    seeds = sorted(set(first.seeds) & set(second.seeds))
    if first.failed or second.failed:
        return unknown("one of the two failed")
    if not seeds:
        return unknown("they have no seed in common")
    pairs = []
    for fold in sorted({fold for _, fold in first.tests}):
        tables = [[row.tests[seed, fold].sort_values("patient") for seed in seeds] for row in (first, second)]
        labels = tables[0][0]
        risks = [np.stack([table["risk"].to_numpy(float) for table in of]) for of in tables]
        if not all(np.isfinite(r).all() for r in risks):
            return unknown(f"fold {fold} has a risk that is no number")
        pairs.append(FoldPair(labels["time"].to_numpy(float), labels["event"].to_numpy(bool), *risks))
    return compare(pairs)


def contrast(first: Line, second: Line, columns: Sequence[Column]) -> Contrast:
    """Of two lines, in the columns where both stand."""
    shared = [c for c in columns if c in first.rows and c in second.rows]
    cohorts = {column: row_difference(first.rows[column], second.rows[column]) for column in shared}
    several = len(cohorts) > 1 and not any(column.ambiguous for column in shared)
    return Contrast(first, second, cohorts, mean_difference(list(cohorts.values())) if several else None)


def beside(lines: Sequence[Line], columns: Sequence[Column]) -> tuple[tuple[Contrast, ...], tuple[str, ...]]:
    """Contrasts that the models' cards ask for, and a note where the other model has not been run."""
    contrasts, notes = [], []
    for line in lines:
        rows = list(line.rows.values())
        known = {name: [other for other in lines if other.model == name] for name in rows[0].beside}
        contrasts += [contrast(line, _nearest(line, others), columns) for others in known.values() if others]
        lacking = ",".join(name for name, others in known.items() if not others)
        if lacking:
            cohorts = ",".join(dict.fromkeys(row.cohort for row in rows))
            notes.append(
                f"{line.title} should be read beside {lacking.replace(',', ' and ')}, not run yet: "
                f"survbench run --model {lacking} --cohort {cohorts}"
            )
    return tuple(contrasts), tuple(dict.fromkeys(notes))


def _nearest(line: Line, others: Sequence[Line]) -> Line:
    """Of several configurations the one trained most alike."""
    own = next(iter(line.rows.values())).identity

    def alike(other: Line) -> tuple[int, int]:
        identity = next(iter(other.rows.values())).identity
        same = sum(own[key] == identity[key] for key in ("training", "objective"))
        shared = set(own["config"]) & set(identity["config"])
        return same, sum(own["config"][key] == identity["config"][key] for key in shared)

    return max(others, key=alike)
