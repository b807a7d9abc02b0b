"""Writing one slide's features in the file formats of CLAM, TRIDENT and STAMP, so that simulated ones look real.

Reading features is features.py's work; what the features are is simulation.py's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

import survbench
from survbench.errors import BadConfig, BadFeatures
from survbench.files import atomic_file

__all__ = ["LAYOUTS", "feature_file", "write_features"]

LAYOUTS = ("trident", "clam-h5", "clam-pt", "stamp")
MAGNIFICATION = 20
MICROMETERS_PER_PX = 0.5  # at 20x


def feature_file(folder: Path, slide: str, layout: str, *, patch_px: int = 256, encoder: str = "uni_v1") -> Path:
    """Where a layout keeps a slide's features below `folder`.

    Raises
    ------
    BadConfig : unknown layout.
    BadFeatures : a slide identifier that cannot be a file name.
    """
    if not slide or slide != Path(slide).name or slide in (".", ".."):
        raise BadFeatures(f"slide identifier {slide!r} cannot be a file name", "remove separators from it")
    names = {
        "trident": f"{MAGNIFICATION}x_{patch_px}px_0px_overlap/features_{encoder}/{slide}.h5",
        "clam-h5": f"h5_files/{slide}.h5",
        "clam-pt": f"pt_files/{slide}.pt",
        "stamp": f"{slide}.h5",
    }
    if layout not in names:
        raise BadConfig(f"Unknown feature layout '{layout}'", f"Known: {', '.join(LAYOUTS)}")
    return folder / names[layout]


def write_features(
    folder: Path,
    slide: str,
    features: np.ndarray,
    coords: np.ndarray,
    layout: str,
    *,
    patch_px: int = 256,
    encoder: str = "uni_v1",
    simulated: bool = True,
) -> Path:
    """Write a slide's features as the layout's own tool would; the file appears by one rename.

    Parameters
    ----------
    folder : the layout's root; its sub-folders are made, for CLAM also `patches/` with the coordinates.
    slide : identifier without extension.
    features : (N, D). TRIDENT keeps the dtype, CLAM writes float32, STAMP float16.
    coords : (N, 2), (x, y) of the top left corner in level-0 pixels; STAMP writes micrometers; CLAM's pt has none.
    patch_px : edge of a patch in level-0 pixels, which is the 20x level.
    simulated : HDF5 files get the attributes `simulated` and `simulated_by`; a pt file has no room for a mark.

    Returns
    -------
    The file.

    Raises
    ------
    BadConfig : unknown layout. BadFeatures : shapes that do not fit each other, or an impossible identifier.
    """
    file = feature_file(folder, slide, layout, patch_px=patch_px, encoder=encoder)
    if features.ndim != 2 or coords.shape != (len(features), 2):
        raise BadFeatures(
            f"slide {slide}: features {features.shape} and coords {coords.shape}, expected (N, D) and (N, 2)",
            "give one coordinate pair per patch",
        )
    if layout.startswith("clam"):
        _write_clam_patches(folder / "patches" / f"{slide}.h5", slide, coords, patch_px)
    with atomic_file(file) as scratch:
        if layout == "clam-pt":
            _write_pt(scratch, features)
            return file
        with h5py.File(scratch, "w") as h5:
            if simulated:
                h5.attrs["simulated"] = True
                h5.attrs["simulated_by"] = f"survbench {survbench.__version__}"
            if layout == "trident":
                _fill_trident(h5, slide, file.parent, features, coords, patch_px, encoder)
            elif layout == "clam-h5":
                _fill_clam(h5, features, coords)
            else:
                _fill_stamp(h5, features, coords, patch_px, encoder)
    return file


def _growable(h5: h5py.File, name: str, values: np.ndarray, rows_per_chunk: int) -> h5py.Dataset:
    return h5.create_dataset(
        name, data=values, chunks=(rows_per_chunk, values.shape[1]), maxshape=(None, values.shape[1])
    )


def _fill_trident(
    h5: h5py.File, slide: str, folder: Path, features: np.ndarray, coords: np.ndarray, patch_px: int, encoder: str
) -> None:
    described = {"name": slide, "savetodir": folder.name}
    width, height = (coords.max(axis=0) + patch_px) if len(coords) else (patch_px, patch_px)
    grid: dict[str, Any] = {
        "patch_size": patch_px,
        "patch_size_level0": float(patch_px),
        "level0_magnification": MAGNIFICATION,
        "target_magnification": MAGNIFICATION,
        "overlap": 0,
        "level0_width": int(width),
        "level0_height": int(height),
    }
    _growable(h5, "features", features, 1).attrs.update({**described, "encoder": encoder})
    _growable(h5, "coords", coords.astype(np.int64), 1).attrs.update({**grid, **described})


def _fill_clam(h5: h5py.File, features: np.ndarray, coords: np.ndarray) -> None:
    _growable(h5, "features", features.astype(np.float32), 32)
    _growable(h5, "coords", coords.astype(np.int32), 32)


def _write_clam_patches(file: Path, slide: str, coords: np.ndarray, patch_px: int) -> None:
    """CLAM's file of coordinates beside its features: the only place where it keeps the size of a patch."""
    size = [int(edge) + patch_px for edge in coords.max(axis=0)] if len(coords) else [patch_px, patch_px]
    with atomic_file(file) as scratch, h5py.File(scratch, "w") as h5:
        _growable(h5, "coords", coords.astype(np.int32), 1).attrs.update(
            {
                "patch_size": patch_px,
                "patch_level": 0,
                "downsample": [1.0, 1.0],
                "downsampled_level_dim": size,
                "level_dim": size,
                "name": slide,
                "save_path": file.parent.name,
            }
        )


def _fill_stamp(h5: h5py.File, features: np.ndarray, coords: np.ndarray, patch_px: int, encoder: str) -> None:
    h5.create_dataset("feats", data=features.astype(np.float16))
    h5.create_dataset("coords", data=(coords * MICROMETERS_PER_PX).astype(np.float32))
    h5.attrs.update(
        {
            "stamp_version": "2.5.0",
            "extractor": encoder,
            "unit": "um",
            "tile_size_um": patch_px * MICROMETERS_PER_PX,
            "tile_size_px": patch_px,
            "code_hash": "",
            "feat_type": "tile",
        }
    )


def _write_pt(file: Path, features: np.ndarray) -> None:
    import torch

    torch.save(torch.from_numpy(features.astype(np.float32)), file)
