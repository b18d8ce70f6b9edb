"""``files.json``: the files of a dataset that is shared, with their sizes and SHA-256.

Only files of names that a dataset has are shared. The list is written last: where it is, the
dataset is whole. The digest of the list is what two copies of one dataset have in common.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from latkit.core.errors import DatasetError
from latkit.core.sharing import sha256, storage_error
from latkit.core.storage import NotPlainError, Storage
from latkit.dataset.format import JOURNAL, MANIFEST, MEASUREMENT

FILE_LIST = "files.json"
FORMAT = "latkit-files"
FORMAT_VERSION = 1
# What a hostile place may make this process read; datasets have a hundredth of it.
MOST_LIST_BYTES = 2**24
MOST_FILE_BYTES = 2**30
# No letters that a file system may take for others, no folders.
_PART = re.compile(r"part-[0-9a-z_-]{1,64}\.parquet")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ListedFile:
    """A file of a shared dataset.

    Attributes:
        name: within the folder.
        bytes: its size.
        sha256: of its content.
    """

    name: str
    bytes: int
    sha256: str


def is_file_of_dataset(name: str) -> bool:
    """Whether a shared dataset may have a file of this name."""
    return name in (MANIFEST, MEASUREMENT) or _PART.fullmatch(name) is not None


def is_read(name: str) -> bool:
    """Whether who opens a dataset's folder reads a file of this name."""
    is_part = fnmatch(name, "part-*.parquet")
    return is_part or name in (MANIFEST, MEASUREMENT, JOURNAL)


def list_files(storage: Storage) -> tuple[ListedFile, ...]:
    """The files of a dataset's folder; what is none of a dataset is left out.

    Raises:
        DatasetError: a file is a symbolic link or too large, or a part has a name that cannot be
            shared, so that its rows would be lost.
        OSError: the folder or a file cannot be read.
    """
    listed = []
    for name in sorted(storage.names("")):
        if is_file_of_dataset(name):
            content = read_plain(storage, name, MOST_FILE_BYTES)
            listed.append(ListedFile(name, len(content), sha256(content)))
        elif fnmatch(name, "part-*.parquet"):
            raise DatasetError(
                f"{storage.location(name)} has a name that cannot be shared",
                "rename it to part-NAME.parquet with lower-case letters, digits, - and _",
            )
    return tuple(listed)


def read_file(storage: Storage, file: ListedFile) -> bytes:
    """The content of a listed file, verified.

    Raises:
        DatasetError: it is missing, a symbolic link, or not what the list has.
        OSError: it cannot be read.
    """
    path = storage.location(file.name)
    fix = (
        f"whoever pushed this dataset must remove {FILE_LIST} beside it and push it again, which "
        "writes what differs"
    )
    try:
        size = storage.size(file.name)
        if size not in (None, file.bytes):
            raise DatasetError(
                f"{path} has {size:,} bytes, and its {FILE_LIST} says {file.bytes:,}", fix
            )
        content = read_plain(storage, file.name, file.bytes)
    except FileNotFoundError:
        raise DatasetError(f"{path} is missing", fix) from None
    if len(content) != file.bytes or sha256(content) != file.sha256:
        raise DatasetError(f"{path} is corrupt (its SHA-256 is not the one in {FILE_LIST})", fix)
    return content


def read_plain(storage: Storage, name: str, most_bytes: int) -> bytes:
    """The content of a file that is no symbolic link.

    Raises:
        DatasetError: it is a link, or no plain file.
        FileNotFoundError: there is none.
        OSError: it cannot be read, or is too large.
    """
    try:
        storage.check_no_link(name)
    except NotPlainError as error:
        raise DatasetError(
            f"{storage.location(name)} is refused: {error}", "put the file itself there"
        ) from None
    return storage.read(name, most_bytes)


def is_whole(path: Path, file: ListedFile) -> bool:
    """Whether a file of this machine is the listed one, and no link to it.

    Raises:
        OSError: it cannot be read.
    """
    if path.is_symlink() or not path.is_file() or path.stat().st_size != file.bytes:
        return False
    return sha256(path.read_bytes()) == file.sha256


def render(files: Sequence[ListedFile]) -> bytes:
    """The content of ``files.json``; the same files have the same."""
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "files": [asdict(file) for file in sorted(files, key=lambda file: file.name)],
    }
    return (json.dumps(content, indent=2) + "\n").encode()


def read_file_list(storage: Storage) -> tuple[ListedFile, ...]:
    """The files of the dataset at a place, as it names them.

    Raises:
        DatasetError: there is no dataset, or its list is corrupt, of another format version, or
            names what no dataset has.
        LatkitError: it cannot be read.
    """
    url, path = storage.url, storage.location(FILE_LIST)
    try:
        content = read_plain(storage, FILE_LIST, MOST_LIST_BYTES)
    except FileNotFoundError:
        raise DatasetError(
            f"{url} holds no whole dataset (no {FILE_LIST})",
            "check the URL; a push that was broken off goes on when it is repeated",
        ) from None
    except OSError as error:
        raise storage_error(storage, error, "read", path, "nothing was changed") from None
    return _parse(content, path)


def _parse(content: bytes, path: str) -> tuple[ListedFile, ...]:
    fix = "do not use it: ask whoever published it, or choose another URL"
    try:
        values = json.loads(content.decode())
    except (ValueError, RecursionError) as error:  # also a number of 5,000 digits
        raise DatasetError(
            f"{path} is corrupt (not JSON in UTF-8: {str(error)[:200]})", fix
        ) from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise DatasetError(f"{path} does not list the files of a latkit dataset", fix)
    version = values.get("format_version")
    if version != FORMAT_VERSION:
        raise DatasetError(
            f"{path} has format version {str(version)[:50]}, this latkit reads {FORMAT_VERSION}",
            "use the version of latkit that wrote it",
        )
    entries = values.get("files")
    files = (
        [_parse_file(entry, path, fix) for entry in entries] if isinstance(entries, list) else []
    )
    names = [file.name for file in files]
    if MANIFEST not in names or not any(map(_PART.fullmatch, names)):
        raise DatasetError(f"{path} lists no {MANIFEST} or no part: that is no dataset", fix)
    if len(set(names)) != len(names):
        raise DatasetError(f"{path} lists a file twice", fix)
    return tuple(files)


def _parse_file(entry: Any, path: str, fix: str) -> ListedFile:
    """One entry of the list, checked in every field."""
    if not isinstance(entry, dict) or set(entry) != {"name", "bytes", "sha256"}:
        raise DatasetError(f"{path} is corrupt (an entry lacks a field or has others)", fix)
    name, size, digest = entry["name"], entry["bytes"], entry["sha256"]
    if not isinstance(name, str) or not is_file_of_dataset(name):
        raise DatasetError(f"{path} names {str(name)[:100]!r}, which no dataset has", fix)
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MOST_FILE_BYTES:
        raise DatasetError(f"{path} has an impossible size of {name}", fix)
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise DatasetError(f"{path} has an impossible SHA-256 of {name}", fix)
    return ListedFile(name, size, digest)
