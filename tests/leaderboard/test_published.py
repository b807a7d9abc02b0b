"""The published figures are those of the paper, and are found from anywhere."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from survbench.files import shipped
from survbench.leaderboard.published import (
    published,
    published_cindex,
    published_counts,
    published_logrank,
    published_models,
    published_parameters,
)

TITLES = {"ABMIL (Cat)": "abmil_cat", "TransMIL (Cat)": "transmil_cat", "DSMIL (Cat)": "dsmil_cat", "G-HANet": "ghanet"}


def test_every_table_is_there() -> None:
    table = published()
    assert list(table) == ["table", "model", "cohort", "quantity", "setting", "value", "sd", "source"]
    sizes = {"Table 1": 15, "Table 2": 14 * 4, "Table 3": 4, "Table 4": 14, "Table 5": 2, "Table 6": 20, "Table 7": 6}
    assert table.groupby("table").size().to_dict() == sizes
    assert table["value"].notna().all()
    assert not table.duplicated(["table", "model", "cohort", "quantity", "setting"]).any()
    assert table.loc[table["table"] == "Table 2", "sd"].between(0.01, 0.2).all()


def test_single_figures() -> None:
    assert published_cindex("amkd", "stad") == (0.716, 0.057)
    assert published_cindex("pomp", "brca") == (0.700, 0.030)
    assert published_cindex("amkd", "stad", "alpha=0.5") == (0.654, 0.057)
    assert published_cindex("amkd", "cptac-hnsc") is None
    mean, sd = published_cindex("amkd", "cptac-hnsc", "external") or (0, 0)
    assert mean == 0.558
    assert math.isnan(sd)
    assert published_counts("brca") == {"patients": 871, "slides": 929, "patches": 2_608_105}
    assert published_counts("luad") == {}
    assert published_logrank("amkd", "brca") == 7.2e-39
    assert published_logrank("snn", "brca") is None
    assert published_parameters("amkd") == 803_000
    assert published_parameters("snn") is None


def test_the_mean_over_cohorts_is_the_abstracts() -> None:
    table = published()
    amkd = table[(table["table"] == "Table 2") & (table["model"] == "amkd")]
    assert round(amkd["value"].mean(), 3) == 0.669


def test_what_is_returned_may_be_changed() -> None:
    table = published()
    table["value"] = 0.0
    assert published_cindex("amkd", "stad") == (0.716, 0.057)


@pytest.mark.shared
def test_table_2_and_4_agree_with_the_reference(shared: Path) -> None:
    text = (shared / "specs" / "amkd.md").read_text(encoding="utf-8")
    found = 0
    for line in re.findall(r"^\| (?:WSI|omics|multimodal|missing modality) \|.*\|$", text, re.MULTILINE):
        _, title, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        model = TITLES.get(title, title.lower())
        assert model in published_models()
        for cohort, cell in zip(("brca", "stad", "hnsc", "crad"), cells, strict=True):
            assert published_cindex(model, cohort) == tuple(map(float, cell.split(" ± ")))
            found += 1
    assert found == 56
    external = re.search(r"External, CPTAC-HNSC: (.*?)\.\n\n", text, re.DOTALL)
    assert external is not None
    for item in " ".join(external[1].split()).split(", "):
        title, value = item.rsplit(" ", 1)
        figure = published_cindex(TITLES.get(title, title.lower()), "cptac-hnsc", "external")
        assert figure is not None
        assert figure[0] == float(value)


def test_shipped_files_exist() -> None:
    assert shipped("registry.yaml").is_file()
    assert pd.read_csv(shipped("leaderboards/published.csv")).shape == (117, 8)


def test_the_leaderboard_needs_no_deep_learning() -> None:
    code = (
        "import sys, survbench.leaderboard.aggregate, survbench.report.tables;"
        "print([m for m in ('torch', 'torch_geometric', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
