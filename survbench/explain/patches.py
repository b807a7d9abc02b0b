"""Attention of a model over the patches of one patient: its own maps, or its attention to chosen gene sets.

A patient's model is that of the fold in which it was a test patient, so that it never saw the patient. Figures and
files are in heatmap.py.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import Batch

from survbench.cards import Modality
from survbench.data.batches import device_batch
from survbench.errors import BadConfig, BadModel, UnknownName
from survbench.experiments.job import Job
from survbench.experiments.results import JobResult, find_results
from survbench.model import Asking, Prediction, SurvivalModel

__all__ = ["TOP", "Overlap", "PatchAttention", "chosen_patients", "patch_attention"]

TOP = 5


@dataclass(frozen=True)
class Overlap:
    """How two maps of one patient agree.

    Attributes
    ----------
    maps : their names.
    shared : patches among the top five of both.
    by_chance : what two unrelated maps would share on average.
    rho : Spearman correlation over all patches; NaN where a map is uniform or there is one patch.
    """

    maps: tuple[str, str]
    shared: int
    by_chance: float
    rho: float


@dataclass(frozen=True, kw_only=True)
class PatchAttention:
    """One patient's patches under the model of one fold and seed.

    Attributes
    ----------
    model : its name.
    title : the model's for tables and figures.
    cohort : its name.
    simulated : empty, `slides` or `all`: how much of the cohort is simulated.
    patient : its identifier.
    fold : outer fold in which it is a test patient.
    seed : of the model's training.
    risk : the model's for this patient, in standard deviations of the fold's training patients.
    maps : their names.
    table : one row per patch with `slide`, `patch` (its row in the slide's feature file), `x` and `y` (in units of a
        patch's edge, NaN where unknown), and for each map `weight NAME`, `rank NAME` (1 = highest) and `top NAME`,
        whether it is among the first five; in a uniform map no patch is.
    axis : over what the weights sum to 1, `patches` or `gene sets`.
    equal : each weight if all along the axis were equal.
    """

    model: str
    title: str
    cohort: str
    simulated: str
    patient: str
    fold: int
    seed: int
    risk: float
    maps: tuple[str, ...]
    table: pd.DataFrame
    axis: str
    equal: float

    def relative(self, name: str) -> np.ndarray:
        """(patches,) weights, 1 = equal attention."""
        return self.table[f"weight {name}"].to_numpy() / self.equal

    def uniform(self, name: str) -> bool:
        """Whether all patches have the same weight."""
        return _is_uniform(self.table[f"weight {name}"].to_numpy())

    def top(self, name: str) -> pd.DataFrame:
        """The rows of the first five, highest first."""
        return self.table[self.table[f"top {name}"]].sort_values(f"rank {name}")

    def overlaps(self) -> list[Overlap]:
        """Each pair of maps."""
        count = len(self.table)
        chance = min(TOP, count) ** 2 / count
        overlaps = []
        for one, other in combinations(self.maps, 2):
            shared = int((self.table[f"top {one}"] & self.table[f"top {other}"]).sum())
            known = count > 1 and not self.uniform(one) and not self.uniform(other)
            weights = self.table[[f"weight {one}", f"weight {other}"]]
            rho = float(weights.corr("spearman").to_numpy()[0, 1]) if known else float("nan")
            overlaps.append(Overlap((one, other), shared, chance, rho))
        return overlaps


def chosen_patients(jobs: Sequence[Job], out: Path, names: Sequence[str], count: int) -> list[tuple[Job, str]]:
    """Each patient with the job whose model never saw it; of several seeds the first.

    Parameters
    ----------
    jobs : of one model on one cohort.
    out : folder of the results.
    names : patients; if empty, those test patients whose risk is highest against the training patients of their fold.
    count : how many of highest risk.

    Raises
    ------
    UnknownName : the cohort has no such patient.
    BadConfig : the fold of a patient is not among the jobs, or has no result.
    """
    seed = jobs[0].seed
    ours = [job for job in jobs if job.seed == seed]
    if not names:
        results = find_results(ours, out)
        risks = pd.concat([_test_risks(result).to_frame("risk").assign(job=i) for i, result in enumerate(results)])
        highest = risks.sort_values("risk", ascending=False, kind="stable").head(count)
        return [(ours[i], str(patient)) for patient, i in highest["job"].items()]
    chosen = []
    for name in names:
        known = ours[0].cohort.patients.index
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean '{close[0]}'?" if close else f"for example {known[0]}"
            raise UnknownName(f"cohort {ours[0].cohort.name} has no complete patient '{name}'", hint)
        job = next((job for job in ours if name in job.fold.test), None)
        if job is None:
            raise BadConfig(
                f"patient {name} is no test patient of fold {', '.join(str(job.fold.index) for job in ours)}",
                "leave out --only-folds: only a model that never saw the patient can explain it",
            )
        find_results([job], out)
        chosen.append((job, name))
    return chosen


@torch.no_grad()
def patch_attention(
    job: Job, patient: str, out: Path, device: torch.device, sets: Sequence[str] = ()
) -> PatchAttention:
    """All attention maps that the model has, or one map for each of some gene sets.

    Parameters
    ----------
    job : finished, with the patient among its test patients.
    patient : its identifier.
    out : folder of the results.
    device : to predict on.
    sets : names of pathways, or of the gene families that the model works with.

    Raises
    ------
    BadConfig : the model has no slides among its inputs, no attention over patches, or relates none to gene sets.
    UnknownName : the model does not know a set.
    BadModel : a map is not one finite number for each patch.
    """
    card, bags = job.card, job.cohort.bags
    if Modality.SLIDES not in card.train_inputs or bags is None:
        raise BadConfig(f"model {card.name} sees no slides", "name one that does")
    result = JobResult.of(job, out)
    model, _ = result.load_model(device, job=job)
    split, only = job.cohort.split((patient,), job.cohort.scaler(job.fold)), np.array([0])
    seen, learned = (
        device_batch(split.batch(only, granted, labels=False), device)
        for granted in (card.inference_inputs, card.train_inputs)
    )
    maps, axis, equal = _attention(model, model(seen), learned, card.name, sets)
    numbers = bags.slide_of(slice(*bags.span(patient)))
    table = pd.DataFrame({"slide": [bags.slides[number] for number in numbers]})
    table["patch"] = table.groupby("slide").cumcount()
    table[["x", "y"]] = learned.pos.cpu().numpy().astype(np.float64)
    for name, weights in maps.items():
        values = weights.double().cpu().numpy()
        table[f"weight {name}"] = values
        table[f"rank {name}"] = table[f"weight {name}"].rank(ascending=False, method="first").astype(int)
        table[f"top {name}"] = (table[f"rank {name}"] <= TOP) & (not _is_uniform(values))
    return PatchAttention(
        model=card.name,
        title=card.title,
        cohort=job.cohort.name,
        simulated=job.cohort.simulated,
        patient=patient,
        fold=job.fold.index,
        seed=job.seed,
        risk=float(_test_risks(result)[patient]),
        maps=tuple(maps),
        table=table,
        axis=axis,
        equal=equal,
    )


def _attention(
    model: SurvivalModel, prediction: Prediction, batch: Batch, name: str, sets: Sequence[str]
) -> tuple[Mapping[str, Tensor], str, float]:
    """Maps of one patient, name -> (patches,), over what their weights sum to 1, and the weight if all were equal."""
    patches = batch.sizes[0]
    axis, size = "patches", patches
    if sets:
        attended = model.gene_set_attention(prediction, batch)
        if attended is None:
            what = f"model {name} has no attention between patches and pathways"
            raise BadConfig(what, "name one whose patches and pathways meet")
        chosen = [_known_set(one, attended.sets) for one in sets]
        maps: Mapping[str, Tensor] = {one: attended.weights[:, attended.sets.index(one)] for one in chosen}
        if attended.asking is not Asking.SETS:
            axis, size = "gene sets", len(attended.sets)
    else:
        maps = model.attention_maps(prediction, batch)
        if not maps:
            what = f"model {name} has no attention over patches"
            raise BadConfig(what, "most models with attention pooling have")
    for one, weights in maps.items():
        if weights.shape != (patches,) or not torch.isfinite(weights).all():
            raise BadModel(
                f"model {name}: map '{one}' has shape {tuple(weights.shape)} or is not finite, "
                f"expected one number for each of {patches} patches"
            )
    return maps, axis, 1 / size


def _known_set(name: str, known: Sequence[str]) -> str:
    folded = {each.casefold(): each for each in known}
    if name.casefold() in folded:
        return folded[name.casefold()]
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.4)
    hint = f"Did you mean '{folded[close[0]]}'?" if close else f"Known: {', '.join(known[:8])}, ..."
    raise UnknownName(f"Unknown pathway '{name}'", hint)


def _test_risks(result: JobResult) -> pd.Series:
    """Of the fold's test patients, in standard deviations of its training patients."""
    predictions = result.predictions()
    training = predictions.loc[predictions["split"] == "train", "risk"]
    test = predictions[predictions["split"] == "test"].set_index("patient")["risk"]
    return (test - training.mean()) / (training.std(ddof=0) or 1.0)


def _is_uniform(weights: np.ndarray) -> bool:
    return bool(np.ptp(weights) <= 1e-6 * np.abs(weights).max())
