"""Analytic costs of NAS-Bench-201 networks."""

from __future__ import annotations

import numpy as np

from latkit.spaces.analytic import (
    COLUMNS,
    AnalyticTable,
    Cost,
    classifier_cost,
    conv_bn_cost,
    frame_row,
    operation_row,
)
from latkit.spaces.nasbench201.config import NasBench201Config


def analytic_table(
    operations: tuple[str, ...], edges: int, network: NasBench201Config
) -> AnalyticTable:
    """The table of a space's operations in a network."""
    table = np.zeros((edges, len(operations), len(COLUMNS)))
    frame, c_in = conv_bn_cost(3, network.channels, 3, network.resolution), network.channels
    for stage in network.walk():
        c, side, pixels = stage.channels, stage.side, stage.channels * stage.side**2
        rows = {
            "none": operation_row(1, 0, Cost(), 2 * pixels),
            "skip_connect": operation_row(0, 0, Cost(), 0),
            "nor_conv_1x1": operation_row(3, 1, conv_bn_cost(c, c, 1, side), 6 * pixels),
            "nor_conv_3x3": operation_row(3, 1, conv_bn_cost(c, c, 3, side), 6 * pixels),
            "avg_pool_3x3": operation_row(1, 0, Cost(), 2 * pixels),
        }
        table += stage.cells * np.array([rows[name] for name in operations])
        if c != c_in:
            # Two 3x3 convolutions, and pooling with a bare 1x1 convolution beside them.
            frame += conv_bn_cost(c_in, c, 3, side) + conv_bn_cost(c, c, 3, side)
            frame += Cost(c_in * c * side * side, c_in * c)
        c_in = c
    frame += Cost(0, 2 * c_in) + classifier_cost(c_in, network.classes)
    return AnalyticTable(frame_row(frame), table)
