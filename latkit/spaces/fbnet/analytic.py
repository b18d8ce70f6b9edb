"""Analytic costs of FBNet networks."""

from __future__ import annotations

import numpy as np

from latkit.spaces.analytic import (
    COLUMNS,
    AnalyticTable,
    Table,
    classifier_cost,
    conv_bn_cost,
    frame_row,
    operation_row,
)
from latkit.spaces.fbnet.config import FbnetConfig, LayerPlace
from latkit.spaces.fbnet.layers import BLOCKS, SKIP, Block


def analytic_table(operations: tuple[str, ...], edges: int, network: FbnetConfig) -> AnalyticTable:
    """The table of a space's operations in a network."""
    table = np.zeros((edges, len(operations), len(COLUMNS)))
    frame = conv_bn_cost(3, network.channels, 3, network.resolution // network.stem_stride)
    for layer, place in enumerate(network.walk()):
        for index, name in enumerate(operations):
            table[layer, index] = _skip(place) if name == SKIP else _block(BLOCKS[name], place)
    frame += conv_bn_cost(place.c_out, network.head_channels, 1, place.side // place.stride)
    frame += classifier_cost(network.head_channels, network.classes)
    return AnalyticTable(frame_row(frame), table)


def _skip(place: LayerPlace) -> Table:
    """The input as it is, or a 1x1 convolution that changes its shape."""
    if place.keeps_shape:
        return np.zeros(len(COLUMNS))
    after = place.side // place.stride
    touched = place.c_in * place.side**2 + place.c_out * after**2
    return operation_row(2, 1, conv_bn_cost(place.c_in, place.c_out, 1, after), touched)


def _block(block: Block, place: LayerPlace) -> Table:
    """An inverted residual; its sum and its shuffle are not among the kernels."""
    c_in, c_out, side, groups = place.c_in, place.c_out, place.side, block.groups
    after, middle = side // place.stride, block.expansion * c_in
    cost = (
        conv_bn_cost(c_in, middle, 1, side, groups)
        + conv_bn_cost(middle, middle, block.kernel, after, middle)
        + conv_bn_cost(middle, c_out, 1, after, groups)
    )
    touched = c_in * side**2 + 2 * middle * side**2 + 2 * middle * after**2 + c_out * after**2
    return operation_row(8, 3, cost, touched)
