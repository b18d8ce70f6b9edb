"""Parquet files, and other tables."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq

from benchmarks.robustness.formats import Maker, MixedFormat, Reader, latkit
from benchmarks.robustness.json_format import of_dataset
from benchmarks.robustness.material import COMMANDS, SETTING
from benchmarks.robustness.mutations import Mutator
from latkit.search.data import load_data

_TYPES = (
    pa.string(), pa.large_string(), pa.binary(), pa.int8(), pa.int64(), pa.uint64(), pa.float16(),
    pa.float32(), pa.float64(), pa.bool_(), pa.null(), pa.date32(), pa.timestamp("ns"),
    pa.duration("us"), pa.decimal128(20, 3), pa.list_(pa.float64()), pa.list_(pa.string()),
    pa.struct([("bytes", pa.binary()), ("path", pa.string())]), pa.map_(pa.string(), pa.int64()),
    pa.dictionary(pa.int32(), pa.string()),
)  # fmt: skip
_CELLS: tuple[Any, ...] = (
    None, "", "x", "\0", "darts", -1, 0, 1, 2**31, 2**63 - 1, 1.5, float("nan"), float("inf"),
    -0.0, 1e308, 1e-320, True, b"\xff\xfe", [], [None], [float("nan")], [-1.0], ["disturbed"],
    ["panel", "panel"], {}, "9" * 5000, "=1+1",
)  # fmt: skip


class ParquetFormat(MixedFormat):
    """Datasets, histories, tables from elsewhere, and images in tables."""

    name = "parquet"

    def prepare(self) -> None:
        self._images = _table_of_images()

    def makers(self) -> tuple[Maker, ...]:
        return (self._dataset, self._dataset, self._imported, self._table, self._table,
                self._pictures, self._history)  # fmt: skip

    def _dataset(self, mutator: Mutator, box: Path) -> Reader:
        folder = self.copy("profile", box)
        self._change(mutator, sorted(folder.glob("part-*"))[0])
        return mutator.choice(of_dataset("profile", box))

    def _imported(self, mutator: Mutator, box: Path) -> Reader:
        folder = self.copy("imported-darts", box)
        self._change(mutator, folder / "part-000000.parquet")
        return mutator.choice(of_dataset("imported-darts", box))

    def _table(self, mutator: Mutator, box: Path) -> Reader:
        table = pq.read_table(str(self.material / "table.parquet"))
        kind = mutator.choice(("parquet", "arrow", "stream", "csv", "csv", "csv.gz", "csv.zst"))
        if kind.startswith("csv"):
            content = _text(mutator, (self.material / "table.csv").read_bytes())
            if kind != "csv":
                codec = "gzip" if kind.endswith("gz") else "zstd"
                content = pa.compress(content, codec=codec, asbytes=True)
                if mutator.chance(40):
                    content = mutator.content(content, 2)
        else:
            content = _file(_changed(mutator, table) if mutator.chance(75) else table, kind)
            if mutator.chance(40):
                content = mutator.content(content)
        (box / "t").write_bytes(content)
        which = mutator.choice(
            (("--arch-column", "arch"), ("--arch-column", "arch_id"), ("--arch-row-number",))
        )
        names = (*which, "--latency-column", "latency_ms", "--unit", "ms")
        skip = ("--skip-bad-rows",) if mutator.chance(50) else ()
        return lambda: latkit("dataset", "import", "t", *names, *skip, "--device", "x",
                              "--backend", "torch-cpu", "--setting", SETTING, "--out", "made",
                              "--json")  # fmt: skip

    def _pictures(self, mutator: Mutator, box: Path) -> Reader:
        table = self._images
        if mutator.chance(75):
            table = _changed(mutator, table)
        content = _file(table, "parquet")
        if mutator.chance(50):
            content = mutator.content(content)
        (box / "train.parquet").write_bytes(content)
        return lambda: load_data(str(box / "train.parquet"), 8, 0)

    def _history(self, mutator: Mutator, box: Path) -> Reader:
        """Rows of epochs, which a command that is run again goes on with."""
        name, file = mutator.choice(
            (("search", "history.parquet"), ("one-shot", "history.parquet"),
             ("one-shot", "subnets.parquet"), ("one-shot", "initial.parquet"),
             ("train", "seed-0/history.parquet"))
        )  # fmt: skip
        self._change(mutator, self.copy(name, box) / file)
        return lambda: latkit(*COMMANDS[name], "--out", name, "--json")

    def _change(self, mutator: Mutator, path: Path) -> None:
        if mutator.chance(70):
            path.write_bytes(_file(_changed(mutator, pq.read_table(str(path))), "parquet"))
        else:
            path.write_bytes(mutator.content(path.read_bytes()))


def _changed(mutator: Mutator, table: pa.Table) -> pa.Table:
    for _ in range(mutator.integer(1, 2)):
        table = _changed_once(mutator, table)
    return table


def _changed_once(mutator: Mutator, table: pa.Table) -> pa.Table:
    how = mutator.integer(0, 9)
    if not table.num_columns or how == 0:
        rows = mutator.choice((0, 1, 2))
        mutator.note(f"{rows} rows")
        return table.slice(0, rows)
    at = mutator.integer(0, table.num_columns - 1)
    name, column = table.column_names[at], table.column(at)
    if how == 1:
        mutator.note(f"without {name}")
        return table.remove_column(at)
    if how == 2:
        new = mutator.choice(("", "x", "arch", "latency_ms", "img", "label", "a.b", "\U0001f600"))
        mutator.note(f"{name} is called {new}")
        names = [new if index == at else other for index, other in enumerate(table.column_names)]
        return table.rename_columns(names)
    if how == 3:
        mutator.note(f"{name} twice")
        return table.append_column(name, column)
    if how in (4, 5):
        kind = mutator.choice(_TYPES)
        mutator.note(f"{name} is of the type {kind}")
        return table.set_column(at, name, _as_type(column, kind))
    if how == 6:
        key = mutator.choice((b"pandas", b"huggingface", b"ARROW:schema", b"x"))
        value = mutator.choice(_METADATA)
        mutator.note(f"metadata {key!r}: {value[:60]!r}")
        return table.replace_schema_metadata({key: value})
    if how == 7 and table.num_rows:
        mutator.note("rows twice")
        return pa.concat_tables([table, table])
    cells = column.to_pylist()
    if not cells:
        return table
    value = mutator.choice(_CELLS)
    row = mutator.integer(0, len(cells) - 1)
    mutator.note(f"{name} of row {row} is {str(value)[:60]!r}")
    cells[row] = value
    try:
        changed = pa.array(cells, type=column.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        try:
            changed = pa.array(cells)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            return table
    return table.set_column(at, name, changed)


_METADATA = (
    b"", b"{}", b"[]", b"null", b"\xff", b'{"index_columns": [{"kind": "range"}]}',
    b'{"index_columns": [{"kind": "range", "start": "a", "stop": 1, "step": 0}]}',
    b'{"index_columns": [{"kind": "range", "start": 0, "stop": 9, "step": 0}]}',
    b'{"index_columns": [{"kind": "range", "start": 0, "stop": 1e999, "step": 1}]}',
    b'{"index_columns": 7}', b'{"index_columns": null}', b'{"index_columns": ["__index__"]}',
    b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": 7}}}}',
    b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": [1, null]}}}}',
    b'{"info": {"features": {"label": {"_type": "ClassLabel"}}}}', b"[" * 100_000,
)  # fmt: skip


def _as_type(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    try:
        return column.cast(kind)
    except (pa.ArrowException, TypeError):
        return pa.nulls(len(column), kind)


def _file(table: pa.Table, kind: str) -> bytes:
    sink = io.BytesIO()
    try:
        if kind == "parquet":
            pq.write_table(table, sink)
        elif kind == "arrow":
            pyarrow.feather.write_feather(table, sink, compression="uncompressed")
        else:
            with pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table)
    except (pa.ArrowException, ValueError):  # of some types there are no files
        return b"PAR1"
    return sink.getvalue()


def _text(mutator: Mutator, content: bytes) -> bytes:
    """A table of text with changes."""
    lines = content.splitlines(keepends=True)[: mutator.choice((0, 1, 2, 30))]
    for _ in range(mutator.integer(1, 3)):
        at = mutator.integer(0, max(0, len(lines) - 1))
        new = mutator.choice(
            (b'"', b"\n", b"\0", b",,,,\n", b"sep=;\n", b"\xff\xfe", b"\xef\xbb\xbf", b"#\n",
             b'"a\n' * 50, b"x" * 200_000, b"1;2;3\n", b"\x80\x03c", "µs\n".encode("cp1252"),
             b"arch,latency_ms\n", b"arch,latency_ms\n1,nan\n2,1e999\n3," + b"9" * 5000 + b"\n",
             b"arch,latency_ms\n" + b"9" * 5000 + b",1\n")
        )  # fmt: skip
        mutator.note(f"line {at}: {new[:40]!r}")
        lines.insert(at, new)
    content = b"".join(lines)
    return mutator.content(content) if mutator.chance(40) else content


def _table_of_images() -> pa.Table:
    from PIL import Image

    rows = []
    for label in range(20):
        sink = io.BytesIO()
        values = np.full((8, 8, 3), 12 * label, dtype=np.uint8)
        Image.fromarray(values).save(sink, "PNG")
        rows.append({"img": {"bytes": sink.getvalue(), "path": None}, "label": label % 2})
    return pa.Table.from_pylist(rows)
