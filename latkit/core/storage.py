"""A folder on any fsspec URL or path, whose every failure is an ``OSError``.

File systems of other packages raise what those packages have: botocore's errors are no
``OSError``, aiohttp's only partly, and a read-only one raises ``NotImplementedError``.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Literal
from urllib.parse import unquote

import fsspec
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.local import LocalFileSystem

from latkit.core.errors import InputError, LatkitError, from_os_error
from latkit.core.files import expand_user
from latkit.core.json_files import read_plain_file

# In a folder that somebody claimed: the claim's token.
CLAIM = ".claim"
_MOST_TOKEN_BYTES = 1000
# File systems whose packages write on a condition that the server checks (S3: If-None-Match,
# Google: ifGenerationMatch); fsspec's general way looks first and writes then.
_CONDITIONAL = {"s3", "s3a", "gs", "gcs"}
# What `pip install latkit[...]` is to have for a kind of URL.
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "hf": "hub"}


class NotPlainError(OSError):
    """A file that is a symbolic link, or no file at all."""


class Storage:
    """A folder, and the files below it by their relative paths.

    A missing folder and an empty one are the same, as they are in an object store.

    Args:
        url: an fsspec URL (it has ``://``), or a path of this machine.

    Raises:
        InputError: there is no such kind of URL, or its package is not installed.
        LatkitError: its server cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_local = "://" not in url
        try:
            if self.is_local:
                # Not through fsspec, to which "a::b" is a chain of URLs.
                self._fs = LocalFileSystem()
                root = LocalFileSystem._strip_protocol(os.path.abspath(expand_user(url)))
            else:
                self._fs, root = fsspec.core.url_to_fs(url)
        except LatkitError:
            raise
        except (ConnectionError, TimeoutError, socket.gaierror) as error:  # ftp connects here
            raise from_os_error(error, f"reach {url}", "nothing was changed") from None
        except Exception as error:  # of any package
            fix = "name a folder, or an fsspec URL whose package is installed"
            extra = _EXTRAS.get(url.partition("://")[0])
            if extra and isinstance(error, ImportError):
                fix = f"pip install 'latkit[{extra}]', or name another place"
            raise InputError(f"{url} cannot be opened: {_one_line(error)}", fix) from None
        self._root = str(root).rstrip("/")
        protocols = [self._fs.protocol] if isinstance(self._fs.protocol, str) else self._fs.protocol
        self._is_http = "http" in protocols
        self._is_conditional = not _CONDITIONAL.isdisjoint(protocols)

    def location(self, path: str) -> str:
        """Where a file lies: a path of this machine, or a URL."""
        place = self._place(path)
        return place if self.is_local else str(self._fs.unstrip_protocol(place))

    def _place(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def files(self, folder: str = "") -> list[str]:
        """All files, by their paths from this folder.

        Args:
            folder: below this one: only what is in there.

        Raises:
            OSError: they cannot be listed; of a web server also where there is nothing, because
                nobody can ever write there.
        """
        with self._os_errors():
            self._fs.invalidate_cache()
            if self._is_http:
                self._fs.ls(self._root, detail=False)
            # Object stores list everything at once, and raise; fsspec's walk from folder to folder
            # would leave out what it cannot read.
            try:
                place = self._place(folder)
                found = list(self._walk(place) if self._is_walked else self._fs.find(place))
            except FileNotFoundError:
                return []
        paths = [str(path).removeprefix(self._root).strip("/") for path in found]
        return [unquote(path) for path in paths] if self._is_http else paths

    def names(self, folder: str) -> list[str]:
        """Names of what is in a folder; of the one of the URL itself by an empty path."""
        with self._os_errors():
            try:
                found = self._fs.ls(self._place(folder), detail=False, refresh=True)
            except FileNotFoundError:
                return []
        return [str(path).rstrip("/").rsplit("/", 1)[-1] for path in found]

    def read(self, path: str, most_bytes: int | None = None) -> bytes:
        """The content of a file.

        Args:
            path: of the file.
            most_bytes: that it may have.

        Raises:
            FileNotFoundError: there is none.
            OSError: it has more bytes; or, on this machine, is a device or a pipe.
        """
        place = f"{self._root}/{path}"
        if most_bytes is not None and isinstance(self._fs, LocalFileSystem):
            with self._os_errors():
                return read_plain_file(place, most_bytes)
        if most_bytes is not None:
            size = self.size(path)
            if size is not None and size > most_bytes:
                raise OSError(f"it has {size:,} bytes, and {most_bytes:,} are the most allowed")
        with self._os_errors():
            return bytes(self._fs.cat_file(place))

    def size(self, path: str) -> int | None:
        """Bytes of a file; None where the server names none.

        Raises:
            FileNotFoundError: there is no such file.
        """
        with self._os_errors():
            self._fs.invalidate_cache()
            size = self._fs.info(f"{self._root}/{path}")["size"]
            return None if size is None else int(size)

    def check_no_link(self, path: str) -> None:
        """Refuse a file that is a symbolic link, or in a folder that is one below this folder.

        Raises:
            NotPlainError: it is.
            OSError: there is no such file, or nothing is known of it.
        """
        with self._os_errors():
            parts = path.split("/")
            for count in range(1, len(parts) + 1) if self._may_link else ():
                info = self._fs.info(f"{self._root}/{'/'.join(parts[:count])}")
                if info.get("islink") or info["type"] in ("link", "other"):
                    path = "/".join(parts[:count])
                    raise NotPlainError(f"{path} is a symbolic link or no plain file")

    def write(self, path: str, content: bytes) -> None:
        """Write a file in a folder that is there; one that is there is replaced."""
        with self._os_errors():
            self._fs.pipe_file(f"{self._root}/{path}", content)

    def write_whole(self, path: str, content: bytes) -> None:
        """:meth:`write` a file that no reader ever finds half written, and read it back.

        Raises:
            OSError: it cannot be written, or something else is there now.
        """
        if self.claimed_by_writing_to == "folder":
            folder, _, name = path.rpartition("/")
            hidden = f"{folder}/.{name}.{uuid.uuid4().hex[:8]}"
            try:
                self.write(hidden, content)
                self.move(hidden, path)
            except FileNotFoundError:
                # Who adds the same files at this moment has removed it (see remove_hidden).
                pass
            except BaseException:
                with contextlib.suppress(OSError):
                    self.remove_file(hidden)
                raise
        else:  # an object appears when all of it is there
            self.write(path, content)
        if self.read(path) != content:
            raise OSError(f"{path} does not hold what was written to it")

    def remove_hidden(self, folder: str, names: Iterable[str]) -> None:
        """Delete what killed calls of :meth:`write_whole` have left of these names."""
        begun = re.compile(rf"\.({'|'.join(map(re.escape, names))})\.[0-9a-f]{{8}}")
        for name in self.names(folder):
            if begun.fullmatch(name):
                with contextlib.suppress(FileNotFoundError):
                    self.remove_file(f"{folder}/{name}")

    def move(self, path: str, to: str) -> None:
        """Rename a file."""
        with self._os_errors():
            self._fs.mv(f"{self._root}/{path}", f"{self._root}/{to}")

    def make_folder(self, folder: str) -> None:
        """Make a folder and those above it; one that is there stays.

        Raises:
            NotPlainError: one of them, below this folder, is a symbolic link: it leads elsewhere.
            OSError: it cannot be made.
        """
        with self._os_errors():
            with contextlib.suppress(FileNotFoundError):
                if folder:
                    self.check_no_link(folder)
            self._fs.makedirs(self._place(folder), exist_ok=True)

    def claim_folder(self, folder: str, token: str) -> None:
        """Make a folder that belongs to a token, whoever else wants it at the same time.

        Claiming it again with the same token succeeds: what was broken off goes on. The folder
        above it must be there.

        Raises:
            FileExistsError: it is there and belongs to another token or to none.
            OSError: it cannot be made; or the store has no conditional writes, and another process
                claims it at this moment.
        """
        with self._os_errors():
            if self.claimed_by_writing_to == "list":
                self._claim_beside_others(folder, token)
                return
            try:
                if isinstance(self._fs, LocalFileSystem):
                    self._move_in(folder, token)
                elif self.claimed_by_writing_to == "folder":
                    self._fs.mkdir(f"{self._root}/{folder}", create_parents=False)
                    self.write(f"{folder}/{CLAIM}", token.encode())
                else:
                    self._create(f"{folder}/{CLAIM}", token.encode())
            except FileExistsError:
                if self.claim_of(folder) != token:
                    raise

    def claim_of(self, folder: str) -> str | None:
        """The token that a folder belongs to; None where there is no folder or no claim."""
        tokens = set()
        for name in self.names(folder):
            if name.startswith(CLAIM):
                with contextlib.suppress(FileNotFoundError):  # it was withdrawn
                    tokens.add(self.read(f"{folder}/{name}", _MOST_TOKEN_BYTES).decode("latin-1"))
        return tokens.pop() if len(tokens) == 1 else None

    @functools.cached_property
    def claimed_by_writing_to(self) -> Literal["folder", "condition", "list"]:
        """What two claims of a folder are told apart by, tried out once.

        ``folder``: making a folder that is there fails. ``condition``: a file is written only if
        it is not there, as object stores do. ``list``: neither; each claim writes a file of its
        own, and is withdrawn if another one's is listed then.
        """
        if self.is_local:
            return "folder"
        probe = f".claims-{uuid.uuid4().hex}"
        with self._os_errors():
            try:
                self._fs.mkdir(f"{self._root}/{probe}", create_parents=False)
                try:
                    self._fs.mkdir(f"{self._root}/{probe}", create_parents=False)
                except FileExistsError:
                    return "folder"
                for content in (b"first", b"second") if self._is_conditional else ():
                    # Servers and packages that do not know the condition refuse or overwrite.
                    with contextlib.suppress(Exception):
                        self._create(f"{probe}/{CLAIM}", content)
                with contextlib.suppress(FileNotFoundError):
                    if self._is_conditional and self.read(f"{probe}/{CLAIM}") == b"first":
                        return "condition"
            finally:
                with contextlib.suppress(OSError):
                    self.remove_folder(probe)
        return "list"

    def _move_in(self, folder: str, token: str) -> None:
        """Make a folder and its claim at once, so that no crash comes in between.

        Raises:
            FileExistsError: a folder with something in it is there.
        """
        place = f"{self._root}/{folder}"
        # Of the token's name, so that the same claim goes on with what a killed one left.
        digest = hashlib.sha256(token.encode()).hexdigest()[:16]
        hidden = f"{place.rpartition('/')[0]}/{CLAIM}-{digest}"
        try:
            os.makedirs(hidden, exist_ok=True)
            # Not emptied first: another process with this claim may move the folder in meanwhile.
            descriptor = os.open(f"{hidden}/{CLAIM}", os.O_WRONLY | os.O_CREAT, 0o666)
            with open(descriptor, "wb") as file:
                file.write(token.encode())
            os.rename(hidden, place)
        except OSError as error:
            shutil.rmtree(hidden, ignore_errors=True)
            if isinstance(error, FileNotFoundError) and self.claim_of(folder) == token:
                return  # another process has made the same claim at this moment
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), place) from None
            raise

    def _create(self, path: str, content: bytes) -> None:
        """Write a file that is not there.

        Raises:
            FileExistsError: it is.
        """
        try:
            self._fs.pipe_file(f"{self._root}/{path}", content, mode="create")
        except Exception as error:
            # Packages disagree about the error, and a repeated request fails by the first one's
            # success; what is there now decides.
            self._fs.invalidate_cache()
            with contextlib.suppress(FileNotFoundError):
                if self.read(path) != content:
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from error
                return
            raise

    def _claim_beside_others(self, folder: str, token: str) -> None:
        """Of two claims the one that lists later finds the other's file: never do both succeed."""
        if self.names(folder) and self.claim_of(folder) != token:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), folder)
        mine = f"{CLAIM}-{uuid.uuid4().hex}"
        self.write(f"{folder}/{mine}", token.encode())
        if mine not in self.names(folder):
            raise OSError("what was just written is not listed")
        if self.claim_of(folder) != token:
            self.remove_file(f"{folder}/{mine}")
            raise OSError(
                "another process publishes at this moment, and this store has no conditional "
                "writes that could keep the two apart"
            )

    def is_older(self, path: str, seconds: float) -> bool:
        """Whether a file or folder is known to be older, by its last change."""
        if not isinstance(self._fs, LocalFileSystem):
            return False
        try:
            return time.time() - os.stat(f"{self._root}/{path}").st_mtime > seconds
        except FileNotFoundError:
            return False

    def remove_file(self, path: str) -> None:
        """Delete a file."""
        with self._os_errors():
            self._fs.rm_file(f"{self._root}/{path}")

    def remove_folder(self, folder: str) -> None:
        """Delete a folder with all that is in it, if it is there."""
        with self._os_errors():
            try:
                self._fs.rm(f"{self._root}/{folder}", recursive=True)
            except FileNotFoundError:  # in an object store it goes with its last file
                return

    def _walk(self, folder: str) -> Iterator[str]:
        try:
            listing = self._fs.ls(folder, detail=True)
        except FileNotFoundError:  # another process has removed it in the meantime
            return
        for info in listing:
            if info["type"] == "directory":
                yield from self._walk(info["name"])
            else:
                yield info["name"]

    @property
    def _may_link(self) -> bool:
        """Whether the file system may have symbolic links."""
        return not (self._is_http or self._is_conditional)

    @property
    def _is_walked(self) -> bool:
        """Whether ``find`` goes from folder to folder."""
        kind = type(self._fs)
        if isinstance(self._fs, AsyncFileSystem):
            return kind._find is AsyncFileSystem._find
        return kind.find in (fsspec.AbstractFileSystem.find, LocalFileSystem.find)

    @contextlib.contextmanager
    def _os_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, MemoryError):
            raise
        except NotImplementedError:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), self.url) from None
        except Exception as error:
            if self.is_local:  # a defect
                raise
            raise OSError(_one_line(error)) from error


def _one_line(error: Exception) -> str:
    """An error of any package, which may have no text at all."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
