"""The networks of FBNet (Wu et al. 2019, table 1): a chain of 22 layers in seven stages."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from latkit.core.errors import InputError
from latkit.spaces.setting import NetworkConfig, Setting, check_one_of

# Of each stage, its channels as published and its number of layers.
_STAGES = ((16, 1), (24, 4), (32, 4), (64, 4), (112, 4), (184, 4), (352, 1))
LAYERS = sum(layers for _, layers in _STAGES)
_STEM, _HEAD = 16, 1984

# Strides of the stem and of the first layer of each stage.
_STRIDES = {
    "fbnet": (2, 1, 2, 2, 2, 1, 2, 1),
    # For images of 32 pixels, as the benchmark of the public tables adapts it (Li et al. 2021,
    # HW-NAS-Bench, whose head is narrower there).
    "fbnet-cifar": (1, 1, 1, 2, 2, 1, 2, 1),
}
# Of widths as published: all others are whole and, for two groups, even.
_LEAST_CHANNELS = 4


@dataclass(frozen=True)
class LayerPlace:
    """Where a layer stands.

    Attributes:
        c_in, c_out: its channels.
        side: pixels of a side of its input.
        stride: factor by which it reduces them.
    """

    c_in: int
    c_out: int
    side: int
    stride: int

    @property
    def keeps_shape(self) -> bool:
        """Whether its output has the shape of its input."""
        return self.stride == 1 and self.c_in == self.c_out


@dataclass(frozen=True, kw_only=True)
class FbnetConfig(NetworkConfig):
    """A network of 22 layers.

    Attributes:
        macro: where it halves the resolution: ``fbnet``, five times, as published for ImageNet, or
            ``fbnet-cifar``, three times.
        channels: of the stem; all others are as many times the published ones as these are of 16.
    """

    classes: int = 1000
    macro: str = "fbnet"
    channels: int = _STEM

    space: ClassVar[str] = "fbnet"
    constants: ClassVar = {"cells": LAYERS, "reduction": "none"}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_one_of("macro", self.macro, tuple(_STRIDES))
        if self.channels < _LEAST_CHANNELS or self.channels % _LEAST_CHANNELS:
            raise InputError(
                f"channels={self.channels} does not scale the stages of fbnet",
                f"use a multiple of {_LEAST_CHANNELS}; as published there are {_STEM}",
            )
        self.check_stride(self.stride)

    @property
    def stem_stride(self) -> int:
        """Factor by which the stem reduces the resolution."""
        return _STRIDES[self.macro][0]

    @property
    def stride(self) -> int:
        """Factor by which the whole network does."""
        return math.prod(_STRIDES[self.macro])

    @property
    def head_channels(self) -> int:
        """Channels that the head gives to the classifier."""
        return self._scaled(_HEAD)

    def walk(self) -> Iterator[LayerPlace]:
        """The layers from the stem to the head."""
        c_in, side = self.channels, self.resolution // self.stem_stride
        for (published, layers), first_stride in zip(
            _STAGES, _STRIDES[self.macro][1:], strict=True
        ):
            c_out = self._scaled(published)
            for index in range(layers):
                stride = 1 if index else first_stride
                yield LayerPlace(c_in, c_out, side, stride)
                c_in, side = c_out, side // stride

    def _scaled(self, published: int) -> int:
        return published * self.channels // _STEM

    def slug(self, batch: int) -> str:
        return (
            f"{self.macro}-l{LAYERS}-c{self.channels}-r{self.resolution}-b{batch}-k{self.classes}"
            "-none"
        )

    def to_dict(self) -> dict[str, Any]:
        # In the order of earlier versions, on which digests of datasets depend.
        values = super().to_dict()
        order = ("macro", "cells", "channels", "reduction", "resolution", "classes")
        return {name: values[name] for name in order}


def _cifar(channels: int) -> FbnetConfig:
    return FbnetConfig(macro="fbnet-cifar", channels=channels, resolution=32, classes=10)


PRESETS = {
    "fbnet": Setting(FbnetConfig(resolution=224)),
    # A few milliseconds a run on one CPU core: half as wide.
    "fbnet-cpu": Setting(_cifar(8)),
}
# Networks to train in: as published for ImageNet, as adapted to CIFAR, and one for a CPU.
TRAINED_IN = {
    "cifar": _cifar(16), "imagenet": PRESETS["fbnet"].network, "cpu-small": _cifar(8),
}  # fmt: skip
