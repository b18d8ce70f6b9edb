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
from latkit.spaces.fbnet.config import HEAD_CHANNELS, STEM_CHANNELS, FbnetConfig, LayerPlace


def analytic_table(operations: tuple[str, ...], edges: int, network: FbnetConfig) -> AnalyticTable:
    """The table of a space's operations in a network."""
    table = np.zeros((edges, len(operations), len(COLUMNS)))
    frame = conv_bn_cost(3, STEM_CHANNELS, 3, network.resolution // 2)
    for layer, place in enumerate(network.walk()):
        for index, name in enumerate(operations):
            table[layer, index] = _mbconv(name, place)
    frame += conv_bn_cost(place.c_out, HEAD_CHANNELS, 1, place.side // place.stride)
    frame += classifier_cost(HEAD_CHANNELS, network.classes)
    return AnalyticTable(frame_row(frame), table)


def _mbconv(name: str, place: LayerPlace) -> Table:
    """An inverted residual, or a skip, which changes shapes by a 1x1 convolution."""
    c_in, c_out, side, stride = place.c_in, place.c_out, place.side, place.stride
    after = side // stride
    if name == "skip":
        if stride == 1 and c_in == c_out:
            return np.zeros(len(COLUMNS))
        touched = c_in * side**2 + c_out * after**2
        return operation_row(2, 1, conv_bn_cost(c_in, c_out, 1, after), touched)
    kernel, expansion = int(name[1]), int(name[4])
    groups = 2 if name.endswith("g2") else 1
    middle = expansion * c_in
    cost = (
        conv_bn_cost(c_in, middle, 1, side, groups)
        + conv_bn_cost(middle, middle, kernel, after, middle)
        + conv_bn_cost(middle, c_out, 1, after, groups)
    )
    touched = c_in * side**2 + 2 * middle * side**2 + 2 * middle * after**2 + c_out * after**2
    return operation_row(8, 3, cost, touched)
