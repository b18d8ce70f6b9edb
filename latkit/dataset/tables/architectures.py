"""Cells of tables from elsewhere that name architectures."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from latkit.core.errors import InputError, LatkitError, SpaceError
from latkit.dataset.tables.cells import BadCellError, short
from latkit.spaces import ABSENT, ChoiceMatrix, Edge, SearchSpace
from latkit.spaces.reader import parse_row

NATIVE = "native"
# Operations in the order of their numbers and edges in the order of the list, where a public
# library has others than the space's first publication.
_NASLIB = "naslib"
_OTHER_ORDERS = {
    ("nasbench201", _NASLIB): (
        ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3"),
        tuple(Edge(source, target) for source in range(3) for target in range(source + 1, 4)),
    ),
}
# Above this, a float64 is not every whole number.
_EXACT = 2**53
_NUMBER = r"\d+(?:\.0*)?"
_LIST = re.compile(rf"\s*{_NUMBER}(?:(?:\s*[,;]\s*|\s+){_NUMBER})+\s*,?\s*")


@dataclass(frozen=True)
class OperationOrder:
    """What the numbers of a list of operations mean.

    Attributes:
        operations: names in the order of their numbers.
        edges: the edges in the order of the list.
    """

    operations: tuple[str, ...]
    edges: tuple[Edge, ...]


def operation_order(space: SearchSpace, text: str) -> OperationOrder:
    """The order that a name, or names of operations with commas between them, stand for.

    Args:
        space: whose operations.
        text: ``native`` (that of the space), ``naslib`` (nasbench201 as NASLib numbers it: other
            operations, and edges by their source), or operations in the order of their numbers,
            with the space's own order of edges, which is by target, then by source.

    Raises:
        InputError: an operation is unknown or there twice.
    """
    if text == NATIVE:
        return OperationOrder(space.operations, space.edges)
    if (space.name, text) in _OTHER_ORDERS:
        return OperationOrder(*_OTHER_ORDERS[space.name, text])
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in space.operations:
            close = difflib.get_close_matches(name, space.operations, n=1)
            raise InputError(
                f"{name!r} is not an operation of {space.name}",
                f"did you mean {close[0]}?" if close else f"use {', '.join(space.operations)}",
            )
        if names.count(name) > 1:
            raise InputError(f"the operation {name} is named twice", "name each once")
    return OperationOrder(names, space.edges)


def read_architecture(
    space: SearchSpace, cell: Any, order: OperationOrder | None, decimal: str
) -> ChoiceMatrix:
    """The architecture that a cell names, as a choice matrix of one row.

    Args:
        space: of the architecture.
        cell: its text, its identifier (a whole number, also as text or as a float that is whole),
            or numbers of operations, as a list or as text with or without brackets.
        order: what those numbers mean; None where the space's own text is made of numbers.
        decimal: what is between the whole and the fraction in texts, ``.`` or ``,``.

    Raises:
        BadCellError: it is none of them.
    """
    if isinstance(cell, str):
        cell = cell.strip()
        # As pandas and numpy write bytes and lists of their own numbers into text files.
        if match := re.fullmatch(r"b(['\"])(.*)\1", cell, re.DOTALL):
            cell = match[2].strip()
        inner = re.sub(r"\b(?:np|numpy)\.u?int\d*\((\d+)\)", r"\1", cell)
        if match := re.fullmatch(r"\[(.*)\]|\((.*)\)", inner, re.DOTALL):
            inner = match[1] or match[2] or ""
        if _identifier(cell, decimal) is None and _LIST.fullmatch(inner):
            cell = [int(float(number)) for number in re.findall(_NUMBER, inner)]
    if cell is None or cell == "" or cell != cell:
        raise BadCellError("no architecture")
    try:
        identifier = _identifier(cell, decimal)
        if identifier is not None:
            if not 0 <= identifier < space.size:
                raise BadCellError(f"no architecture has the identifier {short(cell)}")
            return space.unrank([identifier])
        if isinstance(cell, list):
            return _from_numbers(space, cell, order)
        if isinstance(cell, str):
            return parse_row(cell, space)
    except LatkitError as error:
        cause = " ".join(error.cause.split())
        cause = cause if len(cause) <= 200 else f"{cause[:197]}..."
        raise BadCellError(f"unknown architecture {short(cell)} ({cause})") from None
    raise BadCellError(f"unknown architecture {short(cell)}")


def _identifier(cell: Any, decimal: str = ".") -> int | None:
    """The whole number in a cell, or None.

    A number with an exponent is none: it may have been rounded.
    """
    if isinstance(cell, str):
        digits = re.fullmatch(rf"0*([0-9]+)(?:{re.escape(decimal)}0*)?", cell)
        # Longer ones are of no space, and Python refuses to read very long ones.
        return None if digits is None else int(digits[1][:40])
    if isinstance(cell, bool):
        return None
    if isinstance(cell, int):
        return cell
    if isinstance(cell, (float, Decimal)) and math.isfinite(cell) and cell == int(cell):
        return int(cell) if isinstance(cell, Decimal) or abs(cell) <= _EXACT else None
    return None


def _from_numbers(
    space: SearchSpace, numbers: Sequence[Any], order: OperationOrder | None
) -> ChoiceMatrix:
    whole = [_identifier(number) for number in numbers]
    if order is None:
        try:
            return space.parse(" ".join(map(str, whole)))
        except SpaceError as error:
            raise BadCellError(
                f"{short(list(numbers))} are numbers of operations, which mean something only in a "
                "named order (--op-order)"
                if len(numbers) == space.num_edges and None not in whole
                else f"unknown architecture {short(list(numbers))} ({error.fix})"
            ) from None
    if len(whole) != len(order.edges):
        raise SpaceError(
            f"{len(whole)} numbers for the {len(order.edges)} edges of {space.name}", "give each"
        )
    row = np.full((1, space.num_edges), ABSENT, dtype=np.int8)
    for edge, number in zip(order.edges, whole, strict=True):
        if number is None or not 0 <= number < len(order.operations):
            raise SpaceError(f"no operation has the number {number}", "see the order")
        operation = space.operations.index(order.operations[number])
        if operation in space.choices:  # else it leaves the edge out, as "none" does in DARTS
            row[0, space.edges.index(edge)] = operation
    return space.validate(row)
