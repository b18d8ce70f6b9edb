"""What is found of K sub-networks, by whomever, and the files that keep it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from latkit.core.errors import Interrupted, SearchError, from_os_error
from latkit.core.files import write_atomically
from latkit.core.parquet import read_parquet, write_parquet
from latkit.dataset.cast import cast_to_schema, check_filled
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


# From a choice matrix and places of rows in it to the numbers of each of these rows, a few at a
# time and in any order.
FindMany = Callable[[Finding, ChoiceMatrix, Sequence[int]], Iterator[dict[int, list[float]]]]


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


def in_turn(find: Find, processes: Processes) -> FindMany:
    """Finds of as many sub-networks at a time as there are processes."""

    def find_many(
        finding: Finding, matrix: ChoiceMatrix, places: Sequence[int]
    ) -> Iterator[dict[int, list[float]]]:
        for first in range(0, len(places), processes.world):
            chosen = places[first : first + processes.world]
            with memory_errors(SearchError, finding.doing, finding.smaller):
                values = one_each(matrix[list(chosen)], find, len(finding.columns), processes)
            yield dict(zip(chosen, values.tolist(), strict=True))

    return find_many


def find_all(
    finding: Finding,
    find_many: FindMany,
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
        find_many: finds it of those that are missing.
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
        LatkitError: the file cannot be read, or what ``find_many`` raises.
        OSError: the folder cannot be written.
    """
    matrix = space.unrank(space.sample(count, seed))
    ids, texts = space.file_ids(matrix).tolist(), [space.format(row) for row in matrix]
    file = _File(out / finding.file, finding.schema, texts)
    if processes.is_main:
        file.read()
    # Of the main process's rows; of the others each adds nothing.
    there = torch.zeros(count, dtype=torch.float64)
    there[list(file.rows)] = 1
    there = processes.average(there) * processes.world
    missing = [place for place, known in enumerate(there.tolist()) if not round(known)]
    done = before = count - len(missing)
    last = time.monotonic()
    try:
        for values in find_many(finding, matrix, missing):
            if not all(math.isfinite(value) for numbers in values.values() for value in numbers):
                raise SearchError(*finding.not_finite)
            if processes.is_main:
                for place, numbers in values.items():
                    found = dict(zip(finding.columns, numbers, strict=True))
                    file.add(place, {"arch_id": ids[place], "arch": texts[place], **found})
                if time.monotonic() - last >= WRITE_EVERY_SECONDS:
                    file.write()
                    last = time.monotonic()
            if values:
                done += len(values)
                on_subnet(done, before)
            # All processes end after the same sub-networks.
            stopping = processes.average(torch.tensor([float(stop())], dtype=torch.float64))
            if stopping.item() > 0:
                raise Interrupted(f"interrupted; {done} of {count} {finding.kept} are kept", GO_ON)
    finally:
        file.write()
    return [file.rows[place] for place in range(count)] if processes.is_main else []


class _File:
    """A table of sub-networks in the order of a list, of which some may be missing.

    Args:
        path: of the file.
        schema: of its rows.
        texts: of the list's architectures.

    Attributes:
        rows: by their places in the list.
    """

    def __init__(self, path: Path, schema: pa.Schema, texts: Sequence[str]) -> None:
        self._path, self._schema, self._texts = path, schema, texts
        self.rows: dict[int, dict[str, Any]] = {}
        # Of a longer list, which begins with this one.
        self._further: list[dict[str, Any]] = []
        self._changed = False

    def add(self, place: int, row: dict[str, Any]) -> None:
        self.rows[place], self._changed = row, True

    def write(self) -> None:
        """Write the file, unless it has all rows.

        Raises:
            OSError: it cannot be written.
        """
        if self._changed:
            rows = [*(self.rows[place] for place in sorted(self.rows)), *self._further]
            table = pa.Table.from_pylist(rows, schema=self._schema)
            write_atomically(self._path, lambda temporary: write_parquet(temporary, table))
            self._changed = False

    def read(self) -> None:
        """Fill ``rows`` with those of the list that are there.

        Raises:
            SearchError: the file is corrupt, or has other architectures.
            LatkitError: it cannot be read.
        """
        path, fix = (
            self._path,
            "delete it to look at all sub-networks again, or choose another --out",
        )
        try:
            table = cast_to_schema(read_parquet(path), self._schema)
            check_filled(table)
            rows = table.to_pylist()
        except FileNotFoundError:
            return
        except OSError as error:
            raise from_os_error(error, f"read {path}", "nothing was changed") from None
        except ValueError as error:
            cause = f"{path} is corrupt (no table of sub-networks: {error})"
            raise SearchError(cause, fix) from None
        places = {text: place for place, text in enumerate(self._texts)}
        found = [places.get(row["arch"], len(places)) for row in rows]
        known = [place for place in found if place < len(places)]
        in_order = found == sorted(found) and len(known) == len(set(known))
        if not in_order or (rows and not known):
            raise SearchError(f"{path} has other sub-networks than this search evaluates", fix)
        self.rows = dict(zip(known, rows, strict=False))
        self._further = rows[len(known) :]
