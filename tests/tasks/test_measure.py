"""``latkit measure``: rows, resuming, failures, and the dataset they are in."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import latkit
from latkit.backends.base import Runner, Samples
from latkit.core.errors import BackendError, DatasetError, InputError, LatkitError, SpaceError
from latkit.core.events import Listener, Progress
from latkit.dataset.check import check_dataset
from latkit.profiling.tail import PausedRunner, Tail
from latkit.spaces import SPACES, Setting, get_space, parse_setting
from latkit.spaces.models.space import model_id
from latkit.tasks.measure_request import MeasureRequest
from latkit.tasks.measurement import run_measure
from latkit.tasks.measurement_file import FILE, estimate
from latkit.tasks.paper_tables import PRINTED_OTHERWISE, TABLES
from latkit.tasks.subjects import read_subjects
from tests.support.commands import MICRO_TEXT, RunLatkit, ok, refused
from tests.support.models import write_conv, write_makers

FIELDS: dict[str, Any] = {
    "backend": "onnxruntime-cpu",
    "device": "here",
    "setting": f"{MICRO_TEXT},memory_format=nchw",
    "protocol": "fast",
    "measurements": 2,
    "runs": 4,
    "out": "out",
}
OPTIONS = [text for name, value in FIELDS.items() for text in (f"--{name}", str(value))]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture
def latkit_run(latkit: RunLatkit) -> RunLatkit:
    """The fixture of the command line, beside the module of its name."""
    return latkit


class Told(Listener):
    def __init__(self, stop_at: int | None = None) -> None:
        self.warned: list[str] = []
        self.seen: list[Progress] = []
        self._stop_at = stop_at

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def progress(self, now: Progress) -> None:
        self.seen.append(now)
        if now.done == self._stop_at:
            raise KeyboardInterrupt


class TestRows:
    def test_genotypes_files_batches_and_pauses_side_by_side(self, tmp_path: Path) -> None:
        write_conv(tmp_path / "a.onnx", batch="N")
        told = Told()
        request = MeasureRequest(
            what=("zoo:darts_v2", "a.onnx"), input=("1x3x8x8",), batch=("1,3",), pause_ms=(0, 2),
            per_layer=True, **FIELDS,
        )  # fmt: skip
        result = run_measure(request, told)
        keys = [(row.what, row.batch, row.pause_ms) for row in result.rows]
        assert keys == [
            (w, b, p) for w in ("zoo:darts_v2", "a.onnx") for b in (1, 3) for p in (0.0, 2.0)
        ]
        assert told.seen[-1].done == told.seen[-1].total == 8
        for row in result.rows:
            assert 0 < row.p50_ms <= row.p90_ms <= row.p99_ms <= row.max_ms
            assert row.runs == 4
            assert row.latency_ms > 0
            assert row.error_ms is not None or row.measurements - row.disturbed == 1
            assert row.throughput_per_s > 0
            assert row.measurements - row.disturbed >= 2 or row.measurements == 4
            assert row.layers is not None
            shares = sum(layer.share for layer in row.layers)
            assert row.layers_explained == pytest.approx(shares)
            assert row.input[0] == row.batch
            assert row.published_ms is None
        genotype, file = result.rows[0], result.rows[-1]
        assert (genotype.space, genotype.macs) == ("darts", read_subjects(
            "darts_v2", parse_setting(FIELDS["setting"]))[0].macs)  # fmt: skip
        assert genotype.genotype is not None
        assert genotype.genotype.startswith("Genotype(")
        assert (file.space, file.genotype, file.macs) == (None, None, 4 * 27 * 64)

        content = json.loads((tmp_path / "out" / FILE).read_text())
        assert content["kind"] == "measurement"
        assert content["rows"] == [row.to_dict() for row in result.rows]
        assert content["fingerprint"]["onnxruntime"]

    def test_it_is_a_dataset(self, tmp_path: Path, latkit_run: RunLatkit) -> None:
        write_conv(tmp_path / "a.onnx")
        result = run_measure(MeasureRequest(what=("darts_v1", "a.onnx"), **FIELDS))
        dataset = latkit.open_dataset("out")
        assert dataset.manifest.target.space == "models"
        assert set(dataset.table["arch"].to_pylist()) == {row.arch for row in result.rows}
        ids = {model_id(row.arch) for row in result.rows}
        assert set(dataset.table["arch_id"].to_pylist()) == ids
        check = check_dataset(dataset)
        assert (check.requested, check.summary.architectures, check.duplicate_rows) == (2, 2, 0)
        usable = {row["arch"]: row["latency_ms"] for row in dataset.usable().to_pylist()}
        for row in result.rows:
            if row.disturbed < row.measurements:
                assert usable[row.arch] == pytest.approx(row.latency_ms)
        assert [found.target.space for found in latkit.list_datasets(Path())] == ["models"]
        with pytest.raises(SpaceError):
            latkit.train_lpm("out")
        assert latkit_run("dataset", "show", "out").returncode == 0
        # A busy machine may have disturbed everything: then there is nothing to export.
        assert latkit_run("dataset", "export", "out", "a.csv").returncode == (0 if usable else 1)

    def test_texts_are_those_of_every_device(self) -> None:
        """Backends differ in layouts; what they measure has one identifier."""
        texts = {
            read_subjects("darts_v2", parse_setting(f"{MICRO_TEXT},memory_format={layout}"))[0].text
            for layout in ("nchw", "channels_last")
        }
        assert len(texts) == 1


class TestResuming:
    WHATS = ("darts_v1", "darts_v2", "gdas")

    def test_goes_on_after_an_interruption(self) -> None:
        request = MeasureRequest(what=self.WHATS, **FIELDS)
        with pytest.raises(KeyboardInterrupt):
            run_measure(request, Told(stop_at=2))
        kept = [row["what"] for row in json.loads(Path("out", FILE).read_text())["rows"]]
        assert kept == ["darts_v1", "darts_v2"]
        before = latkit.open_dataset("out").table.num_rows
        result = run_measure(request)
        assert [row.what for row in result.rows] == list(self.WHATS)
        after = latkit.open_dataset("out").table.num_rows
        assert after - before == result.rows[-1].measurements
        # There is nothing left to measure.
        assert run_measure(request).to_dict() == result.to_dict()
        assert latkit.open_dataset("out").table.num_rows == after

    def test_measurements_without_a_row_count(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A process that died within a network's runs leaves its measurements."""
        request = MeasureRequest(what=("darts_v1",), **{**FIELDS, "protocol": "paper"})

        def fail(wall_ms: Any) -> None:
            raise MemoryError

        with monkeypatch.context() as patch:
            patch.setattr("latkit.tasks.measuring.Tail.of", fail)
            with pytest.raises(MemoryError):
                run_measure(request)
        assert latkit.open_dataset("out").table.num_rows == 2
        assert run_measure(request).rows[0].measurements == 2

    def test_more_is_added(self) -> None:
        first = run_measure(MeasureRequest(what=("darts_v1",), **FIELDS))
        assert first.rows[0].layers is None
        more = run_measure(MeasureRequest(what=("darts_v1", "gdas"), per_layer=True, **FIELDS))
        assert [row.layers is not None for row in more.rows] == [True, True]
        assert len(json.loads(Path("out", FILE).read_text())["rows"]) == 2
        before = more.rows[0].measurements
        request = MeasureRequest(what=("darts_v1",), **{**FIELDS, "measurements": before + 1})
        assert run_measure(request).rows[0].measurements > before
        twice = MeasureRequest(what=("darts_v1", "zoo:darts_v1"), **FIELDS)
        assert len(run_measure(twice).rows) == 1  # one network by two names

    def test_a_corrupt_file_is_refused_and_kept(self) -> None:
        run_measure(MeasureRequest(what=("darts_v1",), **FIELDS))
        for content in ("{", "[]", '{"kind": "measurement", "format_version": 9}'):
            Path("out", FILE).write_text(content)
            with pytest.raises(DatasetError):
                run_measure(MeasureRequest(what=("darts_v1",), **FIELDS))
            assert Path("out", FILE).read_text() == content

    def test_another_protocol_needs_another_folder(self) -> None:
        run_measure(MeasureRequest(what=("darts_v1",), **FIELDS))
        with pytest.raises(DatasetError):
            run_measure(MeasureRequest(what=("gdas",), **{**FIELDS, "protocol": "precise"}))


