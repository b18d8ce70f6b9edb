"""Parts that other tools have read and written again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from latkit.core.errors import DatasetError
from latkit.dataset import LatencyDataset
from latkit.dataset.format import part_paths
from latkit.dataset.writer import DatasetWriter
from tests.support.synthetic import made_dataset, made_manifest


@pytest.fixture
def dataset(tmp_path: Path) -> LatencyDataset:
    return made_dataset(tmp_path / "d", 20)


def rewrite(dataset: LatencyDataset, change: Callable[[pa.Table], pa.Table]) -> Path:
    (part,) = part_paths(dataset.path)
    pq.write_table(change(pq.ParquetFile(part).read().replace_schema_metadata(None)), part)
    return part


def cast(**types: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        for name, kind in types.items():
            column = table[name].cast(kind)
            table = table.set_column(table.schema.get_field_index(name), name, column)
        return table

    return change


def element(kind: pa.DataType, large: bool = False) -> pa.DataType:
    field = pa.field("element", kind)
    return pa.large_list(field) if large else pa.list_(field)


def as_pandas(table: pa.Table) -> pa.Table:
    """An index, strings of wide offsets, lists of nothing where all lists are empty."""
    table = cast(
        arch=pa.large_string(), clock=pa.large_string(), samples_ms=element(pa.float64()),
        measured_at=pa.timestamp("ns", "UTC"),
    )(table)  # fmt: skip
    nothing = pa.array([[] for _ in range(table.num_rows)], pa.list_(pa.null()))
    table = table.set_column(table.schema.get_field_index("flags"), "flags", nothing)
    index = pa.array(range(table.num_rows), pa.int64())
    return table.append_column("__index_level_0__", index)


def as_polars(table: pa.Table) -> pa.Table:
    return cast(
        arch=pa.large_string(), clock=pa.large_string(), visit=pa.int64(),
        samples_ms=element(pa.float64(), large=True), flags=element(pa.large_string(), large=True),
    )(table)  # fmt: skip


def as_others(table: pa.Table) -> pa.Table:
    """Another order, categories, floats where there was a missing value for a while."""
    table = table.set_column(
        table.schema.get_field_index("clock"), "clock", pc.dictionary_encode(table["clock"])
    )
    changed = cast(macs=pa.float64(), params=pa.uint32(), visit=pa.uint8(),
                   measured_at=pa.timestamp("us", "Europe/Berlin"))(table)  # fmt: skip
    return changed.select(sorted(changed.column_names))


@pytest.mark.parametrize("change", [as_pandas, as_polars, as_others])
def test_types_that_lose_nothing_are_cast(
    dataset: LatencyDataset, change: Callable[[pa.Table], pa.Table]
) -> None:
    rewrite(dataset, change)
    read = LatencyDataset.open(dataset.path)
    assert read.table.equals(dataset.table)
    assert read.table.schema.equals(dataset.table.schema)
    assert read.digest() == dataset.digest()
    # A run that goes on knows all rows, and leaves parts of the dataset's own types.
    with DatasetWriter(dataset.path, made_manifest(20)) as writer:
        assert len(writer.done) == 20
    assert LatencyDataset.open(dataset.path).digest() == dataset.digest()


@pytest.mark.parametrize("tool", ["pandas", "polars", "duckdb"])
def test_the_tools_themselves(dataset: LatencyDataset, tool: str, tmp_path: Path) -> None:
    module: Any = pytest.importorskip(tool)
    (part,) = part_paths(dataset.path)
    if tool == "pandas":
        module.read_parquet(part).sort_values("arch_id").to_parquet(part)
    elif tool == "polars":
        module.read_parquet(part).sort("arch_id").write_parquet(part)
    else:
        other = tmp_path / "other.parquet"
        module.sql(f"copy (select * from '{part}') to '{other}' (format parquet)")
        shutil.move(other, part)
    read = LatencyDataset.open(dataset.path)
    assert read.table.sort_by("arch_id").equals(dataset.table.sort_by("arch_id"))


def drop(name: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.drop_columns([name])


def replaced(name: str, values: Callable[[pa.ChunkedArray], Any]) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(
        table.schema.get_field_index(name), name, values(table[name])
    )


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (drop("wall_ms"), ("lacks wall_ms",)),
        (lambda t: t.append_column("note", t["arch"]), ("has also note",)),
        (lambda t: drop("clock")(t.append_column("note", t["arch"])), ("clock", "note")),
        # A time of no zone is a moment that nobody knows.
        (cast(measured_at=pa.timestamp("us")), ("measured_at", "timestamp[us]")),
        (cast(latency_ms=pa.string()), ("latency_ms", "string")),
        (replaced("visit", lambda c: pc.add(pc.cast(c, pa.float64()), 0.5)), ("visit", "double")),
        (replaced("visit", lambda c: pc.add(pc.cast(c, pa.int64()), 2**40)), ("visit", "int64")),
        # Beyond 2^53 a float may have been another identifier.
        (
            replaced("arch_id", lambda c: pc.add(pc.cast(c, pa.float64(), safe=False), 2.0**60)),
            ("arch_id", "double"),
        ),
        (cast(samples_ms=pa.list_(pa.string())), ("samples_ms",)),
        (lambda t: drop("params")(cast(macs=pa.string())(t)), ("lacks params", "macs is string")),
    ],
)
def test_what_would_lose_something_is_named(
    dataset: LatencyDataset, change: Callable[[pa.Table], pa.Table], names: tuple[str, ...]
) -> None:
    part = rewrite(dataset, change)
    before = part.read_bytes()
    with pytest.raises(DatasetError) as refused:
        LatencyDataset.open(dataset.path)
    for name in (part.name, *names):
        assert name in refused.value.cause
    assert "corrupt" not in refused.value.cause
    assert "delete" not in refused.value.fix
    with pytest.raises(DatasetError), DatasetWriter(dataset.path, made_manifest(20)):
        pass
    assert part.read_bytes() == before
