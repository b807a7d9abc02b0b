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
python_maximum_signature_line_length = 90  # longer ones have a line for each parameter
napoleon_use_ivar = True
napoleon_custom_sections = ["Returns"]  # text, not a list of types
nitpick_ignore_regex = [("py:.*", ".*")]  # types of other libraries and inner classes have no page here

_ENTRY = re.compile(r"^(\S.*?) : (.+)$")


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _rewrite, priority=400)  # before napoleon reads the sections


def _rewrite(app: Any, what: str, name: str, of: Any, options: Any, lines: list[str]) -> None:
    """The house's `name : meaning` with the meaning on a line below: Sphinx takes what follows a colon for a type."""
    if what == "property":
        lines[0] = lines[0].replace(": ", " - ")
    lines[:] = list(_rewritten(lines))


def _rewritten(lines: list[str]) -> Iterator[str]:
    section = ""
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if below and not below.strip("-"):
            section = line
        entry = _ENTRY.match(line) if section in ("Parameters", "Attributes", "Raises") else None
        yield from (entry[1], f"    {entry[2]}") if entry else (line,)
