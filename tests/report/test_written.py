"""A written leaderboard is checked against the predictions, whatever was changed in it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from support.job_folders import write_row
from survbench import load_results
from survbench.cli import cli
from survbench.errors import BadConfig, BadFile, MissingFile


def command(*arguments: object) -> Result:
    done = CliRunner().invoke(cli, ["leaderboard", *map(str, arguments)], env={"COLUMNS": "200"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    beside = {"beside": ["snn"], "title": "AMKD", "modality": "missing"}
    for cohort in ("stad", "crad"):
        write_row(folder, "amkd", cohort=cohort, card=beside)
        write_row(folder, "snn", cohort=cohort, risks=(1.0, 3.0, 2.0), seeds=(0, 1))
    return folder


@pytest.fixture
def written(out: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "board"
    command("--out", out, "--write", folder)
    assert sorted(file.name for file in folder.iterdir()) == ["leaderboard.csv", "leaderboard.json", "leaderboard.md"]
    return folder


def test_what_was_written_is_what_the_predictions_give(out: Path, written: Path) -> None:
    for path in (written, written / "leaderboard.json"):
        done = command("--out", out, "--check", path)
        assert done.exit_code == 0
        assert "is what the predictions in" in done.stdout
    command("--out", out, "--write", written)  # again, over what is there
    assert len(list(written.iterdir())) == 3


def test_a_check_asks_what_was_asked(out: Path, tmp_path: Path) -> None:
    folder = tmp_path / "part"
    command("--out", out, "--write", folder, "--cohort", "stad", "--model", "snn", "--metric", "uno_c")
    assert command("--out", out, "--check", folder).exit_code == 0
    whole = command("--out", out, "--check", folder, "--cohort", "all")
    assert whole.exit_code == 1
    assert "absent" in whole.stdout


def test_json_printed_to_a_file_can_be_checked(out: Path, tmp_path: Path) -> None:
    file = tmp_path / "printed.json"
    file.write_text(command("--out", out, "--format", "json").stdout)
    assert command("--out", out, "--check", file).exit_code == 0


TAMPERED = {
    ("rows", 0, "metrics", "cindex", "mean"): 0.999,
    ("rows", 0, "metrics", "cindex", "sd"): 1e-8,
    ("rows", 1, "metrics", "cindex", "per_fold", 1): 0.25,
    ("rows", 1, "metrics", "ibs", "mean"): 0.1,
    ("rows", 1, "metrics", "auc", "sd_seeds"): 0.3,
    ("rows", 1, "metrics", "extra"): {"mean": 1.0},
    ("rows", 0, "logrank_p"): 0.04,
    ("rows", 0, "seeds"): [0, 1, 2],
    ("differences", 0, "p"): 0.001,
    ("differences", 2, "low"): 0.1,
}


def test_planted_tampering_is_found(out: Path, written: Path) -> None:
    file = written / "leaderboard.json"
    document = json.loads(file.read_text())
    for path, value in TAMPERED.items():
        place = document
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
    file.write_text(json.dumps(document))
    done = command("--out", out, "--check", written)
    assert done.exit_code == 1
    found = [re.split(r"\s{2,}", line.strip())[:2] for line in done.stdout.splitlines() if " · " in line]
    cohorts = ("stad", "crad", "mean over cohorts")  # the order of the paper
    expected = []
    for listed, place, *path in TAMPERED:
        where = f"snn · {cohorts[place]} · os · measured" if listed == "rows" else f"amkd · snn · {cohorts[place]}"
        expected.append([where, ".".join(map(str, path)).replace(".1", "[1]")])
    assert sorted(found) == sorted(expected)  # each of them, and nothing else


def test_rows_on_either_side_alone_are_differences(out: Path, written: Path) -> None:
    file = written / "leaderboard.json"
    document = json.loads(file.read_text())
    removed = document["rows"].pop(0)
    file.write_text(json.dumps(document))
    assert "absent" in command("--out", out, "--check", written / "leaderboard.json").stdout
    document["rows"] += [removed, removed | {"model": "invented"}]
    file.write_text(json.dumps(document))
    done = command("--out", out, "--check", written)
    assert done.exit_code == 1
    assert "invented" in done.stdout
    document["rows"] = [removed, *document["rows"][:-1]]  # a row that stands there twice
    file.write_text(json.dumps(document))
    assert command("--out", out, "--check", written).exit_code == 1


@pytest.mark.parametrize("name", ["leaderboard.md", "leaderboard.csv"])
def test_the_readable_copies_are_checked_too(out: Path, written: Path, name: str) -> None:
    file = written / name
    text = file.read_text()
    assert "0.5" in text
    file.write_text(text.replace("0.5", "0.9", 1))
    done = command("--out", out, "--check", written)
    assert done.exit_code == 1
    assert name in done.stdout
    for damaged in (b"", b"\xff\xfe", b'a,b\n1,2,3\n"', b"\0"):
        file.write_bytes(damaged)
        done = command("--out", out, "--check", written)
        assert (done.exit_code, name in done.stdout) == (1, True)
    file.unlink()
    assert command("--out", out, "--check", written).exit_code == 1


def test_a_board_of_an_older_version_is_checked_but_for_its_markdown(
    out: Path, written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written / "leaderboard.json"
    document = json.loads(file.read_text())
    document["asked"] = document.pop("selection")
    del document["schema_version"]
    file.write_text(json.dumps(document))
    (written / "leaderboard.md").write_text("| another form |\n")
    assert load_results(out).check(written).mismatches == ()
    assert "older version" in capsys.readouterr().err
    document["rows"][0]["metrics"]["cindex"]["mean"] = 0.9
    file.write_text(json.dumps(document))
    assert load_results(out).check(written).mismatches


def test_newer_predictions_no_longer_give_what_was_written(out: Path, written: Path) -> None:
    write_row(out, "amkd", cohort="stad", risks=(1.0, 2.0, 3.0), model_version="amkd@2", modified=4e9)
    done = command("--out", out, "--check", written)
    assert done.exit_code == 1


def test_what_is_no_leaderboard_is_refused(out: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    with pytest.raises(MissingFile):
        command("--out", out, "--check", file)
    for text in ("no json", "[]", '{"rows": 3}', '{"rows": [3]}', '{"rows": [], "asked": {"metric": 3}}'):
        file.write_text(text)
        with pytest.raises(BadFile):
            command("--out", out, "--check", file)
    with pytest.raises(BadConfig, match="is a file"):
        command("--out", out, "--write", file)
    with pytest.raises(BadConfig, match="exclude each other"):
        command("--out", out, "--write", tmp_path, "--check", tmp_path)


def test_no_finished_row_is_refused_in_json_too(out: Path) -> None:
    done = CliRunner().invoke(cli, ["km", "--out", str(out), "--model", "nope", "--json"])
    assert isinstance(done.exception, BadConfig)
    assert done.stdout == ""
