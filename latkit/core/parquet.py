"""Parquet files, opened by Python: Arrow takes ``run-12:31/x`` for a URL and expands ``~``."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

# A measurement with its raw times has some thirty.
MOST_VALUES = 10**8


@contextlib.contextmanager
def open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """A Parquet file for reading; what is read of it is read within the ``with`` block.

    Raises:
        OSError: the system refuses to open or read it, or memory ran out.
        ValueError: its bytes are no Parquet file; the text is one line.
    """
    with open(path, "rb") as file:
        try:
            # Not pq.read_table: it would take "key=value" folder names for extra columns.
            yield pq.ParquetFile(file)
        except pa.ArrowMemoryError as error:
            raise OSError(errno.ENOMEM, _one_line(error), str(path)) from None
        except (pa.ArrowException, OSError, ValueError) as error:
            # Arrow has OSError also for bytes that it cannot decompress: without a number.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ValueError(_one_line(error)) from None


def read_parquet(path: Path) -> pa.Table:
    """The whole file, its text and offsets checked; raises as :func:`open_parquet` does.

    A file of more than ``MOST_VALUES`` numbers and texts is refused: a few bytes of Parquet may
    stand for any number of equal ones.
    """
    with open_parquet(path) as file:
        groups = map(file.metadata.row_group, range(file.metadata.num_row_groups))
        values = sum(
            max(0, group.column(index).num_values)
            for group in groups
            for index in range(group.num_columns)
        )
        if max(values, file.metadata.num_rows) > MOST_VALUES:
            raise ValueError(f"{values:,} values, and {MOST_VALUES:,} are the most allowed")
        table = file.read()
        table.validate(full=True)
    return table


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a file.

    Raises:
        OSError: the disk is full or the folder is not writable.
    """
    with open(path, "wb") as file:
        pq.write_table(table, file)


def _one_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
