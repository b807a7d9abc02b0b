"""Heatmaps of one patient: a figure, a table, and polygons for QuPath. The attention is computed in patches.py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PatchCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from survbench.data.cohort import Cohort
from survbench.errors import BadConfig
from survbench.explain.patches import TOP, PatchAttention
from survbench.explain.slides import Thumbnail, matched_slides, patch_pixels, read_thumbnail
from survbench.files import atomic_write, file_stem
from survbench.leaderboard.board import KINDS
from survbench.report.plots.figures import subplots, title_figure

__all__ = ["Canvas", "heatmap_figure", "slide_canvas", "write_geojson", "write_table"]

OWN, SHARED = "black", "#d55e00"  # outlines of a map's top five, and of those that another map has too
ROBUST = 0.99  # quantile at which the colors end
CROWDED = 15  # patches side by side above which a patch is too small for its number


@dataclass(frozen=True)
class Canvas:
    """A patient's slides as far as their patches' places are known.

    Attributes
    ----------
    edges : slide -> edge of its patches in level-0 pixels; slides without are not in it.
    thumbnails : slide -> its picture.
    unknown : why some slide has no size in pixels, a line for each.
    """

    edges: Mapping[str, float]
    thumbnails: Mapping[str, Thumbnail]
    unknown: Sequence[str]


def slide_canvas(attention: PatchAttention, cohort: Cohort, files: Sequence[Path]) -> Canvas:
    """Sizes of the patient's patches, and pictures of some slides.

    Parameters
    ----------
    attention : whose patches.
    cohort : of the patient.
    files : of the slides to show pictures of.

    Raises
    ------
    BadConfig : a file is no slide of this patient, or its patches cannot be placed on it.
    """
    slides = list(dict.fromkeys(attention.table["slide"]))
    matched = matched_slides(files, slides, attention.patient)
    thumbnails = {slide: read_thumbnail(file) for slide, file in matched.items()}
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


def write_table(attention: PatchAttention, canvas: Canvas, file: Path) -> None:
    """Every patch as a row of CSV, which names model, patient and data too.

    `x_px`, `y_px`: top left corner in level-0 pixels.
    """
    table = attention.table.copy()
    edge = table["slide"].map(dict(canvas.edges)).astype(float)
    for axis in ("y", "x"):
        table.insert(4, f"{axis}_px", (table[axis] * edge).round())
    for place, (key, value) in enumerate(_provenance(attention).items()):
        table.insert(place, key, value)
    atomic_write(file, table.to_csv(index=False, lineterminator="\n"))


def write_geojson(attention: PatchAttention, canvas: Canvas, stem: Path) -> list[Path]:
    """A file per slide for QuPath (0.4 or newer): patches as tiles in level-0 pixels, weights as measurements.

    Slides without a known size in pixels, and patches without coordinates, have none.
    """
    files, provenance, patient = [], _provenance(attention), attention.patient
    for slide, edge in canvas.edges.items():
        rows = attention.table[(attention.table["slide"] == slide) & attention.table["x"].notna()]
        features = [_tile(row, attention.maps, edge, provenance) for row in rows.to_dict("records")]
        if features:
            prefix = stem.name.removesuffix(f"-{file_stem(patient)}") if slide.startswith(patient) else stem.name
            file = stem.with_name(f"{prefix}-{file_stem(slide)}.geojson")
            document = {"type": "FeatureCollection", "survbench": provenance, "features": features}
            atomic_write(file, json.dumps(document))
            files.append(file)
    return files


def _provenance(attention: PatchAttention) -> dict[str, str]:
    """Model, patient and kind of data, which every file names."""
    fields = {key: str(getattr(attention, key)) for key in ("model", "cohort", "patient", "fold", "seed")}
    return {**fields, "data": KINDS[attention.simulated]}


def _tile(row: Mapping[Any, Any], maps: Sequence[str], edge: float, provenance: Mapping[str, str]) -> dict[str, Any]:
    left, top, right, bottom = (round(v * edge) for v in (row["x"], row["y"], row["x"] + 1, row["y"] + 1))
    corners = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    measured = {f"{kind} {name}": float(row[f"{kind} {name}"]) for name in maps for kind in ("weight", "rank")}
    properties: dict[str, Any] = {
        "objectType": "tile",
        "name": f"patch {row['patch']}",
        "measurements": measured,
        "metadata": provenance,
    }
    top_of = [name for name in maps if row[f"top {name}"]]
    if top_of:
        properties["classification"] = {"name": f"Top {TOP}: {' + '.join(top_of)}", "color": [213, 94, 0]}
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [corners]}, "properties": properties}


def heatmap_figure(attention: PatchAttention, canvas: Canvas) -> Figure | None:
    """A panel for each slide and map, with the top five numbered; None where no patch has coordinates."""
    placed = attention.table[attention.table["x"].notna()]
    if placed.empty:
        return None
    slides = list(dict.fromkeys(placed["slide"]))
    pictured = bool(canvas.thumbnails)
    columns = len(attention.maps) + pictured
    size = 3.9 * columns + 0.3, 3.6 * len(slides) + 1.3
    figure, axes = subplots(len(slides), columns, figsize=size, squeeze=False)
    for row, slide in enumerate(slides):
        if pictured:
            _draw_picture(axes[row, 0], canvas, slide, placed[placed["slide"] == slide])
        axes[row, 0].set_ylabel(slide, fontsize="small")
    for column, name in enumerate(attention.maps):
        _draw_map(figure, axes[:, column + pictured].tolist(), attention, canvas, slides, name)
    _title(figure, attention)
    return figure


def _draw_picture(axis: Axes, canvas: Canvas, slide: str, rows: pd.DataFrame) -> None:
    """The whole slide, and a frame around what the maps show of it."""
    axis.set_xticks([])
    axis.set_yticks([])
    thumbnail = canvas.thumbnails.get(slide)
    if thumbnail is None:
        axis.text(0.5, 0.5, "no slide file", transform=axis.transAxes, ha="center", va="center", color="0.5")
        axis.set_box_aspect(1)
        return
    axis.imshow(thumbnail.pixels, extent=(0, thumbnail.width, thumbnail.height, 0))
    left, right, top, bottom = _extent(rows, canvas.edges[slide])
    axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor="0.3", linestyle="--"))
    axis.set_title("slide", fontsize="medium")


def _draw_map(
    figure: Figure, axes: Sequence[Axes], attention: PatchAttention, canvas: Canvas, slides: Sequence[str], name: str
) -> None:
    values = attention.relative(name)
    end = float(np.quantile(values, ROBUST)) if len(values) > 100 else float(values.max())
    norm = Normalize(float(values.min()), max(end, float(values.min()) * (1 + 1e-6)))
    for axis, slide in zip(axes, slides, strict=True):
        own = (attention.table["slide"] == slide).to_numpy() & attention.table["x"].notna().to_numpy()
        rows, thumbnail = attention.table[own], canvas.thumbnails.get(slide)
        edge = 1.0 if thumbnail is None else canvas.edges[slide]
        if thumbnail is not None:
            axis.imshow(thumbnail.pixels, extent=(0, thumbnail.width, thumbnail.height, 0))
        squares = [Rectangle((edge * x, edge * y), edge, edge) for x, y in rows[["x", "y"]].to_numpy()]
        opacity = 1.0 if thumbnail is None else 0.6
        tiles = PatchCollection(squares, cmap="viridis", norm=norm, alpha=opacity, linewidth=0)
        tiles.set_array(values[own])
        axis.add_collection(tiles)
        _mark_top(axis, attention, rows, name, edge)
        left, right, top, bottom = _extent(rows, edge)
        axis.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], aspect="equal")
    uniform = "\nuniform: no patch stands out" if attention.uniform(name) else ""
    axes[0].set_title(f"{name}{uniform}", fontsize="medium")
    bar = figure.colorbar(
        ScalarMappable(norm, "viridis"), ax=axes, shrink=0.75, extend="max" if end < values.max() else "neither"
    )
    bar.set_label(f"attention (1 = all {attention.axis} equal)", fontsize="small")


def _mark_top(axis: Axes, attention: PatchAttention, rows: pd.DataFrame, name: str, edge: float) -> None:
    others = [f"top {other}" for other in attention.maps if other != name]
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


def _title(figure: Figure, attention: PatchAttention) -> None:
    first = f"{attention.title} on {attention.cohort} · {KINDS[attention.simulated]}"
    second = f"patient {attention.patient}, a test patient of fold {attention.fold} (seed {attention.seed})"
    third = f"risk {attention.risk:+.1f} SD of the training patients"
    lines = [first, f"{second} · {third}", f"numbered: the {TOP} highest"]
    if len(attention.maps) > 1:
        lines[2] += ", orange where another map has the patch too"
    title_figure(figure, "\n".join(lines))
