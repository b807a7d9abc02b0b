"""A data root of the size of AMKD's Table 1, in a minute: `python -m benchmarks.paper_root FOLDER`.

For timing alone. Everything in it is noise, and says that it is simulated; the packed features are one block of numbers
over and over, so there is nothing to be learned and no feature file to be packed again.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch

from survbench.complexity.count import paper_inputs
from survbench.console import note, track
from survbench.data.root import FORMAT, CohortContent, CohortFolder, CohortInfo, DataRoot
from survbench.data.store import fingerprint

__all__ = ["main"]

COHORTS = {  # patients, patches, share of deaths
    "brca": (871, 2_608_105, 0.14),
    "stad": (319, 1_089_079, 0.38),
    "hnsc": (394, 1_183_322, 0.43),
    "crad": (298, 981_941, 0.20),
}
SPREAD = 0.6  # standard deviation of the logarithm of a patient's patches
BLOCK = 2**16  # rows


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--shrink", type=click.FloatRange(min=1), default=1.0, show_default=True, help="So many times fewer patches."
)
def main(folder: Path, shrink: float) -> None:
    """Write FOLDER: four cohorts, 1,882 patients, 5.9 million patches of 1024 half-precision features (12 GB)."""
    if folder.exists():
        raise click.BadParameter(f"{folder} exists; name a folder that does not")
    folder.mkdir(parents=True)
    root = DataRoot(folder, "paper size, noise", simulated=True)
    block = torch.randn(BLOCK, paper_inputs().feature_width).half().numpy()
    for name, (patients, patches, deaths) in track(list(COHORTS.items()), "Writing"):
        rng = np.random.default_rng(patients)
        names = [f"NOISE-{name.upper()}-{i:04d}" for i in range(patients)]
        cohort = root.write(_content(name, names, deaths, rng))
        _slides(cohort, names, _sizes(rng, patients, int(patches / shrink)), block)
    about = {"format": 1, "name": root.name, "simulated": True}
    (folder / "root.json").write_text(json.dumps(about), encoding="utf-8")
    note(f"written: {folder}")


def _content(name: str, names: list[str], deaths: float, rng: np.random.Generator) -> CohortContent:
    inputs, count = paper_inputs(), len(names)
    genes = list(inputs.genes)
    table = pd.DataFrame(
        {
            "patient": names,
            "site": rng.choice(list("ABCDEFGHIJ"), count),
            "age": rng.integers(30, 90, count),
            "sex": rng.choice(["F", "M"], count),
            "stage": rng.choice(["I", "II", "III", "IV"], count),
            "grade": rng.choice(["G1", "G2", "G3"], count),
            "os_months": rng.exponential(30, count).round(2) + 0.1,
            "os_event": (rng.random(count) < deaths).astype(int),
        }
    )
    expression = pd.DataFrame(rng.standard_normal((count, len(genes))), index=pd.Index(names, name="patient"))
    expression.columns = pd.Index(genes)

    def named(sets: dict[str, tuple[int, ...]]) -> dict[str, list[str]]:
        return {title: [genes[i] for i in members] for title, members in sets.items()}

    source = "benchmarks.paper_root"
    return CohortContent(
        info=CohortInfo(
            name=name, title=f"{name.upper()}, noise", source=source, simulated=True, simulated_slides=True
        ),
        patients=table,
        slides=pd.DataFrame(columns=["patient", "slide", "file"]),
        expression=expression,
        pathways=named(dict(inputs.pathways)),
        families=named(dict(inputs.families)),
    )


def _sizes(rng: np.random.Generator, patients: int, patches: int) -> np.ndarray:
    shares = rng.lognormal(0, SPREAD, patients)
    return np.maximum(1, (patches * shares / shares.sum()).astype(int))


def _slides(cohort: CohortFolder, names: list[str], sizes: np.ndarray, block: np.ndarray) -> None:
    """A packed store whose feature files are empty stubs, which are never opened while they do not change."""
    (cohort.path / "features").mkdir()
    for name in names:
        (cohort.path / "features" / f"{name}.h5").touch()
    files = [f"features/{name}.h5" for name in names]
    cohort.write_slides(pd.DataFrame({"patient": names, "slide": names, "file": files}))
    packed = cohort.path / "packed"
    packed.mkdir()
    stops = np.cumsum(sizes)
    index = {"patient": names, "slide": names, "start": stops - sizes, "stop": stops}
    pd.DataFrame(index).to_csv(packed / "index.csv", index=False)
    rows = int(stops[-1])
    with (packed / "features.bin").open("wb") as features:
        for start in range(0, rows, BLOCK):
            features.write(block[: min(BLOCK, rows - start)].tobytes())
    np.indices((rows, 1), np.float32).reshape(2, -1).T.astype(np.float32).tofile(packed / "coords.bin")
    about = {
        "format": FORMAT,
        "dim": block.shape[1],
        "dtype": "float16",
        "patches": rows,
        "content_hash": f"noise of {rows} patches",
        "encoder": None,
        "simulated": True,
        "fingerprint": fingerprint(cohort.slides().sort_values("patient", kind="stable"), "float16"),
    }
    (packed / "store.json").write_text(json.dumps(about), encoding="utf-8")


if __name__ == "__main__":
    main()
