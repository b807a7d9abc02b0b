"""Matplotlib figures as inline SVG that follows the page: its font, its light and dark colors, no identifier twice.

Knows nothing of survival; the figures are made in `charts`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

__all__ = ["COLORS", "inline_svg", "page_style", "tooltip"]

_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_TIP = "tip:"
# Colors of figures, and the variables of page.css that stand for them; black is the page's ink.
COLORS: Mapping[str, str] = {
    "#000000": "var(--ink)",
    "#1f2933": "var(--ink)",
    "#808080": "var(--muted)",
    "#bfbfbf": "var(--line)",
    "#ffffff": "var(--panel)",
    "#1f4e79": "var(--blue)",
    "#b3261e": "var(--red)",
    "#b35900": "var(--orange)",
    "#2a7a4b": "var(--green)",
    "#7a4fa3": "var(--violet)",
}
_DROPPED = frozenset({"metadata", "style"})  # page.css has once what each figure's own style sheet would
_UNTURNED = re.compile(r"rotate\(-?0 ")


@contextmanager
def page_style() -> Iterator[None]:
    """Text stays text and markup in it stays text too; nothing depends on fonts, the time or who set a style before."""
    import matplotlib as mpl

    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "survbench",
        "text.parse_math": False,
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#808080",
        "axes.titlesize": "medium",
        "legend.frameon": False,
    }
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(settings)
        yield


def tooltip(artist: Artist, text: str) -> None:
    """Show a text under the pointer where the artist is."""
    artist.set_gid(_TIP + text)


def inline_svg(figure: Figure, name: str, title: str, description: str) -> Markup:
    """The figure as an `svg` element with a title and a description.

    Parameters
    ----------
    name : unique on the page, letters, digits and hyphens.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    wanted = set(re.findall(r'(?:url\(#|xlink:href="#)([^)"]+)', buffer.getvalue().decode()))
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.iter():
        _restyle(element, wanted, name)
        for child in [c for c in element if c.tag.removeprefix(_SVG) in _DROPPED or _invisible(c)]:
            element.remove(child)
    for key in ("width", "height"):
        root.attrib.pop(key, None)
    width = float(root.attrib["viewBox"].split()[2])
    root.attrib |= {
        "role": "img",
        "aria-labelledby": f"{name}-title {name}-description",
        "style": f"width: {width / 72:.2f}in",
    }
    for tag, part, text in (("desc", "description", description), ("title", "title", title)):
        label = ElementTree.Element(tag, {"id": f"{name}-{part}"})
        label.text = text
        root.insert(0, label)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _invisible(element: ElementTree.Element) -> bool:
    return element.tag == f"{_SVG}path" and element.get("style") == "fill: none"


def _restyle(element: ElementTree.Element, wanted: set[str], name: str) -> None:
    """Identifiers of this figure only, short numbers, the page's colors and font."""
    element.tag = element.tag.removeprefix(_SVG)
    element.text = (element.text or "").strip() or None
    element.tail = None
    old = dict(element.attrib)
    element.attrib.clear()
    for key, value in old.items():
        if key == "id":
            if value.startswith(_TIP):
                tip = ElementTree.Element("title")
                tip.text = value.removeprefix(_TIP)
                element.insert(0, tip)
            elif value in wanted:
                element.set("id", f"{name}-{value}")
        elif key == f"{_XLINK}href":
            element.set("href", f"#{name}-{value.removeprefix('#')}")
        elif key == "style":
            element.set("style", _style(value))
        elif key in ("d", "x", "y"):
            element.set(key, re.sub(r"(\.\d\d)\d+", r"\1", " ".join(value.split())))
        elif not (key == "transform" and _UNTURNED.match(value)):
            element.set(key, re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", value))
    if element.tag == "text" and "fill" not in element.get("style", ""):
        element.set("fill", COLORS["#000000"])


def _style(text: str) -> str:
    for color, variable in COLORS.items():
        text = text.replace(color, variable)
    return re.sub(r"font-family:[^;]*;? ?", "", text)
