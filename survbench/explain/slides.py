"""Where patches lie on a slide in pixels, as far as that is known, and thumbnails of slides that can be opened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from survbench.data.cohort import Cohort
from survbench.data.formats import patch_edge, slide_stem
from survbench.errors import BadConfig, BadFile, MissingFile

__all__ = ["Thumbnail", "matched_slides", "patch_pixels", "read_thumbnail"]

LARGEST = 2048  # pixels of a thumbnail's longer edge


@dataclass(frozen=True)
class Thumbnail:
    """A small picture of a slide.

    Attributes
    ----------
    pixels : (height, width, 3) uint8.
    width : of level 0, in its pixels.
    height : of level 0, in its pixels.
    microns : edge of a level-0 pixel; None where the slide does not record it.
    """

    pixels: np.ndarray
    width: int
    height: int
    microns: float | None


def matched_slides(files: Sequence[Path], slides: Sequence[str], patient: str) -> dict[str, Path]:
    """Slide -> the file that has its name.

    Parameters
    ----------
    files : of slides.
    slides : names of the patient's slides.
    patient : named in the message.

    Raises
    ------
    BadConfig : a file is none of these slides.
    """
    stems = {slide_stem(slide): slide for slide in slides}
    matched = {}
    for file in files:
        if slide_stem(file.name) not in stems:
            raise BadConfig(
                f"--slide {file} is no slide of patient {patient}", f"its slides: {', '.join(dict.fromkeys(slides))}"
            )
        matched[stems[slide_stem(file.name)]] = file
    return matched


def read_thumbnail(file: Path) -> Thumbnail:
    """Thumbnail of whatever OpenSlide can open.

    Raises
    ------
    MissingFile : the file is not there.
    BadFile : it is no slide.
    BadConfig : OpenSlide is not installed.
    """
    if not file.is_file():
        raise MissingFile(f"--slide {file} does not exist")
    try:
        import openslide
    except (ImportError, OSError):
        raise BadConfig("--slide needs OpenSlide, which is not installed", "pip install 'survbench[wsi]'") from None
    try:
        with openslide.OpenSlide(file) as slide:
            width, height = slide.dimensions
            scale = min(1.0, LARGEST / max(width, height))
            picture = slide.get_thumbnail((max(1, round(width * scale)), max(1, round(height * scale))))
            microns = slide.properties.get(openslide.PROPERTY_NAME_MPP_X)
    except openslide.OpenSlideError as error:
        raise BadFile(f"--slide {file} cannot be opened: {error}", "name a file that OpenSlide reads") from None
    return Thumbnail(np.asarray(picture.convert("RGB")), width, height, None if microns is None else float(microns))


def patch_pixels(cohort: Cohort, slide: str, thumbnail: Thumbnail | None = None) -> tuple[float | None, str]:
    """Edge of the slide's patches in level-0 pixels, or None and why it is not known.

    Parameters
    ----------
    cohort : of the slide.
    slide : its name.
    thumbnail : of the slide, whose size of a pixel converts coordinates in micrometers.
    """
    table: pd.DataFrame = cohort.folder.slides()
    files = table.loc[(table["slide"] == slide) & table["file"].notna(), "file"]
    if files.empty or not Path(files.iloc[0]).is_file():
        return None, f"the feature file of slide {slide} is gone"
    file = Path(files.iloc[0])
    edge = patch_edge(file, cohort.folder.info.patch_size)
    if edge is None:
        return None, f"{file} has no coordinates"
    if edge.unit == "px":
        return edge.size, ""
    if edge.unit == "um":
        if thumbnail is None or not thumbnail.microns:
            return None, f"{file} has coordinates in micrometers; --slide with a known pixel size converts them"
        return edge.size / thumbnail.microns, ""
    return None, f"{file} does not record how large its patches are"
