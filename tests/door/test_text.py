"""Text that tools leave behind: read for what it is, said, or refused in one line that names file and line."""

from __future__ import annotations

import csv
import gzip
import io
import os
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import door
from survbench.data.delimited import BLANKS, read_table
from survbench.data.text import read_text
from survbench.errors import BadFile, MissingFile

LABELS = {"patient": ["P1", "P2"], "os_months": ["1.5", "20"], "os_event": ["1", "0"]}
COMMAS = "patient,os_months,os_event\nP1,1.5,1\nP2,20,0\n"


def written(folder: Path, content: str | bytes, name: str = "labels.csv") -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def zipped(**files: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("labels.csv", COMMAS, []),
        ("labels.csv", COMMAS.replace(",", "\t"), ["labels.csv is separated by tabs"]),
        ("labels.csv", COMMAS.replace(",", ";"), ["labels.csv is separated by semicolons"]),
        (
            "labels.csv",
            COMMAS.replace(",", ";").replace("1.5", "1,5"),
            ["labels.csv is separated by semicolons", "labels.csv: decimal commas of os_months were read as points"],
        ),
        (
            "labels.csv",
            COMMAS.replace(",", "\t").replace("1.5", "1,5"),
            ["labels.csv is separated by tabs", "labels.csv: decimal commas of os_months were read as points"],
        ),
        ("labels.csv", COMMAS.replace("\n", ",,\n"), []),
        ("labels.csv", COMMAS.replace("0\n", "0,\n"), []),
        ("labels.csv", COMMAS + ",,\n \n\n", ["labels.csv: 1 blank row was left out"]),
        ("labels.csv", "\n\n" + COMMAS, []),
        ("labels.csv", COMMAS.rstrip("\n"), []),
        ("labels.csv", COMMAS.replace("\n", "\r\n"), []),
        ("labels.csv", COMMAS.replace("\n", "\r"), []),
        ("labels.csv", "\ufeff" + COMMAS, []),
        ("labels.csv", COMMAS.encode("utf-16"), []),
        ("labels.csv", COMMAS.encode("utf-16-be"), []),
        ("labels.csv", COMMAS.encode("utf-32"), []),
        ("labels.csv", COMMAS.replace("P1", " P1\u00a0").replace("os_months", " os_months "), []),
        ("labels.csv", COMMAS.replace("patient", '"patient"').replace("P1", '"P1"'), []),
        ("labels.csv", "# of 2024\n" + COMMAS, ["labels.csv: 1 comment line above the header left out"]),
        ("labels.csv", "sep=;\n" + COMMAS.replace(",", ";"), ["labels.csv is separated by semicolons"]),
        ("labels.csv", COMMAS + "\x1a", []),
        ("labels.csv.gz", gzip.compress(COMMAS.encode(), mtime=0), []),
        ("labels.csv", gzip.compress(COMMAS.encode(), mtime=0), []),
        ("labels.csv.zip", zipped(**{"../labels.csv": COMMAS}), []),
    ],
)
def test_a_table_of_any_tool_is_the_same_table(
    tmp_path: Path, name: str, content: str | bytes, said: list[str]
) -> None:
    heard: list[str] = []
    assert read_table(written(tmp_path, content, name), heard.append).to_dict("list") == LABELS
    assert heard == said


CELL = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=4) | st.sampled_from(
    ["a,b", 'a"b', "a;b", "a\nb", "", "001", "NA", "# x", "-"]
)


@settings(max_examples=60)
@given(
    st.lists(st.lists(CELL, min_size=3, max_size=3), max_size=4),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_whatever_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], quoting: int, encoding: str, end: str
) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, quoting=quoting, lineterminator=end).writerows([["patient", "a", "b"], *rows])  # type: ignore[arg-type]
    file = written(tmp_path_factory.mktemp("any"), out.getvalue().encode(encoding))
    stripped = [[cell.strip(BLANKS + "\n") for cell in row] for row in rows]
    assert read_table(file, lambda line: None).to_numpy().tolist() == [row for row in stripped if any(row)]


def test_text_keeps_what_it_says(tmp_path: Path) -> None:
    content = 'patient,note\n001,"a, ""b""\nc"\nNA,12\n1.0,5" wide\n'
    table = read_table(written(tmp_path, content))
    assert table["patient"].tolist() == ["001", "NA", "1.0"]
    assert table["note"].tolist() == ['a, "b"\nc', "12", '5" wide']


