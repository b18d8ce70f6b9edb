"""Writing FlatBuffers, the format of ExecuTorch's files, without a compiler of schemas.

A table is written before what it refers to, so that all offsets but those to vtables point
forwards, as the format wants it (https://flatbuffers.dev/internals).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Number:
    """A number in a table.

    Attributes:
        code: of ``struct``: its type.
        value: of the number. 0 is the default of all of them here, and left out.
    """

    code: str
    value: float


@dataclass(frozen=True)
class Numbers:
    """A vector of numbers.

    Attributes:
        code: of ``struct``: their type.
        values: of the numbers.
    """

    code: str
    values: Sequence[float]


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        fields: by their places in the schema: numbers, vectors of them, texts, tables, and lists
            of tables. Of a union the type is a number at the place before its table's.
    """

    fields: Mapping[int, Any]


def write(root: Table, identifier: bytes, reserved: int = 0) -> bytearray:
    """The bytes of a file.

    Args:
        root: its table.
        identifier: four letters that say what the file is.
        reserved: zeros that follow it.
    """
    writer = _Writer()
    writer.out += bytes(4) + identifier + bytes(reserved)
    writer.refer(0, writer.table(root))
    return writer.out


class _Writer:
    def __init__(self) -> None:
        self.out = bytearray()
        self._vtables: dict[bytes, int] = {}

    def refer(self, place: int, to: int) -> None:
        """Write an offset to something that comes later."""
        struct.pack_into("<I", self.out, place, to - place)

    def table(self, table: Table) -> int:
        """Add a table and all it refers to; its place."""
        sizes: dict[int, int] = {}
        for slot, field in table.fields.items():
            if not isinstance(field, Number):
                sizes[slot] = 4
            elif field.value:
                sizes[slot] = struct.calcsize(field.code)
        offsets = [0] * (max(sizes, default=-1) + 1)
        end = 4
        for slot in sorted(sizes, key=lambda slot: -sizes[slot]):
            end += -end % sizes[slot]
            offsets[slot] = end
            end += sizes[slot]
        vtable = struct.pack(f"<{2 + len(offsets)}H", 4 + 2 * len(offsets), end, *offsets)
        if vtable not in self._vtables:
            self._align(2)
            self._vtables[vtable] = len(self.out)
            self.out += vtable
        self._align(max([4, *sizes.values()]))
        start = len(self.out)
        self.out += struct.pack("<i", start - self._vtables[vtable]) + bytes(end - 4)
        for slot in sizes:
            field, place = table.fields[slot], start + offsets[slot]
            if isinstance(field, Number):
                struct.pack_into(f"<{field.code}", self.out, place, field.value)
            else:
                self.refer(place, self._part(field))
        return start

    def _part(self, field: Any) -> int:
        if isinstance(field, Table):
            return self.table(field)
        if isinstance(field, Numbers):
            return self._numbers(field)
        if isinstance(field, str):
            content = field.encode()
            self._align(4)
            start = len(self.out)
            self.out += struct.pack("<I", len(content)) + content + b"\0"
            return start
        self._align(4)
        start = len(self.out)
        self.out += struct.pack("<I", len(field)) + bytes(4 * len(field))
        for number, table in enumerate(field, start=1):
            self.refer(start + 4 * number, self.table(table))
        return start

    def _numbers(self, vector: Numbers) -> int:
        self._align(4)
        if struct.calcsize(vector.code) == 8 and len(self.out) % 8 == 0:
            self.out += bytes(4)  # the numbers, which follow their count, are aligned
        start = len(self.out)
        count = len(vector.values)
        self.out += struct.pack(f"<I{count}{vector.code}", count, *vector.values)
        return start

    def _align(self, to: int) -> None:
        self.out += bytes(-len(self.out) % to)
