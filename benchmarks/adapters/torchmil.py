"""torchmil's ABMIL, TransMIL and DSMIL at the widths of ours.

Where they differ: its ABMIL has no dropout inside the gate and no layer after pooling, its TransMIL no convolution of
the values (both make it the lighter one). It takes padded tensors; with bags of equal size there is nothing to pad.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torchmil.models import ABMIL, DSMIL, TransMIL

from benchmarks.peers import Setting, survival_step


def abmil(setting: Setting) -> Callable[[], object]:
    config = setting.config
    project = nn.Sequential(nn.Linear(setting.features, config["width"]), nn.ReLU(), nn.Dropout(config["dropout"]))
    model = ABMIL((setting.features,), att_dim=config["attention"], gated=True, feat_ext=project)
    return survival_step(model, lambda: (model(setting.x),), setting)


def transmil(setting: Setting) -> Callable[[], object]:
    config = setting.config
    project = nn.Sequential(nn.Linear(setting.features, config["width"]), nn.ReLU())
    model = TransMIL(
        (setting.features,),
        att_dim=config["width"],
        n_heads=config["heads"],
        n_landmarks=config["landmarks"],
        dropout=config["dropout"],
        feat_ext=project,
    )
    return survival_step(model, lambda: (model(setting.x),), setting)


def dsmil(setting: Setting) -> Callable[[], object]:
    """Its own loss: that of the bag and that of the highest instance."""
    config = setting.config
    model = DSMIL((setting.features,), att_dim=config["query"], nonlinear_q=config["deep_query"])

    def logits() -> tuple[Tensor, ...]:
        bag, instances = model(setting.x, return_inst_pred=True)
        return bag, instances.amax(1)

    return survival_step(model, logits, setting)


STEPS = {"abmil": abmil, "transmil": transmil, "dsmil": dsmil}