class TestFailures:
    def test_others_are_kept(self, tmp_path: Path, latkit: RunLatkit) -> None:
        name = f"makers_{tmp_path.name}"
        write_makers(tmp_path, name)
        write_conv(tmp_path / "open.onnx", batch="N")
        write_conv(tmp_path / "fixed.onnx")
        write_conv(tmp_path / "lacks.onnx", domain="com.example")
        (tmp_path / "text.onnx").write_text("no model")
        bad = ["lacks.onnx", "text.onnx", "absent.onnx", f"{name}:Nan", "torchvision:resnet19",
               f"{name}:broken", "nothing_like_this", "zoo:darts_v3"]  # fmt: skip
        done = latkit("measure", "fixed.onnx", *bad, "darts_v1", "--input", "1x3x8x8", *OPTIONS)
        assert done.returncode in (1, 2)
        assert "Traceback" not in done.stderr
        lines = [line for line in done.stderr.splitlines() if "not measured" in line]
        assert len(lines) == len(bad)
        assert all("Fix: " in line for line in lines)
        rows = json.loads(Path("out", FILE).read_text())["rows"]
        assert [row["what"] for row in rows] == ["fixed.onnx", "darts_v1"]

    @pytest.mark.parametrize(
        ("arguments", "says", "code"),
        [
            (("open.onnx",), "--input 1x3x8x8", 2),
            (("fixed.onnx", "--input", "1x3x4x4"), "1x3x8x8, not 1x3x4x4", 2),
            (("fixed.onnx", "--batch", "2"), "1 samples", 2),
            (("lacks.onnx",), "another --backend", 1),
            (("text.onnx",), "no ONNX model", 2),
            (("absent.onnx",), "absent.onnx", 1),
            (("nan.onnx",), "NaN", 2),
            ((), "nothing to measure", 2),
            (("darts_v1", "--batch", "0"), "batch='0'", 2),
            (("darts_v1", "--pause-ms", "x"), "pause_ms='x'", 2),
            (("darts_v1", "--table", "cifar", "--clock", "event"), "clock", 2),
        ],
    )
    def test_each_alone_is_one_line(
        self, tmp_path: Path, latkit: RunLatkit, arguments: tuple[str, ...], says: str, code: int
    ) -> None:
        from onnx import helper

        write_conv(tmp_path / "open.onnx", batch="N")
        write_conv(tmp_path / "fixed.onnx")
        write_conv(tmp_path / "lacks.onnx", domain="com.example")
        write_conv(tmp_path / "nan.onnx", nodes=[helper.make_node("Log", ["c"], ["y"])])
        (tmp_path / "text.onnx").write_text("no model")
        assert says in refused(latkit, "measure", *arguments, *OPTIONS, code=code)

    def test_a_file_on_torch(self, tmp_path: Path) -> None:
        write_conv(tmp_path / "a.onnx")
        with pytest.raises(BackendError):
            run_measure(MeasureRequest(what=("a.onnx",), **{**FIELDS, "backend": "torch-cpu"}))

    def test_energy_without_a_meter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("latkit.meters.energy.POWERCAP", Path("nowhere"))
        with pytest.raises(LatkitError):
            run_measure(MeasureRequest(what=("darts_v1",), energy=True, **FIELDS))

    def test_another_computation_is_noticed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        name = f"makers_{tmp_path.name}"
        write_makers(tmp_path, name)
        monkeypatch.setattr(
            "latkit.backends.onnxruntime.OnnxRuntimeRunner._logits",
            lambda self: np.ones((1, 5), np.float32),
        )
        with pytest.raises(BackendError, match="something else"):
            run_measure(MeasureRequest(what=(f"{name}:small",), input=("1x3x8x8",), **FIELDS))


