"""Options that several commands have, and how their values are read."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from survbench.api import OUT, SCHEME
from survbench.console import stdout, warn
from survbench.errors import BadConfig

if TYPE_CHECKING:
    from survbench.report.sheet import Sheet

PATH: Any = click.Path(path_type=Path)
Function = Callable[..., Any]
Decorator = Callable[[Function], Function]


class Command(click.Command):
    """A command whose docstring ends in examples, which its help shows as they are, below the options."""

    def __init__(self, **attributes: Any) -> None:
        text, _, examples = inspect.cleandoc(attributes["help"]).partition("\nExamples:\n")
        super().__init__(**{**attributes, "help": text, "epilog": f"\b\nExamples:\n{examples}"})


class Group(Command, click.Group):
    """A group of commands, documented alike."""

    command_class = Command


class Renamed(click.Option):
    """An option that its old name still sets, with a warning, for one minor version; help lists the new name alone.

    Parameters
    ----------
    was : the old name.
    """

    def __init__(self, *arguments: Any, was: str, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.was = was

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        super().add_to_parser(parser, ctx)
        parser.add_option(self, [self.was], self.was)

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> Any:
        if self.was in opts:
            if self.name in opts:
                raise BadConfig(f"{self.opts[0]} and its old name {self.was} are both set", f"keep {self.opts[0]}")
            warn(f"{self.was} is now called {self.opts[0]}; the next minor version no longer knows the old name")
            opts = {**opts, str(self.name): opts[self.was]}
        return super().consume_value(ctx, opts)


def names(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(part.strip() for part in (value or "").split(",") if part.strip())


def numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Whole numbers separated by commas."""
    try:
        return tuple(int(part) for part in names(context, parameter, value))
    except ValueError:
        raise click.BadParameter(f"'{value}' is not a list of whole numbers such as 0,1,2") from None


def fractions(context: click.Context, parameter: click.Parameter, value: str) -> tuple[float, ...]:
    """Numbers separated by commas."""
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError:
        what = f"{parameter.opts[0]} {value}: expected numbers separated by commas"
        raise BadConfig(what, f"for example {parameter.opts[0]} 0,0.5") from None


def _settings(context: click.Context, parameter: click.Parameter, texts: Sequence[str]) -> dict[str, Any]:
    """`key=value` texts, values read as YAML (`true`, `0.5`, `[508, 256]`)."""
    import yaml

    from survbench.foreign.yaml_text import yaml_value

    settings = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise BadConfig(f"--set {text}: expected key=value", "for example --set alpha=0.5")
        try:
            settings[key.strip()] = _number(yaml_value(value))
        except (ValueError, yaml.YAMLError):
            raise BadConfig(f"--set {text[:80]}: the value cannot be read") from None
    return settings


