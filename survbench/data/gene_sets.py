"""Pathways and gene families: sets of gene symbols, read, written, and matched with the genes that were measured."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from survbench.data.delimited import read_table
from survbench.errors import BadExpression, BadFile, MissingFile

__all__ = ["match_genes", "read_gene_sets", "read_gmt", "write_gmt"]


def read_gmt(file: Path) -> dict[str, list[str]]:
    """Pathways of a GMT file: name, description, genes, separated by tabs.

    Returns
    -------
    Name -> genes, in the file's order.

    Raises
    ------
    MissingFile : no such file.
    BadFile : it is not text.
    BadExpression : a pathway twice, or without genes.
    """
    pathways: dict[str, list[str]] = {}
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise MissingFile(f"pathway file {file} does not exist") from None
    except UnicodeDecodeError:
        raise BadFile(f"pathway file {file} is not text") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, *rest = line.split("\t")
        genes = [gene.strip() for gene in rest[1:] if gene.strip()]
        if name in pathways or not genes:
            problem = "is there twice" if name in pathways else "has no genes"
            raise BadExpression(f"{file}, line {number}: pathway '{name}' {problem}")
        pathways[name] = list(dict.fromkeys(genes))
    return pathways


def write_gmt(file: Path, sets: Mapping[str, list[str]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
        writer.writerows([name, "", *sorted(genes)] for name, genes in sets.items())


def read_gene_sets(file: Path) -> dict[str, list[str]]:
    """Pathways of a GMT file, or of a wide CSV: a column is a pathway, its cells are genes, ragged with blanks."""
    if file.suffix.lower() == ".gmt":
        return read_gmt(file)
    table = read_table(file)
    return {name: [gene for gene in dict.fromkeys(table[name]) if gene] for name in table.columns}


def match_genes(sets: Mapping[str, list[str]], measured: Iterable[str], cohort: str) -> dict[str, list[str]]:
    """Members of gene sets that were measured, in alphabetical order.

    Raises
    ------
    BadExpression : a set has none.
    """
    known = set(measured)
    matched = {name: sorted(known & set(members)) for name, members in sets.items()}
    empty = [name for name, members in matched.items() if not members]
    if empty:
        raise BadExpression(
            f"cohort {cohort}: none of the genes of pathway '{empty[0]}' was measured ({len(empty)} such pathways)",
            "remove these pathways, or add their genes to the expression table",
        )
    return matched
