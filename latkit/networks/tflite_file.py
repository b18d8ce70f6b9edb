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
        self._builder: Any = None
        self._written: dict[tuple[Any, ...], int] = {}  # vectors and tables, where they are

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
        import flatbuffers

        # Large enough from the start: it would be copied whenever it grows.
        size = sum(values.nbytes + 32 for values in self._buffers if values is not None)
        tables = 128 * (len(self._tensors) + len(self._operators) + 8)
        builder = self._builder = flatbuffers.Builder(size + tables)
        names = list(dict.fromkeys(operator for operator, *_ in self._operators))
        buffers = self._vector([self._buffer(values) for values in self._buffers])
        tensors = self._vector([self._one_tensor(*tensor) for tensor in self._tensors])
        operators = self._vector(
            [
                self._operator(names.index(name), name, inputs, output, fields)
                for name, inputs, output, fields in self._operators
            ]
        )
        inputs, outputs = self._ints(self.inputs), self._ints(self.outputs)
        builder.StartObject(5)
        for slot, offset in enumerate((tensors, inputs, outputs, operators)):
            builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        subgraphs = self._vector([builder.EndObject()])
        codes = self._vector([self._code(_OPERATORS[name][0]) for name in names])
        builder.StartObject(8)
        builder.PrependUint32Slot(0, SCHEMA_VERSION, 0)
        for slot, offset in ((1, codes), (2, subgraphs), (4, buffers)):
            builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        builder.Finish(builder.EndObject(), b"TFL3")
        return bytes(builder.Output())

    def _vector(self, offsets: Sequence[int]) -> int:
        self._builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return int(self._builder.EndVector())

    def _ints(self, values: Sequence[int]) -> int:
        """A vector of numbers; equal ones, as shapes are, are one."""
        key = tuple(values)
        if key not in self._written:
            vector = self._builder.CreateNumpyVector(np.array(values, np.int32))
            self._written[key] = int(vector)
        return self._written[key]

    def _buffer(self, values: npt.NDArray[Any] | None) -> int:
        builder = self._builder
        data = None
        if values is not None:
            content = values.tobytes()
            builder.StartVector(1, len(content), 16)  # kernels read 16 bytes at once
            head = builder.head = builder.Head() - len(content)
            builder.Bytes[head : head + len(content)] = content
            data = builder.EndVector()
        builder.StartObject(1)
        if data is not None:
            builder.PrependUOffsetTRelativeSlot(0, data, 0)
        return int(builder.EndObject())

    def _one_tensor(self, shape: Shape, kind: int, buffer: int) -> int:
        sizes = self._ints(shape)
        self._builder.StartObject(4)
        self._builder.PrependUOffsetTRelativeSlot(0, sizes, 0)
        self._builder.PrependInt8Slot(1, kind, 0)
        self._builder.PrependUint32Slot(2, buffer, 0)
        return int(self._builder.EndObject())

    def _operator(
        self, code: int, name: str, inputs: list[int], output: int, fields: Fields
    ) -> int:
        builder, (_, table) = self._builder, _OPERATORS[name]
        read, written = self._ints(inputs), self._ints([output])
        options = self._options(fields)
        builder.StartObject(5)
        builder.PrependUint32Slot(0, code, 0)
        builder.PrependUOffsetTRelativeSlot(1, read, 0)
        builder.PrependUOffsetTRelativeSlot(2, written, 0)
        if table:
            builder.PrependUint8Slot(3, table, 0)
            builder.PrependUOffsetTRelativeSlot(4, options, 0)
        return int(builder.EndObject())

    def _options(self, fields: Fields) -> int:
        """A table of options; equal ones are one."""
        key = ("options", *fields)
        if key not in self._written:
            self._builder.StartObject(len(fields))
            for slot, (value, kind, default) in enumerate(fields):
                put = "PrependInt8Slot" if kind == "b" else "PrependInt32Slot"
                getattr(self._builder, put)(slot, value, default)
            self._written[key] = int(self._builder.EndObject())
        return self._written[key]

    def _code(self, number: int) -> int:
        self._builder.StartObject(4)
        self._builder.PrependInt8Slot(0, number, 0)
        self._builder.PrependInt32Slot(2, 1, 0)  # the operator's version; 0 is not one
        self._builder.PrependInt32Slot(3, number, 0)
        return int(self._builder.EndObject())
