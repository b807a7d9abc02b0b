"""What a model gave each patch of one patient: its attention maps, or its attention to chosen gene sets.

Every patient is asked about at a model that never saw it: that of the fold in which it was a test patient. Pictures and
files are in heatmap.py.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
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
from survbench.model import Prediction, SurvivalModel

__all__ = ["TOP", "Overlap", "PatchAttention", "chosen_patients", "gene_set_heatmap", "patch_heatmap"]

TOP = 5


@dataclass(frozen=True)
class Overlap:
    """How two maps of one patient agree.

    Attributes
    ----------
    shared : patches among the top five of both. by_chance : what two unrelated maps would share on average.
    rho : Spearman correlation over all patches; NaN where a map is uniform or there is one patch.
    """

    maps: tuple[str, str]
    shared: int
    by_chance: float
    rho: float


@dataclass(frozen=True)
class PatchAttention:
    """One patient's patches under the model of one fold and seed.

    Attributes
    ----------
    maps : names. table : one row per patch with `slide`, `patch` (its row in the slide's feature file), `x` and `y` (in
    units of a patch's edge, NaN where unknown), and for each map `weight NAME`, `rank NAME` (1 = highest) and
    `top NAME`, whether it is among the first five; in a uniform map no patch is.
    asked, equal : what weights are shares of, and what each would be if all were equal: they sum to 1 over `asked`.
    risk : the model's for this patient, in standard deviations of the fold's training patients.
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
    asked: str
    equal: float

    def relative(self, name: str) -> np.ndarray:
        """(patches,) weights, 1 = equal attention."""
        return self.table[f"weight {name}"].to_numpy() / self.equal

    def uniform(self, name: str) -> bool:
        """Whether the map tells no patch from another."""
        return _is_uniform(self.table[f"weight {name}"].to_numpy())

    def top(self, name: str) -> pd.DataFrame:
        """The rows of the first five, highest first."""
        return self.table[self.table[f"top {name}"]].sort_values(f"rank {name}")

    def overlaps(self) -> list[Overlap]:
        """Each pair of maps."""
        count = len(self.table)
        chance = min(TOP, count) ** 2 / count
        found = []
        for one, other in combinations(self.maps, 2):
            shared = int((self.table[f"top {one}"] & self.table[f"top {other}"]).sum())
            known = count > 1 and not self.uniform(one) and not self.uniform(other)
            weights = self.table[[f"weight {one}", f"weight {other}"]]
            rho = float(weights.corr("spearman").to_numpy()[0, 1]) if known else float("nan")
            found.append(Overlap((one, other), shared, chance, rho))
        return found


@dataclass(frozen=True)
class _Answer:
    """Maps of a batch: name -> (patches,), and whose weights sum to 1."""

    maps: Mapping[str, Tensor]
    asked: str
    sets: int = 0


def chosen_patients(jobs: Sequence[Job], out: Path, names: Sequence[str], count: int) -> list[tuple[Job, str]]:
    """Each patient with the job whose model never saw it; of several seeds the first.

    Parameters
    ----------
    jobs : of one model on one cohort. names : patients; if empty, `count` test patients are taken whose risk is highest
    against the training patients of their fold.

    Raises
    ------
    UnknownName : the cohort has no such patient. BadConfig : its fold was not asked for, or has no result.
    """
    seed = jobs[0].seed
    ours = [job for job in jobs if job.seed == seed]
    if not names:
        found = find_results(ours, out)
        risks = pd.concat([_test_risks(result).to_frame("risk").assign(job=i) for i, result in enumerate(found)])
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
                "leave out --fold: only a model that never saw the patient is asked",
            )
        find_results([job], out)
        chosen.append((job, name))
    return chosen


def patch_heatmap(job: Job, patient: str, out: Path, device: torch.device) -> PatchAttention:
    """All attention maps that the model has.

    Raises
    ------
    BadConfig : it has none.
    """

    def ask(model: SurvivalModel, prediction: Prediction, batch: Batch) -> _Answer:
        maps = model.attention_maps(prediction, batch)
        if not maps:
            raise BadConfig(
                f"model {job.card.name} has no attention over patches", "most models with attention pooling have"
            )
        return _Answer(maps, "patches")

    return _of_patient(job, patient, out, device, ask)


