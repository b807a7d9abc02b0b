"""The identities that specs of AMKD's losses demand, with numbers."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from amkd.losses import (
    EPS,
    RegulationForm,
    SimilarityForm,
    Term,
    adaptive_risk_regulation,
    combine,
    gene_guided_enhancement,
    knowledge_distillation,
)

finite = st.floats(-20, 20)


def scalar(value: float, grad: bool = False) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=grad)


def slope(distillation: float, student: float, teacher: float) -> tuple[float, float]:
    kd = scalar(distillation, grad=True)
    loss = adaptive_risk_regulation(kd, scalar(student), scalar(teacher))
    (gradient,) = torch.autograd.grad(loss, kd)
    return loss.item(), gradient.item()


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=4))
def test_alpha_one_is_the_plain_sum_and_alpha_zero_is_regulation_alone(values: list[float]) -> None:
    terms = dict(zip(("enhancement", "distillation", "survival", "regulation"), map(scalar, values), strict=True))
    assert combine(terms, 1.0).item() == (terms["enhancement"] + terms["distillation"] + terms["survival"]).item()
    assert combine(terms, 0.0).item() == values[3]


def test_the_side_without_weight_cannot_spoil_the_other() -> None:
    terms = {"enhancement": scalar(1), "distillation": scalar(2), "survival": scalar(3), "regulation": scalar(math.inf)}
    assert combine(terms, 1.0).item() == 6


def test_in_between_alpha_mixes_linearly() -> None:
    terms = {"enhancement": scalar(1), "distillation": scalar(2), "survival": scalar(3), "regulation": scalar(10)}
    assert combine(terms, 0.75).item() == pytest.approx(0.75 * 6 + 0.25 * 10)


@pytest.mark.parametrize("distillation", [0.0, 0.1, 0.7, 2.0, 5.0, 10.0])
def test_a_better_teacher_pulls_and_a_worse_one_pushes(distillation: float) -> None:
    assert slope(distillation, student=50.0, teacher=0.0)[1] > 0
    assert slope(distillation, student=0.0, teacher=50.0)[1] < 0


@pytest.mark.parametrize("difference", [-30.0, -3.0, -0.5, 0.0, 0.2, 4.0, 30.0])
@pytest.mark.parametrize("distillation", [0.0, 0.3, 1.0, 2.0])
def test_the_slope_is_q_minus_sigmoid_of_minus_kd(distillation: float, difference: float) -> None:
    q = 1 / (1 + math.exp(-difference))
    assert slope(distillation, difference, 0.0)[1] == pytest.approx(q - 1 / (1 + math.exp(distillation)), abs=1e-4)


@pytest.mark.parametrize("distillation", [0.0, 1.0, 14.0, 100.0, 1e4])
@pytest.mark.parametrize("difference", [-1e4, -1.0, 0.0, 1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_regulation_is_finite_far_out(distillation: float, difference: float, dtype: torch.dtype) -> None:
    kd = torch.tensor(distillation, dtype=dtype, requires_grad=True)
    loss = adaptive_risk_regulation(kd, torch.tensor(difference, dtype=dtype), torch.tensor(0.0, dtype=dtype))
    loss.backward()
    assert math.isfinite(loss.item())
    assert math.isfinite(kd.grad.item())


def test_regulation_by_hand() -> None:
    # q = sigmoid(1), L_KD = 0.5
    q, near = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(0.5))
    expected = -q * math.log(near + EPS) - (1 - q) * math.log(1 - near + EPS)
    assert slope(0.5, 2.0, 1.0)[0] == pytest.approx(expected, rel=1e-12)


def test_regulation_passes_no_gradient_through_q() -> None:
    student = scalar(1.0, grad=True)
    loss = adaptive_risk_regulation(scalar(0.5, grad=True), student, scalar(0.0))
    assert torch.autograd.grad(loss, student, allow_unused=True)[0] is None


@given(st.lists(finite, min_size=3, max_size=3), st.lists(finite, min_size=3, max_size=3), st.floats(0.5, 4))
def test_distillation_is_zero_exactly_for_equal_logits(one: list[float], other: list[float], tau: float) -> None:
    teacher, student = (torch.tensor(v, dtype=torch.float64).unsqueeze(1) for v in (one, other))
    loss = knowledge_distillation(teacher, student, tau).item()
    assert loss >= -1e-12
    assert knowledge_distillation(teacher, teacher, tau).item() == 0
    if max(abs(a - b) for a, b in zip(one, other, strict=True)) > 0.1 and max(map(abs, one + other)) < 8:
        assert loss > 1e-9


def test_distillation_by_hand() -> None:
    p, q = 1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(0.25))  # logits 1 and -0.5 at temperature 2
    expected = 4 * (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
    assert knowledge_distillation(scalar(1.0).view(1, 1), scalar(-0.5).view(1, 1), 2.0).item() == pytest.approx(
        expected
    )


@given(st.lists(finite, min_size=6, max_size=6), st.floats(-3, 3))
def test_enhancement_is_zero_exactly_for_equal_softmaxes(values: list[float], shift: float) -> None:
    guided = torch.tensor(values, dtype=torch.float64).view(2, 3)
    assert gene_guided_enhancement(guided, guided + shift).item() == pytest.approx(0, abs=1e-12)
    assert gene_guided_enhancement(guided, guided.flip(1) * 0.5).item() >= -1e-12
    moved = guided.clone()
    moved[0, 0] += 1.0
    target = torch.softmax(guided, 1)
    if target[0].min() > 1e-4:
        assert gene_guided_enhancement(guided, moved).item() > 1e-9


def test_enhancement_equals_torch_kl_div() -> None:
    guided, imitated = torch.randn(5, 7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    expected = torch.nn.functional.kl_div(
        torch.log_softmax(imitated, 1), torch.softmax(guided, 1), reduction="batchmean"
    )
    assert gene_guided_enhancement(guided, imitated).item() == pytest.approx(expected.item(), rel=1e-12)


def test_gradients_are_right() -> None:
    teacher, student = (torch.randn(4, 1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    guided, imitated = (torch.randn(3, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    kd = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t, s: knowledge_distillation(t, s, 2.0), (teacher, student))
    assert torch.autograd.gradcheck(gene_guided_enhancement, (guided, imitated))
    assert torch.autograd.gradcheck(lambda k: adaptive_risk_regulation(k, scalar(0.3), scalar(0.1)), (kd,))
    terms = [torch.randn((), dtype=torch.float64, requires_grad=True) for _ in range(4)]
    names = ("enhancement", "distillation", "survival", "regulation")
    assert torch.autograd.gradcheck(lambda *t: combine(dict(zip(names, t, strict=True)), 0.6), terms)


def test_a_worse_teacher_pushes_the_student_away_over_twenty_steps() -> None:
    """And a better one pulls it: the same start, the same teacher's logits, only who is better differs."""
    teacher = torch.tensor([1.5, -0.5, 0.3, -1.0], dtype=torch.float64)
    distances = {}
    for who, teacher_loss in (("worse", 9.0), ("better", -9.0)):
        student = torch.tensor([1.0, 0.5, -0.4, -0.2], dtype=torch.float64, requires_grad=True)
        steps = [knowledge_distillation(teacher, student).item()]
        for _ in range(20):
            kd = knowledge_distillation(teacher, student)
            (gradient,) = torch.autograd.grad(adaptive_risk_regulation(kd, scalar(0.0), scalar(teacher_loss)), student)
            student = (student - 0.5 * gradient).detach().requires_grad_()
            steps.append(knowledge_distillation(teacher, student).item())
        distances[who] = steps
    assert all(later > earlier for earlier, later in pairwise(distances["worse"]))
    assert all(later < earlier for earlier, later in pairwise(distances["better"]))


