"""A finished job as an MLflow model: its model files, a signature, and the way back from them to predicted risks.

Weights stay in safetensors and settings in JSON, so loading runs no code out of a file. Knows no tracking server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from survbench.cards import Modality
from survbench.data.batches import Split
from survbench.data.cohort import ExpressionScaler
from survbench.errors import BadConfig
from survbench.experiments.results import JobResult
from survbench.model import Objective, SurvivalModel
from survbench.training.steps import predict_logits

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

__all__ = ["RiskModel", "save_model"]

_OF_SLIDES = ("features", "coordinates", "slide", "patches")
_PER_PATIENT = ("patches", "expression", "clinical")


def save_model(result: JobResult, folder: str, model_id: str) -> None:
    """Write what `mlflow.pyfunc.load_model` loads into an empty folder.

    Parameters
    ----------
    model_id : of MLflow.
    """
    from mlflow import pyfunc
    from mlflow.models import Model

    record = result.record
    details = {"risk": record["risk_name"], "simulated": result.simulated or "no", "job": record["id"]}
    versions = {name: version.partition("+")[0] for name, version in record["versions"].items() if name != "python"}
    with TemporaryDirectory() as own:
        result.copy_model(Path(own) / "job")
        pyfunc.save_model(
            folder,
            loader_module=__name__,
            data_path=str(Path(own) / "job"),
            pip_requirements=[f"{name}=={version}" for name, version in versions.items() if version[0].isdigit()],
            mlflow_model=Model(signature=_signature(result), metadata=details, model_id=model_id),
        )


def _signature(result: JobResult) -> ModelSignature:
    """The inputs are arrays, the output is a table with one `risk` per patient.

    Of slides: `features` (patches, width), `coordinates` (patches, 2) in tile units and `slide` (patches,) of all
    patients one after another, and `patches` (patients,), how many each has. `expression` (patients, genes) as
    measured, in the order of the fitted genes. `clinical` (patients, columns) with NaN for unknown.
    """
    from mlflow.models import infer_signature

    inputs, one = result.fitted_state.inputs, np.zeros(1, np.int64)
    arrays = {
        Modality.SLIDES: {"features": _row(inputs.feature_width), "coordinates": _row(2), "slide": one, "patches": one},
        Modality.EXPRESSION: {"expression": _row(len(inputs.genes))},
        Modality.CLINICAL: {"clinical": _row(len(inputs.clinical))},
    }
    example = {name: array for modality in _granted(result) for name, array in arrays[modality].items()}
    return infer_signature(example, pd.DataFrame({"risk": [0.0]}))


def _row(columns: int) -> np.ndarray:
    return np.zeros((1, columns), np.float32)


def _granted(result: JobResult) -> tuple[Modality, ...]:
    return tuple(Modality(name) for name in result.identity["inference_inputs"])


def _load_pyfunc(path: str) -> RiskModel:
    """What `mlflow.pyfunc.load_model` calls, by this name."""
    result = JobResult.open(Path(path))
    return RiskModel(*result.load_model(torch.device("cpu")), result.fitted_state.scaler, _granted(result))


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
        BadConfig : arrays with different numbers of patients or patches.
        """
        given = {name: np.asarray(values) for name, values in given.items()}
        number = _same("patients", {name: len(given[name]) for name in _PER_PATIENT if name in given})
        bags = _bags(**{name: given[name] for name in _OF_SLIDES}) if Modality.SLIDES in self.granted else None
        clinical = given["clinical"].astype(np.float32) if Modality.CLINICAL in self.granted else None
        expression = None
        if Modality.EXPRESSION in self.granted and self.scaler is not None:
            expression = self.scaler.transform(given["expression"])
        patients, unknown = tuple(map(str, range(number))), np.full(number, np.nan)  # named by their position
        labels = {"time": unknown, "event": np.zeros(number, bool)}
        split = Split(patients=patients, **labels, expression=expression, bags=bags, clinical=clinical)
        logits = predict_logits(self.model, split, self.granted, torch.device("cpu"))
        return pd.DataFrame({"risk": self.objective.risk(logits).double().numpy()})


def _bags(features: np.ndarray, coordinates: np.ndarray, slide: np.ndarray, patches: np.ndarray) -> Any:
    """Patients' patches in memory, read as `BagStore` is read."""
    counts = {"features": len(features), "coordinates": len(coordinates), "slide": len(slide)}
    _same("patches", {**counts, "the sum of patches": int(patches.sum())})
    stops = patches.cumsum().tolist()
    starts = [0, *stops]
    return SimpleNamespace(
        dim=features.shape[1],
        features=features,
        coords=coordinates,
        span=lambda patient: (starts[int(patient)], stops[int(patient)]),
        size=lambda patient: int(patches[int(patient)]),
        slide_of=slide.__getitem__,
    )


def _same(what: str, counts: Mapping[str, int]) -> int:
    if len(set(counts.values())) > 1:
        each = ", ".join(f"{count} by {name}" for name, count in counts.items())
        raise BadConfig(f"the number of {what} is {each}", "they must be equal")
    return next(iter(counts.values()))