def test_a_western_encoding_is_said(tmp_path: Path) -> None:
    heard: list[str] = []
    file = written(tmp_path, "patient,site\nP1,Köln\n".encode("cp1252"))
    assert read_table(file, heard.append)["site"].tolist() == ["Köln"]
    assert heard == ["labels.csv is not in UTF-8; read as Windows-1252, line 2: P1,Köln"]


def test_identifiers_with_commas_and_words_stay(tmp_path: Path) -> None:
    content = "patient_id;os_months;note\n1,2;3,5;about 2,5\n3,4;4;none\n"
    table = read_table(written(tmp_path, content), lambda line: None)
    assert table["patient_id"].tolist() == ["1,2", "3,4"]
    assert table["os_months"].tolist() == ["3.5", "4"]
    assert table["note"].tolist() == ["about 2,5", "none"]


BAD_TEXT = {
    "empty": ("", "{file} is empty. expected a line with the names of the columns"),
    "only blank lines": ("\n \n,,\n", "{file} is empty. expected a line with the names of the columns"),
    "a row that ends early": (
        COMMAS.replace("P1,1.5,1", "P1,1.5"),
        "{file}, line 2 ends early: it has 2 of 3 cells; it begins 'P1,1.5'. "
        "was the file cut off? Copy it again, or fill in the row",
    ),
    "cut in the last row": (
        COMMAS[:-4],
        "{file}, line 3 ends early: it has 2 of 3 cells; it begins 'P2,2'. "
        "was the file cut off? Copy it again, or fill in the row",
    ),
    "a cell more than the header": (
        COMMAS.replace("P2,20", "P2,20,7"),
        "{file}, line 3 has 4 cells, the header 3; it begins 'P2,20,7,0'. "
        "name every column, also the first one (R: write.csv), and put cells that hold a separator into quotes",
    ),
    "every row a cell more": (
        COMMAS.replace("patient,", ""),
        "{file}, line 2 has 3 cells, the header 2; it begins 'P1,1.5,1'. "
        "name every column, also the first one (R: write.csv), and put cells that hold a separator into quotes",
    ),
    "a longer row after a cell of two lines": (
        'patient,note\nP1,"a\nb"\nP2,c,d\n',
        "{file}, line 4 has 3 cells, the header 2; it begins 'P2,c,d'. "
        "name every column, also the first one (R: write.csv), and put cells that hold a separator into quotes",
    ),
    "a column twice": ("patient,a,a\nP1,1,2\n", "{file} has the column 'a' twice. keep one of them"),
    "a column twice but for blanks": ("patient,a,a \nP1,1,2\n", "{file} has the column 'a' twice. keep one of them"),
    "separated by blanks": (
        COMMAS.replace(",", " "),
        "{file} has a single column, 'patient os_months os_event'. separate cells by commas, tabs or semicolons",
    ),
    "separated by bars": (
        COMMAS.replace(",", "|"),
        "{file} has a single column, 'patient|os_months|os_event'. separate cells by commas, tabs or semicolons",
    ),
    "a quotation mark left open": (
        COMMAS.replace("P2", '"P2'),
        "{file}, line 3: a quotation mark is opened and never closed. copy or correct it",
    ),
    "both decimal signs": (
        "patient;a\nP1;1,5\nP2;2.5\n",
        "{file}, line 3: a is '2.5', where others have a decimal comma, such as '1,5'. "
        "write all numbers of a column in one way",
    ),
    "decimal and thousands": (
        "patient;a\nP1;1,5\nP2;1.234,5\n",
        "{file}, line 3: a is '1.234,5', where others have a decimal comma, such as '1,5'. "
        "write all numbers of a column in one way",
    ),
    "thousands or decimals": (
        "patient\ta\nP1\t999\nP2\t1,200\n",
        "{file}, line 3: a is '1,200', which may be a decimal comma or thousands. write numbers with decimal points",
    ),
    "a NUL byte": (
        COMMAS.replace("1.5", "1.\x005"),
        "{file}, line 2: holds a NUL byte, so it is damaged or no text. copy or export it again",
    ),
    "a colour code": (
        COMMAS.replace("P2", "\x1b[31mP2"),
        "{file}, line 3: holds the control character '\\x1b', which no table has. copy or export the file again",
    ),
    "a control character of Latin-1": (
        COMMAS.replace("P2", "P2\x9b2J"),
        "{file}, line 3: holds the control character '\\x9b', which no table has. copy or export the file again",
    ),
    "no known encoding": (
        COMMAS.encode() + b"P3\x81,1,1\n",
        "{file}, line 4: is not text in UTF-8. export it again, as UTF-8",
    ),
    "half a UTF-16": (
        b"\xff\xfe" + COMMAS.encode("utf-16-le")[:-1],
        "{file} begins as utf-16-le and does not go on so. copy it again",
    ),
    "a Git LFS pointer": (
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
        "{file} is a Git LFS pointer and not the file itself. run git lfs pull",
    ),
    "a workbook": (zipped(**{"xl/workbook.xml": ""}), "{file} is an Excel workbook. save the sheet as CSV"),
    "an old workbook": (b"\xd0\xcf\x11\xe0\xa1\xb1", "{file} is an Excel workbook. save the sheet as CSV"),
    "an archive": (
        zipped(**{"labels.csv": COMMAS}),
        "{file} is a zip archive or an Excel workbook. unpack it, or save the sheet as CSV",
    ),
    "a web page": ("<!DOCTYPE html>\n<html>", "{file} is a web page and no table. download the file itself"),
    "xz": (b"\xfd7zXZ\0", "{file} is compressed with xz. unpack it, or compress it with gzip"),
    "a Parquet file": (b"PAR1\x15\x04", "{file} is a Parquet file. save the table as CSV"),
    "cut gzip": (gzip.compress(COMMAS.encode() * 99, mtime=0)[:-9], "{file} is cut short or damaged. copy it again"),
    "gzip with another sum": (
        gzip.compress(COMMAS.encode(), mtime=0)[:-8] + b"\1\2\3\4\5\6\7\0",
        "{file} is cut short or damaged. copy it again",
    ),
}


