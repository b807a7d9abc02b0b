"""What the `explain` commands write and show: files, tables, and plain values for JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from survbench.console import note, warn
from survbench.data.cohort import Cohort
from survbench.errors import BadConfig
from survbench.experiments.job import Job
from survbench.explain.attribution import Completeness, pathway_attribution
from survbench.explain.heatmap import heatmap_figure, slide_canvas, write_geojson, write_table
from survbench.explain.patches import PatchAttention
from survbench.explain.pathways import (
    FEWEST_AGREE,
    PathwayRanking,
    pathway_attention,
    ranking_figure,
    write_pathways,
)
from survbench.files import plain
from survbench.leaderboard.board import KINDS
from survbench.report.plots.figures import save_figure
from survbench.report.sheet import Sheet

__all__ = [
    "heatmap_name",
    "heatmap_sheet",
    "plain_heatmap",
    "plain_ranking",
    "rank",
    "ranking_sheet",
    "write_heatmap",
    "write_ranking",
]


def rank(
    by: str, jobs: Sequence[Job], out: Path, device: torch.device, steps: int
) -> tuple[PathwayRanking, Completeness | None]:
    """Pathways of finished jobs of one model on one cohort, from the most to the least important.

    Parameters
    ----------
    by : `attention`, or `attribution`, which comes with its completeness.
    jobs : of one model on one cohort.
    out : folder of the results.
    device : to predict on.
    steps : points on the path of gradients.

    Raises
    ------
    BadConfig : `by` is neither, or the model has no attention or gradient of that kind.
    """
    if by not in ("attention", "attribution"):
        raise BadConfig(f"pathways by '{by}'", "choose attention or attribution")
    if by == "attention":
        return pathway_attention(jobs, out, device), None
    return pathway_attribution(jobs, out, device, steps)


def heatmap_name(pathways: Sequence[str]) -> str:
    """How the names of a heatmap's files begin."""
    slugs = [re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:40] for name in pathways]
    return "-".join(["pathway-heatmap", *slugs]) if slugs else "heatmap"


def write_heatmap(attention: PatchAttention, cohort: Cohort, slides: Sequence[Path], stem: Path) -> dict[str, Any]:
    """Write figure, table and GeoJSON.

    Parameters
    ----------
    attention : what is shown.
    cohort : of the patient.
    slides : files of the patient's slides, to draw on.
    stem : folder and beginning of the files' names.

    Returns
    -------
    The files: `figure` (None where no patch has coordinates), `table`, and a list `geojson`.
    """
    canvas = slide_canvas(attention, cohort, slides)
    for why in canvas.unknown:
        note(f"no GeoJSON: {why}")
    file, table = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.csv")
    write_table(attention, canvas, table)
    figure = heatmap_figure(attention, canvas)
    if figure is None:
        note(f"no figure: the features of patient {attention.patient} have no coordinates")
    else:
        save_figure(figure, file)
    tiles = [str(one) for one in write_geojson(attention, canvas, stem)]
    files = {"figure": None if figure is None else str(file), "table": str(table), "geojson": tiles}
    for one in filter(None, (files["figure"], files["table"], *tiles)):
        note(f"wrote {one}")
    return files


def write_ranking(ranking: PathwayRanking, file: Path) -> Path:
    """Write the figure, and the table beside it; warn where folds hardly agree."""
    if ranking.agreement < FEWEST_AGREE:
        warn(
            f"{ranking.model} on {ranking.cohort}: folds agree with rho = {ranking.agreement:.2f}; "
            "other training patients give another order of pathways"
        )
    save_figure(ranking_figure(ranking), file)
    write_pathways(ranking, file.with_suffix(".csv"))
    note(f"wrote {file} and {file.with_suffix('.csv').name}")
    return file


