"""Datasets pushed to a URL and pulled from it: repetition, places, commands."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from latkit.core.errors import DatasetError, InputError, LatkitError
from latkit.core.storage import Storage
from latkit.dataset import LatencyDataset
from latkit.dataset.file_list import FILE_LIST
from latkit.dataset.readme import README
from latkit.dataset.sharing import pull_dataset, push_dataset
from tests.lpm.test_remote_registry import ObjectStore, needs_http, web_server
from tests.support.commands import RunLatkit, ok
from tests.support.sharing import PARTS, check_same, contents, flip, many_parts
from tests.support.synthetic import made_dataset


@pytest.fixture(params=["file", "memory://lab/d", "latkit-objects://bucket/d"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path / "lab" / "d") if request.param == "file" else request.param
    for store in (MemoryFileSystem, ObjectStore):
        store.store.clear()
        store.pseudo_dirs[:] = [""]


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
