"""Writes small data sets in the layouts that users have. All identifiers and numbers are invented."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch

GENES = ["TP53", "EGFR", "NA", "MYC", "KRAS", "AKT1"]
PATHWAYS = {"One (with, odd/name)": ["TP53", "EGFR", "ABSENT"], "Two": ["NA", "MYC", "KRAS"]}
FAMILIES = {"Oncogenes": ["MYC", "KRAS", "EGFR"], "Tumor Suppressor Genes": ["TP53", "ABSENT"]}


def survpath(folder: Path, cohort: str = "luad", patients: int = 30, seed: int = 0, shuffle: bool = False) -> Path:
    """The data folders of the SurvPath repository; every third patient has two slides.

    shuffle : rows and columns of every file in another order.
    """
    rng = np.random.default_rng(seed)
    names = [f"TCGA-{'ABCD'[i % 4]}0-{i:04d}" for i in range(patients)]
    rows = []
    for i, name in enumerate(names):
        months, censored = round(float(rng.exponential(20)) + 1, 3), int(rng.random() < 0.5 and i > 5)
        rows += [
            {
                "case_id": name,
                "slide_id": f"{name}-01Z-00-DX{k + 1}.0A1B{i}.svs",
                "age": 50 + i,
                "site": name[5:7],
                "survival_months": months,
                "survival_months_dss": months,
                "survival_months_pfi": months / 2,
                "censorship": censored,
                "censorship_dss": float(censored),
                "censorship_pfi": censored,
                "is_female": float(i % 2),
                "oncotree_code": "XYZ",
                "train": 1.0,
            }
            for k in range(2 if i % 3 == 0 else 1)
        ]
    labels = pd.DataFrame(rows)
    expression = pd.DataFrame(rng.normal(size=(patients, len(GENES))).round(4), index=names, columns=GENES)
    wide = pd.DataFrame({k: pd.Series(v) for k, v in PATHWAYS.items()})
    families = pd.DataFrame({k: pd.Series(v) for k, v in FAMILIES.items()})
    stages = pd.DataFrame({"case_id": names, "stage": "II", "grade": "N/A", "subtype": "XYZ"})

    def mixed(table: pd.DataFrame, state: int) -> pd.DataFrame:
        return table.sample(frac=1, random_state=state).sample(frac=1, axis=1, random_state=state) if shuffle else table

    labels, wide, families, stages = (mixed(t, i) for i, t in enumerate((labels, wide, families, stages)))
    meta = folder / "datasets_csv" / "metadata"
    meta.mkdir(parents=True)
    labels.reset_index(drop=True).to_csv(meta / f"tcga_{cohort}.csv")
    wide.to_csv(meta / "combine_signatures.csv", index=False)
    families.to_csv(meta / "signatures.csv", index=False)
    clinical = folder / "datasets_csv" / "clinical_data"
    clinical.mkdir()
    stages.to_csv(clinical / f"tcga_{cohort}_clinical.csv")
    rna = folder / "datasets_csv" / "raw_rna_data" / "xena" / cohort
    rna.mkdir(parents=True)
    mixed(expression.drop(index=names[-1]), 9).to_csv(rna / "rna_clean.csv")
    splits = folder / "splits" / "5foldcv" / f"tcga_{cohort}"
    splits.mkdir(parents=True)
    for k in range(5):
        held_out = [n for i, n in enumerate(names) if i % 5 == k] + (["TCGA-ZZ-9999"] if k == 0 else [])
        train = [n for i, n in enumerate(names) if i % 5 != k]
        split = pd.DataFrame({"train": pd.Series(train), "val": pd.Series(held_out)})
        mixed(split, k).reset_index(drop=True).to_csv(splits / f"splits_{k}.csv")
        (splits / f"splits_{k}_descriptor.csv").write_text(",train,val\nclass,1,2\n")
    return folder


def edit(file: Path, **columns: dict[int, object]) -> None:
    """Overwrite single cells of a CSV, given as column -> {row: value}."""
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    for column, cells in columns.items():
        for row, value in cells.items():
            table.loc[row, column] = str(value)
    table.to_csv(file, index=False)


def features(patches: int = 7, width: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(patches, width)).astype(np.float32), rng.integers(0, 9, (patches, 2)) * 512


def clam_h5(folder: Path, slide: str, x: np.ndarray, xy: np.ndarray) -> Path:
    file = folder / "h5_files" / f"{slide}.h5"
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as content:
        content.create_dataset("features", data=x, chunks=(1, x.shape[1]), maxshape=(None, x.shape[1]))
        content["coords"] = xy.astype(np.int32)
    patches = folder / "patches" / f"{slide}.h5"
    patches.parent.mkdir(exist_ok=True)
    with h5py.File(patches, "w") as content:
        content["coords"] = xy.astype(np.int32)
        content["coords"].attrs.update({"patch_size": 256, "downsample": (2.0, 2.0)})
    return file


def clam_pt(folder: Path, slide: str, x: np.ndarray, xy: np.ndarray) -> Path:
    file = folder / "pt_files" / f"{slide}.pt"
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(torch.from_numpy(x), file)
    return file


def trident_h5(folder: Path, slide: str, x: np.ndarray, xy: np.ndarray) -> Path:
    file = folder / "20x_256px_0px_overlap" / "features_uni_v1" / f"{slide}.h5"
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as content:
        content["features"] = x
        content["features"].attrs["encoder"] = "uni_v1"
        content["coords"] = xy.astype(np.int64)
        content["coords"].attrs.update({"patch_size": 256, "patch_size_level0": 512.0, "overlap": 0, "mpp": "None"})
    return file


def trident_pt(folder: Path, slide: str, x: np.ndarray, xy: np.ndarray) -> Path:
    file = folder / f"{slide}.pt"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(x, file)
    return file


def stamp_h5(folder: Path, slide: str, x: np.ndarray, xy: np.ndarray) -> Path:
    file = folder / "uni" / f"{slide}.h5"
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as content:
        content["feats"] = x.astype(np.float16)
        content["coords"] = (xy / 512 * 256).astype(np.float32)
        content.attrs.update({"extractor": "uni", "unit": "um", "tile_size_um": 256.0, "feat_type": "tile"})
    return file


def npy(folder: Path, slide: str, x: np.ndarray, xy: np.ndarray) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{slide}.npy", x)
    return folder / f"{slide}.npy"


WRITERS = {w.__name__: w for w in (clam_h5, clam_pt, trident_h5, trident_pt, stamp_h5, npy)}
WITH_COORDS = ("clam_h5", "trident_h5", "stamp_h5")


def about(folder: Path) -> dict[str, object]:
    return json.loads((folder / "store.json").read_text())
