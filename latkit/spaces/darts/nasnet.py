"""NASNet-A and PNASNet-5 as published, which are stacked unlike the DARTS family.

A convolution of stride 2 is followed by two reduction cells of a quarter and half of the width,
then three stages of normal cells, the latter two begun by a reduction cell of twice the width
(Zoph et al. 2018, appendix A.4, and the authors' reference code; Liu et al. 2018). Their
cells have five nodes and concatenate what no node of the cell reads; of NASNet-A's normal cell that
is its first input too. Parameters and multiply-adds are within 1 % of those published. (AmoebaNet-A
is not here: its genotype in this frame has 574 M multiply-adds, and 555 M are published.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from latkit.spaces.darts.config import CellPlace
from latkit.spaces.darts.genotype import Genotype
from latkit.spaces.darts.network import Cell
from latkit.spaces.darts.zoo import PNAS_CELL, ZOO

STEM_CHANNELS = 32


@dataclass(frozen=True)
class NasnetConfig:
    """One of the published networks of the mobile setting.

    Attributes:
        genotype: its cells.
        channels: width of the cells of the first stage.
        repeats: normal cells of a stage; where ``merged``, its reduction cell is one of them.
        merged: whether the reduction cell is one of the stage's cells, as in PNASNet-5, whose two
            cells are one cell in two strides.
        hands_on: whether normal cells concatenate their first input as well.
    """

    genotype: Genotype
    channels: int
    repeats: int
    merged: bool = False
    hands_on: bool = False

    @property
    def widths(self) -> tuple[int, int]:
        """How many tensors a normal and a reduction cell concatenate."""
        normal = len(self.genotype.normal_concat) + self.hands_on
        return normal, len(self.genotype.reduce_concat)

    def walk(self, side: int) -> Iterator[CellPlace]:
        """The cells; ``side`` is that of the image."""
        widths = self.widths
        # To even numbers, which a factorized reduction needs.
        stems = [max(2, 2 * round(self.channels / divisor)) for divisor in (8, 4)]
        plan = [(True, c) for c in stems]
        for stage in range(3):
            c = self.channels << stage
            plan += [(True, c)] * (stage > 0)
            plan += [(False, c)] * (self.repeats - (self.merged and stage > 0))
        side //= 2
        c_prev_prev = c_prev = STEM_CHANNELS
        after_reduction = False
        for reduction, c in plan:
            side_in = side
            side //= 1 + reduction
            yield CellPlace(reduction, after_reduction, c, c_prev_prev, c_prev, side_in, side)
            c_prev_prev, c_prev = c_prev, widths[reduction] * c
            after_reduction = reduction


class NasnetNetwork(nn.Module):
    """``B x 3 x 224 x 224`` to ``B x classes``."""

    def __init__(self, config: NasnetConfig, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, STEM_CHANNELS, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(STEM_CHANNELS),
        )
        places = list(config.walk(224))
        self.cells = nn.ModuleList()
        for place in places:
            cell = Cell(config.genotype, place)
            if config.hands_on and not place.reduction:
                cell.concat = (0, *cell.concat)
            self.cells.append(cell)
        self.classifier = nn.Linear(config.widths[0] * places[-1].channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        s0 = s1 = self.stem(x)
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1)
        logits: Tensor = self.classifier(torch.relu(s1).mean(dim=(2, 3)))
        return logits


def nasnet_a() -> nn.Module:
    """NASNet-A (4 @ 1056)."""
    cells = replace(ZOO["nasnet_a"], reduce_concat=(3, 4, 5, 6))
    return NasnetNetwork(NasnetConfig(cells, 44, 4, hands_on=True))


def pnasnet() -> nn.Module:
    """PNASNet-5 (N = 3, F = 54)."""
    concat = (2, 3, 4, 5, 6)
    cells = Genotype(PNAS_CELL, concat, PNAS_CELL, concat)
    return NasnetNetwork(NasnetConfig(cells, 54, 3, merged=True))
