"""What the `explain` commands write and print: files, tables, and plain values for JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.text import Text

from survbench.console import make_table, note, stdout, warn
from survbench.data.cohort import Cohort
from survbench.errors import BadConfig
from survbench.experiments.job import Job
from survbench.explain.attribution import Completeness, pathway_attribution
from survbench.explain.heatmap import draw_heatmap, lay_out, write_geojson, write_table
from survbench.explain.patches import PatchAttention, gene_set_heatmap, patch_heatmap
from survbench.explain.pathways import (
    ENDS,
    FEWEST_AGREE,
    PathwayRanking,
    draw_pathways,
    pathway_attention,
    write_pathways,
)
from survbench.files import plain
from survbench.leaderboard.board import KINDS

__all__ = [
    "attention",
    "heatmap_name",
    "plain_heatmap",
    "plain_ranking",
    "rank",
    "show_heatmap",
    "show_ranking",
    "write_heatmap",
    "write_ranking",
]


def rank(
    by: str, jobs: Sequence[Job], out: Path, device: torch.device, steps: int
) -> tuple[PathwayRanking, Completeness | None]:
    """Pathways by `attention` or by `attribution`, which says whether it adds up."""
    if by not in ("attention", "attribution"):
        raise BadConfig(f"pathways by '{by}'", "choose attention or attribution")
    if by == "attention":
        return pathway_attention(jobs, out, device), None
    return pathway_attribution(jobs, out, device, steps)


def attention(job: Job, patient: str, pathways: Sequence[str], out: Path, device: torch.device) -> PatchAttention:
    """All maps that the model has, or those of some pathways."""
    if pathways:
        return gene_set_heatmap(job, patient, pathways, out, device)
    return patch_heatmap(job, patient, out, device)


def heatmap_name(pathways: Sequence[str]) -> str:
    """How the names of its files begin."""
    slugs = [re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:40] for name in pathways]
    return "-".join(["pathway-heatmap", *slugs]) if slugs else "heatmap"


def write_heatmap(found: PatchAttention, cohort: Cohort, slides: Sequence[Path], stem: Path) -> dict[str, Any]:
    """Write all forms; returns where they are, None where there is none."""
    canvas = lay_out(found, cohort, slides)
    for why in canvas.unknown:
        note(f"no GeoJSON: {why}")
    figure, table = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.csv")
    write_table(found, canvas, table)
    drawn = draw_heatmap(found, canvas, figure)
    if not drawn:
        note(f"no figure: the features of patient {found.patient} have no coordinates")
    tiles = [str(file) for file in write_geojson(found, canvas, stem)]
    return {"figure": str(figure) if drawn else None, "table": str(table), "geojson": tiles}


def write_ranking(found: PathwayRanking, file: Path) -> Path:
    """Write figure and table; warn where the order says little."""
    if found.agreement < FEWEST_AGREE:
        warn(
            f"{found.model} on {found.cohort}: folds agree with rho = {found.agreement:.2f}; "
            "other training patients give another order of pathways"
        )
    draw_pathways(found, file)
    write_pathways(found, file.with_suffix(".csv"))
    return file


def plain_heatmap(found: PatchAttention, files: dict[str, Any]) -> dict[str, Any]:
    """For JSON; all patches are in the table that `files` names."""
    keys = ("model", "title", "cohort", "patient", "fold", "seed", "risk")
    maps = []
    for name in found.maps:
        top = found.top(name)[["slide", "patch", "x", "y", f"weight {name}"]]
        patches = top.rename(columns={f"weight {name}": "weight"}).to_dict("records")
        maps.append({"name": name, "uniform": found.uniform(name), "top": plain(patches)})
    overlaps = [plain(vars(overlap)) for overlap in found.overlaps()]
    about = {key: getattr(found, key) for key in keys}
    shares = {"shares_of": found.asked, "equal_weight": found.equal, "patches": len(found.table)}
    return {**about, "simulated": bool(found.simulated), **shares, "maps": maps, "overlaps": overlaps, "files": files}


def show_heatmap(found: PatchAttention, files: dict[str, Any]) -> None:
    """The highest patches of each map; how maps agree and where the files are goes to standard error."""
    where = f"patient {found.patient}, a test patient of fold {found.fold} (seed {found.seed})"
    title = f"{found.title} on {found.cohort} · {KINDS[found.simulated]} · {where}"
    headers = ("map", "rank", "slide", "patch", "x, y", f"attention (1 = all {found.asked} equal)")
    shown = make_table(headers, (), (1, 3, 4, 5), title=title)
    for name in found.maps:
        top = found.top(name)
        if top.empty:
            shown.add_row(Text(name), "", "uniform: no patch stands out")
        for row in top.to_dict("records"):
            place = "unknown" if math.isnan(row["x"]) else f"{row['x']:g}, {row['y']:g}"
            attention = f"{row[f'weight {name}'] / found.equal:.2f}"
            cells = (name, str(row[f"rank {name}"]), row["slide"], str(row["patch"]), place, attention)
            shown.add_row(*map(Text, cells))
        shown.add_section()
    stdout().print(shown)
    for o in found.overlaps():
        note(
            f"{o.maps[0]} and {o.maps[1]}: {o.shared} of the top five in common ({o.by_chance:.1f} by chance), "
            f"rho = {o.rho:.2f} over {len(found.table)} patches"
        )
    for file in filter(None, (files["figure"], files["table"], *files["geojson"])):
        note(f"wrote {file}")


def plain_ranking(found: PathwayRanking, complete: Completeness | None, file: Path) -> dict[str, Any]:
    """For JSON, all pathways."""
    about = {k: v for k, v in vars(found).items() if k != "table"}
    rows = plain(found.table.rename_axis("pathway").reset_index().to_dict("records"))
    more = {} if complete is None else {"completeness": {**vars(complete), "holds": complete.holds}}
    named = {**about, "agreement": plain(found.agreement), "simulated": bool(found.simulated)}
    return {**named, **more, "pathways": rows, "file": str(file)}


def show_ranking(found: PathwayRanking, complete: Completeness | None, file: Path) -> None:
    """Both ends of the ranking."""
    title = f"{found.title} on {found.cohort} · {KINDS[found.simulated]} · {found.jobs} models"
    caption = f"folds agree with rho = {found.agreement:.2f} (Spearman)"
    if complete is not None:
        caption += f" · attributions add up to within {complete.gap:.2%} ({complete.steps} steps)"
    headers = ["", "pathway", f"{found.quantity} (1 = equal)", "SD", "among the first five"]
    directed = "direction" in found.table
    headers += ["direction"] if directed else []
    shown = make_table(headers, (), range(2, len(headers)), title=title, caption=caption, fold=False)
    ends = min(ENDS, len(found.table) // 2)
    for label, part in (("most", found.table.head(ends)), ("least", found.table.tail(ends))):
        for pathway, row in part.iterrows():
            cells = [label, str(pathway), f"{row['mean']:.3f}", f"{row['sd']:.3f}", f"{100 * row['top']:.0f} %"]
            shown.add_row(*map(Text, [*cells, f"{row['direction']:+.2f}"] if directed else cells))
        shown.add_section()
    stdout().print(shown)
    note(f"wrote {file} and {file.with_suffix('.csv').name}")