def _number(value: Any) -> Any:
    """YAML reads `1e-4` as text; people mean the number."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _workers(context: click.Context, parameter: click.Parameter, value: str) -> int | None:
    """A number of processes; None for `auto`."""
    if value == "auto":
        return None
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter(f"'{value}' is neither `auto` nor a number from 1")
    return int(value)


def models(text: str = "Names, wildcards or `all`, separated by commas.", **more: Any) -> Decorator:
    """Names of models."""
    return click.option("--model", "-m", "models", callback=names, help=text, **more)


def cohorts(text: str = "Only these cohorts: names or wildcards, separated by commas.", default: str = "") -> Decorator:
    """Names of cohorts."""
    shown = bool(default)
    return click.option("--cohort", "-c", "cohorts", callback=names, default=default, show_default=shown, help=text)


def settings(text: str) -> Decorator:
    """Settings by name."""
    return click.option("--set", "settings", multiple=True, callback=_settings, metavar="KEY=VALUE", help=text)


files_too = models("Names, wildcards, `all`, or Python files of your own (my_model.py[:Class]).", required=True)
all_cohorts = cohorts("Names, wildcards or `all`, separated by commas.", default="all")
data = click.option(
    "--data",
    type=PATH,
    envvar="SURVBENCH_DATA",
    show_envvar=True,
    help="Data root. Without one the built-in demo (simulated) is used and built on first use.",
)
out = click.option("--out", type=PATH, default=OUT, show_default=True, help="Folder of the results.")
as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output, nothing else.")
_endpoint = "Outcome: os, dss, pfi, ... as the cohort has them. Default: os, with a note."
endpoint = click.option("--endpoint", help=_endpoint)
only_endpoint = click.option("--endpoint", help="Only this outcome.")


def renamed(was: str, *names: str, **attributes: Any) -> Decorator:
    """An option that has another name since this minor version."""
    return click.option(*names, cls=Renamed, was=was, **attributes)


_scheme = "How patients are divided into folds: event-stratified, site-preserving, or as imported, such as `official`."
scheme = renamed("--folds", "--scheme", default=SCHEME, show_default=True, help=_scheme)
only_scheme = renamed("--folds", "--scheme", help="Only this fold scheme.")
_only_folds = "Only these outer folds: 0,1."
only_folds = renamed("--fold", "--only-folds", callback=numbers, default="", help=_only_folds)
_objective = "cox (Efron ties), cox-breslow or nll (discrete time)."
objective = click.option("--objective", default="cox", show_default=True, help=_objective)


def _seeds(text: str) -> Decorator:
    return click.option("--seeds", callback=numbers, default="0", show_default=True, help=text)


seeds = _seeds("One run per seed; claims need three.")
trial_seeds = _seeds("Each trial trains every fold once per seed; the first one also draws the settings.")
_preset = "Named settings: of the registry (`rehearsal`), `tuned`, or a file that `tune` wrote."
preset = click.option("--preset", help=_preset)
set_ = settings("A setting of the model or of the trainer.")
device = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps.")
_mlflow = "Mirror results in MLflow (MLFLOW_TRACKING_URI is honored)."
mlflow = click.option("--mlflow/--no-mlflow", "mlflow", default=True, show_default=True, help=_mlflow)
workers = click.option(
    "--workers",
    callback=_workers,
    default="auto",
    show_default=True,
    envvar="SURVBENCH_WORKERS",
    show_envvar=True,
    help="Processes that run jobs side by side. auto: one per core and 3 GB of memory; on CUDA, as many "
    "of them as its memory holds, at most 8; on MPS one.",
)
_threads = "CPU threads of each job; last digits depend on it, not on --workers. Default: 1."
threads = click.option("--threads", type=click.IntRange(1), help=_threads)


def registry(function: Function) -> Function:
    """Hand `survbench --registry` to a command as functions of api.py name it."""

    @click.pass_obj
    def with_registry(files: tuple[Path, ...], /, **chosen: Any) -> None:
        function(**chosen, registry=files)

    return update_wrapper(with_registry, function)


def of_jobs(function: Function, seeds: Decorator = seeds) -> Function:
    """Add the options that say which jobs are meant, named as functions of api.py name them."""
    for option in (device, set_, preset, only_folds, seeds, objective, endpoint, scheme, out, data, all_cohorts):
        function = option(function)
    return registry(function)


def print_result(as_json: bool, document: Any, *sheets: Sheet) -> None:
    """Print the result of a command, as one JSON document or for people.

    Parameters
    ----------
    as_json : which of both.
    document : for JSON; a mapping is printed with its `schema_version`, a list as it is.
    sheets : for people.
    """
    if as_json:
        from survbench.report.columns import SCHEMA_VERSION

        versioned = {"schema_version": SCHEMA_VERSION, **document} if isinstance(document, Mapping) else document
        click.echo(json.dumps(versioned, indent=1))
        return
    for sheet in sheets:
        stdout().print(sheet.to_rich(), *[""] * (sheet is not sheets[-1]))
