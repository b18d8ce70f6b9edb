"""A supernet of the toy space: on each layer the mixture of its operations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latkit.search.config import SearchConfig
from latkit.search.supernet import Supernet
from latkit.spaces import ChoiceMatrix, SearchSpace
from latkit_stranger.space import LAYERS, OPERATIONS, Chain, operation


class ToySupernet(Supernet):
    """As wide as the configuration has channels, and as deep as the space."""

    spaces = ("toy",)
    alpha_names = ("chain",)
    encoded = "chain"

    def __init__(self, space: SearchSpace, width: int, classes: int, image_channels: int) -> None:
        super().__init__(space)
        self.alpha = nn.Parameter(1e-3 * torch.randn(LAYERS, len(OPERATIONS)))
        self.stem = nn.Conv2d(image_channels, width, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.ModuleList(operation(name, width) for name in OPERATIONS) for _ in range(LAYERS)
        )
        self.classifier = nn.Linear(width, classes)

    @classmethod
    def build(
        cls,
        space: SearchSpace,
        config: SearchConfig,
        classes: int,
        image_channels: int,
        resolution: int,
    ) -> ToySupernet:
        return cls(space, config.channels, classes, image_channels)

    @property
    def alphas(self) -> dict[str, nn.Parameter]:
        return {"chain": self.alpha}

    def derive(self, row: ChoiceMatrix | None = None) -> Chain:
        chosen = self.strongest_row("chain") if row is None else row
        return Chain(tuple(OPERATIONS[i] for i in chosen.tolist()))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer, weights in zip(self.layers, self.alpha.softmax(-1), strict=True):
            x = x + sum(w * module(x) for w, module in zip(weights, layer, strict=True))
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits
