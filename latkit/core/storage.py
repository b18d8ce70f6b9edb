"""A folder on any fsspec URL or path, whose every failure is an ``OSError``.

File systems of other packages raise what those packages have: botocore's errors are no
``OSError``, aiohttp's only partly, and a read-only one raises ``NotImplementedError``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from urllib.parse import unquote

import fsspec
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.local import LocalFileSystem

from latkit.core.errors import InputError, LatkitError, from_os_error
from latkit.core.files import expand_user


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
            raise InputError(
                f"{url} cannot be opened: {_one_line(error)}",
                "name a folder, or an fsspec URL whose package is installed",
            ) from None
        self._root = str(root).rstrip("/")
        protocols = [self._fs.protocol] if isinstance(self._fs.protocol, str) else self._fs.protocol
        self._is_http = "http" in protocols

    def location(self, path: str) -> str:
        """Where a file lies: a path of this machine, or a URL."""
        place = f"{self._root}/{path}" if path else self._root
        return place if self.is_local else str(self._fs.unstrip_protocol(place))

    def files(self) -> list[str]:
        """All files.

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
                found = self._walk(self._root) if self._is_walked else self._fs.find(self._root)
                found = list(found)
            except FileNotFoundError:
                return []
        paths = [str(path).removeprefix(self._root).strip("/") for path in found]
        return [unquote(path) for path in paths] if self._is_http else paths

    def names(self, folder: str) -> list[str]:
        """Names of what is in a folder."""
        with self._os_errors():
            try:
                found = self._fs.ls(f"{self._root}/{folder}", detail=False, refresh=True)
            except FileNotFoundError:
                return []
        return [str(path).rstrip("/").rsplit("/", 1)[-1] for path in found]

    def read(self, path: str) -> bytes:
        """The content of a file.

        Raises:
            FileNotFoundError: there is none.
        """
        with self._os_errors():
            return bytes(self._fs.cat_file(f"{self._root}/{path}"))

    def write(self, path: str, content: bytes) -> None:
        """Write a file in a folder that is there; one that is there is replaced."""
        with self._os_errors():
            self._fs.pipe_file(f"{self._root}/{path}", content)

    def move(self, path: str, to: str) -> None:
        """Rename a file."""
        with self._os_errors():
            self._fs.mv(f"{self._root}/{path}", f"{self._root}/{to}")

    def make_folder(self, folder: str) -> None:
        """Make a folder and those above it; one that is there stays."""
        with self._os_errors():
            self._fs.makedirs(f"{self._root}/{folder}", exist_ok=True)

    def claim_folder(self, folder: str) -> None:
        """Make a folder of which nobody else may be the maker; object stores do not promise that.

        Raises:
            FileExistsError: it is there.
        """
        with self._os_errors():
            self._fs.mkdir(f"{self._root}/{folder}", create_parents=False)

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
