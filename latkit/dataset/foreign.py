"""Tables of latencies from elsewhere made into datasets, and datasets made into plain tables."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from latkit.dataset.format import IMPORTED_SCHEMA, Manifest, Target
from latkit.dataset.latency import LatencyDataset
from latkit.dataset.writer import write_dataset
from latkit.errors import DatasetError, InputError, LatkitError, from_os_error
from latkit.files import write_atomically
from latkit.networks.roofline import architecture_costs
from latkit.spaces import ChoiceMatrix, DartsSpace, SearchSpace, get_space
from latkit.spaces.genotype import parse_genotype

# Milliseconds in one of each unit.
UNITS = {"ms": 1.0, "s": 1000.0, "us": 0.001}
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
class ForeignTable:
    """A table of latencies, read but not yet written as a dataset."""

    path: Path
    table: pa.Table
    bad_rows: tuple[BadRow, ...]
    origin: dict[str, Any]


def read_foreign(
    path: Path, target: Target, arch_column: str, latency_column: str, unit: str
) -> ForeignTable:
    """Read a CSV or Parquet table of architectures and latencies.

    An architecture is its canonical text, an identifier (a whole number below the space's size),
    or, in the DARTS space, a ``Genotype(...)``, of which the normal cell counts.

    Args:
        path: a ``.parquet`` file, or text separated by commas, semicolons or tabs.
        target: what the latencies are of; its setting gives MACs and parameters.
        arch_column: name of the column of architectures.
        latency_column: name of the column of latencies.
        unit: of the latencies, ``ms``, ``s`` or ``us``.

    Raises:
        DatasetError: the file cannot be read as a table.
        InputError: it has no such column, or the unit is unknown.
        LatkitError: the file cannot be read at all.
    """
    if unit not in UNITS:
        raise InputError(f"unknown unit {unit!r}", f"use one of: {', '.join(UNITS)}")
    space = get_space(target.space)
    seen: dict[int, str] = {}
    rows: list[dict[str, Any]] = []
    matrices: list[ChoiceMatrix] = []
    bad: list[BadRow] = []
    parquet = path.suffix.lower() == ".parquet"
    read = _parquet_rows if parquet else _text_rows
    for number, cells in read(path, arch_column, latency_column):
        place = f"{'row' if parquet else 'line'} {number}"
        try:
            if isinstance(cells, str):
                raise _BadCellError(cells)
            matrix = _identify(space, cells[0])
            arch_id = int(space.file_ids(matrix)[0])
            if arch_id in seen:
                raise _BadCellError(f"the architecture of {seen[arch_id]} again")
            latency_ms = _positive(cells[1]) * UNITS[unit]
        except _BadCellError as problem:
            bad.append(BadRow(place, number, str(problem)))
            continue
        seen[arch_id] = place
        matrices.append(matrix)
        rows.append(
            {
                "arch_id": arch_id,
                "arch": space.format(matrix),
                "latency_ms": latency_ms,
                "visit": 0,
                "flags": [],
            }
        )
    if rows:
        costs = architecture_costs(space, np.concatenate(matrices), target.setting)
        for row, cost in zip(rows, costs, strict=True):
            row |= {"macs": cost.macs, "params": cost.params}
    table = pa.Table.from_pylist(rows, schema=IMPORTED_SCHEMA)
    origin = {
        "file": path.name,
        "arch_column": arch_column,
        "latency_column": latency_column,
        "unit": unit,
        "rows_left_out": len(bad),
    }
    return ForeignTable(path, table, tuple(bad), origin)


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
    write = writers.get(path.suffix.lower())
    if write is None:
        raise InputError(f"cannot tell the format of {path}", "name it *.csv or *.parquet")
    if path.exists():
        raise InputError(f"{path} exists", "choose another file, or remove it")
    table = dataset.usable()
    if not table.num_rows:
        raise DatasetError(
            f"{dataset.path} has no undisturbed visit to export", "see latkit dataset check"
        )
    try:
        write_atomically(path, lambda to: write(table, str(to)))
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


def _positive(text: str) -> float:
    try:
        # Python's own notation has underscores, which no table means.
        latency = math.nan if "_" in text else float(text)
    except ValueError:
        latency = math.nan
    if not math.isfinite(latency) or latency <= 0:
        raise _BadCellError(f"the latency {_short(text)} is not a positive number")
    return latency


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


Cells = tuple[str, str] | str


def _text_rows(path: Path, arch: str, latency: str) -> Iterator[tuple[int, Cells]]:
    """Line number and both cells of each row of a text table, or what is wrong with the row."""
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            head = file.readline()
            delimiter = max(DELIMITERS, key=head.count)
            columns = [name.strip() for name in next(csv.reader([head], delimiter=delimiter), [])]
            at = [_column(path, columns, name) for name in (arch, latency)]
            # csv refuses NUL in some versions of Python; no architecture has one.
            lines = (line.replace("\0", "\N{REPLACEMENT CHARACTER}") for line in file)
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            for cells in reader:
                line = reader.line_num + 1
                if len(cells) not in (0, len(columns)):
                    yield line, f"{len(cells)} cells under {len(columns)} column names"
                elif cells:
                    yield line, (cells[at[0]].strip(), cells[at[1]].strip())
    except csv.Error as error:
        raise DatasetError(
            f"{path} is not a table of text ({error})", "see it in an editor"
        ) from None
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was written") from None


def _parquet_rows(path: Path, arch: str, latency: str) -> Iterator[tuple[int, Cells]]:
    try:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        for name in (arch, latency):
            _column(path, names, name)
        number = 0
        for batch in file.iter_batches(columns=[arch, latency]):
            for row in zip(batch[arch].to_pylist(), batch[latency].to_pylist(), strict=True):
                number += 1
                cells = ["" if cell is None else str(cell) for cell in row]
                yield number, (cells[0], cells[1])
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
