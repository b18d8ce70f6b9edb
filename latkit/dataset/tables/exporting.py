"""Datasets made into plain tables."""

from __future__ import annotations

from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq

from latkit.core.errors import DatasetError, InputError, from_os_error
from latkit.core.files import write_atomically
from latkit.core.locks import sole_writer
from latkit.dataset.latency import LatencyDataset


def export_dataset(dataset: LatencyDataset, path: str | Path) -> int:
    """Write one row an architecture: what :meth:`LatencyDataset.usable` returns.

    The raw rows need no export, they are Parquet already.

    Args:
        dataset: what is exported.
        path: a new file, ``*.csv`` or ``*.parquet``.

    Returns:
        The number of rows.

    Raises:
        InputError: the file's ending is neither, the file exists, or another process writes it.
        DatasetError: there is nothing to export.
        LatkitError: the file cannot be written.
    """
    path = Path(path)
    writers = {".csv": pyarrow.csv.write_csv, ".parquet": pq.write_table}
    write_table = writers.get(path.suffix.lower())
    if write_table is None:
        raise InputError(f"the format of {path} is unknown", "name it *.csv or *.parquet")
    table = dataset.usable()
    if not table.num_rows:
        raise DatasetError(
            f"{dataset.path} has no undisturbed measurement to export", "see latkit dataset check"
        )

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:  # Arrow would take a path with a colon for a URL
            write_table(table, file)

    try:
        with sole_writer(path):
            if path.exists():
                raise InputError(f"{path} exists", "choose another file, or remove it")
            write_atomically(path, write)
    except OSError as error:
        raise from_os_error(error, f"write {path}", "the dataset is unchanged") from None
    return int(table.num_rows)
