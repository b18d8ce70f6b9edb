"""ExecuTorch's programs (``.pte``): one call of XNNPACK, which runs a whole network.

A file is a FlatBuffer that names its segments, and here has one: XNNPACK's graph and, at the end of
the file, its weights as they lie. So a file without its weights is one that ends earlier.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from latkit.networks.flatbuffer import Number, Numbers, Table, write
from latkit.networks.onnx_model import OnnxNetwork
from latkit.networks.pte_file import ALIGNMENT, with_weights
from latkit.networks.xnnpack import to_xnnpack
from latkit.networks.xnnpack_graph import Constant

_IDENTIFIER = b"ET12"
_SEGMENT_ALIGNMENT = 128
# Magic, its own length, the program's size, the place of the segments, and their size.
_HEADER = struct.Struct("<4sIQQQ")
# Four zeros, magic, its own length, place and size of the graph, place and size of constants.
_GRAPH_HEADER = struct.Struct("<4x4sHIIIQ")
_FLOAT = 6
_TENSOR, _DELEGATE_CALL, _IN_SEGMENT = 5, 2, 1
# The trees of Python values that ExecuTorch notes: one tensor in, one out.
_LEAF = '{"type": null, "context": null, "children_spec": []}'
_TUPLE = '{{"type": "builtins.tuple", "context": "null", "children_spec": [{}]}}'
_NO_NAMES = '{"type": "builtins.dict", "context": "[]", "children_spec": []}'
_INPUTS = f"[1, {_TUPLE.format(f'{_TUPLE.format(_LEAF)}, {_NO_NAMES}')}]"
_OUTPUTS = f"[1, {_LEAF}]"


@dataclass(frozen=True)
class PteNetwork:
    """A program.

    Attributes:
        head: the file up to its weights.
        constants: the weights, in the order of the file.
    """

    head: bytes
    constants: tuple[Constant, ...]

    def serialized(self) -> bytes:
        """The file's content."""
        return with_weights(self.head, (constant.values for constant in self.constants))


def build_pte(network: OnnxNetwork) -> PteNetwork:
    """The program of a network.

    Args:
        network: in fp32, with a fixed number of images.

    Raises:
        InputError: it has an operator that XNNPACK lacks.
    """
    graph = to_xnnpack(network)
    constants_size = sum(constant.padded_bytes for constant in graph.constants)
    graph_place = _aligned(_GRAPH_HEADER.size, ALIGNMENT)
    constants_place = _aligned(graph_place + len(graph.content), ALIGNMENT)
    header = _GRAPH_HEADER.pack(
        b"XH00", _GRAPH_HEADER.size, graph_place, len(graph.content), constants_place,
        constants_size,
    )  # fmt: skip
    payload = header.ljust(graph_place, b"\0") + graph.content
    payload = payload.ljust(constants_place, b"\0")
    program = _program(graph.input_shape, graph.output_shape, constants_place + constants_size)
    segment_place = _aligned(len(program), _SEGMENT_ALIGNMENT)
    sizes = len(program), segment_place, constants_place + constants_size
    _HEADER.pack_into(program, 8, b"eh00", _HEADER.size, *sizes)
    head = bytes(program).ljust(segment_place, b"\0") + payload
    return PteNetwork(head, graph.constants)


def _program(
    input_shape: tuple[int, ...], output_shape: tuple[int, ...], segment_size: int
) -> bytearray:
    """The FlatBuffer of a program, with room for its header."""
    input_bytes = _aligned(4 * math.prod(input_shape), ALIGNMENT)
    output_bytes = _aligned(4 * math.prod(output_shape), ALIGNMENT)
    call = Table({1: Numbers("i", [0, 1])})
    reference = Table({0: Number("b", _IN_SEGMENT), 1: 1})
    plan = Table({
        0: "forward",
        1: Table({0: _INPUTS, 1: _OUTPUTS}),
        2: [_tensor(input_shape, 0), _tensor(output_shape, input_bytes)],
        3: Numbers("i", [0]),
        4: Numbers("i", [1]),
        5: [Table({
            0: Numbers("i", []),
            1: Numbers("i", []),
            2: [Table({0: Number("B", _DELEGATE_CALL), 1: call})],
        })],
        6: [],
        7: [Table({0: "XnnpackBackend", 1: reference, 2: []})],
        8: Numbers("q", [0, input_bytes + output_bytes]),
    })  # fmt: skip
    root = Table({
        1: [plan],
        2: [],
        3: [],
        # The runtime wants to see a segment of constants, be it empty, before that of the graph.
        4: [Table({}), Table({1: Number("Q", segment_size)})],
        5: Table({1: Numbers("Q", [0])}),
    })  # fmt: skip
    return write(root, _IDENTIFIER, _HEADER.size)


def _tensor(shape: tuple[int, ...], place: int) -> Table:
    """A tensor in the memory that the runtime plans."""
    tensor = Table({
        0: Number("b", _FLOAT),
        2: Numbers("i", shape),
        3: Numbers("B", range(len(shape))),
        6: Table({0: 1, 1: place}),
    })  # fmt: skip
    return Table({0: Number("B", _TENSOR), 1: tensor})


def _aligned(size: int, to: int) -> int:
    return size + -size % to
