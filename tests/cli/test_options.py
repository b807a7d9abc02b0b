"""Options that were renamed, and the JSON documents of every command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from support.toy import TINY
from survbench import api
from survbench.cli import cli
from survbench.cli.options import Renamed
from survbench.data.root import DataRoot
from survbench.errors import BadConfig


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def call(*arguments: object) -> None:
    cli.main([str(one) for one in arguments], standalone_mode=False)


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a command passes on; nothing is run."""
    into: dict[str, Any] = {}

    class Stop(Exception):
        pass

    def noted(*positional: Any, **options: Any) -> None:
        into.update(options)
        raise Stop

    for name in ("run", "fold_summaries", "import_data"):
        monkeypatch.setattr(api, name, noted)
    into["Stop"] = Stop
    return into


@pytest.mark.parametrize(
    ("command", "old", "new"),
    [
        ("run --model snn", "--folds official", "--scheme official"),
        ("run --model snn", "--folds=official --fold=0,1", "--scheme=official --only-folds=0,1"),
        ("run --model snn", "--fold 2", "--only-folds 2"),
        ("folds", "--folds site-preserving", "--scheme site-preserving"),
        ("data import SOURCE --out DATA", "--layout tables", "--format tables"),
    ],
)
def test_an_old_name_means_the_same_and_warns_once(
    command: str, old: str, new: str, passed: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    stop, options = passed.pop("Stop"), []
    for form in (new, old):
        with pytest.raises(stop):
            call(*command.split(), *form.split())
        options.append(dict(passed))
        warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning:")]
        names = [word.partition("=")[0] for word in form.split() if word.startswith("--")]
        assert len(warnings) == (len(names) if form == old else 0)
        assert all(name in line for name, line in zip(names, warnings, strict=False))
    assert options[0] == options[1]


def test_commands_show_the_warnings_of_model_files_with_old_calls(tmp_path: Path) -> None:
    file = tmp_path / "old.py"
    card = 'ModelCard("old", "Old", "wsi", ("slides",), ("slides",))'
    head = "from survbench.model import ModelCard, SurvivalModel"
    file.write_text(f"{head}\nclass Old(SurvivalModel):\n    card = {card}\n")
    command = [sys.executable, "-m", "survbench", "complexity", "--model", f"{file},nobody"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "name the fields: ModelCard(name=..., title=..., modality=..." in done.stderr


def test_both_names_at_once_are_refused() -> None:
    with pytest.raises(BadConfig, match="--scheme and its old name --folds"):
        call("run", "--model", "snn", "--scheme", "official", "--folds", "official")


def test_help_lists_new_names_alone() -> None:
    renamed = 0
    for path, command in commands(cli):
        text = command.get_help(click.Context(command, info_name=" ".join(path)))
        words = set(text.replace(",", " ").split())
        for option in command.params:
            if isinstance(option, Renamed):
                renamed += 1
                assert option.opts[0] in words, path
        assert words.isdisjoint({"--fold", "--folds", "--layout"}), path
    assert renamed >= 15


@pytest.mark.slow
def test_every_json_document_is_versioned_or_a_list(
    small_root: DataRoot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lists are part of the interface; documents that are objects carry `schema_version`."""
    settings = [f"--set={key}={value}" for key, value in TINY.items()]
    root, out = ("--data", small_root.path), ("--out", tmp_path / "out")
    jobs = ("--cohort", "stad", *root, *out, *settings)
    documents: Mapping[tuple[str, ...], tuple[tuple[Any, ...], type]] = {
        ("models",): ((), list),
        ("cohorts",): (root, list),
        ("folds",): (("--cohort", "stad", *root), dict),
        ("data", "check"): (root, dict),
        ("complexity",): (("--model", "snn", "--patches", 64), list),
        ("run",): (("--model", "snn", "--dry-run", *jobs), dict),
        ("compare",): (("all", *out), dict),
        ("km",): (out, list),
        ("explain", "pathways"): (("--model", "survpath", *jobs), list),
        ("explain", "attribution"): (("--model", "survpath", "--steps", 4, *jobs), list),
        ("explain", "heatmap"): (("--model", "abmil", *jobs), list),
        ("explain", "pathway-heatmap"): (("--model", "survpath", "--pathway", "DEMO_STROMA_1", *jobs), list),
    }
    with_json = {path for path, command in commands(cli) if any("--json" in option.opts for option in command.params)}
    assert with_json == set(documents)
    call("run", "--model", "abmil,survpath", "--no-mlflow", *jobs)
    capsys.readouterr()
    for path, (arguments, kind) in documents.items():
        call(*path, *arguments, "--json")
        document = json.loads(capsys.readouterr().out)
        assert type(document) is kind, path
        if kind is dict:
            assert document["schema_version"] == 1, path
            assert len(document) > 1, path
        else:
            assert document, path
