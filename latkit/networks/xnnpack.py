"""XNNPACK's graphs as ExecuTorch stores them, translated from latkit's ONNX graphs.

ExecuTorch's own way (``torch.export``, then ``to_edge_transform_and_lower``) takes a minute for a
network. What it makes is known, though: the nodes, the layouts and the transposes between them, and
the activations that are part of a node. The same is written here, node by node; a test compares
both. The rules are those of ExecuTorch 1.5 (``executorch/backends/xnnpack``: ``operators``,
``_passes/channels_last_tagged_reshape_pass.py``, ``_passes/fuse_activation_pass.py``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx

from latkit.core.errors import InputError
from latkit.networks.flatbuffer import Numbers
from latkit.networks.onnx_model import INPUT, OUTPUT, OnnxNetwork
from latkit.networks.xnnpack_graph import (
    ADD,
    AVERAGE_POOL,
    CLAMP,
    CONCATENATE,
    CONV,
    DEPTHWISE,
    FULLY_CONNECTED,
    GLOBAL_AVERAGE_POOL,
    KEEP_DIMS,
    MAX_POOL,
    MULTIPLY,
    NHWC,
    NONE,
    RESHAPE,
    SLICE,
    GraphInTheMaking,
    Tensor,
    XnnpackGraph,
)

_TAKE_ACTIVATION = {ADD, FULLY_CONNECTED, CONV, DEPTHWISE, MULTIPLY}


def to_xnnpack(network: OnnxNetwork) -> XnnpackGraph:
    """Translate a network.

    Args:
        network: in fp32, with a fixed number of images.

    Raises:
        InputError: it has an operator that XNNPACK or this translation lacks.
    """
    return _Translation(network).whole()


class _Translation(GraphInTheMaking):
    def __init__(self, network: OnnxNetwork) -> None:
        super().__init__()
        self.network = network
        self.tensors: dict[str, Tensor] = {}
        self.initializers = {i.name: i for i in network.model.graph.initializer}
        # How many nodes have a tensor among their inputs.
        self.users = Counter(name for node in network.model.graph.node for name in set(node.input))
        self._weights: dict[tuple[str, tuple[int, ...]], int] = {}

    def whole(self) -> XnnpackGraph:
        graph = self.network.model.graph
        given = self.tensors[INPUT] = self.value(_fixed_shape(graph.input[0]))
        for node in graph.node:
            rule = _RULES.get(node.op_type)
            if rule is None:
                raise _no_form(f"the operator {node.op_type}")
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            self.tensors[node.output[0]] = rule(self, list(node.input), attributes)
        return self.finished(given, self.in_layout(self.tensors[OUTPUT], nhwc=False))

    def weight(self, name: str, axes: tuple[int, ...]) -> int:
        """The value of an initialiser, transposed."""
        if (name, axes) not in self._weights:
            if name in self.network.weights:
                array = self.network.weights[name]
            else:  # one that the graph holds itself
                array = np.atleast_1d(onnx.numpy_helper.to_array(self.initializers[name]))
            self._weights[name, axes] = self.constant(name, array, axes)
        return self._weights[name, axes]

    # --- operators, of the names of their inputs and their attributes --------------------------

    def input(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise _no_form(f"a constant ({name}) where a tensor is expected")
        return self.tensors[name]

    def conv(self, inputs: list[str], attributes: dict[str, Any]) -> Tensor:
        x = self.in_layout(self.input(inputs[0]), nhwc=True)
        c_out, c_in, *kernel = self.network.weights[inputs[1]].shape
        group = attributes.get("group", 1)
        depthwise = c_in == 1
        weight = self.weight(inputs[1], (1, 2, 3, 0) if depthwise else NHWC)
        pads, strides = attributes["pads"], attributes["strides"]
        dilations = attributes["dilations"]
        out = self.value(
            (x.shape[0], c_out, *_output_sizes(x.shape, kernel, strides, pads, dilations)), True
        )
        bias = self.weight(inputs[2], (0,)) if len(inputs) > 2 else NONE
        values = [
            *_edges(pads), *kernel, *strides, *dilations, c_in, c_out // group, group, 0, 0,
            x.id, weight, bias, out.id,
        ]  # fmt: skip
        return self.node(DEPTHWISE if depthwise else CONV, dict(enumerate(values)), out)

    def pool(self, inputs: list[str], attributes: dict[str, Any], kind: int) -> Tensor:
        pads, kernel = attributes["pads"], attributes["kernel_shape"]
        if kind == AVERAGE_POOL and attributes.get("count_include_pad") and any(pads):
            raise _no_form("an average over padding")
        if attributes.get("ceil_mode"):
            raise _no_form("a pooling that rounds sizes up")
        x = self.in_layout(self.input(inputs[0]), nhwc=True)
        strides = attributes["strides"]
        sizes = _output_sizes(x.shape, kernel, strides, pads, (1, 1))
        out = self.value((*x.shape[:2], *sizes), True)
        dilation = int(kind == MAX_POOL)
        values = [
            *_edges(pads), *kernel, *strides, dilation, dilation, x.id, out.id, KEEP_DIMS,
        ]  # fmt: skip
        return self.node(kind, dict(enumerate(values)), out)

    def max_pool(self, inputs: list[str], attributes: dict[str, Any]) -> Tensor:
        return self.pool(inputs, attributes, MAX_POOL)

    def average_pool(self, inputs: list[str], attributes: dict[str, Any]) -> Tensor:
        return self.pool(inputs, attributes, AVERAGE_POOL)

    def global_average_pool(self, inputs: list[str], attributes: dict[str, Any]) -> Tensor:
        x = self.in_layout(self.input(inputs[0]), nhwc=True)
        out = self.value((*x.shape[:2], 1, 1), True)
        return self.node(GLOBAL_AVERAGE_POOL, {0: x.id, 1: out.id, 2: KEEP_DIMS}, out)

    def relu(self, inputs: list[str], attributes: dict[str, Any]) -> Tensor:
        x = self.input(inputs[0])
        maker = self.makers.get(x.id)
        if maker is not None and maker.kind in _TAKE_ACTIVATION and self.users[inputs[0]] == 1:
            maker.activation = True
            return x
        out = self.value(x.shape, x.nhwc)
        self.node(CLAMP, {0: x.id, 1: out.id}, out)
        self.makers[out.id].activation = True
        return out

    def add(self, inputs: list[str], attributes: dict[str, Any]) -> Tensor:
        a, b = self.in_one_layout([self.input(name) for name in inputs])
        if a.shape != b.shape:
            raise _no_form("a sum of unlike shapes")
        out = self.value(a.shape, a.nhwc)
        return self.node(ADD, {0: a.id, 1: b.id, 2: out.id}, out)

    def multiply(self, inputs: list[str], attributes: dict[str, Any]) -> Tensor:
        """By a number, which has no NHWC."""
        if inputs[1] not in self.initializers or self.initializers[inputs[1]].dims:
            raise _no_form("a product with another tensor")
        x = self.in_layout(self.input(inputs[0]), nhwc=False)
        number = self.weight(inputs[1], (0,))
        out = self.value(x.shape)
        return self.node(MULTIPLY, {0: x.id, 1: number, 2: out.id}, out)

    def concat(self, inputs: list[str], attributes: dict[str, Any]) -> Tensor:
        tensors = self.in_one_layout([self.input(name) for name in inputs])
        axis = attributes["axis"] % len(tensors[0].shape)
        while len(tensors) > 1:
            tensors = [self._concat(tensors[:5], axis), *tensors[5:]]
        return tensors[0]

    def _concat(self, tensors: Sequence[Tensor], axis: int) -> Tensor:
        shape = list(tensors[0].shape)
        shape[axis] = sum(t.shape[axis] for t in tensors)
        out = self.value(shape, tensors[0].nhwc)
        ids = [t.id for t in tensors] + [NONE] * (5 - len(tensors))
        lies = NHWC.index(axis) if out.nhwc else axis
        values = [lies, *ids[:4], out.id, 0, ids[4]]
        return self.node(CONCATENATE[len(tensors)], dict(enumerate(values)), out)

    def cut(self, inputs: list[str], attributes: dict[str, Any]) -> Tensor:
        """One slice an axis, as PyTorch's indexing makes them."""
        x = self.input(inputs[0])
        starts, ends, axes = (self._integers(name) for name in inputs[1:4])
        if len(inputs) > 4 and any(step != 1 for step in self._integers(inputs[4])):
            raise _no_form("a slice in steps")
        for start, end, axis in zip(starts, ends, axes, strict=True):
            begin, stop, _ = slice(start, end).indices(x.shape[axis])
            shape = list(x.shape)
            shape[axis] = stop - begin
            out = self.value(shape, x.nhwc)
            order = NHWC if x.nhwc else range(len(shape))
            x = self.node(
                SLICE,
                {
                    0: len(shape),
                    1: Numbers("I", [begin if place == axis else 0 for place in order]),
                    2: Numbers("I", [shape[place] for place in order]),
                    3: x.id,
                    4: out.id,
                },
                out,
            )
        return x

    def reshape(self, inputs: list[str], attributes: dict[str, Any]) -> Tensor:
        shape = self.input(inputs[0]).shape
        wanted = [
            shape[place] if size == 0 else size
            for place, size in enumerate(self._integers(inputs[1]))
        ]
        rest = math.prod(size for size in wanted if size != -1)
        return self._reshaped(
            inputs[0], [math.prod(shape) // rest if size == -1 else size for size in wanted]
        )

    def flatten(self, inputs: list[str], attributes: dict[str, Any]) -> Tensor:
        shape, axis = self.input(inputs[0]).shape, attributes.get("axis", 1)
        return self._reshaped(inputs[0], [math.prod(shape[:axis]), math.prod(shape[axis:])])

    def _reshaped(self, name: str, shape: Sequence[int]) -> Tensor:
        x = self.in_layout(self.input(name), nhwc=False)
        out = self.value(shape)
        fields = {0: len(shape), 1: Numbers("I", shape), 2: x.id, 3: out.id}
        return self.node(RESHAPE, fields, out)

    def transpose(self, inputs: list[str], attributes: dict[str, Any]) -> Tensor:
        x = self.in_layout(self.input(inputs[0]), nhwc=False)
        axes = attributes["perm"]
        return self.transposed(x, self.value([x.shape[axis] for axis in axes]), axes)

    def fully_connected(self, inputs: list[str], attributes: dict[str, Any]) -> Tensor:
        if not attributes.get("transB"):
            raise _no_form("a product of matrices that is no linear layer")
        x = self.in_layout(self.input(inputs[0]), nhwc=False)
        weight = self.weight(inputs[1], (0, 1))
        bias = self.weight(inputs[2], (0,)) if len(inputs) > 2 else NONE
        out = self.value((x.shape[0], self.network.weights[inputs[1]].shape[0]))
        fields = dict(enumerate([x.id, weight, bias, out.id]))
        return self.node(FULLY_CONNECTED, fields, out)

    def batch_norm(self, inputs: list[str], attributes: dict[str, Any]) -> Tensor:
        """A norm that is folded into nothing is a depthwise 1x1 convolution."""
        x = self.in_layout(self.input(inputs[0]), nhwc=True)
        scale, shift, mean, variance = (
            self.network.weights[name].astype(np.float64) for name in inputs[1:]
        )
        scale = scale / np.sqrt(variance + np.float32(attributes["epsilon"]))
        channels = x.shape[1]
        weight = self.constant(None, scale.reshape(1, 1, 1, channels), (0, 1, 2, 3))
        out = self.value(x.shape, True)
        bias = self.constant(None, shift - mean * scale, (0,))
        values = [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, channels, 0, 0, x.id, weight, bias, out.id]
        return self.node(DEPTHWISE, dict(enumerate(values)), out)

    def identity(self, inputs: list[str], attributes: dict[str, Any]) -> Tensor:
        return self.input(inputs[0])

    def _integers(self, name: str) -> list[int]:
        return [int(v) for v in onnx.numpy_helper.to_array(self.initializers[name])]


_RULES: dict[str, Callable[[_Translation, list[str], dict[str, Any]], Tensor]] = {
    "Add": _Translation.add,
    "AveragePool": _Translation.average_pool,
    "BatchNormalization": _Translation.batch_norm,
    "Concat": _Translation.concat,
    "Conv": _Translation.conv,
    "Flatten": _Translation.flatten,
    "Gemm": _Translation.fully_connected,
    "GlobalAveragePool": _Translation.global_average_pool,
    "Identity": _Translation.identity,
    "MaxPool": _Translation.max_pool,
    "Mul": _Translation.multiply,
    "Relu": _Translation.relu,
    "Reshape": _Translation.reshape,
    "Slice": _Translation.cut,
    "Transpose": _Translation.transpose,
}


def _edges(pads: Sequence[int]) -> list[int]:
    """Top, right, bottom and left padding of ONNX's top, left, bottom and right one."""
    top, left, bottom, right = pads
    return [top, right, bottom, left]


def _output_sizes(
    shape: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
) -> list[int]:
    """Height and width of what a window makes of an image."""
    return [
        (shape[2 + i] + pads[i] + pads[2 + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i]
        + 1
        for i in range(2)
    ]


def _fixed_shape(info: onnx.ValueInfoProto) -> tuple[int, ...]:
    dims = info.type.tensor_type.shape.dim
    if not all(dim.HasField("dim_value") for dim in dims):
        raise InputError(
            "a program of ExecuTorch is made for one number of images here",
            "leave the number of images fixed, e.g. --setting imagenet,batch=8",
        )
    return tuple(int(dim.dim_value) for dim in dims)


def _no_form(what: str) -> InputError:
    return InputError(
        f"latkit has no XNNPACK form of {what}",
        "build the network of operations that XNNPACK has, or use another --backend",
    )
