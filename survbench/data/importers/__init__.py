"""Import of files that users already have, unchanged, into a data root. One module per layout of the source folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from survbench.data.formats import find_features, slide_stem
from survbench.data.gene_sets import read_gene_sets
from survbench.data.importers import survpath, tables
from survbench.data.importers.draft import Draft
from survbench.data.importers.finish import CohortReport, ImportReport, finish
from survbench.data.importers.labels import MONTHS
from survbench.data.root import DataRoot
from survbench.data.validation import check_counts
from survbench.errors import BadConfig, BadFile, MissingFile, UnknownName
from survbench.files import child

__all__ = ["CohortReport", "ImportReport", "import_data"]


TABLES = (".csv", ".tsv", ".txt", ".xlsx")


def import_data(
    source: Path,
    out: Path,
    *,
    layout: str = "auto",
    slides: Path | None = None,
    pathways: Path | None = None,
    families: Path | None = None,
    cohorts: list[str] | None = None,
    aliases: Mapping[str, str] | None = None,
    expected: Mapping[str, Mapping[str, Any]] | None = None,
    drop_invalid: bool | float | str | None = None,
    time_unit: str | None = None,
    overwrite: bool = False,
) -> ImportReport:
    """Import all cohorts of a source. Every cohort is read before the first one is written.

    Parameters
    ----------
    source : folder to read, or a table of labels: one cohort, or one of each value of its column `type` or `cohort`.
    out : data root to write; made where there is none.
    layout : `survpath` (datasets_csv/, splits/), `tables` (labels.csv, expression.csv, ... per cohort), or `auto`.
    slides : folder of patch features.
    pathways : GMT or wide CSV that replaces the source's own.
    families : the same for gene families (MCAT's signatures.csv).
    cohorts : names of those to import; all by default.
    aliases : name in the files -> name of the cohort.
    expected : name -> `patients` and `events` that a cohort card states.
    drop_invalid : leave out labels that cannot be right and list them, instead of refusing or keeping them: up to this
        share of them, such as 0.12 or `12%`; True is 5 %.
    time_unit : months, days or years, whatever the names of columns say; None goes by the names.
    overwrite : replace cohorts that are in the root already.

    Raises
    ------
    MissingFile : the source does not exist, or has no known layout.
    UnknownName : no cohort of these names.
    BadLabels, BadExpression, BadFolds, BadFeatures, BadFile : its content cannot be right.
    """
    source = Path(source)
    if not source.is_dir() and not (source.is_file() and source.suffix.lower() in TABLES):
        raise MissingFile(f"source {source} does not exist, or is no folder and no table ({', '.join(TABLES)})")
    drafts = _importer(source, layout).read(source, aliases or {}, cohorts, pathways, _unit(time_unit))
    if not drafts:
        named = f" named {', '.join(cohorts)}" if cohorts else ""
        raise UnknownName(f"{source} holds no cohort{named}", "see `survbench data import --help` for the layouts")
    if families is not None:
        for draft in drafts:
            measured = frozenset() if draft.expression is None else frozenset(draft.expression.columns)
            draft.families = read_gene_sets(families, draft.remarks.append, measured)
    features = find_features(Path(slides)) if slides is not None else {}
    reports = tuple(finish(draft, _files(draft, features), drop_invalid) for draft in drafts)
    for report in reports:
        check_counts(report.name, report.patients, report.events, (expected or {}).get(report.name, {}))
    out = Path(out)
    for draft in drafts:
        target = child(out, draft.info.name, "a cohort").resolve()
        if source.resolve() == target or target in source.resolve().parents:
            what = f"source {source} is in the folder that cohort {draft.info.name} of {out} is written to"
            raise BadFile(what, "move it elsewhere, or name another --out")
    root = DataRoot.create(out)
    for draft in drafts:
        root.write(draft, overwrite=overwrite)
    return ImportReport(reports)


def _unit(time_unit: str | None) -> str | None:
    if time_unit is None or time_unit in MONTHS:
        return time_unit
    raise BadConfig(f"unknown time unit '{time_unit}'", f"known: {', '.join(MONTHS)}")


def _importer(source: Path, layout: str) -> Any:
    importers: dict[str, Any] = {"survpath": survpath, "tables": tables}
    if layout != "auto":
        return importers[layout]
    for importer in importers.values():
        if importer.recognizes(source):
            return importer
    raise MissingFile(
        f"{source} is of no known layout: it has neither datasets_csv/ with tcga_<cohort>.csv nor labels.csv",
        "name the folder that holds them; docs/own-data.md lists what is read",
    )


def _files(draft: Draft, features: Mapping[str, Path]) -> dict[str, str]:
    """Slide -> feature file, matched by the slide's name without suffix."""
    stems = {slide_stem(slide) for slide in draft.slides["slide"]}
    return {stem: str(features[stem].absolute()) for stem in stems if stem in features}
