"""The expression table of a source: patients by name, genes by name, values as they are."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from survbench.console import note, shown
from survbench.data.delimited import read_delimited
from survbench.data.expression_scale import scale_remark
from survbench.data.gene_names import damaged_names
from survbench.data.importers.expression_cells import Cells, as_numbers, not_genes
from survbench.data.importers.identifiers import alike, match_patients
from survbench.data.importers.patient_column import gene_column, genes_in_rows, patient_column
from survbench.data.text import Say
from survbench.data.validation import check_expression
from survbench.errors import BadExpression

__all__ = ["read_expression"]


def read_expression(file: Path, patients: Collection[str], say: Say = note) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Expression from delimited text, also compressed: patients in rows, or genes in rows, which is recognised.

    The patient's column is found by its name. A table without one is read if its first column holds patients of the
    labels. The first row of a patient counts; of several samples of a person one is taken, which is said.

    Parameters
    ----------
    file : CSV or TSV.
    patients : of the labels.
    say : takes what the user should know: what was left out or joined, and the scale.

    Returns
    -------
    (patients, genes) float32, and the patients who have several rows.

    Raises
    ------
    MissingFile : no such file.
    BadFile : it is no table.
    BadExpression : no row is a patient of the labels; outcomes, covariates or text among the genes; values that are no
        numbers; genes twice, or symbols that a spreadsheet turned into dates.
    """
    cells = Cells.read(read_delimited(file, say))
    known = list(dict.fromkeys(patients))
    transposed = genes_in_rows(cells, known)
    table, left = _of_gene_rows(cells, known, say) if transposed else (_of_patient_rows(cells, known, say), [])
    damaged = damaged_names(table.columns)
    if damaged:
        gene, kind = next(iter(damaged.items()))
        raise BadExpression(f"{file}: gene '{gene}' is {kind} made by a spreadsheet", "restore the gene symbols")
    if table.empty:
        raise BadExpression(f"{file} has {len(table)} patients and {table.shape[1]} genes", "fill it, or remove it")
    table = as_numbers(table, file)
    joined, twice = _joined(table, known, file, say, left)
    check_expression(joined, str(file))
    _describe(joined, joined.index.isin(known), say)
    return joined.astype(np.float32), twice


def _of_patient_rows(cells: Cells, patients: list[str], say: Say) -> pd.DataFrame:
    """Values as they were parsed, indexed by the names of the rows."""
    file = cells.found.file
    column, others = patient_column(cells, patients, say)
    genes = [number for number in range(len(cells.header)) if number != column and number not in others]
    for number in genes:
        if not cells.header[number]:
            raise BadExpression(f"{file}: column {number + 1} has no name", "name it, or take it out")
    not_genes([cells.header[number] for number in genes], file, "column")
    blank = np.flatnonzero(cells.names(column) == "")
    if len(blank):
        raise BadExpression(f"{file}, line {cells.found.lines[blank[0]]}: a row has no patient", "take the row out")
    table = cells.values(genes).set_axis(cells.names(column), axis=0)
    return table.set_axis(pd.Index([cells.header[number] for number in genes]), axis=1)


def _of_gene_rows(cells: Cells, patients: list[str], say: Say) -> tuple[pd.DataFrame, list[str]]:
    """Patients in rows, and the columns that are no patients of the labels."""
    file, header = cells.found.file, cells.header
    matched = match_patients(header, patients)
    named = gene_column(cells, {*matched.patients, *matched.left}, say)
    numbers = [number for number, name in enumerate(header) if number != named and name]
    mine = [number for number in numbers if header[number] in matched.patients]
    left = [header[number] for number in numbers if header[number] not in {*matched.patients, *matched.left}]
    say(f"{file.name} has genes in rows and patients in columns; it was transposed")
    if left:
        say(f"{file.name}: columns that are no patients of the labels, left out ({len(left)}): {shown(left)}")
    genes = cells.names(named)
    blank = np.flatnonzero(genes == "")
    if len(blank):
        raise BadExpression(f"{file}, line {cells.found.lines[blank[0]]}: a gene has no name", "take the row out")
    not_genes(list(genes), file, "row")
    for remark in matched.remarks:
        say(f"{file.name}: {remark}")
    table = cells.values(mine).set_axis(genes, axis=0)
    columns = [matched.patients[header[number]] for number in mine]
    table = as_numbers(table.set_axis(pd.Index(columns), axis=1), file, genes_in_rows=True)
    return table.T, left


def _joined(
    table: pd.DataFrame, patients: list[str], file: Path, say: Say, left: list[str]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Rows under the patients' names, one a patient, and the patients who have several rows."""
    twice = tuple(sorted(set(table.index[table.index.duplicated()])))
    table = table[~table.index.duplicated()]
    matched = match_patients(table.index, patients)
    for remark in matched.remarks:
        say(f"{file.name}: {remark}")
    table = table[~table.index.isin(matched.left)]
    table = table.set_axis(pd.Index([matched.patients.get(n, n) for n in table.index]), axis=0)
    _refuse_strangers([*table.index, *left], patients, set(matched.patients.values()), file, say)
    return table, tuple(matched.patients.get(name, name) for name in twice)


def _refuse_strangers(names: list[str], patients: list[str], found: set[str], file: Path, say: Say) -> None:
    """Refuse a table of other people, and names that have lost their zeros; say where few are found."""
    strangers = [name for name in names if name not in found]
    lacking = [patient for patient in patients if patient not in found]
    way, pairs = alike(strangers, lacking)
    several = ", ".join(f"'{name}' and '{patient}'" for name, patient in pairs[:3])
    if not found or (pairs and "zeros" in way):
        differ = f"{len(pairs)} of them differ only by {way}: {several}" if pairs else "none is alike"
        what = (
            f"{file}: {len(found)} of {len(patients)} patients of the labels have expression; it has "
            f"{shown(strangers)}, the labels {shown(lacking)}; {differ}"
        )
        raise BadExpression(what, "write identifiers in the same way in both files, as text")
    if pairs:
        say(f"{file.name}: names that differ from patients of the labels by {way} alone ({len(pairs)}): {several}")
    if 2 * len(found) < len(patients):
        say(
            f"{file.name}: only {len(found)} of {len(patients)} patients of the labels have expression; without are "
            f"{shown(lacking)}; rows of nobody are {shown(strangers)}"
        )


def _describe(table: pd.DataFrame, labeled: np.ndarray, say: Say) -> None:
    mine = table[labeled]
    values = mine.to_numpy()
    constant = list(table.columns[values.max(axis=0) == values.min(axis=0)]) if len(mine) > 1 else []
    if constant:
        count = "1 gene has" if len(constant) == 1 else f"{len(constant)} genes have"
        say(f"expression: {count} the same value in all patients: {shown(constant)}")
    say(scale_remark(mine))
