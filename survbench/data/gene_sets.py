"""Pathways and gene families: sets of gene symbols, read, written, and matched with the genes that were measured."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import pandas as pd

from survbench.console import note, shown
from survbench.data.delimited import BLANKS, read_table
from survbench.data.gene_names import damaged_names
from survbench.data.text import Say, read_text
from survbench.errors import BadExpression, BadFile, MissingFile

__all__ = ["match_genes", "measured_remark", "read_gene_sets", "read_gmt", "write_gmt"]

GMT = re.compile(r"\.gmt(\.txt)?(\.gz)?$", re.IGNORECASE)
GENE, SET = {"gene", "genes", "genesymbol", "symbol", "hgncsymbol"}, {"pathway", "term", "geneset", "gsname", "set"}
MEMBER = {"0", "1", "0.0", "1.0"}
SHOWN = 5  # sets that a remark names


def read_gmt(file: Path, say: Say = note, measured: Collection[str] = ()) -> dict[str, list[str]]:
    """Pathways of a GMT file: name, description, genes, separated by tabs.

    Parameters
    ----------
    file : of a line per pathway; lines that begin with # and hold no pathway are left out.
    say : takes what the user should know.
    measured : genes of the expression table, by which a file without descriptions is recognised.

    Returns
    -------
    Name -> genes, in the file's order.

    Raises
    ------
    MissingFile : no such file.
    BadFile : it is not text.
    BadExpression : a pathway twice, without a name, or without genes.
    """
    try:
        text = read_text(file, say)
    except MissingFile:
        raise MissingFile(f"pathway file {file} does not exist") from None
    lines = [[_bare(cell) for cell in line.split("\t")] for line in text.split("\n")]
    numbered = [
        (number, cells)
        for number, cells in enumerate(lines, 1)
        if any(cells) and not (cells[0].startswith("#") and len(cells) < 3)
    ]
    if numbered and "\t" not in text:
        raise BadFile(f"pathway file {file} has no tabs", "a line is name, description and genes, separated by tabs")
    rows = [cells for _, cells in numbered]
    first = 1 if _without_descriptions(rows, frozenset(measured)) else 2
    seconds = [cells[1] for cells in rows if len(cells) > 1 and cells[1] in measured]
    if seconds:
        how = "genes: the file has no descriptions" if first == 1 else "descriptions"
        say(f"{file.name}: the second column, such as '{seconds[0]}', is read as {how}")
    pathways: dict[str, list[str]] = {}
    for number, (name, *rest) in numbered:
        genes = [gene for gene in rest[first - 1 :] if gene]
        problem = (
            "has no name" if not name else "is there twice" if name in pathways else "" if genes else "has no genes"
        )
        if problem:
            raise BadExpression(f"{file}, line {number}: pathway '{name}' {problem}", "correct the line or take it out")
        pathways[name] = list(dict.fromkeys(genes))
    return pathways


def _without_descriptions(lines: list[list[str]], measured: frozenset[str]) -> bool:
    """Whether second cells are measured as often as the others, and none of them can be a description.

    Sets that are named after the gene that they describe (`TP53_TARGETS`, TP53) do have descriptions.
    """
    seconds = [(cells[0], cells[1]) for cells in lines if len(cells) > 1]
    others = [gene for cells in lines for gene in cells[2:] if gene]
    if not seconds or any(not cell or cell.lower() == "na" or re.search(r"[\s/:]", cell) for _, cell in seconds):
        return False
    named_after = sum(cell.lower() in re.split(r"[\W_]+", name.lower()) for name, cell in seconds)
    share = sum(cell in measured for _, cell in seconds) / len(seconds)
    usual = sum(gene in measured for gene in others) / max(len(others), 1)
    return share > 0 and share >= 0.5 * usual and 2 * named_after <= len(seconds)


def _bare(cell: str) -> str:
    """Without blanks around it, and without the quotation marks that a spreadsheet put there."""
    cell = cell.strip(BLANKS)
    return cell[1:-1].strip(BLANKS) if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def write_gmt(file: Path, sets: Mapping[str, list[str]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
        writer.writerows([name, "", *sorted(genes)] for name, genes in sets.items())


def read_gene_sets(file: Path, say: Say = note, measured: Collection[str] = ()) -> dict[str, list[str]]:
    """Gene sets of a user: a GMT file, or a table.

    A table has a column per pathway whose cells are genes, ragged with blanks; or a row per gene and a column per
    pathway, of 0 and 1; or two columns, one of pathways and one of genes.

    Parameters
    ----------
    file : of these.
    say : takes what the user should know.
    measured : genes of the expression table.

    Raises
    ------
    MissingFile, BadFile : see `read_gmt` and `read_table`.
    BadExpression : also a gene that a spreadsheet turned into a date.
    """
    if GMT.search(file.name):
        sets = read_gmt(file, say, measured)
        _refuse_genes(list(sets), measured, f"{file}: its lines begin", "a line is name, description and genes")
    else:
        table = read_table(file, say, ragged=True)
        _refuse_genes(list(table.columns[2:]), measured, f"{file}: its columns are named", "name a GMT file .gmt")
        sets = _of_table(table)
    if not any(sets.values()):
        raise BadExpression(
            f"{file} has no gene sets", "a column is a pathway, its cells are genes; or give a GMT file"
        )
    damaged = damaged_names(dict.fromkeys(gene for genes in sets.values() for gene in genes))
    if damaged:
        gene, kind = next(iter(damaged.items()))
        name = next(name for name, genes in sets.items() if gene in genes)
        raise BadExpression(
            f"{file}: gene '{gene}' of '{name}' is {kind} made by a spreadsheet", "restore the gene symbols"
        )
    return sets


def _refuse_genes(names: list[str], measured: Collection[str], where: str, mend: str) -> None:
    """A GMT file under a table's name, or the reverse, has genes where sets should be named."""
    genes = [name for name in names if name in measured]
    if 2 * len(genes) > len(names):
        raise BadExpression(f"{where} with genes, such as {genes[0]}, where pathways are expected", mend)


