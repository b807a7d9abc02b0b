"""AMKD behind the suite's interface: a teacher stage, then a student stage that is distilled from the frozen teacher.

Xu et al., Comput Biomed 2026;1:202527, doi 10.70401/cbm.2026.0015. The published formulas were not available to us;
every reconstruction is marked as one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from enum import StrEnum
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from amkd import losses
from amkd.losses import Mixture, RegulationForm, SimilarityForm, Term
from amkd.memory import Memory
from amkd.student import Student
from amkd.teacher import Teacher
from survbench.batch import patches_of, take_patients
from survbench.cards import member
from survbench.errors import BadConfig
from survbench.model import (
    Distillation,
    DistillationTeacher,
    Estimation,
    GeneSetAttention,
    Inputs,
    Losses,
    Modalities,
    Objective,
    Prediction,
    Reference,
    Stage,
    SurvivalModel,
)

__all__ = ["AMKD"]


class Targets(StrEnum):
    """Whose predictions the student learns from for its own training patients (protocol rule 18)."""

    IN_FOLD = "in-fold"  # of a teacher that learned from them, too (paper)
    OUT_OF_FOLD = "out-of-fold"  # of a teacher that never saw them


OWN, NONE = "own", "none"


class AMKD(SurvivalModel):
    """Adaptive multi-modality knowledge distillation.

    With the same seed its teacher is the one that learns alone as `amkd_teacher`, and its student starts from the
    weights that the undistilled one starts from, whoever the teacher is.

    Parameters
    ----------
    teacher : `own` (paper), another registered model, or `none`: the same student without a teacher. A model
        without patch features informed by expression teaches its logits alone; one whose features have another width
        than the student's rows gives the student's imitation that width.
    teacher_settings : of the own teacher, where they differ from its defaults; `width`, `pooling` and `dropout` are
        those given here.
    targets : `in-fold` (paper), or `out-of-fold`: `crossfit` teachers that start from the same weights, each trained
        without one part of the training patients and predicting that part alone (ours). Their patch features agree
        only as far as training from one start keeps them alike.
    crossfit : number of teachers of out-of-fold targets.
    alpha : weight of imitation against adaptive risk regulation, in [0, 1] (paper: 0.75).
    tau : temperature of L_KD (reconstruction).
    enhancement_tau : temperature of L_GE (reconstruction).
    similarity : form of L_KD, `teacher` (ours), `student` or `symmetric`.
    regulation : form of L_ARR, `soft` (ours) or `hard`.
    without : terms to leave out: `enhancement`, `distillation`, `regulation`.
    width : of all rows in teacher and student (256 is ours; 1024 runs too).
    attention : of the student, `softmax` (paper) or `linear` in the number of patches.
    pooling : `gated` (ours; its weights are the heatmap) or `mean`.
    dropout : rate in teacher and student.
    heads : of the student's attention; this and the sizes below make up the published 803 K parameters.
    head_width : of the student's attention.
    enhancement : hidden width of the MLP that imitates the teacher's patch features.
    gate : hidden width of the student's gated pooling.
    head : widths of the student's two hidden layers.
    """

    model_settings: ClassVar[tuple[str, ...]] = ("teacher",)

    def __init__(
        self,
        inputs: Inputs,
        outputs: int,
        *,
        teacher: str | Mapping[str, Any] = OWN,
        teacher_settings: Mapping[str, Any] = {},
        targets: str = "in-fold",
        crossfit: int = 5,
        alpha: float = 0.75,
        tau: float = 2.0,
        enhancement_tau: float = 1.0,
        similarity: str = "teacher",
        regulation: str = "soft",
        without: Sequence[str] = (),
        width: int = 256,
        attention: str = "softmax",
        pooling: str = "gated",
        dropout: float = 0.25,
        heads: int = 2,
        head_width: int = 32,
        enhancement: int = 128,
        gate: int = 16,
        head: Sequence[int] = (508, 256),
    ) -> None:
        super().__init__()
        _refuse_impossible(alpha, tau, enhancement_tau, crossfit, head)
        self.mixture = Mixture(
            alpha=alpha,
            tau=tau,
            enhancement_tau=enhancement_tau,
            similarity=member(SimilarityForm, similarity, "amkd", "similarity"),
            regulation=member(RegulationForm, regulation, "amkd", "regulation"),
            without=frozenset(member(Term, term, "amkd", "without") for term in without),
        )
        self.targets = member(Targets, targets, "amkd", "targets")
        shared = {"width": width, "pooling": pooling, "dropout": dropout}
        state = torch.random.get_rng_state()
        self.reference = None if isinstance(teacher, str) else Reference.read(teacher, "amkd: teacher")
        first = _teacher(self.reference or str(teacher), {**shared, **teacher_settings}, inputs, outputs)
        torch.random.set_rng_state(state)  # neither's first weights depend on whether there is the other
        self.student = Student(
            inputs.feature_width,
            outputs,
            width=width,
            guided_width=(first.guided_width if isinstance(first, DistillationTeacher) else 0) or width,
            heads=heads,
            head_width=head_width,
            enhancement=enhancement,
            gate=gate,
            head=head,
            dropout=dropout,
            attention=attention,
            pooling=pooling,
        )
        count = crossfit if self.targets is Targets.OUT_OF_FOLD else 1
        self.memory = Memory(self.teach)
        self.teachers = nn.ModuleList([] if first is None else [deepcopy(first) for _ in range(count)])

    def forward(self, batch: Batch) -> Prediction:
        """The student on slides alone: `x`, `ptr`, `sizes`."""
        return self.student(batch.x, batch.ptr, batch.sizes)

    def teach(self, batch: Batch) -> Prediction:
        """The teacher's prediction of the patients; of several teachers, for each patient that of the one that never
        saw it.
        """
        if self.targets is Targets.IN_FOLD:
            return self.teachers[0](batch)
        parts = {part: [row for row, own in enumerate(batch.part) if own == part] for part in sorted(set(batch.part))}
        taught = [self.teachers[part](take_patients(batch, rows)) for part, rows in parts.items()]
        order = torch.tensor([row for rows in parts.values() for row in rows]).argsort().tolist()
        aux = {}
        if "guided" in taught[0].aux:
            patches = torch.cat([patches_of(batch, rows) for rows in parts.values()]).argsort()
            aux["guided"] = torch.cat([prediction.aux["guided"] for prediction in taught])[patches]
        return Prediction(torch.cat([prediction.logits for prediction in taught])[order], aux=aux)

    def distill(self, prediction: Prediction, batch: Batch, objective: Objective) -> Losses:
        """The student's losses against the frozen teacher on the same batch."""
        with torch.no_grad():
            teacher = self.memory(batch)
            teacher_loss = objective.loss(teacher.logits, batch.time, batch.event)
        mix = self.mixture
        kd = losses.knowledge_distillation(teacher.logits, prediction.logits, mix.tau, mix.similarity)
        survival = objective.loss(prediction.logits, batch.time, batch.event)
        terms = {
            "distillation": kd,
            "survival": survival,
            "regulation": losses.adaptive_risk_regulation(kd, survival, teacher_loss, mix.regulation),
        }
        if "guided" in teacher.aux:
            terms["enhancement"] = losses.gene_guided_enhancement(
                teacher.aux["guided"], prediction.aux["imitated"], mix.enhancement_tau
            )
        total = losses.combine(terms, mix.alpha, mix.without)
        return {"total": total, **terms, "teacher_survival": teacher_loss}

    def stages(self, train_inputs: Modalities, inference_inputs: Modalities) -> list[Stage | Estimation]:
        """Teacher first, on its own loss; then the student (paper)."""
        student = self.survival_stage("student", train_inputs, inference_inputs, self.student)
        if not self.teachers:
            return [student]
        parts = len(self.teachers) if self.targets is Targets.OUT_OF_FOLD else 0
        stages = [stage for part in range(len(self.teachers)) for stage in self._teaching(part, parts, train_inputs)]
        taught = Distillation(parts=parts, prepare=self.memory.filled)
        return [*stages, replace(student, loss=self.distill, distillation=taught)]

    def _teaching(self, part: int, parts: int, granted: Modalities) -> Iterator[Stage | Estimation]:
        """Stages of one teacher, decided by what other students with the same teacher have in common with this one."""
        teacher = self.teachers[part]
        assert isinstance(teacher, SurvivalModel)
        of = self.reference
        own = teacher.stages(*((granted, granted) if of is None else (of.train_inputs, of.inference_inputs)))
        for stage in own:
            name = stage.name if of is None else f"teacher {of.model} {stage.name}"
            changes: dict[str, Any] = {"name": f"{name} {part + 1} of {parts}" if parts else name}
            changes["distillation"] = replace(stage.distillation, held_out=(part, parts) if parts else None)
            if of is not None:
                changes["decided_by"] = {"model": of.plain(), "stage": stage.name}
                if isinstance(stage, Stage):
                    changes["training"] = {**of.training, **stage.training}
            yield replace(stage, **changes)

    def pathway_attention(self, batch: Batch) -> Tensor | None:
        """That of the teacher; of several, the mean."""
        each = [teacher.pathway_attention(batch) for teacher in self._models()]
        attended = [weights for weights in each if weights is not None]
        return torch.stack(attended).mean(0) if attended else None

    def attention_maps(self, prediction: Prediction, batch: Batch) -> Mapping[str, Tensor]:
        """The teacher's maps, of several the mean, and beside them the student's, which sees slides alone."""
        each = [teacher.attention_maps(teacher(batch), batch) for teacher in self._models()]
        names = each[0] if each else ()
        taught = {f"teacher's {name}": torch.stack([maps[name] for maps in each]).mean(0) for name in names}
        return taught if prediction.attention is None else {**taught, "student's pooling": prediction.attention}

    def gene_set_attention(self, prediction: Prediction, batch: Batch) -> GeneSetAttention | None:
        """That of the teacher; of several, the mean."""
        each = [teacher.gene_set_attention(teacher(batch), batch) for teacher in self._models()]
        attended = [own for own in each if own is not None]
        return replace(attended[0], weights=torch.stack([a.weights for a in attended]).mean(0)) if attended else None

    def _models(self) -> list[SurvivalModel]:
        return [teacher for teacher in self.teachers if isinstance(teacher, SurvivalModel)]

    def deployed(self) -> nn.Module:
        """The student; the teacher is not needed for prediction."""
        return self.student


