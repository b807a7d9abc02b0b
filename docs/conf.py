"""Sphinx: what `make docs` builds. No network is needed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import survbench

project = "survbench"
author = "the survbench authors"
version = release = survbench.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "samples"]
html_theme = "furo"
html_title = f"survbench {release}"
html_copy_source = False

myst_heading_anchors = 3
default_role = "code"  # single backquotes in docstrings
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_use_ivar = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types of other libraries and inner classes have no page here

_SECTION = re.compile(r"^(Parameters|Attributes|Raises|Returns)$")
_ENTRY = re.compile(r"^(\S.*?) : (.+)$")


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _with_indented_meanings, priority=400)  # before napoleon reads it


def _with_indented_meanings(app: Any, what: str, name: str, of: Any, options: Any, lines: list[str]) -> None:
    """The house's `name : meaning` as numpydoc's name with the meaning below it, where Sphinx would expect a type."""
    lines[:] = list(_expanded(lines))


def _expanded(lines: list[str]) -> Iterator[str]:
    section = ""
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if set(below) == {"-"}:
            section = line if _SECTION.match(line) else ""
        entry = _ENTRY.match(line) if section else None
        if entry:
            yield entry[1]
            yield f"    {entry[2]}"
        elif section == "Returns" and line and set(line) != {"-"} and line != section:
            yield f"    {line}"
        else:
            yield line
