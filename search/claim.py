"""A folder for one training: what it is of, and one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import filelock

from latkit.core.errors import LatkitError, from_os_error
from latkit.core.files import write_json_atomically
from latkit.core.json_files import read_json_file
from latkit.search.distributed import Processes
from latkit.search.identity import named_differences

CONFIG = "config.json"
# Files and folders that a training or a search has; a folder with one of them is somebody's.
_SIGNS = ("*.json", "*.parquet", "*.safetensors", "seed-*")


@contextmanager
def claimed(
    out: Path,
    content: dict[str, Any],
    processes: Processes,
    what: str,
    error_class: type[LatkitError],
) -> Iterator[None]:
    """The folder for this training, made or gone on with, locked as long as this lasts.

    Args:
        out: the folder.
        content: what two trainings of one folder have in common, as JSON.
        processes: this process among those that train together.
        what: is in the folder, for messages, e.g. ``training``.
        error_class: what is raised for a folder that holds another one.

    Raises:
        LatkitError: it holds another training, or another process trains in it (``error_class``);
            or it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(out / ".lock", blocking=False)
        with lock if processes.is_main else nullcontext():
            if processes.is_main:
                _claim(out, content, what, error_class)
            # The others read the folder only when it is known to hold this training.
            processes.wait()
            yield
    except filelock.Timeout:
        raise error_class(
            f"another process works on the {what} in {out}", "wait for it, or choose another --out"
        ) from None
    except OSError as error:
        kept = "the last checkpoint is kept; then run the same command again"
        raise from_os_error(error, f"write the {what} in {out}", kept) from None


def _claim(out: Path, content: dict[str, Any], what: str, error_class: type[LatkitError]) -> None:
    """Write ``config.json``, or check that the folder's training is this one."""
    path = out / CONFIG
    if not path.exists():
        if any(found for sign in _SIGNS for found in out.glob(sign)):
            raise error_class(
                f"{out} holds something else, or a {what} whose {CONFIG} is missing",
                "choose another --out, or put the file back",
            )
        write_json_atomically(path, content)
        return
    changed = named_differences(content, read_config(path, error_class))
    if changed:
        raise error_class(
            f"{out} holds another training or search (now / then: {'; '.join(changed)})",
            "choose another --out, or repeat the earlier command exactly, on the same data",
        )


def read_config(path: Path, error_class: type[LatkitError]) -> dict[str, Any]:
    """What a folder's ``config.json`` has.

    Raises:
        LatkitError: it is corrupt (``error_class``), or cannot be read.
    """
    try:
        return dict(read_json_file(path))
    except OSError as error:
        raise from_os_error(error, f"read {path}", "nothing was changed") from None
    except (TypeError, ValueError):
        raise error_class(
            f"{path} is corrupt: it is not an object of JSON",
            "put it back from a copy, or choose another --out",
        ) from None
