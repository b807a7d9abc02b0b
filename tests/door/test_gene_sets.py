"""Gene sets in every form, what was measured of them, and symbols that a spreadsheet turned into dates."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest

from support import door
from survbench.data.gene_names import damaged_names
from survbench.data.gene_sets import read_gene_sets
from survbench.errors import SurvbenchError

DATES = """2-Sep|Sep-02|02-Sep|2024-09-02|2024-09-02 00:00:00|1-Mrz|1. Mrz|Sep 2|9/2/2024|02.09.2024|01-Mar-21|Mar-01
1-mars|2-sept|1-März|02.09.|9/2|1 Mar|1/Mar|March 1|Mar 1, 2024|September 2, 2024|1-dic|2-set|3月1日|2024/03/01
3/1/2024 0:00|1-MAR|2024-03-01T00:00:00|44256|44256.0|2.31E+13""".replace("\n", "|").split("|")
SYMBOLS = [
    "MARCH1",
    "SEPT2",
    "DEC1",
    "MARC1",
    "HLA-A",
    "NKX2-1",
    "AGO2",
    "AGO-2",
    "SET",
    "MT-ND1",
    "RP11-34P13.7",
    "AC004.1",
    "5S_rRNA",
    "7SK",
    "SEPTIN2",
    "JUN-AS1",
    "NOV",
    "OCT4",
    "APR",
    "NA",
    "ERVK3-1",
    "H2-K1",
    "C1orf112",
    "ENSG00000141510.12",
    "hsa-mir-21",
    "2310009E13Rik",
    "15E1.2",
    "4-1BB",
]


@pytest.mark.parametrize("name", DATES)
def test_a_symbol_that_became_a_date_is_known(name: str) -> None:
    assert list(damaged_names([*SYMBOLS, name])) == [name]


def test_symbols_and_entrez_numbers_are_none() -> None:
    assert damaged_names(SYMBOLS) == {}
    assert damaged_names(["7157", "44256", "1956", "TP53"]) == {}


GMT = "A\tx\tTP53\tEGFR\nB\thttp://b\tMYC\n"
SETS = {"A": ["EGFR", "TP53"], "B": ["MYC"]}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pathways.gmt", GMT),
        ("pathways.gmt.gz", gzip.compress(GMT.encode(), mtime=0)),
        ("pathways.gmt.txt", "\ufeff# from a tool\r\n" + GMT.replace("\n", " \t\r\n")),
        ("pathways.csv", "A,B\nTP53,MYC\nEGFR,\n"),
        ("pathways.csv", "A;B\nTP53;MYC\nEGFR;\n"),
        ("pathways.csv", ",A,B\n0,TP53,MYC\n1,EGFR\n"),
        ("pathways.csv", "gene,A,B\nTP53,1,0\nEGFR,1,0\nMYC,0,1\nNONE,0,0\n"),
        ("pathways.csv", ",A,B\nMYC,0.0,1.0\nTP53,1.0,0.0\nEGFR,1.0,0.0\n"),
        ("pathways.csv", "gs_name,gene_symbol\nA,TP53\nB,MYC\nA,EGFR\n"),
        ("pathways.gmt", GMT + "C\tx\tNONE\n"),
    ],
)
def test_gene_sets_of_any_form(tmp_path: Path, name: str, content: str | bytes) -> None:
    source = door.cohort(tmp_path, expression_csv=door.table())
    (source / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    report, root = door.imported(tmp_path)
    assert root.pathways() == SETS
    assert report.pathways == 2
    assert any(line.startswith("pathways: 2 of ") for line in report.remarks)


def test_sets_that_were_hardly_measured_are_said(tmp_path: Path) -> None:
    rare = "\t".join(f"X{number}" for number in range(9))
    report, root = door.imported(
        tmp_path, expression_csv=door.table(), pathways_gmt=f"LOW\tx\tTP53\t{rare}\nALL\tx\tMYC\nNONE\tx\tX1\n"
    )
    assert set(root.pathways()) == {"LOW", "ALL"}
    assert report.remarks[-2:] == (
        "gene sets of which no gene is measured, left out (1): NONE",
        "pathways: 2 of 3 sets; 2 of their 11 genes are measured; of 1 sets under half: LOW 10 % (1 of 10)",
    )


def test_second_columns_of_gene_sets(tmp_path: Path) -> None:
    """They are genes where all can be, and descriptions where sets are named after them."""
    _, root = door.imported(tmp_path, expression_csv=door.table(), pathways_gmt="A\tTP53\tEGFR\nB\tMYC\tTP53\n")
    assert root.pathways() == {"A": ["EGFR", "TP53"], "B": ["MYC", "TP53"]}
    shutil.rmtree(tmp_path / "DATA")
    report, root = door.imported(tmp_path, pathways_gmt="TP53_TARGETS\tTP53\tEGFR\nMYC_TARGETS\tMYC\tTP53\n")
    assert root.pathways() == {"TP53_TARGETS": ["EGFR"], "MYC_TARGETS": ["TP53"]}
    assert "pathways.gmt: the second column, such as 'TP53', is read as descriptions" in report.remarks


BAD_SETS = {
    "a set twice": (GMT + GMT, "{file}, line 3: pathway 'A' is there twice. correct the line or take it out"),
    "a set without genes": (
        GMT + "C\tx\n",
        "{file}, line 3: pathway 'C' has no genes. correct the line or take it out",
    ),
    "a set without a name": ("\tx\tTP53\n", "{file}, line 1: pathway '' has no name. correct the line or take it out"),
    "separated by commas": (
        GMT.replace("\t", ","),
        "pathway file {file} has no tabs. a line is name, description and genes, separated by tabs",
    ),
    "nothing in it": ("", "{file} has no gene sets. a column is a pathway, its cells are genes; or give a GMT file"),
    "a date": (
        GMT.replace("MYC", "1-Mar"),
        "{file}: gene '1-Mar' of 'B' is a date made by a spreadsheet. restore the gene symbols",
    ),
    "a table under the name of a GMT file": (
        "A\tB\tC\nTP53\tMYC\tEGFR\nMYC\tEGFR\tTP53\n",
        "{file}: its lines begin with genes, such as TP53, where pathways are expected. "
        "a line is name, description and genes",
    ),
    "no gene measured": (
        "A\tx\tENSG1\n",
        "cohort mine: none of the genes of pathway 'A' was measured (1 such pathways); it has ENSG1, the expression "
        "table EGFR. remove these pathways, or add their genes to the expression table",
    ),
}


@pytest.mark.parametrize("kind", BAD_SETS)
def test_gene_sets_that_cannot_be_right(tmp_path: Path, kind: str) -> None:
    content, line = BAD_SETS[kind]
    source = door.cohort(tmp_path, expression_csv=door.table(), pathways_gmt=content)
    with pytest.raises(SurvbenchError) as caught:
        door.imported(tmp_path, expression_csv=door.table(), pathways_gmt=content)
    assert str(caught.value) == line.format(file=source / "pathways.gmt")
    assert not (tmp_path / "DATA").exists()


def test_a_gmt_file_under_the_name_of_a_table(tmp_path: Path) -> None:
    content = "A\thttp://a\tTP53\tEGFR\nB\thttp://b\tMYC\n"
    with pytest.raises(SurvbenchError) as caught:
        door.imported(tmp_path, expression_csv=door.table(), pathways_csv=content)
    assert str(caught.value) == (
        f"{tmp_path}/mine/pathways.csv: its columns are named with genes, such as TP53, where pathways are expected. "
        "name a GMT file .gmt"
    )


@pytest.mark.shared
def test_half_measured_pathways_of_survpath_are_said(shared: Path, tmp_path: Path) -> None:
    code, out = door.command("data", "import", shared / "tcga/survpath", "--out", tmp_path / "D", "-c", "stad")
    assert code == 0
    assert (
        "stad: pathways: 331 of 331 sets; 1,577 of their 4,999 genes are measured; of 50 sets under half: HALLMARK_"
        in out
    )


@pytest.mark.shared
def test_signatures_and_compositions_of_survpath_agree(shared: Path) -> None:
    folder = shared / "tcga/survpath/datasets_csv"
    wide = read_gene_sets(folder / "metadata/xena_signatures.csv")
    ones = read_gene_sets(folder / "pathway_compositions/xena_comps.csv")
    measured = set().union(*ones.values())
    same = [name for name, genes in ones.items() if set(genes) == set(wide.get(name, [])) & measured]
    assert len(wide) == 281
    assert len(same) > 0.9 * len(ones)
