"""The supernet of DARTS for the layers of FBNet (Wu et al. 2019, table 1).

The paper's own search weights operations by a Gumbel softmax; here it is α's softmax, as in DARTS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from latkit.core.errors import InputError
from latkit.search.supernet.base import SUPERNETS
from latkit.search.supernet.mixture import (
    MIXTURES,
    Mixture,
    MixtureNetwork,
    MixtureSupernet,
    Pick,
)
from latkit.spaces import SearchSpace
from latkit.spaces.fbnet.config import LAYERS, FbnetConfig, LayerPlace
from latkit.spaces.fbnet.network import build_layer, head, stem

if TYPE_CHECKING:
    from latkit.search.config import SearchConfig

# From so many pixels on, a network as published leaves 4 of them before its head.
LARGE_RESOLUTION = 128


@MIXTURES.register("fbnet")
class FbnetMixture(MixtureNetwork):
    """Stem, 22 mixtures, head.

    Images of 128 pixels and more go through the strides as published, smaller ones through those
    for CIFAR.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"cells": LAYERS},
        "cpu": {"cells": LAYERS},
    }

    def __init__(self, space: SearchSpace, config: FbnetConfig, image_channels: int = 3) -> None:
        super().__init__(space, config, image_channels)
        self.stem = stem(config, image_channels)
        self.layers = nn.ModuleList(_mixture(space, place) for place in config.walk())
        self.head = head(config)

    @classmethod
    def config_of(cls, cells: int, channels: int, resolution: int, classes: int) -> FbnetConfig:
        if cells != LAYERS:
            raise InputError(
                f"cells={cells} does not fit fbnet, which has {LAYERS} layers",
                "leave out --cells",
            )
        macro = "fbnet" if resolution >= LARGE_RESOLUTION else "fbnet-cifar"
        # The layers take images of any size; a setting's is a multiple of 32, here the next one.
        next_resolution = -(-resolution // 32) * 32
        return FbnetConfig(
            macro=macro, channels=channels, resolution=next_resolution, classes=classes
        )

    def forward(self, x: Tensor, picks: Sequence[Pick]) -> Tensor:
        x = self.stem(x)
        for layer, pick in zip(self.layers, picks, strict=True):
            x = layer(x, pick)
        logits: Tensor = self.head(x)
        return logits


def _mixture(space: SearchSpace, place: LayerPlace) -> Mixture:
    return Mixture(space.operations, lambda name: build_layer(name, place, affine=False))


@SUPERNETS.register("darts.fbnet")
class FbnetSupernet(MixtureSupernet):
    """One α, a row for each layer; ``cells`` of a search are the 22 layers, which are fixed."""

    spaces = ("fbnet",)
    alpha_names = ("layers",)
    encoded = "layers"
    derived_name = "the network"
    # The space chooses its depth by skips, the published networks too: no number of them is a sign.
    most_skips = None
    presets = FbnetMixture.presets

    @classmethod
    def check(cls, config: SearchConfig) -> None:
        FbnetMixture.config_of(config.cells, config.channels, 32, 10)  # whatever the images are

    @classmethod
    def build(
        cls,
        space: SearchSpace,
        config: SearchConfig,
        classes: int,
        image_channels: int,
        resolution: int,
    ) -> FbnetSupernet:
        network = FbnetMixture.config_of(config.cells, config.channels, resolution, classes)
        return cls(space, network, FbnetMixture(space, network, image_channels))
