"""Cutout, test splits of every layout, and images that cannot be trained on."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from latkit.core.errors import InputError
from latkit.search.data import load_split
from latkit.training.data import TrainingData, cut_out, load
from latkit.training.request import TrainingRequest


def png(shade: int) -> bytes:
    pixels = np.full((8, 8, 3), shade, dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, labels: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [png(10 * number) for number in range(len(labels))]
    pq.write_table(pa.table({"img": images, "label": labels}), path)


def test_cutout_blanks_a_square() -> None:
    x = torch.ones(3, 2, 8, 8)
    cut_out(x, torch.tensor([[4, 0, 7], [4, 0, 7]]), 4)
    # In the middle 4x4; at a corner what is inside: rows -2 to 1, and 5 to 8.
    assert (x[:, 0] == 0).sum((1, 2)).tolist() == [16, 4, 9]
    assert (x[:, 0] == x[:, 1]).all()
    assert (x[0, 0, 2:6, 2:6] == 0).all()
    assert (x[1, 0, :2, :2] == 0).all()
    assert (x[2, 0, 5:, 5:] == 0).all()


def test_cutout_of_an_odd_side() -> None:
    x = torch.ones(1, 1, 8, 8)
    cut_out(x, torch.tensor([[4], [2]]), 3)
    assert (x[0, 0, 3:6, 1:4] == 0).all()
    assert (x == 0).sum() == 9


def test_a_fixed_part_of_digits_is_held_out() -> None:
    train, test = load_split("digits")
    assert (len(train.labels), len(test.labels)) == (1438, 359)
    assert any("held out" in remark for remark in test.remarks)
    some, same = load_split("digits", 50)
    assert len(some.labels) == 50
    assert torch.equal(test.images, same.images)
    assert torch.equal(some.images, train.images[:50])
    # No image of both; digits has no doubles of these.
    rows = {image.numpy().tobytes() for image in train.images}
    assert not any(image.numpy().tobytes() in rows for image in test.images)


def test_test_parquet_beside_the_training_split(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", ["cat", "dog", "eel"])
    write(tmp_path / "test.parquet", ["eel", "dog"])
    for given in (tmp_path, tmp_path / "train.parquet"):
        train, test = load_split(str(given))
        assert train.class_names == test.class_names == ("cat", "dog", "eel")
        assert sorted(train.labels.tolist()) == [0, 1, 2]
        assert test.labels.tolist() == [2, 1]


def test_a_test_split_without_labels_is_passed_over(tmp_path: Path) -> None:
    """As ImageNet's on the hub."""
    write(tmp_path / "data" / "train-0.parquet", [0, 1, 2])
    write(tmp_path / "data" / "test-0.parquet", [-1, -1])
    write(tmp_path / "data" / "validation-0.parquet", [2])
    _, test = load_split(str(tmp_path))
    assert test.labels.tolist() == [2]
    assert any("validation" in remark for remark in test.remarks)


def test_folders_of_images(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        for shade, name in enumerate(("cat", "dog")):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.png").write_bytes(png(100 * shade + number))
    for given in (tmp_path, tmp_path / "train"):
        train, test = load_split(str(given))
        assert (len(train.labels), test.labels.tolist()) == (6, [0, 0, 1, 1])


def test_no_test_images(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [0, 1, 2])
    for given in (tmp_path, tmp_path / "train.parquet"):
        with pytest.raises(InputError, match="no test images"):
            load_split(str(given))
    write(tmp_path / "test.parquet", [])
    with pytest.raises(InputError):
        load_split(str(tmp_path))


def test_test_images_of_another_class(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [0, 1, 2])
    write(tmp_path / "test.parquet", [0, 7])
    with pytest.raises(InputError, match="7"):
        load_split(str(tmp_path))


def test_one_class(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [1, 1])
    write(tmp_path / "test.parquet", [1])
    with pytest.raises(InputError, match="1 class"):
        load_split(str(tmp_path))


def test_grey_images_get_three_channels() -> None:
    data = TrainingData.of(*load_split("digits", 60))
    assert data.train.images.shape == (60, 3, 8, 8)
    pixels = data.train.images.double()
    assert data.mean.flatten().tolist() == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    parts = [list(data.test_batches(rank, 2)) for rank in range(2)]
    assert sum(len(labels) for part in parts for _, labels in part) == 359
    x, _ = parts[0][0]
    assert x[0].flatten().tolist() == pytest.approx(
        ((data.test.images[0] - data.mean[0]) / data.std[0]).flatten().tolist()
    )


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"batch": 2000}, "--batch 1438"),
        ({"cutout": 8}, "--cutout 4"),
        ({"limit": 20}, "--batch 20"),
    ],
)
def test_what_does_not_fit_the_images(changes: dict[str, Any], word: str) -> None:
    plan = TrainingRequest("gdas", preset="cpu-small", **{"limit": 5000, **changes}).plan()
    with pytest.raises(InputError) as error:
        load(plan, "digits", TrainingRequest("gdas").data_options, lambda done, total: None)
    assert word in error.value.fix
