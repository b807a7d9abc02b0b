"""Cohorts, their folds and their data root."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from survbench.api.arguments import Data, Names, Place, Registries, names, path, renamed, text
from survbench.api.setup import SCHEME, endpoint_name, open_root, read_registry
from survbench.console import note
from survbench.errors import SurvbenchError, UnknownName

if TYPE_CHECKING:
    import pandas as pd

    from survbench.data.check import CheckReport
    from survbench.data.cohort import Cohort
    from survbench.data.importers.finish import ImportReport
    from survbench.data.root import DataRoot

__all__ = ["check_data", "fold_summaries", "import_data", "list_cohorts", "load_cohort", "pack_data"]


def load_cohort(name: str, *, data: Data = None, endpoint: str | None = None, registry: Registries = ()) -> Cohort:
    """Patients of one cohort with an outcome and no modality missing.

    Parameters
    ----------
    name : of the cohort, or a name that files use for it.
    data : data root; None is the demo, whose patients are simulated.
    endpoint : os, dss, pfi, ... as the cohort has them; None is os.
    registry : registry files of your own.

    Raises
    ------
    UnknownName : there is no such cohort or endpoint.
    BadLabels, BadExpression, BadFeatures : its files cannot be right.

    Examples
    --------
    >>> survbench.load_cohort("stad")
    Cohort stad: 115 patients, 45 events (os); clinical, expression, slides; simulated
    """
    from survbench.data import cohort

    root, known = open_root(data), read_registry(registry)
    chosen = known.select_cohorts([text(name, "name")], root.cohorts())
    if len(chosen) > 1:
        raise UnknownName(f"cohort '{name}' names {len(chosen)} cohorts", "name one")
    expected = None if root.simulated else known.expected().get(chosen[0])
    return cohort.load_cohort(root, chosen[0], endpoint_name(endpoint), expected)


@renamed(folds="scheme")
def fold_summaries(
    cohorts: Names = "all",
    *,
    data: Data = None,
    scheme: str = SCHEME,
    endpoint: str | None = None,
    registry: Registries = (),
) -> dict[str, pd.DataFrame]:
    """Patients, events, comparable pairs, follow-up and shared sites of every fold and split, by cohort.

    Parameters
    ----------
    cohorts : names, wildcards or `all`.
    data : data root; None is the demo.
    scheme : of the folds.
    endpoint : os, dss, pfi, ... as the cohorts have them; None is os.
    registry : registry files of your own.
    """
    from survbench.data import cohort
    from survbench.data.folds import summarize

    root, outcome, tables = open_root(data), endpoint_name(endpoint), {}
    for name in read_registry(registry).select_cohorts(names(cohorts, "cohorts"), root.cohorts()):
        loaded = cohort.load_cohort(root, name, outcome)
        tables[name] = summarize(loaded.folds(scheme), loaded.patients, loaded.sites)
    return tables


def list_cohorts(data: Data = None, *, registry: Registries = ()) -> list[dict[str, Any]]:
    """Cohorts of a data root with patients and events, then those that only the registry knows."""
    from survbench.report.listings import cohort_rows

    return cohort_rows(read_registry(registry), open_root(data))


def import_data(
    source: Place, out: Place, *, cohorts: Names = (), registry: Registries = (), **options: Any
) -> ImportReport:
    """Read files as other projects have them, unchanged, into a data root.

    Parameters
    ----------
    source : folder to read.
    out : data root to write to.
    cohorts : only these: names or wildcards.
    registry : registry files of your own, with other names of cohorts and the counts that they must have.
    options : as of `survbench.data.importers.import_data`.
    """
    from survbench.data import importers

    known, chosen = read_registry(registry), list(names(cohorts, "cohorts")) or None
    expected: dict[str, Any] = {"aliases": known.aliases(), "expected": known.expected()}
    return importers.import_data(path(source, "source"), path(out, "out"), cohorts=chosen, **expected, **options)


def check_data(data: Data = None, cohorts: Names = (), *, deep: bool = False) -> CheckReport:
    """Count what a data root holds and list what packing or a run would refuse, with the paper's counts beside.

    Parameters
    ----------
    data : data root; None is the demo.
    cohorts : names; all by default.
    deep : read the contents of feature files, not their headers alone.
    """
    from survbench.data.check import check
    from survbench.leaderboard.published import published_counts

    root = open_root(data)
    chosen = list(names(cohorts, "cohorts")) or root.cohorts()
    stated = {name: counts for name in chosen if (counts := published_counts(name)) and _of_the_paper(root, name)}
    return check(root, chosen, stated, deep=deep)


def _of_the_paper(root: DataRoot, name: str) -> bool:
    """Whether a cohort's patients are TCGA's or simulated; a hospital's own may have the same name."""
    from survbench.data.barcodes import all_of_tcga

    try:
        folder = root.cohort(name)
        return folder.info.simulated or all_of_tcga(folder.patients().index)
    except SurvbenchError:
        return False


def pack_data(data: Data = None, cohorts: Names = (), *, dtype: str | None = None, repack: bool = False) -> None:
    """Put all bags of each cohort into one memory-mapped array; `run` does this by itself when needed."""
    from survbench.data.packing import pack

    root = open_root(data)
    for name in names(cohorts, "cohorts") or root.cohorts():
        folder = root.cohort(name)
        if folder.slides()["file"].isna().all():
            note(f"{name}: no feature files, nothing to pack")
            continue
        store = pack(folder, dtype=dtype, repack=repack)
        note(
            f"{name}: {len(store.patients)} patients, {store.patches:,} patches x {store.dim} {store.dtype}, "
            f"content {store.content_hash[:12]}"
        )
