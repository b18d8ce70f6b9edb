"""A table of measurements from elsewhere, read row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from latkit.core.errors import InputError
from latkit.core.quantities import LATENCY, QUANTITIES
from latkit.dataset.format import IMPORTED_SCHEMA, METRICS, Target, with_metrics
from latkit.dataset.tables.architectures import operation_order, read_architecture
from latkit.dataset.tables.cells import (
    DURATION,
    BadCellError,
    TableColumn,
    check_units,
    measured,
)
from latkit.dataset.tables.files import TableFile, find_files
from latkit.dataset.tables.rows import Cells, open_rows
from latkit.spaces import ChoiceMatrix, get_space
from latkit.spaces.architecture import architecture_costs

DECIMALS = (".", ",")


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be imported.

    Attributes:
        file: the one it is in, as it was named.
        place: ``line 5`` of a file of text, where the first line is 1, or ``row 5`` of a columnar
            one, from 1.
        number: the number in it.
        reason: what is wrong, with the offending text.
    """

    file: str
    place: str
    number: int
    reason: str


@dataclass(frozen=True)
class MeasuredTable:
    """A table of measurements, read but not yet written as a dataset.

    Attributes:
        files: as they were named.
        rows: the good ones, with the columns of an imported dataset.
        metrics: columns beside the latency.
        bad_rows: the others.
        origin: where it is from, for the dataset's manifest.
    """

    files: tuple[str, ...]
    rows: pa.Table
    metrics: tuple[str, ...]
    bad_rows: tuple[BadRow, ...]
    origin: dict[str, Any]


def read_table(
    files: str | Path | Sequence[str | Path],
    target: Target,
    arch_column: str | None,
    columns: Mapping[str, TableColumn],
    *,
    decimal: str = ".",
    op_order: str | None = None,
) -> MeasuredTable:
    """Read a table of architectures and what was measured of them.

    An architecture is its canonical text, an identifier (a whole number below the space's size),
    numbers of operations, or, in the DARTS space, a ``Genotype(...)``, of which the normal cell
    counts. Several rows of one architecture are repeated measurements of it.

    Args:
        files: paths, folders, patterns or fsspec URLs of text (with commas, semicolons or tabs),
            Parquet or Arrow (Feather) files, compressed or not, which together are one table.
        target: what was measured; its setting gives MACs and parameters.
        arch_column: name of the column of architectures; None where the row's number, from 0 on
            and through all files, is the identifier (or the range that pandas stored in it).
        columns: by the name of the quantity; the latency is needed, the others are not. A row must
            have all of them.
        decimal: the decimal mark of texts, ``.`` or ``,``.
        op_order: what the numbers of operations mean, see
            :func:`latkit.dataset.tables.architectures.operation_order`.

    Raises:
        DatasetError: a file is not a table.
        InputError: there is no such file or column, one stands for two things, a unit is missing
            or unknown, or there is no latency.
        LatkitError: a file cannot be read at all.
    """
    check_units(columns)
    if decimal not in DECIMALS:
        raise InputError(f"the decimal mark {decimal!r} is unknown", "use . or ,")
    metrics = tuple(name for name in METRICS if name in columns)
    quantities = [(QUANTITIES[name], columns[name]) for name in (LATENCY, *metrics)]
    names = [column.name for _, column in quantities]
    names = names if arch_column is None else [arch_column, *names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"the column {twice[0]!r} is named twice", "name a column for each")
    space = get_space(target.space)
    order = None if op_order is None else operation_order(space, op_order)
    found = find_files([files] if isinstance(files, (str, Path)) else files)
    rows: list[dict[str, Any]] = []
    matrices: list[ChoiceMatrix] = []
    bad: list[BadRow] = []
    for file, noun, number, cells in _rows(found, names, decimal, arch_column is None):
        try:
            if isinstance(cells, BadCellError):
                raise cells
            matrix = read_architecture(space, cells[0], order, decimal)
            values: dict[str, Any] = {
                quantity.name: measured(quantity, column, cell, decimal)
                for (quantity, column), cell in zip(quantities, cells[1:], strict=True)
            }
        except BadCellError as problem:
            bad.append(BadRow(file.url, f"{noun} {number}", number, str(problem)))
            continue
        matrices.append(matrix)
        rows.append(values)
    if rows:
        matrix = np.concatenate(matrices)
        replicates = Counter[int]()
        arch_ids = space.file_ids(matrix).tolist()
        analytic = architecture_costs(space, matrix, target.setting)
        for row, arch_id, choices, cost in zip(rows, arch_ids, matrix, analytic, strict=True):
            row |= {"arch_id": arch_id, "arch": space.format(choices), "flags": []}
            row |= {"visit": replicates[arch_id], "macs": cost.macs, "params": cost.params}
            replicates[arch_id] += 1
    table = pa.Table.from_pylist(rows, schema=with_metrics(IMPORTED_SCHEMA, metrics))
    origin = {
        "files": [file.name for file in found],
        "arch_column": arch_column,
        "latency_column": columns[LATENCY].name,
        "unit": columns[LATENCY].unit or DURATION,
        "rows_left_out": len(bad),
    }
    if op_order is not None:
        origin["op_order"] = op_order
    for name in metrics:
        origin |= {f"{name}_column": columns[name].name, f"{name}_unit": columns[name].unit}
    return MeasuredTable(tuple(file.url for file in found), table, metrics, tuple(bad), origin)


def _rows(
    files: Sequence[TableFile], names: list[str], decimal: str, by_number: bool
) -> Iterator[tuple[TableFile, str, int, Cells]]:
    """File, noun, number and cells of each row, the first of them its number if that is wanted."""
    done = 0
    for file in files:
        with open_rows(file, names, decimal, keep_blank=by_number) as rows:
            start, step = done, 1
            # One that starts at 0 is what pandas gives every table; other shards went before.
            if rows.index is not None and (rows.index.start, rows.index.step) != (0, 1):
                start, step = rows.index.start, rows.index.step
            position = -1
            for position, (number, cells) in enumerate(rows.cells):
                if by_number and not isinstance(cells, BadCellError):
                    cells = (start + step * position, *cells)
                yield file, rows.noun, number, cells
                done += 1
            if rows.index is not None and len(rows.index) != position + 1:
                raise InputError(
                    f"{file.url} has {position + 1} of the {len(rows.index)} rows that pandas "
                    "counted in it: which ones is not known",
                    "import the whole table, or one with a column of identifiers",
                )