class TestTables:
    def test_command(self, latkit: RunLatkit) -> None:
        printed = ok(latkit, "measure", "--table", "cifar", *OPTIONS, "--measurements", 1)
        rows = {row["name"]: row for row in printed["rows"]}
        assert set(rows) == {row.name for row in TABLES["cifar"]}
        assert rows["GDAS"]["published_ms"] == 30.6
        assert "P100" in rows["GDAS"]["published_device"]
        shown = latkit("measure", "--table", "cifar", *OPTIONS, "--measurements", 1).stdout
        assert "published" in shown
        assert "P100" in shown

    @pytest.mark.parametrize("table", list(TABLES))
    def test_networks_are_those_published(self, table: str) -> None:
        """By their counts: within 3 %, but for what is known to be printed otherwise."""
        setting = parse_setting(table)
        for row in TABLES[table]:
            if row.what.startswith("latkit."):
                continue  # tests/networks has them
            (subject,) = read_subjects(row.what, setting, published=row)
            assert subject.macs is not None
            counts = {"params": subject.params, "macs": subject.macs}
            wanted = {"params": row.params_m, "macs": row.macs_m}
            for name, count in counts.items():
                close = math.isclose(count / 1e6, wanted[name], rel_tol=0.03)
                assert close != ((row.name, name) in PRINTED_OTHERWISE and table == "imagenet"), (
                    row.name, name, count
                )  # fmt: skip


