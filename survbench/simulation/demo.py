"""The built-in demo root: five simulated cohorts under the real cohorts' names, with a known truth.

The equations are in generative.py; this module chooses sizes and effects, writes the data root and caches it.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from survbench.console import note, track
from survbench.data.formats import write_features
from survbench.data.root import CohortContent, CohortInfo, DataRoot, write_info
from survbench.errors import BadFile
from survbench.files import atomic_folder, atomic_write
from survbench.simulation import generative
from survbench.simulation.generative import Genome, Tissue, site_shift, stream

__all__ = ["STAD_EFFECTS", "VERSION", "Recipe", "build_cohorts", "build_demo", "demo_root", "open_root"]

VERSION = 3
_KEY = "survbench demo 1/302"  # of 400 seeds the one whose oracles are nearest to the average of all
_STALE_SECONDS = 24 * 3600

PROGRAMMES = (
    "PROLIFERATION",
    "HYPOXIA",
    "IMMUNE_INFILTRATION",
    "STROMA",
    "ANGIOGENESIS",
    "KERATINIZATION",
    "DNA_REPAIR",
    "LIPID_METABOLISM",
    "HORMONE_RESPONSE",
    "INTERFERON",
    "RIBOSOME",
    "STRESS",
)
FAMILIES = (
    "Tumor suppressor genes",
    "Oncogenes",
    "Protein kinases",
    "Cell differentiation markers",
    "Transcription factors",
    "Cytokines and growth factors",
)
TRACED = 6  # the first six can be seen in slides, the others cannot
AGE_EFFECT, STAGE_EFFECT = 0.10, 0.15  # log hazard per 10 years, per stage
STAGES, GRADES = ("I", "II", "III", "IV"), ("G1", "G2", "G3")
PATCHES = 16
LACKING = 0.02  # share of patients without expression, and the same share without slides


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Sizes and effects of a cohort.

    Attributes
    ----------
    name : of the cohort.
    title : for people.
    patients : number of them.
    event_rate : share of patients who die under observation.
    sites : number of tissue source sites.
    site_letter : first letter of their codes.
    effects : programme -> log hazard ratio per standard deviation.
    female : share of the patients.
    follow_up : median months under observation.
    gain : contrast of the scanner; 1 for the other cohorts.
    domain : size of a shift that the whole cohort shares, against the other cohorts.
    trace : how strongly programmes show in slides; 1 in the demo.
    people : cohorts with equal `people` have the same patients, whatever else differs; by default those of the name.
    """

    name: str
    title: str
    patients: int
    event_rate: float
    sites: int
    site_letter: str
    effects: dict[int, float]
    female: float
    follow_up: float
    gain: float = 1.0
    domain: float = 0.0
    trace: float = 1.0
    people: str = ""

    @property
    def key(self) -> str:
        """Name of its streams of random numbers."""
        return self.people or self.name


STAD_EFFECTS = {0: 0.6, 3: 0.7, 4: 0.55, 7: 0.75}
_HEAD_AND_NECK = {1: 0.7, 2: -0.6, 5: 0.5, 6: 0.75}
RECIPES = (
    Recipe(
        name="brca",
        title="TCGA-BRCA",
        patients=160,
        event_rate=0.13,
        sites=16,
        site_letter="B",
        effects={0: 0.65, 2: -0.55, 3: 0.45, 8: -0.7},
        female=0.99,
        follow_up=30.0,
    ),
    Recipe(
        name="stad",
        title="TCGA-STAD",
        patients=120,
        event_rate=0.38,
        sites=10,
        site_letter="S",
        effects=STAD_EFFECTS,
        female=0.36,
        follow_up=24.0,
    ),
    Recipe(
        name="hnsc",
        title="TCGA-HNSC",
        patients=130,
        event_rate=0.45,
        sites=12,
        site_letter="H",
        effects=_HEAD_AND_NECK,
        female=0.27,
        follow_up=28.0,
    ),
    Recipe(
        name="crad",
        title="TCGA-CRAD",
        patients=110,
        event_rate=0.2,
        sites=12,
        site_letter="C",
        effects={2: -0.65, 3: 0.6, 4: 0.5, 9: -0.7},
        female=0.47,
        follow_up=26.0,
    ),
    Recipe(
        name="cptac-hnsc",
        title="CPTAC-HNSC",
        patients=60,
        event_rate=0.35,
        sites=8,
        site_letter="P",
        effects=_HEAD_AND_NECK,
        female=0.14,
        follow_up=25.0,
        gain=1.2,
        domain=0.25,
    ),
)


def open_root(path: Path | str | None) -> DataRoot:
    """The data root at a path; without one the demo."""
    return DataRoot.open(demo_root() if path is None else Path(path))


