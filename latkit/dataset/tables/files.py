"""The files of a table from elsewhere: which there are, how they are opened, what they hold."""

from __future__ import annotations

import io
import lzma
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import fsspec
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from latkit.core.errors import DatasetError, InputError, LatkitError, from_os_error

T = TypeVar("T")
Kind = Literal["parquet", "arrow file", "arrow stream", "text"]

_KINDS: dict[bytes, Kind] = {
    b"PAR1": "parquet",
    b"ARROW1": "arrow file",
    b"\xff\xff\xff\xff": "arrow stream",
}
_COMPRESSIONS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\xfd7zXZ\x00": "xz",
}
_ELSEWHERE = "write the table as CSV or Parquet with the program that made it"
_REFUSED = {
    b"PK\x03\x04": ("a ZIP archive (Excel, NumPy and PyTorch files are some)", _ELSEWHERE),
    b"PK\x05\x06": ("an empty ZIP archive", _ELSEWHERE),
    b"FEA1": ("a Feather file of the old version 1", "write it as version 2, or as Parquet"),
    b"\x93NUMPY": ("a NumPy array", _ELSEWHERE),
    b"\x89HDF": ("an HDF5 file", _ELSEWHERE),
    b"\xd0\xcf\x11\xe0": ("an old Excel file", _ELSEWHERE),
    b"SQLite format 3": ("a SQLite database", _ELSEWHERE),
    b"ORC": ("an ORC file", _ELSEWHERE),
}
# Protocols 2 and later begin with this and their number; 0 and 1 are known by the name alone.
_PICKLE_SUFFIXES = (".pkl", ".pickle", ".p", ".pt", ".pth", ".joblib")
_PICKLE = (
    "a pickle, which can run any program when it is read",
    "where you trust it, write it as Parquet: pandas.read_pickle(...).to_parquet(...)",
)
_MAGIC_BYTES, _BUFFER_BYTES = 16, 1 << 16


@dataclass(frozen=True)
class TableFile:
    """One file of a table.

    Attributes:
        url: as messages name it, with the file's own name where a folder or pattern was given.
        fs: its file system.
        path: in that file system.
    """

    url: str
    fs: fsspec.AbstractFileSystem
    path: str

    @property
    def name(self) -> str:
        """The last part of the path, without the part of a URL after ``?``."""
        return self.path.rstrip("/").rpartition("/")[2].partition("?")[0]


def find_files(names: Sequence[str | Path]) -> list[TableFile]:
    """The files that paths, folders, patterns and fsspec URLs stand for.

    Those of a folder or pattern are in the order of the numbers in their names; hidden ones and
    those that begin with ``_`` hold no rows.

    Raises:
        InputError: nothing is there, no package opens such a URL, or a file is named twice.
        LatkitError: a folder cannot be listed.
    """
    files = [file for name in map(str, names) for file in _expand(name)]
    if not files:
        raise InputError("no file is named", "name one or more")
    paths = [(file.fs, file.path) for file in files]
    twice = [file for i, file in enumerate(files) if paths[i] in paths[:i]]
    if twice:
        raise InputError(f"{twice[0].url} is named twice", "name each file once")
    return files


def _expand(name: str) -> list[TableFile]:
    if Path(name).exists():  # whatever characters its name has
        fs, path = LocalFileSystem(), LocalFileSystem._strip_protocol(Path(name).absolute())
    else:
        try:
            fs, path = fsspec.core.url_to_fs(name)
        except (ConnectionError, TimeoutError, socket.gaierror) as error:  # ftp connects here
            raise _unreadable(name, error) from None
        except Exception as error:  # a file system raises what it likes
            raise InputError(
                f"{name} cannot be opened: {' '.join(str(error).split())}",
                "name a file, or an fsspec URL whose package is installed",
            ) from None
    with reading(name, fs):
        try:
            is_folder = fs.info(path)["type"] == "directory"
        except FileNotFoundError:
            if not fsspec.core.has_magic(path):
                raise
            is_folder = False
            found = [p for p in fs.glob(path) if not fs.isdir(p)]
        else:
            if not is_folder:
                return [TableFile(name, fs, path)]
            found = fs.find(path)
    folder = path if is_folder else re.split(r"[*?\[]", path)[0].rpartition("/")[0]
    shards = [p for p in found if not re.search(r"/[._]", p[len(folder.rstrip("/")) :])]
    if not shards:
        raise InputError(f"there is no file in {name}", "check the path")
    return [
        TableFile(fs.unstrip_protocol(p) if "://" in name else p, fs, p)
        for p in sorted(shards, key=_natural)
    ]


