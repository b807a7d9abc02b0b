"""The generative model behind simulated data: latent programmes -> expression, survival, traces in slides.

Arrays in, arrays out; the files are written by demo.py (invented patients) and slides.py (real patients).

The model
---------
A patient i has programmes z_ik ~ N(0, 1), k = 1..K. In the demo they drive three things:

expression  E_ig = m_g + s_g (l_g z_ik(g) + sqrt(1 - l_g^2) (0.35 c_ik(g) + sqrt(1 - 0.35^2) e_ig)) + site_g,
            a gene g belongs to one programme k(g) or to none (l_g = 0); c_ik is variation that the genes of a programme
            share and that means nothing; log2(TPM + 0.001), below the detection limit the floor log2(0.001)
survival    T_i = (-log U_i / exp(h_i))^(1/1.3), log hazard h_i = sum_k b_k z_ik + covariates; follow-up C_i ~ Gamma(2),
            scaled so that exactly a given number of patients dies while under observation
slides      patch j of a slide:  x_j = gain (type_t(j) + sum_r y_jr texture_r + site + noise_j
                                             + sum_k a_jk (w_k + (1 + 0.25 n_jk) z_ik v_k))
            a_jk = 1 on one contiguous region per slide and programme, 10-30 % of its patches, and 0 elsewhere. There
            the marker w_k says that this is where to look and v_k carries the programme. Programmes that leave no
            trace are not in the sum, so slides know less than expression.

Real patients (slides.py) have their own expression and survival; only their slides are simulated, from programmes that
are derived from the expression.

Every random number comes from a stream named by strings (cohort, patient, slide), so a patient's slides do not depend
on who else is generated. Sums of directions avoid BLAS, whose rounding differs between processors.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from survbench.data.formats.base import PATCH_PX

__all__ = [
    "FLOOR",
    "Genome",
    "Tissue",
    "make_genome",
    "make_tissue",
    "simulate_expression",
    "simulate_slide",
    "simulate_survival",
    "site_shift",
    "stream",
]

FLOOR = round(float(np.log2(0.001)), 4)
DETECTION_LIMIT = -5.0
WIDTH = 1024
TRACE_SHARE = (0.1, 0.3)
TRACE_JITTER = 0.25
SHARED_NUISANCE = 0.35
WEIBULL_SHAPE = 1.3
DAYS_PER_MONTH = 30.4375


def stream(*names: object) -> np.random.Generator:
    """Generator of random numbers that depend on these names alone."""
    digest = hashlib.sha256("\x1f".join(map(str, names)).encode()).digest()
    return np.random.default_rng(np.random.SeedSequence(list(np.frombuffer(digest, dtype="<u4").tolist())))


@dataclass(frozen=True, kw_only=True)
class Genome:
    """Genes, pathways and how programmes drive them.

    Attributes
    ----------
    genes : names, alphabetical.
    programme : (genes,) index of the driving programme, -1 for none.
    loading : (genes,) correlation with the programme.
    mean : (genes,) of log2(TPM + 0.001).
    spread : (genes,) standard deviation of the same.
    pathways : name -> genes, alphabetical.
    drivers : name of a pathway -> index of its programme, -1 for none.
    """

    genes: tuple[str, ...]
    programme: np.ndarray
    loading: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    pathways: dict[str, tuple[str, ...]]
    drivers: dict[str, int]


def make_genome(
    programmes: tuple[str, ...], *, genes_each: int = 28, unrelated: int = 64, pathways_each: int = 3, key: str
) -> Genome:
    """Pathways of 10-20 genes: mostly of their programme, some of other ones, so that pathways overlap.

    Parameters
    ----------
    programmes : names; pathways are called DEMO_<programme>_<n>, those without a programme DEMO_UNRELATED_<n>.
    genes_each : genes of a programme.
    unrelated : genes without a programme.
    pathways_each : pathways of a programme.
    key : names the random numbers.
    """
    rng = stream(key, "genome")
    owner = np.append(np.repeat(np.arange(len(programmes)), genes_each), np.full(unrelated, -1))
    owner = rng.permutation(owner)
    count = len(owner)
    sign = np.where(rng.random(count) < 0.85, 1.0, -1.0)
    genes = tuple(f"DG{i + 1:04d}" for i in range(count))
    pathways, drivers = {}, {}
    for k, name in [*enumerate(programmes), (-1, "UNRELATED")]:
        own, other = np.flatnonzero(owner == k), np.flatnonzero(owner != k)
        for n in range(pathways_each):
            members = np.append(rng.choice(own, rng.integers(8, 17), replace=False),
                                rng.choice(other, rng.integers(2, 5), replace=False))  # fmt: skip
            pathways[f"DEMO_{name}_{n + 1}"] = tuple(genes[i] for i in sorted(members))
            drivers[f"DEMO_{name}_{n + 1}"] = k
    return Genome(
        genes=genes,
        programme=owner,
        loading=np.where(owner >= 0, sign * rng.uniform(0.35, 0.75, count), 0.0),
        mean=rng.normal(2.5, 4.0, count),
        spread=rng.uniform(0.6, 1.8, count),
        pathways=pathways,
        drivers=drivers,
    )


def simulate_expression(
    rng: np.random.Generator, genome: Genome, programmes: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    """Expression of one patient.

    Parameters
    ----------
    rng : of the patient.
    genome : of the cohort.
    programmes : (K,) of the patient.
    shift : (genes,) of the site and the domain, in units of a gene's spread.

    Returns
    -------
    (genes,) float32, log2(TPM + 0.001), four decimals.
    """
    related = genome.programme >= 0
    driven = np.where(related, programmes[genome.programme], 0.0)
    shared = np.where(related, rng.standard_normal(len(programmes))[genome.programme], 0.0)
    own = rng.standard_normal(len(genome.genes))
    rest = SHARED_NUISANCE * shared + np.sqrt(1 - SHARED_NUISANCE**2) * own
    units = genome.loading * driven + np.sqrt(1 - genome.loading**2) * rest + shift
    values = genome.mean + genome.spread * units
    return np.round(np.where(values < DETECTION_LIMIT, FLOOR, values), 4).astype(np.float32)


def simulate_survival(
    rngs: list[np.random.Generator], log_hazard: np.ndarray, events: int, follow_up: float
) -> tuple[np.ndarray, np.ndarray]:
    """Observed times and events with exactly `events` deaths.

    Parameters
    ----------
    rngs : one stream per patient.
    log_hazard : (patients,).
    events : number of deaths.
    follow_up : median months under observation, deaths aside.

    Returns
    -------
    months : (patients,) in whole days, at least one.
    event : (patients,) bool, True = died.
    """
    draws = np.array([(rng.standard_exponential(), rng.gamma(2.0)) for rng in rngs])
    death = (draws[:, 0] * np.exp(-log_hazard)) ** (1 / WEIBULL_SHAPE)
    # stretching everybody's follow-up until the m-th patient's death falls into it gives m deaths, no more
    stretch = np.sort(death / draws[:, 1])
    last = stretch[events - 1]
    first_censored = stretch[events] if events < len(stretch) else 2 * last
    censoring = draws[:, 1] * (last + first_censored) / 2
    months = np.minimum(death, censoring) * follow_up / np.median(censoring)
    days = np.maximum(1, np.ceil(months * DAYS_PER_MONTH))
    return np.round(days / DAYS_PER_MONTH, 4), death <= censoring


@dataclass(frozen=True)
class Tissue:
    """What an imaginary patch encoder shows; all float32.

    Attributes
    ----------
    types : (6, D) prototypes of tissue.
    texture : (24, D) directions in which all tissue varies.
    markers : (K, D) w_k of the programmes that leave traces.
    traces : (K, D) v_k of the same.
    """

    types: np.ndarray
    texture: np.ndarray
    markers: np.ndarray
    traces: np.ndarray

    @property
    def width(self) -> int:
        return self.types.shape[1]


def make_tissue(traced: int, *, width: int = WIDTH, key: str) -> Tissue:
    """Directions for a number of programmes that leave traces."""
    rng = stream(key, "tissue")
    decay = 1 / np.sqrt(np.arange(1, 25))

    def directions(count: int, size: float) -> np.ndarray:
        return (size * rng.standard_normal((count, width))).astype(np.float32)

    return Tissue(
        types=directions(6, 0.5),
        texture=(directions(24, 0.35) * decay[:, None]).astype(np.float32),
        markers=directions(traced, 0.5),
        traces=directions(traced, 0.5),
    )


def site_shift(size: float, length: int, *names: object) -> np.ndarray:
    """(length,) float32 offset that everything from one site shares."""
    return (size * stream("site", *names).standard_normal(length)).astype(np.float32)


def simulate_slide(
    rng: np.random.Generator,
    tissue: Tissue,
    programmes: np.ndarray | None,
    *,
    patches: int,
    shift: np.ndarray,
    gain: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Features and coordinates of one slide.

    Parameters
    ----------
    rng : of the slide.
    tissue : what the encoder shows.
    programmes : (K,) of those that leave traces; None for tissue without traces.
    patches : mean number of patches; slides have 45-155 % of it.
    shift : (D,) offset of the site.
    gain : of the scanner and stain, multiplies everything.

    Returns
    -------
    features : (N, D) float16.
    coords : (N, 2) int64, (x, y) in level-0 pixels, row by row.
    """
    count = max(1, round(patches * rng.uniform(0.45, 1.55)))
    coords = _tissue_outline(rng, count)
    kind = rng.choice(len(tissue.types), size=count, p=rng.dirichlet(np.full(len(tissue.types), 2.0)))
    features = tissue.types[kind] + shift + 0.3 * rng.standard_normal((count, tissue.width), dtype=np.float32)
    for direction in tissue.texture:
        features += rng.standard_normal((count, 1), dtype=np.float32) * direction
    for k, value in enumerate(() if programmes is None else programmes):
        rows = traced_region(rng, coords)
        strength = np.float32(value) * (1 + TRACE_JITTER * rng.standard_normal((len(rows), 1), dtype=np.float32))
        features[rows] += tissue.markers[k] + strength * tissue.traces[k]
    return (np.float32(gain) * features).astype(np.float16), coords


def _tissue_outline(rng: np.random.Generator, count: int) -> np.ndarray:
    """Grid positions of a ragged piece of tissue, row by row, in level-0 pixels."""
    side = int(np.ceil(np.sqrt(2 * count))) + 1
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), axis=-1).reshape(-1, 2)[:, ::-1]
    distance = np.square(grid - (side - 1) / 2).sum(axis=1) * rng.uniform(0.6, 1.4, len(grid))
    kept = np.sort(np.argsort(distance, kind="stable")[:count])
    return (PATCH_PX * (grid[kept] + rng.integers(2, 40, 2))).astype(np.int64)


def traced_region(rng: np.random.Generator, coords: np.ndarray) -> np.ndarray:
    """Rows of the patches around a random one: 10-30 % of the slide, at least one."""
    count = max(1, round(len(coords) * rng.uniform(*TRACE_SHARE)))
    distance = np.square(coords - coords[rng.integers(len(coords))]).sum(axis=1)
    return np.argsort(distance, kind="stable")[:count]
