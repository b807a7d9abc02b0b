"""What becomes of gene sets: all of them in a few products, none in a loop over pathways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.kernels.ragged import gather_rows, set_products
from baselines.layers import AlphaDropout
from survbench.errors import BadConfig
from survbench.model import Inputs

__all__ = ["Members", "PathwayEncoder", "PathwayNetworks", "needs_sets"]


def needs_sets(model: object, inputs: Inputs, groups: str = "pathways") -> Mapping[str, tuple[int, ...]]:
    """The gene sets of a cohort that a model is built on: name -> positions of its genes.

    Parameters
    ----------
    model : for the message.
    inputs : of the cohort.
    groups : `families` (MCAT's six, the papers' choice) or `pathways`.

    Raises
    ------
    BadConfig : other groups, or a cohort without them.
    """
    sets = {"families": inputs.families, "pathways": inputs.pathways}
    hints = {"families": "--families signatures.csv, or use its pathways (--set groups=pathways)"}
    if groups not in sets:
        raise BadConfig(f"{type(model).__name__}: groups is '{groups}'", f"choose from {', '.join(sets)}")
    if not sets[groups]:
        hint = hints.get(groups, "pathways (`survbench data import --pathways FILE.gmt`)")
        raise BadConfig(f"{type(model).__name__} needs {groups}, and the cohort has none", f"import it with {hint}")
    return sets[groups]


class Members(nn.Module):
    """The genes of every set: (B, genes) -> (B, genes of the set) for each of them, with one gather for all."""

    genes: Tensor

    def __init__(self, sets: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        self.sizes = [len(genes) for genes in sets.values()]
        self.register_buffer("genes", torch.tensor([g for genes in sets.values() for g in genes]), persistent=False)

    def forward(self, expression: Tensor) -> tuple[Tensor, ...]:
        return expression[:, self.genes].split(self.sizes, 1)


class PathwayEncoder(nn.Module):
    """Two layers in which genes feed only the pathways that contain them: (B, genes) -> (B, pathways, width).

    The masked layers of SMLP (after P-NET, Elmarakeby et al. 2021), stored sparsely: one weight row per membership
    instead of a dense masked matrix, so the parameter count is the effective one. All pathways in one gather, one sum
    and one product. Fan-in is that of the mask.

    Parameters
    ----------
    pathways : name -> positions of its genes.
    hidden : units of each pathway in the first layer.
    width : units of each pathway in the second layer.
    activated : ReLU between them.
    """

    membership_gene: Tensor
    membership_pathway: Tensor

    def __init__(
        self, pathways: Mapping[str, Sequence[int]], hidden: int, width: int, *, activated: bool = True
    ) -> None:
        super().__init__()
        self.activated = activated
        sizes = [len(genes) for genes in pathways.values()]
        self.pathways = len(sizes)
        genes = torch.tensor([gene for own in pathways.values() for gene in own])
        self.register_buffer("membership_gene", genes, persistent=False)
        pathway_of = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        self.register_buffer("membership_pathway", pathway_of, persistent=False)
        bound = torch.tensor(sizes, dtype=torch.float32)[pathway_of].rsqrt().unsqueeze(-1)
        self.first = nn.Parameter(torch.empty(len(pathway_of), hidden).uniform_(-1, 1) * bound)
        self.first_bias = nn.Parameter(torch.zeros(len(sizes), hidden))
        self.second = nn.Parameter(torch.empty(len(sizes), hidden, width).uniform_(-1, 1) * hidden**-0.5)
        self.second_bias = nn.Parameter(torch.zeros(len(sizes), width))

    def forward(self, expression: Tensor) -> Tensor:
        """(B, genes) -> (B, pathways, width)."""
        return torch.einsum("bph,phw->bpw", self._units(expression), self.second) + self.second_bias

    def projected(self, expression: Tensor, linear: nn.Linear) -> Tensor:
        """`linear` of the encoding, (B, genes) -> (B, pathways, linear.out_features).

        Nothing stands between the two, so the weights are multiplied first where there are more patients than weights
        of a pathway: the same product, less work, and no encoding to keep for the gradient.
        """
        if len(expression) <= self.second.shape[1] + 1:
            return linear(self(expression))
        weights = self.second @ linear.weight.T
        return torch.einsum("bph,phw->bpw", self._units(expression), weights) + linear(self.second_bias)

    def _units(self, expression: Tensor) -> Tensor:
        products = expression[:, self.membership_gene].unsqueeze(-1) * self.first
        hidden = products.new_zeros(len(expression), self.pathways, products.shape[-1])
        hidden = hidden.index_add(1, self.membership_pathway, products) + self.first_bias
        return F.relu(hidden) if self.activated else hidden

    def from_dense(
        self, fc_1_weight: Tensor, fc_1_bias: Tensor, fc_2_weight: Tensor, fc_2_bias: Tensor
    ) -> dict[str, Tensor]:
        """State from the official dense matrices: (genes, pathways x hidden) and (pathways x hidden, pathways x width).

        What their masks hide is dropped.
        """
        (hidden, width), count = self.second.shape[1:], self.pathways
        first = fc_1_weight.view(len(fc_1_weight), count, hidden)
        second, each = fc_2_weight.view(count, hidden, count, width), torch.arange(count)
        return {
            "first": first[self.membership_gene, self.membership_pathway],
            "first_bias": fc_1_bias.view(count, hidden),
            "second": second[each, :, each],
            "second_bias": fc_2_bias.view(count, width),
        }


class PathwayNetworks(nn.Module):
    """A network of its own for each gene set: two blocks linear, ELU, alpha dropout; (B, genes) -> (B, sets, width).

    The tokens of MCAT (six families) and SurvPath (331 pathways). No loop over sets: those with the same number of
    genes are one product, and the first layers' weights are one tensor, ordered by size.

    Parameters
    ----------
    sets : name -> positions of its genes.
    width : of both layers.
    dropout : rate behind each layer.
    """

    genes: Tensor
    place: Tensor

    def __init__(self, sets: Mapping[str, Sequence[int]], width: int, dropout: float) -> None:
        super().__init__()
        self.activate = nn.Sequential(nn.ELU(), AlphaDropout(dropout))
        members = list(sets.values())
        self.order = sorted(range(len(members)), key=lambda i: len(members[i]))
        self.sizes = tuple(len(members[i]) for i in self.order)
        self.register_buffer("genes", torch.tensor([g for i in self.order for g in members[i]]), persistent=False)
        self.register_buffer("place", torch.argsort(torch.tensor(self.order)), persistent=False)
        fan_in = torch.tensor([float(len(members[i])) for i in self.order for _ in members[i]])
        self.first = nn.Parameter(torch.empty(len(fan_in), width).uniform_(-1, 1) * fan_in.rsqrt().unsqueeze(1))
        bound = torch.tensor([len(members[i]) ** -0.5 for i in self.order]).unsqueeze(1)
        self.first_bias = nn.Parameter(torch.empty(len(members), width).uniform_(-1, 1) * bound)
        self.second = nn.Parameter(torch.empty(len(members), width, width).uniform_(-1, 1) * width**-0.5)
        self.second_bias = nn.Parameter(torch.empty(len(members), width).uniform_(-1, 1) * width**-0.5)

    def forward(self, expression: Tensor) -> Tensor:
        """(B, genes) -> (B, sets, width), in the order of `sets`."""
        hidden = set_products(expression[:, self.genes], self.first, self.sizes)
        hidden = self.activate(hidden + self.first_bias.unsqueeze(1))
        tokens = self.activate(torch.baddbmm(self.second_bias.unsqueeze(1), hidden, self.second))
        return gather_rows(tokens, self.place).transpose(0, 1)

    def from_official(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """State from the official list of networks: `sig_networks.<set>.<block>.0.{weight,bias}`."""

        def stacked(block: int, kind: str) -> list[Tensor]:
            return [weights[f"sig_networks.{i}.{block}.0.{kind}"] for i in self.order]

        return {
            "first": torch.cat([weight.T for weight in stacked(0, "weight")]),
            "first_bias": torch.stack(stacked(0, "bias")),
            "second": torch.stack(stacked(1, "weight")).transpose(1, 2),
            "second_bias": torch.stack(stacked(1, "bias")),
        }
