"""XNNPACK's graphs as ExecuTorch stores them, in the making.

Fields and types are those of ``executorch/backends/xnnpack/serialization/schema.fbs``, layouts
those of its ``_passes/channels_last_tagged_reshape_pass.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from latkit.networks.flatbuffer import Number, Numbers, Table, write
from latkit.networks.pte_file import padding

# Types of nodes: places in the union XNodeUnion.
ADD, FULLY_CONNECTED, TRANSPOSE, CLAMP, CONV, AVERAGE_POOL = 1, 2, 5, 6, 7, 11
DEPTHWISE, MAX_POOL, MULTIPLY, GLOBAL_AVERAGE_POOL, RESHAPE, SLICE = 13, 14, 15, 19, 20, 35
CONCATENATE = {2: 32, 3: 33, 4: 34, 5: 38}
NHWC, NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
# The number of a value that there is not.
NONE = 2**32 - 1
KEEP_DIMS = 64
_IDENTIFIER = b"XN01"
_FP32 = 1
_EXTERNAL_INPUT, _EXTERNAL_OUTPUT = 1, 2

Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Constant:
    """Weights of a graph.

    Attributes:
        name: of the ONNX initialiser; None of values that were computed here.
        values: in the order of the graph.
        axes: by which the initialiser's were transposed.
    """

    name: str | None
    values: Array
    axes: tuple[int, ...]

    @property
    def padded_bytes(self) -> int:
        """What they take in a file."""
        return self.values.nbytes + padding(self.values)


@dataclass(frozen=True)
class XnnpackGraph:
    """A graph with one input and one output.

    Attributes:
        content: its FlatBuffer, in which constants are places in what follows it.
        constants: in the order in which they follow.
        input_shape, output_shape: of the graph, NCHW.
    """

    content: bytes
    constants: tuple[Constant, ...]
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """A value of the graph; ``shape`` is NCHW, also where it lies in NHWC."""

    id: int
    shape: tuple[int, ...]
    nhwc: bool = False


@dataclass
class Node:
    """What is computed.

    Attributes:
        kind: its type.
        fields: of its table, by their places.
        activation: whether a ReLU is part of it.
    """

    kind: int
    fields: dict[int, Any]
    activation: bool = False

    def table(self) -> Table:
        fields: dict[int, Any] = {0: Number("B", self.kind), 1: Table(self.fields)}
        if self.activation:  # from 0 to infinity
            fields[3] = Table({1: Number("f", math.inf)})
        return Table(fields)


class GraphInTheMaking:
    """Values, nodes and constants; what adds a node returns its output."""

    def __init__(self) -> None:
        self.values: list[dict[int, Any]] = []
        self.nodes: list[Node] = []
        self.constants: list[Constant] = []
        # The same tensor in the other layout, and what made a tensor, by the tensor's number.
        self._partners: dict[int, Tensor] = {}
        self.makers: dict[int, Node] = {}

    def finished(self, given: Tensor, result: Tensor) -> XnnpackGraph:
        """The graph.

        Args:
            given: its input, NCHW.
            result: its output, NCHW.
        """
        ends = ((given, _EXTERNAL_INPUT), (result, _EXTERNAL_OUTPUT))
        for place, (tensor, flag) in enumerate(ends):
            self.values[tensor.id][4] = place
            self.values[tensor.id][5] = flag
        root = Table({
            0: "0",
            1: [node.table() for node in self.nodes],
            2: [Table({0: Number("B", 1), 1: Table(value)}) for value in self.values],
            3: len(ends),
            4: Numbers("I", [given.id]),
            5: Numbers("I", [result.id]),
            8: [Table({}), *self._places()],
        })  # fmt: skip
        content = bytes(write(root, _IDENTIFIER))
        return XnnpackGraph(content, tuple(self.constants), given.shape, result.shape)

    def _places(self) -> Iterator[Table]:
        place = 0
        for constant in self.constants:
            yield Table({0: Number("Q", place), 1: Number("Q", constant.values.nbytes)})
            place += constant.padded_bytes

    def value(self, shape: Sequence[int], nhwc: bool = False, constant: int = 0) -> Tensor:
        """Add a value; its shape is NCHW, but that of a constant is as it lies."""
        lies = [shape[axis] for axis in NHWC] if nhwc else list(shape)
        number = len(self.values)
        self.values.append({
            0: Number("h", _FP32),
            1: len(lies),
            2: Numbers("I", lies),
            3: constant,
            4: NONE,
            6: number,
        })  # fmt: skip
        return Tensor(number, tuple(shape), nhwc)

    def constant(self, name: str | None, array: Array, axes: tuple[int, ...]) -> int:
        """Add weights, transposed; the number of their value."""
        values = np.ascontiguousarray(array.transpose(axes), dtype=np.float32)
        self.constants.append(Constant(name, values, axes))
        return self.value(values.shape, constant=len(self.constants)).id

    def in_layout(self, tensor: Tensor, nhwc: bool) -> Tensor:
        """The tensor in a layout, transposed if need be, and once for all that need it."""
        if tensor.nhwc == nhwc:
            return tensor
        if tensor.id not in self._partners:
            other = self.value(tensor.shape, nhwc)
            self.transposed(tensor, other, NHWC if nhwc else NCHW)
            self._partners[tensor.id], self._partners[other.id] = other, tensor
        return self._partners[tensor.id]

    def in_one_layout(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Tensors in NHWC if one of them lies so and all can, else in NCHW."""
        nhwc = any(t.nhwc for t in tensors) and all(len(t.shape) == 4 for t in tensors)
        return [self.in_layout(t, nhwc) for t in tensors]

    def transposed(self, tensor: Tensor, to: Tensor, axes: Sequence[int]) -> Tensor:
        fields = {0: len(axes), 1: Numbers("I", axes), 2: tensor.id, 3: to.id}
        return self.node(TRANSPOSE, fields, to)

    def node(self, kind: int, fields: dict[int, Any], output: Tensor) -> Tensor:
        """Add a node.

        Args:
            kind: its type.
            fields: of its table.
            output: what it makes.
        """
        self.nodes.append(Node(kind, fields))
        self.makers[output.id] = self.nodes[-1]
        return output
