"""Cells of an expression table: names as text, values as numbers, and what among its columns is no gene."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from survbench.console import shown
from survbench.data.decimals import certain_decimals
from survbench.data.delimited import BLANKS, BREAK, Delimited
from survbench.data.importers.identifiers import PATIENT, SAMPLE, normal
from survbench.errors import BadExpression, BadFile

__all__ = ["LEADING", "Cells", "as_numbers", "not_genes"]

COMMA = re.compile(r'(?:^|[\n\t;])"?([-+]?\d[\d.]*,\d[\d.,]*)')  # a number that has one
LEADING = 3  # columns that may hold names without being called so
ENDPOINT = "os|dss|pfi|dfi|pfs|dfs|rfs|dmfs"  # none is a gene; EFS, TTP and OS9 are
MEASURE = r"(time|months?|days?|years?|event|status|cens\w*|survival\w*)"
OUTCOME = re.compile(
    rf"({ENDPOINT})(cr)?|({ENDPOINT}|efs|ttp|bcr)(cr)?{MEASURE}(cr)?"
    rf"|(overall|diseasefree|diseasespecific|progressionfree|eventfree)?survival{MEASURE}?({ENDPOINT})?"
    rf"|(diseasefree|diseasespecific|progressionfree|eventfree){MEASURE}|cens(or|ored|orship|oring)?({ENDPOINT})?"
    rf"|(death|progression|recurrence|relapse|metastasis|followup|event){MEASURE}?|timeto\w+|time|duration|status"
    r"|vitalstatus|dead|died|deceased|alive|futime|fustat|followup\w*|daysto\w*|monthsto\w*|lastfollowup\w*"
    r"|newtumou?revent\w*|survivalbin\w*|disclabel|label|risk|riskscore"
)
COVARIATE = re.compile(
    r"age|ageat\w+|agediagnosis|ageyears|sex|gender|isfemale|ismale|race|ethnicity|stage|\w*(tumor|tumour|pathologic|ajcc"
    r"|clinical)stage|grade|\w*(tumor|tumour|histologic\w*)grade|site|tissuesourcesite|batch|plate|center|centre|bmi"
    r"|oncotreecode|cancertype|subtype|histology|purity|msi|tmb|train|split|fold\d*|slideid|cohort|project|treatment"
)


@dataclass(frozen=True)
class Cells:
    """A table that was found, with what can hold names parsed as text.

    Attributes
    ----------
    found : rows and header.
    text : number of a column -> its cells as text: every column that may hold names.
    table : all cells, the others as numbers where they are.
    decimal : sign of the numbers.
    """

    found: Delimited
    text: dict[int, np.ndarray]
    table: pd.DataFrame
    decimal: str

    @property
    def header(self) -> tuple[str, ...]:
        return self.found.header

    @classmethod
    def read(cls, found: Delimited) -> Cells:
        """Parse every cell once.

        Raises
        ------
        BadFile : pandas finds no table.
        """
        width = range(len(found.header))
        names = [n for n in width if n < LEADING or not found.header[n] or normal(found.header[n]) in PATIENT + SAMPLE]
        number = COMMA.search(found.body) if found.separator != "," else None
        comma = number is not None
        if number is not None and found.separator == "\t" and not certain_decimals(found.body):
            row = found.body.count("\n", 0, number.start(1))
            cell = number[1]
            raise BadFile(
                f"{found.file}, line {found.lines[row]}: '{cell}' may have a decimal comma or thousands",
                "write numbers with decimal points",
            )
        table = _parsed(found, dict.fromkeys(names, str), decimal="," if comma else ".")
        text = {}
        for name in names:
            column = table[name]
            if column.isna().any():  # `NA` may be a patient or a gene
                column = _parsed(found, dict.fromkeys([name], str), usecols=[name], na_filter=False)[name]
            text[name] = column.str.strip(BLANKS).to_numpy(object)
        return cls(found, text, table, "," if comma else ".")

    def names(self, column: int) -> np.ndarray:
        """Cells of a column as text."""
        return self.text[column]

    def values(self, columns: Sequence[int]) -> pd.DataFrame:
        """Columns as numbers, where they are; text where not."""
        table = self.table[list(columns)].copy()
        for column in columns:
            if column in self.text:
                table[column] = _numbers(self.text[column], self.decimal)
            if self.decimal == "," and table[column].dtype.kind not in "iuf":  # this column may have points
                numbers = pd.to_numeric(table[column], errors="coerce")
                if (numbers.isna() == table[column].isna()).all():
                    table[column] = numbers
        return table


def _numbers(cells: np.ndarray, decimal: str) -> np.ndarray:
    """Text parsed by the same rules as the rest of the table."""
    lines = io.StringIO("".join(f"{cell}\n".replace("\n", " ", cell.count("\n")) for cell in cells))
    table = pd.read_csv(
        lines, sep=BREAK, header=None, names=[0], decimal=decimal, quoting=csv.QUOTE_NONE, skip_blank_lines=False
    )
    return table[0].to_numpy()


def _parsed(found: Delimited, types: dict[int, type], **options: object) -> pd.DataFrame:
    if not found.body:
        return pd.DataFrame({number: pd.Series(dtype=str) for number in range(len(found.header))})
    try:
        return pd.read_csv(  # type: ignore[call-overload]
            io.BytesIO(found.body.encode()),
            sep=found.separator,
            header=None,
            names=range(len(found.header)),
            index_col=False,
            dtype=types,
            low_memory=False,
            skip_blank_lines=False,
            **options,
        )
    except pd.errors.ParserError as error:
        raise BadFile(f"{found.file} is not a table: {error}") from None


def not_genes(names: Iterable[str], file: Path, what: str) -> None:
    """Refuse outcomes and covariates, which a model would learn as if they were genes.

    Parameters
    ----------
    names : of genes.
    file : for the message.
    what : a gene is: a column or a row.

    Raises
    ------
    BadExpression : naming the first, and how many there are.
    """
    plain = [(name, normal(name)) for name in names]
    if {"t", "e"} <= {short for _, short in plain}:  # T alone is a gene
        plain.append(("t", "time"))
    for kind, pattern in (("an outcome", OUTCOME), ("a covariate", COVARIATE)):
        found = [name for name, short in plain if short and pattern.fullmatch(short)]
        if found:
            more = f" ({len(found)} such: {shown(found, 5)})" if len(found) > 1 else ""
            raise BadExpression(
                f"{file}: {what} '{found[0]}' is {kind}, not a gene{more}",
                f"take such {what}s out of the expression table",
            )


def as_numbers(table: pd.DataFrame, file: Path, *, genes_in_rows: bool = False) -> pd.DataFrame:
    """The table as it is, if all its cells are numbers or blank.

    Raises
    ------
    BadExpression : naming the column that is text, or the patient and the gene of a cell that is no number.
    """
    for position, kind in enumerate(table.dtypes):
        if kind.kind in "iuf":
            continue
        values, name = table.iloc[:, position], table.columns[position]
        numbers = pd.to_numeric(values.astype(str), errors="coerce")
        wrong = numbers.isna().to_numpy() & values.notna().to_numpy(bool)
        if not wrong.any():
            table.isetitem(position, numbers.to_numpy(np.float64))
            continue
        row = int(np.argmax(wrong))
        value, where = shown([str(values.iloc[row])]), table.index[row]
        comma = re.fullmatch(r"[-+]?\d+[.,][\d.,]*", value) is not None
        if kind.kind == "b" or (2 * wrong.sum() > len(wrong) and not comma):
            what = f"{file}: column '{shown([str(name)])}' is text, such as '{value}', not a gene"
            raise BadExpression(what, "take columns that are no genes out of the expression table")
        patient, gene = (name, where) if genes_in_rows else (where, name)
        raise BadExpression(
            f"{file}: patient {patient}, gene {gene} is '{value}', expected a number",
            "write numbers with decimal points" if comma else "correct the cell",
        )
    return table
