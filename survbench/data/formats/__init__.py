"""Patch features of slides in the file formats of CLAM, TRIDENT, STAMP and their relatives, read and written.

One file per tool; here are the functions for whatever format a file has. Packing many files is in store.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from survbench.console import note
from survbench.data.formats.base import Format, PatchEdge, SlideFeatures
from survbench.data.formats.clam import ClamH5, ClamPt
from survbench.data.formats.npy import Npy
from survbench.data.formats.opening import regular, walk, what_it_is
from survbench.data.formats.stamp import Stamp
from survbench.data.formats.trident import Trident
from survbench.errors import BadConfig, BadFeatures, BadFile, MissingFile, SurvbenchError
from survbench.files import atomic_file

__all__ = [
    "FORMATS",
    "PatchEdge",
    "SlideFeatures",
    "feature_file",
    "find_features",
    "header",
    "is_simulated",
    "patch_count",
    "patch_edge",
    "read_features",
    "slide_stem",
    "write_features",
]

# The first that recognizes a file reads it. Of two files of one slide, the one whose suffix comes first here is read:
# HDF5 files carry coordinates.
FORMATS: dict[str, Format] = {of.name: of for of in (Trident(), Stamp(), ClamH5(), ClamPt(), Npy())}
ANONYMOUS = ("features", "feats", "feature", "embeddings", "patch_features", "tile_features")
READABLE = tuple(dict.fromkeys(of.suffix for of in FORMATS.values()))
SUFFIXES = (".svs", ".tif", ".tiff", ".ndpi", ".mrxs", *READABLE)
SMALLEST_PATCH = 32.0  # px: no tool cuts smaller ones
NOT_PATCHES = ("patches", "slide_features")  # folders of coordinates, and of one vector per slide


def slide_stem(name: str) -> str:
    """A slide's name without one known suffix; other dots belong to the name."""
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def find_features(folder: Path) -> dict[str, Path]:
    """Slide stem -> feature file, over all subfolders.

    Raises
    ------
    MissingFile : the folder does not exist or holds no feature file.
    BadFeatures : two files of the same kind for one slide.
    """
    if not folder.is_dir():
        raise MissingFile(f"feature folder {folder} does not exist")
    found: dict[str, list[Path]] = {}
    skipped: list[Path] = []
    for file in (of for of in walk(folder) if of.suffix.lower() in READABLE):
        parents = file.relative_to(folder).parts[:-1]
        beside = any(part == NOT_PATCHES[0] or part.startswith(NOT_PATCHES[1]) for part in parents)
        if beside or file.stem.endswith(f"_{NOT_PATCHES[0]}") or not file.is_file():
            skipped.append(file)
            continue
        stem = slide_stem(file.name)
        if stem.lower() in ANONYMOUS and parents:  # a folder per slide
            stem = slide_stem(parents[-1])
        found.setdefault(stem, []).append(file)
    if not found:
        raise MissingFile(f"feature folder {folder} holds no {', '.join(READABLE)} file")
    files = {stem: _preferred(stem, candidates, skipped) for stem, candidates in found.items()}
    if skipped:
        names = ", ".join(sorted(str(of.relative_to(folder)) for of in skipped)[:3])
        note(f"{folder}: files that hold no patch features, not used ({len(skipped)}): {names}")
    return files


def _preferred(stem: str, candidates: list[Path], skipped: list[Path]) -> Path:
    """Of several files of a slide the one with coordinates; files of coordinates alone may have its name, too."""
    if len(candidates) == 1:
        return candidates[0]
    by_suffix: dict[str, Path] = {}
    for file in candidates:
        other = by_suffix.setdefault(file.suffix.lower(), file)
        if other is not file:
            raise BadFeatures(
                f"slide {stem} has two feature files, {other} and {file}", "name the folder of one encoder"
            )
    ordered = sorted(candidates, key=lambda file: READABLE.index(file.suffix.lower()))
    chosen = next((file for file in ordered if _holds_features(file)), ordered[0])
    skipped += ordered[: ordered.index(chosen)]
    return chosen


def _holds_features(file: Path) -> bool:
    try:
        patch_count(file)
    except SurvbenchError:
        return False
    return True


def read_features(file: Path, patch_size: float | None = None) -> SlideFeatures:
    """Read one slide's patch features, whatever format they are in.

    Parameters
    ----------
    file : of the slide.
    patch_size : edge of a patch in the unit of the coordinates, for a file that has some and does not say; None takes
        the step of their grid.

    Raises
    ------
    MissingFile : there is no such file.
    BadFile : it cannot be read.
    BadFeatures : not patch features: one vector per slide, NaN, or another number of coordinates than of patches.
    """
    file = Path(file)
    formats = _with_suffix(file)
    regular(file)
    with what_it_is(file), formats[0].open(file, "it may be cut off; copy or extract it again") as content:
        recognized = next(of for of in formats if of.recognizes(content))
        slide = recognized.read(content, file)
    features = slide.features.reshape(_two_dimensional(slide.features.shape, file))
    if features.dtype.kind != "f":
        raise BadFeatures(f"{file} holds {features.dtype}, expected floating-point features")
    bad, coords = ~np.isfinite(features).all(axis=1), slide.coords
    if bad.any():
        what = f"{file}: {int(bad.sum())} of {len(features)} patches have NaN or infinite features"
        raise BadFeatures(what, "extract the features again")
    if coords.size == 0:
        coords = np.full((len(features), 2), np.nan)
    elif not slide.in_edges:
        coords = coords / (patch_size or _step(coords, file))
    if len(coords) != len(features):
        what = f"{file} has {len(features)} patches and {len(coords)} coordinates"
        raise BadFeatures(what, "extract the features again")
    if features.dtype.itemsize > 4:
        features = features.astype(np.float32)
    return SlideFeatures(features, coords.astype(np.float32), slide.encoder, slide.simulated)


