"""The one interface of all models: what goes in, what comes out, and in which stages a model is trained.

No optimizer, loop, device or file is known here or in any model: training/ has those.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import KW_ONLY, dataclass, field
from enum import StrEnum
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import numpy as np
from torch import Tensor, nn

from survbench.cards import Modalities, Modality, ModelCard, ModelGroup, Reference, takes_old_calls
from survbench.foreign.official_weights import load_whole, rename_state, unwrapped

if TYPE_CHECKING:
    from torch_geometric.data import Batch

__all__ = [
    "AttentionAxis",
    "Distillation",
    "DistillationTeacher",
    "Estimation",
    "GeneSetAttention",
    "Inputs",
    "Losses",
    "Modalities",
    "Modality",
    "ModelCard",
    "ModelGroup",
    "Objective",
    "Prediction",
    "Reference",
    "Sample",
    "Stage",
    "SurvivalModel",
    "rename_state",
]

Losses = dict[str, Tensor]
"""Named scalar terms of a loss. `total` is minimized; the others are recorded."""


class Objective(Protocol):
    """A training objective.

    Attributes
    ----------
    name : as it is registered.
    outputs : logits that a model must predict per patient.
    risk_name : what the risk is, for the record.
    """

    name: str
    outputs: int
    risk_name: str

    def fit(self, time: np.ndarray, event: np.ndarray) -> Self:
        """A copy fitted on the training split alone.

        Parameters
        ----------
        time : (patients,) months.
        event : (patients,), True = died.
        """

    def state(self) -> dict[str, Any]:
        """What `fit` learned, as JSON values."""

    def from_state(self, state: Mapping[str, Any]) -> Self:
        """The fitted objective again."""

    def loss(self, logits: Tensor, time: Tensor, event: Tensor) -> Tensor:
        """Scalar loss.

        Parameters
        ----------
        logits : (B, outputs).
        time : (B,) months.
        event : (B,), True = died.
        """

    def risk(self, logits: Tensor) -> Tensor:
        """(B, outputs) -> (B,)."""

    def survival(
        self,
        train_logits: Tensor,
        train_time: np.ndarray,
        train_event: np.ndarray,
        logits: Tensor,
        grid: np.ndarray,
    ) -> np.ndarray:
        """Survival probabilities, from training data and logits alone.

        Parameters
        ----------
        train_logits : (training patients, outputs).
        train_time : (training patients,) months.
        train_event : (training patients,), True = died.
        logits : (B, outputs).
        grid : (times,) months.

        Returns
        -------
        (B, times)
        """


@takes_old_calls()
@dataclass(frozen=True)
class Inputs:
    """What a model needs to know about a cohort to be built.

    Attributes
    ----------
    feature_width : length of a patch's feature vector; 0 where the cohort has no slides.
    genes : names of the columns of `batch.expression`; empty where the cohort has no expression.
    pathways : name -> positions of its member genes in `genes`, each non-empty and ascending.
    families : the same for the functional gene families of MCAT; empty where the cohort has none.
    clinical : names of the columns of `batch.clinical`; empty where the cohort has none.
    """

    feature_width: int
    _: KW_ONLY
    genes: tuple[str, ...] = ()
    pathways: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    families: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    clinical: tuple[str, ...] = ()


@dataclass
class Prediction:
    """What a model predicts for the B patients of a batch.

    Attributes
    ----------
    logits : (B, outputs); the objective decides how many outputs there are and what they mean.
    attention : (patches of the batch,), non-negative, summing to 1 over each patient's bag; None without attention.
    aux : whatever else the model's own loss needs.
    """

    logits: Tensor
    attention: Tensor | None = None
    aux: dict[str, Any] = field(default_factory=dict)


class AttentionAxis(StrEnum):
    """The axis over which attention weights between patches and gene sets are normalized."""

    SETS = "gene sets"  # the weights of each patch sum to 1 over the gene sets
    PATCHES = "patches"  # the weights of each gene set sum to 1 over the patches of each patient's bag


@takes_old_calls(renamed={"asking": "axis"})
@dataclass(frozen=True)
class GeneSetAttention:
    """Attention between patches and gene sets, for explaining.

    Attributes
    ----------
    sets : names of the gene sets, pathways or families.
    weights : (patches of the batch, sets), non-negative.
    axis : over which the weights sum to 1.
    """

    sets: tuple[str, ...]
    weights: Tensor
    axis: AttentionAxis


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """What a stage needs that teaches or is taught, and no other one.

    Attributes
    ----------
    held_out : (k, K) trains a teacher without part k of K parts of the training patients, so that it can predict them
        as patients that it never saw; None trains it on all.
    parts : K adds to the batches of a student `part`, the number of each patient's part, on the host; 0 adds none.
    prepare : receives the training batches once before the first epoch, always the same ones, to compute without
        gradient what no epoch changes; the context that it returns lasts until the stage ends.
    """

    held_out: tuple[int, int] | None = None
    parts: int = 0
    prepare: Callable[[Iterable[Batch]], AbstractContextManager[None]] | None = None


@runtime_checkable
class DistillationTeacher(Protocol):
    """A model that can teach more than its logits; every other model can teach those.

    Attributes
    ----------
    guided_width : width of `aux["guided"]` of its predictions (patches, guided_width): patch features informed by
        expression, which a student without expression learns to imitate.
    """

    guided_width: int


@takes_old_calls(grouped={"distillation": Distillation})
@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stretch of training: which weights move, what is predicted, what is minimized.

    Attributes
    ----------
    name : of the stage in records and messages; no two stages of a model share it.
    trained : the part of the model whose weights move. Everything else is frozen and in evaluation mode.
    inputs : modalities granted to the training batches of this stage.
    predict : batch -> prediction, in training and in validation.
    loss : (prediction, batch, objective) -> named terms with `total`.
    validation_inputs : modalities granted while validating; by default those of training.
    training : trainer settings of this stage that differ from the run's.
    selected_by : what must be lowest on the validation split: the objective, or the stage's own loss where a stage
        learns something else than survival.
    decided_by : the settings that alone decide what this stage learns, so that jobs which agree in them train it once;
        None means all settings.
    distillation : of stages that teach or are taught.
    """

    name: str
    trained: nn.Module
    inputs: Modalities
    predict: Callable[[Batch], Prediction]
    loss: Callable[[Prediction, Batch, Objective], Losses]
    validation_inputs: Modalities | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    selected_by: Literal["objective", "loss"] = "objective"
    decided_by: Mapping[str, Any] | None = None
    distillation: Distillation = Distillation()


