"""Datasets that are not finished, corrupt copies, and folders that hold something else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latkit.core.errors import DatasetError, LatkitError
from latkit.core.sharing import sha256
from latkit.dataset.file_list import FILE_LIST, ListedFile, render
from latkit.dataset.format import JOURNAL, MANIFEST
from latkit.dataset.listing import only_dataset
from latkit.dataset.readme import README
from latkit.dataset.sharing import pull_dataset, push_dataset
from latkit.dataset.writer import DatasetWriter
from tests.support.sharing import Notes, check_same, flip, many_parts
from tests.support.synthetic import made_dataset


class TestNotFinished:
    def test_while_it_is_measured(self, tmp_path: Path) -> None:
        manifest = made_dataset(tmp_path / "d", 40).manifest
        with DatasetWriter(tmp_path / "d", manifest):
            with pytest.raises(DatasetError):
                push_dataset(tmp_path / "d", str(tmp_path / "there"))
            # Between two journals the lock says it.
            (tmp_path / "d" / JOURNAL).rename(tmp_path / "journal")
            with pytest.raises(DatasetError):
                push_dataset(tmp_path / "d", str(tmp_path / "there"))
        assert not (tmp_path / "there").exists()
        assert push_dataset(tmp_path / "d", str(tmp_path / "there")).is_new

    def test_after_it_was_killed(self, tmp_path: Path) -> None:
        made_dataset(tmp_path / "d", 40)
        (tmp_path / "d" / JOURNAL).touch()
        with pytest.raises(DatasetError):
            push_dataset(tmp_path / "d", str(tmp_path / "there"))

    def test_fewer_than_requested_are_noted(self, tmp_path: Path) -> None:
        made_dataset(tmp_path / "d", 40)
        manifest = json.loads((tmp_path / "d" / MANIFEST).read_text())
        (tmp_path / "d" / MANIFEST).write_text(json.dumps({**manifest, "requested": 50}))
        notes = Notes()
        push_dataset(tmp_path / "d", str(tmp_path / "there"), notes)
        assert any("40" in text and "50" in text for text in notes.texts)

    def test_names_that_cannot_be_shared(self, tmp_path: Path) -> None:
        """Without this part the dataset would lack its rows."""
        made_dataset(tmp_path / "d", 40)
        (part,) = (tmp_path / "d").glob("part-*.parquet")
        part.rename(part.with_name("part-Mine.parquet"))
        with pytest.raises(DatasetError, match=r"part-Mine\.parquet"):
            push_dataset(tmp_path / "d", str(tmp_path / "there"))

    def test_links(self, tmp_path: Path) -> None:
        made_dataset(tmp_path / "d", 40)
        (tmp_path / "secret").write_text("{}")
        (tmp_path / "d" / "measurement.json").symlink_to(tmp_path / "secret")
        with pytest.raises(DatasetError):
            push_dataset(tmp_path / "d", str(tmp_path / "there"))
        assert not (tmp_path / "there").exists()


def cut(folder: Path) -> None:
    (part,) = folder.glob("part-*.parquet")
    part.write_bytes(part.read_bytes()[:-1])


def remove(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def link(folder: Path) -> None:
    shutil.move(folder / MANIFEST, folder / "elsewhere")
    (folder / MANIFEST).symlink_to("elsewhere")


def link_list(folder: Path) -> None:
    shutil.move(folder / FILE_LIST, folder / "elsewhere")
    (folder / FILE_LIST).symlink_to("elsewhere")


def listed(*changed: dict[str, Any], **others: Any) -> Callable[[Path], None]:
    """Entries are added to the list, or changed where it has their name."""

    def change(folder: Path) -> None:
        content = json.loads((folder / FILE_LIST).read_text())
        for entry in changed:
            same = [e for e in content["files"] if e["name"] == entry["name"]]
            for old in same:
                content["files"].remove(old)
            content["files"].append({**(same or [{"bytes": 1, "sha256": "0" * 64}])[0], **entry})
        (folder / FILE_LIST).write_text(json.dumps({**content, **others}))

    return change


def named(name: Any) -> Callable[[Path], None]:
    """The list names a further file, which is there with its size and digest."""

    def change(folder: Path) -> None:
        (folder.parent / "secret.parquet").write_bytes(b"1")
        content = json.loads((folder / FILE_LIST).read_text())
        content["files"].append({"name": name, "bytes": 1, "sha256": sha256(b"1")})
        (folder / FILE_LIST).write_text(json.dumps(content))

    return change


def no_dataset(folder: Path) -> None:
    """The files are those of the list, but no dataset."""
    names = (MANIFEST, "part-0.parquet")
    for name in names:
        (folder / name).write_bytes(b"{}")
    files = [ListedFile(name, 2, sha256(b"{}")) for name in names]
    (folder / FILE_LIST).write_bytes(render(files))


def text(content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / FILE_LIST).write_bytes(content)

    return change


TAMPERED = {
    "flipped": flip,
    "cut": cut,
    "missing": remove,
    "link": link,
    "linked list": link_list,
    "no dataset": no_dataset,
    "parent": named("../secret.parquet"),
    "folder": named("part-0/../../secret.parquet"),
    "absolute": named("/etc/hostname"),
    "hidden": named(".lock"),
    "readme": named(README),
    "new line": named("part-0.parquet\n"),
    "number": named(5),
    "twice": named(MANIFEST),
    "small": listed({"name": MANIFEST, "bytes": 1}),
    "huge": listed({"name": MANIFEST, "bytes": 2**62}),
    "negative": listed({"name": MANIFEST, "bytes": -1}),
    "true": listed({"name": MANIFEST, "bytes": True}),
    "digest": listed({"name": MANIFEST, "sha256": "0" * 64}),
    "no digest": listed({"name": MANIFEST, "sha256": None}),
    "further field": listed({"name": MANIFEST, "url": "http://elsewhere"}),
    "version": listed(format_version=2),
    "format": listed(format="other"),
    "no files": listed(files=None),
    "no file": listed(files=[]),
    "a text": listed(files=[MANIFEST]),
    "not json": text(b"\xff{"),
    "not an object": text(b"[]"),
    "deep": text(b"[" * 100_000),
    "no list": text(b""),
}


@pytest.mark.parametrize("tampered", TAMPERED.values(), ids=TAMPERED)
def test_what_is_tampered_with_is_refused(tmp_path: Path, tampered: Callable[[Path], None]) -> None:
    made_dataset(tmp_path / "d", 40)
    there = tmp_path / "lab" / "there"
    push_dataset(tmp_path / "d", str(there))
    tampered(there)
    with pytest.raises(DatasetError) as refused:
        pull_dataset(str(there), tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "secret.parquet").exists()
    # Published anew, without what was wrong, it is pulled in the same place.
    shutil.rmtree(there)
    push_dataset(tmp_path / "d", str(there))
    pull_dataset(str(there), tmp_path / "out")
    check_same(tmp_path / "out", tmp_path / "d")


def test_a_corrupt_copy_is_mended(tmp_path: Path) -> None:
    """As the message of a pull says: by a push after the list was removed."""
    made_dataset(tmp_path / "d", 40)
    there = tmp_path / "there"
    push_dataset(tmp_path / "d", str(there))
    flip(there)
    (there / FILE_LIST).unlink()
    assert push_dataset(tmp_path / "d", str(there)).is_new
    pull_dataset(str(there), tmp_path / "out")
    check_same(tmp_path / "out", tmp_path / "d")


class TestOut:
    def test_holds_something_else(self, tmp_path: Path) -> None:
        made_dataset(tmp_path / "d", 40)
        url = str(tmp_path / "there")
        push_dataset(tmp_path / "d", url)
        for name, make in (
            ("file", Path.touch), ("link", lambda path: path.symlink_to("nowhere")),
            ("folder", lambda path: (path / "mine").mkdir(parents=True)),
        ):  # fmt: skip
            make(tmp_path / name)
            with pytest.raises(LatkitError):
                pull_dataset(url, tmp_path / name)
            assert os.path.lexists(tmp_path / name)
        (tmp_path / "empty").mkdir()
        assert pull_dataset(url, tmp_path / "empty").is_new

    def test_has_a_part_that_was_never_shared(self, tmp_path: Path) -> None:
        made_dataset(tmp_path / "d", 40)
        push_dataset(tmp_path / "d", str(tmp_path / "there"))
        (tmp_path / "d" / "part-Mine.parquet").touch()
        with pytest.raises(DatasetError):
            pull_dataset(str(tmp_path / "there"), tmp_path / "d")

    def test_is_being_extended(self, tmp_path: Path) -> None:
        made_dataset(tmp_path / "d", 40)
        push_dataset(tmp_path / "d", str(tmp_path / "there"))
        (tmp_path / "d" / JOURNAL).touch()
        with pytest.raises(DatasetError):
            pull_dataset(str(tmp_path / "there"), tmp_path / "d")

    def test_what_came_earlier_is_kept_and_nothing_else(self, tmp_path: Path) -> None:
        many_parts(tmp_path / "d")
        url = str(tmp_path / "there")
        push_dataset(tmp_path / "d", url)
        begun = tmp_path / "datasets" / ".out.pull"
        begun.mkdir(parents=True)
        kept = begun / "part-000000.parquet"
        shutil.copy(tmp_path / "d" / kept.name, kept)
        before = kept.stat().st_mtime_ns, kept.stat().st_ino
        (begun / "part-000001.parquet").write_bytes(b"half")
        (begun / "part-old.parquet").write_bytes(b"of another dataset")
        (begun / f".{MANIFEST}.tmp").write_bytes(b"half")
        out = tmp_path / "datasets" / "out"
        pull_dataset(url, out)
        check_same(out, tmp_path / "d")
        kept = out / kept.name
        assert (kept.stat().st_mtime_ns, kept.stat().st_ino) == before

    def test_a_pull_that_was_killed_is_no_dataset(self, tmp_path: Path) -> None:
        made_dataset(tmp_path / "datasets" / "d", 40)
        made_dataset(tmp_path / "datasets" / ".out.pull", 40)
        assert only_dataset(tmp_path / "datasets").name == "d"

    def test_a_hidden_folder_of_somebody_else(self, tmp_path: Path) -> None:
        made_dataset(tmp_path / "d", 40)
        push_dataset(tmp_path / "d", str(tmp_path / "there"))
        (tmp_path / ".out.pull").mkdir()
        (tmp_path / ".out.pull" / "mine").touch()
        with pytest.raises(DatasetError):
            pull_dataset(str(tmp_path / "there"), tmp_path / "out")
        assert (tmp_path / ".out.pull" / "mine").exists()
