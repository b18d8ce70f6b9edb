"""Where files lie, what file systems lack, and how their errors are told."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from latkit.core.errors import InputError, LatkitError, from_os_error
from latkit.core.files import expand_user, sync_folder, user_folder, write_json_atomically


class TestExpandUser:
    def test_the_home_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        assert expand_user("~/d") == tmp_path / "d"
        assert expand_user("~") == tmp_path
        assert expand_user("a~/~") == Path("a~/~")
        assert expand_user("./~/d") == Path("~/d")

    @pytest.mark.parametrize("text", ["~nobody-of-that-name/d", ""])
    def test_refused(self, text: str) -> None:
        with pytest.raises(InputError):
            expand_user(text)


def test_a_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert user_folder("data", "LATKIT_REGISTRY") == tmp_path / "latkit"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS])
def test_folders_that_cannot_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As on SMB and some FUSE file systems: the file is there all the same."""
    sync = os.fsync

    def refuse_folders(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}") or os.path.isdir(descriptor):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    write_json_atomically(tmp_path / "x.json", {"a": 1})
    assert (tmp_path / "x.json").read_text() == '{\n  "a": 1\n}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
def test_a_real_folder_that_cannot_be_synced() -> None:
    descriptor = os.open("/proc", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Invalid argument"):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(Path("/proc"))


def test_a_disk_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        sync_folder(tmp_path)
    with pytest.raises(OSError, match="Input/output error"):
        write_json_atomically(tmp_path / "x.json", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (errno.ENOLCK, "lock"),
        (errno.ENOSPC, "disk space"),
        (errno.EROFS, "permissions"),
        (errno.EACCES, "permissions"),
        (errno.ECONNREFUSED, "network"),
        (errno.ENOMEM, "memory"),
        (errno.ENAMETOOLONG, "path"),
    ],
)
def test_the_fix_is_of_the_error(number: int, word: str) -> None:
    error = from_os_error(OSError(number, os.strerror(number), "d/x"), "write d", "all is kept")
    assert type(error) is LatkitError
    assert word in error.fix
    assert "all is kept" in error.fix
    assert "d/x" in error.cause
    assert os.strerror(number) in error.cause


def test_errors_without_a_number() -> None:
    """Those of remote file systems; each has some reason to show."""
    assert "Access Denied" in from_os_error(PermissionError("Access Denied"), "x", "y").cause
    assert "permissions" in from_os_error(PermissionError("Access Denied"), "x", "y").fix
    assert from_os_error(OSError(), "read it", "y").cause == "Cannot read it: OSError"
