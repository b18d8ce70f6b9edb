"""The networks of FBNet (Wu et al. 2019, table 1): a chain of 22 layers in seven stages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from latkit.spaces.setting import NetworkConfig, Setting

STEM_CHANNELS = 16
HEAD_CHANNELS = 1984
# Output channels, layers and stride of the first of them.
_STAGES = (
    (16, 1, 1), (24, 4, 2), (32, 4, 2), (64, 4, 2), (112, 4, 1), (184, 4, 2), (352, 1, 1),
)  # fmt: skip
LAYERS = sum(layers for _, layers, _ in _STAGES)


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


@dataclass(frozen=True, kw_only=True)
class FbnetConfig(NetworkConfig):
    """A network of 22 layers; its widths and strides are fixed."""

    classes: int = 1000

    space: ClassVar[str] = "fbnet"
    constants: ClassVar = {
        "macro": "fbnet", "cells": LAYERS, "channels": STEM_CHANNELS, "reduction": "none",
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_stride(32)

    def walk(self) -> Iterator[LayerPlace]:
        """The layers from the stem, which halves the resolution, to the head."""
        c_in, side = STEM_CHANNELS, self.resolution // 2
        for c_out, layers, first_stride in _STAGES:
            for index in range(layers):
                stride = 1 if index else first_stride
                yield LayerPlace(c_in, c_out, side, stride)
                c_in, side = c_out, side // stride

    def slug(self, batch: int) -> str:
        return f"fbnet-l{LAYERS}-c{STEM_CHANNELS}-r{self.resolution}-b{batch}-k{self.classes}-none"


PRESETS = {"fbnet": Setting(FbnetConfig(resolution=224))}
