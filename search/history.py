"""``history.parquet``: a row for each finished epoch of a search, or of a training."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from latkit.core.errors import LatkitError, SearchError, from_os_error
from latkit.core.files import write_atomically
from latkit.core.parquet import read_parquet, write_parquet
from latkit.dataset.cast import cast_to_schema, check_filled

HISTORY = "history.parquet"
# Of one epoch, the columns of ``schema_of`` by name.
HistoryRow: TypeAlias = Mapping[str, int | float | str | None]
# What is not known of a warm-up's epochs, and of those that train α alone.
_OF_SOME_EPOCHS = ("train_loss", "val_loss", "expected_cost", "train_accuracy", "val_accuracy")
# Of each α, followed by its name.
ALPHA_COLUMNS = ("alpha_entropy", "skip_share", "parameter_free_share")


def schema_of(alpha_names: Sequence[str]) -> pa.Schema:
    """The columns of the history of a supernet whose α matrices have these names.

    Written out, because a column of a warm-up alone is all nulls.
    """
    numbers = [
        "train_loss", "val_loss", "expected_cost", "train_accuracy", "val_accuracy",
        "penalty_weight", "weight_lr",
        *(f"{column}_{name}" for column in ALPHA_COLUMNS for name in alpha_names),
        "derived_predicted_ms",
    ]  # fmt: skip
    return pa.schema(
        [
            ("epoch", pa.int64()),
            *((name, pa.float64()) for name in numbers),
            ("genotype", pa.string()),
            ("seconds", pa.float64()),
        ]
    )


def write_history(out: Path, rows: Sequence[dict[str, Any]], alpha_names: Sequence[str]) -> None:
    """Write all rows.

    Raises:
        OSError: the folder cannot be written.
    """
    write_epochs(out, rows, schema_of(alpha_names))


def read_history(out: Path, finished: int, alpha_names: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of the finished epochs.

    Args:
        out: the search's folder.
        finished: epochs that the checkpoint has finished.
        alpha_names: of the supernet.

    Raises:
        SearchError: the file is corrupt, or lacks some of them.
        LatkitError: it cannot be read.
    """
    return read_epochs(out, finished, schema_of(alpha_names), SearchError, _OF_SOME_EPOCHS)


def write_epochs(folder: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write the rows of all epochs.

    Raises:
        OSError: the folder cannot be written.
    """
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    write_atomically(folder / HISTORY, lambda path: write_parquet(path, table))


def read_epochs(
    folder: Path,
    finished: int,
    schema: pa.Schema,
    error_class: type[LatkitError],
    may_be_empty: Collection[str] = (),
) -> list[dict[str, Any]]:
    """The rows of the finished epochs.

    Args:
        folder: of the history.
        finished: epochs that the checkpoint has finished.
        schema: of the rows, ``epoch`` among them.
        error_class: what is raised for a file that lacks something.
        may_be_empty: columns that some epochs have no value of.

    Raises:
        LatkitError: the file is corrupt or lacks epochs (``error_class``), or cannot be read.
    """
    if not finished:
        return []
    path, fix = folder / HISTORY, "put it back, or choose another --out"
    rows: list[dict[str, Any]]
    try:
        table = cast_to_schema(read_parquet(path), schema)
        check_filled(table, may_be_empty)
        rows = table.to_pylist()
    except FileNotFoundError:
        raise error_class(f"{path} is missing, but {finished} epochs are finished", fix) from None
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was changed") from None
    except ValueError as error:
        raise error_class(f"{path} is corrupt (no table of epochs: {error})", fix) from None
    # A crash between the two files leaves the history one row ahead of the checkpoint.
    rows = rows[:finished]
    epochs = [row["epoch"] for row in rows]
    if len(rows) != finished or epochs != list(range(1, len(rows) + 1)):
        raise error_class(f"{path} lacks some of the {finished} epochs that are finished", fix)
    return rows
