"""Import of files that users already have, unchanged, into a data root. One module per layout of the source folder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from survbench.console import shown
from survbench.data.formats import find_features
from survbench.data.gene_sets import read_gene_sets
from survbench.data.importers import survpath, tables
from survbench.data.importers.draft import Draft
from survbench.data.importers.finish import CohortReport, ImportReport, finish
from survbench.data.importers.labels import MONTHS
from survbench.data.importers.slide_files import match_files, refuse_nothing, slides_of_files
from survbench.data.reading_process import any_simulated
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
    patch_size: float | None = None,
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
    patch_size : edge of a patch in level-0 pixels, for feature files with coordinates that do not say: CLAM's without
        their folder patches/.
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
    if patch_size is not None and not 0 < patch_size < math.inf:
        raise BadConfig(f"the patch size is {patch_size}", "expected a patch's edge in level-0 pixels, such as 256")
    for draft in drafts:
        draft.info = replace(draft.info, patch_size=patch_size)
    features = find_features(Path(slides)) if slides is not None else {}
    matched = _matched(drafts, features, str(source)) if features else {}
    reports = tuple(finish(draft, matched, drop_invalid) for draft in drafts)
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


def _matched(drafts: list[Draft], features: Mapping[str, Path], source: str) -> dict[str, str]:
    """Slide -> feature file; what has no counterpart on either side is said."""
    matched: dict[str, Path] = {}
    for draft in drafts:
        say = draft.remarks.append
        if draft.slides.empty:
            draft.slides = slides_of_files(draft.patients["patient"], features, say)
        mine = match_files(draft.slides, features, say)
        missing = sorted(set(draft.slides["slide"]) - set(mine))
        if missing:
            say(f"slides without a feature file ({len(missing)} of {len(draft.slides)}): {shown(missing, 5)}")
        if any_simulated(mine.values()):
            draft.info = replace(draft.info, simulated_slides=True)
            say("slide features are marked as simulated, and so is everything that is computed from them")
        matched |= mine
    if not matched:
        refuse_nothing(pd.concat([draft.slides for draft in drafts]), features, source)
    used = set(matched.values())
    unused = [file.name for file in features.values() if file not in used]
    if unused:
        drafts[-1].remarks.append(f"feature files of no slide, not used ({len(unused)}): {shown(unused, 5)}")
    return {slide: str(file.absolute()) for slide, file in matched.items()}
