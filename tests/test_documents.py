"""Documents that stay true: links lead somewhere, commands parse, pages with files of their own run as printed."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import click
import pytest
import yaml

import survbench
from support.commands import clean_environment, executable
from survbench.cli import cli

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("*/README.md"), *REPOSITORY.glob("docs/*.md")])
RUN = ("own-data", "own-model", "padded-model", "tuning")  # pages whose commands run as they are printed
RENAMED = {"--fold", "--folds", "--layout"}
RULES = re.compile(r"\brules? (\d+(?:(?:, | and )\d+)*)")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())


def blocks(page: Path, language: str) -> list[str]:
    """Fenced code of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def printed_commands(text: str) -> Iterator[list[str]]:
    """Arguments of every `survbench ...` line; a comment begins at `#` or after three blanks, a pipe ends a command."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(re.split(r" {3,}", line.strip())[0], comments=True)
        if words[:1] == ["survbench"]:
            end = next((i for i, word in enumerate(words) if word in ("|", "||", "&", "&&", ">", ";")), None)
            yield words[1:end]


def check_parses(words: list[str], *, mentioned: bool = False) -> None:
    """Read a command as click does, without running it; one that is `mentioned` in a sentence may lack parts."""
    command: click.Command = cli
    while isinstance(command, click.Group):
        with click.Context(command) as context:
            _, words, _ = command.make_parser(context).parse_args(words)
        if not words:
            return
        command = command.commands[words.pop(0)]
    with suppress(click.MissingParameter) if mentioned else nullcontext():
        command.make_context("survbench", words, obj=())


@pages
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    broken = [link for link in links if ":" not in link and not (page.parent / (link.split("#")[0] or page)).exists()]
    assert not broken


@pages
def test_files_that_are_named_exist(page: Path) -> None:
    """Paths from the root of the repository, in backquotes."""
    roots = "survbench|baselines|amkd|docs|examples|leaderboards|tests|benchmarks"
    named = re.findall(rf"`((?:{roots})/[\w./-]*)`", page.read_text(encoding="utf-8"))
    built = "docs/_build"
    assert [path for path in named if not path.startswith(built) and not (REPOSITORY / path).exists()] == []


@pages
def test_printed_commands_parse(page: Path) -> None:
    mentions = re.findall(r"(?<!`)`(survbench [^`\n]+)`", page.read_text(encoding="utf-8"))
    printed = [words for block in blocks(page, "bash") for words in printed_commands(block)]
    mentioned = [words for code in mentions for words in printed_commands(code.replace("...", ""))]
    for words in printed:
        check_parses(list(words))
    for words in mentioned:
        check_parses(list(words), mentioned=True)
    assert not RENAMED & {word for words in (*printed, *mentioned) for word in words}


def test_examples_of_help_parse() -> None:
    def epilogs(command: click.Command) -> Iterator[str]:
        yield command.epilog or ""
        for inner in command.commands.values() if isinstance(command, click.Group) else ():
            yield from epilogs(inner)

    found = [words for text in epilogs(cli) for words in printed_commands(text)]
    assert len(found) > 30
    for words in found:
        check_parses(words)


def test_a_wrong_command_is_noticed() -> None:
    for line in ("run --modell amkd", "run --cohort stad", "leaderbord", "run --model amkd --seeds one"):
        with pytest.raises((click.UsageError, KeyError)):
            check_parses(line.split())


def test_the_readme_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").split()) <= 900


def test_every_rule_that_is_cited_is_in_the_protocol() -> None:
    rules = re.findall(r"^(\d+)\. \*\*", (REPOSITORY / "docs/protocol.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert rules == [str(number) for number in range(1, 21)]
    sources = [*(file for of in ("survbench", "baselines", "amkd") for file in (REPOSITORY / of).rglob("*.py")), *PAGES]
    cited = {
        number
        for text in (file.read_text(encoding="utf-8") for file in [*sources, REPOSITORY / "registry.yaml"])
        for match in RULES.findall(text)
        for number in re.findall(r"\d+", match)
    }
    assert len(cited) > 10
    assert cited <= set(rules)


def test_environment_variables_are_documented() -> None:
    code = "".join(file.read_text(encoding="utf-8") for file in (REPOSITORY / "survbench").rglob("*.py"))
    documented = (REPOSITORY / "docs/environment.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\bSURVBENCH_[A-Z]+\b", code)) <= set(re.findall(r"\bSURVBENCH_[A-Z]+\b", documented))


def test_the_model_of_the_page_is_that_of_the_examples() -> None:
    (page,) = (block for block in blocks(REPOSITORY / "docs/own-model.md", "python") if "class MeanPool" in block)
    example = (REPOSITORY / "examples/own_model.py").read_text(encoding="utf-8")
    assert page[page.index("class MeanPool") :] in example


def test_versions_agree() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (survbench.__version__, project["license"])
    assert f"\n## {survbench.__version__}" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    pinned = {line.partition("==")[0].lower() for line in (REPOSITORY / "constraints.txt").read_text().splitlines()}
    wanted = [*project["dependencies"], *(name for of in project["optional-dependencies"].values() for name in of)]
    assert not {re.split("[><=]", name)[0].lower() for name in wanted} - pinned


def test_hooks_fetch_nothing() -> None:
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [of["repo"] for of in hooks["repos"]] == ["local"]
    assert all(hook["language"] == "system" for of in hooks["repos"] for hook in of["hooks"])


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_pages_run_as_printed(name: str, tmp_path: Path) -> None:
    """The files that a page shows are written, then its commands run one after another."""
    page = REPOSITORY / "docs" / f"{name}.md"
    (tmp_path / "docs").symlink_to(REPOSITORY / "docs")
    for block in [*blocks(page, "python"), *blocks(page, "yaml")]:
        if named := re.match(r"# (\w+\.\w+)\n", block):
            (tmp_path / named[1]).write_text(block, encoding="utf-8")
    places = os.pathsep.join([str(Path(executable()).parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    script = "\n".join(blocks(page, "bash"))
    done = subprocess.run(
        ["bash", "-ec", script],
        cwd=tmp_path,
        env=clean_environment() | {"PATH": places},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert "0 failed" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="the extra `docs` is not installed")
def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going", "--nitpicky"]
    done = subprocess.run(
        [*command, str(REPOSITORY / "docs"), str(tmp_path)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "Patients of one cohort" in (tmp_path / "api.html").read_text(encoding="utf-8")
