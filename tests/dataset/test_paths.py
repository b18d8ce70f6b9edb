"""Folders of any name, and files that the system refuses."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from latkit.core.errors import DatasetError, LatkitError
from latkit.core.parquet import read_parquet
from latkit.dataset import LatencyDataset
from latkit.dataset.format import JOURNAL, MANIFEST, count_rows, part_paths
from latkit.dataset.tables import export_dataset
from latkit.dataset.writer import DatasetWriter, write_dataset
from tests.support.commands import MICRO_TEXT, RunLatkit
from tests.support.synthetic import made_dataset, made_manifest

NAMES = ["run-12:31", "s3:x", "file:", "a::b", "~", "~root", "a b?c#d%20", "key=value", "ü[1]*"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_mean_something_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = Path(name) / "d"
    dataset = made_dataset(folder, 5)
    assert dataset.table.num_rows == count_rows(folder) == 5
    for file in ("x.csv", "x.parquet"):
        assert export_dataset(dataset, Path(name) / file) == 5
    write_dataset(Path(name) / "copy", dataset.manifest, dataset.table)
    assert LatencyDataset.open(Path(name) / "copy").digest() == dataset.digest()
    assert [path.name for path in Path().iterdir()] == [name]
    written = sorted(path.name for path in Path(name).rglob("*") if path.is_file())
    part = "part-000000.parquet"
    wanted = [*2 * [MANIFEST], *2 * [part], "x.csv", "x.parquet"]
    assert [file for file in written if file != ".lock"] == sorted(wanted)


def test_a_run_into_a_folder_with_a_colon(latkit: RunLatkit) -> None:
    profile = ("profile", "--backend", "torch-cpu", "--setting", MICRO_TEXT, "--device", "c")
    assert latkit(*profile, "--n", 2, "--out", "run-12:31").returncode == 0
    first = LatencyDataset.open(Path("run-12:31"))
    assert latkit(*profile, "--n", 3, "--out", "run-12:31").returncode == 0
    assert LatencyDataset.open(Path("run-12:31")).architectures == first.architectures + 1


def test_the_home_folder_is_one_place(
    latkit: RunLatkit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A shell leaves the ~ of ``--out=~/d``; all of a dataset lies below the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    arguments = ("profile", "--backend", "torch-cpu", "--setting", MICRO_TEXT, "--n", 2)
    assert latkit(*arguments, "--out=~/d").returncode == 0
    made_dataset(tmp_path / "home" / "e", 5)
    assert latkit("dataset", "export", "~/e", "~/x.csv").returncode == 0
    assert not Path("~").exists()
    home = tmp_path / "home"
    assert LatencyDataset.open(home / "d").digest() == LatencyDataset.open("~/d").digest()
    assert (home / "x.csv").exists()
    done = latkit(*arguments, "--out=~nobody-of-that-name/d")
    assert done.returncode == 2
    assert "~nobody-of-that-name/d" in done.stderr


class TestRefusedBySystem:
    """A folder in a file's place is refused even to the superuser: no bytes are bad."""

    @pytest.mark.parametrize("name", [MANIFEST, JOURNAL, "part-000000.parquet"])
    def test_is_not_called_corrupt(self, tmp_path: Path, name: str) -> None:
        folder = made_dataset(tmp_path / "d", 5).path
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()
        opens = [
            lambda: LatencyDataset.open(folder),
            lambda: DatasetWriter(folder, made_manifest(5)).__enter__(),
        ]
        if name != MANIFEST:
            opens.append(lambda: count_rows(folder))
        for attempt in opens:
            with pytest.raises(LatkitError) as refused:
                attempt()
            assert not isinstance(refused.value, DatasetError)
            assert os.strerror(errno.EISDIR) in refused.value.cause
            assert str(folder / name) in refused.value.cause
            assert "is corrupt" not in str(refused.value)
            assert "delete" not in refused.value.fix

    def test_a_folder_that_cannot_be_listed(self, tmp_path: Path) -> None:
        """It is not an empty one: its architectures would be measured again."""
        (tmp_path / "loop").symlink_to("loop")
        with pytest.raises(LatkitError, match=r"Cannot list .*loop"):
            part_paths(tmp_path / "loop")
        assert part_paths(tmp_path / "nothing") == []


def test_bad_bytes_are_told_with_what_was_expected(tmp_path: Path) -> None:
    folder = made_dataset(tmp_path / "d", 5).path
    part = part_paths(folder)[0]
    part.write_bytes(b"<html>404 Not Found</html>" * 9)
    for attempt in (LatencyDataset.open, count_rows):
        with pytest.raises(DatasetError, match=r"part-000000\.parquet is corrupt .*Parquet"):
            attempt(folder)
    (folder / MANIFEST).write_bytes('{"ä": 1}'.encode("latin-1"))
    with pytest.raises(DatasetError, match=r"dataset\.json is corrupt .*JSON in UTF-8.*position 2"):
        LatencyDataset.open(folder)


def test_bytes_that_cannot_be_decompressed(tmp_path: Path) -> None:
    """Arrow has an OSError for them, which is none of the system's."""
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"x": list(range(10_000))}), path)
    content = bytearray(path.read_bytes())
    content[100:140] = b"\xff" * 40
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="snappy"):
        read_parquet(path)


def test_advice_for_a_merged_dataset(tmp_path: Path) -> None:
    """It cannot be continued, so nothing may advise to delete a part and profile again."""
    dataset = made_dataset(tmp_path / "d", 5)
    merged = made_manifest(5, origin={"merged": ["a", "b"]})
    write_dataset(tmp_path / "m", merged, dataset.table)
    part_paths(tmp_path / "m")[0].write_bytes(b"no")
    with pytest.raises(DatasetError) as refused:
        LatencyDataset.open(tmp_path / "m")
    assert "delete" not in refused.value.fix
    shutil.rmtree(tmp_path / "m")
