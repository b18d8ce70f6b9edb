"""Networks in int8: quantised as ONNX Runtime's own tool quantises them, for far less.

Activations are in uint8, with one scale and zero point a tensor; weights are in int8, symmetric,
with a scale for each output channel. The scales of activations follow from the smallest and the
largest value that the fp32 network has there on random images. Operators are written in their
integer forms (``QLinearConv`` and so on), which ONNX Runtime makes of pairs of ``QuantizeLinear``
and ``DequantizeLinear`` too, but a session of them takes half the time to make. There is no fp32
form behind them: a runtime runs them in integers or refuses the graph.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from latkit.networks.onnx_encoding import OnnxNode, decode_kind, encode_kind, encode_numbers
from latkit.networks.onnx_model import INPUT, OUTPUT, Array, OnnxGraph, OnnxNetwork
from latkit.networks.pool import INT8_LEVELS, DrawnWeight

ACTIVATION_LEVELS = 255

# ONNX Runtime's domain of the operators in integers that ONNX does not have.
_DOMAIN = "com.microsoft"
# They only choose and move: what they give has the scale of what they get.
_MOVING = {"MaxPool", "Slice", "Flatten", "Reshape", "Transpose"}

Range = tuple[float, float]


@dataclass(frozen=True)
class _Scale:
    """How a tensor is quantised: the names of its scale and zero point, and the scale."""

    names: tuple[str, str]
    value: float


def quantized(
    network: OnnxNetwork,
    shapes: tuple[list[int], list[int]],
    images: Array,
    run: Callable[[OnnxNetwork, Array], Sequence[Array]],
    pool: npt.NDArray[np.float32],
) -> OnnxNetwork:
    """A network in int8.

    Args:
        network: in fp32, as :func:`latkit.networks.onnx_model.build_onnx` makes it.
        shapes: of its images and logits.
        images: ``N x 3 x R x R``, of which the ranges of activations are taken.
        run: runs such a network on images, and returns all its outputs in order.
        pool: of its weights that are drawn; these are drawn again, in int8.
    """
    graph = network.graph
    assert graph is not None
    inner = _calibrated(graph)
    logits = [len(images), *shapes[1][1:]]
    outputs = run(graph.network(list(images.shape), logits, inner), images)
    tensors = {INPUT: images, **dict(zip([OUTPUT, *inner], outputs, strict=True))}
    ranges = {name: (float(x.min()), float(x.max())) for name, x in tensors.items()}
    return _QuantizedGraph(graph, ranges, pool).network(*shapes)


def _calibrated(graph: OnnxGraph) -> list[str]:
    """The inner tensors whose ranges have to be looked up, as they do not follow from others'."""
    follow = _MOVING | {"Relu", "Concat"}
    return [
        node.output
        for node in graph.nodes
        if node.output != OUTPUT and decode_kind(node.kind)[0] not in follow
    ]


