"""One process at a time for a file or folder that a user names."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import filelock

from latkit.core.errors import InputError, from_os_error


@contextlib.contextmanager
def sole_writer(out: Path) -> Iterator[None]:
    """Only this process makes ``out``, and what has a fixed name beside it, as long as this lasts.

    The lock is a hidden file beside ``out``, because ``out`` is renamed into place; it is gone
    afterwards. One that a killed process has left is used again.

    Args:
        out: need not be there; the folder around it must be.

    Raises:
        InputError: another process makes it.
        LatkitError: the lock cannot be made.
    """
    path = Path(os.path.abspath(out))
    lock_file = path.with_name(f".{path.name}.lock")
    lock = filelock.FileLock(lock_file, blocking=False)
    try:
        if not path.parent.is_dir():  # which filelock would make
            number = errno.ENOTDIR if path.parent.exists() else errno.ENOENT
            raise OSError(number, os.strerror(number), str(path.parent))
        lock.acquire()
    except filelock.Timeout:
        raise InputError(
            f"another process is writing {out}", "wait for it to end, or choose another --out"
        ) from None
    except OSError as error:
        raise from_os_error(error, f"write {out}", "nothing was written") from None
    try:
        yield
    finally:
        # While it is held: who has opened it already notices that what it locks has no name.
        with contextlib.suppress(OSError):
            lock_file.unlink()
        lock.release()