def plain_heatmap(attention: PatchAttention, files: dict[str, Any]) -> dict[str, Any]:
    """For JSON; all patches are in the table that `files` names."""
    keys = ("model", "title", "cohort", "patient", "fold", "seed", "risk")
    maps = []
    for name in attention.maps:
        top = attention.top(name)[["slide", "patch", "x", "y", f"weight {name}"]]
        patches = top.rename(columns={f"weight {name}": "weight"}).to_dict("records")
        maps.append({"name": name, "uniform": attention.uniform(name), "top": plain(patches)})
    return {
        **{key: getattr(attention, key) for key in keys},
        "simulated": bool(attention.simulated),
        "shares_of": attention.axis,
        "equal_weight": attention.equal,
        "patches": len(attention.table),
        "maps": maps,
        "overlaps": [plain(vars(overlap)) for overlap in attention.overlaps()],
        "files": files,
    }


def heatmap_sheet(attention: PatchAttention) -> Sheet:
    """The highest patches of each map, and how maps agree."""
    where = f"patient {attention.patient}, a test patient of fold {attention.fold} (seed {attention.seed})"
    return Sheet(
        title=f"{attention.title} on {attention.cohort} · {KINDS[attention.simulated]} · {where}",
        headers=("map", "rank", "slide", "patch", "x, y", f"attention (1 = all {attention.axis} equal)"),
        rows=list(_top_rows(attention)),
        notes=[
            f"{one.maps[0]} and {one.maps[1]}: {one.shared} of the top five in common ({one.by_chance:.1f} by chance), "
            f"rho = {one.rho:.2f} over {len(attention.table)} patches"
            for one in attention.overlaps()
        ],
        align="lrlr",
    )


def _top_rows(attention: PatchAttention) -> Iterator[Sequence[Any]]:
    for name in attention.maps:
        if attention.uniform(name):
            yield name, "", "uniform: no patch stands out"
        for row in attention.top(name).to_dict("records"):
            place = "unknown" if math.isnan(row["x"]) else f"{row['x']:g}, {row['y']:g}"
            weight = f"{row[f'weight {name}'] / attention.equal:.2f}"
            yield name, row[f"rank {name}"], row["slide"], row["patch"], place, weight
        yield ()


def plain_ranking(ranking: PathwayRanking, complete: Completeness | None, file: Path) -> dict[str, Any]:
    """For JSON, all pathways."""
    fields = {key: value for key, value in vars(ranking).items() if key != "table"}
    rows = plain(ranking.table.rename_axis("pathway").reset_index().to_dict("records"))
    more = {} if complete is None else {"completeness": {**vars(complete), "holds": complete.holds}}
    plainly = {"agreement": plain(ranking.agreement), "simulated": bool(ranking.simulated)}
    return {**fields, **plainly, **more, "pathways": rows, "file": str(file)}


def ranking_sheet(ranking: PathwayRanking, complete: Completeness | None) -> Sheet:
    """Both ends of the ranking."""
    notes = [f"folds agree with rho = {ranking.agreement:.2f} (Spearman)"]
    if complete is not None:
        notes.append(f"attributions add up to within {complete.gap:.2%} ({complete.steps} steps)")
    directed = "direction" in ranking.table
    rows: list[Sequence[str]] = []
    for label, part in zip(("most", "least"), ranking.ends(), strict=True):
        for pathway, row in part.iterrows():
            cells = label, str(pathway), f"{row['mean']:.3f}", f"{row['sd']:.3f}", f"{100 * row['top']:.0f} %"
            rows.append((*cells, f"{row['direction']:+.2f}") if directed else cells)
        rows.append(())
    headers = ("", "pathway", f"{ranking.quantity} (1 = equal)", "SD", "among the first five")
    return Sheet(
        title=f"{ranking.title} on {ranking.cohort} · {KINDS[ranking.simulated]} · {ranking.jobs} models",
        headers=(*headers, "direction") if directed else headers,
        rows=rows,
        notes=notes,
        align="llr",
    )
