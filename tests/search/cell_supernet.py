"""A supernet of a space that has none, as another distribution would write it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latkit.search.supernet import Supernet
from latkit.spaces import get_preset


class CellSupernet(Supernet):
    """One cell of NAS-Bench-201 between a stem and a classifier."""

    spaces = ("nasbench201",)
    alpha_names = ("cell",)
    encoded = "cell"
    most_skips = 4
    presets = {"cpu": {"batch": 16, "epochs": 2}}  # noqa: RUF012

    def __init__(self, space, channels, classes, image_channels):
        super().__init__(space)
        self.alpha = nn.Parameter(1e-3 * torch.randn(space.num_edges, space.num_operations))
        self.stem = nn.Conv2d(image_channels, channels, 3, padding=1)
        sides = (1, 3)
        self.convolutions = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(channels, channels, side, padding=side // 2) for side in sides)
            for _ in space.edges
        )
        self.classifier = nn.Linear(channels, classes)

    @classmethod
    def build(cls, space, config, classes, image_channels, resolution):
        return cls(space, config.channels, classes, image_channels)

    @property
    def alphas(self):
        return {"cell": self.alpha}

    def forward(self, x: Tensor) -> Tensor:
        nodes = [self.stem(x)]
        weights = self.alpha.softmax(1)
        for target in range(1, 4):
            total = torch.zeros_like(nodes[0])
            for index, edge in enumerate(self.space.edges):
                if edge.target == target:
                    total = total + self._mix(index, nodes[edge.source], weights[index])
            nodes.append(total)
        return self.classifier(nodes[-1].mean((2, 3)))

    def _mix(self, edge: int, x: Tensor, weights: Tensor) -> Tensor:
        one, three = (convolution(x.relu()) for convolution in self.convolutions[edge])
        terms = (torch.zeros_like(x), x, one, three, F.avg_pool2d(x, 3, 1, 1))
        return torch.stack([w * term for w, term in zip(weights, terms, strict=True)]).sum(0)

    def derive(self, row=None):
        row = self.strongest_row("cell") if row is None else row
        return self.space.architecture(row, get_preset("nasbench201").network)


class ToyCells(CellSupernet):
    """The same for a space of others."""

    spaces = ("toy",)
