"""Rows of tables from elsewhere: text, Parquet and Arrow files, cell by cell."""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from latkit.core.errors import DatasetError, InputError
from latkit.dataset.tables.cells import BadCellError, Duration, short
from latkit.dataset.tables.files import TableFile, open_table

# A header may have quoted line breaks, but no more lines than this.
_HEADER_LINES = 100
_SHOWN_COLUMNS = 20
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # begins with the next one
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_BE: "utf-16",
}
_NO_TEXT = re.compile(r"[^\t\r\n\x20-\U0010ffff]|\N{REPLACEMENT CHARACTER}")
# What pandas calls a column without a name, such as that of the index it writes.
UNNAMED = "Unnamed: {}"
_MS_OF = {"s": 1e3, "ms": 1.0, "us": 1e-3, "ns": 1e-6}

# The named cells of a row, or what is wrong with all of it.
Cells = tuple[Any, ...] | BadCellError


@dataclass(frozen=True)
class Rows:
    """The rows of one file.

    Attributes:
        noun: ``line`` of text, where the first is 1, or ``row`` of a columnar file, from 1.
        cells: number and cells of each row.
        index: the row numbers that pandas stored; None where it did not.
    """

    noun: str
    cells: Iterator[tuple[int, Cells]]
    index: range | None


@contextmanager
def open_rows(
    table_file: TableFile, names: Sequence[str], decimal: str, keep_blank: bool
) -> Iterator[Rows]:
    """The rows of a file.

    Args:
        table_file: text with commas, semicolons or tabs (in any Unicode encoding, by its first
            bytes, or the Windows one), Parquet, or Arrow (Feather); also compressed.
        names: the columns that are read.
        decimal: ``,`` where a comma is more likely within numbers than between columns.
        keep_blank: whether empty lines of text between others are rows.

    Raises:
        DatasetError: it is not a table.
        InputError: it has no such column, or its type is neither number nor text.
        LatkitError: it cannot be read.
    """
    with open_table(table_file) as (kind, file):
        if kind == "text":
            yield Rows("line", _text_rows(table_file.url, file, names, decimal, keep_blank), None)
            return
        if kind == "parquet":
            parquet = pq.ParquetFile(file)
            schema, batches = parquet.schema_arrow, parquet.iter_batches(columns=list(names))
        elif kind == "arrow file":
            arrow = pa.ipc.open_file(file)
            schema = arrow.schema
            batches = (arrow.get_batch(i) for i in range(arrow.num_record_batches))
        else:
            stream = pa.ipc.open_stream(file)
            schema, batches = stream.schema, iter(stream)
        for name in names:
            field = schema.field(_column(table_file.url, schema.names, name))
            if not _is_read(field.type):
                raise InputError(
                    f"the column {name!r} of {table_file.url} holds {field.type}",
                    "name a column of numbers, texts, durations or lists of numbers",
                )
        index = _stored_index(schema, table_file.url) if keep_blank else None
        yield Rows("row", _batch_rows(batches, names), index)


def _batch_rows(
    batches: Iterable[pa.RecordBatch], names: Sequence[str]
) -> Iterator[tuple[int, Cells]]:
    number = 0
    for batch in batches:
        columns = [_cells(batch.column(batch.schema.get_field_index(name))) for name in names]
        for row in zip(*columns, strict=True):
            number += 1
            yield number, row


def _is_read(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        return _is_read(kind.value_type)
    if _is_list(kind):
        return bool(types.is_integer(kind.value_type) or types.is_floating(kind.value_type))
    return bool(
        _is_text(kind)
        or types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_decimal(kind)
        or types.is_duration(kind)
        or types.is_null(kind)
    )


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_text(kind: pa.DataType) -> bool:
    # By name, because older versions of pyarrow do not know all of them.
    text = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view")
    return str(kind) in text or bool(pa.types.is_fixed_size_binary(kind))


def _cells(column: pa.Array) -> list[Any]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_duration(column.type):
        ms = _MS_OF[column.type.unit]
        whole = column.cast(pa.int64()).to_pylist()
        return [None if cell is None else Duration(ms * cell) for cell in whole]
    cells: list[Any] = column.to_pylist() if not _is_text(column.type) else _texts(column)
    return cells


def _texts(column: pa.Array) -> list[str | None]:
    """Texts, also where a writer stored other bytes than UTF-8 as text."""
    cells = column.cast(pa.large_binary()).to_pylist()
    # numpy fills its texts of fixed width with zeros.
    return [None if c is None else c.decode(errors="replace").rstrip("\0") for c in cells]


def _stored_index(schema: pa.Schema, url: str) -> range | None:
    """The range that pandas keeps beside the columns, not among them.

    Raises:
        InputError: it keeps other row numbers in a column, or is malformed.
    """
    try:
        for index in (schema.pandas_metadata or {}).get("index_columns", ()):
            if isinstance(index, str):
                raise _own_numbers(url, index)
            if isinstance(index, dict) and index.get("kind") == "range":
                return range(int(index["start"]), int(index["stop"]), int(index["step"]))
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError, RecursionError):
        raise InputError(
            f"what pandas keeps in {url} about the numbers of its rows is malformed",
            "use --arch-column, or write the table again",
        ) from None
    return None