def test_leaving_terms_out_leaves_exactly_the_others() -> None:
    terms = {"enhancement": scalar(1), "distillation": scalar(2), "survival": scalar(4), "regulation": scalar(10)}
    assert combine(terms, 0.75, {Term.REGULATION}).item() == combine(terms, 1.0).item() == 7
    assert combine(terms, 0.75, {Term.REGULATION, Term.ENHANCEMENT}).item() == 6
    assert combine(terms, 0.5, {Term.ENHANCEMENT}).item() == pytest.approx(0.5 * 6 + 0.5 * 10)


@given(st.lists(finite, min_size=2, max_size=2), st.sampled_from(SimilarityForm))
def test_every_form_of_kd_is_a_divergence(logits: list[float], form: SimilarityForm) -> None:
    one, other = map(scalar, logits)
    assert knowledge_distillation(one, other, form=form).item() >= -1e-12
    assert knowledge_distillation(one, one, form=form).item() == pytest.approx(0, abs=1e-12)


def test_the_symmetric_form_is_the_mean_of_the_other_two() -> None:
    one, other = scalar(1.3), scalar(-0.4)
    forms = {form: knowledge_distillation(one, other, form=form).item() for form in SimilarityForm}
    mean = (forms[SimilarityForm.TEACHER] + forms[SimilarityForm.STUDENT]) / 2
    assert forms[SimilarityForm.SYMMETRIC] == pytest.approx(mean)
    assert forms[SimilarityForm.TEACHER] != pytest.approx(forms[SimilarityForm.STUDENT])


@pytest.mark.parametrize(("behind", "q"), [(0.01, 1.0), (-0.01, 0.0)])
def test_the_hard_form_decides_at_once(behind: float, q: float) -> None:
    kd = scalar(0.5, grad=True)
    loss = adaptive_risk_regulation(kd, scalar(behind), scalar(0.0), RegulationForm.HARD)
    (gradient,) = torch.autograd.grad(loss, kd)
    assert gradient.item() == pytest.approx(q - 1 / (1 + math.exp(0.5)), abs=1e-4)
