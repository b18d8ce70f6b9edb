"""What a bundle measured on a board, made into a dataset like any other."""

from __future__ import annotations

import bz2
import contextlib
import dataclasses
import gzip
import io
import lzma
import shutil
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from latkit.core.device import check_device_name
from latkit.core.errors import DatasetError, SpaceError, from_os_error
from latkit.dataset.check import summarize
from latkit.dataset.format import JOURNAL, MANIFEST, part_paths
from latkit.dataset.latency import LatencyDataset
from latkit.dataset.plausibility import doubts
from latkit.dataset.tables.importing import ImportResult
from latkit.dataset.writer import write_dataset
from latkit.spaces import get_space

# Of an archive: how many files are in it at most, and how large they are together.
MOST_FILES = 10_000
MOST_BYTES = 2**30
# What Python's archives raise for damage: a name that is no UTF-8, a place before the file, ...
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error,
            EOFError, ValueError, OverflowError, RuntimeError)  # fmt: skip
# Of a tar archive; contents of files are read by pieces.
_MOST_AT_ONCE = 2**20
_COMPRESSIONS: dict[bytes, Any] = {
    b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open,
}  # fmt: skip
_NOT_DECOMPRESSED = (OSError, EOFError, zlib.error, lzma.LZMAError)
_AGAIN = "bring the folder of the results here again"


def import_results(results: str | Path, out: str | Path, device: str | None = None) -> ImportResult:
    """Make a dataset of what a bundle measured.

    Args:
        results: the folder that the bundle wrote, or a ZIP or tar archive with it in it.
        out: folder of the new dataset.
        device: a short name of the board; None: the one made of its CPU's name.

    Raises:
        DatasetError: it holds no results of a bundle, something in it is corrupt or of a space
            that is unknown here, or ``out`` is not empty.
        InputError: the device cannot have that name.
        LatkitError: a file cannot be read, or ``out`` not be written.
    """
    path, out = Path(results), Path(out)
    with _folder(path) as folder:
        try:
            measured = LatencyDataset.open(folder)
        except DatasetError as error:
            # Of an archive the message must name that, and not where it was unpacked.
            raise DatasetError(error.cause.replace(str(folder), str(path)), _AGAIN) from None
        if "bundle" not in measured.manifest.fingerprint or part_paths(folder):
            raise DatasetError(f"{path} is a dataset already", "use it as it is")
    _check_architectures(path, measured)
    target = measured.manifest.target
    if device is not None:
        target = dataclasses.replace(target, device=check_device_name(device))
    manifest = dataclasses.replace(measured.manifest, target=target)
    write_dataset(out, manifest, measured.table.combine_chunks())
    dataset = LatencyDataset.open(out)
    return ImportResult(dataset, summarize(dataset), (str(path),), (), tuple(doubts(dataset)))


def _check_architectures(path: Path, measured: LatencyDataset) -> None:
    """Refuse rows whose text is of another architecture than their identifier."""
    space = get_space(measured.manifest.target.space)
    texts = dict(
        zip(measured.table["arch"].to_pylist(), measured.table["arch_id"].to_pylist(), strict=True)
    )
    try:
        ids = space.file_ids(np.concatenate([space.parse(text) for text in texts]))
    except SpaceError as error:
        raise DatasetError(f"{path}: {error.cause}", _AGAIN) from None
    if ids.tolist() != list(texts.values()):
        raise DatasetError(f"{path} has rows whose arch_id is not that of their arch", _AGAIN)


@dataclass(frozen=True)
class _Member:
    """A file in an archive."""

    path: PurePosixPath
    size: int
    is_file: bool
    open: Callable[[], IO[bytes] | None]


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[Path]:
    """The folder of results, be it in an archive.

    Of an archive nothing is unpacked but the two files of results, under names of their own.
    """
    if path.is_dir():
        yield path
        return
    if not path.exists():
        raise DatasetError(f"there is no {path}", "name what a bundle wrote")
    with tempfile.TemporaryDirectory(prefix="latkit-results-") as name:
        try:
            _unpack(path, Path(name))
        except MemoryError:
            raise DatasetError(f"{path} is larger than any results", _AGAIN) from None
        except _DAMAGED as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise DatasetError(f"the archive {path} is damaged ({reason})", _AGAIN) from None
        except OSError as error:
            raise from_os_error(error, f"read {path}", "nothing was written") from None
        yield Path(name)


def _unpack(path: Path, folder: Path) -> None:
    """Copy the two files of results out of an archive."""
    with _opened(path) as members:
        for file, member in _results_in(path, members).items():
            content = member.open()
            assert content is not None  # a regular file
            with content, open(folder / file, "wb") as copy:
                shutil.copyfileobj(content, copy)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Iterator[_Member]]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield (
                _Member(
                    PurePosixPath(info.filename),
                    info.file_size,
                    # (Without a name, is_dir fails.) The first bit: encrypted.
                    bool(info.filename) and not info.is_dir() and not info.flag_bits & 1,
                    lambda info=info: archive.open(info),  # type: ignore[misc]
                )
                for info in archive.infolist()
            )
        return
    with _decompressed(path) as stream:
        try:
            tar = tarfile.open(fileobj=_ShortReads(stream), mode="r:")  # noqa: SIM115
        except (tarfile.ReadError, *_NOT_DECOMPRESSED):
            raise DatasetError(
                f"{path} is no folder of results and no ZIP or tar archive of one",
                "name what a bundle wrote; of a table name its --latency-column too",
            ) from None
        with tar:
            yield (
                _Member(
                    PurePosixPath(info.name),
                    info.size,
                    info.isreg(),
                    lambda info=info: tar.extractfile(info),  # type: ignore[misc]
                )
                for info in tar
            )


def _decompressed(path: Path) -> IO[bytes]:
    """What is in a file, whatever of Python's compressions it has."""
    with open(path, "rb") as file:
        head = file.read(6)
    for start, open_file in _COMPRESSIONS.items():
        if head.startswith(start):
            stream: IO[bytes] = open_file(path, "rb")
            return stream
    return open(path, "rb")


class _ShortReads(io.RawIOBase):
    """A stream from which nothing is read that memory may not hold.

    The heads of a tar archive may have names of any length, which Python reads at once.

    Args:
        stream: of the archive.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_AT_ONCE:
            raise tarfile.ReadError("a head of it is larger than any")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _results_in(path: Path, members: Iterator[_Member]) -> dict[str, _Member]:
    """The manifest and the journal of the one folder of results in an archive."""
    found: dict[PurePosixPath, dict[str, _Member]] = {}
    total = 0
    for number, member in enumerate(members):
        if member.path.is_absolute() or ".." in member.path.parts:
            raise DatasetError(f"{path} names a file outside of it ({member.path})", _AGAIN)
        name, total = member.path.name, total + member.size
        # A tar archive is read to its end, whatever is in it.
        if number >= MOST_FILES or total > MOST_BYTES:
            raise DatasetError(f"{path} is larger than any results", _AGAIN)
        if name == "bundle.json":
            raise DatasetError(
                f"{path} is a bundle and not its results", "run it on the board, by Python"
            )
        if name in (MANIFEST, JOURNAL) and member.is_file:
            found.setdefault(member.path.parent, {})[name] = member
    folders = [files for files in found.values() if MANIFEST in files]
    if len(folders) != 1:
        raise DatasetError(f"{path} holds {len(folders)} folders of results instead of one", _AGAIN)
    return folders[0]
