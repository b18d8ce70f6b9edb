"""A dataset from this machine to any fsspec URL, and from there to another machine.

The URL belongs to one dataset, known by the SHA-256 of the list of its files: who pushes it claims
the URL by that, and the list is written last. What was broken off goes on when it is repeated.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import filelock

from latkit.core.errors import DatasetError, LatkitError, from_os_error
from latkit.core.events import SILENT, Listener, Progress
from latkit.core.files import expand_user, sync_folder, write_atomically
from latkit.core.sharing import note_claims, sha256, storage_error
from latkit.core.storage import Storage
from latkit.dataset.file_list import (
    FILE_LIST,
    MOST_LIST_BYTES,
    ListedFile,
    is_file_of_dataset,
    is_read,
    is_whole,
    list_files,
    read_file,
    read_file_list,
    render,
)
from latkit.dataset.format import JOURNAL, LOCK
from latkit.dataset.latency import LatencyDataset
from latkit.dataset.readme import README, dataset_card

# The folder below a URL whose claim is that of the dataset there.
CLAIMED = ".push"


@dataclass(frozen=True)
class CopiedDataset:
    """A dataset that is now in two places.

    Attributes:
        source, destination: folder and URL, or URL and folder.
        files: how many it has.
        bytes: how many are in them.
        is_new: whether it was copied; False: it was there.
    """

    source: str
    destination: str
    files: int
    bytes: int
    is_new: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def push_dataset(dataset: str | Path, url: str, listener: Listener = SILENT) -> CopiedDataset:
    """Copy a dataset to a URL that has none yet, with a ``README.md`` for people.

    A ``README.md`` that is there stays. After a failure what was copied stays, and the same call
    goes on.

    Args:
        dataset: its folder.
        url: any fsspec URL or path, of this dataset alone.
        listener: receives what to know about the place and the dataset, and the progress.

    Raises:
        DatasetError: it is being measured, or cannot be read; or there is another one at the URL.
        InputError: the URL cannot be opened.
        LatkitError: the URL cannot be read or written.
    """
    folder = expand_user(dataset) if isinstance(dataset, str) else dataset
    source, destination = Storage(os.path.abspath(folder)), Storage(url)
    with _not_being_written(folder):
        opened = LatencyDataset.open(folder)
        try:
            files = list_files(source)
        except OSError as error:
            raise storage_error(source, error, "read", str(folder), "nothing was copied") from None
        _check_no_journal(folder)
        if opened.architectures < opened.manifest.requested:
            listener.note(
                f"{folder} has {opened.architectures} of the {opened.manifest.requested} "
                "architectures that were to be measured"
            )
        try:
            is_new = _push(source, destination, files, opened, listener)
        except OSError as error:
            again = "then run the same command again, which goes on; or choose another URL"
            raise storage_error(
                destination, error, "write", f"the dataset to {url}", again
            ) from None
        finally:
            listener.end_progress()
    return _result(str(folder), url, files, is_new)


def pull_dataset(url: str, out: str | Path, listener: Listener = SILENT) -> CopiedDataset:
    """Copy the dataset at a URL to a folder, which is then whole or not there.

    Files arrive in a hidden folder beside it, and stay there after a failure: the same call goes
    on. Every file is verified by its SHA-256.

    Args:
        url: what :func:`push_dataset` was given.
        out: a new folder; one that has this dataset already is left as it is.
        listener: receives the progress.

    Raises:
        DatasetError: there is no whole dataset at the URL, or something in it is corrupt, a link
            or of no dataset; or ``out`` holds something else.
        InputError: the URL cannot be opened.
        LatkitError: the URL cannot be read, or ``out`` not be written.
    """
    out = expand_user(out) if isinstance(out, str) else out
    source = Storage(url)
    files = read_file_list(source)
    place = Path(os.path.abspath(out))
    hidden = place.with_name(f".{place.name}.pull") if place.name else place
    try:
        if is_new := not _holds(place, files):
            if place == hidden or (os.path.lexists(place) and not _is_empty_folder(place)):
                raise DatasetError(f"{out} exists and is not this dataset", "choose another OUT")
            with _locked(hidden):
                _fetch(source, files, hidden, listener)
                _check_opens(hidden, url)
            _appear(hidden, place, files)
    except OSError as error:
        kept = f"files that came whole are kept in {hidden}; then run the same command again"
        raise from_os_error(error, f"write the dataset in {out}", kept) from None
    finally:
        listener.end_progress()
    return _result(url, str(out), files, is_new)


def _result(
    source: str, destination: str, files: Sequence[ListedFile], is_new: bool
) -> CopiedDataset:
    size = sum(file.bytes for file in files)
    return CopiedDataset(source, destination, len(files), size, is_new)


# --- push -------------------------------------------------------------------------------------


@contextlib.contextmanager
def _not_being_written(folder: Path) -> Iterator[None]:
    """Keep a dataset as it is, as far as its folder can be locked.

    Raises:
        DatasetError: rows of it are not in a part yet, or another process writes it.
    """
    _check_no_journal(folder)
    lock = filelock.FileLock(folder / LOCK, blocking=False)
    # Nobody has ever measured where there is no lock, as in an imported dataset.
    if os.path.exists(folder / LOCK):
        try:
            lock.acquire()
        except filelock.Timeout:
            raise DatasetError(
                f"{folder} is still being measured by another process", "wait for it to end"
            ) from None
        except (OSError, NotImplementedError):  # it may only be read
            pass
    try:
        yield
    finally:
        lock.release()


def _check_no_journal(folder: Path) -> None:
    if os.path.lexists(folder / JOURNAL):
        raise DatasetError(
            f"{folder} is still being measured: it has a {JOURNAL}",
            "wait for the command that measures it, or repeat it if it was killed; what a bundle "
            "wrote is imported first (latkit dataset import)",
        )


def _push(
    source: Storage,
    destination: Storage,
    files: Sequence[ListedFile],
    dataset: LatencyDataset,
    listener: Listener,
) -> bool:
    """Claim the URL and write what is missing; whether anything was.

    Raises:
        DatasetError: the URL is another dataset's, or a file changed meanwhile.
        OSError: it cannot be read or written.
    """
    file_list = render(files)
    if _has_list(destination, file_list):
        return False
    _claim(destination, sha256(file_list), listener)
    there = destination.names("")
    if README in there:
        listener.note(f"the {README} at {destination.url} stays as it is")
    else:
        destination.write_whole(README, dataset_card(dataset).encode())
    for done, file in enumerate(files):
        listener.progress(Progress("files", done, len(files), 0, file.name))
        content = _read_again(source, file)
        if file.name not in there or not _has(destination, file.name, content):
            destination.write_whole(file.name, content)
    destination.write_whole(FILE_LIST, file_list)
    return True


def _read_again(source: Storage, file: ListedFile) -> bytes:
    """A file of this machine, which was listed a moment ago."""
    path = source.location(file.name)
    try:
        content = source.read(file.name)
    except OSError as error:
        raise from_os_error(error, f"read {path}", "what was copied is kept") from None
    if sha256(content) != file.sha256:
        raise DatasetError(
            f"{path} was changed while it was pushed",
            "leave the dataset alone, put the file back, and run the same command again",
        )
    return content


def _has_list(destination: Storage, file_list: bytes) -> bool:
    """Whether the dataset is there already.

    Raises:
        DatasetError: another one is.
    """
    try:
        there = destination.read(FILE_LIST, MOST_LIST_BYTES)
    except FileNotFoundError:
        return False
    if there != file_list:
        raise DatasetError(f"{destination.url} has another dataset", "choose another URL")
    return True


def _claim(destination: Storage, token: str, listener: Listener) -> None:
    """Make the URL this dataset's own, or go on where an earlier push of it claimed it.

    Raises:
        DatasetError: another dataset has it, or files that no push has written.
        OSError: it cannot be claimed.
    """
    url = destination.url
    destination.make_folder("")
    taken = sorted(filter(is_file_of_dataset, destination.names("")))
    if taken and destination.claim_of(CLAIMED) is None:
        raise DatasetError(
            f"{url} has files of a dataset that was not pushed there ({taken[0]})",
            "choose another URL",
        )
    note_claims(destination, "a dataset", listener)
    try:
        destination.claim_folder(CLAIMED, token)
    except FileExistsError:
        raise DatasetError(
            f"another dataset is being pushed to {url}, or its push was broken off",
            f"choose another URL; if nobody pushes it, remove {destination.location(CLAIMED)} and "
            "the files beside it",
        ) from None


def _has(destination: Storage, name: str, content: bytes) -> bool:
    """Whether an earlier push has written a file."""
    try:
        return destination.size(name) == len(content) and destination.read(name) == content
    except FileNotFoundError:
        return False


# --- pull -------------------------------------------------------------------------------------


def _holds(folder: Path, files: Sequence[ListedFile]) -> bool:
    """Whether a folder is the dataset, and is not being extended."""
    if not folder.is_dir():
        return False
    if set(filter(is_read, os.listdir(folder))) != {file.name for file in files}:
        return False
    return all(is_whole(folder / file.name, file) for file in files)


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


@contextlib.contextmanager
def _locked(hidden: Path) -> Iterator[None]:
    """The folder of files that came, and one process at a time."""
    if hidden.is_symlink():
        raise DatasetError(f"{hidden} is a symbolic link", "remove it")
    hidden.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(hidden / LOCK, blocking=False):
            yield
    except filelock.Timeout:
        raise DatasetError(
            f"another process pulls into {hidden}", "wait for it, or choose another OUT"
        ) from None


def _fetch(source: Storage, files: Sequence[ListedFile], hidden: Path, listener: Listener) -> None:
    """Bring every file that is not here yet, and leave no other one.

    Raises:
        DatasetError: a file is not what the list has, or the folder has what no pull put there.
        LatkitError: the source cannot be read.
        OSError: the folder cannot be read or written.
    """
    wanted = {file.name for file in files}
    for name in os.listdir(hidden):
        if name == LOCK or name in wanted:
            continue
        # Of an earlier dataset at the URL, or the temporary file of write_atomically.
        if not is_file_of_dataset(name.removeprefix(".").removesuffix(".tmp")):
            raise DatasetError(f"{hidden} holds {name}, which no pull put there", "remove it")
        (hidden / name).unlink()
    before = sum(is_whole(hidden / file.name, file) for file in files)
    for done, file in enumerate(files):
        listener.progress(Progress("files", done, len(files), min(before, done), file.name))
        if is_whole(hidden / file.name, file):
            continue
        try:
            content = read_file(source, file)
        except OSError as error:
            path, kept = source.location(file.name), f"what came is kept in {hidden}"
            again = f"{kept}; then run the same command again"
            raise storage_error(source, error, "read", path, again) from None
        _write(hidden / file.name, content)


def _write(path: Path, content: bytes) -> None:
    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_atomically(path, write)


def _check_opens(hidden: Path, url: str) -> None:
    """Raises: DatasetError: it is none, or of a space that is unknown here."""
    try:
        LatencyDataset.open(hidden)
    except LatkitError as error:
        raise DatasetError(
            f"what is at {url} cannot be used: {error.cause.replace(str(hidden), url)}",
            "ask whoever pushed it",
        ) from None


def _appear(hidden: Path, place: Path, files: Sequence[ListedFile]) -> None:
    """Rename the whole folder to what the user named."""
    try:
        if place.is_dir():
            place.rmdir()
        os.rename(hidden, place)
    except OSError:
        if not _holds(place, files):  # else another process that pulled the same was first
            raise
    sync_folder(place.parent)