def _step(coords: np.ndarray, file: Path) -> float:
    """The step of the grid that all coordinates lie on, where the file does not say how large a patch is.

    Raises
    ------
    BadFeatures : they lie on none.
    """
    places = np.unique(coords.reshape(-1, 2).astype(np.float64), axis=0)
    steps = [np.diff(np.unique(axis)) for axis in places.T]
    smallest = min((float(step.min()) for step in steps if len(step)), default=1.0)
    if len(places) > 1 and (smallest < SMALLEST_PATCH or any((np.mod(step, smallest) > 0).any() for step in steps)):
        raise BadFeatures(
            f"{file} does not say how large a patch is, and its coordinates lie on no grid",
            f"keep CLAM's folder patches/ beside {file.parent.name}/, or import with --patch-size, in level-0 pixels",
        )
    return smallest


def patch_count(file: Path) -> tuple[int, int]:
    """(patches, width) of a feature file; see `header`."""
    return header(file)[:2]


def header(file: Path, patch_size: float | None = None) -> tuple[int, int, str | None]:
    """(patches, width, encoder) of a feature file, without reading the features where the format allows that.

    Parameters
    ----------
    file : of the slide.
    patch_size : see `read_features`.
    """
    formats = _with_suffix(file)
    regular(file)
    with what_it_is(file), formats[0].open(file, "it may be cut off; copy or extract it again") as content:
        shape = formats[0].shape(content, file)
        if shape is None:
            return (*read_features(file, patch_size).features.shape, None)
        recognized = next(of for of in formats if of.recognizes(content))
        if patch_size is None and recognized.has_coords(content, file) and recognized.edge(content, file) is None:
            _step(content["coords"][()], file)  # refuses what cannot be packed
        return (*_two_dimensional(shape, file), formats[0].encoder(content, file))


def is_simulated(file: Path) -> bool:
    """Whether a feature file says that it is simulated; False where it cannot be read."""
    try:
        formats = _with_suffix(file)
        regular(file)
        with what_it_is(file), formats[0].open(file, "") as content:
            return formats[0].is_marked(content, file)
    except SurvbenchError:
        return False


def patch_edge(file: Path, patch_size: float | None = None) -> PatchEdge | None:
    """Edge of a feature file's patches; None where it has no coordinates.

    Parameters
    ----------
    file : of the slide.
    patch_size : see `read_features`.
    """
    formats = _with_suffix(file)
    with formats[0].open(file, "") as content:
        if not formats[0].has_coords(content, file):
            return None
        known = next(of for of in formats if of.recognizes(content)).edge(content, file)
        return known or PatchEdge(patch_size or _step(content["coords"][()], file), "px" if patch_size else "")


def feature_file(folder: Path, slide: str, format_name: str) -> Path:
    """Where a format keeps a slide's features below `folder`.

    Raises
    ------
    BadConfig : unknown format.
    BadFeatures : a slide identifier that cannot be a file name.
    """
    if not slide or slide != Path(slide).name or slide in (".", ".."):
        raise BadFeatures(f"slide identifier {slide!r} cannot be a file name", "remove separators from it")
    if format_name not in FORMATS:
        raise BadConfig(f"Unknown feature format '{format_name}'", f"Known: {', '.join(FORMATS)}")
    return folder / FORMATS[format_name].path(slide)


def write_features(
    folder: Path, slide: str, features: np.ndarray, coords: np.ndarray, format_name: str, *, simulated: bool = True
) -> Path:
    """Write a slide's features as the format's own tool would; the file appears by one rename.

    Parameters
    ----------
    folder : of the features; subfolders are made, for CLAM also `patches/` with the coordinates.
    slide : identifier without extension.
    features : (N, D). TRIDENT and NumPy files keep the type, CLAM's are float32, STAMP's float16.
    coords : (N, 2), (x, y) of the top left corner in level-0 pixels; .pt and .npy files hold none.
    format_name : one of `FORMATS`.
    simulated : mark the file: HDF5 by attributes, .pt by a member of its archive, .npy behind the array.

    Returns
    -------
    The file.

    Raises
    ------
    BadConfig : unknown format.
    BadFeatures : shapes that do not fit each other, or an impossible identifier.
    """
    file = feature_file(folder, slide, format_name)
    if features.ndim != 2 or coords.shape != (len(features), 2):
        raise BadFeatures(
            f"slide {slide}: features {features.shape} and coords {coords.shape}, expected (N, D) and (N, 2)",
            "give one coordinate pair per patch",
        )
    with atomic_file(file) as scratch:
        FORMATS[format_name].write(scratch, slide, features, coords, simulated)
    return file


def _with_suffix(file: Path) -> list[Format]:
    formats = [of for of in FORMATS.values() if of.suffix == file.suffix.lower()]
    if not formats:
        raise BadFile(f"{file} is not one of {', '.join(READABLE)}")
    return formats


def _two_dimensional(shape: tuple[int, ...], file: Path) -> tuple[int, int]:
    """(patches, width); a leading axis of 1 is left out, and (0,) is how TRIDENT writes a slide without tissue."""
    if len(shape) == 3 and 1 in shape[:2]:
        shape = shape[1:] if shape[0] == 1 else (shape[0], shape[2])
    if shape == (0,):
        return 0, 0
    if len(shape) != 2:
        what = "one vector for the whole slide" if len(shape) == 1 else f"{len(shape)} axes"
        raise BadFeatures(
            f"{file} has features of shape {shape}: {what}, expected patches x width",
            "name the folder of patch features",
        )
    return shape[0], shape[1]
