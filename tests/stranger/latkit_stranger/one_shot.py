"""All chains of the toy space in one network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from latkit.search.supernet.mixture import Mixture, MixtureNetwork, Pick
from latkit.spaces import SearchSpace
from latkit_stranger.space import LAYERS, OPERATIONS, ToyConfig, operation


class ToyMixture(MixtureNetwork):
    """As wide as the configuration has channels; its cells are repetitions of the chain."""

    presets: ClassVar = {"cpu": {"cells": 2}}

    def __init__(self, space: SearchSpace, config: ToyConfig, image_channels: int) -> None:
        super().__init__(space, config, image_channels)
        width = config.width
        self.stem = nn.Conv2d(image_channels, width, 3, padding=1)
        self.layers = nn.ModuleList(
            Mixture(OPERATIONS, lambda name: operation(name, width))
            for _ in range(LAYERS * config.repeats)
        )
        self.classifier = nn.Linear(width, config.classes)

    @classmethod
    def config_of(cls, cells: int, channels: int, resolution: int, classes: int) -> ToyConfig:
        return ToyConfig(resolution=resolution, classes=classes, width=channels, repeats=cells)

    def forward(self, x: Tensor, picks: Sequence[Pick]) -> Tensor:
        x = self.stem(x)
        for index, layer in enumerate(self.layers):
            x = x + layer(x, picks[index % LAYERS])
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits
