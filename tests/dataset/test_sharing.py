"""Datasets pushed to a URL and pulled from it: repetition, killed commands, hostile files."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from latkit.core.errors import DatasetError, InputError, LatkitError
from latkit.core.events import Listener
from latkit.core.sharing import sha256
from latkit.core.storage import Storage
from latkit.dataset import LatencyDataset
from latkit.dataset.file_list import FILE_LIST, ListedFile, render
from latkit.dataset.format import JOURNAL, MANIFEST
from latkit.dataset.listing import only_dataset
from latkit.dataset.readme import README
from latkit.dataset.sharing import pull_dataset, push_dataset
from latkit.dataset.writer import DatasetWriter
from tests.lpm.test_remote_registry import ObjectStore, needs_http, web_server
from tests.support.commands import RunLatkit, ok
from tests.support.processes import run_to_the_end, start_latkit, wait_for
from tests.support.s3 import s3_server, use_s3
from tests.support.synthetic import made_dataset

PARTS = 24


class Notes(Listener):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def many_parts(folder: Path, device: str = "formula") -> Path:
    """A dataset of ``PARTS`` parts, so that a copy takes some time."""
    made_dataset(folder, PARTS, device)
    (part,) = folder.glob("part-*.parquet")
    table = pq.read_table(part)
    part.unlink()
    for number in range(PARTS):
        pq.write_table(table.slice(number, 1), folder / f"part-{number:06d}.parquet")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a dataset's folder that are not hidden."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}


def check_same(out: Path, dataset: Path) -> None:
    """The pulled folder has the dataset's files and no other, and nothing is left beside it."""
    assert contents(out) == contents(dataset)
    assert not (out.parent / f".{out.name}.pull").exists()


