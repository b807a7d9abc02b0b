"""What a stranger's file may not do: multiply, nest, wait, or speak to the terminal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from torch import nn

from survbench.console import visible
from survbench.errors import BadFile, BadModel
from survbench.files import file_stem
from survbench.foreign.official_weights import load_whole, unwrapped
from survbench.registry import load_registry

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("[" * 100_000, "it is nested more than 50 deep"),
        ("- " * 60 + "x", "it is nested more than 50 deep"),
        (BOMB, "it holds more than 100,000 values with its aliases written out"),
        ("a: &a [*a]", "the alias 'a' stands inside what it names, or names nothing"),
        ("#" * 4_000_001, "it has 4,000,001 bytes, expected at most 4,000,000"),
    ],
)
def test_yaml(content: str, why: str, tmp_path: Path) -> None:
    file = tmp_path / "registry.yaml"
    file.write_text(content)
    with pytest.raises(BadFile) as refused:
        load_registry(file)
    assert str(refused.value) == f"registry file {file} cannot be read: {why}"


def test_a_pipe_or_a_folder_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for file, why in ((tmp_path / "pipe", "it is a pipe or a device, no file"), (tmp_path, "it is a folder")):
        with pytest.raises(BadFile, match=why):
            load_registry(file)


def test_a_terminal_shows_what_it_would_obey() -> None:
    assert visible("a\x1b[31mred\x07 \u202e[bold]") == "a\\x1b[31mred\\x07 \\u202e[bold]"


@pytest.mark.parametrize("name", ["H1/00", "../x", "..", ".", "a\\b", "x" * 300, "", "\x1b[2J", "ä/b"])
def test_names_of_files(name: str) -> None:
    stem = file_stem(name)
    assert stem == Path(stem).name
    assert 0 < len(stem) < 100
    assert not stem.startswith((".", "-"))
    assert file_stem(name) != file_stem(name.replace("/", "_") + "_")
    assert file_stem("TCGA-AB-1234") == "TCGA-AB-1234"


def test_checkpoints_of_data_parallel() -> None:
    model = nn.Linear(2, 1)
    state = {f"module.{key}": value + 1 for key, value in model.state_dict().items()}
    load_whole(model, unwrapped({"epoch": 3, "state_dict": state}))
    assert (model.weight == state["module.weight"]).all()
    with pytest.raises(BadModel) as refused:
        load_whole(model, unwrapped({"module.weight": model.weight, "module.scale": model.bias}))
    assert str(refused.value) == (
        "official weights: 1 key (scale) without a counterpart in Linear, 1 key (bias) of Linear without one in the "
        "file. use the checkpoint of the same model and settings"
    )
