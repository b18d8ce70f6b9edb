"""The DARTS supernet: every edge is the softmax-weighted mixture of all operations (Eq. 1).

α is an ``E x O`` matrix for each of the two cell types, shared by all cells of the type.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latkit.networks.operations import FactorizedReduce, ReLUConvBN, build_operation
from latkit.spaces import DartsSpace, Genotype
from latkit.spaces.darts import CONCAT, NODES

ALPHA_INIT_SCALE = 1e-3


class MixedOperation(nn.Module):
    """All operations of one edge but ``none``, whose output is zero and needs no computing.

    Batch norms have no affine parameters, and pools get one, as DARTS prescribes.
    """

    def __init__(self, space: DartsSpace, channels: int, stride: int) -> None:
        super().__init__()
        self.columns = space.choices
        self.operations = nn.ModuleList()
        for column in space.choices:
            name = space.operations[column]
            operation = build_operation(name, channels, stride, affine=False)
            if "pool" in name:
                operation = nn.Sequential(operation, nn.BatchNorm2d(channels, affine=False))
            self.operations.append(operation)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """Mix with the ``O``-dim ``weights`` of this edge."""
        terms = [
            weights[column] * operation(x)
            for column, operation in zip(self.columns, self.operations, strict=True)
        ]
        mixed: Tensor = sum(terms[1:], terms[0])
        return mixed


class SearchCell(nn.Module):
    """A cell with all edges of the space."""

    def __init__(
        self,
        space: DartsSpace,
        c_prev_prev: int,
        c_prev: int,
        c: int,
        reduction: bool,
        reduction_prev: bool,
    ) -> None:
        super().__init__()
        self.reduction = reduction
        self.preprocess0: nn.Module = (
            FactorizedReduce(c_prev_prev, c, affine=False)
            if reduction_prev
            else ReLUConvBN(c_prev_prev, c, affine=False)
        )
        self.preprocess1 = ReLUConvBN(c_prev, c, affine=False)
        self.space_edges = space.edges
        self.edges = nn.ModuleList(
            MixedOperation(space, c, 2 if reduction and edge.source < 2 else 1)
            for edge in space.edges
        )

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor) -> Tensor:
        """Both inputs ``B x * x H x W``, ``weights`` the ``E x O`` mixture weights."""
        states: dict[int, Tensor] = {0: self.preprocess0(s0), 1: self.preprocess1(s1)}
        for index, edge in enumerate(self.space_edges):
            term = self.edges[index](states[edge.source], weights[index])
            states[edge.target] = states[edge.target] + term if edge.target in states else term
        return torch.cat([states[node] for node in CONCAT], dim=1)


class Supernet(nn.Module):
    """The over-parameterised network of the search.

    Args:
        space: the DARTS space.
        channels: initial number of channels C.
        cells: number of cells; those at one and two thirds of the depth reduce.
        classes: width of the classifier.
        image_channels: channels of the images.
    """

    def __init__(
        self, space: DartsSpace, channels: int, cells: int, classes: int, image_channels: int = 3
    ) -> None:
        super().__init__()
        self.space = space
        shape = (space.num_edges, space.num_operations)
        self.alpha_normal = nn.Parameter(ALPHA_INIT_SCALE * torch.randn(shape))
        self.alpha_reduce = nn.Parameter(ALPHA_INIT_SCALE * torch.randn(shape))
        c_prev_prev = c_prev = 3 * channels
        self.stem = nn.Sequential(
            nn.Conv2d(image_channels, c_prev, 3, padding=1, bias=False), nn.BatchNorm2d(c_prev)
        )
        self.cells = nn.ModuleList()
        c, reduction_prev = channels, False
        for index in range(cells):
            reduction = index in (cells // 3, 2 * cells // 3)
            c = 2 * c if reduction else c
            self.cells.append(SearchCell(space, c_prev_prev, c_prev, c, reduction, reduction_prev))
            reduction_prev = reduction
            c_prev_prev, c_prev = c_prev, NODES * c
        self.classifier = nn.Linear(c_prev, classes)

    def forward(self, x: Tensor) -> Tensor:
        normal, reduce = self.alpha_normal.softmax(-1), self.alpha_reduce.softmax(-1)
        s0 = s1 = self.stem(x)
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1, reduce if cell.reduction else normal)
        logits: Tensor = self.classifier(s1.mean(dim=(2, 3)))
        return logits

    def architecture_parameters(self) -> list[nn.Parameter]:
        """α of the normal and of the reduction cell."""
        return [self.alpha_normal, self.alpha_reduce]

    def weight_parameters(self) -> list[nn.Parameter]:
        """Everything else."""
        return [p for name, p in self.named_parameters() if not name.startswith("alpha_")]


def derive_genotype(space: DartsSpace, alpha_normal: Tensor, alpha_reduce: Tensor) -> Genotype:
    """The discrete cells of α: per node the two edges with the strongest operation.

    The strength of an edge is the largest softmax weight among its operations but ``none``;
    that operation is kept (DARTS, section 2.4).
    """

    def cell(alpha: Tensor) -> tuple[tuple[str, int], ...]:
        weights = alpha.detach().softmax(-1)[:, list(space.choices)]
        strengths, best = weights.max(dim=1)
        connections: list[tuple[str, int]] = []
        for group in space.groups:
            ranked = sorted(group.edges, key=lambda e: (-float(strengths[e]), e))
            for edge in sorted(ranked[: group.keep]):
                operation = space.operations[space.choices[int(best[edge])]]
                connections.append((operation, space.edges[edge].source))
        return tuple(connections)

    return Genotype(cell(alpha_normal), CONCAT, cell(alpha_reduce), CONCAT)
