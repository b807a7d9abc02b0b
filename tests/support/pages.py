"""Results folders that make a page with everything on it, small enough to plot quickly."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd

from support.job_folders import patients, seal, write_job
from survbench.leaderboard.aggregate import build
from survbench.report.page import page_html
from survbench.studies.external_validation import ExternalRow

__all__ = ["INJECTED", "external_row", "full_folder", "full_page", "write_map_folder", "write_study_folder"]

INJECTED = '<script>window.injected = 1</script><img src=x onerror="window.injected = 1">$x^2$ \' \\ &amp;'
ABOUT = {
    "versions": {"python": "3.11.7", "torch": "2.13.0+cpu"},
    "hardware": {"device": "cpu", "name": "x86_64"},
    "seconds": {"fit": 90.0, "evaluate": 30.0},
    "memory": {"process_bytes": 2**30},
    "selection": {"rule": "lowest validation loss", "split": "val"},
    "encoder": "uni_v1",
    "excluded": {"no slides": ["P1", "P2"]},
}


def full_folder(out: Path, simulated: str = "all") -> Path:
    """Five models on two cohorts, one of which ranks everybody right; a table of real patients; what is refused."""
    table = patients(folds=5, per_fold=16)
    generator = np.random.default_rng(0)
    cards = {"evil": {"title": INJECTED, "modality": "wsi"}, "amkd": {"beside": ["snn"]}}
    for cohort in ("stad", "brca"):
        for model in ("abmil", "evil", "snn", "amkd", "null"):
            for fold in range(5):
                risks = {"snn": -np.arange(16.0), "null": np.zeros(16)}.get(model, generator.normal(size=16))
                job = write_job(
                    out,
                    model,
                    fold=fold,
                    cohort=cohort,
                    table=table,
                    risks=risks,
                    simulated=simulated,
                    card=cards.get(model),
                )
                record = json.loads((job / "job.json").read_text())
                (job / "job.json").write_text(json.dumps(record | ABOUT))
                seal(job)
    for model in ("snn", "abmil"):
        for fold in range(3):
            write_job(out, model, fold=fold, cohort="hnsc", endpoint="dss")
    write_job(out, "mcat", fold=0, cohort="hnsc", endpoint="dss", error=f"the loss became {INJECTED}")
    write_job(out, "null", fold=0, cohort="hnsc", endpoint="dss")
    write_study_folder(out)
    write_map_folder(out)
    return out


def full_page(out: Path, simulated: str = "all") -> str:
    """The page of `full_folder`, with one row of external validation."""
    return page_html(build(full_folder(out, simulated)), [external_row()], out)


def external_row() -> ExternalRow:
    names = {"train": "hnsc", "test": "cptac-hnsc", "endpoint": "os", "folds": "event-stratified", "simulated": "all"}
    model = {"model": "snn", "title": "SNN", "reconstruction": "", "selected": "default"}
    counts = {"patients": 90, "events": 30, "models": 5, "seeds": 1}
    each, ensemble = {"mean": 0.61, "sd": 0.02, "low": 0.5, "high": 0.7}, (0.62, 0.5, 0.7)
    together = dict(zip(("ensemble", "ensemble_low", "ensemble_high"), ensemble, strict=True))
    return ExternalRow(**names, **model, **counts, **each, **together, logrank_p=0.2)


def write_study_folder(out: Path, simulated: str = "all") -> Path:
    """Two arms on one cohort, as `survbench ablate` leaves them."""
    folder = out / "studies" / "amkd-losses-demo-os-event-stratified"
    folder.mkdir(parents=True)
    nothing = dict.fromkeys(("low", "high", "p", "patient_low", "patient_high"), math.nan)
    arms = [
        {"arm": INJECTED, "first": True, "mean": 0.6, "difference": 0.0, "published": 0.716, "published_sd": 0.057},
        {"arm": "without", "first": False, "mean": 0.55, "difference": -0.05},
    ]
    common = {"cohort": "stad", "simulated": simulated, "seeds": 1, "sd": 0.1, "sd_seeds": math.nan, "reason": ""}
    pd.DataFrame([{**common, **nothing, **arm} for arm in arms]).to_csv(folder / "table.csv", index=False)
    (folder / "study.json").write_text(json.dumps({"study": "losses", "model": "amkd"}))
    return folder


def write_map_folder(out: Path) -> Path:
    """Two strengths of the traces, as `survbench study transfer` leaves them."""
    folder = out / "studies" / "amkd-transfer"
    folder.mkdir(parents=True)
    common = [{"patients": 60, "event_rate": 0.5, "trace": trace} for trace in (0.0, 2.0)]
    titles = {"amkd_student": "undistilled", "amkd": INJECTED, "oracle": "oracle", "oracle on slides": "on slides"}
    points = [{**one, "replicate": 0, "model": m, "title": t, "mean": 0.6} for one in common for m, t in titles.items()]
    pd.DataFrame(points).assign(sd=0.1).to_csv(folder / "curves.csv", index=False)
    gain = {"against": "amkd_student", "replicates": 1, "clear": False, "reason": "", "difference": 0.012, "p": 0.5}
    bounds = {"low": -0.1, "high": 0.13, "patient_low": -0.05, "patient_high": 0.08}
    pd.DataFrame([{**one, **gain, **bounds} for one in common]).to_csv(folder / "gains.csv", index=False)
    return folder
