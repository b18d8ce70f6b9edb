"""Parquet files of encoded images and labels, in the layouts of the Hugging Face hub."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from latkit.core.errors import InputError
from latkit.search.image_folder import is_hidden, is_test, split_of, text_of
from latkit.search.images import ImageListing, listed

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "labels", "fine_label")
_BYTES = ("binary", "large_binary", "binary_view")
_TEXT = ("string", "large_string", "string_view")
# Rows of which the encoded images are in memory at a time.
_ROWS_AT_ONCE = 256


def find_parquet(folder: Path, named_training: bool) -> list[Path]:
    """Parquet files of the training split in a folder and up to two below it, by name.

    Args:
        folder: e.g. a clone of a data set of the hub, or its converted branch.
        named_training: those whose name, or whose folder's, has a word that begins with ``train``;
            otherwise all, if none is named after a split.

    Raises:
        InputError: several data sets or training splits are there, or only other splits.
    """
    files = _parquet_files(folder)
    splits = {path: _split_of_path(path) for path in files}
    wanted = "train" if named_training else None
    chosen = [path for path in files if splits[path] == wanted]
    if not named_training and len(chosen) < len(files):
        raise InputError(
            f"{text_of(folder)} has no Parquet file of a training split "
            f"({listed([text_of(path) for path in files])})",
            "call it train.parquet, or pass the file itself",
        )
    words = {word: path for path in chosen for word in _training_words(path)}
    if len(words) > 1:
        raise InputError(
            f"{text_of(folder)} has more than one training split "
            f"({listed([text_of(path) for path in words.values()])})",
            "pass the file, or a folder with the files, of one of them",
        )
    sets = {_data_set(path): path for path in chosen}
    if len(sets) > 1:
        raise InputError(
            f"{text_of(folder)} has more than one data set in Parquet files "
            f"({listed([text_of(path.parent) for path in sets.values()])})",
            "pass the folder of one of them",
        )
    return [folder / path for path in chosen]


def find_test_parquet(folder: Path, training: Sequence[Path]) -> list[list[Path]]:
    """The splits of a data set that are not for training, test splits first, each its files.

    Args:
        folder: holds the data set.
        training: files of the training split, below the folder.
    """
    sets = {_data_set(path.relative_to(folder)) for path in training}
    tests: list[Path] = []
    others: list[Path] = []
    for path in _parquet_files(folder):
        if _split_of_path(path) == "other" and _data_set(path) in sets:
            (tests if any(map(is_test, path.parts)) else others).append(folder / path)
    return [split for split in (tests, others) if split]


def _parquet_files(folder: Path) -> list[Path]:
    """Those in a folder and up to two below it, relative to it, by name."""
    return [
        path.relative_to(folder)
        for above in ("", "*/", "*/*/")
        for path in sorted(folder.glob(f"{above}*.[pP][aA][rR][qQ][uU][eE][tT]"))
        if path.is_file()
        and path.stem != "metadata"  # of images beside it, as the hub has it
        and not any(map(is_hidden, path.relative_to(folder).parts))
    ]


def _data_set(path: Path) -> tuple[str, ...]:
    """What is left of the folders' names distinguishes data sets ("configurations")."""
    return tuple(part for part in path.parent.parts if split_of(part) is None)


