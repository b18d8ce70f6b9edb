"""The end of a program's file (``.pte``): its weights, as they lie one after the other.

This module is part of every bundle of programs: it needs nothing but NumPy, and Python 3.8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from latkit.networks.inputs import Array

ALIGNMENT = 16


def with_weights(head: bytes, weights: Iterable[Array]) -> bytes:
    """A program's file.

    Args:
        head: the file up to its weights.
        weights: in their order, each contiguous.
    """
    return b"".join(_parts(head, weights))


def padding(weight: Array) -> int:
    """How many bytes follow a weight, so that the next one is aligned."""
    return -weight.nbytes % ALIGNMENT


def _parts(head: bytes, weights: Iterable[Array]) -> Iterator[bytes | memoryview]:
    yield head
    for weight in weights:
        yield weight.data
        yield bytes(padding(weight))
