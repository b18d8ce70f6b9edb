"""``history.parquet``: a row for each finished epoch of a search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from latkit.core.errors import SearchError, from_os_error
from latkit.core.files import write_atomically
from latkit.core.parquet import read_parquet, write_parquet
from latkit.dataset.cast import cast_to_schema

HISTORY = "history.parquet"
_NUMBERS = (
    "train_loss", "val_loss", "expected_cost", "train_accuracy", "val_accuracy", "penalty_weight",
    "weight_lr",
    "alpha_entropy_normal", "alpha_entropy_reduce", "skip_share_normal", "skip_share_reduce",
    "parameter_free_share_normal", "parameter_free_share_reduce", "derived_predicted_ms",
)  # fmt: skip
# Written out, because a column of a warm-up alone is all nulls.
_SCHEMA = pa.schema(
    [
        ("epoch", pa.int64()),
        *((name, pa.float64()) for name in _NUMBERS),
        ("genotype", pa.string()),
        ("seconds", pa.float64()),
    ]
)


def write_history(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write all rows.

    Raises:
        OSError: the folder cannot be written.
    """
    table = pa.Table.from_pylist(list(rows), schema=_SCHEMA)
    write_atomically(out / HISTORY, lambda path: write_parquet(path, table))


def read_history(out: Path, finished: int) -> list[dict[str, Any]]:
    """The rows of the finished epochs.

    Args:
        out: the search's folder.
        finished: epochs that the checkpoint has finished.

    Raises:
        SearchError: the file is corrupt, or lacks some of them.
        LatkitError: it cannot be read.
    """
    path = out / HISTORY
    fix = "put it back, or choose another --out"
    rows: list[dict[str, Any]]
    try:
        rows = cast_to_schema(read_parquet(path), _SCHEMA).to_pylist()
    except FileNotFoundError:
        if finished:
            raise SearchError(
                f"{path} is missing, but {finished} epochs are finished", fix
            ) from None
        return []
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was changed") from None
    except ValueError as error:
        raise SearchError(f"{path} is corrupt (no table of epochs: {error})", fix) from None
    # A crash between the two files leaves the history one row ahead.
    rows = rows[:finished]
    if [row["epoch"] for row in rows] != list(range(1, finished + 1)):
        raise SearchError(f"{path} lacks some of the {finished} epochs that are finished", fix)
    return rows
