"""What publishers that failed, or were killed, leave in a registry, and who removes it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from latkit.core.errors import LatkitError
from latkit.core.storage import CLAIM, Storage
from latkit.lpm.store import CARD, WEIGHTS, write_files
from latkit.registry import Registry

FILES = {CARD: b"card", WEIGHTS: b"weights"}


def test_a_killed_writer_leaves_nothing_in_a_whole_version(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    for name in (f".{CARD}.0123abcd", f".{WEIGHTS}.0123abcd"):
        (tmp_path / "v" / name).write_bytes(b"half")
    (tmp_path / "v" / f".{CARD}.mine").write_bytes(b"of a person")
    write_files(Storage(str(tmp_path)), "v", FILES)
    assert sorted(os.listdir(tmp_path / "v")) == sorted([CARD, WEIGHTS, f".{CARD}.mine"])


def test_a_writer_that_fails_removes_what_it_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(str(tmp_path))
    (tmp_path / "v" / WEIGHTS).mkdir(parents=True)  # on which no file can be moved
    (tmp_path / "v" / WEIGHTS / "x").write_bytes(b"")
    with pytest.raises(OSError, match=WEIGHTS):
        storage.write_whole(f"v/{WEIGHTS}", b"weights")
    assert [name for name in os.listdir(tmp_path / "v") if name.startswith(".")] == []


def test_old_trials_of_writing_are_removed(tmp_path: Path) -> None:
    """A new one may be of a process that tries just now."""
    for name in ("old", "new"):
        (tmp_path / f".writable-{name}" / "parent").mkdir(parents=True)
    os.utime(tmp_path / ".writable-old", (0, 0))
    Registry(str(tmp_path)).check_writable()
    assert os.listdir(tmp_path) == [".writable-new"]


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="plain"):
        Storage(str(tmp_path)).read("pipe", 100)


def test_an_lpm_that_is_a_pipe(tmp_path: Path) -> None:
    from latkit.lpm.store import read_card

    (tmp_path / "v").mkdir()
    os.mkfifo(tmp_path / "v" / CARD)
    with pytest.raises(LatkitError):
        read_card(Storage(str(tmp_path)), "v")


def test_a_claim_that_was_killed_goes_on(tmp_path: Path) -> None:
    """What is left of it is of the same name as long as the token is the same."""
    storage = Storage(str(tmp_path))
    (tmp_path / "v").mkdir()
    storage.claim_folder("v/1", "mine")
    (tmp_path / "v" / "1" / CLAIM).unlink()
    (tmp_path / "v" / "1").rmdir()
    begun = tmp_path / "v" / f"{CLAIM}-{hashlib.sha256(b'mine').hexdigest()[:16]}"
    begun.mkdir()
    (begun / CLAIM).write_bytes(b"mi")
    storage.claim_folder("v/1", "mine")
    assert os.listdir(tmp_path / "v") == ["1"]
    assert storage.claim_of("v/1") == "mine"
    with pytest.raises(FileExistsError):
        storage.claim_folder("v/1", "of another")
    assert os.listdir(tmp_path / "v") == ["1"]