class ParquetListing(ImageListing):
    """Images in the rows of Parquet files; a row group's are read when they are needed.

    Whole numbers, text and truth values are labels; the classes are those that occur.

    Args:
        files: shards of one data set. Types and order of their columns may differ.
        name: of the data set, for messages.
        image_column: holds encoded images; None: ``img`` or ``image``, else the only column of
            bytes.
        label_column: None: ``label``, ``labels`` or ``fine_label``, else the only column that the
            hub's own metadata call one.

    Raises:
        InputError: a file is corrupt, has no such columns, or a label is missing or of no class.
        OSError: a file cannot be read.
    """

    def __init__(
        self,
        files: Sequence[Path],
        name: str,
        image_column: str | None = None,
        label_column: str | None = None,
    ) -> None:
        self.name = name
        self._files = list(files)
        with _opened(files[0]) as shard:
            self._image = image_column or _image_column(shard)
            label = shard.column(label_column or _label_column(shard))
            hub_names = _hub_features(shard.schema).get(label.name, {}).get("names")
        values: list[int | str] = []
        self._starts = [0]
        for path in self._files:
            with _opened(path) as shard:
                _check_image_type(shard, self._image)
                field = shard.column(label.name)
                if _is_text(field) != _is_text(label):
                    raise InputError(
                        f"the column {field.name} has the type {field.type} in {shard.name} but "
                        f"{label.type} in {text_of(files[0])}",
                        "write it with one type",
                    )
                values += _labels(shard, field)
                self._starts.append(len(values))
                their_names = _hub_features(shard.schema).get(label.name, {}).get("names")
                if their_names != hub_names:
                    raise InputError(
                        f"{shard.name} numbers its classes otherwise than {text_of(files[0])} "
                        f"({listed(their_names or ['not named'])} against "
                        f"{listed(hub_names or ['not named'])})",
                        "write all shards with one list of class names",
                    )
        classes = sorted(set(values), key=lambda value: (isinstance(value, str), value))
        index = {value: number for number, value in enumerate(classes)}
        self.labels = np.array([index[value] for value in values], dtype=np.int64)
        self.class_names = tuple(_class_name(value, hub_names) for value in classes)
        self.remarks = ()
        if self._image not in IMAGE_COLUMNS or label.name not in LABEL_COLUMNS[:2]:
            self.remarks += (
                f"the images and labels of {name} are those of its columns {self._image} and "
                f"{label.name}",
            )
        if not _is_text(label) and classes != list(range(len(classes))):
            self.remarks += (
                f"the labels of {name} are {len(classes)} numbers from {classes[0]} to "
                f"{classes[-1]}: they are renumbered from 0 to {len(classes) - 1}",
            )

    def contents(self, chosen: Sequence[int]) -> Iterator[tuple[int, bytes, str]]:
        order = np.argsort(np.asarray(chosen, dtype=np.int64), kind="stable")
        rows = np.asarray(chosen, dtype=np.int64)[order]
        for path, start, end in zip(self._files, self._starts, self._starts[1:], strict=False):
            first, last = np.searchsorted(rows, [start, end])
            if first == last:
                continue
            with _opened(path) as shard:
                cells = shard.cells(self._image, rows[first:last] - start)
                for place, (row, cell) in zip(order[first:last], cells, strict=True):
                    if cell is None:
                        raise InputError(
                            f"row {row} of {shard.name} has no bytes in {self._image}",
                            "write the images themselves into the file, not paths of them",
                        )
                    yield int(place), cell, f"the image in row {row} of {shard.name}"


@contextmanager
def _opened(path: Path) -> Iterator[_Shard]:
    """A Parquet file; an error of its bytes names it, for as long as it is open.

    Raises:
        InputError: it is no Parquet file, or its bytes are corrupt.
        OSError: it cannot be read.
    """
    name = text_of(path)
    try:
        # Opened here: Arrow takes a path with a colon for a URL.
        with open(path, "rb") as raw:
            yield _Shard(name, pq.ParquetFile(raw))
    except MemoryError:
        raise InputError(f"memory ran out while {name} was read", "free some memory") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        # Arrow's errors of corrupt bytes may be OSErrors too, but have no number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"{name} is a corrupt Parquet file ({reason})", "download or write it again"
        ) from None


class _Shard:
    """One Parquet file that is open.

    Attributes:
        name: its path, for messages.
        schema: of its columns.
    """

    def __init__(self, name: str, file: pq.ParquetFile) -> None:
        self.name = name
        self._file = file
        self.schema: pa.Schema = file.schema_arrow

    def column(self, name: str) -> pa.Field:
        """The column of a name.

        Raises:
            InputError: there is none, or more than one.
        """
        indices = self.schema.get_all_field_indices(name)
        if len(indices) != 1:
            columns = ", ".join(f"{field.name} ({field.type})" for field in self.schema)
            raise InputError(
                f"{self.name} has {'several columns' if indices else 'no column'} {name}; its "
                f"columns are {columns}",
                "pass --image-column and --label-column",
            )
        return self.schema.field(indices[0])

    def values(self, name: str) -> list[Any]:
        """A whole column."""
        values: list[Any] = self._file.read(columns=[name])[name].to_pylist()
        return values

    def cells(self, name: str, rows: Any) -> Iterator[tuple[int, bytes | None]]:
        """The bytes of a column in some rows, which are in ascending order, with their numbers.

        Only row groups and the one leaf that are needed are read, a few rows at a time.
        """
        leaf = f"{name}.bytes" if pa.types.is_struct(self.column(name).type) else name
        start = 0
        for group in range(self._file.num_row_groups):
            end = start + self._file.metadata.row_group(group).num_rows
            first, last = np.searchsorted(rows, [start, end])
            if first < last:
                for batch in self._file.iter_batches(_ROWS_AT_ONCE, [group], columns=[leaf]):
                    first, last = np.searchsorted(rows, [start, start + len(batch)])
                    wanted = rows[first:last]
                    column = batch.column(name)
                    if pa.types.is_binary_view(column.type):  # of which rows cannot be taken
                        column = column.cast(pa.large_binary())
                    cells = column.take(pa.array(wanted - start))
                    if pa.types.is_struct(cells.type):
                        cells = pc.struct_field(cells, "bytes")
                    yield from zip(wanted.tolist(), cells.to_pylist(), strict=True)
                    start += len(batch)
            start = end


