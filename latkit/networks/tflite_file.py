"""A LiteRT (TensorFlow Lite) file in the making: tensors, constants and operators of one graph.

A file is a FlatBuffer whose tables are numbered by the public schema
(``tensorflow/lite/schema/schema.fbs``, version 3), which only grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from latkit.networks.flatbuffer import Content, Number, Numbers, Table, write

SCHEMA_VERSION = 3
# Operators by their numbers in the schema, and the tables of their options.
_OPERATORS = {
    "ADD": (0, 11), "AVERAGE_POOL_2D": (1, 5), "CONCATENATION": (2, 10), "CONV_2D": (3, 1),
    "DEPTHWISE_CONV_2D": (4, 2), "FULLY_CONNECTED": (9, 8), "MAX_POOL_2D": (17, 5),
    "MUL": (18, 21), "RELU": (19, 0), "RESHAPE": (22, 17), "PAD": (34, 22), "TRANSPOSE": (39, 26),
    "MEAN": (40, 27), "PADV2": (60, 43), "SLICE": (65, 48),
}  # fmt: skip
_FLOAT32, _INT32 = 0, 2

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """A tensor of the model; of what is computed, ``B x H x W x C`` or ``B x C``."""

    index: int
    shape: Shape


# Value, type (a byte or an int) and default of each field of a table.
Fields = list[tuple[int, str, int]]


class TfliteFile:
    """A FlatBuffer of one subgraph in the making."""

    def __init__(self) -> None:
        self._buffers: list[npt.NDArray[Any] | None] = [None]  # the first is that of no data
        self._tensors: list[tuple[Shape, int, int]] = []
        self._operators: list[tuple[str, list[int], int, Fields]] = []
        self._constants: dict[tuple[Any, ...], Tensor] = {}
        self._computed: dict[tuple[Any, ...], Tensor] = {}
        self.inputs: list[int] = []
        self.outputs: list[int] = []

    def tensor(self, shape: Shape) -> Tensor:
        """A tensor that is computed, or the input."""
        self._tensors.append((shape, _FLOAT32, 0))
        return Tensor(len(self._tensors) - 1, shape)

    def constant(self, values: npt.NDArray[Any]) -> Tensor:
        """A tensor whose values lie in the file; shapes, places and single numbers once."""
        kind = _INT32 if values.dtype == np.int32 else _FLOAT32
        # Weights are never shared: a graph that does so fits the caches better than it should.
        small = kind == _INT32 or values.size == 1
        key = (kind, values.shape, values.tobytes() if small else len(self._buffers))
        if key not in self._constants:
            self._buffers.append(np.ascontiguousarray(values))
            self._tensors.append((values.shape, kind, len(self._buffers) - 1))
            self._constants[key] = Tensor(len(self._tensors) - 1, values.shape)
        return self._constants[key]

    def add(
        self, operator: str, inputs: Sequence[Tensor], shape: Shape, options: Fields | None = None
    ) -> Tensor:
        """An operator; its output. What is computed already is not computed again."""
        indices = [tensor.index for tensor in inputs]
        key = (operator, *indices, *(options or []))
        if key not in self._computed:
            output = self._computed[key] = self.tensor(shape)
            self._operators.append((operator, indices, output.index, options or []))
        return self._computed[key]

    def content(self) -> bytes:
        """The file."""
        names = list(dict.fromkeys(operator for operator, *_ in self._operators))
        subgraph = Table({
            0: [
                Table({0: Numbers("i", shape), 1: Number("b", kind), 2: buffer})
                for shape, kind, buffer in self._tensors
            ],
            1: Numbers("i", self.inputs),
            2: Numbers("i", self.outputs),
            3: [
                _operator(names.index(name), name, inputs, output, fields)
                for name, inputs, output, fields in self._operators
            ],
        })  # fmt: skip
        root = Table({
            0: SCHEMA_VERSION,
            1: [_code(_OPERATORS[name][0]) for name in names],
            2: [subgraph],
            4: [_buffer(values) for values in self._buffers],
        })  # fmt: skip
        return bytes(write(root, b"TFL3"))


def _buffer(values: npt.NDArray[Any] | None) -> Table:
    # Kernels read 16 bytes at once.
    return Table({} if values is None else {0: Content(values.tobytes(), 16)})


def _operator(code: int, name: str, inputs: list[int], output: int, fields: Fields) -> Table:
    made: dict[int, Any] = {0: code, 1: Numbers("i", inputs), 2: Numbers("i", [output])}
    if table := _OPERATORS[name][1]:
        options = {
            slot: Number(kind, value)
            for slot, (value, kind, default) in enumerate(fields)
            if value != default
        }
        made |= {3: Number("B", table), 4: Table(options)}
    return Table(made)


def _code(number: int) -> Table:
    # The operator's version is 1, the default.
    return Table({0: Number("b", number), 3: Number("i", number)})
