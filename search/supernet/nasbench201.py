"""The supernet of DARTS for NAS-Bench-201 (Dong and Yang 2020, section 2.1 and appendix)."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from latkit.search.supernet.base import SUPERNETS
from latkit.search.supernet.mixture import (
    MIXTURES,
    Mixture,
    MixtureNetwork,
    MixtureSupernet,
    Pick,
)
from latkit.spaces import SearchSpace
from latkit.spaces.nasbench201.config import NasBench201Config
from latkit.spaces.nasbench201.network import ResidualBlock, build_edge, norm_relu, stem
from latkit.spaces.nasbench201.space import INCOMING

if TYPE_CHECKING:
    from latkit.search.config import SearchConfig


class MixtureCell(nn.Module):
    """A cell of which each edge is a mixture; each node is the sum of its incoming edges."""

    def __init__(self, space: SearchSpace, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(
            Mixture(space.operations, lambda name: build_edge(name, channels, affine=False))
            for _ in space.edges
        )

    def forward(self, x: Tensor, picks: Sequence[Pick]) -> Tensor:
        nodes = [x]
        for edges in INCOMING:
            terms = [self.edges[index](nodes[source], picks[index]) for index, source in edges]
            nodes.append(functools.reduce(operator.add, terms))
        return nodes[-1]


@MIXTURES.register("nasbench201")
class NasBench201Mixture(MixtureNetwork):
    """The benchmark's network: stem, three stages of cells, residual blocks between them."""

    # The benchmark's own depth; the stem and the blocks come on top.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"cells": 15},
        "cpu": {"cells": 3},
    }

    def __init__(
        self, space: SearchSpace, config: NasBench201Config, image_channels: int = 3
    ) -> None:
        super().__init__(space, config, image_channels)
        c = config.channels
        self.stem = stem(c, image_channels)
        self.cells = nn.ModuleList()
        for stage in config.walk():
            if stage.channels != c:
                self.cells.append(ResidualBlock(c, stage.channels))
            c = stage.channels
            self.cells.extend(MixtureCell(space, c) for _ in range(stage.cells))
        self.last = norm_relu(c)
        self.classifier = nn.Linear(c, config.classes)

    @classmethod
    def config_of(
        cls, cells: int, channels: int, resolution: int, classes: int
    ) -> NasBench201Config:
        return NasBench201Config(
            cells=cells, channels=channels, resolution=resolution, classes=classes
        )

    def forward(self, x: Tensor, picks: Sequence[Pick]) -> Tensor:
        x = self.stem(x)
        for cell in self.cells:
            x = cell(x, picks) if isinstance(cell, MixtureCell) else cell(x)
        logits: Tensor = self.classifier(self.last(x).mean(dim=(2, 3)))
        return logits


@SUPERNETS.register("darts.nasbench201")
class NasBench201Supernet(MixtureSupernet):
    """One α for all cells."""

    spaces = ("nasbench201",)
    alpha_names = ("cell",)
    encoded = "cell"
    derived_name = "the cell"
    # DARTS+'s criterion again: all but 2 of the 156 best cells of the benchmark (1 %, by their
    # accuracy on CIFAR-100) have at most two skip connections.
    most_skips = 2
    presets = NasBench201Mixture.presets

    @classmethod
    def check(cls, config: SearchConfig) -> None:
        NasBench201Mixture.config_of(
            config.cells, config.channels, 32, 10
        )  # whatever the images are

    @classmethod
    def build(
        cls,
        space: SearchSpace,
        config: SearchConfig,
        classes: int,
        image_channels: int,
        resolution: int,
    ) -> NasBench201Supernet:
        network = NasBench201Mixture.config_of(config.cells, config.channels, resolution, classes)
        return cls(space, network, NasBench201Mixture(space, network, image_channels))
