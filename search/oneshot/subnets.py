"""What is found of K sub-networks, one after another, and the files that keep it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from latkit.core.errors import Interrupted, SearchError, from_os_error
from latkit.core.files import write_atomically
from latkit.core.parquet import read_parquet, write_parquet
from latkit.dataset.cast import cast_to_schema
from latkit.search.distributed import Processes
from latkit.search.network_training import GO_ON, memory_errors
from latkit.spaces import ChoiceMatrix, SearchSpace

# Sub-networks that a kill may lose are those of so many seconds, or one of each process.
WRITE_EVERY_SECONDS = 2.0

# From a sub-network, a row of a choice matrix, to float64 numbers on the CPU.
Find = Callable[[ChoiceMatrix], Tensor]


@dataclass(frozen=True)
class Finding:
    """What is found of each sub-network.

    Attributes:
        file: its name in a search's folder.
        columns: of the numbers there, beside ``arch_id`` and ``arch``.
        kept: what an interruption says is kept.
        doing: when memory ran out.
        smaller: options that need less of it.
        not_finite: what a number that is not finite means, and what to do.
    """

    file: str
    columns: tuple[str, ...]
    kept: str
    doing: str
    smaller: str
    not_finite: tuple[str, str]

    @property
    def schema(self) -> pa.Schema:
        columns = ((name, pa.float64()) for name in self.columns)
        return pa.schema([("arch_id", pa.int64()), ("arch", pa.string()), *columns])


def one_each(rows: ChoiceMatrix, find: Find, width: int, processes: Processes) -> Tensor:
    """What is found of a few sub-networks, each by one process.

    Args:
        rows: ``n x E``, as many as there are processes at most, the same in all of them.
        find: gives ``width`` numbers of one.
        width: how many.
        processes: this process among all.

    Returns:
        ``n x width`` float64 on the CPU, the same in all processes.
    """
    rank, world = processes.share
    values = torch.zeros(len(rows), width, dtype=torch.float64)
    if rank < len(rows):
        values[rank] = find(rows[rank])
    return processes.average(values) * world


def find_all(
    finding: Finding,
    find: Find,
    space: SearchSpace,
    count: int,
    seed: int,
    out: Path,
    processes: Processes,
    on_subnet: Callable[[int, int], None],
    stop: Callable[[], bool],
) -> list[dict[str, Any]]:
    """Of random sub-networks, uniform in the space; those of the folder's file are kept.

    A longer list begins with the shorter one: a finished search may be given more of them.

    Args:
        finding: what.
        find: finds it of one sub-network.
        space: of the sub-networks.
        count: K, how many there are.
        seed: that names the list.
        out: folder of the file.
        processes: this process among those that share the sub-networks.
        on_subnet: called with how many are done, and how many of them were done before.
        stop: called after each: whether to end there.

    Returns:
        A row for each, by the columns of the file; of other processes than the main one none.

    Raises:
        SearchError: a number is not finite, memory ran out, or the file is corrupt.
        Interrupted: ``stop`` returned true in one of the processes; the same call goes on.
        LatkitError: the file cannot be read.
        OSError: the folder cannot be written.
    """
    path = out / finding.file
    matrix = space.unrank(space.sample(count, seed))
    ids, texts = space.file_ids(matrix).tolist(), [space.format(row) for row in matrix]
    rows = _read(path, finding.schema, texts) if processes.is_main else []
    # Of the main process's rows; of the others each adds nothing.
    counts = torch.tensor([len(rows)], dtype=torch.float64)
    before = round(processes.average(counts).item() * processes.world)
    done, written, last = before, len(rows), time.monotonic()
    try:
        while done < count:
            chosen = slice(done, done + processes.world)
            with memory_errors(SearchError, finding.doing, finding.smaller):
                values = one_each(matrix[chosen], find, len(finding.columns), processes)
            if not torch.isfinite(values).all():
                raise SearchError(*finding.not_finite)
            if processes.is_main:
                for place, numbers in enumerate(values.tolist(), start=done):
                    found = dict(zip(finding.columns, numbers, strict=True))
                    rows.append({"arch_id": ids[place], "arch": texts[place], **found})
                if time.monotonic() - last >= WRITE_EVERY_SECONDS:
                    _write(path, finding.schema, rows)
                    written, last = len(rows), time.monotonic()
            done += len(values)
            on_subnet(done, before)
            # All processes end after the same sub-networks.
            stopping = processes.average(torch.tensor([float(stop())], dtype=torch.float64))
            if stopping.item() > 0:
                raise Interrupted(f"interrupted; {done} of {count} {finding.kept} are kept", GO_ON)
    finally:
        if len(rows) > written:
            _write(path, finding.schema, rows)
    return rows


def _write(path: Path, schema: pa.Schema, rows: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(rows, schema=schema)
    write_atomically(path, lambda temporary: write_parquet(temporary, table))


def _read(path: Path, schema: pa.Schema, texts: list[str]) -> list[dict[str, Any]]:
    """The rows of the first of these architectures that are there."""
    fix = "delete it to look at all sub-networks again, or choose another --out"
    try:
        rows: list[dict[str, Any]] = cast_to_schema(read_parquet(path), schema).to_pylist()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was changed") from None
    except ValueError as error:
        raise SearchError(f"{path} is corrupt (no table of sub-networks: {error})", fix) from None
    rows = rows[: len(texts)]
    if [row["arch"] for row in rows] != texts[: len(rows)]:
        raise SearchError(f"{path} has other sub-networks than this search evaluates", fix)
    return rows