def gene_set_heatmap(job: Job, patient: str, sets: Sequence[str], out: Path, device: torch.device) -> PatchAttention:
    """One map for each of the named pathways, or of the gene families that the model works with.

    Raises
    ------
    BadConfig : the model relates no patches to gene sets. UnknownName : it does not know a set.
    """

    def ask(model: SurvivalModel, prediction: Prediction, batch: Batch) -> _Answer:
        found = model.gene_set_attention(prediction, batch)
        if found is None:
            raise BadConfig(
                f"model {job.card.name} has no attention between patches and pathways",
                "name one whose patches and pathways meet",
            )
        names = [_known_set(name, found.sets) for name in sets]
        maps = {name: found.weights[:, found.sets.index(name)] for name in names}
        return _Answer(maps, found.axis, len(found.sets))

    return _of_patient(job, patient, out, device, ask)


def _known_set(name: str, known: Sequence[str]) -> str:
    folded = {each.casefold(): each for each in known}
    if name.casefold() in folded:
        return folded[name.casefold()]
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.4)
    hint = f"Did you mean '{folded[close[0]]}'?" if close else f"Known: {', '.join(known[:8])}, ..."
    raise UnknownName(f"Unknown pathway '{name}'", hint)


def _test_risks(result: JobResult) -> pd.Series:
    """Of the fold's test patients, in standard deviations of its training patients."""
    told = result.predictions()
    training = told.loc[told["split"] == "train", "risk"]
    test = told[told["split"] == "test"].set_index("patient")["risk"]
    return (test - training.mean()) / (training.std(ddof=0) or 1.0)


@torch.no_grad()
def _of_patient(
    job: Job,
    patient: str,
    out: Path,
    device: torch.device,
    ask: Callable[[SurvivalModel, Prediction, Batch], _Answer],
) -> PatchAttention:
    card, bags = job.card, job.cohort.bags
    if Modality.SLIDES not in card.train_inputs or bags is None:
        raise BadConfig(f"model {card.name} sees no slides", "name one that does")
    result = JobResult.of(job, out)
    model, _ = result.load_model(device, job=job)
    split = job.cohort.split((patient,), job.cohort.scaler(job.fold))
    only = np.array([0])
    seen, learned = (
        device_batch(split.batch(only, granted, labels=False), device)
        for granted in (card.inference_inputs, card.train_inputs)
    )
    answer = ask(model, model(seen), learned)
    patches = learned.sizes[0]
    for name, weights in answer.maps.items():
        if weights.shape != (patches,) or not torch.isfinite(weights).all():
            raise BadModel(
                f"model {card.name}: map '{name}' has shape {tuple(weights.shape)} or is not finite, "
                f"expected one number for each of {patches} patches"
            )
    start, stop = bags.span(patient)
    numbers = bags.slide_of(slice(start, stop))
    table = pd.DataFrame({"slide": [bags.slides[number] for number in numbers]})
    table["patch"] = table.groupby("slide").cumcount()
    table[["x", "y"]] = learned.pos.cpu().numpy().astype(np.float64)
    for name, weights in answer.maps.items():
        values = weights.double().cpu().numpy()
        table[f"weight {name}"] = values
        table[f"rank {name}"] = table[f"weight {name}"].rank(ascending=False, method="first").astype(int)
        table[f"top {name}"] = (table[f"rank {name}"] <= TOP) & (not _is_uniform(values))
    return PatchAttention(
        card.name,
        card.title,
        job.cohort.name,
        job.cohort.simulated,
        patient,
        job.fold.index,
        job.seed,
        float(_test_risks(result)[patient]),
        tuple(answer.maps),
        table,
        answer.asked,
        1 / (patches if answer.asked == "patches" else answer.sets),
    )


def _is_uniform(weights: np.ndarray) -> bool:
    return bool(np.ptp(weights) <= 1e-6 * np.abs(weights).max())
