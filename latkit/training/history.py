"""The history of one seed's training: a row for each finished epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from latkit.core.errors import TrainingError
from latkit.search.history import read_epochs

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


def read_history(folder: Path, finished: int) -> Sequence[HistoryRow]:
    """The rows of the finished epochs.

    Raises:
        TrainingError: the file is corrupt, or lacks some of them.
        LatkitError: it cannot be read.
    """
    return read_epochs(folder, finished, SCHEMA, TrainingError)


def best_row(rows: Sequence[HistoryRow]) -> HistoryRow:
    """The first of the rows with the least test error."""
    return min(rows, key=lambda row: row["test_error_percent"])
