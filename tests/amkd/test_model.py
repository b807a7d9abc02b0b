"""AMKD's two stages: the teacher is frozen, the student sees slides alone and keeps the published budget."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from amkd.attention import Attention, AttentionForm
from amkd.model import AMKD
from builders import GENES, PATHWAYS, batch, inputs, split
from survbench.cards import Modality
from survbench.errors import BadConfig, ModalityDenied
from survbench.model import Inputs
from survbench.training.fit import fit
from survbench.training.objectives import Cox
from survbench.training.settings import Settings

BOTH, SLIDES = (Modality.SLIDES, Modality.EXPRESSION), (Modality.SLIDES,)


def test_the_student_keeps_the_published_budget() -> None:
    size = sum(p.numel() for p in AMKD(Inputs(1024, GENES, PATHWAYS), 1).deployed().parameters())
    assert size == 802_734
    assert abs(size / 803_000 - 1) < 0.01


@pytest.mark.parametrize("settings", [{"attention": "linear"}, {"pooling": "mean"}, {"width": 1024}, {"alpha": 0.0}])
def test_every_reconstruction_has_its_alternative(settings: dict[str, object]) -> None:
    model, full = AMKD(inputs(), 1, **settings), batch()  # type: ignore[arg-type]
    for stage in model.stages(BOTH, SLIDES):
        total = stage.loss(stage.predict(full), full, Cox())["total"]
        assert torch.isfinite(total)
        total.backward()


@pytest.mark.parametrize(
    "settings",
    [
        {"alpha": 1.2},
        {"alpha": -0.1},
        {"tau": 0.0},
        {"attention": "sparse"},
        {"pooling": "max"},
        {"head": [3]},
        {"part": "pupil"},
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(BadConfig, match="amkd"):
        AMKD(inputs(), 1, **settings)  # type: ignore[arg-type]


def test_without_pathways_there_is_no_teacher() -> None:
    with pytest.raises(BadConfig, match="pathways"):
        AMKD(Inputs(16, GENES), 1)


def test_the_teacher_is_bit_identical_before_and_after_the_second_stage(tmp_path: Path) -> None:
    model, kept = AMKD(inputs(), 1), {}
    train, val = split(patients=24, seed=1), split(patients=12, seed=2)
    teacher, student = model.stages(BOTH, SLIDES)
    settings = Settings(epochs=3, patience=3, batch_size=8, learning_rate=1e-3, weight_decay=1e-2, patches=8)

    def fit_stage(stages: list, folder: str) -> None:
        fit(
            model, stages, Cox(), train, val, settings, seed=(0,), device=torch.device("cpu"), scratch=tmp_path / folder
        )

    fit_stage([teacher], "teacher")
    kept = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    before = {name: value.clone() for name, value in model.student.state_dict().items()}
    fit_stage([student], "student")
    assert all(torch.equal(kept[name], value) for name, value in model.teacher.state_dict().items())
    assert all(p.grad is None or not p.requires_grad for p in model.teacher.parameters())
    assert any(not torch.equal(before[name], value) for name, value in model.student.state_dict().items())


def test_no_dropout_in_the_teacher_while_the_student_learns(tmp_path: Path) -> None:
    model, seen = AMKD(inputs(), 1, dropout=0.5), []
    model.teacher.register_forward_hook(lambda module, *_: seen.append(module.training))
    stages = model.stages(BOTH, SLIDES)
    settings = Settings(epochs=1, patience=1, batch_size=8, learning_rate=1e-3, weight_decay=0.0, patches=8)
    train, val = split(patients=16, seed=1), split(patients=8, seed=2)
    fit(model, stages[1:], Cox(), train, val, settings, seed=(0,), device=torch.device("cpu"), scratch=tmp_path)
    assert seen
    assert not any(seen)


def test_the_student_cannot_reach_expression() -> None:
    model, patients = AMKD(inputs(), 1).eval(), split(patients=4)
    slides_only = next(patients.in_order(SLIDES))
    assert model(slides_only).logits.shape == (4, 1)
    with pytest.raises(ModalityDenied, match="expression"):
        slides_only.expression  # noqa: B018
    with pytest.raises(ModalityDenied, match="expression"):
        model.teach(slides_only)


def test_expression_changes_nothing_the_student_says() -> None:
    model, full = AMKD(inputs(), 1).eval(), batch()
    before = model(full).logits
    full.expression = full.expression * 100
    assert torch.equal(before, model(full).logits)


def test_exact_attention_equals_the_formula_per_patient() -> None:
    torch.manual_seed(0)
    layer, rows = Attention(8, 2, 4, AttentionForm.SOFTMAX).double(), torch.randn(5, 8, dtype=torch.float64)
    got = layer(rows, rows, (2, 3), (2, 3))
    for start, stop in ((0, 2), (2, 5)):
        part = rows[start:stop]
        q = layer.query(part).view(-1, 2, 4)
        k, v = layer.key_value(part).view(-1, 2, 2, 4).unbind(1)
        heads = [torch.softmax(q[:, h] @ k[:, h].T / 2, 1) @ v[:, h] for h in range(2)]
        torch.testing.assert_close(got[start:stop], layer.output(torch.cat(heads, 1)))


def test_linear_attention_equals_its_quadratic_form() -> None:
    torch.manual_seed(0)
    layer, rows = Attention(8, 2, 4, AttentionForm.LINEAR).double(), torch.randn(6, 8, dtype=torch.float64)
    q = 1 + torch.nn.functional.elu(layer.query(rows).view(-1, 2, 4))
    k, v = layer.key_value(rows).view(-1, 2, 2, 4).unbind(1)
    k = 1 + torch.nn.functional.elu(k)
    scores = [q[:, h] @ k[:, h].T for h in range(2)]
    heads = [s / s.sum(1, keepdim=True) @ v[:, h] for h, s in enumerate(scores)]
    torch.testing.assert_close(layer(rows, rows, (6,), (6,)), layer.output(torch.cat(heads, 1)))


def test_the_teacher_alone_is_the_teacher_that_is_distilled(tmp_path: Path) -> None:
    train, val = split(patients=24, seed=1), split(patients=12, seed=2)
    settings = Settings(epochs=2, patience=2, batch_size=8, learning_rate=1e-3, weight_decay=0.0, patches=8)
    weights = []
    for part, inference in (("distilled", SLIDES), ("teacher", BOTH)):
        torch.manual_seed(3)
        model = AMKD(inputs(), 1, part=part)
        stages, scratch = model.stages(BOTH, inference), tmp_path / part
        fit(model, stages, Cox(), train, val, settings, seed=(0, 0), device=torch.device("cpu"), scratch=scratch)
        weights.append(model.teacher.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_student_alone_starts_where_the_distilled_one_starts() -> None:
    first = []
    for part in ("distilled", "student"):
        torch.manual_seed(3)
        first.append(AMKD(inputs(), 1, part=part).student.state_dict())
    assert all(torch.equal(first[0][name], first[1][name]) for name in first[0])


def test_the_student_alone_needs_no_pathways() -> None:
    model = AMKD(Inputs(16), 1, part="student")
    (stage,) = model.stages(SLIDES, SLIDES)
    full = batch()
    del full.expression
    assert set(stage.loss(stage.predict(full), full, Cox())) == {"total"}