def _own_numbers(url: str, column: str) -> InputError:
    return InputError(
        f"{url} keeps numbers of its rows in the column {column!r}: rows may have been left out or "
        "sorted",
        f"use --arch-column {column!r} instead of counting rows",
    )


def _text_rows(
    url: str, file: io.BufferedReader, names: Sequence[str], decimal: str, keep_blank: bool
) -> Iterator[tuple[int, Cells]]:
    with io.TextIOWrapper(file, _encoding(file), errors="replace", newline="") as text:
        # csv refuses NUL in some versions of Python; no architecture has one.
        lines = _Lines(line.replace("\0", "\N{REPLACEMENT CHARACTER}") for line in text)
        head = list(itertools.islice(lines, _HEADER_LINES))
        separator = re.fullmatch(r'"?sep=(.)"?[\r\n]*', head[0], re.IGNORECASE) if head else None
        first = 1 if separator else 0
        delimiters = (";", "\t", ",") if decimal == "," else (",", ";", "\t")
        header = max(
            (
                _Header.read(head[first:], delimiter)
                for delimiter in ([separator[1]] if separator else delimiters)
            ),
            key=lambda header: (sum(n in header.columns for n in names), len(header.columns)),
        )
        if any(_NO_TEXT.search(name) for name in header.columns):
            raise DatasetError(
                f"{url} is neither Parquet nor Arrow nor text in UTF-8, UTF-16 or Windows-1252",
                "write the table as CSV or Parquet",
            )
        at = [_column(url, header.columns, name) for name in names]
        if keep_blank and header.columns[0] == UNNAMED.format(0):
            raise _own_numbers(url, header.columns[0])
        line = first + header.lines
        # The lines after the header again: some of them may be read already.
        lines.give_back(head[line:])
        reader = csv.reader(lines, delimiter=header.delimiter, strict=True)
        blank: list[int] = []
        while True:
            number = line + reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                last = line + reader.line_num
                if lines.ended:
                    raise DatasetError(
                        f"{url} is not a table of text: the quote that opens in line {number} is "
                        "never closed",
                        "close it",
                    ) from None
                where = f" in lines {number} to {last}" if last > number else ""
                yield number, BadCellError(f"not a row of a table ({error}{where})")
                continue
            if not cells:
                blank.append(number)
                continue
            if keep_blank:
                yield from ((empty, BadCellError("an empty line")) for empty in blank)
            blank.clear()
            if len(cells) != len(header.columns):
                yield (
                    number,
                    BadCellError(f"{len(cells)} cells under {len(header.columns)} column names"),
                )
            else:
                yield number, tuple(cells[index].strip() for index in at)


class _Lines(Iterator[str]):
    """Lines that know whether the last one was taken, and was not enough."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.ended = False

    def __next__(self) -> str:
        try:
            return next(self._lines)
        except StopIteration:
            self.ended = True
            raise

    def give_back(self, lines: Sequence[str]) -> None:
        self._lines = itertools.chain(lines, self._lines)
        self.ended = False


@dataclass(frozen=True)
class _Header:
    """The names of the columns as they are with a delimiter, and the lines they took."""

    delimiter: str
    columns: list[str]
    lines: int

    @classmethod
    def read(cls, lines: Sequence[str], delimiter: str) -> _Header:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            names = next((cells for cells in reader if cells), [])
        except csv.Error:
            names = []
        # A column without a name is called as pandas calls it.
        named = [name.strip() or UNNAMED.format(i) for i, name in enumerate(names)]
        return cls(delimiter, named, reader.line_num)


def _encoding(file: io.BufferedReader) -> str:
    """By the mark at the beginning, else by where the first line has zeros, else by whether it
    is UTF-8; else that of Windows, in which German and French Excel write units like µs."""
    head = file.peek(1)
    for mark, encoding in _BOMS.items():
        if head.startswith(mark):
            return encoding
    if head[1:2] == b"\0":
        return "utf-16-le"
    if head[:1] == b"\0":
        return "utf-16-be"
    try:
        head.partition(b"\n")[0].decode()
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _column(url: str, names: Sequence[str], name: str) -> int:
    if names.count(name) == 1:
        return names.index(name)
    if name in names:
        raise InputError(f"{url} has several columns {name!r}", "give each a name of its own")
    close = difflib.get_close_matches(name, names, n=1)
    shown = [short(known)[1:-1] for known in names[:_SHOWN_COLUMNS]]
    if len(names) > _SHOWN_COLUMNS:
        shown.append(f"and {len(names) - _SHOWN_COLUMNS} more")
    hint = f"did you mean {short(close[0])}? " if close else ""
    raise InputError(
        f"{url} has no column {name!r}",
        f"{hint}its columns are: {', '.join(shown) or '(none)'}",
    )
