"""Help is instant and teaches."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from support.commands import Command
from survbench.cli import cli


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    paths = [path]
    for name, command in group.commands.items():
        paths += commands(command, (*path, name)) if isinstance(command, click.Group) else [(*path, name)]
    return paths


@pytest.mark.parametrize("path", commands(cli), ids=" ".join)
def test_every_help_shows_an_example(path: tuple[str, ...], survbench: Command) -> None:
    text = survbench(*path, "--help").stdout
    assert "Examples:" in text
    assert f"survbench {' '.join(path)}".strip() in text.split("Examples:")[1]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from survbench.cli import cli; cli.main(['--help'], standalone_mode=False);"
        "heavy = {'torch', 'pandas', 'numpy', 'mlflow', 'sksurv', 'torch_geometric', 'rich'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_typo_is_answered_before_torch_is_loaded() -> None:
    code = (
        "import sys; from survbench.cli import main\n"
        "try: main(['run', '--model', 'amdk'])\n"
        "except SystemExit as end: assert end.code == 2\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "Did you mean 'amkd'" in done.stderr
