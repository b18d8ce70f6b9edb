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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from latkit.core.errors import InputError
from latkit.networks.flatbuffer import Number, Numbers, Table, write
from latkit.networks.onnx_model import INPUT, OUTPUT, OnnxNetwork

IDENTIFIER = b"XN01"
ALIGNMENT = 16
_FP32 = 1
_NONE = 2**32 - 1
_KEEP_DIMS = 64
_EXTERNAL_INPUT, _EXTERNAL_OUTPUT = 1, 2
_NHWC, _NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
# Types of nodes: places in the union XNodeUnion.
_ADD, _FULLY_CONNECTED, _TRANSPOSE, _CLAMP, _CONV, _AVERAGE_POOL = 1, 2, 5, 6, 7, 11
_DEPTHWISE, _MAX_POOL, _MULTIPLY, _GLOBAL_AVERAGE_POOL, _RESHAPE, _SLICE = 13, 14, 15, 19, 20, 35
_CONCATENATE = {2: 32, 3: 33, 4: 34, 5: 38}
_TAKE_ACTIVATION = {_ADD, _FULLY_CONNECTED, _CONV, _DEPTHWISE, _MULTIPLY}

Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Constant:
    """Weights of a graph.

    Attributes:
        name: of the ONNX initialiser.
        values: in the order of the graph.
        axes: by which the initialiser's were transposed.
    """

    name: str
    values: Array
    axes: tuple[int, ...]

    @property
    def padded_bytes(self) -> int:
        """What they take in a file."""
        return self.values.nbytes + -self.values.nbytes % ALIGNMENT


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


def to_xnnpack(network: OnnxNetwork) -> XnnpackGraph:
    """Translate a network.

    Args:
        network: in fp32, with a fixed number of images.

    Raises:
        InputError: it has an operator that XNNPACK or this translation lacks.
    """
    return _Translation(network).graph()


@dataclass(frozen=True)
class _Tensor:
    """A value of the graph; ``shape`` is NCHW, also where it lies in NHWC."""

    id: int
    shape: tuple[int, ...]
    nhwc: bool = False


@dataclass
class _Node:
    kind: int
    fields: dict[int, Any]
    activation: bool = False


