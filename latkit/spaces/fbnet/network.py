"""The networks of FBNet: stem, 22 layers, head (Wu et al. 2019, table 1 and figure 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from latkit.core.errors import InputError
from latkit.networks.make import Make, construct
from latkit.networks.mobile import ConvBN, InvertedResidual
from latkit.spaces.fbnet.config import FbnetConfig, LayerPlace
from latkit.spaces.fbnet.layers import BLOCKS, OPERATIONS, SKIP, FbnetLayers

if TYPE_CHECKING:
    from latkit.networks.onnx_model import OnnxGraph


def build_layer(name: str, place: LayerPlace, affine: bool = True) -> nn.Module:
    """The module of an operation: ``B x C x S x S`` to ``B x C' x S/s x S/s`` of its place.

    A skip that changes the shape is a 1x1 convolution with batch norm and ReLU, as in the authors'
    code and in that of the public tables.

    Args:
        name: of the operation.
        place: where the layer stands.
        affine: whether batch norms have parameters.

    Raises:
        InputError: there is no such operation.
    """
    if name == SKIP:
        if place.keeps_shape:
            return nn.Identity()
        return ConvBN(place.c_in, place.c_out, stride=place.stride, affine=affine)
    if name not in BLOCKS:
        raise InputError(f"unknown operation {name!r}", f"use one of: {', '.join(OPERATIONS)}")
    block = BLOCKS[name]
    return InvertedResidual(
        place.c_in, place.c_out, block.kernel, place.stride, block.expansion, block.groups, affine
    )


def stem(config: FbnetConfig) -> nn.Module:
    """What stands before the layers: ``B x 3 x R x R`` to the input of the first one."""
    return ConvBN(3, config.channels, kernel=3, stride=config.stem_stride)


def head(config: FbnetConfig) -> nn.Module:
    """What stands after the layers: the output of the last one to logits, ``B x classes``."""
    *_, last = config.walk()
    return nn.Sequential(
        ConvBN(last.c_out, config.head_channels),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(config.head_channels, config.classes),
    )


class FbnetNetwork(nn.Module):
    """An architecture in a network; ``forward`` maps ``B x 3 x R x R`` to ``B x classes``.

    Args:
        architecture: its layers.
        config: strides, widths and classes.
        make: how parts are made; the default constructs them.
    """

    def __init__(
        self, architecture: FbnetLayers, config: FbnetConfig, make: Make = construct
    ) -> None:
        super().__init__()
        self.stem = make(stem, config)
        self.layers = nn.Sequential(
            *(
                make(build_layer, name, place)
                for name, place in zip(architecture.operations, config.walk(), strict=True)
            )
        )
        self.head = make(head, config)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layers(self.stem(x)))
        return logits

    def to_onnx(self, graph: OnnxGraph, x: str) -> str:
        """Add the network in eval mode to an ONNX graph; the name of its logits."""
        for part in (self.stem, self.layers, self.head):
            x = graph.module(part, x)
        return x
