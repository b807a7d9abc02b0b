"""AMKD's losses: what the student is pulled to, and when it is let go.

The paper gives them in words; the forms below are reconstructions where the docstring says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Weights", "adaptive_risk_regulation", "combine", "gene_guided_enhancement", "knowledge_distillation"]

EPS = 1e-6


@dataclass(frozen=True)
class Weights:
    """How the four losses are mixed.

    Attributes
    ----------
    alpha : in [0, 1]; 1 leaves out L_ARR, 0 leaves nothing else (paper; its best value is 0.75).
    tau : temperature of L_KD (the value 2.0 is a reconstruction).
    enhancement_tau : temperature of L_GE's two softmaxes (1.0 is a reconstruction).
    """

    alpha: float = 0.75
    tau: float = 2.0
    enhancement_tau: float = 1.0


def gene_guided_enhancement(guided: Tensor, imitated: Tensor, tau: float = 1.0) -> Tensor:
    """L_GE: mean over patches of KL(softmax(guided) || softmax(imitated)) along the feature axis (paper).

    Parameters
    ----------
    guided : (patches, width), the teacher's genomics-informed patch features h_g2p.
    imitated : (patches, width), the student's g_s.
    """
    target, given = F.log_softmax(guided / tau, dim=-1), F.log_softmax(imitated / tau, dim=-1)
    return (target.exp() * (target - given)).sum(-1).mean()


def knowledge_distillation(teacher_logits: Tensor, student_logits: Tensor, tau: float = 2.0) -> Tensor:
    """L_KD: tau^2 times the mean KL between Bernoulli(sigmoid(teacher / tau)) and that of the student.

    Sigmoid and temperature are the paper's, the KL form is a reconstruction. With several outputs (discrete time) each
    hazard is a Bernoulli of its own, and the mean runs over all of them.
    """
    teacher, student = teacher_logits / tau, student_logits / tau
    divergence = torch.sigmoid(teacher) * (F.logsigmoid(teacher) - F.logsigmoid(student)) + torch.sigmoid(-teacher) * (
        F.logsigmoid(-teacher) - F.logsigmoid(-student)
    )
    return tau**2 * divergence.mean()


def adaptive_risk_regulation(distillation: Tensor, student_loss: Tensor, teacher_loss: Tensor) -> Tensor:
    """L_ARR: a binary cross-entropy that imitates the teacher while it is better and pushes away once it is not.

    - q log(sigmoid(-L_KD) + eps) - (1 - q) log(sigmoid(L_KD) + eps),  q = sigmoid(stopgrad(L_S - L_T))

    A reconstruction from the paper's text; eps = 1e-6 is the paper's. The slope in L_KD is close to q - sigmoid(-L_KD).
    Beyond L_KD of about 14, sigmoid(-L_KD) falls below eps and the loss is flat: a student that far away is not pulled.

    Parameters
    ----------
    distillation : L_KD. student_loss, teacher_loss : Cox losses of both on the same batch. All scalars.
    """
    q = torch.sigmoid((student_loss - teacher_loss).detach())
    imitate = torch.log(torch.sigmoid(-distillation) + EPS)
    depart = torch.log(torch.sigmoid(distillation) + EPS)
    return -q * imitate - (1 - q) * depart


def combine(terms: Mapping[str, Tensor], alpha: float) -> Tensor:
    """alpha (L_GE + L_KD + L_S) + (1 - alpha) L_ARR (paper); a side with weight 0 is left out exactly.

    Parameters
    ----------
    terms : scalars `enhancement`, `distillation`, `survival`, `regulation`.
    """
    distilled = terms["enhancement"] + terms["distillation"] + terms["survival"]
    if alpha == 1:  # 0 * inf would be NaN, and the identity must be exact
        return distilled
    if alpha == 0:
        return terms["regulation"]
    return alpha * distilled + (1 - alpha) * terms["regulation"]
