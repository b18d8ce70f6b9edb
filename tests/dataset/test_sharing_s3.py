"""Datasets on an S3 server: conditional writes, and publishers that are killed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from latkit.core.errors import DatasetError
from latkit.core.storage import Storage
from latkit.dataset.file_list import FILE_LIST
from latkit.dataset.sharing import pull_dataset, push_dataset
from tests.lpm.test_remote_registry import ObjectStore
from tests.support.processes import run_to_the_end, start_latkit, wait_for
from tests.support.s3 import s3_server, use_s3
from tests.support.sharing import Notes, check_same, many_parts
from tests.support.synthetic import made_dataset


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with s3_server(tmp_path_factory.mktemp("moto")) as variables:
        yield variables


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
