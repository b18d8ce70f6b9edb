"""Parquet (and other tables), safetensors, ONNX and images."""

from __future__ import annotations

import io
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
from onnx import TensorProto

from benchmarks.robustness.formats import Format, Reader, latkit, use_registry
from benchmarks.robustness.json_format import of_dataset, of_registry, signed
from benchmarks.robustness.material import COMMANDS, DEVICE, REGISTRY, SETTING
from benchmarks.robustness.mutations import Mutator
from latkit.core.errors import SearchError, TrainingError
from latkit.networks.models import load_model
from latkit.search.checkpoint import digest_of, finished_epochs
from latkit.search.data import load_data
from latkit.search.network_checkpoint import progress_of

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


class ParquetFormat(Format):
    """Datasets, histories, tables from elsewhere, and images in tables."""

    name = "parquet"

    def prepare(self) -> None:
        use_registry(self.material / REGISTRY)
        self._images = _table_of_images()

    def draw(self, mutator: Mutator, box: Path) -> Reader:
        makes: tuple[Callable[[Mutator, Path], Reader], ...] = (
            self._dataset, self._dataset, self._imported, self._table, self._table, self._pictures,
            self._history,
        )  # fmt: skip
        make = mutator.choice(makes)
        mutator.note(make.__name__.strip("_"))
        return make(mutator, box)

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


class SafetensorsFormat(Format):
    """Weights of LPMs and networks, and checkpoints."""

    name = "safetensors"

    def prepare(self) -> None:
        use_registry(self.material / REGISTRY)

    def draw(self, mutator: Mutator, box: Path) -> Reader:
        use_registry(self.material / REGISTRY)
        makes: tuple[Callable[[Mutator, Path], Reader], ...] = (
            self._weights, self._weights, self._lpm, self._checkpoint, self._checkpoint,
            self._resumed,
        )  # fmt: skip
        make = mutator.choice(makes)
        mutator.note(make.__name__.strip("_"))
        return make(mutator, box)

    def _weights(self, mutator: Mutator, box: Path) -> Reader:
        path = box / "w.safetensors"
        source = self.material / "train/seed-0/last.safetensors"
        path.write_bytes(_changed_tensors(mutator, source.read_bytes()))
        setting = "cifar,cells=3,channels=4,resolution=8"
        return lambda: latkit("export", "darts_v2", "--setting", setting, "--weights", path,
                              "--out", "n.onnx", "--json")  # fmt: skip

    def _lpm(self, mutator: Mutator, box: Path) -> Reader:
        registry = self.copy(REGISTRY, box)
        card = next(registry.glob("darts/**/lpm.json"))
        path = card.with_name("weights.safetensors")
        content = _changed_tensors(mutator, path.read_bytes())
        path.write_bytes(content)
        card.write_bytes(signed(card.read_bytes(), content))
        use_registry(registry)
        return mutator.choice(of_registry(card.parent))

    def _checkpoint(self, mutator: Mutator, box: Path) -> Reader:
        """What is read of checkpoints without their networks."""
        path = box / "checkpoint.safetensors"
        name = mutator.choice(("search", "one-shot", "train/seed-0"))
        source = self.material / name / path.name
        path.write_bytes(_changed_tensors(mutator, source.read_bytes()))
        return mutator.choice(
            (
                lambda: finished_epochs(box),
                lambda: digest_of(box),
                lambda: progress_of(box, SearchError),
                lambda: progress_of(box, TrainingError),
            )
        )

    def _resumed(self, mutator: Mutator, box: Path) -> Reader:
        name, file = mutator.choice(
            (("search", "checkpoint.safetensors"), ("one-shot", "checkpoint.safetensors"),
             ("train", "seed-0/checkpoint.safetensors"), ("one-shot", "lpm/weights.safetensors"),
             ("from", "search/checkpoint.safetensors"))
        )  # fmt: skip
        if name == "from":
            path = self.copy("search", box) / "checkpoint.safetensors"
            command = [*COMMANDS["search"], "--from", "search", "--out", "new", "--json"]
        else:
            path = self.copy(name, box) / file
            command = [*COMMANDS[name], "--out", name, "--json"]
        content = _changed_tensors(mutator, path.read_bytes())
        path.write_bytes(content)
        if name == "one-shot" and file.startswith("lpm"):
            card = path.with_name("lpm.json")
            card.write_bytes(signed(card.read_bytes(), content))
            command = ["retarget", "one-shot", "--device", DEVICE, "--front", "2", "--out", "new"]
        return lambda: latkit(*command)


