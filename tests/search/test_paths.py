"""Searches in folders of any name, and files of theirs that the system refuses."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
from pathlib import Path

import pytest

from latkit.core.errors import LatkitError, SearchError
from latkit.lpm.base import LPM
from latkit.search.checkpoint import CHECKPOINT
from latkit.search.data import ImageData, load_data
from latkit.search.session import HISTORY
from tests.search.micro import MICRO, Finished, run

SHORT = dataclasses.replace(MICRO, epochs=1)


@pytest.mark.parametrize("name", ["s-12:30", "file:s", "~"])
def test_names_that_mean_something_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lpm: LPM, data: ImageData, name: str
) -> None:
    """No epoch is lost: the same search goes on from its end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    whole = run(Path(name), lpm, data, SHORT)
    assert len(whole.history) == SHORT.epochs
    assert run(Path(name), lpm, data, SHORT).history == whole.history
    assert [path.name for path in Path().iterdir()] == [name]


@pytest.mark.parametrize("name", [CHECKPOINT, HISTORY])
def test_a_file_that_the_system_refuses(
    tmp_path: Path, lpm: LPM, data: ImageData, finished: Finished, name: str
) -> None:
    """A folder in its place is refused even to the superuser: no bytes are bad."""
    out = tmp_path / "s"
    shutil.copytree(finished.folder, out)
    (out / name).rename(tmp_path / "kept")
    (out / name).mkdir()
    with pytest.raises(LatkitError) as refused:
        run(out, lpm, data, MICRO)
    assert not isinstance(refused.value, SearchError)
    assert os.strerror(errno.EISDIR) in refused.value.cause
    assert str(out / name) in refused.value.cause
    assert "delete" not in refused.value.fix
    (out / name).rmdir()
    (tmp_path / "kept").rename(out / name)
    assert len(run(out, lpm, data, MICRO).history) == MICRO.epochs


def test_a_history_of_bad_bytes_is_told_with_what_was_expected(
    tmp_path: Path, lpm: LPM, data: ImageData, finished: Finished
) -> None:
    out = tmp_path / "s"
    shutil.copytree(finished.folder, out)
    (out / HISTORY).write_bytes(b"<html>" * 99)
    with pytest.raises(SearchError, match=r"history\.parquet is corrupt .*Parquet"):
        run(out, lpm, data, MICRO)


def test_data_below_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.setenv("HOME", str(tmp_path))
    for label, level in (("a", 10), ("b", 200)):
        for number in range(2):
            path = tmp_path / "images" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (level + number, level, 0)).save(path)
    assert load_data("~/images", None, 0).images.shape == (4, 3, 32, 32)
