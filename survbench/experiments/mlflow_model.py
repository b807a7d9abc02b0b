"""A finished job as an MLflow model: its own files, a signature, and the way back from them to predicted risks.

Weights stay in safetensors and settings in JSON, so loading runs no code out of a file. Knows no tracking server.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from survbench.cards import Modality
from survbench.data.batches import Split
from survbench.data.cohort import ExpressionScaler
from survbench.errors import BadConfig
from survbench.experiments.build import build_objective
from survbench.model import Inputs, Objective, SurvivalModel
from survbench.registry import import_target
from survbench.training.steps import predict_logits

__all__ = ["MODEL_FILES", "RiskModel", "can_describe", "describe_model"]

MODEL_FILES = ("job.json", "fitted.json", "model.safetensors")
_SLIDES = ("features", "coordinates", "slide", "patches")


def can_describe(record: Mapping[str, Any], fitted: Mapping[str, Any]) -> bool:
    """False for a model that looks at nothing, and for a job that does not record what its model is built from."""
    return "inputs" in fitted and "target" in record and bool(record["identity"]["inference_inputs"])


def describe_model(record: Mapping[str, Any], fitted: Mapping[str, Any], model_id: str) -> str:
    """Content of the file `MLmodel` that belongs beside `MODEL_FILES`.

    The inputs are arrays. Of slides: `features` (patches, width), `coordinates` (patches, 2) in tile units and `slide`
    (patches,) of all patients one after another, and `patches` (patients,), how many each has. `expression` (patients,
    genes) as measured, in the order of `genes` in fitted.json. `clinical` (patients, columns) with NaN for unknown.
    The output is a table with one `risk` per patient.
    """
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import ColSpec, Schema, TensorSpec

    width = fitted["inputs"]["feature_width"]
    arrays: dict[Modality, dict[str, tuple[type, tuple[int, ...]]]] = {
        Modality.SLIDES: {
            "features": (np.float32, (-1, width)),
            "coordinates": (np.float32, (-1, 2)),
            "slide": (np.int64, (-1,)),
            "patches": (np.int64, (-1,)),
        },
        Modality.EXPRESSION: {"expression": (np.float32, (-1, len(fitted["genes"])))},
        Modality.CLINICAL: {"clinical": (np.float32, (-1, len(fitted["inputs"]["clinical"])))},
    }
    granted = [arrays[Modality(name)] for name in record["identity"]["inference_inputs"]]
    specs: list[Any] = [TensorSpec(np.dtype(kind), shape, name) for of in granted for name, (kind, shape) in of.items()]
    signature = ModelSignature(Schema(specs), Schema([ColSpec("double", "risk")]))
    flavor = {"loader_module": __name__, "python_version": platform.python_version()}
    about = {"risk": record["risk_name"], "simulated": record["simulated"] or "no", "job": record["id"]}
    return Model(signature=signature, flavors={"python_function": flavor}, metadata=about, model_id=model_id).to_yaml()


def _load_pyfunc(path: str) -> RiskModel:
    """What `mlflow.pyfunc.load_model` calls, by this name."""
    folder = Path(path)
    record, fitted = (json.loads((folder / name).read_text(encoding="utf-8")) for name in MODEL_FILES[:2])
    identity, given = record["identity"], fitted["inputs"]
    objective = build_objective(identity["objective"]).from_state(fitted["objective"])
    pathways, families = (
        {name: tuple(genes) for name, genes in given[sets].items()} for sets in ("pathways", "families")
    )
    width, clinical = given["feature_width"], tuple(given["clinical"])
    inputs = Inputs(width, tuple(fitted["genes"]), pathways, families, clinical)
    model = import_target(record["target"])(inputs, objective.outputs, **identity["config"])
    model.load_state_dict(load_file(folder / MODEL_FILES[2]))
    scaler = None
    if fitted["expression_mean"]:
        scaler = ExpressionScaler(np.array(fitted["expression_mean"]), np.array(fitted["expression_scale"]))
    granted = tuple(Modality(name) for name in identity["inference_inputs"])
    return RiskModel(model.eval(), objective, scaler, granted)


@dataclass(frozen=True)
class _Bags:
    """Patients' patches in memory, read as a packed store is read."""

    features: np.ndarray
    coords: np.ndarray
    slide: np.ndarray
    patches: np.ndarray

    @property
    def dim(self) -> int:
        return int(self.features.shape[1])

    @cached_property
    def _stops(self) -> np.ndarray:
        return np.cumsum(self.patches)

    def span(self, patient: str) -> tuple[int, int]:
        stop = int(self._stops[int(patient)])
        return stop - self.size(patient), stop

    def size(self, patient: str) -> int:
        return int(self.patches[int(patient)])

    def slide_of(self, rows: slice | np.ndarray) -> np.ndarray:
        return self.slide[rows]


@dataclass(frozen=True)
class RiskModel:
    """Predicts risks on the CPU, from the modalities that the model was scored with."""

    model: SurvivalModel
    objective: Objective
    scaler: ExpressionScaler | None
    granted: tuple[Modality, ...]

    def predict(self, given: Mapping[str, np.ndarray], params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """One row per patient, with `risk` (higher is worse).

        Raises
        ------
        BadConfig : arrays that speak of different numbers of patients or patches.
        """
        split = self._split({name: np.asarray(values) for name, values in given.items()})
        logits = predict_logits(self.model, split, self.granted, torch.device("cpu"))
        return pd.DataFrame({"risk": self.objective.risk(logits).double().numpy()})

    def _split(self, given: Mapping[str, np.ndarray]) -> Split:
        """The patients, named by their position."""
        per_patient = {name: len(given[name]) for name in ("patches", "expression", "clinical") if name in given}
        _same("patients", per_patient)
        bags: Any = None
        if Modality.SLIDES in self.granted:
            counted = {"the sum of patches": int(given["patches"].sum())}
            _same("patches", {name: len(given[name]) for name in _SLIDES[:3]} | counted)
            bags = _Bags(*(given[name] for name in _SLIDES))
        number = next(iter(per_patient.values()))
        expression = None
        if Modality.EXPRESSION in self.granted and self.scaler is not None:
            expression = self.scaler.transform(given["expression"])
        unknown = np.full(number, np.nan)
        patients = tuple(map(str, range(number)))
        clinical = given["clinical"].astype(np.float32) if Modality.CLINICAL in self.granted else None
        return Split(patients, unknown, np.zeros(number, bool), expression, bags, clinical)


def _same(what: str, counts: Mapping[str, int]) -> None:
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count} by {name}" for name, count in counts.items())
        raise BadConfig(f"the number of {what} is {told}", "give one number of them")
