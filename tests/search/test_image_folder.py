"""Folders of images: what is a class, and what is told of the rest."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from latkit.core.errors import InputError, LatkitError
from latkit.search.data import ImageData, load_data


def write(*paths: Path) -> None:
    """A small image at each path, no two of the same grey."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        write.number = (getattr(write, "number", 0) + 7) % 256  # type: ignore[attr-defined]
        Image.new("RGB", (4, 4), (write.number,) * 3).save(path)  # type: ignore[attr-defined]


def classes_of(folder: Path) -> dict[str, int]:
    """Images of each class."""
    return count(load_data(str(folder), None, 0))


def count(data: ImageData) -> dict[str, int]:
    counts = torch.bincount(data.labels, minlength=data.classes).tolist()
    return dict(zip(data.class_names, counts, strict=True))


def test_every_folder_that_gave_images_is_a_class(tmp_path: Path) -> None:
    write(tmp_path / "cat" / "a.png", tmp_path / "cat" / "young" / "b.PNG",
          tmp_path / "dog" / "c.ppm", tmp_path / "dog" / "d.bmp")  # fmt: skip
    Image.new("RGB", (4, 4), "red").save(tmp_path / "dog" / "e.jfif", "JPEG")
    data = load_data(str(tmp_path), None, 0)
    assert count(data) == {"cat": 2, "dog": 3}
    assert data.remarks == ()


def test_what_is_no_class(tmp_path: Path) -> None:
    """Left-behind and empty folders take no label; those that a user made are told of."""
    write(tmp_path / "b" / "1.png", tmp_path / "c" / "1.png", tmp_path / "c" / "2.png")
    plain = load_data(str(tmp_path), None, 0).identity()
    write(
        tmp_path / ".ipynb_checkpoints" / "1-checkpoint.png",
        tmp_path / "c" / ".ipynb_checkpoints" / "1-checkpoint.png",
        tmp_path / "__MACOSX" / "b" / "._1.png",
        tmp_path / ".cache" / "thumb.png",
        tmp_path / "c" / "._2.png",
    )
    (tmp_path / ".git").mkdir()
    data = load_data(str(tmp_path), None, 0)
    assert data.identity() == plain
    assert data.remarks == ()

    (tmp_path / "a").mkdir()
    (tmp_path / "papers" / "deep").mkdir(parents=True)
    (tmp_path / "papers" / "deep" / "one.pdf").touch()
    (tmp_path / "b" / "photo.heic").touch()
    write(tmp_path / "stray.png")
    data = load_data(str(tmp_path), None, 0)
    assert data.identity() == plain
    empty, stray, others = data.remarks
    assert "a, papers" in empty
    assert stray.endswith(": 1")
    assert "1 .heic" in others
    assert "1 .pdf" in others


@pytest.mark.parametrize(
    ("training", "test"),
    [("train", "test"), ("Training", "Testing"), ("TRAIN", "VAL"), ("Train", "Valid")],
)
def test_splits_in_any_case(tmp_path: Path, training: str, test: str) -> None:
    for split in (training, test):
        write(*(tmp_path / split / name / "1.png" for name in ("cat", "dog")))
    write(tmp_path / test / "fox" / "1.png")
    data = load_data(str(tmp_path), None, 0)
    assert count(data) == {"cat": 1, "dog": 1}
    assert data.remarks == ()
    write(tmp_path / "more" / "cat" / "1.png")
    (remark,) = load_data(str(tmp_path), None, 0).remarks
    assert "more" in remark


def test_a_folder_around_the_data(tmp_path: Path) -> None:
    write(tmp_path / "ds" / "all" / "cat" / "1.png", tmp_path / "ds" / "all" / "dog" / "1.png")
    assert classes_of(tmp_path) == {"cat": 1, "dog": 1}
    write(tmp_path / "ds" / "Test" / "cat" / "1.png", tmp_path / "ds" / "Test" / "dog" / "1.png")
    (tmp_path / "ds" / "all").rename(tmp_path / "ds" / "Train")
    assert classes_of(tmp_path) == {"cat": 1, "dog": 1}


def test_a_split_in_a_split(tmp_path: Path) -> None:
    """Archives unpack so."""
    write(*(tmp_path / "train" / "Train" / name / "1.png" for name in ("cat", "dog")))
    assert classes_of(tmp_path) == {"cat": 1, "dog": 1}


