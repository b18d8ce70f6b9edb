"""MACs and parameters of a network without building it.

MACs (multiply-adds) are those of convolutions and the classifier for one image; pooling,
normalisation and additions are not counted, as in the field's tables.
"""

from __future__ import annotations

from dataclasses import dataclass

from latkit.networks.setting import Setting
from latkit.spaces.genotype import Connections, Genotype


@dataclass(frozen=True)
class Cost:
    """Multiply-adds for one image, and trainable parameters."""

    macs: int = 0
    params: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.macs + other.macs, self.params + other.params)


def network_cost(genotype: Genotype, setting: Setting) -> Cost:
    """MACs and parameters of ``Network(genotype, setting)`` (no auxiliary head)."""
    c, side = setting.channels, setting.resolution
    if setting.macro == "imagenet":
        total = (
            _conv_bn(3, c // 2, 9, side // 2)
            + _conv_bn(c // 2, c, 9, side // 4)
            + _conv_bn(c, c, 9, side // 8)
        )
        c_prev_prev = c_prev = c
        side //= 8
    else:
        total = _conv_bn(3, 3 * c, 9, side)
        c_prev_prev = c_prev = 3 * c
    for index in range(setting.cells):
        reduction = index in setting.reduction_indices
        if reduction:
            c *= 2
        # Both inputs are brought to this cell's channels at the resolution of the later one;
        # a factorized reduction costs as many MACs per output pixel as a 1x1 convolution.
        total += _conv_bn(c_prev_prev, c, 1, side) + _conv_bn(c_prev, c, 1, side)
        if reduction:
            side //= 2
        connections = genotype.reduce if reduction else genotype.normal
        concat = genotype.reduce_concat if reduction else genotype.normal_concat
        total += _cell_cost(connections, c, side, reduction)
        c_prev_prev, c_prev = c_prev, len(concat) * c
    return total + Cost(c_prev * setting.classes, (c_prev + 1) * setting.classes)


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
        return _conv_bn(c, c, 1, side)
    return Cost()


def _cell_cost(connections: Connections, c: int, side: int, reduction: bool) -> Cost:
    total = Cost()
    for name, source in connections:
        total += operation_cost(name, c, side, 2 if reduction and source < 2 else 1)
    return total


def _conv_bn(c_in: int, c_out: int, taps: int, side: int) -> Cost:
    """A dense convolution of ``taps`` weights per channel pair, and its batch norm."""
    weights = c_in * c_out * taps
    return Cost(weights * side * side, weights + 2 * c_out)