def _training_words(path: Path) -> set[str]:
    """The word that a file's training split is named by: ``train``, ``trainval``; none if none."""
    for part in reversed(path.parts):
        if split_of(part) is not None:
            return {w for w in re.split("[^a-z]+", part.lower()) if w.startswith("train")}
    return set()


def _split_of_path(path: Path) -> str | None:
    """The split that a file is named after, else its folder, else the folder above."""
    return next((s for part in reversed(path.parts) if (s := split_of(part)) is not None), None)


def _hub_features(schema: pa.Schema) -> Mapping[str, Mapping[str, Any]]:
    """What the hub's library writes of each column; nothing where it did not write the file."""
    try:
        content = json.loads((schema.metadata or {})[b"huggingface"])
        features = content["info"]["features"]
        return {name: value for name, value in features.items() if isinstance(value, dict)}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def _image_column(shard: _Shard) -> str:
    names = shard.schema.names
    known = [name for name in IMAGE_COLUMNS if name in names]
    of_bytes = [field.name for field in shard.schema if _bytes_type(field) in _BYTES]
    if not known and len(of_bytes) != 1:
        shard.column("img")  # refuses, with the columns that are there
    return (known or of_bytes)[0]


def _label_column(shard: _Shard) -> str:
    known = [name for name in LABEL_COLUMNS if name in shard.schema.names]
    features = _hub_features(shard.schema)
    called = [n for n in shard.schema.names if features.get(n, {}).get("_type") == "ClassLabel"]
    if not known and len(called) != 1:
        shard.column("label")  # refuses, with the columns that are there
    return (known or called)[0]


def _bytes_type(field: pa.Field) -> str:
    """The type of a column, or of ``bytes`` in a column of structures."""
    kind = field.type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    return str(kind)


def _check_image_type(shard: _Shard, name: str) -> None:
    field = shard.column(name)
    if _bytes_type(field) not in _BYTES:
        raise InputError(
            f"the column {name} of {shard.name} has the type {field.type}, not bytes",
            "pass --image-column with a column of encoded images (PNG, JPEG, ...): bytes, or "
            "structures with bytes",
        )


def _is_text(field: pa.Field) -> bool:
    return str(_plain(field.type)) in _TEXT


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _labels(shard: _Shard, field: pa.Field) -> list[int | str]:
    kind = _plain(field.type)
    known = (pa.types.is_integer, pa.types.is_boolean, pa.types.is_floating, pa.types.is_null)
    if not _is_text(field) and not any(is_kind(kind) for is_kind in known):
        raise InputError(
            f"the column {field.name} of {shard.name} has the type {field.type}",
            "pass --label-column with a column of one whole number or text an image",
        )
    return [
        _label(value, f"row {row} of {shard.name}")
        for row, value in enumerate(shard.values(field.name))
    ]


def _label(value: Any, where: str) -> int | str:
    # pandas makes floats of whole numbers of which some are missing.
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise InputError(f"{where} has no label", "leave out images without labels")
    if isinstance(value, str):
        return value
    if value < 0:
        raise InputError(
            f"{where} has the label {value}, which marks images without a label",
            "leave them out, or number the classes from 0",
        )
    # Floats beyond 2^53 are not exact, and infinity is none.
    if value != value // 1 or (isinstance(value, float) and value > 2**53):
        raise InputError(f"{where} has the label {value}", "use whole numbers or text")
    return int(value)


def _class_name(value: int | str, names: Any) -> str:
    if isinstance(names, list) and isinstance(value, int) and value < len(names):
        return str(names[value])
    return str(value)
