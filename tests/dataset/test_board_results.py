"""Results of a bundle brought home: folders and archives, and what must not get in."""

from __future__ import annotations

import gzip
import io
import json
import resource
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from latkit.core.errors import DatasetError, InputError
from latkit.dataset import LatencyDataset, results
from latkit.dataset.check import check_dataset
from latkit.dataset.merge import merge_datasets
from latkit.dataset.results import import_results
from latkit.lpm.recipe import Recipe
from latkit.lpm.training import train_lpm
from tests.support.boards import make_micro_bundle, run_here
from tests.support.commands import RunLatkit, ok, refused
from tests.support.synthetic import made_dataset


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results, beside the bundle; its protocol flags nothing, however busy it is."""
    folder = tmp_path_factory.mktemp("board")
    bundle = make_micro_bundle(folder / "b.pyz", 30, protocol="paper")
    assert run_here(bundle, folder / "results") == 0
    return folder / "results"


@pytest.fixture
def folder(measured: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(measured, tmp_path / "results"))


def as_zip(folder: Path, to: Path) -> Path:
    return Path(shutil.make_archive(str(to), "zip", folder.parent, folder.name))


def as_tar(folder: Path, to: Path) -> Path:
    return Path(shutil.make_archive(str(to), "gztar", folder.parent, folder.name))


def test_the_dataset_is_like_any_other(measured: Path, tmp_path: Path) -> None:
    """It is checked, merged with another one, and trained on."""
    first = import_results(measured, tmp_path / "d", "my-board").dataset
    assert str(first.manifest.target).startswith("darts/my-board/onnxruntime-cpu/")
    assert first.architectures == 30
    assert first.manifest.origin == {}
    checked = check_dataset(first)
    assert checked.summary.architectures == checked.requested == 30
    assert len(checked.panel_runs) == 1
    other = import_results(measured, tmp_path / "e", "my-board").dataset
    merged = merge_datasets([first, other], tmp_path / "f")
    assert merged.table.num_rows == first.table.num_rows  # each row once
    assert train_lpm(first, Recipe("op-count")).card.target == first.manifest.target


@pytest.mark.parametrize("pack", [as_zip, as_tar])
def test_archives(
    measured: Path, tmp_path: Path, pack: Callable[[Path, Path], Path], latkit: RunLatkit
) -> None:
    archive = pack(measured, tmp_path / "packed")
    printed = ok(latkit, "dataset", "import", archive, "--out", "d")
    assert printed["architectures"] == 30
    assert printed["target"]["backend"] == "onnxruntime-cpu"
    of_folder = import_results(measured, tmp_path / "e").dataset
    assert LatencyDataset.open(tmp_path / "d").digest() == of_folder.digest()


class TestRefused:
    def refuse(self, path: Path) -> DatasetError:
        out = path.parent / "refused"
        with pytest.raises(DatasetError) as error:
            import_results(path, out)
        assert not out.exists()
        assert "Traceback" not in str(error.value)
        return error.value

    @pytest.mark.parametrize("name", ["../dataset.json", "/etc/x", "a/../../b"])
    def test_files_outside_of_the_archive(self, tmp_path: Path, name: str) -> None:
        with zipfile.ZipFile(tmp_path / "r.zip", "w") as archive:
            archive.writestr(name, "{}")
        with tarfile.open(tmp_path / "r.tar", "w") as tar:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
        for file in ("r.zip", "r.tar"):
            assert "outside" in self.refuse(tmp_path / file).cause

    def test_links(self, folder: Path, tmp_path: Path) -> None:
        (folder / "journal.jsonl").unlink()
        (folder / "journal.jsonl").symlink_to("/etc/passwd")
        self.refuse(as_tar(folder, tmp_path / "packed"))

    def test_sizes(self, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        packed = [as_zip(measured, tmp_path / "a"), as_tar(measured, tmp_path / "b")]
        monkeypatch.setattr(results, "MOST_BYTES", 1000)
        for file in packed:
            assert "larger" in self.refuse(file).cause
        monkeypatch.undo()
        monkeypatch.setattr(results, "MOST_FILES", 1)
        for file in packed:
            assert "larger" in self.refuse(file).cause

    def test_a_size_that_is_only_declared(self, tmp_path: Path) -> None:
        """A tar archive ends where its first file should go on for a petabyte."""
        header = tarfile.TarInfo("results/dataset.json")
        header.size = 2**50
        (tmp_path / "r.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
        assert "larger" in self.refuse(tmp_path / "r.tar").cause

    def test_a_member_without_a_name(self, tmp_path: Path) -> None:
        """As a byte 0 at the beginning of a name leaves it."""
        path = tmp_path / "r.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("xdataset.json", "{}")
        path.write_bytes(path.read_bytes().replace(b"xdataset.json", b"\0dataset.json"))
        self.refuse(path)

    def test_damaged_archives(self, measured: Path, tmp_path: Path) -> None:
        for pack in (as_zip, as_tar):
            file = pack(measured, tmp_path / pack.__name__)
            content = file.read_bytes()
            middle = len(content) // 3
            file.write_bytes(content[:middle] + bytes(64) + content[middle + 64 :])
            self.refuse(file)

    def test_other_things(self, measured: Path, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
            archive.writestr("readme.txt", "none")
        with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
            for name in ("a", "b"):
                archive.writestr(f"{name}/dataset.json", "{}")
        (tmp_path / "file").write_text("no archive")
        (tmp_path / "empty").mkdir()
        made_dataset(tmp_path / "dataset", 30)
        for name in ("none.zip", "two.zip", "file", "empty", "dataset", "missing"):
            self.refuse(tmp_path / name)
        assert "on the board" in self.refuse(measured.parent / "b.pyz").fix

    def test_rows_of_another_architecture(self, folder: Path) -> None:
        lines = (folder / "journal.jsonl").read_text().splitlines()
        for name, value in (("arch_id", 5), ("arch", "|none~0|"), ("latency_ms", None)):
            changed = json.dumps({**json.loads(lines[-1]), name: value, "visit": 7})
            (folder / "journal.jsonl").write_text("\n".join([*lines, changed, ""]))
            self.refuse(folder)

    def test_a_space_that_is_unknown_here(self, folder: Path) -> None:
        manifest = json.loads((folder / "dataset.json").read_text())
        manifest["target"]["space"] = "elsewhere"
        (folder / "dataset.json").write_text(json.dumps(manifest))
        assert "elsewhere" in self.refuse(folder).cause

    def test_names_and_options(self, measured: Path, tmp_path: Path, latkit: RunLatkit) -> None:
        with pytest.raises(InputError):
            import_results(measured, tmp_path / "d", "My Board")
        line = refused(latkit, "dataset", "import", measured, "--out", "d", "--unit", "ms", code=2)
        assert "--unit" in line
        refused(latkit, "dataset", "import", measured, measured, "--out", "d", code=2)
        refused(latkit, "dataset", "import", "t.csv", "--latency-column", "x", "--out", "d", code=2)
        assert not Path("d").exists()


def test_a_row_that_was_cut_off_does_not_count(folder: Path, tmp_path: Path) -> None:
    with (folder / "journal.jsonl").open("a") as file:
        file.write('{"latency_ms": 0.1, "arch')
    assert import_results(folder, tmp_path / "d").dataset.architectures == 30


def damaged(folder: Path, to: Path, kind: str) -> Path:
    """An archive as benchmarks/fuzz.py makes it: Python's readers fail on it in ways of theirs."""
    if kind == "a name that is no UTF-8":
        with zipfile.ZipFile(to, "w") as archive:
            archive.writestr("µ/dataset.json", "{}")
        to.write_bytes(to.read_bytes().replace("µ".encode(), b"\xff\xfe"))
    elif kind == "compressed by LZMA, and cut":
        with zipfile.ZipFile(to, "w", zipfile.ZIP_LZMA) as archive:
            archive.write(folder / "dataset.json", "r/dataset.json")
        content = bytearray(to.read_bytes())
        content[60:120] = bytes(60)
        to.write_bytes(content)
    elif kind == "a name of a GiB":
        info = tarfile.TarInfo("././@LongLink")
        info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**30
        to.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(2**22), 1))
    else:  # the first of two heads says that the second has a negative size
        info = tarfile.TarInfo("r/dataset.json")
        info.pax_headers = {"size": "-1"}
        with tarfile.open(to, "w", format=tarfile.PAX_FORMAT) as archive_file:
            archive_file.addfile(info)
    return to


@pytest.mark.parametrize(
    "kind",
    ["a name that is no UTF-8", "compressed by LZMA, and cut", "a name of a GiB",
     "a negative size"],
)  # fmt: skip
def test_archives_that_break_their_readers(folder: Path, tmp_path: Path, kind: str) -> None:
    with pytest.raises(DatasetError):
        import_results(damaged(folder, tmp_path / "a", kind), tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_a_head_is_refused_before_it_is_read(folder: Path, tmp_path: Path) -> None:
    """A few bytes of an archive may unpack to a name that no memory holds."""
    made = damaged(folder, tmp_path / "a", "a name of a GiB")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DatasetError):
        import_results(made, tmp_path / "d")
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kb < 2**18
