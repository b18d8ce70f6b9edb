"""Filling a dataset folder so that nothing measured is lost, whatever happens.

Each finished row goes to ``journal.jsonl`` at once (it then survives the death of the process);
at most every ``PART_SECONDS`` the journal becomes a Parquet part that is forced to disk (it then
survives the death of the machine).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import filelock
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from typing_extensions import Self

from latkit import __version__
from latkit.dataset import (
    JOURNAL,
    MANIFEST,
    SCHEMA,
    Manifest,
    anchor_median_ms,
    anchor_samples,
    part_paths,
    read_journal,
    read_manifest,
    read_part,
    with_latency,
)
from latkit.device import differences
from latkit.errors import DatasetError, LatkitError, from_os_error
from latkit.files import write_atomically, write_json_atomically

PART_SECONDS = 60.0
_KEPT = "every finished row is kept; then run the same command again"
# Schema metadata of a part: the anchor time for which its latency_ms were computed.
_ANCHOR_KEY = b"latkit.anchor_median_ms"


class DatasetWriter:
    """The only process that writes a dataset folder; a context manager.

    Args:
        folder: a new folder, or one that an earlier run with the same manifest left.
        manifest: what is measured. ``requested`` may differ from the earlier run's.

    Attributes:
        done: the finished (arch_id, visit) pairs.

    Raises (on entering):
        DatasetError: another process writes the folder, it holds another dataset, or a file in
            it is corrupt.
        LatkitError: the folder cannot be written.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.done: set[tuple[int, int]] = set()
        self._in_parts: set[tuple[int, int]] = set()
        self._read_parts: set[Path] = set()
        self._part_started = time.monotonic()
        self._lock = filelock.FileLock(folder / ".lock", blocking=False)

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except filelock.Timeout:
            raise DatasetError(
                f"another process is writing {self.folder}",
                "wait for it to end, or choose another --out",
            ) from None
        except OSError as error:
            raise self._os_error(error) from None
        try:
            self._resume()
        except OSError as error:
            self._lock.release()
            raise self._os_error(error) from None
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._journal.close()
            self.flush()
            self._settle()
            self._write_manifest()
        except OSError as problem:
            # The journal still has the rows; a failure that is already under way tells more.
            if error is None:
                raise self._os_error(problem) from None
        finally:
            self._lock.release()

    def append(self, row: dict[str, Any]) -> None:
        """Add one finished row (the fields of ``SCHEMA``; ``latency_ms`` is filled in later).

        Raises:
            LatkitError: the disk is full or the folder has become unwritable.
        """
        try:
            self._journal.write(json.dumps(row, allow_nan=False) + "\n")
            self._journal.flush()
            self.done.add((row["arch_id"], row["visit"]))
            if time.monotonic() - self._part_started > PART_SECONDS:
                self._journal.close()
                self.flush()
                self._open_journal()
        except OSError as error:
            raise self._os_error(error) from None

    def flush(self) -> None:
        """Turn the journal into a part file on disk.

        What is on disk decides, never what this object remembers: it can be interrupted at any
        point and called again, and a row is in exactly one part in the end.
        """
        self._read_new_parts()
        rows = [
            row
            for row in read_journal(self.folder)
            if (row["arch_id"], row["visit"]) not in self._in_parts
        ]
        if rows:
            number = len(part_paths(self.folder))
            while (path := self.folder / f"part-{number:06d}.parquet").exists():
                number += 1
            table = pa.Table.from_pylist(rows, schema=SCHEMA)
            self._write_part(path, table, anchor_median_ms(table))
            self._read_new_parts()
        (self.folder / JOURNAL).unlink(missing_ok=True)
        self._part_started = time.monotonic()

    def _read_new_parts(self) -> None:
        for path in part_paths(self.folder):
            if path in self._read_parts:
                continue
            part = read_part(path)
            keys = set(zip(part["arch_id"].to_pylist(), part["visit"].to_pylist(), strict=True))
            if keys & self._in_parts:
                raise DatasetError(
                    f"{path} holds visits that another part file holds too",
                    "remove the part file that was copied into the folder",
                )
            self._in_parts |= keys
            self._read_parts.add(path)

    def _resume(self) -> None:
        if (self.folder / MANIFEST).exists():
            self._check_same(read_manifest(self.folder))
        elif part_paths(self.folder) or (self.folder / JOURNAL).exists():
            raise DatasetError(
                f"{self.folder} has measurements but no {MANIFEST}",
                "restore the file from a copy, or choose another --out",
            )
        self.flush()
        self.done = set(self._in_parts)
        self._write_manifest()
        self._open_journal()

    def _check_same(self, earlier: Manifest) -> None:
        ours, theirs = self.manifest, earlier
        for name, now, then in (
            ("target", ours.target.flat(), theirs.target.flat()),
            ("protocol", ours.protocol, theirs.protocol),
            ("machine", ours.fingerprint, theirs.fingerprint),
        ):
            changed = differences(now, then)
            if changed:
                raise DatasetError(
                    f"{self.folder} holds measurements of another {name} "
                    f"(now / then: {'; '.join(changed)})",
                    "choose another --out, or repeat the earlier command exactly",
                )
        if ours.seed != theirs.seed or ours.anchor != theirs.anchor:
            raise DatasetError(
                f"{self.folder} was begun with seed {theirs.seed} and anchor {theirs.anchor}",
                f"repeat the command with --seed {theirs.seed}, or choose another --out",
            )

    def _settle(self) -> None:
        """Bring ``latency_ms`` of every part to the anchor time of the whole dataset.

        The measured ratios are untouched, and readers recompute ``latency_ms`` from them: a
        crash in the middle leaves nothing wrong.
        """
        paths = part_paths(self.folder)
        if not paths:
            return
        median_ms = float(np.median(np.concatenate([anchor_samples(read_part(p)) for p in paths])))
        for path in paths:
            metadata = pq.ParquetFile(path).schema_arrow.metadata or {}
            if metadata.get(_ANCHOR_KEY) != repr(median_ms).encode():
                self._write_part(path, read_part(path), median_ms)

    def _write_part(self, path: Path, table: pa.Table, median_ms: float) -> None:
        table = with_latency(table, median_ms).replace_schema_metadata(
            {_ANCHOR_KEY: repr(median_ms).encode()}
        )
        write_atomically(path, lambda temporary: pq.write_table(table, temporary))

    def _os_error(self, error: OSError) -> LatkitError:
        return from_os_error(error, f"write the dataset in {self.folder}", _KEPT)

    def _write_manifest(self) -> None:
        content = self.manifest.to_dict()
        content["latkit_version"] = __version__
        content["counts"] = {
            "rows": len(self.done),
            "architectures": len({arch_id for arch_id, _ in self.done}),
        }
        write_json_atomically(self.folder / MANIFEST, content)

    def _open_journal(self) -> None:
        self._journal = open(self.folder / JOURNAL, "w", encoding="utf-8")  # noqa: SIM115
