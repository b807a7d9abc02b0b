"""Which feature file belongs to which slide: by name, then by the habits in which names differ, each said aloud."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from survbench.console import shown
from survbench.data.formats import slide_stem
from survbench.data.text import Say
from survbench.errors import BadFeatures

__all__ = ["match_files", "refuse_nothing", "slides_of_files"]

SLIDE_SUFFIX = re.compile(
    r"\.(svs|tiff?|ndpi|mrxs|scn|czi|vms|vmu|bif|svslide|dcm|qptiff|isyntax|ome|h5|hdf5|pt|npy)$", re.IGNORECASE
)
AFTER_PATIENT = "-_. "


def _bare(name: str) -> str:
    """A name without folders and without any suffix of slides and features."""
    name = re.split(r"[/\\]", name)[-1]
    while (shorter := SLIDE_SUFFIX.sub("", name)) != name and shorter:
        name = shorter
    return name


BEFORE_DOT = "by what comes before the first dot"
WAYS: tuple[tuple[str, Callable[[str], str]], ...] = (  # the more they forgive, the later
    ("without folders and suffixes", _bare),
    ("without regard to upper and lower case", lambda name: _bare(name).lower()),
    (BEFORE_DOT, lambda name: _bare(name).partition(".")[0].lower()),
)


def match_files(slides: pd.DataFrame, files: Mapping[str, Path], say: Say) -> dict[str, Path]:
    """Listed slide -> its feature file; a way of matching counts only where it gives one slide and one file.

    Parameters
    ----------
    slides : columns patient and slide, as the source lists them.
    files : name without suffix -> file.
    say : takes how names were matched where they differ.
    """
    listed = dict(zip(slides["slide"], slides["patient"], strict=True))
    matched = {slide: files[stem] for slide in listed if (stem := slide_stem(slide)) in files}
    for way, form in WAYS:
        _match(matched, {slide: form(slide) for slide in listed}, {stem: form(stem) for stem in files}, files, way, say)
    alone = slides[~slides["patient"].duplicated(keep=False)]
    patients = dict(zip(alone["slide"], alone["patient"], strict=True))
    _match(matched, patients, {stem: _bare(stem) for stem in files}, files, "by the patient's name", say)
    return matched


def _match(
    matched: dict[str, Path],
    listed: Mapping[str, str],
    found: Mapping[str, str],
    files: Mapping[str, Path],
    way: str,
    say: Say,
) -> None:
    """Add pairs of one slide and one file that have the same form and are both free."""
    taken = set(matched.values())
    slides, stems = _by_form(listed, set(matched)), _by_form(found, {stem for stem in files if files[stem] in taken})
    alone = (form for form in slides if len(slides[form]) == len(stems.get(form, ())) == 1)
    new = {slides[form][0]: stems[form][0] for form in alone}
    if way == BEFORE_DOT:  # one of the two lacks what comes after the dot; two that differ there are two slides
        new = {slide: stem for slide, stem in new.items() if "." not in _bare(slide) or "." not in _bare(stem)}
    if new:
        slide, stem = next(iter(new.items()))
        say(f"slides and feature files matched {way} ({len(new)}): {slide} is {files[stem].name}")
    matched |= {slide: files[stem] for slide, stem in new.items()}


def _by_form(forms: Mapping[str, str], without: set[str]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name, form in forms.items():
        if name not in without:
            names.setdefault(form, []).append(name)
    return names


def slides_of_files(patients: pd.Series, files: Mapping[str, Path], say: Say) -> pd.DataFrame:
    """Slides of a cohort whose tables list none: a file whose name begins with a patient is that patient's slide.

    Parameters
    ----------
    patients : of the labels.
    files : name without suffix -> file.
    say : takes what was found.
    """
    rows = [(patient, stem) for stem in files for patient in _owner(stem, set(patients))]
    if rows:
        patient, stem = rows[0]
        first = f"{stem} is {patient}'s"
        say(f"no table lists slides; files that begin with a patient's name are slides ({len(rows)}): {first}")
    return pd.DataFrame(rows, columns=["patient", "slide"], dtype=object)


def _owner(stem: str, patients: set[str]) -> Iterator[str]:
    """The patient with the longest name that the stem begins with."""
    for end in range(len(stem), 0, -1):
        if stem[:end] in patients and (end == len(stem) or stem[end] in AFTER_PATIENT):
            yield stem[:end]
            return


def refuse_nothing(slides: pd.DataFrame, files: Mapping[str, Path], source: str) -> None:
    """Refuse features that belong to nobody.

    Raises
    ------
    BadFeatures : always, with both kinds of names.
    """
    names = shown([file.name for file in files.values()])
    listed = shown(list(slides["slide"])) if len(slides) else "none"
    raise BadFeatures(
        f"{source}: no slide has a feature file; listed are {listed}; found {names}",
        "write slides.csv with the columns patient and slide, where slide is the file's name",
    )
