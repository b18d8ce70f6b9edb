"""Networks as LiteRT (TensorFlow Lite) models, made of their ONNX form without a converter.

LiteRT lays images out as ``B x H x W x C`` and pads as TensorFlow does: what ONNX pads otherwise
gets an operator ``PAD`` of its own, as Google's converter (litert-torch) does it. Weights lie in
the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper, numpy_helper

from latkit.core.errors import InputError
from latkit.networks.onnx_model import INPUT, OUTPUT, OnnxNetwork
from latkit.networks.tflite_file import Shape, Tensor, TfliteFile

_SAME, _VALID = 0, 1
_RELU = 1
_NOT_FUSED = [(0, "b", 0)]


def tflite_model(network: OnnxNetwork) -> bytes:
    """A network in fp32 as a LiteRT model.

    Input: ``B x H x W x 3``; output: ``B x classes``.

    Args:
        network: with a fixed batch.

    Raises:
        InputError: it has an operator, or a form of one, that is not translated.
    """
    return _Translation(network).content()


class _Translation:
    def __init__(self, network: OnnxNetwork) -> None:
        graph = network.model.graph
        self._weights: dict[str, npt.NDArray[Any]] = dict(network.weights)
        for initializer in graph.initializer:
            if initializer.name not in self._weights:
                self._weights[initializer.name] = numpy_helper.to_array(initializer)
        self._uses = Counter(name for node in graph.node for name in node.input)
        self._file = TfliteFile()
        (images,) = graph.input
        batch, channels, height, width = (d.dim_value for d in images.type.tensor_type.shape.dim)
        if not batch:
            raise InputError("a LiteRT model has a fixed batch", "leave out --dynamic-batch")
        self._tensors = {INPUT: self._file.tensor((batch, height, width, channels))}
        self._file.inputs = [self._tensors[INPUT].index]
        nodes = list(graph.node)
        while nodes:
            taken = self._translate(nodes)
            del nodes[:taken]
        self._file.outputs = [self._tensors[OUTPUT].index]

    def content(self) -> bytes:
        return self._file.content()

    def _translate(self, nodes: Sequence[NodeProto]) -> int:
        """Add the first of some nodes; how many that was, together with what is fused into it."""
        node = nodes[0]
        if node.op_type == "Conv":
            return self._convolution(node, nodes[1] if len(nodes) > 1 else None)
        if node.op_type == "GlobalAveragePool":
            return self._mean(node, nodes[1] if len(nodes) > 1 else None)
        if node.op_type == "Reshape":
            return self._shuffle(nodes)
        rule: Callable[[NodeProto], Tensor] | None = {
            "Add": self._add, "AveragePool": self._average_pool, "Concat": self._concat,
            "BatchNormalization": self._batch_norm, "Flatten": self._flatten, "Gemm": self._gemm,
            "Identity": self._identity, "MaxPool": self._max_pool, "Mul": self._mul,
            "Relu": self._relu, "Slice": self._slice,
        }.get(node.op_type)  # fmt: skip
        if rule is None:
            raise _no_form(node.op_type)
        self._tensors[node.output[0]] = rule(node)
        return 1

    def _is_next(self, node: NodeProto, follower: NodeProto | None, operator: str) -> bool:
        """Whether a node's output goes to the following node alone, and that is one of these."""
        name = node.output[0]
        return (
            follower is not None
            and follower.op_type == operator
            and list(follower.input[:1]) == [name]
            and self._uses[name] == 1
        )

    def _convolution(self, node: NodeProto, follower: NodeProto | None) -> int:
        x, values = self._tensors[node.input[0]], _attributes(node)
        weight = self._weights[node.input[1]]  # out x in/groups x h x w
        groups, (out_channels, in_channels, *kernel) = values["group"], weight.shape
        bias = (
            self._weights[node.input[2]]
            if len(node.input) > 2
            else np.zeros(out_channels, np.float32)
        )
        x, padding = self._padded(x, kernel, values, 0.0)
        fused = self._is_next(node, follower, "Relu")
        (down, right), (tall, wide) = values["strides"], values["dilations"]
        last = [(_RELU if fused else 0, "b", 0), (wide, "i", 1), (tall, "i", 1)]
        options = [(padding, "b", 0), (right, "i", 0), (down, "i", 0)]
        if groups == x.shape[3] and in_channels == 1 and groups > 1:
            operator = "DEPTHWISE_CONV_2D"
            weight = weight.transpose(1, 2, 3, 0)
            options += [(out_channels // groups, "i", 0)]
        else:
            operator, weight = "CONV_2D", weight.transpose(0, 2, 3, 1)
        shape = (*self._window(x.shape, kernel, padding, values), out_channels)
        inputs = [x, self._file.constant(weight), self._file.constant(bias)]
        made = self._file.add(operator, inputs, shape, options + last)
        self._tensors[node.output[0]] = made
        if fused and follower is not None:
            self._tensors[follower.output[0]] = made
        return 1 + fused

    @staticmethod
    def _window(shape: Shape, kernel: Sequence[int], padding: int, values: dict[str, Any]) -> Shape:
        """Batch, height and width of what a window leaves."""
        sides = []
        dilations = values.get("dilations", (1, 1))
        for n, k, s, d in zip(shape[1:3], kernel, values["strides"], dilations, strict=True):
            reach = 0 if padding == _SAME else (k - 1) * d
            sides.append(-(-(n - reach) // s))
        return (shape[0], *sides)

    def _padded(
        self,
        x: Tensor,
        kernel: Sequence[int],
        values: dict[str, Any],
        fill: float,
        explicit: bool = False,
    ) -> tuple[Tensor, int]:
        """The input of a window, padded where TensorFlow would pad otherwise, and its padding.

        Args:
            x: not padded.
            kernel: height and width.
            values: attributes of the ONNX node.
            fill: what is padded with.
            explicit: whether padding must be in the input.
        """
        top, left, bottom, right = values["pads"]
        if not any(values["pads"]):
            return x, _VALID
        same = []
        dilations = values.get("dilations", (1, 1))
        for n, k, s, d in zip(x.shape[1:3], kernel, values["strides"], dilations, strict=True):
            total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            same.append((total // 2, total - total // 2))
        if same == [(top, bottom), (left, right)] and not explicit:
            return x, _SAME
        pads = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
        batch, height, width, channels = x.shape
        shape = (batch, height + top + bottom, width + left + right, channels)
        inputs = [x, self._file.constant(pads)]
        if fill == 0:
            return self._file.add("PAD", inputs, shape), _VALID
        inputs.append(self._file.constant(np.array([fill], np.float32)))
        return self._file.add("PADV2", inputs, shape), _VALID

    def _pool(self, operator: str, x: Tensor, values: dict[str, Any], padding: int) -> Tensor:
        (height, width), (down, right) = values["kernel_shape"], values["strides"]
        options = [
            (padding, "b", 0), (right, "i", 0), (down, "i", 0), (width, "i", 0), (height, "i", 0)
        ]  # fmt: skip
        shape = (*self._window(x.shape, (height, width), padding, values), x.shape[3])
        return self._file.add(operator, [x], shape, options)

    def _max_pool(self, node: NodeProto) -> Tensor:
        x, values = self._tensors[node.input[0]], _attributes(node)
        lowest = float(np.finfo(np.float32).min)
        x, padding = self._padded(x, values["kernel_shape"], values, lowest)
        return self._pool("MAX_POOL_2D", x, values, padding)

    def _average_pool(self, node: NodeProto) -> Tensor:
        x, values = self._tensors[node.input[0]], _attributes(node)
        height, width = x.shape[1:3]
        counts = bool(values.get("count_include_pad", 0))
        padded, padding = self._padded(x, values["kernel_shape"], values, 0.0, explicit=counts)
        made = self._pool("AVERAGE_POOL_2D", padded, values, padding)
        if padding == _SAME or counts or not any(values["pads"]):
            return made
        # The zeros were counted: a factor for each pixel takes them out.
        kernel, inside = values["kernel_shape"], []
        for side, n in enumerate((height, width)):
            starts = values["strides"][side] * np.arange(made.shape[1 + side])
            starts -= values["pads"][side]
            inside.append(np.minimum(starts + kernel[side], n) - np.maximum(starts, 0))
        whole = kernel[0] * kernel[1]
        factor = (whole / np.multiply.outer(*inside)).astype(np.float32)[None, :, :, None]
        return self._file.add("MUL", [made, self._file.constant(factor)], made.shape, _NOT_FUSED)

    def _add(self, node: NodeProto) -> Tensor:
        a, b = (self._tensors[name] for name in node.input)
        return self._file.add("ADD", [a, b], a.shape, _NOT_FUSED)

    def _mul(self, node: NodeProto) -> Tensor:
        x, factor = self._tensors[node.input[0]], self._weights[node.input[1]]
        if factor.size != 1:
            raise _no_form("a product with a tensor")
        constant = self._file.constant(factor.reshape(1))
        return self._file.add("MUL", [x, constant], x.shape, _NOT_FUSED)

    def _batch_norm(self, node: NodeProto) -> Tensor:
        x = self._tensors[node.input[0]]
        scale, shift, mean, variance = (self._weights[name] for name in node.input[1:5])
        factor = scale / np.sqrt(variance + _attributes(node)["epsilon"])
        scaled = self._file.constant(factor.astype(np.float32))
        moved = self._file.constant((shift - mean * factor).astype(np.float32))
        product = self._file.add("MUL", [x, scaled], x.shape, _NOT_FUSED)
        return self._file.add("ADD", [product, moved], x.shape, _NOT_FUSED)

    def _relu(self, node: NodeProto) -> Tensor:
        x = self._tensors[node.input[0]]
        return self._file.add("RELU", [x], x.shape)

    def _identity(self, node: NodeProto) -> Tensor:
        return self._tensors[node.input[0]]

    def _concat(self, node: NodeProto) -> Tensor:
        tensors = [self._tensors[name] for name in node.input]
        if _attributes(node)["axis"] != 1:
            raise _no_form("a concatenation of other than channels")
        shape = (*tensors[0].shape[:3], sum(tensor.shape[3] for tensor in tensors))
        return self._file.add("CONCATENATION", tensors, shape, [(3, "i", 0)])

    def _slice(self, node: NodeProto) -> Tensor:
        x = self._tensors[node.input[0]]
        starts, ends, axes = (self._weights[name].tolist() for name in node.input[1:4])
        begin = [0, 0, 0, 0]
        for start, end, axis in zip(starts, ends, axes, strict=True):
            if axis not in (2, 3) or start < 0 or end < x.shape[axis - 1]:
                raise _no_form("a slice of other than leading rows and columns")
            begin[axis - 1] = start
        size = tuple(n - start for n, start in zip(x.shape, begin, strict=True))
        places = [self._file.constant(np.array(values, np.int32)) for values in (begin, size)]
        return self._file.add("SLICE", [x, *places], size)

    def _mean(self, node: NodeProto, follower: NodeProto | None) -> int:
        x = self._tensors[node.input[0]]
        batch, _, _, channels = x.shape
        flat = self._is_next(node, follower, "Flatten")
        axes = self._file.constant(np.array([1, 2], np.int32))
        shape = (batch, channels) if flat else (batch, 1, 1, channels)
        made = self._file.add("MEAN", [x, axes], shape, [(int(not flat), "b", 0)])
        self._tensors[node.output[0]] = made
        if flat and follower is not None:
            self._tensors[follower.output[0]] = made
        return 1 + flat

    def _flatten(self, node: NodeProto) -> Tensor:
        x = self._tensors[node.input[0]]
        if x.shape[1:3] != (1, 1):
            raise _no_form("flattening of more than one pixel")
        return self._reshape(x, (x.shape[0], x.shape[3]))

    def _gemm(self, node: NodeProto) -> Tensor:
        x, weight = self._tensors[node.input[0]], self._weights[node.input[1]]
        if len(node.input) < 3 or _attributes(node).get("transB") != 1:
            raise _no_form("a product of matrices without bias")
        inputs = [x, *(self._file.constant(v) for v in (weight, self._weights[node.input[2]]))]
        return self._file.add("FULLY_CONNECTED", inputs, (x.shape[0], len(weight)), _NOT_FUSED)

    def _shuffle(self, nodes: Sequence[NodeProto]) -> int:
        """Channels in groups, turned: split, transposed and merged."""
        if [node.op_type for node in nodes[:3]] != ["Reshape", "Transpose", "Reshape"]:
            raise _no_form("a reshaping")
        split, turn, merge = nodes[:3]
        x = self._tensors[split.input[0]]
        whole, groups, each, *_ = self._weights[split.input[1]].tolist()
        turned_back = _attributes(turn)["perm"] == [0, 2, 1, 3, 4]
        if not turned_back or (whole, groups * each) != (0, x.shape[3]):
            raise _no_form("a reshaping of other than channels in groups")
        parted = self._reshape(x, (*x.shape[:3], groups, each))
        order = self._file.constant(np.array([0, 1, 2, 4, 3], np.int32))
        turned = self._file.add("TRANSPOSE", [parted, order], (*x.shape[:3], each, groups))
        self._tensors[merge.output[0]] = self._reshape(turned, x.shape)
        return 3

    def _reshape(self, x: Tensor, shape: Shape) -> Tensor:
        return self._file.add("RESHAPE", [x, self._file.constant(np.array(shape, np.int32))], shape)


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _no_form(what: str) -> InputError:
    return InputError(f"latkit has no LiteRT form of {what}", "use another --backend")
