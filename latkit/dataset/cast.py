"""Columns as other tools write them, brought back to a dataset's types without loss.

pandas, polars and DuckDB keep the values of a Parquet file and change the types: other widths
of offsets, other names inside lists, lists of nothing where every list is empty, an index.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import pyarrow as pa
import pyarrow.compute as pc

_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
# Whole numbers up to here are exact in float64; beyond it a float may have been another number.
_LARGEST_EXACT = 2**53


def cast_to_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with exactly the schema's columns, in its order and types.

    Raises:
        ValueError: columns are missing, unknown or twice there, or cannot be cast without loss;
            the text names all of them.
    """
    names = [name for name in table.column_names if not _PANDAS_INDEX.fullmatch(name)]
    problems = []
    for what, wrong in (
        ("lacks", [name for name in schema.names if name not in names]),
        ("has also", [name for name in names if name not in schema.names]),
        ("has twice", sorted({name for name in names if names.count(name) > 1})),
    ):
        if wrong:
            problems.append(f"{what} {', '.join(wrong)}")
    columns = []
    for field in schema:
        if names.count(field.name) != 1:
            continue
        column = table[field.name]
        try:
            columns.append(_cast(column, field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError):
            problems.append(f"{field.name} is {column.type} and not {field.type}")
    if problems:
        raise ValueError("; ".join(problems))
    return pa.Table.from_arrays(columns, schema=schema)


def check_filled(table: pa.Table, may_be_empty: Collection[str] = ()) -> None:
    """Refuse cells without a value, or with one that is no finite number.

    Args:
        table: its columns are numbers and texts.
        may_be_empty: columns whose cells may be null.

    Raises:
        ValueError: there are some; the text names their columns.
    """
    empty = [
        name
        for name in table.column_names
        if (table[name].null_count and name not in may_be_empty)
        or (
            pa.types.is_floating(table[name].type)
            and pc.all(pc.is_finite(table[name])).as_py() is False
        )
    ]
    if empty:
        raise ValueError(f"{', '.join(empty)} has cells without a finite value")


def _cast(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not _is_alike(column.type, wanted):
        raise ValueError("of another kind")
    if pa.types.is_floating(column.type) and pa.types.is_integer(wanted):
        largest = pc.max(pc.abs(column)).as_py()
        if largest is not None and not largest <= _LARGEST_EXACT:
            raise ValueError("rounded")
    return column.cast(wanted, safe=True)


def _is_alike(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values of the one type can mean the same in the other."""
    types = pa.types
    if types.is_integer(wanted) or types.is_floating(wanted):
        return bool(types.is_integer(given) or types.is_floating(given))
    if types.is_string(wanted):
        return bool(types.is_string(given) or types.is_large_string(given)) or str(given) == (
            "string_view"
        )
    if types.is_timestamp(wanted):  # without a time zone it is not a moment
        return bool(types.is_timestamp(given) and given.tz is not None)
    if types.is_list(wanted):
        return hasattr(given, "value_type") and (
            types.is_null(given.value_type) or _is_alike(given.value_type, wanted.value_type)
        )
    return bool(given == wanted)