class TestNumbers:
    def test_the_estimate(self) -> None:
        found = estimate([1.0, 2.0, 3.0, 50.0], [[], [], [], ["disturbed", "spread"]])
        assert (found.latency_ms, found.measurements, found.disturbed) == (2.0, 4, 1)
        assert found.error_ms == pytest.approx(4.302653 / math.sqrt(3))  # t of 2, 97.5 %
        assert found.flags == ()
        alone = estimate([1.5], [["disturbed", "spread"]])
        assert (alone.latency_ms, alone.error_ms) == (1.5, None)
        assert alone.flags == ("disturbed", "spread")
        slowed = estimate([1.0, 1.5], [["throttled: power cap"], ["disturbed", "spread"]])
        assert slowed.flags == ("throttled: power cap",)

    def test_the_tail(self) -> None:
        tail = Tail.of(list(range(1, 101)))
        assert (tail.mean_ms, tail.p50_ms, tail.p90_ms, tail.p99_ms, tail.max_ms, tail.runs) == (
            50.5, 51, 91, 100, 100, 100
        )  # fmt: skip

    def test_pauses_come_before_every_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told: list[Any] = []

        class Fake(Runner):
            clock = "wall"

            def _run(self, n: int) -> Samples:
                told.append(n)
                return Samples((1.0,) * n, (2.0,) * n)

            def _logits(self) -> Any:
                return np.zeros((1, 1), np.float32)

            def _close(self) -> None:
                told.append("closed")

        monkeypatch.setattr("latkit.profiling.tail.time.sleep", told.append)
        paused = PausedRunner(Fake(), 50)
        assert paused.run(2) == Samples((1.0, 1.0), (2.0, 2.0))
        paused.close()
        assert told == [0.05, 1, 0.05, 1]

    def test_requests_take_numbers_and_texts(self) -> None:
        request = MeasureRequest(what="a", batch=("1,2", 4, "2"), pause_ms="0,1.5")  # type: ignore[arg-type]
        assert (request.what, request.batch, request.pause_ms) == (("a",), (1, 2, 4), (0.0, 1.5))
        for changes in ({"measurements": 0}, {"runs": 0}, {"table": "mnist"}, {"batch": (1.5,)}):
            with pytest.raises(InputError):
                dataclasses.replace(request, **changes)  # type: ignore[arg-type]


class TestSpace:
    def test_it_is_there_and_not_listed(self, micro: Setting) -> None:
        space = get_space("models")
        assert "models" not in SPACES.names()
        for refusing in (lambda: space.unrank(0), lambda: space.parse("resnet18")):
            with pytest.raises(SpaceError):
                refusing()
        with pytest.raises(LatkitError):
            latkit.profile(space="models", n=1, out="x", backend="torch-cpu")
        with pytest.raises(LatkitError):
            latkit.profile(space="modelz", n=1, out="x", backend="torch-cpu")

    def test_identifiers(self) -> None:
        assert model_id("a") == model_id("a") != model_id("b")
        assert 0 <= model_id("a") < 2**63
