"""``history.parquet``: a row for each finished epoch of one seed's training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from latkit.core.errors import TrainingError, from_os_error
from latkit.core.files import write_atomically
from latkit.core.parquet import read_parquet, write_parquet
from latkit.dataset.cast import cast_to_schema

HISTORY = "history.parquet"
# Of one epoch, the columns of the schema by name.
HistoryRow: TypeAlias = Mapping[str, Any]
SCHEMA = pa.schema(
    [
        ("epoch", pa.int64()),
        *(
            (name, pa.float64())
            for name in (
                "train_loss", "train_error_percent", "test_loss", "test_error_percent",
                "learning_rate", "seconds",
            )
        ),
    ]
)  # fmt: skip


def write_history(folder: Path, rows: Sequence[HistoryRow]) -> None:
    """Write all rows.

    Raises:
        OSError: the folder cannot be written.
    """
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA)
    write_atomically(folder / HISTORY, lambda path: write_parquet(path, table))


def read_history(folder: Path, finished: int) -> list[HistoryRow]:
    """The rows of the finished epochs.

    Raises:
        TrainingError: the file is corrupt, or lacks some of them.
        LatkitError: it cannot be read.
    """
    path, fix = folder / HISTORY, "put it back, or choose another --out"
    if not finished:
        return []
    try:
        rows = cast_to_schema(read_parquet(path), SCHEMA).to_pylist()
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was changed") from None
    except ValueError as error:
        raise TrainingError(f"{path} is corrupt (no table of epochs: {error})", fix) from None
    # A crash between the two files leaves the history one row ahead of the checkpoint.
    rows = rows[:finished]
    if [row["epoch"] for row in rows] != list(range(1, finished + 1)):
        raise TrainingError(f"{path} lacks some of the {finished} epochs that are finished", fix)
    return list(rows)


def best_row(rows: Sequence[HistoryRow]) -> HistoryRow:
    """The first of the rows with the least test error."""
    return min(rows, key=lambda row: row["test_error_percent"])
