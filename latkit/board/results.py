"""A folder of results: what was measured so far, so that nothing of it is lost.

It is a dataset in the making (``dataset.json``, ``journal.jsonl``): every finished row is written
at once, and forced to disk at most every ``SYNC_SECONDS``.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from latkit.core.device import contradictions, differences
from latkit.core.errors import DatasetError, LatkitError, from_os_error
from latkit.core.files import sync_file, write_atomically, write_json_atomically
from latkit.core.json_files import read_json_file
from latkit.dataset.flags import Done

if TYPE_CHECKING:
    from typing_extensions import Self

    from latkit.core.events import Listener

MANIFEST, JOURNAL, LOCK = "dataset.json", "journal.jsonl", ".lock"
SYNC_SECONDS = 60.0
_KEPT = "every finished row is kept; then run the same command again"
_OTHER = "choose another --out"


class Results:
    """The only process that writes a folder of results; a context manager.

    Times of measuring are those of the clock when the folder was opened and of a counter that never
    goes back since then: a board without a battery may set its clock at any time.

    Args:
        folder: a new one, or one that an earlier run of the bundle left.
        manifest: the content of its ``dataset.json``.
        listener: receives what is unusual of an earlier run's rows.

    Attributes:
        done: rows that were there at the beginning: (arch_id, replicate) to what a plan needs.

    Raises (on entering):
        DatasetError: another process writes the folder, or it holds something else.
        LatkitError: it cannot be written.
    """

    def __init__(self, folder: Path, manifest: Mapping[str, Any], listener: Listener) -> None:
        self.folder = folder
        self._manifest = dict(manifest)
        self._listener = listener
        self.done: dict[tuple[int, int], Done] = {}

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.folder / LOCK, "a")
            try:
                self._take_lock()
                last_us = self._resume()
                now_us = time.time_ns() // 1000
                if now_us <= last_us:
                    self._listener.note(
                        f"the clock is {(last_us - now_us) / 1e6:.0f} s behind the last row; times "
                        "of measuring go on from that"
                    )
                self._started_us = max(now_us, last_us + 1)
                self._started = self._synced = time.monotonic()
                self._journal = open(self.folder / JOURNAL, "a", encoding="utf-8")
            except BaseException:
                self._lock.close()
                raise
        except OSError as error:
            raise self._os_error(error) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            sync_file(self._journal.fileno())
            self._journal.close()
        except OSError as problem:
            # A failure that is already under way is the cause.
            if error is None:
                raise self._os_error(problem) from None
        finally:
            self._lock.close()

    def append(self, row: dict[str, Any]) -> None:
        """Add one finished row.

        Raises:
            LatkitError: the disk is full or the folder has become unwritable.
        """
        now = time.monotonic()
        row = {**row, "measured_at": self._started_us + int((now - self._started) * 1e6)}
        try:
            self._journal.write(json.dumps(row, allow_nan=False) + "\n")
            self._journal.flush()
            if now - self._synced > SYNC_SECONDS:
                sync_file(self._journal.fileno())
                self._synced = now
        except OSError as error:
            raise self._os_error(error) from None

    def _take_lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # no POSIX system
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatasetError(
                f"another process is writing {self.folder}", f"wait for it to end, or {_OTHER}"
            ) from None

    def _resume(self) -> int:
        """Read what is there; the moment of its last row, or 0."""
        path = self.folder / MANIFEST
        journal = self.folder / JOURNAL
        others = [name for name in os.listdir(self.folder) if not name.startswith(".")]
        if set(others) - {MANIFEST, JOURNAL} or (JOURNAL in others and MANIFEST not in others):
            raise DatasetError(f"{self.folder} holds something else", _OTHER)
        if MANIFEST in others:
            try:
                self._check_same(read_json_file(path))
            except (ValueError, TypeError, KeyError, AttributeError):
                raise DatasetError(f"{path} is corrupt", f"{_OTHER}, or remove it") from None
        else:
            write_json_atomically(path, self._manifest)
        try:
            content = journal.read_bytes()
        except FileNotFoundError:
            return 0
        whole, last_us = self._read_rows(content)
        if whole != content:

            def write(temporary: Path) -> None:
                temporary.write_bytes(whole)

            write_atomically(journal, write)
        return last_us

    def _read_rows(self, content: bytes) -> tuple[bytes, int]:
        """The lines that are whole, and the moment of the last one."""
        anchored = self._manifest["protocol"]["anchored"]
        lines, last_us, torn = [], 0, 0
        for line in content.split(b"\n"):
            if not line:
                continue
            try:
                row = json.loads(line)
                value = row["ratio_to_anchor" if anchored else "latency_ms"]
                key, done = (row["arch_id"], row["visit"]), Done(value, tuple(row["flags"]))
                last_us = max(last_us, row["measured_at"])
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                torn += 1
                continue
            self.done[key] = done
            lines.append(line + b"\n")
        if torn:
            self._listener.note(
                f"{torn} row(s) in {self.folder / JOURNAL} were cut off and are measured again"
            )
        return b"".join(lines), last_us

    def _check_same(self, earlier: Mapping[str, Any]) -> None:
        def identity(manifest: Mapping[str, Any]) -> dict[str, Any]:
            target = {k: v for k, v in manifest["target"].items() if k not in ("device", "setting")}
            return {
                **target,
                **manifest["target"]["setting"],
                **manifest["protocol"],
                **{name: manifest.get(name) for name in ("seed", "anchor", "metrics")},
                "bundle": manifest["fingerprint"].get("bundle"),
            }

        now = self._manifest
        ours, theirs = now["fingerprint"], earlier["fingerprint"]
        for what, changed in (
            ("by another bundle", differences(identity(now), identity(earlier))),
            ("on another machine", contradictions(ours, theirs)),
        ):
            if changed:
                raise DatasetError(
                    f"{self.folder} holds measurements made {what} "
                    f"(now / then: {'; '.join(changed)})",
                    _OTHER,
                )
        if now["requested"] > earlier["requested"]:
            content = {**earlier, "requested": now["requested"]}
            write_json_atomically(self.folder / MANIFEST, content)

    def _os_error(self, error: OSError) -> LatkitError:
        return from_os_error(error, f"write the results in {self.folder}", _KEPT)
