"""ONNX networks as networks of ncnn: a text of layers, and weights in the order in which it reads.

Two things are ncnn's own. A blob feeds one layer, so that what is used more than once goes through
a Split. And a layer with weights applies the ReLU behind it itself, if it is asked to: ncnn fuses
nothing while it loads, but all that converts networks for it does.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from onnx import AttributeProto, NodeProto, helper, numpy_helper

from latkit.core.errors import InputError
from latkit.networks.onnx_model import INPUT, OnnxNetwork

# What the text begins with.
MAGIC = 7767517
# Among the weights' names: the word before weights that may be of several types, 0 of fp32.
TYPE_WORD = ""
_FUSES_RELU = ("Convolution", "ConvolutionDepthWise", "InnerProduct")
# Of a channel shuffle's Transpose (see latkit.networks.mobile).
_SWAP_GROUPS = [0, 2, 1, 3, 4]
# An end of a Crop: the blob's own.
_REST = -233

Values = tuple[float, ...]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class NcnnNetwork:
    """A network of ncnn without the values of its weights.

    Attributes:
        layers: the content of a ``.param`` file.
        weights: the content of the ``.bin`` file in its order: names of the ONNX network's weights,
            and :data:`TYPE_WORD`.
    """

    layers: str
    weights: tuple[str, ...]


@dataclass
class _Layer:
    kind: str
    parameters: str
    inputs: Sequence[str]
    output: str


def to_ncnn(network: OnnxNetwork) -> NcnnNetwork:
    """An ONNX network for one image; input and output keep their names.

    Args:
        network: in fp32.

    Raises:
        InputError: ncnn has no layer that is one of its operators.
    """
    constants = {
        i.name: tuple(numpy_helper.to_array(i).ravel().tolist())
        for i in network.model.graph.initializer
        if i.name not in network.weights
    }
    all_nodes = network.model.graph.node
    uses = Counter(name for node in all_nodes for name in node.input)
    layers: list[_Layer] = []
    made: dict[str, _Layer] = {}  # by their outputs
    weights: list[str] = []
    nodes = iter(all_nodes)
    for node in nodes:
        names = list(node.input)
        held = [name for name in names if name in network.weights]
        inputs = [name for name in names if name not in constants and name not in network.weights]
        (output,) = node.output
        if node.op_type == "Relu":
            before = made.get(inputs[0])
            if before and before.kind in _FUSES_RELU and uses[inputs[0]] == 1:
                before.parameters += " 9=1"
                before.output = output
                continue
        if node.op_type == "Reshape":
            output = _end_of_shuffle(node, next(nodes, None), next(nodes, None))
        kind, parameters = _layer(
            node.op_type,
            len(inputs),
            tuple(attribute.SerializeToString() for attribute in node.attribute),
            tuple(network.weights[name].shape for name in held),
            tuple(constants[name] for name in names if name in constants),
        )
        made[output] = _Layer(kind, parameters, inputs, output)
        layers.append(made[output])
        if kind == "BatchNorm":
            scale, shift, mean, variance = held
            held = [scale, mean, variance, shift]
        elif held:
            held.insert(0, TYPE_WORD)
        weights += held
    return NcnnNetwork(_text(layers), tuple(weights))


def _text(layers: Sequence[_Layer]) -> str:
    uses = Counter(name for layer in layers for name in layer.inputs)
    taken: Counter[str] = Counter()
    lines: list[str] = []
    blobs = 0

    def take(blob: str) -> str:
        if uses[blob] < 2:
            return blob
        taken[blob] += 1
        return f"{blob}_{taken[blob]}"

    for number, layer in enumerate([_Layer("Input", "", (), INPUT), *layers]):
        count = str(len(layer.inputs))
        words = [layer.kind, f"n{number}", count, "1", *map(take, layer.inputs), layer.output]
        lines.append(" ".join(words) + layer.parameters)
        copies = uses[layer.output]
        blobs += 1
        if copies > 1:
            names = " ".join(f"{layer.output}_{place}" for place in range(1, copies + 1))
            lines.append(f"Split s{number} 1 {copies} {layer.output} {names}")
            blobs += copies
    return "\n".join([str(MAGIC), f"{len(lines)} {blobs}", *lines, ""])


def _end_of_shuffle(split: NodeProto, swap: NodeProto | None, merge: NodeProto | None) -> str:
    """The output of the three nodes that are a channel shuffle, one layer of ncnn.

    Raises:
        InputError: they are something else.
    """
    if (
        swap is None
        or merge is None
        or (swap.op_type, merge.op_type) != ("Transpose", "Reshape")
        or (swap.input[0], merge.input[0]) != (split.output[0], swap.output[0])
        or list(helper.get_attribute_value(swap.attribute[0])) != _SWAP_GROUPS
    ):
        raise _no_layer("Reshape")
    return str(merge.output[0])


# The same few dozen layers make up all networks of a space.
@functools.lru_cache(maxsize=4096)
def _layer(
    operator: str,
    inputs: int,
    attributes: tuple[bytes, ...],
    weights: tuple[Shape, ...],
    constants: tuple[Values, ...],
) -> tuple[str, str]:
    """Kind and parameters of the layer that an operator is.

    Args:
        operator: of ONNX.
        inputs: how many are no weights or constants.
        attributes: as protobuf messages.
        weights: their shapes.
        constants: their values.

    Raises:
        InputError: there is none.
    """
    given: dict[str, Any] = {}
    for content in attributes:
        attribute = AttributeProto.FromString(content)
        given[attribute.name] = helper.get_attribute_value(attribute)
    translate = _OPERATORS.get(operator)
    layer = translate(given, inputs, weights, constants) if translate else None
    # What is left of the attributes nobody has looked at.
    if layer is None or given:
        raise _no_layer(operator)
    kind, parameters = layer
    return kind, "".join(
        # Releases of 2025 read no more than 15 characters of a value.
        f" {key}={value:.9g}" if isinstance(value, float) else f" {key}={value}"
        for key, value in parameters.items()
    )


def _no_layer(operator: str) -> InputError:
    return InputError(
        f"latkit has no layer of ncnn for the ONNX operator {operator} as this network has it",
        "use another --backend, or build the network of latkit's operations",
    )


# What translates an operator takes its attributes (and removes those that it knows), the number of
# its inputs, the shapes of its weights and the values of its constants; it returns None where ncnn
# has no such layer.
Parameters = dict[int, int | float]
Translated = tuple[str, Parameters] | None


def _convolution(
    given: dict[str, Any], inputs: int, weights: tuple[Shape, ...], constants: tuple[Values, ...]
) -> Translated:
    kernel = given.pop("kernel_shape")
    if len(kernel) != 2 or inputs != 1 or not weights:
        return None
    (height, width), strides, dilations = kernel, given.pop("strides"), given.pop("dilations")
    top, left, bottom, right = given.pop("pads")
    group = given.pop("group")
    parameters: Parameters = {
        0: weights[0][0], 1: width, 11: height, 2: dilations[1], 12: dilations[0],
        3: strides[1], 13: strides[0], 4: left, 14: top, 15: right, 16: bottom,
        5: len(weights) - 1, 6: math.prod(weights[0]),
    }  # fmt: skip
    if group == 1:
        return "Convolution", parameters
    return "ConvolutionDepthWise", {**parameters, 7: group}


def _classifier(
    given: dict[str, Any], inputs: int, weights: tuple[Shape, ...], constants: tuple[Values, ...]
) -> Translated:
    if given.pop("transB", 0) != 1 or inputs != 1 or not weights:
        return None
    return "InnerProduct", {0: weights[0][0], 1: len(weights) - 1, 2: math.prod(weights[0])}


def _norm(
    given: dict[str, Any], inputs: int, weights: tuple[Shape, ...], constants: tuple[Values, ...]
) -> Translated:
    if len(weights) != 4:
        return None
    return "BatchNorm", {0: weights[0][0], 1: given.pop("epsilon")}


def _pooling(average: int) -> Callable[..., Translated]:
    def translate(given: dict[str, Any], *_: object) -> Translated:
        height, width = given.pop("kernel_shape")
        strides = given.pop("strides")
        top, left, bottom, right = given.pop("pads")
        parameters = {
            0: average, 1: width, 11: height, 2: strides[1], 12: strides[0],
            3: left, 13: top, 14: right, 15: bottom,
            5: 1,  # sizes are rounded down
            6: given.pop("count_include_pad", 0),
        }  # fmt: skip
        return "Pooling", parameters

    return translate


def _crop(
    given: dict[str, Any], inputs: int, weights: tuple[Shape, ...], constants: tuple[Values, ...]
) -> Translated:
    """A Slice without the first row and column, as of a factorised reduction."""
    starts, ends, axes = constants
    if [*starts, *axes] != [1, 1, 2, 3] or min(ends) < 2**31 - 1:
        return None
    return "Crop", {0: 1, 1: 1, 2: 0, 3: _REST, 4: _REST, 5: _REST}


def _product(
    given: dict[str, Any], inputs: int, weights: tuple[Shape, ...], constants: tuple[Values, ...]
) -> Translated:
    """With one number."""
    factors = [number for values in constants for number in values]
    if inputs != 1 or len(factors) != 1:
        return None
    return "BinaryOp", {0: 2, 1: 1, 2: factors[0]}


def _shuffle(
    given: dict[str, Any], inputs: int, weights: tuple[Shape, ...], constants: tuple[Values, ...]
) -> Translated:
    (shape,) = constants
    return ("ShuffleChannel", {0: int(shape[1])}) if len(shape) == 5 else None


def _plain(
    kind: str, inputs: int | None, parameters: Parameters, axis: int | None = None
) -> Callable[..., Translated]:
    """What has always the same parameters.

    Args:
        kind: of the layer.
        inputs: that it must have; None: any number.
        parameters: of it.
        axis: that the operator must have; None: it has none.
    """

    def translate(given: dict[str, Any], count: int, *_: object) -> Translated:
        fits = inputs in (None, count) and axis == given.pop("axis", None)
        return (kind, parameters) if fits else None

    return translate


_OPERATORS: dict[str, Callable[..., Translated]] = {
    "Add": _plain("BinaryOp", 2, {0: 0}),
    "AveragePool": _pooling(1),
    "BatchNormalization": _norm,
    "Concat": _plain("Concat", None, {0: 0}, axis=1),
    "Conv": _convolution,
    "Flatten": _plain("Flatten", 1, {}, axis=1),
    "Gemm": _classifier,
    "GlobalAveragePool": _plain("Pooling", 1, {0: 1, 4: 1}),
    "Identity": _plain("Noop", 1, {}),
    "MaxPool": _pooling(0),
    "Mul": _product,
    "Relu": _plain("ReLU", 1, {}),
    "Reshape": _shuffle,
    "Slice": _crop,
}
