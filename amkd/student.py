"""AMKD's student: the deployable model, which sees slides alone."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from amkd.attention import Attention, Pooling
from baselines.layers import relu_layers
from survbench.model import Prediction

__all__ = ["Student"]


class Student(nn.Module):
    """Projection, self-attention over patches, gene-guided enhancement, pooling, head.

    The order of the parts is the paper's; their sizes are a reconstruction within its budget of 803 K parameters: with
    the defaults and 1024 features 802,734 of them.

    Parameters
    ----------
    features : length of a patch's feature vector.
    outputs : logits of each patient.
    width : of the rows (the paper's d = 1024 leaves no parameters for attention; 256 is ours).
    guided_width : of the teacher's genomics-informed patch features.
    heads : of the attention.
    head_width : of queries, keys and values.
    enhancement : hidden width of the MLP that imitates the teacher's patch features.
    gate : hidden width of the gated pooling.
    head : widths of the two hidden layers.
    dropout : rate behind each ReLU.
    attention : an `AttentionForm`.
    pooling : a `PoolingForm`.
    """

    def __init__(
        self,
        features: int,
        outputs: int,
        *,
        width: int,
        guided_width: int,
        heads: int,
        head_width: int,
        enhancement: int,
        gate: int,
        head: Sequence[int],
        dropout: float,
        attention: str,
        pooling: str,
    ) -> None:
        super().__init__()
        self.project = nn.Sequential(*relu_layers(dropout, features, width))
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, head_width, attention)
        self.enhance = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, enhancement), nn.GELU(), nn.Linear(enhancement, guided_width)
        )
        self.pooling = Pooling(width + guided_width, gate, pooling)
        layers = relu_layers(dropout, width + guided_width, *head)
        self.head = nn.Sequential(*layers, nn.Linear(head[-1], outputs))

    def forward(self, x: Tensor, ptr: Tensor, sizes: Sequence[int]) -> Prediction:
        """By construction there is no way in for expression.

        Parameters
        ----------
        x : (patches, features).
        ptr : (B + 1,) offsets.
        sizes : patches of each patient.

        Returns
        -------
        Logits (B, outputs), attention (patches,) of the pooling, and in `aux` `imitated` (patches, guided_width), g_s
        of the paper.
        """
        rows = self.project(x)
        normed = self.attention_norm(rows)
        rows = rows + self.attention(normed, normed, sizes, sizes)
        imitated = self.enhance(rows)
        pooled, weights = self.pooling((rows, imitated), ptr)
        return Prediction(self.head(pooled), weights, {"imitated": imitated})