def demo_root() -> Path:
    """The cached demo root, built on first use.

    The cache is $SURVBENCH_CACHE, else $XDG_CACHE_HOME/survbench, else ~/.cache/survbench.
    """
    root = _cache() / f"demo-v{VERSION}"
    if not (root / "root.json").is_file():
        _remove_stale(root)
    return build_cohorts(root, "demo", RECIPES)


def build_demo(path: Path, scale: float = 1.0) -> Path:
    """Build the demo root in a new folder.

    Parameters
    ----------
    path : of the new folder.
    scale : multiplies the number of patients; a patient's own data do not depend on it, times and events do.

    Raises
    ------
    BadFile : the folder exists and is not empty.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise BadFile(f"{path} exists already, the demo is written to a new folder", "name another folder or remove it")
    recipes = [replace(recipe, patients=max(10, round(recipe.patients * scale))) for recipe in RECIPES]
    return build_cohorts(path, "demo", recipes)


def build_cohorts(path: Path, name: str, recipes: Sequence[Recipe]) -> Path:
    """A data root of simulated cohorts with known truth, unless the folder has one; it appears by one rename.

    Parameters
    ----------
    path : of the root.
    name : of the root.
    recipes : one per cohort.

    Raises
    ------
    BadFile : the folder exists and is no data root.
    """
    if not (path / "root.json").is_file():
        note(f"building the {name} (simulated) data in {path}")
        try:
            with atomic_folder(path) as scratch:
                _build(scratch, name, recipes)
        except FileExistsError:  # another process was faster; what it built is the same
            if not (path / "root.json").is_file():
                raise BadFile(f"{path} exists and is no data root", "remove it or name another folder") from None
    return path


def _cache() -> Path:
    if chosen := os.environ.get("SURVBENCH_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "survbench"


def _remove_stale(root: Path) -> None:
    """Remove what killed builds left; younger folders may belong to a process that is building now."""
    for left in root.parent.glob(f".{root.name}.*"):
        if time.time() - left.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def _build(path: Path, name: str, recipes: Sequence[Recipe]) -> None:
    genome = generative.make_genome(PROGRAMMES, pathways_each=2, key=_KEY)
    tissue = generative.make_tissue(TRACED, key=_KEY)
    root = DataRoot(path, name, simulated=True)
    for recipe in recipes:
        people = People(recipe)
        folder = root.write(_content(people, genome))
        folder.write_slides(_write_features(folder.path, people, tissue))
        _write_truth(folder.path, people, genome)
    write_info(path / "root.json", {"name": root.name, "simulated": root.simulated})


class People:
    """Patients of a cohort: identifiers, covariates, programmes, outcome."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, count = recipe, recipe.patients
        codes = [f"{recipe.site_letter}{i}" for i in "ABCDEFGHJKLMNPQRSTUVWXYZ"[: recipe.sites]]
        sizes = 1 / np.arange(1, recipe.sites + 1) ** 0.7
        streams = [stream(_KEY, recipe.key, i) for i in range(count)]
        self.programmes = np.round([rng.standard_normal(len(PROGRAMMES)) for rng in streams], 4)
        self.sites = [str(rng.choice(codes, p=sizes / sizes.sum())) for rng in streams]
        self.names = [f"DEMO-{site}-{i + 1:04d}" for i, site in enumerate(self.sites)]
        age = np.array([np.clip(round(62 + 11 * rng.standard_normal()), 25, 90) for rng in streams])
        stage = np.array([rng.choice(4, p=(0.2, 0.35, 0.3, 0.15)) for rng in streams])
        effects = np.array([recipe.effects.get(k, 0.0) for k in range(len(PROGRAMMES))])
        covariates = AGE_EFFECT * (age - 62) / 10 + STAGE_EFFECT * (stage - 1.4)
        self.log_hazard = self.programmes @ effects + covariates
        seen = np.arange(len(PROGRAMMES)) < TRACED
        self.log_hazard_in_slides = self.programmes[:, seen] @ effects[seen]
        self.months, self.event = generative.simulate_survival(
            streams, self.log_hazard, round(recipe.event_rate * count), recipe.follow_up
        )
        chance = np.array([rng.random(5) for rng in streams])
        self.lacks_expression, self.lacks_slides = chance[:, 0] < LACKING, chance[:, 1] > 1 - LACKING
        self.table = pd.DataFrame(
            {
                "patient": self.names,
                "site": self.sites,
                "age": age.astype(int),
                "sex": np.where(chance[:, 2] < recipe.female, "F", "M"),
                "stage": np.where(chance[:, 3] < 0.04, "", np.array(STAGES)[stage]),
                "grade": np.array(GRADES)[np.minimum(2, (3 * chance[:, 4]).astype(int))],
                "os_months": self.months,
                "os_event": self.event.astype(int),
            }
        )


