"""One process at a time for a file or folder that a user names.

It is kept out by a hidden file: beside what is renamed into place, or in a folder that stays.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import filelock

from latkit.core.errors import InputError, from_os_error

# Like filelock, through no link that somebody has put there.
_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)


@contextlib.contextmanager
def sole_writer(out: Path) -> Iterator[None]:
    """Only this process makes ``out``, and what has a fixed name beside it, as long as this lasts.

    The lock is a hidden file beside ``out``, because ``out`` is renamed into place; it is gone
    afterwards. One that a killed process has left is used again.

    Args:
        out: need not be there; the folder around it must be.

    Raises:
        InputError: another process makes it, or it has no name.
        LatkitError: the lock cannot be made.
    """
    if not out.name:
        raise InputError(f"{out} cannot be written", "name a new file or folder")
    path = Path(os.path.abspath(out))
    if not path.parent.is_dir():  # which filelock would make
        number = errno.ENOTDIR if path.parent.exists() else errno.ENOENT
        missing = OSError(number, os.strerror(number), str(path.parent))
        raise from_os_error(missing, f"write {out}", "nothing was written")
    lock_file = path.with_name(f".{path.name}.lock")
    with _held(lock_file, out):
        try:
            yield
        finally:
            # While it is held: who has opened it already notices that what it locks has no name.
            with contextlib.suppress(OSError):
                lock_file.unlink()


@contextlib.contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Only this process works in a folder that is there, as long as this lasts.

    Raises:
        InputError: another process does.
        LatkitError: the lock cannot be made.
    """
    with _held(folder / ".lock", folder):
        yield


@contextlib.contextmanager
def _held(lock_file: Path, out: Path) -> Iterator[None]:
    lock = filelock.FileLock(lock_file, blocking=False)
    try:
        # Where it cannot be made, filelock may take that for another process's doing.
        os.close(os.open(lock_file, _OPEN, 0o666))
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
        lock.release()
