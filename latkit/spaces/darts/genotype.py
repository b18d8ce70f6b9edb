"""The field's ``Genotype(normal, normal_concat, reduce, reduce_concat)`` and its text."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from latkit.core.errors import InputError

FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
_FIX = (
    "paste it as Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=[2, 3, 4, 5], "
    "reduce=[...], reduce_concat=[2, 3, 4, 5])"
)
_TWO = "derive the cell: keep the two strongest connections of each node"
# Calls around plain data: numpy's way of printing its numbers, and conversions.
_WRAPPERS = re.compile(r"list|tuple|set|array|int|u?int\d+|intp|str_?")

Connections = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Genotype:
    """Two cells in the field's notation.

    ``normal`` and ``reduce`` list (operation, input node) pairs, two per intermediate node;
    nodes 0 and 1 are the outputs of the two previous cells. ``*_concat`` are the nodes whose
    outputs are concatenated.

    Raises:
        InputError: a node has not two connections, reads a later node, or is read by no node and
            not concatenated.
    """

    normal: Connections
    normal_concat: tuple[int, ...]
    reduce: Connections
    reduce_concat: tuple[int, ...]
    # Whose networks it makes; with other operations or nodes it need not be a point of the space.
    space: ClassVar[str] = "darts"

    def __post_init__(self) -> None:
        _check_cell("normal", self.normal, self.normal_concat)
        _check_cell("reduce", self.reduce, self.reduce_concat)

    def __str__(self) -> str:
        return (
            f"Genotype(normal={list(self.normal)}, normal_concat={list(self.normal_concat)}, "
            f"reduce={list(self.reduce)}, reduce_concat={list(self.reduce_concat)})"
        )


def _check_cell(name: str, cell: Connections, concat: tuple[int, ...]) -> None:
    last = 1 + (len(cell) + 1) // 2
    if not cell or len(cell) % 2:
        raise InputError(
            f"the {name} cell has {len(cell)} connections, which leaves node {max(last, 2)} "
            f"{'one' if cell else 'none'} instead of two",
            _TWO,
        )
    nodes = range(2, last + 1)
    for index, (operation, source) in enumerate(cell):
        node = index // 2 + 2
        if not 0 <= source < node:
            raise InputError(
                f"('{operation}', {source}) is an input of node {node} of the {name} cell, which "
                f"can only read nodes 0 to {node - 1}",
                _FIX,
            )
    if not concat or not set(concat) <= set(nodes) or len(set(concat)) < len(concat):
        raise InputError(
            f"{name}_concat {list(concat)} is not a list of different nodes from 2 to {last}", _FIX
        )
    read = {source for _, source in cell} | set(concat)
    for node in nodes:
        if node not in read:
            raise InputError(
                f"node {node} of the {name} cell is read by no node and not concatenated "
                f"({len(cell)} connections make nodes 2 to {last}, {name}_concat is "
                f"{list(concat)})",
                _TWO,
            )


def parse_genotype(text: str) -> Genotype:
    """Read a ``Genotype(...)`` as papers and repositories have it; nothing in it is executed.

    A cell is a list or tuple of (operation, input) pairs, flat or nested per node, or of
    (operation, node, input) triples; a concat is a list, a tuple or ``range(a, b)``. Numbers may
    be numpy's (``np.int64(0)``). Further fields must be None.

    Args:
        text: the call alone, with keywords or in order, over any number of lines.

    Raises:
        InputError: the text is not a genotype.
    """
    try:
        call = _expression(text.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise InputError("the text is not a genotype (not an expression)", _FIX) from None
    if not isinstance(call, ast.Call) or _function(call) != "Genotype":
        raise InputError("the text is not a genotype (no Genotype(...) call)", _FIX)
    values = dict(zip(FIELDS, map(_data, call.args), strict=False))
    for keyword in call.keywords:
        if keyword.arg is None or keyword.arg in values:
            raise InputError(f"a genotype has exactly the fields {', '.join(FIELDS)}", _FIX)
        values[keyword.arg] = _data(keyword.value)
    if any(_data(argument) is not None for argument in call.args[len(FIELDS) :]):
        raise InputError(f"a genotype has exactly the fields {', '.join(FIELDS)}", _FIX)
    return genotype_from_fields(values)


def genotype_from_fields(values: Mapping[str, Any]) -> Genotype:
    """A genotype from its fields as plain data, e.g. of a JSON object.

    Raises:
        InputError: a field is missing, further ones are not None, or a cell is malformed.
    """
    further = {name for name, value in values.items() if name not in FIELDS and value is not None}
    if further or not set(FIELDS) <= set(values):
        raise InputError(f"a genotype has exactly the fields {', '.join(FIELDS)}", _FIX)
    return Genotype(
        _connections("normal", values["normal"]),
        _nodes("normal_concat", values["normal_concat"]),
        _connections("reduce", values["reduce"]),
        _nodes("reduce_concat", values["reduce_concat"]),
    )


def _expression(text: str) -> ast.expr:
    """The expression that a text is, also where a YAML or CSV file has escaped its quotes."""
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        folded = re.sub(r"\\\n\s*\\?", " ", text)
        unescaped = re.sub(r"''|\\'", "'", re.sub(r'""|\\"', '"', folded))
        return ast.parse(unescaped, mode="eval").body


def _function(call: ast.Call) -> str:
    """The name of what is called, without the module that it is from."""
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _data(node: ast.expr) -> Any:
    """Plain data of an expression: None, texts, whole numbers, and lists of these."""
    if isinstance(node, ast.Constant) and (node.value is None or type(node.value) in (int, str)):
        return node.value
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_data(item) for item in node.elts]
    if isinstance(node, ast.Call) and not node.keywords:
        arguments = [_data(argument) for argument in node.args]
        match _function(node), arguments:
            case "range" | "arange", [int(), int()] | [int(), int(), int()] if _is_short(arguments):
                return list(range(*arguments))
            case name, [value] if _WRAPPERS.fullmatch(name):
                return value
    raise InputError(f"{_shown(ast.unparse(node))} is not plain data", _FIX)


def _is_short(arguments: list[int]) -> bool:
    """Whether the arguments of a range are right, and it has no more nodes than any cell."""
    return 0 not in arguments[2:] and len(range(*arguments)) < 100


def _connections(cell: str, value: Any) -> Connections:
    """The pairs of a cell in the order of its nodes."""
    if not isinstance(value, list):
        raise InputError(f"{_shown(value)} is not a list of the {cell} cell's connections", _FIX)
    nested = bool(value) and all(
        isinstance(item, list) and all(isinstance(part, list) for part in item) for item in value
    )
    if not nested:
        items = [_connection(item) for item in value]
        if all(node is None for _, node, _ in items):
            return tuple((operation, source) for operation, _, source in items)
        last = max(node or 0 for _, node, _ in items)
    else:
        items = []
        last = 1 + len(value)
        for node, connections in enumerate(value, start=2):
            for operation, given, source in map(_connection, connections):
                if given not in (None, node):
                    raise InputError(f"node {node} of the {cell} cell lists node {given}'s", _FIX)
                items.append((operation, node, source))
    per_node: dict[int, list[tuple[str, int]]] = {}
    for operation, into, source in items:
        if into is None or into < 2:
            raise InputError(
                f"('{operation}', {into}, {source}) of the {cell} cell ends in no node: these "
                "count from 2, after the cell's two inputs",
                _FIX,
            )
        per_node.setdefault(into, []).append((operation, source))
    for node in range(2, last + 1):
        count = len(per_node.get(node, []))
        if count != 2:
            raise InputError(f"node {node} of the {cell} cell has {count} connections, not 2", _TWO)
    return tuple(pair for node in sorted(per_node) for pair in per_node[node])


def _connection(item: Any) -> tuple[str, int | None, int]:
    """Operation, node (None in a pair) and input."""
    match item:
        case [str(operation), int(source)] | [str(operation), int(source), None]:
            return operation, None, source
        case [str(operation), int(node), int(source)]:
            return operation, node, source
    raise InputError(f"{_shown(item)} is not an ('operation', node) pair", _FIX)


def _nodes(field: str, value: Any) -> tuple[int, ...]:
    if isinstance(value, list) and all(type(node) is int for node in value):
        return tuple(value)
    raise InputError(f"{field} {_shown(value)} is not a list of nodes", _FIX)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