@pytest.fixture(params=["file", "memory://lab/d", "latkit-objects://bucket/d"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path / "lab" / "d") if request.param == "file" else request.param
    for store in (MemoryFileSystem, ObjectStore):
        store.store.clear()
        store.pseudo_dirs[:] = [""]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with s3_server(tmp_path_factory.mktemp("moto")) as variables:
        yield variables


def test_a_dataset_there_and_back(tmp_path: Path, url: str) -> None:
    dataset = many_parts(tmp_path / "d")
    (dataset / "measurement.json").write_text("{}")
    (dataset / "notes.txt").write_text("not shared")
    pushed = push_dataset(dataset, url)
    assert (pushed.files, pushed.is_new) == (PARTS + 2, True)
    (dataset / "notes.txt").unlink()
    assert pushed.bytes == sum(map(len, contents(dataset).values()))
    assert not push_dataset(dataset, url).is_new
    assert pull_dataset(url, tmp_path / "out").is_new
    check_same(tmp_path / "out", dataset)
    assert not pull_dataset(url, tmp_path / "out").is_new
    assert LatencyDataset.open(tmp_path / "out").digest() == LatencyDataset.open(dataset).digest()
    # What was pulled is the same dataset as what was pushed.
    assert not push_dataset(tmp_path / "out", url).is_new


def test_another_dataset_is_refused(tmp_path: Path, url: str) -> None:
    made_dataset(tmp_path / "d", 40)
    made_dataset(tmp_path / "e", 41)
    push_dataset(tmp_path / "d", url)
    with pytest.raises(DatasetError):
        push_dataset(tmp_path / "e", url)
    with pytest.raises(DatasetError):
        pull_dataset(url, tmp_path / "e")
    assert len(LatencyDataset.open(tmp_path / "e").table) == 41
    # An earlier push of the one that ended before its list was written.
    Storage(url).remove_file(FILE_LIST)
    with pytest.raises(DatasetError):
        push_dataset(tmp_path / "e", url)
    with pytest.raises(DatasetError):
        pull_dataset(url, tmp_path / "out")
    assert push_dataset(tmp_path / "d", url).is_new
    pull_dataset(url, tmp_path / "out")
    check_same(tmp_path / "out", tmp_path / "d")


def test_a_dataset_that_nobody_pushed_is_left_alone(tmp_path: Path) -> None:
    made_dataset(tmp_path / "d", 40)
    made_dataset(tmp_path / "e", 41)
    before = contents(tmp_path / "e")
    with pytest.raises(DatasetError):
        push_dataset(tmp_path / "d", str(tmp_path / "e"))
    assert contents(tmp_path / "e") == before


def test_two_publishers_at_once(tmp_path: Path, url: str) -> None:
    """At most one of two datasets is there in the end, and whole."""
    folders = {"d": many_parts(tmp_path / "d"), "e": many_parts(tmp_path / "e", "other")}
    start, outcomes = threading.Barrier(2), dict[str, Any]()

    def push(name: str) -> None:
        start.wait()
        try:
            outcomes[name] = push_dataset(folders[name], url)
        except LatkitError as error:
            outcomes[name] = error

    threads = [threading.Thread(target=push, args=(name,)) for name in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    winners = [name for name, done in outcomes.items() if not isinstance(done, LatkitError)]
    assert len(outcomes) == 2
    # Without conditional writes both may be refused, and one goes on when it is repeated.
    assert len(winners) == 1 or (url.startswith("latkit-objects") and not winners)
    for name in winners:
        pull_dataset(url, tmp_path / "out")
        check_same(tmp_path / "out", folders[name])


def test_conditional_writes(
    tmp_path: Path, s3: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their lack is reported."""
    use_s3(s3, monkeypatch)
    made_dataset(tmp_path / "d", 40)
    for url, is_reported in (("s3://lab/d", False), ("latkit-objects://bucket/d", True)):
        notes = Notes()
        push_dataset(tmp_path / "d", url, notes)
        assert any(url in text for text in notes.texts) == is_reported
    ObjectStore.store.clear()


class TestReadme:
    def test_is_a_card_of_the_hub(self, tmp_path: Path) -> None:
        yaml = pytest.importorskip("yaml", reason="pyyaml is not installed")
        made_dataset(tmp_path / "d", 40)
        push_dataset(tmp_path / "d", str(tmp_path / "there"))
        _, header, body = (tmp_path / "there" / README).read_text().split("---\n", 2)
        fields = yaml.safe_load(header)
        assert fields["license"] == "unknown"
        assert fields["size_categories"] == ["n<1K"]
        (config,) = fields["configs"]
        assert list((tmp_path / "there").glob(config["data_files"]))
        assert "formula" in body

    def test_of_a_person_stays(self, tmp_path: Path, url: str) -> None:
        made_dataset(tmp_path / "d", 40)
        Storage(url).make_folder("")
        Storage(url).write(README, b"mine")
        push_dataset(tmp_path / "d", url)
        assert Storage(url).read(README) == b"mine"
        pull_dataset(url, tmp_path / "out")
        check_same(tmp_path / "out", tmp_path / "d")


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


def flip(folder: Path) -> None:
    (part,) = folder.glob("part-*.parquet")
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)


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


def test_two_publishers_that_are_killed(
    tmp_path: Path, s3: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is killed when: a pull brings the whole dataset or nothing."""
    use_s3(s3, monkeypatch)
    url = "s3://lab/killed"
    datasets = {"d": many_parts(tmp_path / "d"), "e": many_parts(tmp_path / "e", "other")}

    def start(*arguments: object) -> Any:
        return start_latkit("dataset", *arguments, cwd=tmp_path, environment=dict(os.environ))

    def wait_for_parts(count: int) -> None:
        deadline = time.monotonic() + 120
        while sum(name.startswith("part-") for name in Storage(url).names("")) < count:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    pushes = [start("push", name, url) for name in datasets]
    wait_for_parts(5)
    for process in pushes:
        process.kill()
        process.communicate()
    # A push that was fast enough is whole.
    is_whole = FILE_LIST in Storage(url).names("")
    if not is_whole:
        with pytest.raises(DatasetError):
            pull_dataset(url, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    ended = [run_to_the_end(process) for process in [start("push", name, url) for name in datasets]]
    assert sorted(done.returncode for done in ended) == [0, 1]
    (winner,) = (n for n, done in zip(datasets, ended, strict=True) if not done.returncode)
    assert all(done.stderr.splitlines()[-1].count("Fix:") == done.returncode for done in ended)

    pull = start("pull", url, "out")
    wait_for(pull, tmp_path / ".out.pull" / "part-000004.parquet")
    pull.kill()
    pull.communicate()
    assert (tmp_path / "out").exists() != (tmp_path / ".out.pull").exists()
    assert run_to_the_end(start("pull", url, "out")).returncode == 0
    check_same(tmp_path / "out", datasets[winner])


@needs_http
def test_from_a_web_server(tmp_path: Path) -> None:
    made_dataset(tmp_path / "d", 40)
    push_dataset(tmp_path / "d", str(tmp_path / "lab" / "d"))
    with web_server(tmp_path / "lab") as url:
        pull_dataset(f"{url}/d", tmp_path / "out")
        check_same(tmp_path / "out", tmp_path / "d")
        with pytest.raises(DatasetError):
            pull_dataset(f"{url}/other", tmp_path / "other")
        with pytest.raises(LatkitError):
            push_dataset(tmp_path / "d", f"{url}/new")


def test_commands(tmp_path: Path, latkit: RunLatkit) -> None:
    made_dataset(tmp_path / "d", 40)
    for command, is_new in (("push d there", True), ("push d there", False),
                            ("pull there out", True), ("pull there out", False)):  # fmt: skip
        assert ok(latkit, "dataset", *command.split())["is_new"] == is_new
        assert latkit("dataset", *command.split()).returncode == 0
    flip(tmp_path / "there")
    done = latkit("dataset", "pull", "there", "again", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "dataset"
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [("gs://lab/d", "gcsfs", "gs"), ("hf://datasets/me/d", "huggingface_hub", "hub")],
)
def test_a_package_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError) as refused:
        pull_dataset(url, tmp_path / "out")
    assert f"latkit[{extra}]" in refused.value.fix
