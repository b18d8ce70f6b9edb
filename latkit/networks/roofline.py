"""What each operation on each edge costs on paper: the columns of a roofline model.

An architecture's kernels, convolutions, MACs, bytes and parameters are those of the frame (stem,
joints, classifier) and the sum of its operations'. The table of a space in a setting is all that is
needed to cost any number of its architectures.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latkit.networks.cost import Cost, network_cost, operation_cost
from latkit.networks.setting import Setting
from latkit.networks.zoo import get_genotype
from latkit.spaces import ABSENT, Architecture, Genotype, SearchSpace, get_space

# Kernels are those of an eager run, convolutions among them. MACs and bytes are for one image, the
# bytes what fp32 inputs, weights and outputs take.
QUANTITIES = ("kernels", "convolutions", "macs", "bytes", "params")
_MACS, _PARAMS = QUANTITIES.index("macs"), QUANTITIES.index("params")
Table = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Roofline:
    """Costs on paper of a space's architectures in a setting.

    Attributes:
        frame: the quantities of what all architectures share; only MACs and parameters count.
        operations: an ``E x O x 5`` array, of each operation on each edge, in all cells together.
    """

    frame: Table
    operations: Table

    def cost(self, matrix: npt.ArrayLike) -> Table:
        """The quantities of architectures: ``n x 5`` from an ``n x E`` choice matrix."""
        array = np.atleast_2d(np.asarray(matrix, dtype=np.int64))
        edges = np.arange(array.shape[1])
        chosen = self.operations[edges, np.maximum(array, 0)]
        chosen[array == ABSENT] = 0
        return np.asarray(self.frame + chosen.sum(axis=1))


@functools.cache
def roofline(space_name: str, setting: Setting) -> Roofline:
    """The table of a space in a setting."""
    space = get_space(space_name)
    makers = {"darts": _darts, "nasbench201": _nasbench201, "fbnet": _fbnet}
    return makers[space_name](space, setting)


def architecture_costs(space: SearchSpace, matrix: npt.ArrayLike, setting: Setting) -> list[Cost]:
    """MACs and parameters of whole networks, of each row of a choice matrix."""
    costs = roofline(space.name, setting).cost(matrix)
    return [Cost(round(row[_MACS]), round(row[_PARAMS])) for row in costs]


def architecture_cost(architecture: Architecture, setting: Setting) -> Cost:
    """MACs and parameters of one whole network, which need not be a point of a space."""
    if isinstance(architecture, Genotype):
        return network_cost(architecture, setting)
    space = get_space(architecture.space)
    return architecture_costs(space, space.parse(str(architecture)), setting)[0]


def _row(kernels: int, convolutions: int, cost: Cost, activations: int) -> Table:
    """One operation's quantities; ``activations`` are the numbers it reads and writes."""
    nbytes = 4 * (activations + cost.params)
    return np.array([kernels, convolutions, cost.macs, nbytes, cost.params], dtype=np.float64)


def _frame(cost: Cost) -> Table:
    return np.array([0, 0, cost.macs, 0, cost.params], dtype=np.float64)


def kernels_of(operation: str, stride: int) -> tuple[int, int]:
    """Kernels of an operation of a DARTS cell, and how many of them are convolutions.

    Activations, convolutions and batch norms each are a kernel.
    """
    if operation == "skip_connect" and stride == 2:
        return 5, 2  # a factorized reduction joins two convolutions
    kernels = {"sep_conv": 8, "dil_conv": 4, "max_pool": 1, "avg_pool": 1}
    count = kernels.get(operation.rpartition("_")[0], 0)
    return count, count // 2


def _darts(space: SearchSpace, setting: Setting) -> Roofline:
    table = np.zeros((space.num_edges, space.num_operations, len(QUANTITIES)))
    c, side = setting.channels, setting.resolution // (8 if setting.macro == "imagenet" else 1)
    for index in range(setting.cells):
        if index in setting.reduction_indices:
            c, side = 2 * c, side // 2
            continue
        for o, name in enumerate(space.operations):
            kernels, convolutions = kernels_of(name, 1)
            touched = 2 * kernels * c * side * side
            cost = operation_cost(name, c, side, 1)
            table[:, o] += _row(kernels, convolutions, cost, touched)
    genotype = get_genotype(setting.reduction)
    some = space.unrank(0)
    whole = network_cost(space.genotype(some[0], genotype), setting)  # type: ignore[attr-defined]
    part = Roofline(_frame(Cost()), table).cost(some)[0]
    rest = Cost(whole.macs - round(part[_MACS]), whole.params - round(part[_PARAMS]))
    return Roofline(_frame(rest), table)


