"""Simulated slides for the real patients of a data root, to rehearse slide models on real labels.

The equations are in generative.py, the file formats in data/formats/. Outcomes are never read.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from survbench.console import track
from survbench.data.formats import feature_file, slide_stem, write_features
from survbench.data.replacing import sweep
from survbench.data.root import CohortFolder, DataRoot, read_info, write_info
from survbench.errors import BadConfig, BadFile
from survbench.files import LEFTOVER, lock
from survbench.simulation.generative import Tissue, make_tissue, simulate_slide, site_shift, stream

__all__ = ["CohortSimulation", "SimulationReport", "programmes_of", "simulate_slides"]

VERSION = 2
PROGRAMMES = 6
MARK = "simulated.json"
NOTE = "slide features are simulated"


@dataclass(frozen=True, kw_only=True)
class CohortSimulation:
    """The slides simulated for one cohort.

    Attributes
    ----------
    cohort : its name.
    folder : of the feature files.
    patients : number of patients.
    written : slides written by this call.
    kept : slides that an earlier, interrupted call had written.
    without_trace : patients whose slides carry no trace, because they have no expression to derive it from.
    """

    cohort: str
    folder: Path
    patients: int
    written: int
    kept: int
    without_trace: tuple[str, ...]

    @property
    def slides(self) -> int:
        return self.written + self.kept


@dataclass(frozen=True)
class SimulationReport:
    """One entry per cohort."""

    cohorts: tuple[CohortSimulation, ...]


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """One cohort, checked and ready to be written.

    Attributes
    ----------
    sites : of each patient.
    slides : patient, slide, file as slides.csv will have them.
    programmes : (patients with expression, programmes).
    recipe : everything that decides what the slides show.
    """

    cohort: CohortFolder
    folder: Path
    sites: pd.Series
    slides: pd.DataFrame
    programmes: pd.DataFrame
    recipe: dict[str, Any]


def simulate_slides(
    root: DataRoot | Path,
    *,
    cohorts: Sequence[str] | None = None,
    layout: str = "trident",
    patches: int = 64,
    seed: int = 0,
    overwrite: bool = False,
) -> SimulationReport:
    """Write simulated slide features for the patients of a data root and enter them in its slides.csv.

    What a slide shows comes from the patient's expression (`programmes_of`) and site. No outcome is read, so whatever
    a slide model learns from these slides about survival is in the real expression, too.

    Parameters
    ----------
    root : of the cohorts.
    cohorts : their names; all by default.
    layout : file format, one of `formats.FORMATS`; the files go to <cohort>/features/<layout>/.
    patches : mean number per slide.
    seed : of the random numbers.
    overwrite : replace what was simulated with other settings.

    Raises
    ------
    BadConfig : unknown format, or no patches.
    BadFile : the cohort has real feature files, is simulated as a whole, or has slides simulated with other settings
        (without `overwrite`). Nothing is written to any cohort then.
    UnknownName : no such cohort.
    """
    if patches < 1:
        raise BadConfig(f"{patches} patches per slide", "at least 1 is needed")
    root = root if isinstance(root, DataRoot) else DataRoot.open(root)
    plans = [
        _plan(root.cohort(name), layout, patches, seed, overwrite) for name in dict.fromkeys(cohorts or root.cohorts())
    ]
    tissue = make_tissue(PROGRAMMES, key=f"simulated slides {VERSION}/{seed}")
    reports = []
    for plan in plans:
        with lock(plan.cohort.path / ".simulating"):
            reports.append(_carry_out(plan, tissue, layout))
    return SimulationReport(tuple(reports))


def programmes_of(expression: pd.DataFrame | None, pathways: dict[str, list[str]]) -> pd.DataFrame:
    """Latent programmes derived from expression, without looking at outcomes.

    The first principal components of the pathway scores, a score being the mean of a pathway's standardized genes; of
    the genes themselves where there are fewer pathways than programmes. Each is standardized over the patients, cut at
    3 standard deviations, and has the sign that makes its largest weight positive.

    Parameters
    ----------
    expression : (patients, genes) or None.
    pathways : name -> genes.

    Returns
    -------
    (patients, up to 6); empty without expression or with fewer than 3 patients.
    """
    if expression is None or len(expression) < 3:
        return pd.DataFrame()
    values = expression.sort_index().astype(np.float64)
    spread = values.std(ddof=0)
    genes = ((values - values.mean()) / spread).loc[:, spread > 1e-9]
    members = [[g for g in dict.fromkeys(pathway) if g in genes.columns] for _, pathway in sorted(pathways.items())]
    scores = [genes[known].mean(axis=1).to_numpy() for known in members if known]
    matrix = np.stack(scores, axis=1) if len(scores) >= PROGRAMMES else genes.to_numpy()
    left, size, right = np.linalg.svd(matrix - matrix.mean(axis=0), full_matrices=False)
    kept = np.flatnonzero(size > 1e-9 * max(1.0, size.max(initial=0.0)))[:PROGRAMMES]
    largest = np.abs(right[kept]).argmax(axis=1)
    components = left[:, kept] * np.sign(right[kept, largest]) * np.sqrt(len(values))
    return pd.DataFrame(np.round(np.clip(components, -3, 3), 4), index=values.index)


def _plan(cohort: CohortFolder, format_name: str, patches: int, seed: int, overwrite: bool) -> _Plan:
    if cohort.info.simulated:
        raise BadFile(
            f"cohort {cohort.name} is simulated as a whole and has its slides", "name a cohort of real patients"
        )
    _refuse_real_files(cohort)
    patients = cohort.patients()
    sites = patients["site"] if "site" in patients.columns else pd.Series("", index=patients.index)
    programmes = programmes_of(cohort.expression(), cohort.pathways())
    digest = hashlib.sha256(programmes.to_csv(lineterminator="\n").encode()).hexdigest()
    recipe = {"version": VERSION, "seed": seed, "patches": patches, "programmes": digest}
    folder = cohort.path / "features" / format_name
    _refuse_other_recipe(cohort, folder, recipe, overwrite)
    slides = _slide_table(cohort, patients.index, folder, format_name)
    return _Plan(cohort=cohort, folder=folder, sites=sites, slides=slides, programmes=programmes, recipe=recipe)


def _refuse_real_files(cohort: CohortFolder) -> None:
    for file in cohort.slides()["file"].dropna():
        if not any((parent / MARK).is_file() for parent in file.parents if cohort.path in parent.parents):
            raise BadFile(
                f"cohort {cohort.name} has real slide features ({file})",
                "simulated ones never replace or join them; name other cohorts, or import this one elsewhere",
            )


def _refuse_other_recipe(cohort: CohortFolder, folder: Path, recipe: dict[str, Any], overwrite: bool) -> None:
    """Slides simulated before are completed with the same settings, and replaced only with `overwrite`."""
    others = (file for file in folder.iterdir() if not LEFTOVER.fullmatch(file.name)) if folder.exists() else ()
    if not (folder / MARK).is_file() and any(others):
        raise BadFile(f"{folder} holds files that were not simulated", "move them away")
    simulated = _of_other_recipes(cohort, folder, recipe)
    if simulated and not overwrite:
        raise BadFile(
            f"cohort {cohort.name} has slides simulated with other settings ({simulated[0]})",
            "repeat those settings to complete them, or add --overwrite to replace them",
        )


def _of_other_recipes(cohort: CohortFolder, folder: Path, recipe: dict[str, Any]) -> list[Path]:
    """Folders of slides that were simulated in another format or with other settings."""
    marked = sorted(mark.parent for mark in (cohort.path / "features").glob(f"*/{MARK}"))
    return [other for other in marked if other != folder or _recipe_of(other) != recipe]


def _recipe_of(folder: Path) -> object:
    try:
        return read_info(folder / MARK).get("recipe")
    except BadFile:
        return None


def _slide_table(cohort: CohortFolder, patients: pd.Index, folder: Path, format_name: str) -> pd.DataFrame:
    """All listed slides, and one for each patient without; file is blank for patients who are not in the cohort."""
    listed = cohort.slides()[["patient", "slide"]]
    bare = sorted(set(patients) - set(listed["patient"]))
    added = pd.DataFrame({"patient": bare, "slide": [f"{patient}-SIMULATED" for patient in bare]}, dtype=object)
    table = pd.concat([listed, added]).sort_values(["patient", "slide"], ignore_index=True)
    stems = table["slide"].map(slide_stem)
    if stems.duplicated().any():
        raise BadFile(
            f"{cohort.path / 'slides.csv'}: slide {stems[stems.duplicated()].iloc[0]} is there twice",
            "keep one row per slide",
        )
    files = [feature_file(folder, stem, format_name).relative_to(cohort.path).as_posix() for stem in stems]
    return table.assign(file=np.where(table["patient"].isin(patients), files, ""))


def _carry_out(plan: _Plan, tissue: Tissue, format_name: str) -> CohortSimulation:
    cohort, with_expression = plan.cohort, set(plan.programmes.index)
    patches, seed = plan.recipe["patches"], plan.recipe["seed"]
    _begin(plan)
    todo = plan.slides[plan.slides["file"] != ""]
    written = 0
    rows: list[tuple[str, str, str]] = list(todo.itertuples(index=False, name=None))
    for patient, slide, file in track(rows, f"Simulating slides of {cohort.name}"):
        if (cohort.path / file).is_file():
            continue
        programmes = plan.programmes.loc[patient].to_numpy() if patient in with_expression else None
        shift = site_shift(0.2, tissue.width, VERSION, seed, cohort.name, plan.sites[patient])
        rng = stream("simulated slide", VERSION, seed, cohort.name, patient, slide)
        features, coords = simulate_slide(rng, tissue, programmes, patches=patches, shift=shift)
        write_features(plan.folder, slide_stem(slide), features, coords, format_name)
        written += 1
    _enter(plan, plan.slides)
    return CohortSimulation(
        cohort=cohort.name,
        folder=plan.folder,
        patients=len(plan.sites),
        written=written,
        kept=len(todo) - written,
        without_trace=tuple(patient for patient in plan.sites.index if patient not in with_expression),
    )


def _begin(plan: _Plan) -> None:
    """Remove slides of other settings, and mark folder and cohort before there is a file that could pass as real."""
    for folder in (plan.cohort.path, *(file for file in plan.folder.rglob("*") if file.is_dir()), plan.folder):
        sweep(folder)
    _enter(plan, plan.slides.assign(file=""))
    for folder in _of_other_recipes(plan.cohort, plan.folder, plan.recipe):
        shutil.rmtree(folder)
    write_info(plan.folder / MARK, {"simulated": True, "recipe": plan.recipe})


def _enter(plan: _Plan, slides: pd.DataFrame) -> None:
    note = (
        f"{NOTE}: about {plan.recipe['patches']} patches each, seed {plan.recipe['seed']}; traces come from expression "
        "without looking at outcomes, patients without expression have none"
    )
    others = [text for text in plan.cohort.info.notes if not text.startswith(NOTE)]
    plan.cohort.write_slides(slides, simulated_slides=True, notes=[*others, note])
