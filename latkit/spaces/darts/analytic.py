"""Analytic costs of DARTS networks."""

from __future__ import annotations

import numpy as np

from latkit.spaces.analytic import (
    COLUMNS,
    AnalyticTable,
    Cost,
    Table,
    classifier_cost,
    conv_bn_cost,
    frame_row,
    operation_row,
)
from latkit.spaces.darts.config import DartsConfig
from latkit.spaces.darts.genotype import Genotype
from latkit.spaces.darts.zoo import get_genotype

_KERNELS = {"sep_conv": 8, "dil_conv": 4, "max_pool": 1, "avg_pool": 1}


def network_cost(genotype: Genotype, network: DartsConfig) -> Cost:
    """MACs and parameters of the network of a genotype (no auxiliary head)."""
    reduce_width = len(genotype.reduce_concat)
    total = _frame_cost(network, len(genotype.normal_concat), reduce_width)
    for place in network.walk(len(genotype.normal_concat), reduce_width):
        cell = genotype.reduce if place.reduction else genotype.normal
        for name, source in cell:
            stride = 2 if place.reduction and source < 2 else 1
            total += operation_cost(name, place.channels, place.side, stride)
    return total


def operation_cost(name: str, channels: int, side: int, stride: int) -> Cost:
    """Cost of one operation whose output is ``side`` pixels wide and high."""
    c, pixels = channels, side * side
    kind, _, kernel_text = name.rpartition("_")
    if kind in ("sep_conv", "dil_conv"):
        kernel = int(kernel_text[0])
        once = Cost((c * kernel**2 + c * c) * pixels, c * kernel**2 + c * c + 2 * c)
        return once + once if kind == "sep_conv" else once
    if name == "conv_7x1_1x7":
        # The 1x7 half has applied only the horizontal part of the stride.
        macs = 7 * c * c * pixels * stride + 7 * c * c * pixels
        return Cost(macs, 14 * c * c + 2 * c)
    if name == "skip_connect" and stride == 2:
        return conv_bn_cost(c, c, 1, side)
    return Cost()


def kernels_of(operation: str, stride: int) -> tuple[int, int]:
    """Kernels of an operation, and how many of them are convolutions.

    Activations, convolutions and batch norms each are a kernel.
    """
    if operation == "skip_connect" and stride == 2:
        return 5, 2  # a factorized reduction joins two convolutions
    count = _KERNELS.get(operation.rpartition("_")[0], 0)
    return count, count // 2


def operation_columns(name: str, channels: int, side: int, stride: int) -> Table:
    """The columns of an operation whose output is ``side`` pixels wide and high.

    Each of its kernels reads and writes about as many numbers as its output has.
    """
    kernels, convolutions = kernels_of(name, stride)
    cost = operation_cost(name, channels, side, stride)
    return operation_row(kernels, convolutions, cost, 2 * kernels * channels * side * side)


def network_columns(genotype: Genotype, network: DartsConfig) -> tuple[Table, int]:
    """The columns of a whole network for one image, and the parameters of its cells.

    The bytes are those of activations alone: how often weights are read depends on the batch.
    """
    c, side = network.channels, network.resolution
    total, params = np.zeros(4), 0
    if network.has_imagenet_stem:
        total[:2] = 8, 3
        total[3] = 4 * (c * side**2 / 2 + 4 * c * side**2 / 16)
    else:
        total[:2] = 2, 1
        total[3] = 4 * 4 * 3 * c * side**2
    for place in network.walk(len(genotype.normal_concat), len(genotype.reduce_concat)):
        pixels = place.channels * place.side**2
        # Two inputs brought to shape, four sums, and the nodes joined.
        total[:2] += 6 + 4 + 1, 2
        total[3] += 4 * (6 * place.channels * place.side_in**2 + 4 * 3 * pixels + 2 * 4 * pixels)
        for name, source in genotype.reduce if place.reduction else genotype.normal:
            stride = 2 if place.reduction and source < 2 else 1
            kernels, convolutions = kernels_of(name, stride)
            total[:2] += kernels, convolutions
            params += operation_cost(name, place.channels, place.side, stride).params
            total[3] += 4 * 2 * kernels * pixels
    total[2] = network_cost(genotype, network).macs
    return total, params


def analytic_table(operations: tuple[str, ...], edges: int, network: DartsConfig) -> AnalyticTable:
    """The table of the normal cells; the reduction cells are part of the frame.

    Args:
        operations: of the space.
        edges: of a cell.
        network: the network around the cells.
    """
    table = np.zeros((edges, len(operations), len(COLUMNS)))
    reduction = get_genotype(network.reduction)
    reduce_width = len(reduction.reduce_concat)
    frame = _frame_cost(network, 4, reduce_width)
    for place in network.walk(4, reduce_width):
        if place.reduction:
            for name, source in reduction.reduce:
                stride = 2 if source < 2 else 1
                frame += operation_cost(name, place.channels, place.side, stride)
            continue
        for index, name in enumerate(operations):
            table[:, index] += operation_columns(name, place.channels, place.side, 1)
    return AnalyticTable(frame_row(frame), table)


def _frame_cost(network: DartsConfig, normal_width: int, reduce_width: int) -> Cost:
    """Of the stem, what brings the inputs of cells to their width, and the classifier."""
    c, side = network.channels, network.resolution
    if network.has_imagenet_stem:
        total = (
            conv_bn_cost(3, c // 2, 3, side // 2)
            + conv_bn_cost(c // 2, c, 3, side // 4)
            + conv_bn_cost(c, c, 3, side // 8)
        )
    else:
        total = conv_bn_cost(3, 3 * c, 3, side)
    for place in network.walk(normal_width, reduce_width):
        # Both inputs are brought to this cell's channels at the resolution of the later one;
        # a factorized reduction costs as many MACs per output pixel as a 1x1 convolution.
        for c_in in (place.c_prev_prev, place.c_prev):
            total += conv_bn_cost(c_in, place.channels, 1, place.side_in)
    channels = network.classifier_channels(normal_width, reduce_width)
    return total + classifier_cost(channels, network.classes)