@dataclass
class _Translation:
    network: OnnxNetwork
    values: list[dict[int, Any]] = field(default_factory=list)
    nodes: list[_Node] = field(default_factory=list)
    constants: list[Constant] = field(default_factory=list)

    def __post_init__(self) -> None:
        graph = self.network.model.graph
        self.tensors: dict[str, _Tensor] = {}
        self.initializers = {i.name: i for i in graph.initializer}
        # How many nodes have a tensor among their inputs.
        self.users = Counter(name for node in graph.node for name in set(node.input))
        self.partners: dict[int, _Tensor] = {}
        self.weights: dict[tuple[str, tuple[int, ...]], int] = {}
        self.makers: dict[int, _Node] = {}

    def graph(self) -> XnnpackGraph:
        shape = _fixed_shape(self.network.model.graph.input[0])
        given = self.tensors[INPUT] = self.value(shape)
        for node in self.network.model.graph.node:
            rule = _RULES.get(node.op_type)
            if rule is None:
                raise _no_form(f"the operator {node.op_type}")
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            self.tensors[node.output[0]] = rule(self, list(node.input), attributes)
        result = self.in_layout(self.tensors[OUTPUT], nhwc=False)
        for place, (tensor, flag) in enumerate(
            ((given, _EXTERNAL_INPUT), (result, _EXTERNAL_OUTPUT))
        ):
            self.values[tensor.id][4] = Number("I", place)
            self.values[tensor.id][5] = Number("I", flag)
        root = Table({
            0: "0",
            1: [_table(node) for node in self.nodes],
            2: [Table({0: Number("B", 1), 1: Table(value)}) for value in self.values],
            3: Number("I", 2),
            4: Numbers("I", [given.id]),
            5: Numbers("I", [result.id]),
            8: [Table({}), *self._places()],
        })  # fmt: skip
        content = bytes(write(root, IDENTIFIER))
        return XnnpackGraph(content, tuple(self.constants), shape, result.shape)

    def _places(self) -> Iterator[Table]:
        place = 0
        for constant in self.constants:
            yield Table({0: Number("Q", place), 1: Number("Q", constant.values.nbytes)})
            place += constant.padded_bytes

    # --- values ------------------------------------------------------------------------------

    def value(self, shape: Sequence[int], nhwc: bool = False, constant: int = 0) -> _Tensor:
        """Add a value; its shape is NCHW, but that of a constant is as it lies."""
        lies = [shape[axis] for axis in _NHWC] if nhwc else list(shape)
        number = len(self.values)
        self.values.append({
            0: Number("h", _FP32),
            1: Number("I", len(lies)),
            2: Numbers("I", lies),
            3: Number("I", constant),
            4: Number("I", _NONE),
            6: Number("I", number),
        })  # fmt: skip
        return _Tensor(number, tuple(shape), nhwc)

    def weight(self, name: str, axes: tuple[int, ...]) -> int:
        """The value of an initialiser, transposed."""
        if (name, axes) not in self.weights:
            if name in self.network.weights:
                array = self.network.weights[name]
            else:  # one that the graph holds itself
                array = np.atleast_1d(onnx.numpy_helper.to_array(self.initializers[name]))
            self.weights[name, axes] = self.constant(name, array, axes)
        return self.weights[name, axes]

    def constant(self, name: str, array: Array, axes: tuple[int, ...]) -> int:
        values = np.ascontiguousarray(array.transpose(axes), dtype=np.float32)
        self.constants.append(Constant(name, values, axes))
        return self.value(values.shape, constant=len(self.constants)).id

    def in_layout(self, tensor: _Tensor, nhwc: bool) -> _Tensor:
        """The tensor in a layout, transposed if need be, and once for all that need it."""
        if tensor.nhwc == nhwc:
            return tensor
        if tensor.id not in self.partners:
            other = self.value(tensor.shape, nhwc)
            self._transpose(tensor, other, _NHWC if nhwc else _NCHW)
            self.partners[tensor.id], self.partners[other.id] = other, tensor
        return self.partners[tensor.id]

    def in_one_layout(self, tensors: Sequence[_Tensor]) -> list[_Tensor]:
        """Tensors in NHWC if one of them lies so and all can, else in NCHW."""
        nhwc = any(t.nhwc for t in tensors) and all(len(t.shape) == 4 for t in tensors)
        return [self.in_layout(t, nhwc) for t in tensors]

    def _transpose(self, tensor: _Tensor, to: _Tensor, axes: Sequence[int]) -> None:
        self.node(
            _TRANSPOSE, {0: len(axes), 1: Numbers("I", axes), 2: tensor.id, 3: to.id}, output=to
        )

    def node(self, kind: int, fields: dict[int, Any], output: _Tensor) -> _Tensor:
        numbered = {
            slot: Number("I", value) if isinstance(value, int) else value
            for slot, value in fields.items()
        }
        self.nodes.append(_Node(kind, numbered))
        self.makers[output.id] = self.nodes[-1]
        return output

    # --- operators ---------------------------------------------------------------------------

    def input(self, name: str) -> _Tensor:
        if name not in self.tensors:
            raise _no_form(f"a constant ({name}) where a tensor is expected")
        return self.tensors[name]

    def conv(self, inputs: list[str], attributes: dict[str, Any]) -> _Tensor:
        x = self.in_layout(self.input(inputs[0]), nhwc=True)
        c_out, c_in, *kernel = self.network.weights[inputs[1]].shape
        group = attributes.get("group", 1)
        depthwise = c_in == 1
        weight = self.weight(inputs[1], (1, 2, 3, 0) if depthwise else _NHWC)
        pads, strides = attributes["pads"], attributes["strides"]
        dilations = attributes["dilations"]
        out = self.value(
            (x.shape[0], c_out, *_output_sizes(x.shape, kernel, strides, pads, dilations)), True
        )
        bias = self.weight(inputs[2], (0,)) if len(inputs) > 2 else _NONE
        values = [
            *_edges(pads), *kernel, *strides, *dilations, c_in, c_out // group, group, 0, 0,
            x.id, weight, bias, out.id,
        ]  # fmt: skip
        return self.node(_DEPTHWISE if depthwise else _CONV, dict(enumerate(values)), out)

    def pool(self, inputs: list[str], attributes: dict[str, Any], kind: int) -> _Tensor:
        pads, kernel = attributes["pads"], attributes["kernel_shape"]
        if kind == _AVERAGE_POOL and attributes.get("count_include_pad") and any(pads):
            raise _no_form("an average over padding")
        if attributes.get("ceil_mode"):
            raise _no_form("a pooling that rounds sizes up")
        x = self.in_layout(self.input(inputs[0]), nhwc=True)
        strides = attributes["strides"]
        sizes = _output_sizes(x.shape, kernel, strides, pads, (1, 1))
        out = self.value((*x.shape[:2], *sizes), True)
        dilation = int(kind == _MAX_POOL)
        values = [
            *_edges(pads), *kernel, *strides, dilation, dilation, x.id, out.id, _KEEP_DIMS,
        ]  # fmt: skip
        return self.node(kind, dict(enumerate(values)), out)

    def max_pool(self, inputs: list[str], attributes: dict[str, Any]) -> _Tensor:
        return self.pool(inputs, attributes, _MAX_POOL)

    def average_pool(self, inputs: list[str], attributes: dict[str, Any]) -> _Tensor:
        return self.pool(inputs, attributes, _AVERAGE_POOL)

    def global_average_pool(self, inputs: list[str], attributes: dict[str, Any]) -> _Tensor:
        x = self.in_layout(self.input(inputs[0]), nhwc=True)
        out = self.value((*x.shape[:2], 1, 1), True)
        return self.node(_GLOBAL_AVERAGE_POOL, {0: x.id, 1: out.id, 2: _KEEP_DIMS}, out)

    def relu(self, inputs: list[str], attributes: dict[str, Any]) -> _Tensor:
        x = self.input(inputs[0])
        maker = self.makers.get(x.id)
        if maker is not None and maker.kind in _TAKE_ACTIVATION and self.users[inputs[0]] == 1:
            maker.activation = True
            return x
        out = self.node(_CLAMP, {0: x.id, 1: len(self.values)}, self.value(x.shape, x.nhwc))
        self.nodes[-1].activation = True
        return out

    def add(self, inputs: list[str], attributes: dict[str, Any]) -> _Tensor:
        a, b = self.in_one_layout([self.input(name) for name in inputs])
        if a.shape != b.shape:
            raise _no_form("a sum of unlike shapes")
        out = self.value(a.shape, a.nhwc)
        return self.node(_ADD, {0: a.id, 1: b.id, 2: out.id}, out)

    def multiply(self, inputs: list[str], attributes: dict[str, Any]) -> _Tensor:
        """By a number, which has no NHWC."""
        if inputs[1] not in self.initializers or self.initializers[inputs[1]].dims:
            raise _no_form("a product with another tensor")
        x = self.in_layout(self.input(inputs[0]), nhwc=False)
        number = self.weight(inputs[1], (0,))
        out = self.value(x.shape)
        return self.node(_MULTIPLY, {0: x.id, 1: number, 2: out.id}, out)

    def concat(self, inputs: list[str], attributes: dict[str, Any]) -> _Tensor:
        tensors = self.in_one_layout([self.input(name) for name in inputs])
        axis = attributes["axis"] % len(tensors[0].shape)
        while len(tensors) > 1:
            tensors = [self._concat(tensors[:5], axis), *tensors[5:]]
        return tensors[0]

    def _concat(self, tensors: Sequence[_Tensor], axis: int) -> _Tensor:
        shape = list(tensors[0].shape)
        shape[axis] = sum(t.shape[axis] for t in tensors)
        out = self.value(shape, tensors[0].nhwc)
        ids = [t.id for t in tensors] + [_NONE] * (5 - len(tensors))
        lies = _NHWC.index(axis) if out.nhwc else axis
        values = [lies, *ids[:4], out.id, 0, ids[4]]
        return self.node(_CONCATENATE[len(tensors)], dict(enumerate(values)), out)

    def cut(self, inputs: list[str], attributes: dict[str, Any]) -> _Tensor:
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
            order = _NHWC if x.nhwc else range(len(shape))
            x = self.node(
                _SLICE,
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

    def reshape(self, inputs: list[str], attributes: dict[str, Any]) -> _Tensor:
        shape = self.input(inputs[0]).shape
        wanted = [
            shape[place] if size == 0 else size
            for place, size in enumerate(self._integers(inputs[1]))
        ]
        rest = math.prod(size for size in wanted if size != -1)
        return self._reshaped(
            inputs[0], [math.prod(shape) // rest if size == -1 else size for size in wanted]
        )

    def flatten(self, inputs: list[str], attributes: dict[str, Any]) -> _Tensor:
        shape, axis = self.input(inputs[0]).shape, attributes.get("axis", 1)
        return self._reshaped(inputs[0], [math.prod(shape[:axis]), math.prod(shape[axis:])])

    def _reshaped(self, name: str, shape: Sequence[int]) -> _Tensor:
        x = self.in_layout(self.input(name), nhwc=False)
        out = self.value(shape)
        fields = {0: len(shape), 1: Numbers("I", shape), 2: x.id, 3: out.id}
        return self.node(_RESHAPE, fields, out)

    def transpose(self, inputs: list[str], attributes: dict[str, Any]) -> _Tensor:
        x = self.in_layout(self.input(inputs[0]), nhwc=False)
        axes = attributes["perm"]
        out = self.value([x.shape[axis] for axis in axes])
        self._transpose(x, out, axes)
        return out

    def fully_connected(self, inputs: list[str], attributes: dict[str, Any]) -> _Tensor:
        if not attributes.get("transB"):
            raise _no_form("a product of matrices that is no linear layer")
        x = self.in_layout(self.input(inputs[0]), nhwc=False)
        weight = self.weight(inputs[1], (0, 1))
        bias = self.weight(inputs[2], (0,)) if len(inputs) > 2 else _NONE
        out = self.value((x.shape[0], self.network.weights[inputs[1]].shape[0]))
        fields = dict(enumerate([x.id, weight, bias, out.id]))
        return self.node(_FULLY_CONNECTED, fields, out)

    def batch_norm(self, inputs: list[str], attributes: dict[str, Any]) -> _Tensor:
        """A norm that is folded into nothing is a depthwise 1x1 convolution."""
        x = self.in_layout(self.input(inputs[0]), nhwc=True)
        scale, shift, mean, variance = (
            self.network.weights[name].astype(np.float64) for name in inputs[1:]
        )
        scale = scale / np.sqrt(variance + np.float32(attributes["epsilon"]))
        channels = x.shape[1]
        name = inputs[1]
        weight = self.constant(name, scale.reshape(1, 1, 1, channels), (0, 1, 2, 3))
        out = self.value(x.shape, True)
        bias = self.constant(name, shift - mean * scale, (0,))
        values = [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, channels, 0, 0, x.id, weight, bias, out.id]
        return self.node(_DEPTHWISE, dict(enumerate(values)), out)

    def identity(self, inputs: list[str], attributes: dict[str, Any]) -> _Tensor:
        return self.input(inputs[0])

    def _integers(self, name: str) -> list[int]:
        return [int(v) for v in onnx.numpy_helper.to_array(self.initializers[name])]


_RULES: dict[str, Callable[[_Translation, list[str], dict[str, Any]], _Tensor]] = {
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


def _table(node: _Node) -> Table:
    fields: dict[int, Any] = {0: Number("B", node.kind), 1: Table(node.fields)}
    if node.activation:  # from 0 to infinity
        fields[3] = Table({1: Number("f", math.inf)})
    return Table(fields)


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
