"""Where files lie, and writing them so that a crash leaves the old content or the new one."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from latkit.core.errors import InputError

# What fsync says where a file system has no such thing: SMB and some FUSE file systems of folders.
# A folder that may be written and not listed cannot be opened for it.
_NO_SYNC = {
    errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES, errno.EPERM,
}  # fmt: skip


def expand_user(text: str) -> Path:
    """A path as a person writes it, with a leading ``~`` or ``~name`` expanded.

    What a person wrote passes through here once; a ``Path`` is taken as it is.

    Raises:
        InputError: it is empty, or whose home it is in is unknown.
    """
    if not text:
        raise InputError("an empty path names nothing", "name a file or folder; . is this one")
    if not text.startswith("~"):
        return Path(text)
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise InputError(
            f"the home folder in {text!r} is unknown",
            f"write the whole path, or ./{text} for a name that begins with ~",
        ) from None


def user_folder(kind: Literal["data", "cache"], variable: str) -> Path:
    """The folder that the platform has for what latkit keeps of a user.

    It is asked for only where it is needed: a container's user may have no home.

    Args:
        kind: of what is kept.
        variable: the environment variable that makes it unnecessary, for the message.

    Raises:
        InputError: the user has no home folder.
    """
    import platformdirs

    find = platformdirs.user_data_dir if kind == "data" else platformdirs.user_cache_dir
    try:
        folder = Path(find("latkit", appauthor=False))
    except RuntimeError:
        folder = Path()
    # Older releases hand back the ~ that they could not expand.
    if not folder.is_absolute():
        raise InputError(
            "this user has no home folder (no $HOME and no entry in the password database)",
            f"set {variable} to a folder you may write to",
        )
    return folder


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary sibling, force it to disk, and rename it to ``path``.

    Raises:
        OSError: the disk is full or the folder is not writable; ``path`` is then unchanged.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            sync_file(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_json_atomically(path: Path, value: Any) -> None:
    """``value`` as indented JSON; NaN is refused, because JSON has none."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomically(path, write)


def sync_folder(path: Path) -> None:
    """Force a folder's entries to disk, where the file system can do that to folders."""
    if os.name != "posix":
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
        return
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)


def sync_file(descriptor: int) -> None:
    """Force an open file to disk, where the file system can do that."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
