"""Image sources and batches."""

from __future__ import annotations

import dataclasses
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
from latkit.search.data import DataOptions, ImageData, batches, load_data


def png(value: int, size: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), value, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(folder: Path, labels: list[int], column: str = "img", size: int = 8) -> Path:
    folder.mkdir(exist_ok=True)
    cells = [{"bytes": png(10 * i, size), "path": None} for i in range(len(labels))]
    pq.write_table(pa.table({column: cells, "label": labels}), folder / "train.parquet")
    return folder


def test_digits() -> None:
    data = load_data("digits", None, 0)
    assert data.images.shape == (1797, 1, 8, 8)
    assert data.classes == 10
    assert not data.flip
    assert (data.images.min(), data.images.max()) == (0, 255)
    assert load_data("digits", 100, 0).images.shape[0] == 100
    assert torch.equal(load_data("digits", 50, 1).labels, load_data("digits", 100, 1).labels[:50])
    assert data.class_names == tuple("0123456789")
    assert load_data("digits", 100, 0, DataOptions(resolution=16)).images.shape == (100, 1, 16, 16)


@pytest.mark.parametrize("column", ["img", "image"])
def test_parquet(tmp_path: Path, column: str) -> None:
    folder = write_parquet(tmp_path / "d", [2, 0, 1, 2], column)
    data = load_data(str(folder), None, 0)
    order = (data.images[:, 0, 0, 0] // 10).tolist()
    assert sorted(order) == [0, 1, 2, 3]
    assert data.labels.tolist() == [[2, 0, 1, 2][i] for i in order]
    assert data.classes == 3
    assert data.flip


def write_folder(folder: Path) -> Path:
    """Two classes of three images each, in sizes of their own."""
    for name, value in (("cat", 0), ("dog", 200)):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            (folder / name / f"{i}.png").write_bytes(png(value + i, size=20 + i))
    return folder


def test_image_folder(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "dog" / "notes.txt").write_text("not an image")
    data = load_data(str(tmp_path), None, 0)
    assert data.images.shape == (6, 3, 32, 32)
    assert data.class_names == ("cat", "dog")
    assert torch.equal(data.labels, (data.images[:, 0, 0, 0] >= 200).long())


class TestOptions:
    @pytest.mark.parametrize("side", [None, 8, 12, 40])
    def test_resolution(self, tmp_path: Path, side: int | None) -> None:
        """Folders and Parquet alike, whatever size their images have."""
        options = DataOptions(resolution=side)
        folder = write_folder(tmp_path / "f")
        parquet = write_parquet(tmp_path / "p", [0, 1, 0], size=10)
        for source in (folder, parquet):
            images = load_data(str(source), None, 0, options).images
            assert images.shape[1:] == (3, side or 32, side or 32)

    def test_flip(self, tmp_path: Path) -> None:
        for source in (write_folder(tmp_path / "f"), write_parquet(tmp_path / "p", [0, 1])):
            assert load_data(str(source), None, 0).flip
            assert not load_data(str(source), None, 0, DataOptions(flip=False)).flip
        assert not load_data("digits", 100, 0, DataOptions(flip=True)).flip

    def test_columns_where_there_are_none(self, tmp_path: Path) -> None:
        options = DataOptions(label_column="label")
        for source in (str(write_folder(tmp_path / "f")), "digits"):
            with pytest.raises(InputError, match="no columns"):
                load_data(source, None, 0, options)


class TestImageData:
    def test_normalisation(self) -> None:
        """Of more bytes than are worked on at once, against a copy in floating point."""
        images = torch.randint(0, 200, (3000, 3, 24, 24), dtype=torch.uint8)
        images[:, 1] += 50
        images[:, 2] = 7
        mean, std = ImageData("made", images, torch.zeros(3000), ("a",), True).normalisation()
        channels = images.transpose(0, 1).flatten(1).double()
        assert mean.shape == std.shape == (1, 3, 1, 1)
        torch.testing.assert_close(mean.flatten(), channels.mean(1).float())
        torch.testing.assert_close(std.flatten()[:2], channels.std(1)[:2].float())
        assert std.flatten()[2] == 1

    def test_identity(self, tmp_path: Path) -> None:
        """Every pixel, label and class name counts, and where they are stored does not."""
        images = torch.arange(5000 * 48, dtype=torch.int64).view(5000, 3, 4, 4).to(torch.uint8)
        labels = torch.arange(5000) % 2
        made = ImageData("made", images, labels, ("a", "b"), True)
        assert made.identity() == dataclasses.replace(made, name="other").identity()
        swapped = dataclasses.replace(made, labels=1 - labels)
        pixel = images.clone()
        pixel[-1, -1, -1, -1] += 1
        changes = {
            "labels_digest": swapped,
            "images_digest": dataclasses.replace(made, images=pixel),
            "classes": dataclasses.replace(made, class_names=("b", "a")),
            "flip": dataclasses.replace(made, flip=False),
        }
        for name, changed in changes.items():
            now, then = made.identity(), changed.identity()
            assert [key for key in now if now[key] != then[key]] == [name]
        turned = dataclasses.replace(made, images=images.view(5000, 3, 2, 8))
        assert turned.identity() != made.identity()


def test_real_cifar(shared_cifar: Path) -> None:
    data = load_data(str(shared_cifar), 500, 0)
    assert data.images.shape == (500, 3, 32, 32)
    assert data.classes == 10
    assert (torch.bincount(data.labels) > 20).all()
    mean, std = data.normalisation()
    # CIFAR-10's own statistics, in bytes.
    torch.testing.assert_close(mean.flatten() / 255, torch.tensor([0.491, 0.482, 0.447]),
                               atol=0.03, rtol=0)  # fmt: skip
    torch.testing.assert_close(std.flatten() / 255, torch.tensor([0.247, 0.243, 0.262]),
                               atol=0.03, rtol=0)  # fmt: skip


class TestRefused:
    def test_unknown(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no data at"):
            load_data("cifar11", None, 0)
        with pytest.raises(InputError, match="neither train"):
            load_data(str(tmp_path), None, 0)

    def test_one_class(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="are of 1 class"):
            load_data(str(write_parquet(tmp_path / "d", [3, 3, 3])), None, 0)

    def test_no_images(self, tmp_path: Path) -> None:
        schema = pa.schema([("img", pa.struct([("bytes", pa.binary())])), ("label", pa.int64())])
        pq.write_table(schema.empty_table(), tmp_path / "train.parquet")
        with pytest.raises(InputError, match="holds no images"):
            load_data(str(tmp_path), None, 0)

    def test_sizes(self, tmp_path: Path) -> None:
        for side in (0, -4, 2, 30, 4 * 10**30):
            with pytest.raises(InputError, match="multiple of 4"):
                load_data("digits", None, 0, DataOptions(resolution=side))

    def test_more_than_the_memory(self, tmp_path: Path) -> None:
        """15 TB, in images that are never read."""
        rows = 300_000
        table = {"img": pa.nulls(rows, pa.binary()), "label": pa.array(range(2)).take(
            pa.array(np.arange(rows) % 2))}  # fmt: skip
        pq.write_table(pa.table(table), tmp_path / "train.parquet")
        with pytest.raises(InputError, match="memory ran out"):
            load_data(str(tmp_path), None, 0, DataOptions(resolution=4096))

    def test_images_that_are_all_the_same(self, tmp_path: Path) -> None:
        """E.g. white shapes on transparent white, or small numbers in 16 bits."""
        cells = [{"bytes": png(255)}] * 6
        pq.write_table(pa.table({"img": cells, "label": [0, 1] * 3}), tmp_path / "train.parquet")
        with pytest.raises(InputError, match="all the same"):
            load_data(str(tmp_path), None, 0)

    def test_unlabelled(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="label -1"):
            load_data(str(write_parquet(tmp_path / "d", [0, -1])), None, 0)

    def test_other_columns(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"x": [1]}), tmp_path / "train.parquet")
        with pytest.raises(InputError, match=r"no column img; its columns are x \(int64\)"):
            load_data(str(tmp_path), None, 0)

    def test_corrupt(self, tmp_path: Path) -> None:
        (tmp_path / "train.parquet").write_bytes(b"PAR1 nonsense")
        with pytest.raises(InputError, match="corrupt Parquet"):
            load_data(str(tmp_path), None, 0)
        cells = [{"bytes": b"nonsense"}, {"bytes": png(1)}]
        pq.write_table(pa.table({"img": cells, "label": [0, 1]}), tmp_path / "train.parquet")
        with pytest.raises(InputError, match=r"image in row 0 of .* is not a readable image"):
            load_data(str(tmp_path), None, 0)


