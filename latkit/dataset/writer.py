"""Filling a dataset folder so that nothing measured is lost, whatever happens.

Each finished row goes to ``journal.jsonl`` at once (it then survives the death of the process);
at most every ``PART_SECONDS`` the journal becomes a Parquet part that is forced to disk (it then
survives the death of the machine).
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import filelock
import pyarrow as pa
from typing_extensions import Self

from latkit.core.device import contradictions, differences
from latkit.core.errors import DatasetError, LatkitError, from_os_error
from latkit.core.files import sync_folder, write_atomically, write_json_atomically
from latkit.core.locks import sole_writer
from latkit.core.parquet import open_parquet, write_parquet
from latkit.core.version import __version__
from latkit.dataset.flags import Done, is_panel
from latkit.dataset.format import (
    JOURNAL,
    LOCK,
    MANIFEST,
    Manifest,
    part_paths,
    read_journal,
    read_manifest,
    read_part,
    replicate_keys,
)
from latkit.dataset.latency import anchor_ms, with_latency

PART_SECONDS = 60.0
# Rows in a part of a dataset that is written at once.
PART_ROWS = 50_000
_KEPT = "every finished row is kept; then run the same command again"
# Schema metadata of a part: the anchor time for which its latency_ms were computed.
_ANCHOR_KEY = b"latkit.anchor_median_ms"


class DatasetWriter:
    """The only process that writes a dataset folder; a context manager.

    Args:
        folder: a new folder, or one that an earlier run with the same manifest left.
        manifest: what is measured. ``requested`` may differ from the earlier run's.

    Attributes:
        done: rows that were there at the beginning: (arch_id, replicate) to what a plan needs.

    Raises (on entering):
        DatasetError: another process writes the folder, it holds another dataset, or a file in
            it is corrupt.
        LatkitError: the folder cannot be written.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.done: dict[tuple[int, int], Done] = {}
        self._in_parts: set[tuple[int, int]] = set()
        self._architectures: set[int] = set()
        self._read_parts: set[Path] = set()
        self._part_started = time.monotonic()
        self._lock = filelock.FileLock(folder / LOCK, blocking=False)

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
            # The journal still has the rows; a failure that is already under way is the cause.
            if error is None:
                raise self._os_error(problem) from None
        finally:
            self._lock.release()

    def append(self, row: dict[str, Any]) -> None:
        """Add one finished row: the schema's fields, of which ``latency_ms`` is provisional.

        Raises:
            ValueError: the row has other fields.
            LatkitError: the disk is full or the folder has become unwritable.
        """
        if set(row) != set(self.manifest.schema.names):
            raise ValueError(f"a row of this dataset has {self.manifest.schema.names}")
        try:
            self._journal.write(json.dumps(row, allow_nan=False) + "\n")
            self._journal.flush()
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
            for row in read_journal(self.folder, self.manifest)
            if (row["arch_id"], row["visit"]) not in self._in_parts
        ]
        if rows:
            number = len(part_paths(self.folder))
            while (path := self.folder / f"part-{number:06d}.parquet").exists():
                number += 1
            table = pa.Table.from_pylist(rows, schema=self.manifest.schema)
            self._write_part(path, table, anchor_ms([table]))
            self._read_new_parts()
        (self.folder / JOURNAL).unlink(missing_ok=True)
        self._part_started = time.monotonic()

    def _read_new_parts(self) -> None:
        for path in part_paths(self.folder):
            if path in self._read_parts:
                continue
            part = read_part(path, self.manifest)
            keys = replicate_keys(part)
            if not self._in_parts.isdisjoint(keys):
                raise DatasetError(
                    f"{path} holds measurements that another part file holds too",
                    "remove the part file that was copied into the folder",
                )
            self._in_parts.update(keys)
            self._read_parts.add(path)
            flags = part["flags"].to_pylist()
            self._architectures.update(
                arch_id for (arch_id, _), f in zip(keys, flags, strict=True) if not is_panel(f)
            )

    def _resume(self) -> None:
        if (self.folder / MANIFEST).exists():
            earlier = read_manifest(self.folder)
            self._check_same(earlier)
            known = {k: v for k, v in self.manifest.fingerprint.items() if v is not None}
            self.manifest = dataclasses.replace(
                self.manifest,
                fingerprint={**self.manifest.fingerprint, **earlier.fingerprint, **known},
                requested=max(self.manifest.requested, earlier.requested),
            )
        elif part_paths(self.folder) or (self.folder / JOURNAL).exists():
            raise DatasetError(
                f"{self.folder} has measurements but no {MANIFEST}",
                "restore the file from a copy, or choose another --out",
            )
        self.flush()
        value = "ratio_to_anchor" if self.manifest.anchored else "latency_ms"
        for path in part_paths(self.folder):
            part = read_part(path, self.manifest).select(["arch_id", "visit", value, "flags"])
            for row in part.to_pylist():
                done = Done(row[value], tuple(row["flags"]))
                self.done[row["arch_id"], row["visit"]] = done
        self._write_manifest()
        self._open_journal()

    def _check_same(self, earlier: Manifest) -> None:
        now = self.manifest
        if earlier.origin:
            made = "merged from others" if "merged" in earlier.origin else "imported"
            raise DatasetError(
                f"{self.folder} was {made}, and cannot be continued",
                "choose another --out; latkit dataset merge makes one of both",
            )
        for name, changed in (
            ("target", differences(now.target.flat(), earlier.target.flat())),
            ("protocol", differences(now.protocol, earlier.protocol)),
            ("machine", contradictions(now.fingerprint, earlier.fingerprint)),
            ("kind", differences({"metrics": now.metrics}, {"metrics": earlier.metrics})),
        ):
            if changed:
                raise DatasetError(
                    f"{self.folder} holds measurements of another {name} "
                    f"(now / then: {'; '.join(changed)})",
                    "choose another --out, or repeat the earlier command exactly",
                )
        if now.seed != earlier.seed or now.anchor != earlier.anchor:
            raise DatasetError(
                f"{self.folder} was begun with seed {earlier.seed} and anchor {earlier.anchor}",
                f"repeat the command with --seed {earlier.seed}, or choose another --out",
            )

    def _settle(self) -> None:
        """Bring ``latency_ms`` of every part to the anchor time of the whole dataset.

        The measured ratios are untouched, and readers recompute ``latency_ms`` from them: a
        crash in the middle leaves nothing wrong.
        """
        paths = part_paths(self.folder)
        if not paths:
            return
        median_ms = anchor_ms(read_part(path, self.manifest) for path in paths)
        for path in paths:
            with open_parquet(path) as file:
                metadata = file.schema_arrow.metadata or {}
            if metadata.get(_ANCHOR_KEY) != repr(median_ms).encode():
                self._write_part(path, read_part(path, self.manifest), median_ms)

    def _write_part(self, path: Path, table: pa.Table, median_ms: float) -> None:
        table = with_latency(table, self.manifest, median_ms).replace_schema_metadata(
            {_ANCHOR_KEY: repr(median_ms).encode()}
        )
        write_atomically(path, lambda temporary: write_parquet(temporary, table))

    def _os_error(self, error: OSError) -> LatkitError:
        return from_os_error(error, f"write the dataset in {self.folder}", _KEPT)

    def _write_manifest(self) -> None:
        rows, architectures = len(self._in_parts), len(self._architectures)
        _write_manifest(self.folder, self.manifest, rows, architectures)

    def _open_journal(self) -> None:
        self._journal = open(self.folder / JOURNAL, "w", encoding="utf-8")  # noqa: SIM115


