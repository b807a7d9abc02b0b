"""Runs commands of the survbench that can be imported here, whatever the names of its options in that version."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from benchmarks.same_results import collected

__all__ = ["OPTIONS", "Options", "Recorder", "Suite", "option_name"]

# Option -> its names in different versions; the first one in the command's help counts. Other options have one name.
# `--format=json` stands for an option with its value.
OPTIONS: Mapping[str, Sequence[str]] = {
    "scheme": ("--scheme", "--folds"),
    "fold": ("--fold", "--only-folds", "--outer-folds", "--folds"),
    "set": ("--set", "--setting"),
    "seeds": ("--seeds", "--seed"),
    "json": ("--json", "--format=json"),
    "train": ("--train", "--train-cohort"),
    "test": ("--test", "--test-cohort"),
}
_OPTION = re.compile(r"^ {2,}(?:-\w, )?(--[a-z][\w-]*)(?: ?/ ?(--[a-z][\w-]*))?", re.MULTILINE)
Options = str | int | bool | Sequence[str]


def option_name(meant: str, help_text: str) -> str:
    """What an option is called by the command that says this of itself.

    Raises
    ------
    click.ClickException : it has none of the names.
    """
    known = {name for names in _OPTION.findall(help_text) for name in names if name}
    names = OPTIONS.get(meant, (f"--{meant}",))
    for name in names:
        if name.partition("=")[0] in known:
            return name
    raise click.ClickException(f"no option {' or '.join(names)} any more; add its present name to OPTIONS")


class Suite:
    """One version of survbench and the folder that its answers go to."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder, self.workers, self.log = folder, workers, folder / "commands.log"
        self._help: dict[str, str] = {}

    def record(self, name: str, part: Callable[[Recorder], None]) -> int:
        """Record one part; returns how many of its commands failed."""
        started = time.monotonic()
        at = Recorder(self, name)
        part(at)
        at.finish()
        click.echo(f"{name}: recorded in {time.monotonic() - started:.0f} s", err=True)
        return sum(code != 0 for code in at.codes.values())

    @cached_property
    def home(self) -> Path:
        """Folder that survbench is imported from; commands are run elsewhere and must not find another one."""
        spec = importlib.util.find_spec("survbench")
        if spec is None or spec.origin is None:
            raise click.ClickException("there is no survbench to import")
        return Path(spec.origin).resolve().parents[1]

    def run(self, words: str, arguments: Sequence[str]) -> tuple[int, str]:
        """Exit code and standard output; standard error goes to the log."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("SURVBENCH_", "MLFLOW_"))}
        paths = [str(self.home), *filter(None, [clean.get("PYTHONPATH")])]
        clean |= {"PYTHONPATH": os.pathsep.join(paths), "SURVBENCH_CACHE": str(self.folder / "cache")}
        clean |= {"OMP_NUM_THREADS": "1", "COLUMNS": "140"}  # last digits depend on the number of threads
        command = [sys.executable, "-m", "survbench", *words.split(), *arguments]
        done = subprocess.run(command, cwd=self.folder, env=clean, capture_output=True, text=True, check=False)
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ survbench {' '.join(command[3:])}\n{done.stderr}exit code {done.returncode}\n\n")
        return done.returncode, done.stdout

    def option(self, words: str, meant: str) -> str:
        """What the command calls an option."""
        if words not in self._help:
            code, self._help[words] = self.run(words, ["--help"])
            if code:
                raise click.ClickException(f"survbench {words} --help fails; {self.log} has its message")
        return option_name(meant, self._help[words])


class Recorder:
    """One part: its commands, and what is kept of their answers.

    Attributes
    ----------
    out : results folder of survbench.
    codes : command, in names of options that all versions share -> exit code.
    """

    def __init__(self, suite: Suite, name: str) -> None:
        self.suite, self.name, self.out = suite, name, suite.folder / "out" / name
        self.workers, self.codes = suite.workers, dict[str, int]()
        self._kept: dict[str, str] = {}

    def run(self, words: str, *positional: str, **options: Options) -> str | None:
        """Standard output of a command; None where it failed. `True` is a flag, several texts repeat their option."""
        arguments = list(positional)
        for meant, value in options.items():
            option = self.suite.option(words, meant.replace("_", "-"))
            values = [value] if isinstance(value, str | int) else value
            arguments += [option] if value is True else [part for v in values for part in (option, str(v))]
        hidden = ("out", "data", "workers", "device")
        shown = [*positional, *(f"{k}={v}" for k, v in options.items() if k not in hidden)]
        meant = " ".join([words, *shown])
        click.echo(f"{self.name}: {meant}", err=True)
        started = time.monotonic()
        code, stdout = self.suite.run(words, arguments)
        self.codes[meant] = code
        click.echo(f"{self.name}: exit code {code} after {time.monotonic() - started:.0f} s", err=True)
        return stdout if code == 0 else None

    def train(self, words: str, **options: Options) -> None:
        """A command that runs jobs, on a CPU."""
        self.run(words, out=str(self.out), device="cpu", workers=self.workers, **options)

    def document(self, name: str, words: str, *positional: str, **options: Options) -> None:
        """Keep what a command answers in JSON, with the tables that it names."""
        answer = self.run(words, *positional, json=True, **options)
        if answer is not None:
            self.keep(f"{name}.json", json.dumps(collected.with_tables(json.loads(answer)), indent=1))

    def keep(self, name: str, content: str) -> None:
        """A file to compare."""
        self._kept[name] = content

    def keep_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """The same as CSV."""
        self.keep(f"{name}.csv", collected.as_csv(rows))

    def keep_jobs(self, mirrored: bool = True) -> None:
        """Predictions and facts of all jobs, and their metrics in MLflow."""
        jobs = collected.read_jobs(self.out / "jobs")
        self.keep_table("predictions", [row for job in jobs for row in job.predictions()])
        self.keep_table("facts", [row for job in jobs for row in job.facts()])
        self.keep("settings.json", json.dumps({job.digest: job.settings for job in jobs}, indent=1))
        if mirrored:
            self.keep_table("mlflow", collected.read_mlflow(self.out, jobs))

    def finish(self) -> None:
        """Write what was kept; a part's folder is whole once it is there."""
        self.keep("commands.json", json.dumps(self.codes, indent=1))
        temporary = self.suite.folder / f".{self.name}.tmp"
        temporary.mkdir(exist_ok=True)
        for name, content in self._kept.items():
            (temporary / name).write_text(content, encoding="utf-8")
        temporary.rename(self.suite.folder / self.name)