def _of_table(table: pd.DataFrame) -> dict[str, list[str]]:
    first, *rest = [str(column) for column in table.columns]
    kinds = {re.sub(r"[^a-z]", "", column.lower()): column for column in (first, *rest)}
    if (genes := GENE & set(kinds)) and (names := SET & set(kinds)) and len(genes) == len(names) == 1:
        long = table[[kinds[names.pop()], kinds[genes.pop()]]].set_axis(["set", "gene"], axis=1)
        return {
            str(name): list(dict.fromkeys(part["gene"]))
            for name, part in long[long["gene"] != ""].groupby("set", sort=False)
        }
    if rest and len(table) and all(set(table[column]) <= MEMBER for column in rest):
        return {name: table.loc[table[name].astype(float) == 1, first].tolist() for name in rest}
    if first.startswith("Unnamed: ") and table[first].str.fullmatch(r"\d*").all():
        table = table.drop(columns=first)  # numbers of rows
    named = [str(column) for column in table.columns]
    return {" ".join(name.split()): [gene for gene in dict.fromkeys(table[name]) if gene] for name in named}


def match_genes(
    sets: Mapping[str, list[str]], measured: Iterable[str], cohort: str, say: Say | None = None
) -> dict[str, list[str]]:
    """Members of gene sets that were measured, in alphabetical order.

    Parameters
    ----------
    sets : name -> genes.
    measured : genes of the expression table.
    cohort : for messages.
    say : takes which sets were left out because none of their genes was measured; without it they are refused.

    Raises
    ------
    BadExpression : a set has none; or all sets, where that is said.
    """
    known = set(measured)
    matched = {name: sorted(known & set(members)) for name, members in sets.items()}
    empty = [name for name, members in matched.items() if not members]
    if empty and (say is None or len(empty) == len(matched)):
        gene = next((gene for gene in sets[empty[0]]), "no genes")
        raise BadExpression(
            f"cohort {cohort}: none of the genes of pathway '{empty[0]}' was measured ({len(empty)} such pathways); "
            f"it has {gene}, the expression table {min(known, default='no genes')}",
            "remove these pathways, or add their genes to the expression table",
        )
    if empty and say is not None:
        say(f"gene sets of which no gene is measured, left out ({len(empty)}): {shown(empty, SHOWN)}")
    return {name: members for name, members in matched.items() if members}


def measured_remark(kind: str, sets: Mapping[str, list[str]], matched: Mapping[str, list[str]]) -> str:
    """How many genes of the sets were measured, and the sets that lack more than half, those with fewest first.

    Parameters
    ----------
    kind : what the sets are, for the line: pathways, families.
    sets : as they were read.
    matched : result of `match_genes`.
    """
    shares = {name: len(matched[name]) / len(set(sets[name])) for name in matched}
    low = sorted((name for name, share in shares.items() if share < 0.5), key=lambda name: shares[name])
    genes, found = set().union(*sets.values()), set().union(*matched.values())
    line = f"{kind}: {len(matched)} of {len(sets)} sets; {len(found):,} of their {len(genes):,} genes are measured"
    if not low:
        return line
    named = [f"{name} {100 * shares[name]:.2g} % ({len(matched[name])} of {len(set(sets[name]))})" for name in low]
    return f"{line}; of {len(low)} sets under half: {shown(named, SHOWN, 120)}"