@pytest.mark.parametrize("kind", BAD_TEXT)
def test_a_file_that_is_no_whole_table_is_refused(tmp_path: Path, kind: str) -> None:
    content, line = BAD_TEXT[kind]
    file = written(tmp_path, content)
    with pytest.raises(BadFile) as caught:
        read_table(file, lambda said: None)
    assert str(caught.value) == line.format(file=file)


def test_names_that_promise_a_compression(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"labels.csv.gz is not compressed with gzip, as its name says"):
        read_table(written(tmp_path, COMMAS, "labels.csv.gz"))
    with pytest.raises(BadFile, match=r"labels.csv.zip holds 2 files, expected one table"):
        read_table(written(tmp_path, zipped(a="", b=""), "labels.csv.zip"))
    with pytest.raises(BadFile, match=r"labels.zip cannot be unpacked: .*copy it again"):
        read_table(written(tmp_path, COMMAS, "labels.zip"))


def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place, line in (
        (tmp_path, f"{tmp_path} is a folder, expected a file"),
        (tmp_path / "pipe", f"{tmp_path}/pipe is a pipe or a device, expected a file. save its content as a file"),
        (Path("/dev/zero"), "/dev/zero is a pipe or a device, expected a file. save its content as a file"),
    ):
        with pytest.raises(BadFile) as caught:
            read_table(place)
        assert str(caught.value) == line
    with pytest.raises(MissingFile, match="none does not exist"):
        read_table(tmp_path / "none")


def test_a_small_file_that_unpacks_without_end(tmp_path: Path) -> None:
    file = written(tmp_path, gzip.compress(bytes(70 << 20), 1, mtime=0), "labels.csv.gz")
    with pytest.raises(BadFile, match=r"bytes and unpacks to more than \d[\d,]+\. it is no table"):
        read_text(file)


def test_a_short_row_may_be_meant(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "A,B,C\nTP53,MYC\nEGFR\n"), ragged=True)
    assert table.to_dict("list") == {"A": ["TP53", "EGFR"], "B": ["MYC", ""], "C": ["", ""]}


@pytest.mark.shared
@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("13-blank-and-cut-rows/in", "60"),
        ("13-blank-and-cut-rows/cut", "labels.csv, line 6 ends early: it has 3 of 5 cells"),
        ("27-tabs-shown-as-blanks/in", "60"),
        ("08b-pathways-hardly-measured/in", "of 3 sets under half: PATH_A 0.25 % (1 of 401)"),
        ("15-gene-dates/gmt", "gene '1-Mar' of 'PATH_C' is a date made by a spreadsheet"),
    ],
)
def test_cases_of_text(shared: Path, tmp_path: Path, case: str, said: str) -> None:
    code, out = door.command("data", "import", shared / "cases" / case, "--out", tmp_path / "D")
    assert said in out
    assert code == (2 if "error: " in out else 0)
    if said == "60":
        assert len(pd.read_csv(tmp_path / "D/in/patients.csv")) == 60
