"""The data root for timing can be run on, and is marked as noise."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import paper_root
from survbench.data.cohort import Simulated, load_cohort
from survbench.data.root import DataRoot


def test_a_cohort_is_packed_whole_and_simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_root, "COHORTS", {"stad": (30, 4000, 0.4)})
    monkeypatch.setattr(paper_root, "BLOCK", 150)  # so that it is written more than once
    result = CliRunner().invoke(paper_root.main, [str(tmp_path / "root"), "--shrink", "10"])
    assert result.exit_code == 0, result.output
    cohort = load_cohort(DataRoot.open(tmp_path / "root"), "stad", "os")
    assert cohort.simulated == Simulated.ALL
    assert len(cohort.patients) == 30
    assert (cohort.inputs.feature_width, len(cohort.inputs.pathways), len(cohort.inputs.families)) == (1024, 331, 6)
    bags = cohort.bags
    assert bags is not None
    assert 350 < bags.patches == len(bags.features) <= 430
    assert sum(bags.size(patient) for patient in bags.patients) == bags.patches
    assert bags.features[:150].tobytes() == bags.features[150:300].tobytes()
    again = CliRunner().invoke(paper_root.main, [str(tmp_path / "root")])
    assert again.exit_code == 2
    assert "exists" in again.output
