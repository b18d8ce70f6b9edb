"""Parquet files of images: labels, types of columns, shards and layouts."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from latkit.core.errors import InputError, LatkitError
from latkit.search.data import DataOptions, ImageData, load_data
from tests.search.test_data import png


def cells(count: int, first: int = 0) -> list[dict[str, Any]]:
    """As many images, the index of each being its grey."""
    return [{"bytes": png(first + i), "path": f"{i}.png"} for i in range(count)]


def write(path: Path, columns: dict[str, Any], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, **options)


def labels_by_image(data: ImageData) -> list[str]:
    """The class name of each image, in the order of the file."""
    order = data.images[:, 0, 0, 0].argsort()
    return [data.class_names[label] for label in data.labels[order].tolist()]


def load_labels(folder: Path, labels: Any, **columns: Any) -> ImageData:
    write(folder / "train.parquet", {"img": cells(len(labels)), "label": labels, **columns})
    return load_data(str(folder), None, 0)


class TestLabels:
    @pytest.mark.parametrize("dtype", [pa.int64(), pa.uint64(), pa.int32(), pa.float64()])
    def test_numbers_with_gaps(self, tmp_path: Path, dtype: pa.DataType) -> None:
        data = load_labels(tmp_path, pa.array([100000, 7, 7, 100000], dtype))
        assert data.classes == 2
        assert sorted(data.labels.tolist()) == [0, 0, 1, 1]
        assert labels_by_image(data) == ["100000", "7", "7", "100000"]
        (remark,) = data.remarks
        assert "from 7 to 100000" in remark

    def test_the_largest_number(self, tmp_path: Path) -> None:
        data = load_labels(tmp_path, pa.array([0, 2**64 - 1], pa.uint64()))
        assert labels_by_image(data) == ["0", str(2**64 - 1)]
        assert sorted(data.labels.tolist()) == [0, 1]

    @pytest.mark.parametrize("label", [1e300, float("inf"), 0.5])
    def test_floats_that_are_no_numbers_of_classes(self, tmp_path: Path, label: float) -> None:
        with pytest.raises(InputError, match=f"row 1 of .* has the label {re.escape(str(label))}"):
            load_labels(tmp_path, [0.0, label])

    def test_numbers_without_gaps(self, tmp_path: Path) -> None:
        for dtype in (pa.int8(), pa.uint16(), pa.float32()):
            data = load_labels(tmp_path, pa.array([2, 0, 1, 2], dtype))
            assert labels_by_image(data) == ["2", "0", "1", "2"]
            assert data.remarks == ()

    @pytest.mark.parametrize(
        "dtype",
        [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())],
        ids=str,
    )
    def test_text(self, tmp_path: Path, dtype: pa.DataType) -> None:
        data = load_labels(tmp_path, pa.array(["dog", "cat", "dog"]).cast(dtype))
        assert data.class_names == ("cat", "dog")
        assert labels_by_image(data) == ["dog", "cat", "dog"]
        assert data.remarks == ()

    def test_truth_values(self, tmp_path: Path) -> None:
        assert labels_by_image(load_labels(tmp_path, [True, False, True])) == ["1", "0", "1"]

    @pytest.mark.parametrize(
        ("labels", "says"),
        [
            (pa.array([0, None, 1]), "row 1 of .*train.parquet has no label"),
            (pa.array([0, 1, None], pa.uint64()), "row 2 of .* has no label"),
            (pa.array([0.0, 1.0, float("nan")]), "row 2 of .* has no label"),
            (pa.array(["a", None, "b"]), "row 1 of .* has no label"),
            (pa.nulls(3), "row 0 of .* has no label"),
            (pa.array([0, 1, -1]), "row 2 of .* the label -1"),
            (pa.array([0, 0.5, 1]), "row 1 of .* the label 0.5"),
            (pa.array([0, 1, float("inf")]), "row 2 of .* the label inf"),
            (pa.array([[0], [1], [0, 1]]), "label of .* has the type list<.*int64"),
            (pa.array([b"a", b"b", b"a"]), "label of .* has the type binary"),
        ],
    )
    def test_refused(self, tmp_path: Path, labels: pa.Array, says: str) -> None:
        with pytest.raises(InputError, match=says):
            load_labels(tmp_path, labels)

    def test_classes_that_a_limit_loses(self, tmp_path: Path) -> None:
        """The classifier keeps its width, and the loss is told."""
        labels = [0] * 30 + [1] * 30 + [2]
        write(tmp_path / "train.parquet", {"img": cells(61), "label": labels})
        data = load_data(str(tmp_path), 10, 0)
        assert data.classes == 3
        assert (data.labels < 2).all()
        (remark,) = data.remarks
        assert remark.startswith("1 of the 3 classes")
        assert load_data(str(tmp_path), None, 0).remarks == ()


class TestShards:
    def test_two_training_splits(self, tmp_path: Path) -> None:
        for name in ("train-00000-of-00002", "train-00001-of-00002"):
            write(tmp_path / f"{name}.parquet", {"img": cells(2), "label": [0, 1]})
        assert len(load_data(str(tmp_path), None, 0).labels) == 4
        write(tmp_path / "trainval.parquet", {"img": cells(2), "label": [0, 1]})
        with pytest.raises(InputError, match=r"more than one training split.*trainval\.parquet"):
            load_data(str(tmp_path), None, 0)

    def test_suffixes_in_capitals(self, tmp_path: Path) -> None:
        write(tmp_path / "TRAIN.PARQUET", {"img": cells(2), "label": [0, 1]})
        assert len(load_data(str(tmp_path), None, 0).labels) == 2

    def test_types_and_orders_of_columns(self, tmp_path: Path) -> None:
        write(tmp_path / "train-0.parquet",
              {"img": cells(2), "label": pa.array([0, 1], pa.int64())})  # fmt: skip
        write(tmp_path / "train-1.parquet",
              {"label": pa.array([1, 0, 1], pa.int32()), "extra": [[1], [2], [3]],
               "img": cells(3, 2)})  # fmt: skip
        write(tmp_path / "train-2.parquet",
              {"img": pa.array([png(5)], pa.large_binary()), "label": pa.array([0.0])})  # fmt: skip
        data = load_data(str(tmp_path), None, 0)
        assert labels_by_image(data) == ["0", "1", "1", "0", "1", "0"]

    def test_text_in_one_of_them(self, tmp_path: Path) -> None:
        write(tmp_path / "train-0.parquet", {"img": cells(2), "label": [0, 1]})
        write(tmp_path / "train-1.parquet", {"img": cells(2), "label": ["0", "1"]})
        with pytest.raises(InputError, match=r"type string in .*train-1.parquet but int64 in"):
            load_data(str(tmp_path), None, 0)

    def test_one_without_the_column(self, tmp_path: Path) -> None:
        write(tmp_path / "train-0.parquet", {"img": cells(2), "label": [0, 1]})
        write(tmp_path / "train-1.parquet", {"image": cells(2), "label": [0, 1]})
        with pytest.raises(InputError, match=r"train-1\.parquet has no column img.*image"):
            load_data(str(tmp_path), None, 0)

    @pytest.mark.parametrize("limit", [None, 1, 7, 20])
    def test_row_groups(self, tmp_path: Path, limit: int | None) -> None:
        """The images of a limit are the first ones of all, wherever they are stored."""
        for number in range(3):
            labels = [(number + i) % 4 for i in range(10)]
            write(tmp_path / f"train-{number}.parquet",
                  {"label": labels, "img": cells(10, 10 * number)}, row_group_size=4)  # fmt: skip
        whole = load_data(str(tmp_path), None, 3)
        assert sorted(whole.images[:, 0, 0, 0].tolist()) == list(range(30))
        assert labels_by_image(whole) == [str((i // 10 + i % 10) % 4) for i in range(30)]
        if limit == 1:
            with pytest.raises(InputError, match="of 1 class"):
                load_data(str(tmp_path), limit, 3)
            return
        some = load_data(str(tmp_path), limit, 3)
        assert torch.equal(some.images, whole.images[:limit])
        assert torch.equal(some.labels, whole.labels[:limit])

    def test_only_the_images_of_a_limit_are_decoded(self, tmp_path: Path) -> None:
        write(tmp_path / "train.parquet", {"img": cells(40), "label": [0, 1] * 20})
        good = set(load_data(str(tmp_path), 6, 0).images[:, 0, 0, 0].tolist())
        damaged = [
            cell if i in good else {"bytes": b"nonsense", "path": None}
            for i, cell in enumerate(cells(40))
        ]
        write(tmp_path / "train.parquet", {"img": damaged, "label": [0, 1] * 20})
        told: list[tuple[int, int]] = []
        data = load_data(str(tmp_path), 6, 0, on_image=lambda *now: told.append(now))
        assert set(data.images[:, 0, 0, 0].tolist()) == good
        assert told == [(i, 6) for i in range(1, 7)]
        with pytest.raises(InputError, match=r"row \d+ of .*train\.parquet is not a readable"):
            load_data(str(tmp_path), None, 0)


class TestColumns:
    @pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()], ids=str)
    def test_bytes(self, tmp_path: Path, kind: pa.DataType) -> None:
        images = pa.array([png(0), png(1)], kind)
        write(tmp_path / "train.parquet", {"image": images, "label": [1, 0]})
        assert labels_by_image(load_data(str(tmp_path), None, 0)) == ["1", "0"]

    def test_fine_labels(self, tmp_path: Path) -> None:
        write(tmp_path / "train.parquet",
              {"img": cells(3), "coarse_label": [0, 0, 1], "fine_label": [2, 1, 0]})  # fmt: skip
        data = load_data(str(tmp_path), None, 0)
        assert labels_by_image(data) == ["2", "1", "0"]
        (remark,) = data.remarks
        assert "fine_label" in remark
        coarse = load_data(str(tmp_path), None, 0, DataOptions(label_column="coarse_label"))
        assert labels_by_image(coarse) == ["0", "0", "1"]

    def test_named(self, tmp_path: Path) -> None:
        columns = {"img": cells(2, 100), "photo": cells(2), "label": [0, 0], "digit": [1, 0]}
        write(tmp_path / "train.parquet", columns)
        options = DataOptions(image_column="photo", label_column="digit")
        data = load_data(str(tmp_path), None, 0, options)
        assert labels_by_image(data) == ["1", "0"]
        assert data.images.max() == 1

    def test_the_hubs_metadata(self, tmp_path: Path) -> None:
        """They name classes, and the column of labels where its name does not tell."""
        features = {"character": {"_type": "ClassLabel", "names": ["b", "a", "z"]}}
        table = pa.table({"page": [1, 2, 3], "pixels": cells(3), "character": [2, 0, 1]})
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "train.parquet")
        data = load_data(str(tmp_path), None, 0)
        assert data.class_names == ("b", "a", "z")
        assert labels_by_image(data) == ["z", "b", "a"]
        # Whatever else is written there is no reason to fail.
        for text in ("no JSON", "[]", '{"info": null}'):
            known = pa.table({"img": cells(2), "label": [0, 1]})
            pq.write_table(known.replace_schema_metadata({"huggingface": text}),
                           tmp_path / "train.parquet")  # fmt: skip
            assert load_data(str(tmp_path), None, 0).class_names == ("0", "1")

    @pytest.mark.parametrize(
        ("columns", "says"),
        [
            ({"img": ["a.png", "b.png"], "label": [0, 1]}, "img of .* has the type string"),
            ({"img": [[1, 2], [3, 4]], "label": [0, 1]}, "img of .* has the type list<"),
            ({"img": [{"path": "a"}] * 2, "label": [0, 1]}, "img of .* has the type struct<path"),
            ({"img": [png(0)] * 2, "name": [0, 1]}, r"no column label.*img \(binary\), name"),
            ({"a": [png(0)] * 2, "b": [png(0)] * 2, "label": [0, 1]}, "no column img.*a .*b "),
        ],
    )
    def test_refused(self, tmp_path: Path, columns: dict[str, Any], says: str) -> None:
        write(tmp_path / "train.parquet", columns)
        with pytest.raises(InputError, match=says):
            load_data(str(tmp_path), None, 0)

    def test_named_but_missing(self, tmp_path: Path) -> None:
        write(tmp_path / "train.parquet", {"img": cells(2), "label": [0, 1]})
        for options in (DataOptions(image_column="x"), DataOptions(label_column="x")):
            with pytest.raises(InputError, match="no column x"):
                load_data(str(tmp_path), None, 0, options)

    def test_twice(self, tmp_path: Path) -> None:
        table = pa.table([pa.array(cells(2)), pa.array([0, 1]), pa.array([0, 1])],
                         names=["img", "label", "label"])  # fmt: skip
        pq.write_table(table, tmp_path / "train.parquet")
        with pytest.raises(InputError, match="several columns label"):
            load_data(str(tmp_path), None, 0)

    def test_images_without_bytes(self, tmp_path: Path) -> None:
        for missing in (None, {"bytes": None, "path": "b.png"}):
            made = pa.array([cells(1)[0], missing])
            write(tmp_path / "train.parquet", {"img": made, "label": [0, 1]})
            with pytest.raises(InputError, match=r"row 1 of .* has no bytes"):
                load_data(str(tmp_path), None, 0)


class TestLayouts:
    @pytest.mark.parametrize(
        "training",
        [
            ("train.parquet",),
            ("Train.parquet",),
            ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet"),
            ("data/train-00000-of-00001-0123456789abcdef.parquet",),
            ("plain_text/train-00000-of-00001.parquet",),
            ("default/train/0000.parquet", "default/train/0001.parquet"),
            ("train/0000.parquet",),
            ("data/training/part-0.parquet",),
            ("cifar10-train.parquet",),
            ("train.parquet/part-0.parquet", "train.parquet/part-1.parquet"),
        ],
        ids=str,
    )
    def test_the_training_split_is_found(self, tmp_path: Path, training: tuple[str, ...]) -> None:
        for number, name in enumerate(training):
            write(tmp_path / name, {"img": cells(2, 2 * number), "label": [0, 1]})
            for split in ("test", "validation"):
                other = name.lower().replace("training", "train").replace("train", split)
                write(tmp_path / other, {"other": [number]})
        write(tmp_path / ".cache" / "train.parquet", {"other": [1]})
        write(tmp_path / "metadata.parquet", {"other": [1]})
        data = load_data(str(tmp_path), None, 0)
        assert labels_by_image(data) == ["0", "1"] * len(training)

    def test_files_that_name_no_split(self, tmp_path: Path) -> None:
        write(tmp_path / "0000.parquet", {"img": cells(2), "label": [0, 1]})
        assert len(load_data(str(tmp_path), None, 0).labels) == 2
        write(tmp_path / "test.parquet", {"img": cells(2), "label": [0, 1]})
        with pytest.raises(InputError, match="no Parquet file of a training split"):
            load_data(str(tmp_path), None, 0)
        assert len(load_data(str(tmp_path / "0000.parquet"), None, 0).labels) == 2

    def test_several_data_sets(self, tmp_path: Path) -> None:
        for name in ("cropped_digits", "full_numbers"):
            write(tmp_path / name / "train-0.parquet", {"img": cells(2), "label": [0, 1]})
        with pytest.raises(
            InputError, match=r"cropped_digits, full_numbers.* Fix: pass the folder"
        ):
            load_data(str(tmp_path), None, 0)
        assert len(load_data(str(tmp_path / "full_numbers"), None, 0).labels) == 2

    def test_a_path_with_a_colon(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        write(tmp_path / "d:1" / "train-12:30.parquet", {"img": cells(2), "label": [0, 1]})
        assert len(load_data("d:1", None, 0).labels) == 2


class TestUnreadable:
    def test_corrupt(self, tmp_path: Path) -> None:
        write(tmp_path / "train.parquet", {"img": cells(4), "label": [0, 1] * 2})
        whole = (tmp_path / "train.parquet").read_bytes()
        for content in (b"", b"PAR1 nonsense", whole[:-20], whole[:200] + whole[300:]):
            (tmp_path / "train.parquet").write_bytes(content)
            with pytest.raises(InputError, match=r"train\.parquet is a corrupt Parquet file"):
                load_data(str(tmp_path), None, 0)

    @pytest.mark.skipif(sys.platform != "linux", reason="the file is one of Linux's")
    def test_what_the_system_refuses_is_not_corrupt(self, tmp_path: Path) -> None:
        """A file that even root can open but not read."""
        (tmp_path / "train.parquet").symlink_to("/proc/self/mem")
        with pytest.raises(LatkitError) as raised:
            load_data(str(tmp_path), None, 0)
        assert not isinstance(raised.value, InputError)
        assert "corrupt" not in str(raised.value)


def shard_with_names(path: Path, names: list[str], first: int) -> None:
    """As the hub's library writes it, with the names of the classes."""
    table = pa.table({"image": cells(2, first), "label": pa.array([0, 1])})
    feature = {"label": {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": feature}})}
    pq.write_table(table.replace_schema_metadata(metadata), path)


def test_shards_that_number_their_classes_otherwise(tmp_path: Path) -> None:
    shard_with_names(tmp_path / "train-0.parquet", ["cat", "dog"], 0)
    shard_with_names(tmp_path / "train-1.parquet", ["cat", "dog"], 5)
    assert load_data(str(tmp_path), None, 0).class_names == ("cat", "dog")
    shard_with_names(tmp_path / "train-1.parquet", ["dog", "cat"], 5)
    with pytest.raises(InputError, match=r"train-1\.parquet"):
        load_data(str(tmp_path), None, 0)


def test_views_of_bytes(tmp_path: Path) -> None:
    images = pa.array([png(i) for i in range(3)], pa.binary_view())
    write(tmp_path / "train.parquet", {"img": images, "label": [0, 1, 0]})
    assert labels_by_image(load_data(str(tmp_path), None, 0)) == ["0", "1", "0"]
