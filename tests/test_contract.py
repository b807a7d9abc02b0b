"""The models' contract as users' files write it: what only distillation needs, and old names."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from amkd.teacher import Teacher
from baselines.mcat import MCAT
from support.builders import GENES, inputs
from survbench import model as contract
from survbench.model import (
    AttentionAxis,
    Distillation,
    DistillationTeacher,
    Estimation,
    GeneSetAttention,
    Inputs,
    Modality,
    Reference,
    Stage,
)

SLIDES = (Modality.SLIDES,)


def stage(**more: Any) -> Stage:
    layer: Any = nn.Linear(1, 1)
    return Stage(name="fit", trained=layer, inputs=SLIDES, predict=layer, loss=layer, **more)


def test_a_stage_of_a_general_model_knows_nothing_of_distillation() -> None:
    assert stage().distillation == Distillation(held_out=None, parts=0, prepare=None)


def test_a_teacher_is_a_model_with_patch_features_to_imitate() -> None:
    assert isinstance(Teacher(inputs(), 1), DistillationTeacher)
    assert not isinstance(MCAT(inputs(), 1), DistillationTeacher)


def test_fields_of_distillation_beside_those_of_a_stage_work_and_warn() -> None:
    prepare = lambda batches: nullcontext()  # noqa: E731
    with pytest.warns(DeprecationWarning, match=r"Stage\(distillation=\.\.\.\)"):
        old = stage(parts=3, prepare=prepare)
    assert old.distillation == Distillation(parts=3, prepare=prepare)
    layer: Any = nn.Linear(1, 1)
    with pytest.warns(DeprecationWarning, match=r"Estimation\(name=\.\.\., .*distillation=\.\.\.\)"):
        estimation = Estimation("fit", layer, SLIDES, layer, layer, layer, held_out=(0, 2))
    assert estimation.distillation.held_out == (0, 2)


def test_values_without_names_work_and_warn() -> None:
    layer: Any = nn.Linear(1, 1)
    with pytest.warns(DeprecationWarning, match=r"Stage\(name=\.\.\., trained=\.\.\., inputs="):
        old = Stage("fit", layer, SLIDES, layer, layer, SLIDES)
    assert old == Stage(name="fit", trained=layer, inputs=SLIDES, predict=layer, loss=layer, validation_inputs=SLIDES)
    with pytest.warns(DeprecationWarning, match=r"Inputs\(feature_width=\.\.\., genes=\.\.\.\)"):
        assert Inputs(16, GENES) == Inputs(16, genes=GENES)
    with pytest.warns(DeprecationWarning, match="Stage"), pytest.raises(TypeError):
        Stage(*range(40))


def test_values_of_distillation_without_names_stand_in_their_old_order() -> None:
    layer: Any = nn.Linear(1, 1)
    first = ("fit", layer, SLIDES, layer, layer, None, {}, "objective", None)
    with pytest.warns(DeprecationWarning, match=r"decided_by=\.\.\., distillation=\.\.\.\)"):
        old = Stage(*first, (0, 2), 3, None)
    assert old == Stage(
        **vars(stage())
        | {"trained": layer, "predict": layer, "loss": layer}
        | {"distillation": Distillation(held_out=(0, 2), parts=3)}
    )
    with pytest.warns(DeprecationWarning, match=r"distillation=\.\.\.\)"):
        estimation = Estimation("fit", layer, SLIDES, layer, layer, layer, None, (0, 2))
    assert estimation.distillation == Distillation(held_out=(0, 2))
    with pytest.warns(DeprecationWarning, match="Reference"):
        assert Reference("mcat", "m:C", {}, SLIDES, SLIDES).model == "mcat"


def test_a_value_given_twice_is_refused() -> None:
    with pytest.raises(TypeError, match="multiple values for argument 'feature_width'"):
        Inputs(16, feature_width=8)  # type: ignore[misc]


def test_the_old_name_of_the_attention_axis_works_and_warns() -> None:
    with pytest.warns(DeprecationWarning, match=r"Asking\.SETS is now AttentionAxis\.PATCHES"):
        asking = contract.Asking
    weights = torch.ones(2, 1)
    with pytest.warns(DeprecationWarning, match="axis"):
        old = GeneSetAttention(("A",), weights, asking=asking.SETS)  # type: ignore[call-arg]
    assert old.axis is AttentionAxis.PATCHES
    with pytest.raises(AttributeError, match="no attribute 'Answering'"):
        contract.Answering  # noqa: B018


def test_a_reference_survives_being_written_down() -> None:
    one = Reference(model="mcat", target="m:C", config={"width": 3}, train_inputs=SLIDES, inference_inputs=SLIDES)
    assert Reference.read(one.plain(), "teacher") == one