def test_a_class_called_train(tmp_path: Path) -> None:
    write(*(tmp_path / name / "1.png" for name in ("bus", "car", "train")))
    assert classes_of(tmp_path) == {"bus": 1, "car": 1, "train": 1}


class TestSplitsAreNoClasses:
    def test_images_without_class_folders(self, tmp_path: Path) -> None:
        write(tmp_path / "train" / "cat.0.png", tmp_path / "test" / "1.png")
        with pytest.raises(InputError, match="test, train"):
            load_data(str(tmp_path), None, 0)

    def test_no_training_split(self, tmp_path: Path) -> None:
        write(*(tmp_path / s / c / "1.png" for s in ("Val", "test") for c in ("cat", "dog")))
        with pytest.raises(InputError, match="Val, test"):
            load_data(str(tmp_path), None, 0)

    def test_other_names_of_splits(self, tmp_path: Path) -> None:
        write(*(tmp_path / s / c / "1.png" for s in ("seg_train", "seg_test", "seg_pred")
                for c in ("sea", "forest")))  # fmt: skip
        with pytest.raises(InputError, match="seg_train"):
            load_data(str(tmp_path), None, 0)

    def test_two_training_splits(self, tmp_path: Path) -> None:
        write(*(tmp_path / s / c / "1.png" for s in ("train", "Training") for c in ("a", "b")))
        with pytest.raises(InputError, match="more than one training split"):
            load_data(str(tmp_path), None, 0)


class TestLinks:
    def test_linked_folders_are_read(self, tmp_path: Path) -> None:
        write(tmp_path / "store" / "1.png", tmp_path / "store" / "deep" / "2.png")
        write(tmp_path / "d" / "cat" / "1.png")
        (tmp_path / "d" / "dog").symlink_to(tmp_path / "store")
        (tmp_path / "d" / "cat" / "more").symlink_to(tmp_path / "store" / "deep")
        assert classes_of(tmp_path / "d") == {"cat": 2, "dog": 2}

    def test_a_loop_ends(self, tmp_path: Path) -> None:
        write(tmp_path / "cat" / "1.png", tmp_path / "dog" / "deep" / "1.png")
        (tmp_path / "dog" / "deep" / "up").symlink_to(tmp_path / "dog")
        assert classes_of(tmp_path) == {"cat": 1, "dog": 1}

    def test_a_link_without_a_target(self, tmp_path: Path) -> None:
        """It is an error of its own, neither a corrupt image nor one less."""
        write(tmp_path / "cat" / "1.png", tmp_path / "dog" / "1.png")
        (tmp_path / "dog" / "gone.png").symlink_to(tmp_path / "nowhere")
        with pytest.raises(LatkitError, match=r"gone\.png") as raised:
            load_data(str(tmp_path), None, 0)
        assert not isinstance(raised.value, InputError)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have text as names")
def test_names_that_are_no_text(tmp_path: Path) -> None:
    """They can be written into a search's files."""
    for name in (b"caf\xe9", b"the"):
        folder = os.fsdecode(os.path.join(os.fsencode(tmp_path), name))
        write(Path(folder, "1.png"))
    data = load_data(str(tmp_path), None, 0)
    assert data.class_names == ("caf\\xe9", "the")
    str(data.identity()).encode("utf-8")


@pytest.mark.parametrize("target", ["..", "../..", "."])
def test_a_link_to_a_folder_above_gives_no_images(tmp_path: Path, target: str) -> None:
    root = tmp_path / "data"
    write(*(root / name / f"{i}.png" for name in "ab" for i in range(3)))
    (root / "a" / "up").symlink_to(target, target_is_directory=True)
    (root / "self").symlink_to(".", target_is_directory=True)
    assert classes_of(root) == {"a": 3, "b": 3}


def test_a_link_to_a_class_that_is_gone(tmp_path: Path) -> None:
    write(*(tmp_path / name / f"{i}.png" for name in "ab" for i in range(2)))
    (tmp_path / "c").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match="link"):
        classes_of(tmp_path)


def test_a_stray_image_makes_no_classes_of_splits(tmp_path: Path) -> None:
    write(*(tmp_path / s / c / "1.png" for s in ("train", "test") for c in "ab"))
    write(tmp_path / "train" / "stray.png", tmp_path / "docs" / "figure.png")
    with pytest.raises(InputError, match="splits"):
        classes_of(tmp_path)
