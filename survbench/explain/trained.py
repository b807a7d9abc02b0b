"""Finished jobs, their trained models again; what is asked of them is in the modules beside this one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from survbench.errors import BadConfig
from survbench.experiments.job import Job
from survbench.experiments.plan import build_model, build_objective
from survbench.model import SurvivalModel
from survbench.training.objectives import Objective

__all__ = ["load_trained", "refuse_unfinished"]


def refuse_unfinished(jobs: Sequence[Job], out: Path) -> None:
    """Raises BadConfig where a job has no result."""
    first = jobs[0]
    missing = [job.title for job in jobs if not job.folder(out).exists()]
    if missing:
        raise BadConfig(
            f"{len(missing)} of {len(jobs)} jobs have no result in {out}, first {missing[0]}",
            f"survbench run --model {first.card.name} --cohort {first.cohort.name}, with the same options",
        )


def load_trained(job: Job, out: Path, device: torch.device) -> tuple[SurvivalModel, Objective]:
    """The job's model in evaluation mode and its fitted objective."""
    folder = job.folder(out)
    state = json.loads((folder / "fitted.json").read_text(encoding="utf-8"))
    objective = build_objective(job.objective).from_state(state["objective"])
    model = build_model(job, objective)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.to(device).eval(), objective
