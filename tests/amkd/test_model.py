"""AMKD's two stages: the teacher is frozen, the student sees slides alone and keeps the published budget."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from amkd.attention import Attention, AttentionForm
from amkd.model import AMKD
from amkd.teacher import Teacher
from baselines.survpath import SurvPath
from support.builders import GENES, PATHWAYS, batch, inputs, split
from survbench.batch import patches_of, take_patients
from survbench.cards import Modality
from survbench.errors import BadConfig, BadFolds, ModalityDenied
from survbench.experiments.plan import model_settings
from survbench.model import Inputs, Reference, Stage, SurvivalModel
from survbench.registry import load_registry
from survbench.training.fit import FitResult, fit
from survbench.training.objectives import Cox
from survbench.training.settings import Settings
from survbench.training.stage_cache import StageCache

BOTH, SLIDES = (Modality.SLIDES, Modality.EXPRESSION), (Modality.SLIDES,)


def test_the_student_keeps_the_published_budget() -> None:
    size = sum(p.numel() for p in AMKD(Inputs(1024, GENES, PATHWAYS), 1).deployed().parameters())
    assert size == 802_734
    assert abs(size / 803_000 - 1) < 0.01


def test_the_student_keeps_the_published_operations_as_the_paper_counts_them() -> None:
    """1.69 G +- 2 % of 4,096 patches where each layer is counted by itself and attention's products are not."""
    student, counted = AMKD(Inputs(1024), 1, teacher="none").eval().student, []

    class Counting(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if function is F.linear:
                rows, weight = args[:2]
                counted.append(rows.numel() // weight.shape[1] * weight.numel())
            return function(*args, **(kwargs or {}))

    with torch.no_grad(), Counting():
        student(torch.zeros(4096, 1024), torch.tensor([0, 4096]), (4096,))
    assert sum(counted) == pytest.approx(1.69e9, rel=0.02)


@pytest.mark.parametrize("form", list(AttentionForm))
def test_the_weights_that_are_shown_are_those_that_mix(form: AttentionForm) -> None:
    torch.manual_seed(0)
    attention = Attention(16, 1, 8, form).double()
    rows, context = torch.randn(5, 16, dtype=torch.float64), torch.randn(7, 16, dtype=torch.float64)
    values = attention.key_value(context)[:, 8:]
    weights = attention.weights(rows, context, [2, 3], [4, 3])
    mixed = torch.cat([weights[0] @ values[:4], weights[1] @ values[4:]])
    torch.testing.assert_close(attention.output(mixed), attention(rows, context, [2, 3], [4, 3]))


@pytest.mark.parametrize(
    "settings",
    [
        {"attention": "linear"},
        {"pooling": "mean"},
        {"width": 1024},
        {"alpha": 0.0},
        {"similarity": "student"},
        {"similarity": "symmetric"},
        {"regulation": "hard"},
        {"enhancement_tau": 0.5},
        {"without": ["enhancement", "regulation"]},
        {"teacher_settings": {"pathway_width": 64, "heads": 1}},
    ],
)
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
        {"teacher": "pupil"},
        {"teacher": {"model": "mcat"}},
        {"teacher_settings": {"depth": 3}},
        {"targets": "leaked"},
        {"crossfit": 1},
        {"without": ["survival"]},
        {"similarity": "cosine"},
        {"regulation": "firm"},
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
    kept = {name: value.clone() for name, value in model.teachers[0].state_dict().items()}
    before = {name: value.clone() for name, value in model.student.state_dict().items()}
    fit_stage([student], "student")
    assert all(torch.equal(kept[name], value) for name, value in model.teachers[0].state_dict().items())
    assert all(p.grad is None or not p.requires_grad for p in model.teachers.parameters())
    assert any(not torch.equal(before[name], value) for name, value in model.student.state_dict().items())


def test_no_dropout_in_the_teacher_while_the_student_learns(tmp_path: Path) -> None:
    model, seen = AMKD(inputs(), 1, dropout=0.5), []
    model.teachers[0].register_forward_hook(lambda module, *_: seen.append(module.training))
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


def trained(model: SurvivalModel, inference: tuple[Modality, ...], scratch: Path, **more: Any) -> FitResult:
    train, val = split(patients=40, seed=1), split(patients=16, seed=2)
    settings = Settings(epochs=2, patience=2, batch_size=8, learning_rate=1e-3, weight_decay=0.0, patches=8)
    stages = model.stages(BOTH, inference)
    return fit(
        model, stages, Cox(), train, val, settings, seed=(0, 0), device=torch.device("cpu"), scratch=scratch, **more
    )


def built(kind: type[SurvivalModel] = AMKD, **settings: Any) -> Any:
    torch.manual_seed(3)
    return kind(inputs(), 1, **settings)


def referenced(name: str) -> dict[str, Any]:
    """As `--set teacher=NAME` becomes on its way to the model."""
    registry = load_registry()
    card = registry.models[name]
    own = model_settings(card) | dict(card.config)
    return Reference(name, card.target, own, card.train_inputs, card.inference_inputs, card.training).plain()


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == twin and torch.equal(value, copy) for (name, value), (twin, copy) in pairs)


def test_the_teacher_alone_is_the_teacher_that_is_distilled(tmp_path: Path) -> None:
    distilled, alone = built(), built(Teacher)
    trained(distilled, SLIDES, tmp_path / "distilled")
    trained(alone, BOTH, tmp_path / "alone")
    assert same(distilled.teachers[0], alone)


@pytest.mark.parametrize("teacher", ["none", "mcat", "survpath"])
def test_the_student_starts_from_the_same_weights_whoever_teaches(teacher: str) -> None:
    known = teacher if teacher == "none" else referenced(teacher)
    first, second = built().student.project, built(teacher=known).student.project
    assert same(first, second)


def test_the_student_alone_needs_no_pathways() -> None:
    model = AMKD(Inputs(16), 1, teacher="none")
    (stage,) = model.stages(SLIDES, SLIDES)
    full = batch()
    del full.expression
    assert isinstance(stage, Stage)
    assert set(stage.loss(stage.predict(full), full, Cox())) == {"total"}


@pytest.mark.parametrize("name", ["abmil_cat", "mcat", "survpath", "pomp", "snn"])
def test_other_registered_models_teach(name: str, tmp_path: Path) -> None:
    model, alone = built(teacher=referenced(name)), referenced(name)
    result = trained(model, SLIDES, tmp_path)
    terms = {key for key in result.history[-1] if key.startswith("train_")}
    assert ("train_enhancement" in terms) == (name == "survpath")  # the others have logits alone
    assert "train_distillation" in terms
    assert [stage for stage in result.selected if stage.startswith(f"teacher {name}")]
    assert alone["model"] == name


def test_a_model_that_predicts_without_expression_cannot_teach() -> None:
    with pytest.raises(BadConfig, match="ghanet predicts from less"):
        built(teacher=referenced("ghanet"))


def test_a_foreign_teacher_is_that_model_trained_alone(tmp_path: Path) -> None:
    student, alone = built(teacher=referenced("survpath")), built(SurvPath)
    trained(student, SLIDES, tmp_path / "student")
    trained(alone, BOTH, tmp_path / "alone")
    assert same(student.teachers[0], alone)


def test_a_kept_teacher_gives_the_same_student_as_a_fresh_one(tmp_path: Path) -> None:
    cache = StageCache(tmp_path / "stages", {"fold": 0})
    fresh, sweep = built(), [built(), built(alpha=0.25), built(Teacher)]
    trained(fresh, SLIDES, tmp_path / "fresh")
    results = [
        trained(model, BOTH if isinstance(model, Teacher) else SLIDES, tmp_path / str(i), stage_cache=cache)
        for i, model in enumerate(sweep)
    ]
    again = built()
    kept = trained(again, SLIDES, tmp_path / "again", stage_cache=cache)
    assert [r.reused for r in results] == [(), ("teacher",), ("teacher",)]
    assert kept.reused == ("teacher",)
    assert same(fresh, sweep[0])
    assert same(fresh, again)
    assert kept.history == results[0].history
    assert kept.selected == results[0].selected
    assert not same(sweep[0].student, sweep[1].student)
    assert len(list((tmp_path / "stages").glob("*.safetensors"))) == 1


@pytest.mark.parametrize(
    ("changed", "task"), [({"width": 64}, {"fold": 0}), ({}, {"fold": 1}), ({"pooling": "mean"}, {"fold": 0})]
)
def test_a_teacher_of_other_settings_or_another_fold_is_not_taken(
    changed: dict[str, Any], task: dict[str, int], tmp_path: Path
) -> None:
    trained(built(), SLIDES, tmp_path / "a", stage_cache=StageCache(tmp_path / "stages", {"fold": 0}))
    result = trained(built(**changed), SLIDES, tmp_path / "b", stage_cache=StageCache(tmp_path / "stages", task))
    assert result.reused == ()


def test_a_damaged_kept_teacher_is_trained_again(tmp_path: Path) -> None:
    cache, first, second = StageCache(tmp_path / "stages", {}), built(), built()
    trained(first, SLIDES, tmp_path / "a", stage_cache=cache)
    (file,) = (tmp_path / "stages").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    assert trained(second, SLIDES, tmp_path / "b", stage_cache=cache).reused == ()
    assert same(first, second)


def test_alpha_one_equals_leaving_out_regulation_bit_for_bit(tmp_path: Path) -> None:
    one, without = built(alpha=1.0), built(without=["regulation"])
    histories = [trained(m, SLIDES, tmp_path / str(i)).history for i, m in enumerate((one, without))]
    assert same(one, without)
    assert histories[0] == histories[1]


def test_out_of_fold_targets_never_come_from_a_teacher_that_saw_the_patient(tmp_path: Path) -> None:
    model = built(targets="out-of-fold", crossfit=3)
    seen: list[set[bytes]] = [set() for _ in range(3)]
    asked: list[set[bytes]] = [set() for _ in range(3)]

    def watch(number: int) -> None:
        def record(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            people = {row.numpy().tobytes() for row in arguments[0].expression}
            if module.training:
                seen[number].update(people)
            elif "time" in arguments[0]:
                asked[number].update(people)  # batches with labels are those the student learns from

        model.teachers[number].register_forward_pre_hook(record)

    for number in range(3):
        watch(number)
    result = trained(model, SLIDES, tmp_path)
    everybody = {row.tobytes() for row in split(patients=40, seed=1).expression}
    assert set().union(*asked) == everybody
    assert sum(map(len, asked)) == len(everybody)
    for learned, spoken_of in zip(seen, asked, strict=True):
        assert learned
        assert not learned & spoken_of
        assert learned | spoken_of == everybody
    assert list(result.selected) == ["teacher 1 of 3", "teacher 2 of 3", "teacher 3 of 3", "student"]


def test_out_of_fold_targets_stand_at_their_patients() -> None:
    model = built(targets="out-of-fold", crossfit=2).eval()
    with torch.no_grad():
        for value in model.teachers[1].parameters():
            value.mul_(1.5)
    full = batch((3, 1, 5, 2))
    full.part = (1, 0, 1, 0)
    said = model.teach(full)
    for row, part in enumerate(full.part):
        alone = model.teachers[part](take_patients(full, [row]))
        torch.testing.assert_close(said.logits[row : row + 1], alone.logits)
        torch.testing.assert_close(said.aux["guided"][patches_of(full, [row])], alone.aux["guided"])


def test_too_few_deaths_to_cross_fit_are_said(tmp_path: Path) -> None:
    model = built(targets="out-of-fold", crossfit=20)
    with pytest.raises(BadFolds, match="cannot be divided by 20"):
        trained(model, SLIDES, tmp_path)


@pytest.mark.slow
def test_linear_attention_takes_a_bag_of_100_000_patches_in_under_4_gb() -> None:
    code = (
        "import resource, torch; from amkd.model import AMKD; from survbench.model import Inputs\n"
        "from torch_geometric.data import Batch\n"
        "model = AMKD(Inputs(1024), 1, teacher='none', attention='linear').eval()\n"
        "count = 100_000\n"
        "with torch.no_grad():\n"
        "    said = model(Batch(x=torch.randn(count, 1024), ptr=torch.tensor([0, count]), sizes=(count,)))\n"
        "assert torch.isfinite(said.logits).all() and len(said.attention) == count\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 4e9
