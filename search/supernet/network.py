"""The over-parameterised network: cells of all edges, α and, in PC-DARTS, β.

α is an ``E x O`` matrix for each of the two cell types, shared by all cells of the type (Eq. 1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latkit.search.decode import derive_cell
from latkit.search.supernet.layout import corners, images_of, rows_of, split_channels
from latkit.search.supernet.norms import Running, Statistics, batch_norm
from latkit.search.supernet.products import pointwise
from latkit.search.supernet.source_mix import (
    EdgeWeights,
    Norms,
    SourceMix,
    best_grouped,
    uniform,
)
from latkit.search.supernet.sums import NodeSums, mix
from latkit.spaces.darts.genotype import Genotype
from latkit.spaces.darts.space import CONCAT, NODES, DartsSpace

ALPHA_INIT_SCALE = 1e-3


class Preprocess(nn.Module):
    """What brings an input of a cell to its width, and its resolution.

    ReLU, 1x1 convolution, batch norm; or, after a reduction cell, a factorized reduction: two
    convolutions of every second pixel, one pixel apart.
    """

    def __init__(self, c_in: int, c_out: int, reduce: bool) -> None:
        super().__init__()
        self.reduce = reduce
        shape = (2, c_out // 2, c_in) if reduce else (c_out, c_in)
        self.weight = nn.Parameter(uniform(shape, c_in))
        self.norms = Norms(1, c_out)

    def forward(self, x: Tensor, how: Statistics) -> Tensor:
        """Of ``B x c_in x H x W`` that has been given its ReLU."""
        batch, _, height, width = x.shape
        if self.reduce:
            height, width = height // 2, width // 2
            halves = zip(corners(x), self.weight.unbind(), strict=True)
            rows = torch.cat([pointwise(rows_of(pixels), part) for pixels, part in halves], dim=1)
        else:
            rows = pointwise(rows_of(x), self.weight)
        return batch_norm(images_of(rows, batch, height, width), self.norms.of(0), how)


class SearchCell(nn.Module):
    """A cell with all edges of the space.

    Args:
        operated: channels that the operations see; the others pass by (PC-DARTS).

    Attributes:
        grouped: whether the edges of a source are computed side by side rather than in a loop;
            None: as is best where it runs.
    """

    grouped: bool | None = None

    def __init__(
        self,
        space: DartsSpace,
        c_prev_prev: int,
        c_prev: int,
        c: int,
        operated: int,
        reduction: bool,
        reduction_prev: bool,
    ) -> None:
        super().__init__()
        self.reduction = reduction
        self.operated = operated
        self.preprocess = nn.ModuleList(
            [Preprocess(c_prev_prev, c, reduction_prev), Preprocess(c_prev, c, False)]
        )
        edges = [sum(e.source == source for e in space.edges) for source in range(NODES + 1)]
        self.mixes = nn.ModuleList(
            SourceMix(
                space.operations,
                count,
                operated,
                2 if reduction and source < 2 else 1,
            )
            for source, count in enumerate(edges)
        )

    def forward(
        self,
        s0: Tensor,
        s1: Tensor,
        weights: Sequence[EdgeWeights],
        passing: Sequence[Tensor] | None,
        how: Statistics,
    ) -> Tensor:
        """Mix.

        Args:
            s0, s1: ``B x * x H x W``, given their ReLU.
            weights: for each source, of its edges.
            passing: for each source, β of its edges, which weights the channels that pass by.
        """
        states = [p(s, how) for p, s in zip(self.preprocess, (s0, s1), strict=True)]
        batch, _, height, width = states[0].shape
        if self.reduction:
            height, width = height // 2, width // 2
        grouped = self.grouped
        if grouped is None:
            grouped = best_grouped(self.operated, batch * height * width, s0.device)
        sums = NodeSums(NODES, self.operated, grouped)
        nodes: list[Tensor] = []
        for source, operations in enumerate(self.mixes):
            if source >= 2:
                nodes.append(sums.pop(batch, height, width))
                states.append(images_of(nodes[-1], batch, height, width))
            x = states[source]
            if passing is not None:
                seen, rest = split_channels(rows_of(x), self.operated)
                x = images_of(seen, *(batch, *x.shape[2:]))
                if self.reduction and source < 2:
                    rest = rows_of(F.max_pool2d(images_of(rest, batch, *x.shape[2:]), 2, 2))
                sums.rests = list(mix([rest], passing[source][:, None], sums.rests))
            operations(x, weights[source], sums, how)
        nodes.append(sums.pop(batch, height, width))
        return images_of(torch.cat(nodes, dim=1), batch, height, width)


class Supernet(nn.Module):
    """The supernet of DARTS; subclasses change what edges see and how they are weighted.

    Args:
        space: the DARTS space.
        channels: initial number of channels C.
        cells: number of cells; those at one and two thirds of the depth reduce.
        classes: width of the classifier.
        image_channels: channels of the images.

    Attributes:
        how: how batch norms are done; ``how.world`` is how many processes share a batch.
        max_skips: skip connections that the derived normal cell may have; None: any number.
    """

    # One in so many channels goes through the operations.
    partial = 1
    max_skips: int | None = None

    def __init__(
        self,
        space: DartsSpace,
        channels: int,
        cells: int,
        classes: int,
        image_channels: int = 3,
    ) -> None:
        super().__init__()
        self.space = space
        self.how = Statistics()
        shape = (space.num_edges, space.num_operations)
        self.alpha_normal = nn.Parameter(ALPHA_INIT_SCALE * torch.randn(shape))
        self.alpha_reduce = nn.Parameter(ALPHA_INIT_SCALE * torch.randn(shape))
        c_prev_prev = c_prev = 3 * channels
        self.stem = nn.Conv2d(image_channels, c_prev, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(c_prev)
        self.cells = nn.ModuleList()
        c, reduction_prev = channels, False
        for index in range(cells):
            reduction = index in (cells // 3, 2 * cells // 3)
            c = 2 * c if reduction else c
            operated = c // self.partial
            self.cells.append(
                SearchCell(space, c_prev_prev, c_prev, c, operated, reduction, reduction_prev)
            )
            reduction_prev = reduction
            c_prev_prev, c_prev = c_prev, NODES * c
        self.classifier = nn.Linear(c_prev, classes)
        # Edges by source, as cells take them.
        self._order = [
            [i for i, edge in enumerate(space.edges) if edge.source == source]
            for source in range(NODES + 1)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Logits of ``B x image_channels x H x W`` images."""
        how = self.how
        how.training = self.training
        x = x.contiguous(memory_format=torch.channels_last)
        stem = batch_norm(
            self.stem(x), Running.of(self.stem_norm), how, self.stem_norm.weight
        ) + self.stem_norm.bias.view(1, -1, 1, 1)
        weights = {reduction: self._edge_weights(reduction) for reduction in (False, True)}
        passing = {reduction: self._passing(reduction) for reduction in (False, True)}
        state = stem
        # Both cells that read a state begin with its ReLU.
        s0 = s1 = state.relu()
        for cell in self.cells:
            kind = bool(cell.reduction)
            state = cell(s0, s1, weights[kind], passing[kind], how)
            s0, s1 = s1, state.relu()
        logits: Tensor = self.classifier(state.mean(dim=(2, 3)))
        return logits

    def _edge_weights(self, reduction: bool) -> list[EdgeWeights]:
        mixture = (self.alpha_reduce if reduction else self.alpha_normal).softmax(-1)
        strength = self.edge_strength(reduction)
        if strength is not None:
            mixture = mixture * strength[:, None]
        operations = self.space.operations
        return [
            EdgeWeights.of(mixture[edges], operations, 2 if reduction and source < 2 else 1)
            for source, edges in enumerate(self._order)
        ]

    def _passing(self, reduction: bool) -> list[Tensor] | None:
        strength = self.edge_strength(reduction)
        return None if strength is None else [strength[edges] for edges in self._order]

    def edge_strength(self, reduction: bool) -> Tensor | None:
        """Weights of the edges, ``E``-dim, one in sum in each node; None if all count alike."""
        return None

    def architecture_parameters(self) -> list[nn.Parameter]:
        """α, of the normal and of the reduction cell."""
        return [self.alpha_normal, self.alpha_reduce]

    def weight_parameters(self) -> list[nn.Parameter]:
        """Everything else."""
        architecture = {id(p) for p in self.architecture_parameters()}
        return [p for p in self.parameters() if id(p) not in architecture]

    @contextmanager
    def only(self, parameters: Sequence[nn.Parameter], track: bool) -> Iterator[None]:
        """Gradients of these parameters alone; ``track``: running statistics move."""
        chosen = {id(p) for p in parameters}
        before = [(p, p.requires_grad) for p in self.parameters()], self.how.track
        for p, _ in before[0]:
            p.requires_grad_(id(p) in chosen)
        self.how.track = track
        try:
            yield
        finally:
            for p, required in before[0]:
                p.requires_grad_(required)
            self.how.track = before[1]

    def derive(self) -> Genotype:
        """The discrete cells of α (and β)."""
        with torch.no_grad():
            normal, reduce = (
                derive_cell(self.space, alpha, self.edge_strength(reduction), max_skips)
                for alpha, reduction, max_skips in (
                    (self.alpha_normal, False, self.max_skips),
                    (self.alpha_reduce, True, None),
                )
            )
        return Genotype(normal, CONCAT, reduce, CONCAT)