def _conv(c_in: int, c_out: int, kernel: int, side: int, groups: int = 1) -> Cost:
    """A convolution with a batch norm, to ``side`` pixels; ``groups`` divides both channels."""
    weights = c_in * c_out * kernel**2 // groups
    return Cost(weights * side * side, weights + 2 * c_out)


def _nasbench201(space: SearchSpace, setting: Setting) -> Roofline:
    table = np.zeros((space.num_edges, space.num_operations, len(QUANTITIES)))
    c, side = setting.channels, setting.resolution
    frame = _conv(3, c, 3, side)
    for stage in range(3):
        pixels = c * side * side
        rows = {
            "none": _row(1, 0, Cost(), 2 * pixels),
            "skip_connect": _row(0, 0, Cost(), 0),
            "nor_conv_1x1": _row(3, 1, _conv(c, c, 1, side), 6 * pixels),
            "nor_conv_3x3": _row(3, 1, _conv(c, c, 3, side), 6 * pixels),
            "avg_pool_3x3": _row(1, 0, Cost(), 2 * pixels),
        }
        table += setting.cells // 3 * np.array([rows[name] for name in space.operations])
        if stage < 2:
            c, side = 2 * c, side // 2
            # Two 3x3 convolutions, and pooling with a bare 1x1 convolution beside them.
            frame += _conv(c // 2, c, 3, side) + _conv(c, c, 3, side)
            frame += Cost(c // 2 * c * side * side, c // 2 * c)
    frame += Cost(c * setting.classes, 2 * c + (c + 1) * setting.classes)
    return Roofline(_frame(frame), table)


# Output channels, layers and stride of the first of them (FBNet, table 1).
_FBNET_STAGES = (
    (16, 1, 1), (24, 4, 2), (32, 4, 2), (64, 4, 2), (112, 4, 1), (184, 4, 2), (352, 1, 1),
)  # fmt: skip
_FBNET_HEAD = 1984


def _fbnet(space: SearchSpace, setting: Setting) -> Roofline:
    table = np.zeros((space.num_edges, space.num_operations, len(QUANTITIES)))
    side = setting.resolution // 2
    c_in, layer = setting.channels, 0
    frame = _conv(3, c_in, 3, side)
    for c_out, layers, first_stride in _FBNET_STAGES:
        for index in range(layers):
            stride = first_stride if index == 0 else 1
            for o, name in enumerate(space.operations):
                table[layer, o] = _mbconv(name, c_in, c_out, side, stride)
            side //= stride
            c_in, layer = c_out, layer + 1
    frame += _conv(c_in, _FBNET_HEAD, 1, side)
    frame += Cost(_FBNET_HEAD * setting.classes, (_FBNET_HEAD + 1) * setting.classes)
    return Roofline(_frame(frame), table)


def _mbconv(name: str, c_in: int, c_out: int, side: int, stride: int) -> Table:
    """An inverted residual, or a skip, which changes shapes by a 1x1 convolution."""
    after = side // stride
    if name == "skip":
        if stride == 1 and c_in == c_out:
            return np.zeros(len(QUANTITIES))
        touched = c_in * side**2 + c_out * after**2
        return _row(2, 1, _conv(c_in, c_out, 1, after), touched)
    kernel, expansion = int(name[1]), int(name[4])
    groups = 2 if name.endswith("g2") else 1
    middle = expansion * c_in
    cost = (
        _conv(c_in, middle, 1, side, groups)
        + _conv(middle, middle, kernel, after, middle)
        + _conv(middle, c_out, 1, after, groups)
    )
    touched = c_in * side**2 + 2 * middle * side**2 + 2 * middle * after**2 + c_out * after**2
    return _row(8, 3, cost, touched)
