"""An adapter from outside: read, used, and refused where it is missing or wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.errors import NotInstalled
from benchmarks.peers import Peer, read_peers
from benchmarks.suites.models import Cells, peers
from survbench.errors import BadConfig, MissingFile
from survbench.registry import load_registry

ADAPTER = """
from torch import nn
from benchmarks.peers import survival_step

seen = []

def abmil(setting):
    seen.append(setting)
    model = nn.Linear(setting.features, 1)
    return survival_step(model, lambda: (model(setting.x.mean(1)).squeeze(-1),), setting)

STEPS = {"abmil": abmil}
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "adapter.py"
    file.write_text(text, encoding="utf-8")
    return file


def test_an_adapter_stands_beside_ours_with_our_settings_and_takes_steps(tmp_path: Path) -> None:
    (peer,) = [p for p in read_peers((f"mine={written(tmp_path, ADAPTER)}",)) if p.name == "mine"]
    cards = load_registry().select_models(["abmil", "snn"])
    (race,) = peers(cards, [peer], Cells((3,), (2,)), torch.device("cpu"))
    assert [c.name for c in race.contestants] == ["abmil", "abmil (mine)"]
    assert race.cell == {"patches": 3, "patients": 2}
    step = race.contestants[1].prepare()
    step()
    step()


def test_the_setting_has_every_value_of_our_model(tmp_path: Path) -> None:
    file = written(tmp_path, ADAPTER.replace("seen.append(setting)", "raise ValueError(dict(setting.config))"))
    (race,) = peers(
        load_registry().select_models(["abmil"]), [Peer("mine", file)], Cells((3,), (2,)), torch.device("cpu")
    )
    with pytest.raises(ValueError, match=r"'width': 256, 'attention': 256, 'bag_width': 256, 'dropout': 0.25"):
        race.contestants[1].prepare()


def test_a_peer_that_is_not_installed_is_still_in_the_race(tmp_path: Path) -> None:
    peer = Peer("mine", written(tmp_path, "import surely_not_a_package"))
    (race,) = peers(load_registry().select_models(["abmil"]), [peer], Cells((3,), (2,)), torch.device("cpu"))
    with pytest.raises(NotInstalled, match="not installed: surely_not_a_package"):
        race.contestants[1].prepare()


@pytest.mark.parametrize("text", ["", "STEPS = {}", "STEPS = {'abmil': 3}", "1 / 0"])
def test_a_file_that_is_no_adapter_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadConfig, match="peer mine"):
        Peer("mine", written(tmp_path, text)).steps()


def test_an_adapter_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"gone\.py does not exist"):
        read_peers((f"mine={tmp_path / 'gone.py'}",))