def _content(people: People, genome: Genome) -> CohortContent:
    recipe = people.recipe
    return CohortContent(
        info=CohortInfo(
            name=recipe.name,
            title=recipe.title,
            source="survbench demo, simulated",
            simulated=True,
            simulated_slides=True,
            notes=(f"every patient is invented; only the name and the share of events are those of {recipe.title}",),
        ),
        patients=people.table,
        slides=pd.DataFrame(columns=["patient", "slide", "file"]),
        expression=_expression(people, genome),
        pathways={name: list(genes) for name, genes in genome.pathways.items()},
        families=_families(genome),
    )


def _families(genome: Genome) -> dict[str, list[str]]:
    """Six invented families under the names of MCAT's: every gene in one, one in ten in a second one."""
    first = stream(_KEY, "families").integers(len(FAMILIES), size=len(genome.genes))
    second = stream(_KEY, "second families").integers(10 * len(FAMILIES), size=len(genome.genes))
    return {
        family: [gene for gene, a, b in zip(genome.genes, first, second, strict=True) if i in (a, b)]
        for i, family in enumerate(FAMILIES)
    }


def _write_truth(folder: Path, people: People, genome: Genome) -> None:
    names = [f"programme_{k}" for k in range(len(PROGRAMMES))]
    table = pd.DataFrame(people.programmes, columns=names)
    table.insert(0, "true_log_hazard", np.round(people.log_hazard, 6))
    table.insert(0, "patient", people.names)
    table.sort_values("patient").to_csv(folder / "truth.csv", index=False, lineterminator="\n")
    effects = people.recipe.effects
    pathways = {k: [p for p, driver in genome.drivers.items() if driver == k] for k in range(len(names))}
    truth = {
        "oracle_cindex": _harrell(people, people.log_hazard),
        "oracle_cindex_slides": _harrell(people, people.log_hazard_in_slides),
        "programmes": {
            name: {"name": PROGRAMMES[k], "log_hazard_ratio": effects.get(k, 0.0), "pathways": pathways[k]}
            for k, name in enumerate(names)
        },
        "prognostic": [names[k] for k in sorted(effects)],
        "traced": names[:TRACED],
        "covariates": {"age_per_10_years": AGE_EFFECT, "per_stage": STAGE_EFFECT},
    }
    atomic_write(folder / "truth.json", json.dumps(truth, indent=1) + "\n")


def _harrell(people: People, risk: np.ndarray) -> float:
    from sksurv.metrics import concordance_index_censored

    return round(float(concordance_index_censored(people.event, people.months, risk)[0]), 6)


def _expression(people: People, genome: Genome) -> pd.DataFrame:
    recipe, count = people.recipe, len(genome.genes)
    domain = site_shift(2 * recipe.domain, count, _KEY, recipe.key, "expression")
    rows = {}
    for name, site, programmes, lacks in zip(
        people.names, people.sites, people.programmes, people.lacks_expression, strict=True
    ):
        if not lacks:
            shift = domain + site_shift(0.25, count, _KEY, recipe.key, site, "expression")
            rows[name] = generative.simulate_expression(
                stream(_KEY, recipe.key, name, "expression"), genome, programmes, shift
            )
    return pd.DataFrame.from_dict(rows, orient="index", columns=pd.Index(genome.genes))


def _write_features(folder: Path, people: People, tissue: Tissue) -> pd.DataFrame:
    """Write the feature files below a cohort's folder; returns the cohort's table of slides."""
    recipe = people.recipe
    domain = site_shift(recipe.domain, tissue.width, _KEY, recipe.key, "slides")
    rows = []
    patients = list(zip(people.names, people.sites, people.programmes, people.lacks_slides, strict=True))
    for name, site, programmes, lacks in track(patients, f"Simulating {recipe.name}"):
        if lacks:
            continue
        shift = domain + site_shift(0.2, tissue.width, _KEY, recipe.key, site, "slides")
        slides = stream(_KEY, recipe.key, name, "slides").choice([1, 2, 3], p=(0.85, 0.12, 0.03))
        for slide in (f"{name}-01Z-00-DX{n + 1}" for n in range(slides)):
            rng = stream(_KEY, recipe.key, slide)
            features, coords = generative.simulate_slide(
                rng, tissue, recipe.trace * programmes[:TRACED], patches=PATCHES, shift=shift, gain=recipe.gain
            )
            file = write_features(folder / "features", slide, features, coords, "trident")
            rows.append((name, slide, file.relative_to(folder).as_posix()))
    return pd.DataFrame(sorted(rows), columns=["patient", "slide", "file"])