def _changed_tensors(mutator: Mutator, content: bytes) -> bytes:
    """A safetensors file with changes, mostly of its header."""
    if mutator.chance(25):
        return mutator.content(content)
    length = int.from_bytes(content[:8], "little")
    header, tensors = json.loads(content[8 : 8 + length]), content[8 + length :]
    if mutator.chance(25) and "__metadata__" in header:
        # Metadata are texts, and latkit's are JSON.
        inner = header["__metadata__"]
        for name in list(inner):
            changed = mutator.json(json.loads(inner[name])) if inner[name][:1] == "{" else b"x"
            inner[name] = changed.decode("utf-8", "replace")
        text = json.dumps(header).encode()
    elif mutator.chance(40):
        name = mutator.choice([name for name in header if name != "__metadata__"])
        info = header[name]
        size = info["data_offsets"][1] - info["data_offsets"][0]
        shape: list[int]
        dtype, width = mutator.choice(
            (("F32", 4), ("F64", 8), ("F16", 2), ("BF16", 2), ("I64", 8), ("I8", 1), ("U8", 1),
             ("BOOL", 1), ("F8_E4M3", 1), ("F8_E5M2", 1), ("F8_E8M0", 1), ("U16", 2), ("U64", 8),
             ("C64", 8), ("F4", 1))
        )  # fmt: skip
        shape = mutator.choice(([size // width], [size // width, 1], [1, size // width, 1]))
        mutator.note(f"{name} is {dtype} of {shape}")
        header[name] = {**info, "dtype": dtype, "shape": shape}
        text = json.dumps(header).encode()
    elif mutator.chance(40):
        name = mutator.choice([name for name in header if name != "__metadata__"])
        start, end = header[name]["data_offsets"]
        byte = mutator.choice((0x00, 0x7F, 0xFF))
        mutator.note(f"{name} is all {byte:#x}")
        tensors = tensors[:start] + bytes([byte]) * (end - start) + tensors[end:]
        text = json.dumps(header).encode()
    else:
        text = mutator.json(header)
    size = len(text) if mutator.chance(95) else mutator.choice((0, 1, 2**31, 2**63, 2**64 - 1))
    return size.to_bytes(8, "little") + text + tensors


class OnnxFormat(Format):
    """Models that ``latkit measure FILE.onnx`` reads; the runtimes behind it are not run."""

    name = "onnx"

    def prepare(self) -> None:
        self._model = onnx.load(str(self.material / "net.onnx"))
        self._matrix = _matrix_model()

    def draw(self, mutator: Mutator, box: Path) -> Reader:
        model = onnx.ModelProto()
        model.CopyFrom(mutator.choice((self._model, self._matrix)))
        if mutator.chance(15):
            content = mutator.content(model.SerializeToString())
        else:
            for _ in range(mutator.integer(1, 3)):
                self._change(mutator, model)
            content = model.SerializeToString()
        (box / "m.onnx").write_bytes(content)
        (box / "w").write_bytes(bytes(64))
        given = mutator.choice(((), ("1x3x8x8",), ("2x4",)))

        def read() -> None:
            loaded = load_model(str(box / "m.onnx"), given)
            onnx.load_model_from_string(loaded.onnx())
            assert loaded.macs is None or loaded.macs >= 0, loaded.macs
            assert loaded.params >= 0
            if sum(math.prod(spec.shape) for spec in loaded.inputs) < 10**7:
                loaded.arrays(0)

        return read

    def _change(self, mutator: Mutator, model: Any) -> None:
        graph = model.graph
        number = mutator.choice((-1, 0, 1, 2, 2**31, 2**62, 2**63 - 1))
        how = mutator.integer(0, 11)
        mutator.note(f"change {how} with {number}")
        node = mutator.choice(graph.node) if graph.node else None
        weight = mutator.choice(graph.initializer) if graph.initializer else None
        if how == 0 and node is not None:
            node.op_type = mutator.choice(("Conv", "Gemm", "MatMul", "ConvTranspose", "Loop", "If",
                                           "", "Constant", "Reshape", "Attention"))  # fmt: skip
        elif how == 1 and node is not None:
            del node.input[mutator.integer(0, 2) :]
        elif how == 2 and node is not None:
            del node.output[:]
        elif how == 3 and weight is not None:
            weight.dims[:] = mutator.choice(([], [number], [number, number], [2] * 70))
        elif how == 4 and weight is not None:
            weight.data_type = mutator.choice((0, 1, 7, 8, 9, 16, 23, 99))
        elif how == 5 and weight is not None:
            weight.ClearField("raw_data")
            weight.data_location = TensorProto.EXTERNAL
            for key, value in (
                ("location", mutator.choice((mutator.path(), "w", "w"))),
                ("offset", mutator.choice(("0", "-1", "x", str(number)))),
                ("length", mutator.choice(("64", "-1", "", str(number)))),
            ):
                entry = weight.external_data.add()
                entry.key, entry.value = key, value.encode("utf-8", "replace").decode()
        elif how == 6:
            for value in graph.input:
                shape = value.type.tensor_type.shape
                for dim in list(shape.dim)[: mutator.integer(1, 4)]:
                    dim.dim_value = number
                if mutator.chance(30):
                    del shape.dim[mutator.integer(0, 3) :]
        elif how == 7:
            for value in graph.input:
                value.type.tensor_type.elem_type = mutator.choice((0, 1, 7, 8, 9, 14, 16, 99))
        elif how == 8:
            field = mutator.choice(("input", "output", "node", "initializer", "value_info"))
            model.graph.ClearField(field)
        elif how == 9:
            del model.opset_import[:]
            if mutator.chance(60):
                model.opset_import.add().version = number
        elif how == 10 and node is not None:
            node.attribute.add().name = mutator.choice(("value", "transA", "group", "pads", ""))
        elif how == 11 and node is not None and node.input:
            node.input[0] = node.output[0] if node.output else ""


def _matrix_model() -> Any:
    from onnx import helper

    weights = [
        helper.make_tensor(name, TensorProto.FLOAT, [4, 4], [0.5] * 16) for name in ("a", "b")
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["y"]),
        helper.make_node("Gemm", ["y", "b"], ["z"], transA=0),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    z = helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 4])
    graph = helper.make_graph(nodes, "made", [x], [z], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


class ImagesFormat(Format):
    """Files of images, and folders of them."""

    name = "images"

    def prepare(self) -> None:
        from PIL import Image

        values = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
        image = Image.fromarray(values)
        self._contents: list[bytes] = []
        for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "ICO", "PPM", "TGA", "PCX",
                     "SGI", "JPEG2000", "AVIF", "QOI"):  # fmt: skip
            for changed in (image, image.convert("L"), image.convert("RGBA"), image.convert("P")):
                sink = io.BytesIO()
                try:
                    changed.save(sink, kind)
                except (OSError, ValueError, KeyError):
                    continue
                self._contents.append(sink.getvalue())
        for mode, kind in (("I;16", "PNG"), ("I;16", "TIFF"), ("F", "TIFF"), ("1", "PNG")):
            sink = io.BytesIO()
            Image.new(mode, (16, 16)).save(sink, kind)
            self._contents.append(sink.getvalue())

    def draw(self, mutator: Mutator, box: Path) -> Reader:
        folder = box / "images"
        for name in ("a", "b"):
            (folder / name).mkdir(parents=True)
        for index in range(4):
            content = mutator.choice(self._contents)
            suffix = mutator.choice((".png", ".jpg", ".tif", ".webp", ".bmp"))
            if mutator.chance(60):
                content = mutator.content(content, 6)
            (folder / "ab"[index % 2] / f"{index}{suffix}").write_bytes(content)
        self._change(mutator, folder)
        return lambda: load_data(str(folder), None, 0)

    def _change(self, mutator: Mutator, folder: Path) -> None:
        how = mutator.integer(0, 9)
        mutator.note(f"folder: change {how}")
        if how == 0:
            (folder / "a" / "loop").symlink_to(folder, target_is_directory=True)
        elif how == 1:
            (folder / "a" / "x.png").symlink_to(mutator.choice(("/dev/zero", "nothing", "x.png")))
        elif how == 2:
            shutil.rmtree(folder / "b")
        elif how == 3:
            (folder / mutator.choice(("train", "test", ".hidden", "\udcff", "x" * 200))).mkdir()
        elif how == 4:
            (folder / "a" / "big.png").write_bytes(_png(*mutator.choice(_SIZES)))
        elif how == 5:
            (folder / "a" / "d.png").mkdir()


_SIZES = ((2**31 - 1, 1), (30_000, 30_000), (13_000, 13_000), (0, 0), (1, 2**31 - 1), (1, 10_000))


def _png(width: int, height: int) -> bytes:
    """The head of an image of any size, with pixels of zeros that are few bytes."""
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + check

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(min((width + 1) * height, 2**24)))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )
