"""Tables of measurements from elsewhere made into datasets, and datasets made into plain tables."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from latkit.costs import COSTS, LATENCY
from latkit.dataset.format import IMPORTED_SCHEMA, METRICS, Manifest, Target, with_metrics
from latkit.dataset.latency import LatencyDataset
from latkit.dataset.writer import write_dataset
from latkit.errors import DatasetError, InputError, LatkitError, from_os_error
from latkit.files import write_atomically
from latkit.networks.roofline import architecture_costs
from latkit.spaces import ChoiceMatrix, DartsSpace, SearchSpace, get_space
from latkit.spaces.genotype import parse_genotype

DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be imported.

    Attributes:
        place: ``line 5`` of a file of text, where the header is line 1, or ``row 5`` of Parquet,
            from 1.
        number: the number in it.
        reason: what is wrong, with the offending text.
    """

    place: str
    number: int
    reason: str


@dataclass(frozen=True)
class ForeignColumn:
    """A column of measurements.

    Attributes:
        name: in the table.
        unit: of its numbers, one of the ``units`` of its cost in ``latkit.costs.COSTS``.
    """

    name: str
    unit: str


@dataclass(frozen=True)
class ForeignTable:
    """A table of measurements, read but not yet written as a dataset."""

    path: Path
    table: pa.Table
    metrics: tuple[str, ...]
    bad_rows: tuple[BadRow, ...]
    origin: dict[str, Any]


def read_foreign(
    path: Path, target: Target, arch_column: str, columns: Mapping[str, ForeignColumn]
) -> ForeignTable:
    """Read a CSV or Parquet table of architectures and what was measured of them.

    An architecture is its canonical text, an identifier (a whole number below the space's size),
    or, in the DARTS space, a ``Genotype(...)``, of which the normal cell counts.

    Args:
        path: a ``.parquet`` file, or text separated by commas, semicolons or tabs.
        target: what was measured; its setting gives MACs and parameters.
        arch_column: name of the column of architectures.
        columns: by the name of the cost; the latency is needed, the others are not. A row must
            have all of them.

    Raises:
        DatasetError: the file cannot be read as a table.
        InputError: it has no such column, one stands for two things, a unit is unknown, or
            there is no latency.
        LatkitError: the file cannot be read at all.
    """
    metrics = tuple(name for name in METRICS if name in columns)
    factors = {name: _factor(name, columns) for name in (LATENCY, *metrics)}
    names = [arch_column, *(columns[name].name for name in factors)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"the column {twice[0]!r} is named twice", "name a column for each")
    space = get_space(target.space)
    seen: dict[int, str] = {}
    rows: list[dict[str, Any]] = []
    matrices: list[ChoiceMatrix] = []
    bad: list[BadRow] = []
    parquet = path.suffix.lower() == ".parquet"
    read = _parquet_rows if parquet else _text_rows
    for number, cells in read(path, names):
        place = f"{'row' if parquet else 'line'} {number}"
        try:
            if isinstance(cells, str):
                raise _BadCellError(cells)
            matrix = _identify(space, cells[0])
            arch_id = int(space.file_ids(matrix)[0])
            if arch_id in seen:
                raise _BadCellError(f"the architecture of {seen[arch_id]} again")
            measured = {
                name: _positive(COSTS[name].noun, cell) * factor
                for (name, factor), cell in zip(factors.items(), cells[1:], strict=True)
            }
        except _BadCellError as problem:
            bad.append(BadRow(place, number, str(problem)))
            continue
        seen[arch_id] = place
        matrices.append(matrix)
        rows.append(
            {
                "arch_id": arch_id,
                "arch": space.format(matrix),
                **measured,
                "visit": 0,
                "flags": [],
            }
        )
    if rows:
        costs = architecture_costs(space, np.concatenate(matrices), target.setting)
        for row, cost in zip(rows, costs, strict=True):
            row |= {"macs": cost.macs, "params": cost.params}
    table = pa.Table.from_pylist(rows, schema=with_metrics(IMPORTED_SCHEMA, metrics))
    origin = {
        "file": path.name,
        "arch_column": arch_column,
        "latency_column": columns[LATENCY].name,
        "unit": columns[LATENCY].unit,
        "rows_left_out": len(bad),
    }
    for name in metrics:
        origin |= {f"{name}_column": columns[name].name, f"{name}_unit": columns[name].unit}
    return ForeignTable(path, table, metrics, tuple(bad), origin)


def write_imported(foreign: ForeignTable, target: Target, out: Path) -> LatencyDataset:
    """Write what was read as a dataset, without the bad rows.

    Raises:
        DatasetError: there is no good row, or ``out`` is not empty.
        LatkitError: ``out`` cannot be written.
    """
    if not foreign.table.num_rows:
        raise DatasetError(f"{foreign.path} has no row that can be imported", "see its bad rows")
    manifest = Manifest(
        target,
        fingerprint={},
        protocol={},
        seed=0,
        anchor=None,
        requested=foreign.table.num_rows,
        metrics=foreign.metrics,
        origin=foreign.origin,
    )
    write_dataset(out, manifest, foreign.table)
    return LatencyDataset.open(out)


