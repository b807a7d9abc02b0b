"""A model of your own beside a registered one, on the demo (simulated).

This file is both: the model, which the processes that run jobs import, and a script. The guard keeps them apart; a
script beside the model's file needs none.
"""

from torch import nn

import survbench
from survbench.model import Inputs, Modality, ModelCard, ModelGroup, Prediction, SurvivalModel


class MeanPool(SurvivalModel):
    """Mean of the patch features, then one linear layer."""

    card = ModelCard(
        name="meanpool",
        title="Mean pooling",
        modality=ModelGroup.WSI,
        train_inputs=(Modality.SLIDES,),
        inference_inputs=(Modality.SLIDES,),
    )

    def __init__(self, inputs: Inputs, outputs: int, *, dropout: float = 0.25) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(inputs.feature_width, outputs))

    def forward(self, batch) -> Prediction:
        sums = batch.x.new_zeros(len(batch.sizes), batch.x.shape[1]).index_add(0, batch.batch, batch.x)
        return Prediction(self.head(sums / batch.ptr.diff().unsqueeze(1)))


if __name__ == "__main__":
    results = survbench.run([__file__, "abmil"], "stad", preset="rehearsal")
    print(results.leaderboard()[["model", "variant", "mean", "sd"]])
    print(results.compare("meanpool", "abmil").T)
    print(results.model(__file__, "stad", fold=0))
