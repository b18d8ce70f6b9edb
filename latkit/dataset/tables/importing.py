"""Tables of measurements from elsewhere made into datasets."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latkit.core.errors import DatasetError
from latkit.core.events import SILENT, Listener
from latkit.dataset.check import DatasetSummary, summarize
from latkit.dataset.format import Manifest, Target
from latkit.dataset.latency import LatencyDataset
from latkit.dataset.plausibility import doubts
from latkit.dataset.tables.cells import TableColumn
from latkit.dataset.tables.reading import BadRow, MeasuredTable, read_table
from latkit.dataset.writer import write_dataset

# Bad rows that are described one by one, and ranges of the others' numbers.
SHOWN_BAD_ROWS = 20
SHOWN_RANGES = 10


@dataclass(frozen=True)
class ImportRequest:
    """A table, and the dataset that is to be made of it.

    Attributes:
        files: paths, folders, patterns or fsspec URLs, which together are one table.
        target: what was measured.
        columns: by quantity; the latency is needed.
        out: folder of the new dataset.
        arch_column: of the architectures; None: the row's number is the identifier.
        op_order: what lists of operation numbers mean; see
            :func:`latkit.dataset.tables.architectures.operation_order`.
        decimal: the decimal mark of numbers in text.
        skip_bad_rows: whether the other rows of a table with bad rows are imported.
    """

    files: Sequence[str | Path]
    target: Target
    columns: Mapping[str, TableColumn]
    out: Path
    arch_column: str | None = None
    op_order: str | None = None
    decimal: str = "."
    skip_bad_rows: bool = False


@dataclass(frozen=True)
class ImportResult:
    """The dataset that was made of a table.

    Attributes:
        dataset: the dataset.
        summary: what it holds.
        files: of the table, as they were named.
        bad_rows: rows that were left out.
        notes: what makes its numbers doubtful, one line each.
    """

    dataset: LatencyDataset
    summary: DatasetSummary
    files: tuple[str, ...]
    bad_rows: tuple[BadRow, ...]
    notes: tuple[str, ...]

    def describe_bad_rows(self) -> list[str]:
        """The bad rows, in no more lines than a screen has."""
        return _describe(self.bad_rows, self.files)

    def to_dict(self) -> dict[str, Any]:
        return {
            "dataset": str(self.dataset.path),
            **self.summary.to_dict(),
            "bad_rows": [dataclasses.asdict(row) for row in self.bad_rows],
            "notes": list(self.notes),
        }


def import_table(request: ImportRequest, listener: Listener = SILENT) -> ImportResult:
    """Read a table and write it as a dataset.

    Args:
        request: what is imported.
        listener: receives a warning for each of the first bad rows if they prevent the import.

    Raises:
        DatasetError: a file is not a table, rows are bad (and not to be skipped) or all are, or
            ``out`` is not empty.
        InputError: see :func:`read_table`.
        LatkitError: a file cannot be read, or ``out`` not be written.
    """
    table = read_table(
        request.files,
        request.target,
        request.arch_column,
        request.columns,
        decimal=request.decimal,
        op_order=request.op_order,
    )
    bad, files = table.bad_rows, table.files
    if bad and not request.skip_bad_rows:
        for line in _describe(bad, files):
            listener.warn(line)
        named = files[0] if len(files) == 1 else f"{len(files)} files"
        raise DatasetError(
            f"{len(bad)} of {len(bad) + table.rows.num_rows} rows of {named} cannot be imported, "
            f"the first is {_place(bad[0], files)}",
            "mend them, or import the others with --skip-bad-rows",
        )
    dataset = write_imported(table, request.target, request.out)
    return ImportResult(dataset, summarize(dataset), files, bad, tuple(doubts(dataset)))


def write_imported(table: MeasuredTable, target: Target, out: Path) -> LatencyDataset:
    """Write what was read as a dataset, without the bad rows.

    Raises:
        DatasetError: there is no good row, or ``out`` is not empty.
        LatkitError: ``out`` cannot be written.
    """
    if not table.rows.num_rows:
        fix = "see its bad rows" if table.bad_rows else "it has a header and nothing else"
        raise DatasetError(f"{table.files[0]} has no row that can be imported", fix)
    manifest = Manifest(
        target,
        fingerprint={},
        protocol={},
        seed=0,
        anchor=None,
        requested=len(set(table.rows["arch_id"].to_pylist())),
        metrics=table.metrics,
        origin=table.origin,
    )
    write_dataset(out, manifest, table.rows)
    return LatencyDataset.open(out)


def _place(row: BadRow, files: Sequence[str]) -> str:
    return f"{row.file}, {row.place}" if len(files) > 1 else row.place


def _describe(bad: Sequence[BadRow], files: Sequence[str]) -> list[str]:
    """The first bad rows one by one, then the numbers of the others."""
    lines = [f"{_place(row, files)}: {row.reason}" for row in bad[:SHOWN_BAD_ROWS]]
    others = bad[SHOWN_BAD_ROWS:]
    if others:
        by_file = [
            (file, _ranges([row.number for row in rows]))
            for file, rows in itertools.groupby(others, lambda row: row.file)
        ]
        shown = [
            f"{f'of {file}, ' if len(files) > 1 else ''}{', '.join(ranges[:SHOWN_RANGES])}"
            f"{', …' if len(ranges) > SHOWN_RANGES else ''}"
            for file, ranges in by_file[:SHOWN_RANGES]
        ]
        more = "; …" if len(by_file) > SHOWN_RANGES else ""
        lines.append(f"and {len(others)} more, at {'; '.join(shown)}{more}")
    return lines


def _ranges(numbers: list[int]) -> list[str]:
    """``["25-29", "31"]`` of rising numbers."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1][1:] = [n]
        else:
            runs.append([n])
    return ["-".join(map(str, run)) for run in runs]
