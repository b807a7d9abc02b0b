"""AMKD behind the suite's interface: a teacher stage, then a student stage that is distilled from the frozen teacher.

Xu et al., Comput Biomed 2026;1:202527, doi 10.70401/cbm.2026.0015. The published formulas were not available to us;
what is reconstructed is said where it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn
from torch_geometric.data import Batch

from amkd import losses
from amkd.attention import AttentionForm, PoolingForm
from amkd.student import Student
from amkd.teacher import Teacher
from baselines.layers import needs_pathways
from survbench.errors import BadConfig
from survbench.model import Inputs, Losses, Modality, Prediction, Stage, SurvivalModel

if TYPE_CHECKING:
    from survbench.training.objectives import Objective

__all__ = ["AMKD"]


class Part(StrEnum):
    """What is trained: the whole method, or one of the two rows that must stand beside it (protocol rule 18)."""

    DISTILLED = "distilled"
    TEACHER = "teacher"  # alone; it predicts with expression
    STUDENT = "student"  # the same student, and nobody to learn from


Form = TypeVar("Form", AttentionForm, PoolingForm, Part)


class AMKD(SurvivalModel):
    """Adaptive multi-modality knowledge distillation.

    With the same seed the teacher alone is the teacher that AMKD distils, and the student alone starts from the weights
    that AMKD's student starts from.

    Parameters
    ----------
    part : `distilled` (the paper's method), or for comparison its `teacher` or its `student` alone.
    alpha : weight of imitation against adaptive risk regulation, in [0, 1] (paper: 0.75).
    tau, enhancement_tau : temperatures of L_KD and L_GE (reconstructions).
    width : of all rows in teacher and student (256 is ours; 1024 runs too).
    attention : of the student, `softmax` (paper) or `linear` in the number of patches.
    pooling : `gated` (ours; its weights are the heatmap) or `mean`, in teacher and student.
    heads, head_width, enhancement, gate, head : of the student, set so that it has the published 803 K parameters.
    pathway_width : of the gene encoder's output (paper: 1024). pathway_hidden : of its first layer (ours).
    teacher_heads, teacher_head_width, teacher_gate : of the teacher (ours).
    """

    def __init__(
        self,
        inputs: Inputs,
        outputs: int,
        *,
        part: str = "distilled",
        alpha: float = 0.75,
        tau: float = 2.0,
        enhancement_tau: float = 1.0,
        width: int = 256,
        attention: str = "softmax",
        pooling: str = "gated",
        dropout: float = 0.25,
        heads: int = 2,
        head_width: int = 32,
        enhancement: int = 128,
        gate: int = 16,
        head: Sequence[int] = (508, 256),
        pathway_width: int = 1024,
        pathway_hidden: int = 8,
        teacher_heads: int = 4,
        teacher_head_width: int = 64,
        teacher_gate: int = 128,
    ) -> None:
        super().__init__()
        if not 0 <= alpha <= 1:
            raise BadConfig(f"amkd: alpha is {alpha}", "it must lie in [0, 1]")
        if min(tau, enhancement_tau) <= 0:
            raise BadConfig(
                f"amkd: tau is {tau} and enhancement_tau {enhancement_tau}", "temperatures must be positive"
            )
        if len(head) != 2:
            raise BadConfig(f"amkd: head is {list(head)}", "give the widths of two hidden layers")
        self.weights = losses.Weights(alpha, tau, enhancement_tau)
        self.part, pool = _form(Part, part, "part"), _form(PoolingForm, pooling, "pooling")
        state = torch.random.get_rng_state()
        if self.part is not Part.TEACHER:
            self.student = Student(
                inputs.feature_width,
                outputs,
                width=width,
                heads=heads,
                head_width=head_width,
                enhancement=enhancement,
                gate=gate,
                head=head,
                dropout=dropout,
                attention=_form(AttentionForm, attention, "attention"),
                pooling=pool,
            )
        if self.part is Part.STUDENT:
            return
        needs_pathways(self, inputs)
        torch.random.set_rng_state(state)  # neither's first weights depend on whether there is the other
        self.teacher = Teacher(
            inputs.feature_width,
            inputs.pathways,
            outputs,
            width=width,
            pathway_width=pathway_width,
            pathway_hidden=pathway_hidden,
            heads=teacher_heads,
            head_width=teacher_head_width,
            gate=teacher_gate,
            dropout=dropout,
            pooling=pool,
        )

    def forward(self, batch: Batch) -> Prediction:
        """The student on slides alone: `x`, `ptr`, `sizes`; the teacher where it is alone."""
        if self.part is Part.TEACHER:
            return self.teach(batch)
        seen = self.student(batch.x, batch.ptr, batch.sizes)
        return Prediction(seen.logits, attention=seen.weights, aux={"imitated": seen.imitated})

    def teach(self, batch: Batch) -> Prediction:
        """The teacher on slides and expression."""
        known = self.teacher(batch.x, batch.ptr, batch.sizes, batch.expression)
        return Prediction(known.logits, attention=known.weights, aux={"guided": known.guided})

    def distill(self, prediction: Prediction, batch: Batch, objective: Objective) -> Losses:
        """The student's four losses against the frozen teacher on the same batch."""
        with torch.no_grad():
            teacher = self.teach(batch)
            teacher_loss = objective.loss(teacher.logits, batch.time, batch.event)
        kd = losses.knowledge_distillation(teacher.logits, prediction.logits, self.weights.tau)
        survival = objective.loss(prediction.logits, batch.time, batch.event)
        terms = {
            "enhancement": losses.gene_guided_enhancement(
                teacher.aux["guided"], prediction.aux["imitated"], self.weights.enhancement_tau
            ),
            "distillation": kd,
            "survival": survival,
            "regulation": losses.adaptive_risk_regulation(kd, survival, teacher_loss),
        }
        return {"total": losses.combine(terms, self.weights.alpha), **terms, "teacher_survival": teacher_loss}

    def stages(self, train_inputs: tuple[Modality, ...], inference_inputs: tuple[Modality, ...]) -> list[Stage]:
        """Teacher first, on the Cox loss; then the student (paper)."""
        if self.part is Part.STUDENT:
            return [Stage("student", self.student, train_inputs, self, self.loss, inference_inputs)]
        teacher = Stage("teacher", self.teacher, train_inputs, self.teach, self.loss)
        if self.part is Part.TEACHER:
            return [teacher]
        return [teacher, Stage("student", self.student, train_inputs, self, self.distill, inference_inputs)]

    def deployed(self) -> nn.Module:
        """The student; the teacher is not needed for prediction unless it is alone."""
        return self.teacher if self.part is Part.TEACHER else self.student


def _form(kind: type[Form], value: str, key: str) -> Form:
    try:
        return kind(value)
    except ValueError:
        raise BadConfig(f"amkd: {key} is '{value}'", f"choose from {', '.join(kind)}") from None
