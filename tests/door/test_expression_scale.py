"""On which scale expression is, told by its values and said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from survbench.data.expression_scale import Scale, expression_scale, same_scale, scale_remark

RANDOM = np.random.default_rng(0)
LOGS = pd.DataFrame(np.abs(RANDOM.normal(5, 2, (80, 30))))
SCALES = {
    Scale.COUNTS: (2**LOGS * 100).round(),
    Scale.LINEAR: 2**LOGS * 3.7,
    Scale.LOG: LOGS,
    Scale.LOG_FLOOR: np.log2((2**LOGS - 4).clip(lower=0) + 0.001),
    Scale.LOG_SIGNED: LOGS - 3,
    Scale.STANDARDIZED: (LOGS - LOGS.mean()) / LOGS.std(),
    Scale.CENTERED: 3 * (LOGS - LOGS.mean()),
    Scale.UNIT: LOGS / LOGS.max(),
    Scale.UNKNOWN: LOGS.round(),
}


@pytest.mark.parametrize("scale", SCALES)
def test_scales_are_told_apart(scale: Scale) -> None:
    table = SCALES[scale].astype(np.float32)
    assert expression_scale(table) is scale
    assert expression_scale(table.iloc[::-1, ::-1]) is scale
    assert expression_scale(table.iloc[:40]) is scale
    assert same_scale(scale, scale)
    if scale is not Scale.UNKNOWN:
        assert scale in scale_remark(table)


def test_one_wrong_cell_makes_no_other_scale() -> None:
    table = LOGS.copy()
    table.iloc[3, 4] = 5_000
    assert expression_scale(table) is Scale.LOG
    assert not same_scale(Scale.LOG, Scale.COUNTS)
    assert same_scale(Scale.LOG_FLOOR, Scale.LOG_SIGNED)
    assert expression_scale(pd.DataFrame()) is Scale.UNKNOWN


def test_what_a_scale_is_said_to_be() -> None:
    counts = pd.DataFrame([[0.0, 3_012_345.0], [17.0, 25_000.0]])
    assert scale_remark(counts) == (
        "expression: values from 0 to 3,012,345 look like raw counts; models expect logs, for example log2(x + 1), and "
        "nothing is logged here"
    )