@dataclass(frozen=True)
class Sample:
    """Patients as plain numbers.

    Attributes
    ----------
    values : (patients, columns) float64.
    time : (patients,) months.
    event : (patients,), True = died.
    """

    values: np.ndarray
    time: np.ndarray
    event: np.ndarray


@takes_old_calls(grouped={"distillation": Distillation})
@dataclass(frozen=True, kw_only=True)
class Estimation:
    """A stage without epochs, for models that are fitted by a formula or by another library.

    Attributes
    ----------
    name : as of a `Stage`.
    trained : the part whose buffers `estimate` fills.
    inputs : modalities granted to every batch.
    predict : batch -> prediction.
    summarize : batch without labels -> (B, columns), so that slides stream through and only these numbers are kept.
    estimate : (training sample, validation sample, seed); the validation sample is for choosing, never for fitting.
    decided_by : as of a `Stage`.
    distillation : as of a `Stage`.
    """

    name: str
    trained: nn.Module
    inputs: Modalities
    predict: Callable[[Batch], Prediction]
    summarize: Callable[[Batch], Tensor]
    estimate: Callable[[Sample, Sample, int], None]
    decided_by: Mapping[str, Any] | None = None
    distillation: Distillation = Distillation()


class SurvivalModel(nn.Module):
    """Base of all models. A model defines `__init__(inputs, outputs, **settings)` and `forward`; the rest has defaults.

    The settings of a model are the keyword-only parameters of its `__init__`; their defaults are its configuration.
    `batch` holds, as far as granted: `x` (patches, features), `ptr` (B + 1), `batch` (patches), `sizes` patches of
    each patient as numbers, `pos` (patches, 2) in tile units, `slide` (patches) number of the slide, `expression` (B,
    genes) standardized on the training split, `clinical` (B, columns) with NaN for unknown; while training also `time`
    (B) in months and `event` (B). Reading anything that was not granted raises `ModalityDenied`.
    """

    card: ClassVar[ModelCard]
    """Needed only by models outside registry.yaml: in single files and in other packages."""
    official_names: ClassVar[Mapping[str, str]] = {}
    """Prefix of a weight's name in the official implementation -> ours; see `rename_state`."""
    model_settings: ClassVar[tuple[str, ...]] = ()
    """Settings that may name another registered model; the name is replaced by a `Reference`."""
    order_matters: str = ""
    """Why the stored order of a bag's patches changes the prediction; empty where it does not."""

    def forward(self, batch: Batch) -> Prediction:
        """Predict the patients of a batch from the modalities granted for inference."""
        raise NotImplementedError(f"{type(self).__name__} does not define forward(batch)")

    def loss(self, prediction: Prediction, batch: Batch, objective: Objective) -> Losses:
        """The objective alone, unless a model has terms of its own."""
        return {"total": objective.loss(prediction.logits, batch.time, batch.event)}

    def stages(self, train_inputs: Modalities, inference_inputs: Modalities) -> Sequence[Stage | Estimation]:
        """Training stages in order; by default one that trains everything."""
        return [self.survival_stage("fit", train_inputs, inference_inputs)]

    def survival_stage(
        self, name: str, train_inputs: Modalities, inference_inputs: Modalities, trained: nn.Module | None = None
    ) -> Stage:
        """A stage on the model's own loss that trains one part of it, by default everything."""
        return Stage(
            name=name,
            trained=trained or self,
            inputs=train_inputs,
            predict=self,
            loss=self.loss,
            validation_inputs=inference_inputs,
        )

    def pathway_attention(self, batch: Batch) -> Tensor | None:
        """(B, pathways), non-negative, summing to 1 over the pathways; None for a model that attends to none.

        For explaining, so the batch carries what the model was trained with.
        """
        return None

    def attention_maps(self, prediction: Prediction, batch: Batch) -> Mapping[str, Tensor]:
        """What a heatmap over a slide can show.

        Parameters
        ----------
        prediction : of these patients, made from what is granted for inference.
        batch : the same patients with what the model was trained with, for models that had help while learning.

        Returns
        -------
        name -> (patches,), each like `Prediction.attention`; empty without attention.
        """
        return {} if prediction.attention is None else {"attention": prediction.attention}

    def gene_set_attention(self, prediction: Prediction, batch: Batch) -> GeneSetAttention | None:
        """How patches and gene sets attend to each other; None where they do not. Takes what `attention_maps` takes."""
        return None

    def deployed(self) -> nn.Module:
        """The part needed for prediction, whose size and cost are reported."""
        return self

    def official_state(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of the official implementation under our names, and in our shapes where those differ."""
        return rename_state(weights, self.official_names)

    def load_official(self, weights: Mapping[str, Tensor]) -> None:
        """Load the weights of the official implementation.

        Checkpoints of DataParallel (`module.` before every name) and those that hold the weights under `state_dict`,
        `model_state_dict` or `model` are read as they are.

        Raises
        ------
        KeyError : weights without a counterpart here.
        BadModel : in one line, which weights have no counterpart on either side, or another shape.
        """
        load_whole(self, self.official_state(unwrapped(weights)))


def __getattr__(name: str) -> Any:
    """Old names, which work for one minor version."""
    if name != "Asking":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    warnings.warn(
        "Asking.SETS is now AttentionAxis.PATCHES, Asking.PATCHES is AttentionAxis.SETS", DeprecationWarning, 2
    )
    return SimpleNamespace(SETS=AttentionAxis.PATCHES, PATCHES=AttentionAxis.SETS)