class TestBatches:
    def make(self, flip: bool = True) -> ImageData:
        images = torch.arange(40, dtype=torch.uint8).view(10, 1, 1, 4).expand(10, 3, 4, 4)
        return ImageData("made", images.contiguous(), torch.arange(10), tuple("0123456789"), flip)

    def run(self, data: ImageData, seed: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        return list(batches(data, torch.arange(1, 10), 4, data.normalisation(), generator))

    def test_full_batches_of_distinct_images(self) -> None:
        seen = self.run(self.make(), 0)
        assert [x.shape for x, _ in seen] == [(4, 3, 4, 4)] * 2
        labels = torch.cat([y for _, y in seen]).tolist()
        assert len(set(labels)) == 8
        assert set(labels) <= set(range(1, 10))
        assert all(x.is_contiguous(memory_format=torch.channels_last) for x, _ in seen)

    def test_depend_on_the_generator_alone(self) -> None:
        first, again, other = (self.run(self.make(), seed) for seed in (3, 3, 4))
        assert all(torch.equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
        assert not all(torch.equal(a[0], b[0]) for a, b in zip(first, other, strict=True))

    def test_skipping_and_sharing_draw_the_same(self) -> None:
        """What is left out changes nothing in what is left."""
        data = self.make()
        whole = self.run(data, 5)

        def part(**options: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
            generator = torch.Generator().manual_seed(5)
            norm = data.normalisation()
            return list(batches(data, torch.arange(1, 10), 4, norm, generator, **options))

        (rest,) = part(skip=1)
        assert torch.equal(rest[0], whole[1][0])
        assert torch.equal(rest[1], whole[1][1])
        assert part(skip=2) == []
        halves = part(share=(0, 2)), part(share=(1, 2))
        for batch, first, second in zip(whole, *halves, strict=True):
            for ours, one, other in zip(batch, first, second, strict=True):
                assert torch.equal(torch.cat([one, other]), ours)
                assert len(one) == 2

    @pytest.mark.parametrize("flip", [True, False])
    def test_crops_and_mirrors(self, flip: bool) -> None:
        """Each output is a shifted, perhaps mirrored, zero-padded input."""
        data = self.make(flip)
        mean, std = data.normalisation()
        mirrored = 0
        for seed in range(20):
            for x, y in self.run(data, seed):
                for image, label in zip(x, y, strict=True):
                    source = (data.images[label].float() - mean[0]) / std[0]
                    padded = torch.nn.functional.pad(source, (1, 1, 1, 1))
                    crops = [padded[:, i : i + 4, j : j + 4] for i in range(3) for j in range(3)]
                    plain = any(torch.equal(image, crop) for crop in crops)
                    mirror = any(torch.equal(image, crop.flip(2)) for crop in crops)
                    assert plain or mirror
                    mirrored += mirror and not plain
        assert (mirrored > 20) == flip
