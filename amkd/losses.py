"""AMKD's losses: what the student is pulled to, and when it is let go.

The paper describes them without formulas; forms that are reconstructions are marked as such.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "Mixture",
    "RegulationForm",
    "SimilarityForm",
    "Term",
    "adaptive_risk_regulation",
    "combine",
    "gene_guided_enhancement",
    "knowledge_distillation",
]

EPS = 1e-6


class Term(StrEnum):
    """The parts of the total that an ablation can leave out."""

    ENHANCEMENT = "enhancement"  # L_GE
    DISTILLATION = "distillation"  # L_KD
    REGULATION = "regulation"  # L_ARR


class SimilarityForm(StrEnum):
    """How far the student's logits are from the teacher's; the paper says sigmoid and temperature, no more."""

    TEACHER = "teacher"  # KL(teacher || student)
    STUDENT = "student"  # KL(student || teacher)
    SYMMETRIC = "symmetric"  # mean of both


class RegulationForm(StrEnum):
    """How L_ARR weighs imitation against departure; the paper says by who is better."""

    SOFT = "soft"  # q = sigmoid(L_S - L_T)
    HARD = "hard"  # q = 1 while L_S > L_T, else 0


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """How the four losses are mixed.

    Attributes
    ----------
    alpha : in [0, 1]; 1 leaves out L_ARR, 0 leaves nothing else (paper; its best value is 0.75).
    tau : temperature of L_KD (the value 2.0 is a reconstruction).
    enhancement_tau : temperature of L_GE's two softmaxes (1.0 is a reconstruction).
    similarity : form of L_KD (reconstruction).
    regulation : form of L_ARR (reconstruction).
    without : terms that are left out.
    """

    alpha: float = 0.75
    tau: float = 2.0
    enhancement_tau: float = 1.0
    similarity: SimilarityForm = SimilarityForm.TEACHER
    regulation: RegulationForm = RegulationForm.SOFT
    without: frozenset[Term] = frozenset()


def gene_guided_enhancement(guided: Tensor, imitated: Tensor, tau: float = 1.0) -> Tensor:
    """L_GE: mean over patches of KL(softmax(guided) || softmax(imitated)) along the feature axis (paper).

    Parameters
    ----------
    guided : (patches, width), the teacher's genomics-informed patch features h_g2p.
    imitated : (patches, width), the student's g_s.
    tau : temperature of both.
    """
    target, student = F.log_softmax(guided / tau, dim=-1), F.log_softmax(imitated / tau, dim=-1)
    return (target.exp() * (target - student)).sum(-1).mean()


def knowledge_distillation(
    teacher_logits: Tensor,
    student_logits: Tensor,
    tau: float = 2.0,
    form: SimilarityForm = SimilarityForm.TEACHER,
) -> Tensor:
    """L_KD: tau^2 times the mean KL between Bernoulli(sigmoid(teacher / tau)) and that of the student.

    Sigmoid and temperature are the paper's, the KL form is a reconstruction. With several outputs (discrete time) each
    hazard is a Bernoulli of its own, and the mean runs over all of them.

    Parameters
    ----------
    teacher_logits : (B, outputs).
    student_logits : (B, outputs).
    tau : temperature of both.
    form : which divergence.
    """
    teacher, student = teacher_logits / tau, student_logits / tau
    if form is SimilarityForm.TEACHER:
        divergence = _bernoulli_kl(teacher, student)
    elif form is SimilarityForm.STUDENT:
        divergence = _bernoulli_kl(student, teacher)
    else:
        divergence = (_bernoulli_kl(teacher, student) + _bernoulli_kl(student, teacher)) / 2
    return tau**2 * divergence.mean()


def _bernoulli_kl(one: Tensor, other: Tensor) -> Tensor:
    """KL(Bernoulli(sigmoid(one)) || Bernoulli(sigmoid(other))), element by element."""
    return torch.sigmoid(one) * (F.logsigmoid(one) - F.logsigmoid(other)) + torch.sigmoid(-one) * (
        F.logsigmoid(-one) - F.logsigmoid(-other)
    )


def adaptive_risk_regulation(
    distillation: Tensor,
    student_loss: Tensor,
    teacher_loss: Tensor,
    form: RegulationForm = RegulationForm.SOFT,
) -> Tensor:
    """L_ARR: a binary cross-entropy that imitates the teacher while it is better and pushes away once it is not.

    - q log(sigmoid(-L_KD) + eps) - (1 - q) log(sigmoid(L_KD) + eps),  q = sigmoid(stopgrad(L_S - L_T))

    A reconstruction from the paper's text; eps = 1e-6 is the paper's. The slope in L_KD is close to q - sigmoid(-L_KD).
    Beyond L_KD of about 14, sigmoid(-L_KD) falls below eps and the loss is flat: a student that far away is not pulled.

    Parameters
    ----------
    distillation : L_KD, a scalar.
    student_loss : its Cox loss on the batch, a scalar.
    teacher_loss : its Cox loss on the same batch, a scalar.
    form : how imitation and departure are weighed.
    """
    behind = (student_loss - teacher_loss).detach()
    q = torch.sigmoid(behind) if form is RegulationForm.SOFT else (behind > 0).to(behind.dtype)
    imitate = torch.log(torch.sigmoid(-distillation) + EPS)
    depart = torch.log(torch.sigmoid(distillation) + EPS)
    return -q * imitate - (1 - q) * depart


def combine(terms: Mapping[str, Tensor], alpha: float, without: Collection[Term] = ()) -> Tensor:
    """alpha (L_GE + L_KD + L_S) + (1 - alpha) L_ARR (paper); what has weight 0 or is left out, is left out exactly.

    Without L_ARR there is nothing to weigh, and the total is that of alpha = 1.

    Parameters
    ----------
    terms : scalars `survival`, `regulation` and, where the teacher has them, `enhancement` and `distillation`.
    alpha : weight in [0, 1].
    without : terms that are left out.
    """
    imitated = [t for t in (Term.ENHANCEMENT, Term.DISTILLATION) if t in terms and t not in without]
    distilled = sum((terms[t] for t in imitated), start=torch.zeros_like(terms["survival"])) + terms["survival"]
    if alpha == 1 or Term.REGULATION in without:  # 0 * inf would be NaN, and the identity must be exact
        return distilled
    if alpha == 0:
        return terms["regulation"]
    return alpha * distilled + (1 - alpha) * terms["regulation"]
