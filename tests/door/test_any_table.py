"""However a table is written down, its patients keep what is theirs; no content of a table ends in a traceback."""

from __future__ import annotations

import csv
import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from survbench.data.importers import import_data
from survbench.data.root import CohortFolder, DataRoot
from survbench.errors import SurvbenchError

SAMPLE = Path(__file__).resolve().parents[2] / "docs" / "samples" / "mine"
TABLES = {
    name: pd.read_csv(SAMPLE / f"{name}.csv", dtype=str, keep_default_na=False) for name in ("labels", "expression")
}
JUNK = [
    *("", "NA", "#N/A", "nan", "inf", "-1", "0", "1e400", "1,5", "=1+1", "'", '"', "\x00", "\x1b[31m", "S01", "2-Sep"),
    *("Dead", "1:DECEASED", "2024-09-02", "ß", "\u202e", " 3 ", "TRUE"),
]
HEADERS = [
    *("patient", "", "Unnamed: 0", "os_event", "OS", "OS.time", "censorship", "survival_months", "type", "slide_id"),
    *("sex", "stage"),
]
EXAMPLES = settings.default.max_examples // 4  # type: ignore[union-attr]  # each is an import


@st.composite
def forms(draw: st.DrawFn) -> dict[str, object]:
    """How a program may have written a table down, all of them without loss."""
    return {
        "separator": draw(st.sampled_from([",", "\t", ";"])),
        "end": draw(st.sampled_from(["\n", "\r\n"])),
        "encoding": draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])),
        "quoting": draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
        "index": draw(st.sampled_from([None, "", "Unnamed: 0"])),
        "blank rows": draw(st.integers(0, 2)),
        "rows": draw(st.randoms(use_true_random=False)),
        "columns": draw(st.booleans()),
    }


def written_down(table: pd.DataFrame, form: dict[str, object]) -> bytes:
    """The table in one of these forms; rows and, where it is asked for, columns are in another order."""
    order, columns = list(range(len(table))), list(table.columns)
    form["rows"].shuffle(order)  # type: ignore[attr-defined]
    if form["columns"]:
        form["rows"].shuffle(columns)  # type: ignore[attr-defined]
    table = table.iloc[order].loc[:, columns].reset_index(drop=True)
    if form["index"] is not None:
        table.insert(0, form["index"], [str(i) for i in range(len(table))])
    shape = {"delimiter": form["separator"], "lineterminator": form["end"], "quoting": form["quoting"]}
    writer = csv.writer(text := io.StringIO(), **shape)  # type: ignore[arg-type]
    writer.writerow(table.columns)
    writer.writerows(table.to_numpy().tolist())
    rest = str(form["separator"]) * (table.shape[1] - 1) + str(form["end"])
    return (text.getvalue() + rest * int(form["blank rows"])).encode(str(form["encoding"]))  # type: ignore[call-overload]


@contextmanager
def source(**files: bytes) -> Iterator[Path]:
    """The sample cohort with some of its files replaced."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "mine"
        shutil.copytree(SAMPLE, folder)
        for name, content in files.items():
            (folder / f"{name}.csv").write_bytes(content)
        yield folder


def imported(folder: Path) -> CohortFolder:
    import_data(folder, folder.parent / "DATA")
    return DataRoot.open(folder.parent / "DATA").cohort("mine")


@settings(max_examples=EXAMPLES)
@given(forms(), forms())
def test_however_tables_are_written_down_the_same_is_read(
    labels: dict[str, object], expression: dict[str, object]
) -> None:
    with source() as plain:
        expected = imported(plain)
        patients, values = expected.patients(), expected.expression()
    replaced = {
        name: written_down(TABLES[name], form) for name, form in (("labels", labels), ("expression", expression))
    }
    with source(**replaced) as folder:
        read = imported(folder)
        pd.testing.assert_frame_equal(read.patients(), patients)
        pd.testing.assert_frame_equal(read.expression(), values, check_like=True)


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, int, int, str]]:
    """Cells (or, in row -1, names of columns) of a table that hold something else."""
    places = []
    for _ in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from(list(TABLES)))
        row = draw(st.integers(-1, len(TABLES[name]) - 1))
        column = draw(st.integers(0, TABLES[name].shape[1] - 1))
        places.append((name, row, column, draw(st.sampled_from(HEADERS if row < 0 else JUNK))))
    return places


@settings(max_examples=EXAMPLES)
@given(damages())
def test_a_damaged_table_is_refused_or_gives_everybody_what_is_theirs(damage: list[tuple[str, int, int, str]]) -> None:
    tables = {name: [list(table.columns), *table.to_numpy().tolist()] for name, table in TABLES.items()}
    for name, row, column, value in damage:
        tables[name][row + 1][column] = value
    contents = {}
    for name, rows in tables.items():
        csv.writer(text := io.StringIO()).writerows(rows)
        contents[name] = text.getvalue().encode()
    with source(**contents) as folder:
        try:
            read = imported(folder)
        except SurvbenchError:
            return
        touched = {TABLES[name].iloc[max(row, 0), 0] for name, row, _, _ in damage if row >= 0}
        _everybody_has_their_own(read, touched, {c for n, r, c, _ in damage if r < 0 and n == "expression"})


def _everybody_has_their_own(read: CohortFolder, touched: set[str], renamed: set[int]) -> None:
    """Of patients whose rows nobody touched, time and expression are what the sample says."""
    labels = TABLES["labels"].set_index("patient")
    patients, values = read.patients(), read.expression()
    for patient in set(patients.index) - touched - {value.strip() for value in JUNK}:
        assert patient in labels.index
        if "os_months" in patients and "os_months" in labels:
            assert patients.loc[patient, "os_months"] in ("", labels.loc[patient, "os_months"])
    if values is None:
        return
    table = TABLES["expression"].set_index("patient").astype(np.float32)
    genes = [gene for i, gene in enumerate(table.columns, 1) if i not in renamed and gene in values]
    same = [patient for patient in values.index if patient in table.index and patient not in touched]
    np.testing.assert_array_equal(values.loc[same, genes], table.loc[same, genes])
