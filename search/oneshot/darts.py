"""All networks of the space DARTS in one, of which a path is one normal cell."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from latkit.networks.operations import FactorizedReduce, ReLUConvBN, build_operation
from latkit.search.supernet.mixture import MIXTURES, Mixture, MixtureNetwork, Pick
from latkit.spaces import SearchSpace
from latkit.spaces.analytic import ABSENT
from latkit.spaces.darts.config import CellPlace, DartsConfig
from latkit.spaces.darts.network import Cell, cifar_stem
from latkit.spaces.darts.zoo import get_genotype


class MixtureCell(nn.Module):
    """A normal cell of which each edge is a mixture; only the kept ones are computed."""

    def __init__(self, space: SearchSpace, place: CellPlace) -> None:
        super().__init__()
        c = place.channels
        first = FactorizedReduce if place.after_reduction else ReLUConvBN
        self.preprocess0 = first(place.c_prev_prev, c)
        self.preprocess1 = ReLUConvBN(place.c_prev, c)
        # Of each node the (index, source) pairs of its edges.
        self._incoming = [
            [(index, space.edges[index].source) for index in group.edges] for group in space.groups
        ]
        self.edges = nn.ModuleList(
            Mixture(space.operations, lambda name: build_operation(name, c, 1, affine=False))
            for _ in space.edges
        )

    def forward(self, s0: Tensor, s1: Tensor, picks: Sequence[Pick]) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        for incoming in self._incoming:
            terms = [
                self.edges[index](states[source], picks[index])
                for index, source in incoming
                if not _is_absent(picks[index])
            ]
            states.append(functools.reduce(operator.add, terms))
        return torch.cat(states[2:], dim=1)


@MIXTURES.register("darts")
class DartsMixture(MixtureNetwork):
    """The network of CIFAR: stem, cells, global pooling, classifier.

    A point of the space is a normal cell. The reduction cells are the discrete ones of the
    configuration's ``reduction``, as in every network that an LPM of the space predicts.
    """

    def __init__(self, space: SearchSpace, config: DartsConfig, image_channels: int = 3) -> None:
        super().__init__(space, config, image_channels)
        genotype = get_genotype(config.reduction)
        widths = {"reduce_width": len(genotype.reduce_concat)}
        self.stem = cifar_stem(config.channels, image_channels)
        self.cells = nn.ModuleList(
            Cell(genotype, place) if place.reduction else MixtureCell(space, place)
            for place in config.walk(**widths)
        )
        self.classifier = nn.Linear(config.classifier_channels(**widths), config.classes)

    @classmethod
    def config_of(cls, cells: int, channels: int, resolution: int, classes: int) -> DartsConfig:
        return DartsConfig(
            macro="cifar", cells=cells, channels=channels, resolution=resolution, classes=classes
        )

    def forward(self, x: Tensor, picks: Sequence[Pick]) -> Tensor:
        s0 = s1 = self.stem(x)
        for cell in self.cells:
            state = cell(s0, s1, picks) if isinstance(cell, MixtureCell) else cell(s0, s1)
            s0, s1 = s1, state
        logits: Tensor = self.classifier(s1.mean(dim=(2, 3)))
        return logits


def _is_absent(pick: Pick) -> bool:
    return isinstance(pick, int) and pick == ABSENT
