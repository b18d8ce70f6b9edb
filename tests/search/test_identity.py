"""Which data and files a search goes on with, and how the differences are named."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from latkit.core.errors import LatkitError, SearchError
from latkit.lpm.base import LPM
from latkit.search.checkpoint import CHECKPOINT
from latkit.search.data import DataOptions, ImageData, load_data
from latkit.search.identity import named_differences
from tests.search.micro import MICRO, Finished, run
from tests.search.test_image_folder import write
from tests.search.test_image_parquet import cells
from tests.search.test_image_parquet import write as write_parquet

CONFIG = dataclasses.replace(MICRO, epochs=1, batch=4, cells=3, channels=2)
SMALL = DataOptions(resolution=8)


def load(source: Path | str, options: DataOptions = SMALL) -> ImageData:
    return load_data(str(source), None, 0, options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of eight images."""
    write(*(tmp_path / "d" / name / f"{i}.png" for name in ("cat", "dog") for i in range(8)))
    return tmp_path / "d"


class TestGoesOn:
    def test_by_another_path(
        self, tmp_path: Path, folder: Path, lpm: LPM, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = run(tmp_path / "s", lpm, load(folder), CONFIG)
        monkeypatch.chdir(tmp_path)
        (tmp_path / "link").symlink_to(folder)
        shutil.copytree(folder, tmp_path / "copy")
        for path in ("d", "d/", "./d", "link", "copy"):
            assert run(tmp_path / "s", lpm, load(path), CONFIG) == first

    def test_beside_what_is_no_data(self, tmp_path: Path, folder: Path, lpm: LPM) -> None:
        first = run(tmp_path / "s", lpm, load(folder), CONFIG)
        (folder / ".ipynb_checkpoints").mkdir()
        (folder / "a-new-one").mkdir()
        assert run(tmp_path / "s", lpm, load(folder), CONFIG) == first


class TestIsAnother:
    def refused(self, tmp_path: Path, lpm: LPM, before: ImageData, after: ImageData) -> str:
        """Refuse to go on, keep everything, and go on when the data are back."""
        out = tmp_path / "s"
        first = run(out, lpm, before, CONFIG)
        kept = (out / CHECKPOINT).read_bytes()
        with pytest.raises(SearchError, match="holds another search") as raised:
            run(out, lpm, after, CONFIG)
        assert "corrupt" not in str(raised.value)
        assert (out / CHECKPOINT).read_bytes() == kept
        assert run(out, lpm, before, CONFIG) == first
        return str(raised.value)

    def test_swapped_labels(self, tmp_path: Path, lpm: LPM) -> None:
        loaded = []
        for number in range(2):
            labels = [(i + number) % 2 for i in range(16)]
            write_parquet(tmp_path / "train.parquet", {"img": cells(16), "label": labels})
            loaded.append(load(tmp_path))
        message = self.refused(tmp_path, lpm, *loaded)
        assert "data.labels_digest" in message
        assert "data.images_digest" not in message

    def test_a_new_class(self, tmp_path: Path, folder: Path, lpm: LPM) -> None:
        before = load(folder)
        write(folder / "fox" / "0.png")
        message = self.refused(tmp_path, lpm, before, load(folder))
        assert "data.classes" in message
        assert "fox" in message
        assert "data.images: 17 / 16" in message

    def test_one_pixel(self, tmp_path: Path, folder: Path, lpm: LPM) -> None:
        before = load(folder)
        images = before.images.clone()
        images[0, 0, 0, 0] ^= 1
        message = self.refused(tmp_path, lpm, before, dataclasses.replace(before, images=images))
        assert message.count("data.") == 1
        assert "data.images_digest" in message

    def test_options(self, tmp_path: Path, folder: Path, lpm: LPM) -> None:
        before = load(folder)
        message = self.refused(tmp_path, lpm, before, load(folder, DataOptions(8, flip=False)))
        assert "data.flip: False / True" in message
        message = self.refused(tmp_path, lpm, before, load(folder, DataOptions(12)))
        assert "data.size: [3, 12, 12] / [3, 8, 8]" in message


class TestFiles:
    """``corrupt`` is what cannot be understood, and nothing else."""

    @pytest.fixture
    def out(self, tmp_path: Path, finished: Finished) -> Path:
        return shutil.copytree(finished.folder, tmp_path / "s")

    def go_on(self, out: Path, lpm: LPM, data: ImageData) -> str:
        with pytest.raises(LatkitError) as raised:
            run(out, lpm, data, MICRO)
        return str(raised.value)

    def test_a_checkpoint_without_its_configuration(
        self, out: Path, lpm: LPM, data: ImageData
    ) -> None:
        """Nobody knows whose it is; taken for this search, it gave another's cells."""
        (out / "config.json").unlink()
        assert "config.json is missing" in self.go_on(out, lpm, data)
        assert not (out / "config.json").exists()

    @pytest.mark.parametrize("name", [CHECKPOINT, "config.json"])
    def test_what_the_system_refuses(self, out: Path, lpm: LPM, data: ImageData, name: str) -> None:
        """A folder in a file's place, which even root cannot read."""
        (out / name).unlink()
        (out / name).mkdir()
        message = self.go_on(out, lpm, data)
        assert name in message
        assert "corrupt" not in message
        assert "delete" not in message

    @pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"3", b"\xff\xfe"])
    def test_a_damaged_configuration(
        self, out: Path, lpm: LPM, data: ImageData, content: bytes
    ) -> None:
        """The checkpoint beside it is whole: nobody is told to delete that."""
        (out / "config.json").write_bytes(content)
        message = self.go_on(out, lpm, data)
        assert "config.json is corrupt" in message
        assert "delete" not in message

    def test_a_checkpoint_of_another_supernet(
        self, tmp_path: Path, out: Path, lpm: LPM, data: ImageData
    ) -> None:
        run(tmp_path / "t", lpm, data, dataclasses.replace(MICRO, epochs=1, channels=4))
        shutil.copy(tmp_path / "t" / CHECKPOINT, out / CHECKPOINT)
        message = self.go_on(out, lpm, data)
        assert "of another search" in message
        assert "delete" not in message

    def test_a_checkpoint_of_another_format(self, out: Path, lpm: LPM, data: ImageData) -> None:
        path = out / CHECKPOINT
        content = path.read_bytes()
        assert content.count(b'\\"format_version\\": 2') == 1
        path.write_bytes(content.replace(b'\\"format_version\\": 2', b'\\"format_version\\": 9'))
        message = self.go_on(out, lpm, data)
        assert "format version 9" in message
        assert "corrupt" not in message


def test_named_differences() -> None:
    now = {"a": 1, "b": {"c": [1], "d": True}, "gone": None}
    assert named_differences(now, json.loads(json.dumps(now))) == []
    assert named_differences(now, {"a": 2, "b": {"c": [2], "d": True}}) == [
        "a: 1 / 2", "b.c: [1] / [2]",
    ]  # fmt: skip
    thousand = [f"class {i}" for i in range(1000)]
    (told,) = named_differences({"classes": thousand}, {"classes": [*thousand[3:], "x"]})
    assert told == "classes: only now class 0, class 1, class 2 / only then x"
    (told,) = named_differences({"classes": thousand}, {"classes": thousand[::-1]})
    assert told == "classes: in another order"
    (told,) = named_differences({"classes": thousand}, {"classes": []})
    assert "995 more" in told
    assert len(told) < 150


def test_the_digest_is_of_little_endian_bytes() -> None:
    """So that a search may go on on another machine."""
    made = ImageData("made", torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]),
                     ("a", "b"), True)  # fmt: skip
    # printf '\\0\\0\\0\\0\\0\\0\\0\\0\\1\\0\\0\\0\\0\\0\\0\\0' | sha256sum
    assert made.identity()["labels_digest"] == "9d34149fbd1fe777"