def _teacher(
    choice: str | Reference, settings: Mapping[str, Any], inputs: Inputs, outputs: int
) -> SurvivalModel | None:
    if isinstance(choice, Reference):
        if choice.inference_inputs != choice.train_inputs:
            raise BadConfig(
                f"amkd: teacher {choice.model} predicts from less than it learns from",
                "a teacher must predict from expression, too",
            )
        return choice.build(inputs, outputs)
    if choice == OWN:
        try:
            return Teacher(inputs, outputs, **settings)
        except TypeError as error:
            raise BadConfig(f"amkd: teacher_settings are {dict(settings)} ({error})") from None
    if choice == NONE:
        return None
    raise BadConfig(f"amkd: teacher is '{choice}'", f"it is `{OWN}`, `{NONE}` or a registered model")


def _refuse_impossible(alpha: float, tau: float, enhancement_tau: float, crossfit: int, head: Sequence[int]) -> None:
    if not 0 <= alpha <= 1:
        raise BadConfig(f"amkd: alpha is {alpha}", "it must lie in [0, 1]")
    if min(tau, enhancement_tau) <= 0:
        raise BadConfig(f"amkd: tau is {tau} and enhancement_tau {enhancement_tau}", "temperatures must be positive")
    if crossfit < 2:
        raise BadConfig(f"amkd: crossfit is {crossfit}", "out-of-fold targets need two teachers or more")
    if len(head) != 2:
        raise BadConfig(f"amkd: head is {list(head)}", "give the widths of two hidden layers")
