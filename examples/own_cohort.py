"""A cohort of your own: tables and patch features as files, imported into a data root, then two models on it.

The files are invented here, though what is imported counts as real; bring your own in the same layout. Patch features
of CLAM, TRIDENT and STAMP are read as they are.
"""

from pathlib import Path

import numpy as np
import pandas as pd

import survbench
from survbench.data.importers import import_data

rng = np.random.default_rng(0)
patients = [f"P{i:03d}" for i in range(60)]
genes = [f"GENE{i}" for i in range(20)]
risk = rng.normal(size=len(patients))

source, features = Path("invented/mine"), Path("invented/features")
source.mkdir(parents=True, exist_ok=True)
features.mkdir(parents=True, exist_ok=True)
labels = {"patient": patients, "os_months": 20 * rng.exponential(np.exp(-risk)) + 0.1, "os_event": rng.random(60) < 0.6}
pd.DataFrame(labels).astype({"os_event": int}).to_csv(source / "labels.csv", index=False)
expression = rng.normal(size=(60, 20)) + risk[:, None] * (np.arange(20) < 5)
pd.DataFrame(expression, index=pd.Index(patients, name="patient"), columns=genes).to_csv(source / "expression.csv")
(source / "pathways.gmt").write_text(
    "FIRST\tx\t" + "\t".join(genes[:8]) + "\nSECOND\tx\t" + "\t".join(genes[8:]) + "\n"
)
for patient, value in zip(patients, risk, strict=True):
    patches = rng.normal(size=(rng.integers(4, 12), 16)) + 0.5 * value
    np.save(features / f"{patient}.npy", patches.astype(np.float32))  # slides are matched by their names
pd.DataFrame({"patient": patients, "slide": patients}).to_csv(source / "slides.csv", index=False)

import_data(source, Path("data"), layout="tables", slides=features, overwrite=True)
print(survbench.load_cohort("mine", data="data"))

results = survbench.run(["abmil", "snn"], "mine", data="data", preset="rehearsal")
print(results)
print(results.leaderboard()[["model", "mean", "sd"]])
