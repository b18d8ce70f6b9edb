"""Writing FlatBuffers, the format of ExecuTorch and LiteRT, without a compiler of schemas.

A table is written before what it refers to, so that all offsets but those to vtables point
forwards, as the format wants it (https://flatbuffers.dev/internals).
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Number(NamedTuple):
    """A number in a table that is no ``uint``.

    Attributes:
        code: of ``struct``: its type.
        value: of the number. 0 is the default of all of them here, and left out.
    """

    code: str
    value: float


class Numbers(NamedTuple):
    """A vector of numbers.

    Attributes:
        code: of ``struct``: their type.
        values: of the numbers.
    """

    code: str
    values: Sequence[float]


class Content(NamedTuple):
    """A vector of bytes.

    Attributes:
        content: the bytes.
        alignment: of the first of them, in the file.
    """

    content: bytes
    alignment: int


class Table(NamedTuple):
    """A table.

    Attributes:
        fields: by their places in the schema: numbers (an ``int`` is a ``uint``), vectors of them
            or of bytes, texts, tables, and lists of tables. Of a union the type is a number at the
            place before its table's.
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


# Stands for the type of a field that refers to something.
_REFERENCE = ""


@dataclass(frozen=True)
class _Layout:
    """How a table lies whose fields are at these places and of these types.

    Attributes:
        vtable: where each field lies.
        alignment: of the table.
        order: the fields as they lie.
        pack: the bytes of a table: the distance to its vtable, and the fields in this order.
        references: fields that refer to something, and where they lie.
    """

    vtable: bytes
    alignment: int
    order: tuple[int, ...]
    pack: Any
    references: tuple[tuple[int, int], ...]


@functools.lru_cache(maxsize=1024)
def _layout(*key: Any) -> _Layout:
    """The layout of fields: the place and type of one, of the next, and so on."""
    fields = list(zip(key[::2], key[1::2], strict=True))
    sizes = [struct.calcsize(code or "I") for _, code in fields]
    order = sorted(range(len(fields)), key=lambda index: -sizes[index])
    slots = [0] * (1 + max((slot for slot, _ in fields), default=-1))
    packed, end = "<i", 4
    references = []
    for index in order:
        slot, code = fields[index]
        gap = -end % sizes[index]
        slots[slot] = end + gap
        packed += f"{gap}x{code or 'I'}"
        end += gap + sizes[index]
        if code == _REFERENCE:
            references.append((index, slots[slot]))
    vtable = struct.pack(f"<{2 + len(slots)}H", 4 + 2 * len(slots), end, *slots)
    pack = struct.Struct(packed).pack
    return _Layout(vtable, max([4, *sizes]), tuple(order), pack, tuple(references))


class _Writer:
    def __init__(self) -> None:
        self.out = bytearray()
        self._vtables: dict[bytes, int] = {}

    def refer(self, place: int, to: int) -> None:
        """Write an offset to something that comes later."""
        struct.pack_into("<I", self.out, place, to - place)

    def table(self, table: Table) -> int:
        """Add a table and all it refers to; its place."""
        key: list[Any] = []
        fields: list[Any] = []
        for slot, field in table.fields.items():
            code, value = _REFERENCE, 0.0
            if isinstance(field, int):
                code, value = "I", field
            elif isinstance(field, Number):
                code, value = field
            if code == _REFERENCE:
                fields.append(field)
            elif value:
                fields.append(value)
            else:  # the default, which is left out
                continue
            key += (slot, code)
        layout = _layout(*key)
        if layout.vtable not in self._vtables:
            self._align(2)
            self._vtables[layout.vtable] = len(self.out)
            self.out += layout.vtable
        self._align(layout.alignment)
        start = len(self.out)
        packed = list(fields)
        for index, _ in layout.references:
            packed[index] = 0
        self.out += layout.pack(
            start - self._vtables[layout.vtable], *[packed[index] for index in layout.order]
        )
        for index, offset in layout.references:
            self.refer(start + offset, self._part(fields[index]))
        return start

    def _part(self, field: Any) -> int:
        if isinstance(field, Table):
            return self.table(field)
        if isinstance(field, Numbers):
            return self._numbers(field)
        if isinstance(field, Content):
            self.out += bytes(-(len(self.out) + 4) % field.alignment)
            start = len(self.out)
            self.out += struct.pack("<I", len(field.content))
            self.out += field.content
            return start
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
