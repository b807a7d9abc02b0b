"""What is written is read back, and tables show what was and what was not measured."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from benchmarks.figures import Round
from benchmarks.results import Results, merged, read, write
from benchmarks.rounds import Outcome
from benchmarks.tables import compared, markdown, screen, tables
from survbench.errors import BadFile, MissingFile

CELL: dict[str, int | str] = {"patches": 3000, "patients": 8}


def outcome(name: str, seconds: float, **fields: object) -> Outcome:
    made = Outcome(suite="step", contestant=name, cell=dict(CELL), unit="patient", units=8, flops=4_000_000_000)
    made.rounds = [Round(seconds, 0.02, 0.02) for _ in range(3)]
    return replace(made, **fields)


def results(*outcomes: Outcome, commit: str = "abc") -> Results:
    machine = {
        "cores": 2,
        "architecture": "x86_64",
        "processor": "P",
        "device": "cpu",
        "precision": "float32",
        "threads": 1,
    }
    return Results(
        date="2026-01-01",
        commit=commit,
        machine=machine,
        versions={"torch": "2"},
        options={"rounds": 3},
        probe_flops=2e9,
        outcomes=outcomes,
    )


MISSING = Outcome(suite="step", contestant="theirs", cell=dict(CELL), status="not installed: theirs")


def test_results_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    before = results(outcome("abmil", 0.08), MISSING)
    write(before, tmp_path / "a.json")
    assert read(tmp_path / "a.json") == before
    assert before.peak == pytest.approx(100e9)


def test_the_grid_shows_time_per_patient_share_and_who_is_missing() -> None:
    """4 GFLOP in 80 ms are 50 GFLOP/s beside a product of 100 GFLOP/s; 8 patients share the 80 ms."""
    (table,) = tables(results(outcome("abmil", 0.08), MISSING))
    assert table.heads == ("model", "3,000 patches x 8")
    assert table.rows == (("abmil", "10.0 (50 %)"), ("theirs", "not installed: theirs"))


def test_a_peer_is_compared_with_ours_and_load_is_marked() -> None:
    loaded = [Round(0.16, 0.02, 0.02, outside=1.0)] * 3
    (table,) = tables(results(outcome("abmil", 0.08), outcome("abmil (mine)", 0.16, rounds=loaded)))
    assert table.rows[1] == ("abmil (mine)", "20.0* (25 %), 2.00 x ours")
    assert "other processes were busy" in markdown(results(outcome("abmil", 0.16, rounds=loaded)))


def test_memory_and_lists_have_their_own_columns() -> None:
    writes = Outcome(
        suite="data",
        contestant="a file",
        cell={"slides": 2},
        unit="patient",
        units=2,
        bytes=10**6,
        rounds=[Round(0.03, 0.02, 0.02)],
    )
    needs = Outcome(suite="memory", contestant="abmil", cell=dict(CELL), peak_bytes=[3 << 20])
    reads = Outcome(
        suite="data",
        contestant="packed",
        cell={"slides": 2},
        unit="patient",
        units=2,
        bytes=10**6,
        rounds=[Round(0.01, 0.02, 0.02)],
    )
    data, memory = tables(results(needs, reads, writes))
    assert memory.rows == (("abmil", "3"),)
    assert data.heads == (
        "slides",
        "contestant",
        "ms per patient",
        "quartiles",
        "times the first",
        "MB/s",
        "rounds kept",
    )
    assert data.rows[0] == ("2", "packed", "5", "5 to 5", "", "100", "1 of 1")
    assert data.rows[1] == ("2", "a file", "15.0", "15.0 to 15.0", "3.00", "33", "1 of 1")


def test_a_comparison_is_by_the_matrix_product_beside() -> None:
    slower_machine = [Round(0.08, 0.04, 0.04)] * 3
    table = compared(
        results(outcome("abmil", 0.08), outcome("snn", 0.1)),
        results(outcome("abmil", 0.08, rounds=slower_machine), commit="def"),
    )
    assert table.title == "abc -> def"
    assert table.rows == (("step", "3,000 patches, 8 patients", "abmil", "10.0", "10.0", "2.00"),)


def test_of_two_calls_the_later_one_counts() -> None:
    both = merged([results(outcome("abmil", 0.1), outcome("snn", 0.1)), results(outcome("abmil", 0.2), commit="def")])
    assert [(o.contestant, o.rounds[0].seconds) for o in both.outcomes] == [("abmil", 0.2), ("snn", 0.1)]
    assert both.commit == "def"


def test_a_later_skip_does_not_hide_a_measurement() -> None:
    skipped = outcome("abmil", 0.1, status="skipped: too long", rounds=[])
    (only,) = merged([results(outcome("abmil", 0.1)), results(skipped)]).outcomes
    assert only.status == "measured"


def test_screen_and_markdown_have_the_same_cells() -> None:
    from rich.console import Console

    console = Console(width=120, record=True, file=StringIO())
    measured = results(outcome("abmil", 0.08))
    console.print(screen(tables(measured), "about"))
    assert "10.0 (50 %)" in console.export_text()
    assert "| abmil | 10.0 (50 %) |" in markdown(measured)


def test_files_that_are_no_results_are_refused(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('{"format": 9}', encoding="utf-8")
    with pytest.raises(BadFile, match="is not a result"):
        read(tmp_path / "b.json")
    with pytest.raises(MissingFile):
        read(tmp_path / "c.json")
