"""What is recorded: each part is some commands on the demo and what is kept of their answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import yaml

from benchmarks.same_results import collected
from benchmarks.same_results.suite import Options, Recorder

__all__ = ["PARTS"]


def _models(at: Recorder) -> None:
    """Every model with its registered settings."""
    at.train("run", model="all", cohort="hnsc", fold="0,1")
    at.keep_jobs()


def _losses(at: Recorder) -> None:
    """AMKD's loss ablation, registered settings; with two folds there is no table."""
    at.train("ablate", study="losses", cohort="hnsc", fold="0,1")
    at.keep_jobs()


def _losses_table(at: Recorder) -> None:
    """The same on all folds, with its table."""
    at.train("ablate", study="losses", cohort="hnsc", preset="rehearsal")
    at.keep_jobs()
    for file in sorted(at.out.glob("studies/**/*.csv")):
        at.keep(file.name, file.read_text(encoding="utf-8"))


def _external(at: Recorder) -> None:
    """Models of one cohort applied, frozen, to another."""
    at.train("run", model="abmil,snn,cox_clinical", train="hnsc", test="cptac-hnsc", preset="rehearsal")
    at.keep_jobs()
    applied = collected.read_external(at.out / "external")
    at.keep_table("external", [row for job in applied for row in job.predictions()])
    at.document("leaderboard", "leaderboard", out=str(at.out))


def _answers(at: Recorder) -> None:
    """Results of complete rows: tables, differences, risk groups, explanations."""
    chosen: dict[str, Options] = {"preset": "rehearsal", "seeds": "0,1"}
    at.train("run", model="abmil,snn,amkd,mcat,cox_clinical,null", cohort="hnsc,stad", **chosen)
    at.keep_jobs()
    out = {"out": str(at.out)}
    at.document("leaderboard", "leaderboard", **out)
    at.document("compare", "compare", "all", **out)
    at.document("km", "km", **out)
    explained: dict[str, Options] = {**out, **chosen, "cohort": "hnsc", "device": "cpu"}
    at.document("pathways", "explain pathways", model="amkd", **explained)
    at.document("attribution", "explain attribution", model="snn,mcat", **explained)
    at.document("heatmap", "explain heatmap", model="amkd,abmil,mcat", **explained)
    at.document("pathway-heatmap", "explain pathway-heatmap", model="amkd", pathway="DEMO_STROMA_1", **explained)


def _choices(at: Recorder) -> None:
    """Other objectives, folds, samples of patches, teachers and targets."""
    chosen: dict[str, Options] = {"cohort": "hnsc", "fold": "0", "preset": "rehearsal", "no_mlflow": True}
    at.train("run", model="abmil,snn,mcat,survpath", objective="nll", set=("patches=8",), **chosen)
    at.train("run", model="amkd,snn", objective="cox-breslow", **chosen)
    at.train("run", model="abmil,snn", scheme="site-preserving", **chosen)
    at.train("run", model="amkd", set=("targets=out-of-fold", "alpha=0.5", "batch_size=8"), **chosen)
    at.train("run", model="amkd", set=("teacher=survpath", "tau=4"), **chosen)
    at.keep_jobs(mirrored=False)


def _data(at: Recorder) -> None:
    """The demo's cohorts and folds, and sizes of models."""
    at.document("cohorts", "cohorts")
    at.document("folds", "folds")
    at.document("folds-site", "folds", scheme="site-preserving")
    at.document("complexity", "complexity", patches=256)


def _tune(at: Recorder) -> None:
    """What validation chooses."""
    chosen: dict[str, Options] = {"fold": "0,1", "seeds": "0", "preset": "rehearsal", "device": "cpu"}
    at.run("tune", model="amkd", cohort="hnsc", trials=8, out=str(at.out), **chosen)
    for file in sorted(at.out.glob("tune/*/*")):
        if file.name == "preset.yaml":
            at.keep("preset.json", json.dumps(yaml.safe_load(file.read_text(encoding="utf-8")), indent=1))
        elif file.name == "trials.csv":
            at.keep(file.name, file.read_text(encoding="utf-8"))


PARTS: Mapping[str, Callable[[Recorder], None]] = {
    "data": _data,
    "choices": _choices,
    "external": _external,
    "losses-table": _losses_table,
    "tune": _tune,
    "answers": _answers,
    "losses": _losses,
    "models": _models,
}
