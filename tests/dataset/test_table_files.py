"""Files of tables from elsewhere: encodings, compressions, delimiters, kinds, shards and URLs."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import pickle
import shutil
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from latkit.core.errors import DatasetError, InputError, LatkitError
from latkit.dataset import Target
from latkit.dataset.tables import MeasuredTable, TableColumn, read_table
from latkit.spaces import get_preset, get_space

TARGET = Target("nasbench201", "pi", "litert", get_preset("nasbench201"))
SPACE = get_space("nasbench201")
IDS = [4, 11, 7]
ARCHS = [SPACE.format(SPACE.unrank(i)[0]) for i in IDS]
TEXT = "cell,took\n" + "".join(f"{arch},{5 + i}\n" for i, arch in enumerate(ARCHS))
TABLE = pa.table({"cell": ARCHS, "took": [5.0, 6.0, 7.0]})


def read(*files: str | Path, took: str = "took", cell: str | None = "cell",
         decimal: str = ".") -> MeasuredTable:  # fmt: skip
    columns = {"latency_ms": TableColumn(took, "ms")}
    return read_table(files, TARGET, cell, columns, decimal=decimal)


def assert_all_there(table: MeasuredTable) -> None:
    assert table.bad_rows == ()
    assert table.rows["arch_id"].to_pylist() == IDS
    assert table.rows["latency_ms"].to_pylist() == [5.0, 6.0, 7.0]


class TestText:
    @pytest.mark.parametrize(
        "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
    )
    def test_encodings(self, tmp_path: Path, encoding: str) -> None:
        path = tmp_path / "t.csv"
        path.write_bytes(TEXT.encode(encoding))
        assert_all_there(read(path))

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
    def test_a_name_that_is_not_ascii(self, tmp_path: Path, encoding: str) -> None:
        path = tmp_path / "t.csv"
        path.write_bytes(TEXT.replace("took", "Dauer (µs)").encode(encoding))
        assert_all_there(read(path, took="Dauer (µs)"))

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("header", ["cell,took", "sep=,\ncell,took", "\n\ncell,took"])
    def test_delimiters(self, tmp_path: Path, delimiter: str, end: str, header: str) -> None:
        text = TEXT.replace("cell,took", header).replace(",", delimiter).replace("\n", end)
        path = tmp_path / "t.csv"
        path.write_bytes(text.encode())
        assert_all_there(read(path))

    @pytest.mark.parametrize(
        ("header", "name"),
        [
            ("took, in ms;a, b, c;cell", "took, in ms"),
            ('"took, in\nms";"a;b";cell', "took, in\nms"),
            ("took\tx, y\tcell", "took"),
        ],
    )
    def test_commas_and_line_breaks_in_a_header(
        self, tmp_path: Path, header: str, name: str
    ) -> None:
        delimiter = "\t" if "\t" in header else ";"
        rows = [delimiter.join([str(5 + i), "1, 2", arch]) for i, arch in enumerate(ARCHS)]
        path = tmp_path / "t.csv"
        path.write_text("\n".join([header, *rows, f"x{delimiter}x{delimiter}unknown"]))
        table = read(path, took=name)
        # Its line, also below a header of two lines.
        assert [bad.number for bad in table.bad_rows] == [5 + header.count("\n")]
        assert table.rows["arch_id"].to_pylist() == IDS

    def test_a_row_over_several_lines_is_where_it_begins(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_text(f'note,cell,took\n\n"a\nb\nc",{ARCHS[0]},x\n"a\nb",{ARCHS[1]},6\n')
        table = read(path)
        assert [bad.place for bad in table.bad_rows] == ["line 3"]
        assert table.rows["arch_id"].to_pylist() == IDS[1:2]

    @pytest.mark.parametrize("delimiter", [";", "\t", ","])
    def test_a_decimal_comma(self, tmp_path: Path, delimiter: str) -> None:
        path = tmp_path / "t.csv"
        quote = '"' if delimiter == "," else ""
        lines = [
            delimiter.join([cell, f"{quote}{took}{quote}"])
            for cell, took in (
                ("4,0" if delimiter != "," else "4", "5,25"), ("11", "6"), ("7", "1.234"),
                ("8", "1.234,5"), ("9", "1,234,5"),
            )
        ]  # fmt: skip
        path.write_text("\n".join([f"cell{delimiter}took", *lines]))
        table = read(path, decimal=",")
        assert table.rows["arch_id"].to_pylist() == [4, 11]
        assert table.rows["latency_ms"].to_pylist() == [5.25, 6.0]
        assert [bad.number for bad in table.bad_rows] == [4, 5, 6]

    def test_a_decimal_comma_that_nobody_named(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_text("cell;took\n4;5,25\n")
        table = read(path)
        assert table.rows.num_rows == 0
        assert "decimal" in table.bad_rows[0].reason

    def test_a_column_without_a_name(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_text(",took\n4,5\n11,6\n7,7\n")  # as pandas writes an index
        assert_all_there(read(path, cell="Unnamed: 0"))

    def test_a_column_of_thousands(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        path.write_text(",".join(f"run{i}" for i in range(5000)) + ",took_ms\n")
        with pytest.raises(InputError) as caught:
            read(path, cell="run1")
        assert "took_ms" in caught.value.fix
        assert len(str(caught.value)) < 1000


class TestCompressed:
    @staticmethod
    def arrow(codec: str) -> Callable[[bytes], bytes]:
        def compress(content: bytes) -> bytes:
            sink = pa.BufferOutputStream()
            with pa.CompressedOutputStream(sink, codec) as stream:
                stream.write(content)
            return bytes(sink.getvalue().to_pybytes())

        return compress

    CODECS: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
        ("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress),
        ("zst", arrow("zstd")), ("lz4", arrow("lz4")),
    )  # fmt: skip

    @pytest.mark.parametrize(("suffix", "compress"), CODECS)
    def test_by_its_bytes(
        self, tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]
    ) -> None:
        for name in (f"t.csv.{suffix}", "t.csv", "t"):
            (tmp_path / name).write_bytes(compress(TEXT.encode("utf-16")))
            assert_all_there(read(tmp_path / name))
        sink = pa.BufferOutputStream()
        pq.write_table(TABLE, sink)
        (tmp_path / "p").write_bytes(compress(sink.getvalue().to_pybytes()))
        assert_all_there(read(tmp_path / "p"))

    def test_parts_one_after_another(self, tmp_path: Path) -> None:
        (tmp_path / "t.gz").write_bytes(
            gzip.compress(TEXT[:20].encode()) + gzip.compress(TEXT[20:].encode())
        )
        assert_all_there(read(tmp_path / "t.gz"))

    @pytest.mark.parametrize(("suffix", "compress"), CODECS)
    def test_torn(self, tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]) -> None:
        path = tmp_path / f"t.csv.{suffix}"
        path.write_bytes(compress(TEXT.encode())[:-9])
        with pytest.raises(DatasetError, match=path.name):
            read(path)


class TestKinds:
    @pytest.mark.parametrize("name", ["t.parquet", "t.pq", "t.csv", "t"])
    def test_parquet(self, tmp_path: Path, name: str) -> None:
        pq.write_table(TABLE, tmp_path / name)
        assert_all_there(read(tmp_path / name))

    @pytest.mark.parametrize("compression", ["lz4", "zstd", "uncompressed"])
    def test_feather(self, tmp_path: Path, compression: str) -> None:
        path = tmp_path / "t.feather"
        pyarrow.feather.write_feather(TABLE, path, compression=compression, chunksize=2)
        assert_all_there(read(path))

    def test_an_arrow_stream(self, tmp_path: Path) -> None:
        with (
            pa.OSFile(str(tmp_path / "t.arrow"), "wb") as file,
            pa.ipc.new_stream(file, TABLE.schema) as stream,
        ):
            stream.write_table(TABLE, max_chunksize=2)
        assert_all_there(read(tmp_path / "t.arrow"))

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    @pytest.mark.parametrize("compress", [bytes, gzip.compress])
    def test_a_pickle_is_refused_and_not_run(
        self, tmp_path: Path, protocol: int, compress: Callable[[bytes], bytes]
    ) -> None:
        path = tmp_path / "t.pkl.gz"
        marker = tmp_path / "ran"
        path.write_bytes(compress(pickle.dumps(_Touch(str(marker)), protocol)))
        with pytest.raises(DatasetError, match="pickle") as caught:
            read(path)
        assert str(caught.value).isprintable()
        assert not marker.exists()

    @pytest.mark.parametrize(
        "head",
        [b"PK\x03\x04", b"\x93NUMPY\x01\0", b"\x89HDF\r\n", b"FEA1", b"ORC", b"\x7fELF",
         b"\x1b[31m\n", b"\xd0\xcf\x11\xe0", b"\x80\x04\x95"],
    )  # fmt: skip
    def test_other_bytes_never_reach_a_terminal(self, tmp_path: Path, head: bytes) -> None:
        path = tmp_path / "t"
        path.write_bytes(head + bytes(range(256)) * 20)
        with pytest.raises(LatkitError) as caught:
            read(path)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 1000


class _Touch:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.path, "w"))


class TestColumns:
    @pytest.mark.parametrize(
        "kind",
        [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(),
         pa.dictionary(pa.int8(), pa.string())],
    )  # fmt: skip
    @pytest.mark.parametrize("as_text", [ARCHS, ["4", "11 ", " 7"], ["4.0", "11.", "7.00"]])
    def test_texts_and_bytes(self, tmp_path: Path, kind: pa.DataType, as_text: list[str]) -> None:
        cells = pa.array(as_text)
        cells = cells.dictionary_encode() if pa.types.is_dictionary(kind) else cells.cast(kind)
        pq.write_table(pa.table({"cell": cells, "took": ["5", "6 ", "7.0"]}), tmp_path / "t")
        assert_all_there(read(tmp_path / "t"))

    def test_empty_texts_are_no_architectures(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"cell": ["4", "", None], "took": ["5"] * 3}), tmp_path / "t")
        reasons = [bad.reason for bad in read(tmp_path / "t").bad_rows]
        assert reasons == ["no architecture"] * 2

    def test_texts_of_numpy_have_zeros_at_their_end(self, tmp_path: Path) -> None:
        cells = pa.array([b"4\0", b"11", b"7\0"], pa.binary(2))
        pq.write_table(pa.table({"cell": cells, "took": [5, 6, 7]}), tmp_path / "t")
        assert_all_there(read(tmp_path / "t"))

    @pytest.mark.parametrize(
        "kind", [pa.int8(), pa.uint64(), pa.float32(), pa.float64(), pa.decimal128(21, 2)]
    )
    def test_numbers(self, tmp_path: Path, kind: pa.DataType) -> None:
        columns = {"cell": pa.array(IDS).cast(kind), "took": pa.array([5, 6, 7]).cast(kind)}
        pq.write_table(pa.table(columns), tmp_path / "t")
        assert_all_there(read(tmp_path / "t"))

    def test_one_odd_cell_is_one_bad_row(self, tmp_path: Path) -> None:
        cells = pa.array([b"4", b"\xff\xfe", b"7", None], pa.binary())
        # A writer that stores other bytes as text.
        cells = pa.Array.from_buffers(pa.string(), 4, cells.buffers())
        took = [5.0, 6.0, float("nan"), 7.0]
        with (
            pa.OSFile(str(tmp_path / "t"), "wb") as file,
            pa.ipc.new_file(
                file, pa.schema([("cell", pa.string()), ("took", pa.float64())])
            ) as writer,
        ):
            writer.write_table(pa.table({"cell": cells, "took": took}))
        table = read(tmp_path / "t")
        assert table.rows["arch_id"].to_pylist() == [4]
        assert [bad.place for bad in table.bad_rows] == ["row 2", "row 3", "row 4"]

    @pytest.mark.parametrize(
        "cells",
        [pa.array([True]), pa.array([0], pa.timestamp("ns")), pa.array([{"a": 1}]),
         pa.array([["a"]]), pa.array([0], pa.time64("ns"))],
        ids=lambda cells: str(cells.type),
    )  # fmt: skip
    def test_another_type_is_named(self, tmp_path: Path, cells: pa.Array) -> None:
        pq.write_table(pa.table({"cell": [4], "took": cells}), tmp_path / "t")
        with pytest.raises(InputError) as caught:
            read(tmp_path / "t")
        assert str(cells.type).partition("<")[0] in caught.value.cause
        assert "'took'" in caught.value.cause


class TestShards:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "shards"
        folder.mkdir()
        for number, i in ((10, 2), (2, 1), (1, 0)):
            pq.write_table(TABLE.slice(i, 1), folder / f"part-{number}.parquet")
        for name in ("_SUCCESS", ".part-1.parquet.crc"):
            (folder / name).touch()
        (folder / ".hidden").mkdir()
        shutil.copy(folder / "part-1.parquet", folder / ".hidden")
        return folder

    def test_in_the_order_of_their_numbers(self, folder: Path) -> None:
        shards = [folder / f"part-{number}.parquet" for number in (1, 2, 10)]
        for files in (shards, [folder], [f"{folder}/"], [f"{folder}/part*.parquet"]):
            table = read(*files)
            assert_all_there(table)
            assert table.origin["files"] == [shard.name for shard in shards]

    def test_a_bad_row_has_its_file(self, folder: Path) -> None:
        (folder / "part-3.csv").write_text("cell,took\nunknown,5\n")
        (bad,) = read(folder).bad_rows
        assert (Path(bad.file).name, bad.place) == ("part-3.csv", "line 2")

    def test_each_once(self, folder: Path) -> None:
        with pytest.raises(InputError, match="twice"):
            read(folder, folder / "part-2.parquet")

    def test_nothing_there(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        for files in ([tmp_path / "empty"], [f"{folder}/*.csv"], []):
            with pytest.raises(InputError):
                read(*files)
        with pytest.raises(LatkitError):
            read(tmp_path / "no.csv")

    def test_another_shard_without_the_column(self, folder: Path) -> None:
        (folder / "part-3.csv").write_text("arch,took\n4,5\n")
        with pytest.raises(InputError, match=r"part-3\.csv"):
            read(folder)


@pytest.mark.parametrize("name", ["run-12:31.csv", "a::b.csv", "a[1].csv", "what?.csv", "a b*.csv"])
def test_a_path_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(TEXT)
    assert_all_there(read(name))
    (tmp_path / "home").mkdir()
    shutil.move(name, tmp_path / "home" / "t.csv")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert_all_there(read("~/t.csv"))


def test_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=(TEXT,))
    writer.start()
    assert_all_there(read(tmp_path / "pipe"))
    writer.join()


class TestUrls:
    def test_in_memory(self, tmp_path: Path) -> None:
        memory = fsspec.filesystem("memory")
        folder = f"/{tmp_path.name}"
        memory.pipe(f"{folder}/one.csv", TEXT.encode())
        memory.pipe(f"{folder}/s/1.csv.gz", gzip.compress(TEXT.encode()))
        for url in (f"memory:/{folder}/one.csv", f"memory:/{folder}/s", f"memory:/{folder}/*/*.gz"):
            assert_all_there(read(url))
        with pytest.raises(LatkitError, match="none"):
            read(f"memory:/{folder}/none.csv")

    def test_of_the_local_disk(self, tmp_path: Path) -> None:
        (tmp_path / "t.csv").write_text(TEXT)
        assert_all_there(read(f"file://{tmp_path}/t.csv"))

    @pytest.mark.parametrize("protocol", ["http", "ftp"])
    def test_a_server_that_refuses(self, protocol: str) -> None:
        if protocol == "http":
            pytest.importorskip("aiohttp")
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            port = server.getsockname()[1]
        with pytest.raises(LatkitError) as caught:
            read(f"{protocol}://127.0.0.1:{port}/t.csv")
        assert not isinstance(caught.value, InputError)
        assert "network" in caught.value.fix
        assert "refused" in caught.value.cause or "Connect call failed" in caught.value.cause

    def test_what_remote_file_systems_raise(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class CredentialsError(Exception):
            pass

        class Locked(fsspec.AbstractFileSystem):  # type: ignore[misc]
            protocol = "locked"

            def info(self, path: str, **_: Any) -> Any:
                raise CredentialsError("unable to\nlocate credentials")

        fsspec.register_implementation("locked", Locked, clobber=True)
        with pytest.raises(LatkitError, match=r"locked://x/t\.csv") as caught:
            read("locked://x/t.csv")
        assert "credentials" in caught.value.cause
        for url in ("nosuch://x/t.csv", "github://no-repository", "zip://t.csv::none.zip"):
            with pytest.raises(LatkitError, match=url):
                read(url)
        # Neither installed, nor loaded by a test before.
        monkeypatch.setitem(sys.modules, "s3fs", None)
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
        with pytest.raises(InputError, match="s3"):
            read("s3://x/t.csv")
