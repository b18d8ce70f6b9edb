"""ONNX models as the bytes of their files, put together of parts that are encoded once.

A network has hundreds of nodes and weights, few of them of different kinds. A message of protobuf
for each takes Python longer than all of what is below, and with every ten thousand blocks of memory
that messages have freed, protobuf gives the process's free memory back to the system, which the
next networks have to get again, page by page.

The bytes are those that protobuf writes: fields in the order of their numbers
(https://protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import onnx
from onnx import TensorProto, helper

# Numbers of fields: of a node, a graph, a model, a tensor and an entry of a table of strings.
_NODE_INPUT, _NODE_OUTPUT = 1, 2
_GRAPH_NODE, _GRAPH_NAME, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 2, 5, 11, 12
_MODEL_GRAPH = 7
_TENSOR_DATA_TYPE, _TENSOR_NAME, _TENSOR_RAW_DATA, _TENSOR_EXTERNAL_DATA = 2, 8, 9, 13
_ENTRY_KEY, _ENTRY_VALUE = 1, 2


class OnnxNode(NamedTuple):
    """A node with one output.

    Attributes:
        kind: operator and attributes (:func:`encode_kind`).
        inputs: names of tensors.
        output: the name of its output.
    """

    kind: bytes
    inputs: tuple[str, ...]
    output: str


def encode_kind(operator: str, **attributes: Any) -> bytes:
    """What a node is, but for the names of what it reads and writes.

    Args:
        operator: of ONNX.
        attributes: of it.
    """
    # A text as the key: 1 and 1.0 are equal, but not the same attribute.
    key = operator, repr(attributes)
    kind = _KINDS.get(key)
    if kind is None:
        kind = bytes(helper.make_node(operator, [], [], **attributes).SerializeToString())
        if all(isinstance(value, (int, float, str, list)) for value in attributes.values()):
            _KINDS[key] = kind
    return kind


# As many as networks have different ones, which is some hundreds.
_KINDS: dict[tuple[str, str], bytes] = {}


@functools.lru_cache(maxsize=1024)
def encode_integers(name: str, values: tuple[int, ...]) -> bytes:
    """An initialiser of integers.

    Args:
        name: of it.
        values: one dimension of them.
    """
    tensor = helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
    return bytes(tensor.SerializeToString())


def encode_numbers(name: str, element_type: int, data: bytes, count: int | None = None) -> bytes:
    """An initialiser of numbers.

    Args:
        name: of it.
        element_type: ONNX's number of their type.
        data: the numbers, little-endian.
        count: how many there are in one dimension; None of a single one without dimensions.
    """
    shape = b"" if count is None else TensorProto(dims=[count]).SerializeToString()
    return b"".join(
        (
            shape,
            bytes((_TENSOR_DATA_TYPE << 3, element_type)),
            _text(_TENSOR_NAME, name),
            _field(_TENSOR_RAW_DATA, data),
        )
    )


@functools.lru_cache(maxsize=1024)
def decode_kind(kind: bytes) -> tuple[str, dict[str, Any]]:
    """Operator and attributes of a node; the inverse of :func:`encode_kind`."""
    node = onnx.NodeProto.FromString(kind)
    return node.op_type, {a.name: helper.get_attribute_value(a) for a in node.attribute}


def encode_weight(
    name: str, shape: tuple[int, ...], element_type: int, offset: int, size: int
) -> bytes:
    """An initialiser whose data are kept beside the model.

    Args:
        name: of it.
        shape: of it.
        element_type: ONNX's number of it.
        offset: of the data among those of all weights, in bytes.
        size: of the data in bytes.
    """
    form, length = _weight_form(shape, element_type, size)
    return b"".join(
        (
            form,
            _text(_TENSOR_NAME, name),
            _LOCATION,
            _field(_TENSOR_EXTERNAL_DATA, _OFFSET + _field(_ENTRY_VALUE, b"%d" % offset)),
            length,
        )
    )


@functools.lru_cache(maxsize=1024)
def _weight_form(shape: tuple[int, ...], element_type: int, size: int) -> tuple[bytes, bytes]:
    """What comes before the name of such an initialiser, and after its offset."""
    form = TensorProto(dims=shape, data_type=element_type).SerializeToString()
    place = TensorProto(data_location=TensorProto.EXTERNAL).SerializeToString()
    return form, _entry("length", str(size)) + place


def encode_model(
    nodes: Sequence[OnnxNode],
    initializers: Sequence[bytes],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    *,
    name: str,
    opset: int,
    ir_version: int,
    domains: Sequence[str] = (),
) -> bytes:
    """The file of a model.

    Args:
        nodes: in an order in which they can run.
        initializers: encoded.
        inputs, outputs: of the model.
        name: of the graph and its producer.
        opset: version of ONNX's operators.
        ir_version: of the file.
        domains: whose operators it has beside ONNX's own, each in its first version.
    """
    graph = b"".join(
        (
            *map(_encode_node, nodes),
            _text(_GRAPH_NAME, name),
            *(_field(_GRAPH_INITIALIZER, initializer) for initializer in initializers),
            *(_field(_GRAPH_INPUT, value.SerializeToString()) for value in inputs),
            *(_field(_GRAPH_OUTPUT, value.SerializeToString()) for value in outputs),
        )
    )
    producer = onnx.ModelProto(ir_version=ir_version, producer_name=name)
    operators = onnx.ModelProto(
        opset_import=[
            helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)
        ]
    )  # fmt: skip
    return b"".join(
        (
            producer.SerializeToString(),
            _field(_MODEL_GRAPH, graph),
            operators.SerializeToString(),
        )
    )


def _encode_node(node: OnnxNode) -> bytes:
    kind, inputs, output = node
    texts = [_text(_NODE_INPUT, name) for name in inputs]
    return _field(_GRAPH_NODE, b"".join((*texts, _text(_NODE_OUTPUT, output), kind)))


def _entry(key: str, value: str) -> bytes:
    """One entry of what is said of data beside a model."""
    content = _text(_ENTRY_KEY, key) + _text(_ENTRY_VALUE, value)
    return _field(_TENSOR_EXTERNAL_DATA, content)


@functools.lru_cache(maxsize=2**14)  # networks give their tensors the same names
def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes: number and type, how many, and these."""
    size = len(content)
    if size < 128:
        return bytes((number << 3 | 2, size)) + content
    digits = bytearray((number << 3 | 2,))
    while size > 127:
        digits.append(size & 127 | 128)
        size >>= 7
    digits.append(size)
    return bytes(digits) + content


_LOCATION = _entry("location", "weights")
_OFFSET = _text(_ENTRY_KEY, "offset")