class _QuantizedGraph(OnnxGraph):
    """The graph of a network in int8.

    Args:
        plain: the graph in fp32.
        ranges: smallest and largest value of those of its tensors whose ranges do not follow.
        pool: of drawn weights.
    """

    domains = (_DOMAIN,)

    def __init__(
        self, plain: OnnxGraph, ranges: Mapping[str, Range], pool: npt.NDArray[np.float32]
    ) -> None:
        super().__init__(TensorProto.FLOAT)
        self._plain = plain
        self._pool = pool
        self._ranges = dict(ranges)
        # Of tensors of the plain graph by their names there: the scale, and the names here of their
        # values in fp32 and in uint8.
        self._scales: dict[str, _Scale] = {}
        self._fp32: dict[str, str] = {INPUT: INPUT}
        self._uint8: dict[str, str] = {}
        for node in plain.nodes:
            self._complete_ranges(node)
        fused = self._fuse_relus()
        for node in plain.nodes:
            if node.output in fused:
                self._rename(node.inputs[0], node.output)
            else:
                self._add(node)
        self.name_output(self._as_fp32(OUTPUT))

    def _complete_ranges(self, node: OnnxNode) -> None:
        """Add the range of a node's output where it follows from those of its inputs."""
        operator, ranges = decode_kind(node.kind)[0], self._ranges
        if operator == "Relu":
            ranges[node.output] = (0.0, max(ranges[node.inputs[0]][1], 0.0))
        elif operator == "Concat":
            lows, highs = zip(*(ranges[name] for name in node.inputs), strict=True)
            ranges[node.output] = (min(lows), max(highs))
        elif operator in _MOVING:
            ranges[node.output] = ranges[node.inputs[0]]

    def _fuse_relus(self) -> set[str]:
        """The outputs of ReLUs whose input nothing else reads, which then has the ReLU's range."""
        readers = Counter(name for node in self._plain.nodes for name in node.inputs)
        readers[OUTPUT] += 1
        makers = {node.output: node for node in self._plain.nodes}
        fused = set()
        for node in self._plain.nodes:
            source = node.inputs[0]
            if (
                decode_kind(node.kind)[0] == "Relu"
                and source in makers
                and self._form(makers[source]) is not None
                and readers[source] == 1
            ):
                fused.add(node.output)
                self._ranges[source] = self._ranges[node.output]
        return fused

    def _form(self, node: OnnxNode) -> _Form | None:
        """The integer form of a node, if there is one."""
        operator = decode_kind(node.kind)[0]
        if operator == "Mul" and node.inputs[1] != "zero":  # another factor would need a scale
            return None
        return _FORMS.get(operator)

    def _add(self, node: OnnxNode) -> None:
        operator = decode_kind(node.kind)[0]
        form = self._form(node)
        if form is not None:
            inputs = form(self, node)
            self._uint8[node.output] = self.node(_integer_kind(node.kind), tuple(inputs))
        elif operator in _MOVING:
            x = self._as_uint8(node.inputs[0])
            inputs = [x, *map(self._constant, node.inputs[1:])]
            self._uint8[node.output] = self.node(node.kind, tuple(inputs))
            self._scales[node.output] = self._scale(node.inputs[0])
        elif operator == "Relu" and node.inputs[0] in self._uint8:
            # What is below zero is below the scale of the output.
            self._uint8[node.output] = self._quantize(self._as_fp32(node.inputs[0]), node.output)
        else:
            inputs = [
                self._constant(name) if name in self._plain.initializers else self._as_fp32(name)
                for name in node.inputs
            ]
            self._fp32[node.output] = self.node(node.kind, tuple(inputs))

    def _rename(self, old: str, new: str) -> None:
        self._uint8[new] = self._uint8[old]
        self._scales[new] = self._scale(old)

    def _as_uint8(self, name: str) -> str:
        """The name here of a tensor's values in uint8."""
        if name not in self._uint8:
            self._uint8[name] = self._quantize(self._fp32[name], name)
        return self._uint8[name]

    def _as_fp32(self, name: str) -> str:
        """The name here of a tensor's values in fp32."""
        if name not in self._fp32:
            read = (self._uint8[name], *self._scale(name).names)
            self._fp32[name] = self.add("DequantizeLinear", *read)
        return self._fp32[name]

    def _quantize(self, fp32: str, name: str) -> str:
        return self.add("QuantizeLinear", fp32, *self._scale(name).names)

    def _scale(self, name: str) -> _Scale:
        """How a tensor is quantised: zero, which pads convolutions, is a value that it can have."""
        found = self._scales.get(name)
        if found is None:
            low, high = self._ranges[name]
            low, high = min(low, 0.0), max(high, 0.0)
            value = np.float32((high - low) / ACTIVATION_LEVELS or 1.0)
            zero = int(np.clip(np.rint(-low / value), 0, ACTIVATION_LEVELS))
            names = self._float(value, len(self._scales)), self._integer(zero)
            found = self._scales[name] = _Scale(names, float(value))
        return found

    def _float(self, value: np.float32, number: int) -> str:
        """The initialiser of the scale that has this number."""
        name = f"scale{number}"
        return self.shared(name, encode_numbers(name, TensorProto.FLOAT, value.tobytes()))

    def _integer(self, value: int) -> str:
        """The initialiser of a number from 0 to 255."""
        name = f"uint8({value})"
        return self.shared(name, encode_numbers(name, TensorProto.UINT8, bytes((value,))))

    def _zeros(self, channels: int) -> str:
        """The initialiser of the zero points of a weight."""
        name = f"int8(0)[{channels}]"
        return self.shared(name, encode_numbers(name, TensorProto.INT8, bytes(channels), channels))

    def _constant(self, name: str) -> str:
        """An initialiser of the plain graph, as it is there."""
        weight = self._plain.weights.get(name)
        if weight is None:
            return self.shared(name, self._plain.initializers[name])
        return self.array(weight, self._plain.drawn.get(name))

    # The inputs of integer forms, in the order in which these have them.

    def _tensor(self, name: str) -> tuple[str, str, str]:
        return (self._as_uint8(name), *self._scale(name).names)

    def _of_convolution(self, node: OnnxNode) -> list[str]:
        x, weight, bias = self._operands(node)
        return [*x, *weight, *self._scale(node.output).names, *bias]

    def _of_product(self, node: OnnxNode) -> list[str]:
        x, weight, bias = self._operands(node)
        return [*x, *weight, *(bias or [""]), *self._scale(node.output).names]

    def _operands(self, node: OnnxNode) -> tuple[tuple[str, ...], tuple[str, ...], list[str]]:
        """Input, weight and bias of a convolution or a product with a matrix."""
        source, weight, *biases = node.inputs
        values, scales, drawn = self._quantized_weight(weight)
        names = (
            self.beside(values, TensorProto.INT8, drawn),
            self.array(scales, _constant_of(scales, "float32")),
            self._zeros(len(scales)),
        )
        unit = self._scale(source).value * scales.astype(np.float64)
        limits = np.iinfo(np.int32)
        sums = [
            np.rint(self._plain.weights[bias] / unit).clip(limits.min, limits.max).astype(np.int32)
            for bias in biases
        ]
        added = [self.beside(s, TensorProto.INT32, _constant_of(s, "int32")) for s in sums]
        return self._tensor(source), names, added

    def _quantized_weight(
        self, name: str
    ) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32], DrawnWeight | None]:
        """A weight in int8, the scale of each output channel, and how the weight is drawn."""
        weight, drawn = self._plain.weights[name], self._plain.drawn.get(name)
        if drawn is not None and drawn.start is not None:
            drawn = replace(drawn, dtype="int8")
            scales = np.full(len(weight), drawn.int8_scale, dtype=np.float32)
            return drawn.draw(self._pool), scales, drawn
        rows = weight.reshape(len(weight), -1)
        scales = np.abs(rows).max(axis=1) / np.float32(INT8_LEVELS)
        scales[scales == 0] = 1
        return np.rint(rows / scales[:, None]).astype(np.int8).reshape(weight.shape), scales, None

    def _of_sum(self, node: OnnxNode) -> list[str]:
        terms = [name for term in node.inputs for name in self._tensor(term)]
        return [*terms, *self._scale(node.output).names]

    def _of_zero(self, node: OnnxNode) -> list[str]:
        zero = self._integer(0)
        one = self.shared("one", encode_numbers("one", TensorProto.FLOAT, np.float32(1).tobytes()))
        return [*self._tensor(node.inputs[0]), zero, one, zero, *self._scale(node.output).names]

    def _of_concatenation(self, node: OnnxNode) -> list[str]:
        parts = [name for part in node.inputs for name in self._tensor(part)]
        return [*self._scale(node.output).names, *parts]

    def _of_pool(self, node: OnnxNode) -> list[str]:
        return [*self._tensor(node.inputs[0]), *self._scale(node.output).names]


def _constant_of(values: npt.NDArray[Any], dtype: str) -> DrawnWeight | None:
    """How a weight in one dimension is made, if it is one number everywhere."""
    if (values == values[0]).all():
        return DrawnWeight(values.shape, None, values[0].item(), dtype)
    return None


_Form = Callable[[_QuantizedGraph, OnnxNode], Sequence[str]]
_FORMS: dict[str, _Form] = {
    "Conv": _QuantizedGraph._of_convolution,
    "Gemm": _QuantizedGraph._of_product,
    "Add": _QuantizedGraph._of_sum,
    "Mul": _QuantizedGraph._of_zero,
    "Concat": _QuantizedGraph._of_concatenation,
    "AveragePool": _QuantizedGraph._of_pool,
    "GlobalAveragePool": _QuantizedGraph._of_pool,
}


@functools.lru_cache(maxsize=1024)
def _integer_kind(kind: bytes) -> bytes:
    """Operator and attributes of a node's integer form."""
    operator, attributes = decode_kind(kind)
    if operator == "Conv":
        return encode_kind("QLinearConv", **attributes)
    name = "QGemm" if operator == "Gemm" else f"QLinear{operator}"
    return encode_kind(name, domain=_DOMAIN, **attributes)
