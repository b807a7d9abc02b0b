"""Settings that cannot be are refused while planning, in one line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from survbench.data.root import DataRoot
from survbench.errors import BadConfig
from survbench.experiments.model_settings import refuse_impossible
from survbench.experiments.plan import Request, plan
from survbench.registry import import_target, load_registry, settings_of

REGISTRY = load_registry()
WRONG: dict[type, tuple[Any, ...]] = {
    bool: ("abc", 2),
    int: (-3, "abc", 1.5, True, float("nan"), 10**9),
    float: ("abc", float("nan"), float("inf"), True),
    str: (3,),
}
MODELS = sorted(REGISTRY.models)


@pytest.mark.parametrize("model", MODELS)
def test_no_model_takes_a_setting_that_cannot_be(model: str) -> None:
    known = settings_of(import_target(REGISTRY.models[model].target))
    refuse_impossible(model, known, known)
    for key, default in known.items():
        more = (2, 1, -0.1) if key == "dropout" else (0,) if key in ("width", "heads") else ()
        for value in (*WRONG.get(type(default), ()), *more):
            with pytest.raises(BadConfig) as refused:
                refuse_impossible(model, known, {**known, key: value})
            assert str(refused.value).startswith(f"setting {key} of model {model} is {value!r}. it must be ")


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"width": 0}, "setting width of model abmil is 0. it must be a whole number from 1 to 65,536"),
        ({"dropout": 2}, "setting dropout of model abmil is 2. it must be at least 0 and below 1"),
        ({"width": "abc"}, "setting width of model abmil is 'abc'. it must be a whole number from 1 to 65,536"),
        ({"epochs": -1}, "training setting epochs is -1. it must be a number of at least 1"),
        ({"batch_size": 0}, "training setting batch_size is 0. it must be a number of at least 1"),
        (
            {"learning_rate": float("nan")},
            "training setting learning_rate is nan. it must be a number of at least 1e-12",
        ),
        (
            {"learning_rate": float("inf")},
            "training setting learning_rate is inf. it must be a number of at least 1e-12",
        ),
    ],
)
def test_line(settings: dict[str, Any], line: str, small_root: DataRoot, request_on_stad: Request) -> None:
    with pytest.raises(BadConfig) as refused:
        plan(replace(request_on_stad, models=["abmil"], overrides=settings), REGISTRY, small_root)
    assert str(refused.value) == line
