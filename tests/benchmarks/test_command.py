"""The command: help that teaches, mistakes in one line with exit code 2, files that it wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import cli
from benchmarks.results import read


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["benchmarks", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    code = left.value.code
    assert isinstance(code, int)
    return code


def test_help_has_every_suite_and_examples(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--help") == 0
    printed = capsys.readouterr().out
    assert all(suite in printed for suite in cli.SUITES)
    assert "Examples:" in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("stpe",), "Unknown suite 'stpe'. Did you mean 'step'?"),
        (("step", "--models", "abmill"), "Did you mean 'abmil'?"),
        (("peers", "--peer", "mine"), "NAME=path/to/adapter.py"),
        (("peers", "--peer", "mine=gone.py"), "gone.py does not exist"),
        (("--compare", "a.json"), "give two"),
        (("--show",), "--show got no file"),
        (("--show", "gone.json"), "gone.json does not exist"),
        (("step", "--device", "cuda:99"), "cannot be used"),
        (("step", "--patches", "many"), "not a list of whole numbers"),
        (("step", "--patients", "0"), "at least 1"),
    ],
)
def test_mistakes_are_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert call(monkeypatch, *arguments) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in last
    assert last.lower().startswith("error: ")


def test_a_tiny_step_is_measured_written_and_compared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "a.json"
    tiny = ("--models", "snn,cox_clinical", "--patches", "2", "--patients", "1,3", "--rounds", "1")
    assert call(monkeypatch, "step", "forward", *tiny, "--out", str(file)) == 0
    outcomes = {(o.suite, o.contestant): o for o in read(file).outcomes}
    assert outcomes["step", "snn"].rounds
    assert outcomes["step", "snn"].flops
    assert outcomes["forward", "snn"].status == "measured"
    assert "estimated at once" in outcomes["step", "cox_clinical"].status
    assert "snn" in file.with_suffix(".md").read_text(encoding="utf-8")
    capsys.readouterr()
    assert call(monkeypatch, "--compare", str(file), str(file)) == 0
    assert "1.00" in capsys.readouterr().out
