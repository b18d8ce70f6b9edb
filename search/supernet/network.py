"""The supernet of DARTS: cells of all edges, and α.

α is an ``E x O`` matrix for each of the two cell types, shared by all cells of the type (Eq. 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latkit.core.errors import InputError
from latkit.search.supernet.base import (
    ALPHA_INIT_SCALE,
    SUPERNETS,
    BatchNormMode,
    Supernet,
)
from latkit.search.supernet.layout import (
    corners,
    images_of,
    join_channels,
    rows_of,
    split_channels,
)
from latkit.search.supernet.norms import Running, batch_norm
from latkit.search.supernet.products import pointwise
from latkit.search.supernet.source_mix import (
    EdgeWeights,
    Norms,
    SourceMix,
    best_grouped,
    uniform,
)
from latkit.search.supernet.sums import NodeSums, mix
from latkit.spaces import Architecture, ChoiceMatrix, SearchSpace, get_space
from latkit.spaces.darts.config import MIN_CELLS, CellPlace, DartsConfig
from latkit.spaces.darts.genotype import Genotype
from latkit.spaces.darts.space import CONCAT, NODES, DartsSpace

if TYPE_CHECKING:
    from latkit.search.config import SearchConfig


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

    def forward(self, x: Tensor, bn_mode: BatchNormMode) -> Tensor:
        """Of ``B x c_in x H x W`` that has been given its ReLU."""
        batch, _, height, width = x.shape
        if self.reduce:
            height, width = height // 2, width // 2
            halves = zip(corners(x), self.weight.unbind(), strict=True)
            rows = join_channels([pointwise(rows_of(pixels), part) for pixels, part in halves])
        else:
            rows = pointwise(rows_of(x), self.weight)
        return batch_norm(images_of(rows, batch, height, width), self.norms.of(0), bn_mode)


class SearchCell(nn.Module):
    """A cell with all edges of the space.

    Args:
        place: where it stands in the network.
        operated: channels that the operations see; the others pass by (PC-DARTS).

    Attributes:
        grouped: whether the edges of a source are computed side by side rather than in a loop;
            None: as is best where it runs.
    """

    grouped: bool | None = None

    def __init__(self, space: DartsSpace, place: CellPlace, operated: int) -> None:
        super().__init__()
        self.reduction = place.reduction
        self.operated = operated
        self.preprocess = nn.ModuleList(
            [
                Preprocess(place.c_prev_prev, place.channels, place.after_reduction),
                Preprocess(place.c_prev, place.channels, False),
            ]
        )
        edges = [sum(e.source == source for e in space.edges) for source in range(NODES + 1)]
        self.mixes = nn.ModuleList(
            SourceMix(
                space.operations,
                count,
                operated,
                2 if place.reduction and source < 2 else 1,
            )
            for source, count in enumerate(edges)
        )

    def forward(
        self,
        s0: Tensor,
        s1: Tensor,
        weights: Sequence[EdgeWeights],
        passing: Sequence[Tensor] | None,
        bn_mode: BatchNormMode,
    ) -> Tensor:
        """Mix.

        Args:
            s0, s1: ``B x * x H x W``, given their ReLU.
            weights: for each source, of its edges.
            passing: for each source, β of its edges, which weights the channels that pass by.
        """
        states = [p(s, bn_mode) for p, s in zip(self.preprocess, (s0, s1), strict=True)]
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
                operated, rest = split_channels(rows_of(x), self.operated)
                x = images_of(operated, *(batch, *x.shape[2:]))
                if self.reduction and source < 2:
                    rest = rows_of(F.max_pool2d(images_of(rest, batch, *x.shape[2:]), 2, 2))
                sums.rests = list(mix([rest], passing[source][:, None], sums.rests))
            operations(x, weights[source], sums, bn_mode)
        nodes.append(sums.pop(batch, height, width))
        return images_of(join_channels(nodes), batch, height, width)


class SupernetConfig(DartsConfig):
    """The network of a supernet, whose C may be odd: no operation halves channels before they are
    doubled."""

    def __post_init__(self) -> None:
        """Nothing: see :meth:`DartsSupernet.check`."""


@SUPERNETS.register("darts")
class DartsSupernet(Supernet):
    """The supernet of DARTS; subclasses change what edges see and how they are weighted.

    Args:
        space: the DARTS space.
        network: the network that its cells make.
        image_channels: channels of the images.

    Attributes:
        partial: one in so many channels goes through the operations.
    """

    spaces = ("darts",)
    alpha_names = ("normal", "reduce")
    encoded = "normal"
    derived_name = "the normal cell"
    # DARTS+'s criterion (Liang et al., 2019), of the normal cell.
    most_skips = 2
    partial: ClassVar[int] = 1
    space: DartsSpace
    _order: Tensor

    def __init__(self, space: DartsSpace, network: DartsConfig, image_channels: int = 3) -> None:
        super().__init__(space)
        shape = (space.num_edges, space.num_operations)
        self.alpha_normal = nn.Parameter(ALPHA_INIT_SCALE * torch.randn(shape))
        self.alpha_reduce = nn.Parameter(ALPHA_INIT_SCALE * torch.randn(shape))
        stem_channels = network.stem_channels
        self.stem = nn.Conv2d(image_channels, stem_channels, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(stem_channels)
        self.cells = nn.ModuleList(
            SearchCell(space, place, place.channels // self.partial) for place in network.walk()
        )
        self.classifier = nn.Linear(network.classifier_channels(), network.classes)
        # Edges by source, as cells take them.
        sources = [edge.source for edge in space.edges]
        self._counts = [sources.count(source) for source in range(NODES + 1)]
        # On the device: a list as an index is copied there each time, which no CUDA graph can do.
        order = sorted(range(len(sources)), key=lambda edge: sources[edge])
        self.register_buffer("_order", torch.tensor(order), persistent=False)

    @classmethod
    def check(cls, config: SearchConfig) -> None:
        if config.cells < MIN_CELLS:  # fewer are all reduction cells
            raise InputError(f"cells={config.cells} is too small", f"use at least {MIN_CELLS}")
        if config.channels % cls.partial:
            raise InputError(
                f"channels={config.channels} does not fit {config.method}",
                f"use a multiple of {cls.partial}",
            )

    @classmethod
    def build(
        cls,
        space: SearchSpace,
        config: SearchConfig,
        classes: int,
        image_channels: int,
        resolution: int,
    ) -> DartsSupernet:
        network = SupernetConfig(
            macro="cifar", cells=config.cells, channels=config.channels, resolution=resolution,
            classes=classes,
        )  # fmt: skip
        return cls(get_space("darts"), network, image_channels)

    @property
    def alphas(self) -> dict[str, nn.Parameter]:
        return {"normal": self.alpha_normal, "reduce": self.alpha_reduce}

    def forward(self, x: Tensor) -> Tensor:
        """Logits of ``B x image_channels x H x W`` images."""
        bn_mode = self.bn_mode
        bn_mode.training = self.training
        x = x.contiguous(memory_format=torch.channels_last)
        stem = batch_norm(
            self.stem(x), Running.of(self.stem_norm), bn_mode, self.stem_norm.weight
        ) + self.stem_norm.bias.view(1, -1, 1, 1)
        weights = {name: self._edge_weights(name) for name in self.alpha_names}
        passing = {name: self._passing(name) for name in self.alpha_names}
        state = stem
        # Both cells that read a state begin with its ReLU.
        s0 = s1 = state.relu()
        for cell in self.cells:
            name = "reduce" if cell.reduction else "normal"
            state = cell(s0, s1, weights[name], passing[name], bn_mode)
            s0, s1 = s1, state.relu()
        logits: Tensor = self.classifier(state.mean(dim=(2, 3)))
        return logits

    def _edge_weights(self, name: str) -> list[EdgeWeights]:
        mixture = self.alphas[name].softmax(-1)
        strength = self.edge_strength(name)
        if strength is not None:
            mixture = mixture * strength[:, None]
        operations = self.space.operations
        return [
            EdgeWeights.of(part, operations, 2 if name == "reduce" and source < 2 else 1)
            for source, part in enumerate(self._by_source(mixture))
        ]

    def _by_source(self, of_edges: Tensor) -> list[Tensor]:
        """What is of edges, cut up by their sources."""
        return list(torch.split(of_edges.index_select(0, self._order), self._counts))

    def _passing(self, name: str) -> list[Tensor] | None:
        strength = self.edge_strength(name)
        return None if strength is None else self._by_source(strength)

    def derive(self, row: ChoiceMatrix | None = None) -> Genotype:
        normal = self.strongest_row("normal") if row is None else row
        reduce = self.space.cell(self.strongest_row("reduce"))
        return Genotype(self.space.cell(normal), CONCAT, reduce, CONCAT)

    def operations_of(self, architecture: Architecture) -> dict[str, tuple[str, ...]]:
        assert isinstance(architecture, Genotype)
        cells = {"normal": architecture.normal, "reduce": architecture.reduce}
        return {name: tuple(operation for operation, _ in cell) for name, cell in cells.items()}
