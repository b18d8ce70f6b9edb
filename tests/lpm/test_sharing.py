"""Copies of LPMs between registries: numbers, repetition, killed commands, hostile files."""

from __future__ import annotations

import dataclasses
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from latkit.lpm.store import CARD, WEIGHTS
from latkit.lpm.training import TrainedLPM
from latkit.registry import Registry
from latkit.registry.sharing import pull_lpms, push_lpms, sync_lpms
from tests.lpm.test_remote_registry import ObjectStore
from tests.support.commands import RunLatkit, refused
from tests.support.processes import run_to_the_end, start_latkit
from tests.support.s3 import s3_server, use_s3
from tests.support.synthetic import made_lpm


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedLPM:
    return made_lpm(tmp_path_factory.mktemp("made") / "d")


def publish(url: Path, trained: TrainedLPM, count: int) -> Registry:
    """Versions that differ from each other and from those of other places."""
    registry = Registry(str(url))
    for number in range(count):
        made = f"{url.name}-{number}"
        registry.publish(trained.lpm, dataclasses.replace(trained.card, created_at=made))
    return registry


@pytest.mark.parametrize("url", ["file", "latkit-objects://bucket/shared"])
def test_copies(tmp_path: Path, trained: TrainedLPM, url: str) -> None:
    url = str(tmp_path / "shared") if url == "file" else url
    a, b = (publish(tmp_path / name, trained, 2) for name in "ab")
    pushed = [push_lpms(url, registry=side.url) for side in (a, b, a)]
    numbers = [[(v.copy or "")[-2:] for v in result.versions] for result in pushed]
    assert numbers == [["@1", "@2"], ["@3", "@4"], ["@1", "@2"]]
    assert [all(v.is_new for v in result.versions) for result in pushed] == [True, True, False]
    sync_lpms(url, registry=a.url)
    made = [Registry(a.url).load(entry)[1].created_at for entry in Registry(a.url).entries()]
    assert made == ["a-0", "a-1", "b-0", "b-1"]
    ObjectStore.store.clear()


def test_what_is_corrupt_or_a_link_is_refused(tmp_path: Path, trained: TrainedLPM) -> None:
    shared = publish(tmp_path / "shared", trained, 4)
    folders = [tmp_path / "shared" / entry.folder for entry in shared.entries()]
    (folders[0] / WEIGHTS).write_bytes(b"other")
    (folders[1] / WEIGHTS).rename(tmp_path / "elsewhere")
    (folders[1] / WEIGHTS).symlink_to(tmp_path / "elsewhere")
    (folders[2] / CARD).write_text("{}")
    result = pull_lpms(shared.url, registry=str(tmp_path / "mine"))
    assert [version.copy is None for version in result.versions] == [True, True, True, False]
    assert [entry.version for entry in Registry(str(tmp_path / "mine")).entries()] == [4]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with s3_server(tmp_path_factory.mktemp("moto")) as variables:
        yield variables


def test_two_publishers_that_are_killed(
    tmp_path: Path, trained: TrainedLPM, s3: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_s3(s3, monkeypatch)
    url, rng = "s3://lab/shared", random.Random(0)
    sides = [publish(tmp_path / name, trained, 20) for name in "ab"]

    def push() -> list:  # type: ignore[type-arg]
        return [
            start_latkit("registry", "push", url, "--registry", side.url, cwd=tmp_path,
                         environment=dict(os.environ)) for side in sides
        ]  # fmt: skip

    for killed in range(2):
        processes = push()
        time.sleep(rng.uniform(1, 4))
        for process in processes:
            process.kill()
            process.communicate()
        mine = str(tmp_path / f"pulled-{killed}")
        assert pull_lpms(url, registry=mine).refused == 0
        for entry in Registry(mine).entries():
            Registry(mine).load(entry)
    for done in map(run_to_the_end, push()):
        assert done.returncode == 0, done.stderr
    shared = Registry(url)
    made = [shared.load(entry)[1].created_at for entry in shared.entries()]
    assert len(made) == 40
    assert set(made) == {f"{name}-{number}" for name in "ab" for number in range(20)}
    numbers = {text: at for at, text in enumerate(made)}
    for name in "ab":  # in the order of each publisher
        assert sorted(range(20), key=lambda n: numbers[f"{name}-{n}"]) == list(range(20))


@pytest.mark.parametrize("command", ["pull", "push"])
def test_a_place_without_lpms_is_an_error(latkit: RunLatkit, command: str) -> None:
    """It is misspelt; between two registries, one may be empty."""
    where = ("there",) if command == "pull" else ("there", "--registry", "here")
    refused(latkit, "registry", command, *where, code=2)
    assert not Path("there").exists()
    assert latkit("registry", "sync", "there", "--registry", "here").returncode == 0