def _natural(path: str) -> list[str | int]:
    """Digits by their value: ``part-2`` is before ``part-10``."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", path))]


@contextmanager
def reading(url: str, fs: fsspec.AbstractFileSystem) -> Iterator[None]:
    """Turns what can fail while a file is read into one line that names it.

    Raises:
        DatasetError: its bytes are no table.
        LatkitError: it cannot be read at all.
    """
    try:
        yield
    except LatkitError:
        raise
    except OSError as error:
        # Arrow's complaints about bytes are OSErrors without a number.
        if error.errno is None and isinstance(fs, LocalFileSystem) and type(error) is OSError:
            raise _no_table(url, error) from None
        if isinstance(error, FileNotFoundError) and error.errno is None:
            # fsspec's web files raise it for whatever happened, with what happened as its cause.
            cause = error.__cause__
            answered = getattr(cause, "status", None)  # of HTTP
            if isinstance(cause, OSError) or answered not in (None, 404, 410):
                raise _unreadable(url, cause or error) from None
            error = FileNotFoundError(2, "No such file or directory")
        raise from_os_error(error, f"read {url}", "nothing was written") from None
    except (pa.ArrowException, ValueError, EOFError, lzma.LZMAError) as error:
        raise _no_table(url, error) from None
    except Exception as error:
        if isinstance(fs, LocalFileSystem):
            raise
        # A remote file system raises what its client library has: no common class.
        raise _unreadable(url, error) from None


def _unreadable(url: str, error: BaseException) -> LatkitError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return LatkitError(
        f"Cannot read {url}: {reason[:300]}",
        "check the URL, the network and your credentials; nothing was written",
    )


def _no_table(url: str, error: Exception) -> DatasetError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return DatasetError(f"{url} is not a whole table ({reason[:300]})", "check the file")


@contextmanager
def open_table(table_file: TableFile) -> Iterator[tuple[Kind, Any]]:
    """Open a file for reading: what it holds by its first bytes, and its bytes uncompressed.

    Columnar files can be read at any position, text from the beginning to the end.

    Raises:
        DatasetError: it is of a kind that is not read, a pickle above all.
        LatkitError: it cannot be read.
    """
    with (
        reading(table_file.url, table_file.fs),
        _open(table_file) as opened,
    ):
        # A pipe can be read only once.
        raw = opened if opened.seekable() else io.BytesIO(opened.read())
        head = raw.read(_MAGIC_BYTES)
        raw.seek(0)
        codec = _by_magic(_COMPRESSIONS, head)
        if codec == "xz":
            plain: Any = lzma.LZMAFile(raw)  # noqa: SIM115  # closed with the reader around it
        elif codec is not None:
            plain = pa.CompressedInputStream(pa.PythonFile(raw, "r"), codec)
        else:
            plain = pa.PythonFile(raw, "r")
        with io.BufferedReader(plain, _BUFFER_BYTES) as file:
            head = file.peek(_MAGIC_BYTES)[:_MAGIC_BYTES]
            kind = _by_magic(_KINDS, head) or "text"
            if kind == "text":
                _refuse(table_file, head)
                yield kind, file
            elif codec is not None:
                yield kind, io.BytesIO(file.read())
            else:
                plain.seek(0)
                yield kind, plain


def _open(table_file: TableFile) -> Any:
    if isinstance(table_file.fs, LocalFileSystem):
        return open(table_file.path, "rb")  # fsspec's own does not open pipes
    return table_file.fs.open(table_file.path, "rb")


def _refuse(table_file: TableFile, head: bytes) -> None:
    refused = _by_magic(_REFUSED, head)
    stem = re.sub(r"\.(gz|bz2|xz|zst|lz4)$", "", table_file.name.lower())
    if re.match(rb"\x80[\x02-\x05]", head) or stem.endswith(_PICKLE_SUFFIXES):
        refused = _PICKLE
    if refused is not None:
        raise DatasetError(f"{table_file.url} is {refused[0]}", refused[1])


def _by_magic(known: Mapping[bytes, T], head: bytes) -> T | None:
    return next((value for magic, value in known.items() if head.startswith(magic)), None)
