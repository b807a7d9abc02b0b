"""Heatmaps of one patient: a figure, a table, and polygons for QuPath. What is shown is computed in patches.py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from survbench.data.cohort import Cohort
from survbench.errors import BadConfig
from survbench.explain.patches import TOP, PatchAttention
from survbench.explain.slides import Thumbnail, matched_slides, patch_pixels, read_thumbnail
from survbench.files import atomic_write
from survbench.leaderboard.board import KINDS
from survbench.report.plots.figures import save_figure, subplots, title_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Canvas", "draw_heatmap", "heatmap_figure", "lay_out", "write_geojson", "write_table"]

OWN, SHARED = "black", "#d55e00"  # outlines of a map's top five, and of those that another map has too
ROBUST = 0.99  # quantile at which the colors end
CROWDED = 15  # patches side by side above which a patch is too small for its number


@dataclass(frozen=True)
class Canvas:
    """A patient's slides as far as their patches' places are known.

    Attributes
    ----------
    edges : slide -> edge of its patches in level-0 pixels; slides without are not in it.
    thumbnails : slide -> its picture. unknown : why some slide has no size in pixels, a line for each.
    """

    edges: Mapping[str, float]
    thumbnails: Mapping[str, Thumbnail]
    unknown: Sequence[str]


def lay_out(found: PatchAttention, cohort: Cohort, files: Sequence[Path]) -> Canvas:
    """Sizes of the patient's patches, and pictures of the slides whose files are given.

    Raises
    ------
    BadConfig : a file is no slide of this patient, or its patches cannot be placed on it.
    """
    slides = list(dict.fromkeys(found.table["slide"]))
    thumbnails = {slide: read_thumbnail(file) for slide, file in matched_slides(files, slides, found.patient).items()}
    edges, unknown = {}, []
    for slide in slides:
        edge, why = patch_pixels(cohort, slide, thumbnails.get(slide))
        if edge is not None:
            edges[slide] = edge
        else:
            unknown.append(why)
            if slide in thumbnails:
                raise BadConfig(f"patches cannot be placed on slide {slide}: {why}", "leave out --slide")
    return Canvas(edges, thumbnails, unknown)


def write_table(found: PatchAttention, canvas: Canvas, file: Path) -> None:
    """Every patch as a row of CSV; each row says of what it is. `x_px`, `y_px`: top left corner in level-0 pixels."""
    table = found.table.copy()
    edge = table["slide"].map(dict(canvas.edges)).astype(float)
    for axis in ("y", "x"):
        table.insert(4, f"{axis}_px", (table[axis] * edge).round())
    for place, (key, value) in enumerate(_about(found).items()):
        table.insert(place, key, value)
    atomic_write(file, table.to_csv(index=False, lineterminator="\n"))


def write_geojson(found: PatchAttention, canvas: Canvas, stem: Path) -> list[Path]:
    """A file per slide for QuPath (0.4 or newer): patches as tiles in level-0 pixels, weights as measurements.

    Slides without a known size in pixels, and patches without coordinates, have none.
    """
    files, about = [], _about(found)
    for slide, edge in canvas.edges.items():
        rows = found.table[(found.table["slide"] == slide) & found.table["x"].notna()]
        features = [_tile(row, found, edge, about) for row in rows.to_dict("records")]
        if features:
            whose = stem.name.removesuffix(f"-{found.patient}") if slide.startswith(found.patient) else stem.name
            file = stem.with_name(f"{whose}-{slide}.geojson")
            document = {"type": "FeatureCollection", "survbench": about, "features": features}
            atomic_write(file, json.dumps(document))
            files.append(file)
    return files


def _about(found: PatchAttention) -> dict[str, str]:
    """What every file says of itself."""
    named = {key: str(getattr(found, key)) for key in ("model", "cohort", "patient", "fold", "seed")}
    return {**named, "data": KINDS[found.simulated]}


def _tile(row: Mapping[Any, Any], found: PatchAttention, edge: float, about: Mapping[str, str]) -> dict[str, Any]:
    left, top, right, bottom = (round(v * edge) for v in (row["x"], row["y"], row["x"] + 1, row["y"] + 1))
    corners = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    measured = {f"{kind} {name}": float(row[f"{kind} {name}"]) for name in found.maps for kind in ("weight", "rank")}
    properties: dict[str, Any] = {
        "objectType": "tile",
        "name": f"patch {row['patch']}",
        "measurements": measured,
        "metadata": about,
    }
    top_of = [name for name in found.maps if row[f"top {name}"]]
    if top_of:
        properties["classification"] = {"name": f"Top {TOP}: {' + '.join(top_of)}", "color": [213, 94, 0]}
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [corners]}, "properties": properties}


def draw_heatmap(found: PatchAttention, canvas: Canvas, file: Path) -> bool:
    """Write the figure; False where no patch has coordinates."""
    figure = heatmap_figure(found, canvas)
    if figure is not None:
        save_figure(figure, file)
    return figure is not None


def heatmap_figure(found: PatchAttention, canvas: Canvas) -> Figure | None:
    """A panel for each slide and map, with the top five numbered; None where no patch has coordinates."""
    placed = found.table[found.table["x"].notna()]
    if placed.empty:
        return None
    slides = list(dict.fromkeys(placed["slide"]))
    pictured = bool(canvas.thumbnails)
    columns = len(found.maps) + pictured
    size = 3.9 * columns + 0.3, 3.6 * len(slides) + 1.3
    figure, axes = subplots(len(slides), columns, figsize=size, squeeze=False)
    for row, slide in enumerate(slides):
        if pictured:
            _draw_picture(axes[row, 0], canvas, slide, placed[placed["slide"] == slide])
        axes[row, 0].set_ylabel(slide, fontsize="small")
    for column, name in enumerate(found.maps):
        _draw_map(figure, axes[:, column + pictured].tolist(), found, canvas, slides, name)
    _title(figure, found)
    return figure


def _draw_picture(axis: Axes, canvas: Canvas, slide: str, rows: pd.DataFrame) -> None:
    """The whole slide, and a frame around what the maps show of it."""
    from matplotlib.patches import Rectangle

    axis.set_xticks([])
    axis.set_yticks([])
    thumbnail = canvas.thumbnails.get(slide)
    if thumbnail is None:
        axis.text(0.5, 0.5, "slide not given", transform=axis.transAxes, ha="center", va="center", color="0.5")
        axis.set_box_aspect(1)
        return
    axis.imshow(thumbnail.pixels, extent=(0, thumbnail.width, thumbnail.height, 0))
    left, right, top, bottom = _extent(rows, canvas.edges[slide])
    axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="0.3", linestyle="--"))
    axis.set_title("slide", fontsize="medium")


def _draw_map(
    figure: Figure, axes: Sequence[Axes], found: PatchAttention, canvas: Canvas, slides: Sequence[str], name: str
) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import PatchCollection
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    values = found.relative(name)
    end = float(np.quantile(values, ROBUST)) if len(values) > 100 else float(values.max())
    norm = Normalize(float(values.min()), max(end, float(values.min()) * (1 + 1e-6)))
    for axis, slide in zip(axes, slides, strict=True):
        own = (found.table["slide"] == slide).to_numpy() & found.table["x"].notna().to_numpy()
        rows, thumbnail = found.table[own], canvas.thumbnails.get(slide)
        edge = 1.0 if thumbnail is None else canvas.edges[slide]
        if thumbnail is not None:
            axis.imshow(thumbnail.pixels, extent=(0, thumbnail.width, thumbnail.height, 0))
        squares = [Rectangle((edge * x, edge * y), edge, edge) for x, y in rows[["x", "y"]].to_numpy()]
        opacity = 1.0 if thumbnail is None else 0.6
        tiles = PatchCollection(squares, cmap="viridis", norm=norm, alpha=opacity, linewidth=0)
        tiles.set_array(values[own])
        axis.add_collection(tiles)
        _mark_top(axis, found, rows, name, edge)
        left, right, top, bottom = _extent(rows, edge)
        axis.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], aspect="equal")
    axes[0].set_title(name, fontsize="medium")
    bar = figure.colorbar(
        ScalarMappable(norm, "viridis"), ax=axes, shrink=0.75, extend="max" if end < values.max() else "neither"
    )
    bar.set_label(f"attention (1 = all {found.asked} equal)", fontsize="small")
    if found.uniform(name):
        axes[0].set_title(f"{name}\nuniform: no patch stands out", fontsize="medium")


def _mark_top(axis: Axes, found: PatchAttention, rows: pd.DataFrame, name: str, edge: float) -> None:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    others = [f"top {other}" for other in found.maps if other != name]
    crowded = max(np.ptp(rows["x"]), np.ptp(rows["y"])) > CROWDED
    for row in rows[rows[f"top {name}"]].to_dict("records"):
        color = SHARED if any(row[other] for other in others) else OWN
        corner = (edge * row["x"], edge * row["y"])
        width = 1.0 if crowded else 1.8
        around = [withStroke(linewidth=2 * width, foreground="white")]
        axis.add_patch(Rectangle(corner, edge, edge, fill=False, edgecolor=color, linewidth=width, path_effects=around))
        axis.annotate(
            str(row[f"rank {name}"]),
            (corner[0] + edge / 2, corner[1] + edge / 2),
            xytext=_label_place(row[f"rank {name}"]) if crowded else (0, 0),
            textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.8} if crowded else None,
            ha="center",
            va="center",
            fontsize="small",
            fontweight="bold",
            color=color,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )


def _label_place(rank: int) -> tuple[float, float]:
    """Points from a patch too small for its number; other ranks go other ways, as the highest often touch."""
    angle = 2 * np.pi * (rank - 0.5) / TOP
    return 17 * float(np.cos(angle)), 17 * float(np.sin(angle))


def _extent(rows: pd.DataFrame, edge: float) -> tuple[float, float, float, float]:
    """Left, right, top, bottom of a square around all patches, a little wider than they are."""
    middle = [(rows[axis].min() + rows[axis].max() + 1) / 2 for axis in ("x", "y")]
    half = max(float(np.ptp(rows[axis])) + 1 for axis in ("x", "y")) / 2 * 1.08 + 0.5
    return tuple(edge * (m + side) for m in middle for side in (-half, half))


def _title(figure: Figure, found: PatchAttention) -> None:
    first = f"{found.title} on {found.cohort} · {KINDS[found.simulated]}"
    second = f"patient {found.patient}, a test patient of fold {found.fold} (seed {found.seed})"
    third = f"risk {found.risk:+.1f} SD of the training patients"
    lines = [first, f"{second} · {third}", f"numbered: the {TOP} highest"]
    if len(found.maps) > 1:
        lines[2] += ", orange where another map has the patch too"
    title_figure(figure, "\n".join(lines))
