"""Which column of an expression table is the patient, and whether its rows are patients at all."""

from __future__ import annotations

import re

import numpy as np

from survbench.console import shown
from survbench.data.importers.expression_cells import LEADING, Cells
from survbench.data.importers.identifiers import PATIENT, SAMPLE, alike, match_patients, normal
from survbench.data.text import Say
from survbench.errors import BadExpression

__all__ = ["gene_column", "genes_in_rows", "patient_column"]

ROW_NUMBERS = {
    "",
    "index",
    "row",
    "rows",
    "rowname",
    "rownames",
    "rownumber",
    "x",
    "v1",
    "1",
    "no",
    "nr",
    "n",
    "unnamed0",
}
GENE = {"gene", "genes", "geneid", "genename", "genesymbol", "symbol", "hugosymbol", "hgncsymbol", "entrezgeneid",
        "entrezid", "ensemblid", "ensembl", "probe", "sample"}  # fmt: skip
NAMES = re.compile(
    r".*(id|ids|name|names|number|code|key)|index|rows?|unnamed\d+|nr|no|mrn|pat|pats|person|individual|pseudonym|donor"
)
WHOLE = re.compile(r"\d{1,12}(\.0)?")
NUMBER = re.compile(r"[-+]?\d*([.,]\d*)?([eE][-+]?\d+)?")


def genes_in_rows(cells: Cells, patients: list[str]) -> bool:
    """Whether the header names patients of the labels, and the rows do not.

    Raises
    ------
    BadExpression : both do (numbers of genes may be names of patients) and no column says what it is.
    """
    across = len(match_patients(cells.header, patients).patients)
    matches = {number: len(match_patients(names, patients).patients) for number, names in cells.text.items()}
    if not across or any(matches[number] for number in matches if normal(cells.header[number]) in PATIENT):
        return False
    if across > max(matches.values()) > 0 and normal(cells.header[0]) not in GENE:
        raise BadExpression(
            f"{cells.found.file}: both the rows and the columns have names of patients of the labels",
            "name the column of the patients patient, or that of the genes gene",
        )
    return across > max(matches.values())


def gene_column(cells: Cells, patients: set[str], say: Say) -> int:
    """The column of the genes where patients are columns: the first that does not only number the rows.

    Parameters
    ----------
    cells : of the table.
    patients : columns that are patients.
    say : takes what was left out.

    Raises
    ------
    BadExpression : there is none.
    """
    leading = [number for number in range(min(LEADING, len(cells.header))) if cells.header[number] not in patients]
    named = [number for number in leading if not _counts_rows(cells, number)]
    if named and leading[0] != named[0]:
        say(f"{cells.found.file.name}: {_listed(cells, leading[:1])} only numbers the rows and was left out")
    if not named and (not leading or _in_order(cells.names(leading[0]))):
        raise BadExpression(f"{cells.found.file} has patients in columns and no column of genes", "add a column gene")
    return (named or leading)[0]


def patient_column(cells: Cells, patients: list[str], say: Say) -> tuple[int, list[int]]:
    """The column of the patients, and the columns that are neither that nor genes.

    Raises
    ------
    BadExpression : there is none, or there are two that disagree.
    """
    file, header = cells.found.file, cells.header
    rows = [number for number in cells.text if _counts_rows(cells, number)]
    named = [number for number in cells.text if normal(header[number]) in PATIENT]
    samples = [number for number in cells.text if normal(header[number]) in SAMPLE]
    if len(named) > 1 and not all((cells.names(named[0]) == cells.names(other)).all() for other in named[1:]):
        listed = " and ".join(header[number] for number in named)
        raise BadExpression(f"{file} names patients in {listed}, which differ", "keep one of these columns")
    if not named and samples:
        named = [max(samples, key=lambda number: len(match_patients(cells.names(number), patients).patients))]
    column = named[0] if named else _first_column(cells, patients, rows, say)
    rows = [number for number in rows if number != column]
    others = [number for number in (*named[1:], *samples) if number != column]
    if rows:
        say(f"{file.name}: {_listed(cells, rows)} only numbers the rows and was left out")
    if others:
        say(f"{file.name}: patients are in column '{header[column]}'; {_listed(cells, others)} was left out")
    return column, [*rows, *others]


def _listed(cells: Cells, numbers: list[int]) -> str:
    names = [f"'{shown([cells.header[n]])}'" if cells.header[n] else f"{n + 1}, which has no name," for n in numbers]
    return f"column{'s' if len(names) > 1 else ''} {' and '.join(names)}"


def _counts_rows(cells: Cells, number: int) -> bool:
    """Whether a column without a name, or of the name of an index, holds a different whole number in each row."""
    name, values = cells.header[number], cells.names(number)
    if normal(name) not in ROW_NUMBERS and not re.fullmatch(r"unnamed\d+", normal(name)):
        return False
    return len(values) > 0 and len(set(values)) == len(values) and all(WHOLE.fullmatch(value) for value in values)


def _in_order(values: np.ndarray) -> bool:
    numbers = [int(float(value)) for value in values]
    return numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _first_column(cells: Cells, patients: list[str], rows: list[int], say: Say) -> int:
    """The first column, where it is no row numbers and holds patients of the labels."""
    file, known = cells.found.file, set(patients)
    for number in range(min(2, len(cells.header))):
        name, values = cells.header[number], cells.names(number)
        matched = len(match_patients(values, patients).patients)
        counting = number in rows and _in_order(values)
        if counting and set(values) != known:
            continue  # the rows' numbers, also where some of them look like patients
        numeric = all(WHOLE.fullmatch(value) for value in values)
        if numeric:  # values of a gene may look like numbers of patients
            likely = name == "" or NAMES.fullmatch(normal(name)) is not None
            matched *= likely and len(set(values)) == len(values) and 2 * matched >= min(len(values), len(known))
        if matched:
            if counting:
                called = f"'{shown([name])}'" if name else "without a name"
                say(f"{file.name}: the column {called} holds {shown(list(values))}, read as the patients of the labels")
            return number
        if number not in rows:
            break
    texts = [n for n in range(min(2, len(cells.header))) if not all(map(NUMBER.fullmatch, cells.names(n)))]
    number = texts[0] if texts else 0
    found = list(dict.fromkeys(cells.names(number)))
    way, pairs = alike([name for name in found if name not in known], [p for p in patients if p not in set(found)])
    if not pairs:
        way, pairs = alike(cells.header, patients)  # genes in rows, and patients written in another way
    differ = f"; they differ by {way}: '{pairs[0][0]}' and '{pairs[0][1]}'" if pairs else ""
    name = f"'{shown([cells.header[number]])}' " if cells.header[number] else ""
    raise BadExpression(
        f"{file} has no patient column: its column {name}holds {shown(found)}, the labels {shown(patients)}; "
        f"its columns are {shown(list(filter(None, cells.header)), 5)}{differ}",
        "name the patient's column patient, and write identifiers in the same way in both files, as text",
    )