def export_dataset(dataset: LatencyDataset, path: Path) -> int:
    """Write one row an architecture: what :meth:`LatencyDataset.usable` returns.

    The raw rows need no export, they are Parquet already.

    Args:
        dataset: what is exported.
        path: a new file, ``*.csv`` or ``*.parquet``.

    Returns:
        The number of rows.

    Raises:
        InputError: the file's ending is neither, or the file exists.
        DatasetError: there is nothing to export.
        LatkitError: the file cannot be written.
    """
    writers = {".csv": pyarrow.csv.write_csv, ".parquet": pq.write_table}
    write_table = writers.get(path.suffix.lower())
    if write_table is None:
        raise InputError(f"cannot tell the format of {path}", "name it *.csv or *.parquet")
    if path.exists():
        raise InputError(f"{path} exists", "choose another file, or remove it")
    table = dataset.usable()
    if not table.num_rows:
        raise DatasetError(
            f"{dataset.path} has no undisturbed visit to export", "see latkit dataset check"
        )

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:  # Arrow would take a path with a colon for a URL
            write_table(table, file)

    try:
        write_atomically(path, write)
    except OSError as error:
        raise from_os_error(error, f"write {path}", "the dataset is unchanged") from None
    return int(table.num_rows)


class _BadCellError(Exception):
    """Why a row is bad."""


def _identify(space: SearchSpace, text: str) -> ChoiceMatrix:
    """The architecture that a cell names, as a choice matrix of one row."""
    if not text:
        raise _BadCellError("no architecture")
    try:
        if text.isascii() and text.isdecimal():
            if len(text) > 30 or int(text) >= space.size:
                raise _BadCellError(f"no architecture has the identifier {_short(text)}")
            return space.unrank([int(text)])
        if text.startswith("Genotype(") and isinstance(space, DartsSpace):
            return space.from_genotype(parse_genotype(text))
        return space.parse(text)
    except LatkitError as error:
        raise _BadCellError(f"unknown architecture {_short(text)} ({error.cause})") from None


def _factor(name: str, columns: Mapping[str, ForeignColumn]) -> float:
    """What makes the unit of a cost of the unit of its column."""
    cost = COSTS[name]
    if name not in columns:
        raise InputError(f"the table has no column of {cost.noun}", "name one")
    unit = columns[name].unit
    if unit not in cost.units:
        raise InputError(
            f"unknown unit {unit!r} of {cost.noun}", f"use one of: {', '.join(cost.units)}"
        )
    return cost.units[unit]


def _positive(noun: str, text: str) -> float:
    try:
        # Python's own notation has underscores, which no table means.
        value = math.nan if "_" in text else float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value <= 0:
        raise _BadCellError(f"the {noun} {_short(text)} is not a positive number")
    return value


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


Cells = tuple[str, ...] | str


def _text_rows(path: Path, names: list[str]) -> Iterator[tuple[int, Cells]]:
    """Line number and named cells of each row of a text table, or what is wrong with the row."""
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            head = file.readline()
            delimiter = max(DELIMITERS, key=head.count)
            columns = [name.strip() for name in next(csv.reader([head], delimiter=delimiter), [])]
            at = [_column(path, columns, name) for name in names]
            # csv refuses NUL in some versions of Python; no architecture has one.
            lines = (line.replace("\0", "\N{REPLACEMENT CHARACTER}") for line in file)
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            for cells in reader:
                line = reader.line_num + 1
                if len(cells) not in (0, len(columns)):
                    yield line, f"{len(cells)} cells under {len(columns)} column names"
                elif cells:
                    yield line, tuple(cells[index].strip() for index in at)
    except csv.Error as error:
        raise DatasetError(
            f"{path} is not a table of text ({error})", "see it in an editor"
        ) from None
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was written") from None


def _parquet_rows(path: Path, names: list[str]) -> Iterator[tuple[int, Cells]]:
    try:
        file = pq.ParquetFile(path)
        for name in names:
            _column(path, file.schema_arrow.names, name)
        number = 0
        for batch in file.iter_batches(columns=names):
            for row in zip(*(batch[name].to_pylist() for name in names), strict=True):
                number += 1
                yield number, tuple("" if cell is None else str(cell) for cell in row)
    except FileNotFoundError as error:
        raise from_os_error(error, f"read {path}", "nothing was written") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DatasetError(f"{path} is not a Parquet table ({reason})", "check the file") from None


def _column(path: Path, names: list[str], name: str) -> int:
    if names.count(name) != 1:
        how = "no column" if name not in names else "several columns"
        raise InputError(
            f"{path} has {how} {name!r}",
            f"its columns are: {', '.join(names) or '(none)'}",
        )
    return names.index(name)