def write_dataset(folder: Path, manifest: Manifest, table: pa.Table) -> None:
    """Write a whole dataset at once: it appears complete or not at all.

    Args:
        folder: must not exist, or be empty.
        manifest: its manifest.
        table: all rows, with the manifest's schema.

    Raises:
        DatasetError: the folder holds something.
        InputError: another process writes it.
        LatkitError: it cannot be written.
    """
    if not folder.name:
        raise DatasetError(f"{folder} cannot be a new dataset's folder", "name one: --out NAME")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_written(error, folder) from None
    with sole_writer(folder):
        _write_dataset(folder, manifest, table)


def _write_dataset(folder: Path, manifest: Manifest, table: pa.Table) -> None:
    """See :func:`write_dataset`; the folder is this process's own."""
    hidden = folder.with_name(f".{folder.name}.tmp")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DatasetError(f"{folder} exists and is not empty", "choose another --out")
        shutil.rmtree(hidden, ignore_errors=True)
        hidden.mkdir()
        for number, start in enumerate(range(0, table.num_rows, PART_ROWS)):
            part = table.slice(start, PART_ROWS)
            path = hidden / f"part-{number:06d}.parquet"
            write_atomically(path, lambda to, part=part: write_parquet(to, part))  # type: ignore[misc]
        rows = zip(table["arch_id"].to_pylist(), table["flags"].to_pylist(), strict=True)
        architectures = {arch_id for arch_id, flags in rows if not is_panel(flags)}
        _write_manifest(hidden, manifest, table.num_rows, len(architectures))
        if folder.exists():
            folder.rmdir()
        hidden.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        shutil.rmtree(hidden, ignore_errors=True)
        raise _not_written(error, folder) from None


def _not_written(error: OSError, folder: Path) -> LatkitError:
    return from_os_error(error, f"write the dataset in {folder}", "nothing was written")


def _write_manifest(folder: Path, manifest: Manifest, rows: int, architectures: int) -> None:
    content = manifest.to_dict()
    content["latkit_version"] = __version__
    content["counts"] = {"rows": rows, "architectures": architectures}
    write_json_atomically(folder / MANIFEST, content)
