"""The field's ``Genotype(normal, normal_concat, reduce, reduce_concat)`` and its text."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import ClassVar

from latkit.errors import InputError

FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
_FIX = (
    "paste it as Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=[2, 3, 4, 5], "
    "reduce=[...], reduce_concat=[2, 3, 4, 5])"
)

Connections = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Genotype:
    """Two cells in the field's notation.

    ``normal`` and ``reduce`` list (operation, input node) pairs, two per intermediate node;
    nodes 0 and 1 are the outputs of the two previous cells. ``*_concat`` are the nodes whose
    outputs are concatenated.
    """

    normal: Connections
    normal_concat: tuple[int, ...]
    reduce: Connections
    reduce_concat: tuple[int, ...]
    # Whose networks it makes; with other operations or nodes it need not be a point of the space.
    space: ClassVar[str] = "darts"

    def __post_init__(self) -> None:
        for cell, concat in ((self.normal, self.normal_concat), (self.reduce, self.reduce_concat)):
            nodes = len(cell) // 2
            if len(cell) % 2 or not cell:
                raise InputError("a genotype's cell needs two connections per node", _FIX)
            for index, (operation, source) in enumerate(cell):
                if not 0 <= source < index // 2 + 2:
                    raise InputError(
                        f"('{operation}', {source}) is an input of node {index // 2 + 2}, "
                        f"which can only read nodes 0 to {index // 2 + 1}",
                        _FIX,
                    )
            if not concat or not set(concat) <= set(range(2, nodes + 2)):
                raise InputError(f"concat {list(concat)} names nodes that do not exist", _FIX)

    def __str__(self) -> str:
        return (
            f"Genotype(normal={list(self.normal)}, normal_concat={list(self.normal_concat)}, "
            f"reduce={list(self.reduce)}, reduce_concat={list(self.reduce_concat)})"
        )


def parse_genotype(text: str) -> Genotype:
    """Read a genotype as papers and repositories print it; nothing in it is executed.

    Args:
        text: ``Genotype(...)`` with keywords or in order; concat as a list or ``range(a, b)``.

    Raises:
        InputError: the text is not a genotype.
    """
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise InputError("the text is not a genotype (not an expression)", _FIX) from None
    if (
        not isinstance(call, ast.Call)
        or not isinstance(call.func, ast.Name)
        or call.func.id != "Genotype"
    ):
        raise InputError("the text is not a genotype (no Genotype(...) call)", _FIX)
    values: dict[str, ast.expr] = dict(zip(FIELDS, call.args, strict=False))
    for keyword in call.keywords:
        values[str(keyword.arg)] = keyword.value
    if set(values) != set(FIELDS) or len(call.args) + len(call.keywords) != len(FIELDS):
        raise InputError(f"a genotype has exactly the fields {', '.join(FIELDS)}", _FIX)
    return Genotype(
        _connections(values["normal"]),
        _nodes(values["normal_concat"]),
        _connections(values["reduce"]),
        _nodes(values["reduce_concat"]),
    )


def _connections(node: ast.expr) -> Connections:
    value = _literal(node)
    pairs = []
    for item in value if isinstance(value, (list, tuple)) else [None]:
        match item:
            case (str(operation), int(source)):
                pairs.append((operation, source))
            case _:
                raise InputError(f"{item!r} is not an ('operation', node) pair", _FIX)
    return tuple(pairs)


def _nodes(node: ast.expr) -> tuple[int, ...]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
        bounds = [_literal(argument) for argument in node.args]
        match bounds:
            case [int(start), int(stop)] if stop - start < 100:
                return tuple(range(start, stop))
    else:
        value = _literal(node)
        if isinstance(value, (list, tuple)) and all(isinstance(v, int) for v in value):
            return tuple(value)
    raise InputError(f"{ast.unparse(node)} is not a list of nodes", _FIX)


def _literal(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise InputError(f"{ast.unparse(node)} is not plain data", _FIX) from None
