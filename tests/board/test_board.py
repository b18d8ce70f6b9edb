"""A bundle on a board: measured as ``latkit profile`` measures, killed, and whatever can fail."""

from __future__ import annotations

import functools
import json
import os
import resource
import runpy
import signal
import sys
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from latkit.backends import BACKENDS
from latkit.backends.base import fingerprint
from latkit.board import measure, results
from latkit.board.bundle import Bundle
from latkit.board.results import Results
from latkit.core.device import machine_facts
from latkit.core.errors import DatasetError
from latkit.core.events import SILENT, Listener
from latkit.dataset import LatencyDataset
from latkit.dataset.compare import compare_datasets
from latkit.dataset.results import import_results
from latkit.profiling.plan import panel
from latkit.spaces import get_space
from latkit.tasks.profile import ProfileRequest, run_profile
from tests.profiling.test_loop import keys, planned
from tests.support.boards import KINDS, Board, Kind, make_micro_bundle, run_here
from tests.support.commands import MICRO_TEXT


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a bundle of a format, once."""
    folder = tmp_path_factory.mktemp("bundle")
    return functools.cache(lambda to: make_micro_bundle(folder / f"{to}.pyz", to=to))


@pytest.fixture(scope="module")
def bundle(make: Callable[[str], Path]) -> Path:
    """Of ONNX graphs, where the format is of no interest."""
    return make("onnx")


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.to)
def kind(request: pytest.FixtureRequest) -> Kind:
    each: Kind = request.param
    pytest.importorskip(each.package, reason=f"{each.package} is not installed")
    return each


@pytest.fixture(scope="module")
def of_kind(make: Callable[[str], Path], kind: Kind) -> Path:
    return make(kind.to)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "packages")


def rows_in(out: Path) -> list[dict[str, Any]]:
    """The whole rows that a process has written."""
    if not (out / "journal.jsonl").exists():
        return []
    lines = (out / "journal.jsonl").read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines if line.startswith(b"{")]


def test_killed_and_gone_on_without_latkit(of_kind: Path, kind: Kind, tmp_path: Path) -> None:
    """Twice, at different moments; nothing finished is lost, and a torn row is made again."""
    bundle, board = of_kind, Board(tmp_path / "packages", kind.packages)
    assert board.run("-c", "import torch").returncode != 0
    assert board.run("-c", "import latkit").returncode != 0
    out = tmp_path / "results"
    kept: list[dict[str, Any]] = []
    for more in (4, 9):
        process = board.start(bundle, "--out", out)
        deadline = time.monotonic() + 120
        while len(rows_in(out)) < len(kept) + more:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert rows_in(out)[: len(kept)] == kept
        kept = rows_in(out)
        with (out / "journal.jsonl").open("ab") as file:  # what a power cut may leave
            file.write(b'\0\0\0\n{"latency_ms": 0.2, "arch')
    assert len(kept) < len(planned(24))
    done = board.run(bundle, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "going on: " in done.stderr
    assert rows_in(out)[: len(kept)] == kept
    assert "architectures are in" in done.stdout

    made = import_results(out, tmp_path / "d", "my-board").dataset
    assert keys(made, len(planned(24))) == planned(24)
    times = made.table["measured_at"].to_pylist()
    assert times == sorted(times)
    # Again there is nothing to measure, or what was disturbed.
    assert board.run(bundle, "--out", out).returncode == 0


def test_pairs_with_a_profile(of_kind: Path, kind: Kind, tmp_path: Path) -> None:
    assert run_here(of_kind, tmp_path / "results") == 0
    there = import_results(tmp_path / "results", tmp_path / "d").dataset
    request = ProfileRequest(
        setting=MICRO_TEXT, n=24, backend=kind.backend, device="here", out=tmp_path / "e"
    )
    run_profile(request)
    here = LatencyDataset.open(tmp_path / "e")
    assert there.table.schema == here.table.schema
    count = len(planned(24))
    assert keys(there, count) == keys(here, count) == planned(24)
    # The panel is as long, and of the same architectures.
    ends = panel(get_space("darts"), count).tolist()
    for dataset in (there, here):
        rows = [row for row in dataset.table.to_pylist() if "panel-start" in row["flags"]]
        assert [row["arch_id"] for row in rows] == ends
    ours, theirs = here.manifest, there.manifest
    assert ours.target.flat() == {**theirs.target.flat(), "device": "here"}
    for name in ("protocol", "anchor", "seed", "requested", "metrics", "origin"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert {**theirs.fingerprint, "bundle": None} == {**ours.fingerprint, "bundle": None}
    tables = (dataset.table.slice(0, len(ends) + count).to_pylist() for dataset in (there, here))
    for row, other in zip(*tables, strict=True):
        for name in ("arch_id", "arch", "macs", "params"):
            assert row[name] == other[name]
    if not (there.flagged.all() or here.flagged.all()):
        assert compare_datasets(here, there).fingerprint_differences in (
            (), (f"bundle: None / {theirs.fingerprint['bundle']}",),
        )  # fmt: skip


def test_the_fingerprint_is_that_of_the_backend(of_kind: Path, kind: Kind, tmp_path: Path) -> None:
    run_here(of_kind, tmp_path / "results")
    facts = json.loads((tmp_path / "results/dataset.json").read_text())["fingerprint"]
    with BACKENDS.get(kind.backend)() as backend:
        assert {**fingerprint(backend), "bundle": facts["bundle"]} == facts


def test_a_longer_list_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "results"
    for n in (3, 5):
        assert run_here(make_micro_bundle(tmp_path / f"{n}.pyz", n, replicates=2), out) == 0
    made = import_results(out, tmp_path / "d").dataset
    assert made.manifest.requested == made.architectures == 5


class TestOneLine:
    """What fails is one line, and nothing that was measured is lost."""

    def line(self, err: str) -> str:
        assert "Traceback" not in err
        lines = [line for line in err.splitlines() if line.startswith("latkit: ")]
        assert len(lines) == 1, err
        assert ". Fix: " in lines[0]
        return lines[0]

    @pytest.mark.parametrize("lacking", ["numpy", "the runtime"])
    def test_a_board_without_a_package(
        self, of_kind: Path, kind: Kind, tmp_path: Path, lacking: str
    ) -> None:
        lacking = lacking if lacking == "numpy" else kind.package
        names = tuple(name for name in kind.packages if name.partition(".")[0] != lacking)
        done = Board(tmp_path / "lacking", names).run(of_kind, "--out", tmp_path / "results")
        assert done.returncode == 1
        assert f"{lacking} is not installed" in self.line(done.stderr)
        assert f"pip install numpy {kind.package}" in done.stderr
        assert not (tmp_path / "results").exists()

    def test_a_package_that_does_not_import(
        self, of_kind: Path, kind: Kind, tmp_path: Path
    ) -> None:
        board = Board(tmp_path / "packages", kind.packages)
        (board.folder / kind.package).unlink()
        (board.folder / f"{kind.package}.py").write_text("raise OSError('GLIBC_2.28 not found')\n")
        done = board.run(of_kind, "--out", tmp_path / "results")
        assert "GLIBC_2.28" in self.line(done.stderr)

    def test_an_old_python(self, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "version_info", (3, 7, 9))
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(bundle), run_name="__main__")
        assert "needs Python 3.8" in self.line(str(ended.value.code))

    def test_a_full_disk(self, bundle: Path, board: Board, tmp_path: Path) -> None:
        """Files of this process may have 8 KB: the disk is full in the middle of a row."""

        def limit() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

        out = tmp_path / "results"
        done = board.run(bundle, "--out", out, preexec_fn=limit)
        assert done.returncode == 1
        assert "every finished row is kept" in self.line(done.stderr)
        kept = rows_in(out)
        assert kept
        assert run_here(bundle, out) == 0
        assert rows_in(out)[: len(kept)] == kept

    def test_results_of_another_bundle(
        self, bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "results"
        assert run_here(make_micro_bundle(tmp_path / "other.pyz", 2, protocol="fast"), out) == 0
        before = (out / "journal.jsonl").read_bytes()
        capfd.readouterr()
        assert run_here(bundle, out) == 1
        assert "runs_per_visit: 6 / 3" in self.line(capfd.readouterr().err)
        assert (out / "journal.jsonl").read_bytes() == before

    def test_a_dataset(self, bundle: Path, tmp_path: Path) -> None:
        """What was imported is not continued, nor what a profile left."""
        assert run_here(bundle, tmp_path / "results") == 0
        import_results(tmp_path / "results", tmp_path / "d")
        assert run_here(bundle, tmp_path / "d") == 1
        manifest = json.loads((tmp_path / "results/dataset.json").read_text())
        del manifest["fingerprint"]["bundle"]
        (tmp_path / "results/dataset.json").write_text(json.dumps(manifest))
        assert run_here(bundle, tmp_path / "results") == 1

    def test_a_folder_of_something_else(self, bundle: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        assert run_here(bundle, tmp_path) == 1
        assert run_here(bundle, tmp_path / "file") == 1
        assert (tmp_path / "file").read_text() == "mine"

    def test_another_process_is_writing(
        self, bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        manifest = {"target": {"setting": {}}, "protocol": {"anchored": True}, "fingerprint": {}}
        with Results(tmp_path / "results", manifest, SILENT):
            assert run_here(bundle, tmp_path / "results") == 1
        assert "another process" in self.line(capfd.readouterr().err)

    def test_another_machine(
        self, bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "results"
        assert run_here(bundle, out) == 0
        manifest = json.loads((out / "dataset.json").read_text())
        manifest["fingerprint"]["cpu"] = "Cortex-A72"
        (out / "dataset.json").write_text(json.dumps(manifest))
        capfd.readouterr()
        assert run_here(bundle, out) == 1
        assert "Cortex-A72" in self.line(capfd.readouterr().err)

    @pytest.mark.parametrize("cores", ["99999", "x"])
    def test_cores_that_are_not_there(
        self, bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], cores: str
    ) -> None:
        assert run_here(bundle, tmp_path / "results", "--cores", cores) == 2
        self.line(capfd.readouterr().err)

    def test_more_threads_than_cores(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        many = make_micro_bundle(tmp_path / "b.pyz", 1, threads=4096)
        assert run_here(many, tmp_path / "results") == 2
        assert "fewer --threads" in self.line(capfd.readouterr().err)

    def test_a_damaged_bundle(self, bundle: Path, tmp_path: Path) -> None:
        content = bundle.read_bytes()
        cut = tmp_path / "cut.pyz"
        cut.write_bytes(content[:-2000])
        with pytest.raises(DatasetError, match="damaged"), Bundle(cut):
            pass
        changed = tmp_path / "changed.pyz"
        at = content.index(b"networks/0.onnx") + 60
        changed.write_bytes(content[:at] + b"\xff\xff\xff\xff" + content[at + 4 :])
        with Bundle(changed) as opened, pytest.raises(DatasetError, match="damaged"):
            opened.read("networks/0.onnx")

    def test_interrupted(self, bundle: Path, board: Board, tmp_path: Path) -> None:
        out = tmp_path / "results"
        process = board.start(bundle, "--out", out)
        deadline = time.monotonic() + 120
        while not rows_in(out):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "run the same command" in self.line(err)


def test_a_machine_without_sys(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor /proc: what is not known is null, and the rest goes on."""
    monkeypatch.setattr(measure, "machine_facts", partial(machine_facts, tmp_path / "nowhere"))
    assert run_here(bundle, tmp_path / "results") == 0
    facts = import_results(tmp_path / "results", tmp_path / "d").dataset.manifest.fingerprint
    assert facts["governor"] is facts["cpu_id"] is facts["memory_gb"] is None
    assert facts["cores"] == os.cpu_count()


class Kept(Listener):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_a_clock_that_jumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a run it does not count; of the next one times go on from the last row."""
    manifest = {
        "target": {"setting": {}}, "protocol": {"anchored": True}, "fingerprint": {},
        "requested": 1,
    }  # fmt: skip
    row = {"arch_id": 1, "ratio_to_anchor": 1.0, "flags": []}
    moments = iter([2_000_000_000, 1_000_000_000])
    notes = Kept()
    for start in range(0, 4, 2):
        moment = next(moments)
        monkeypatch.setattr(results.time, "time_ns", lambda moment=moment: moment * 10**9)
        with Results(tmp_path / "results", manifest, notes) as opened:
            for visit in range(start, start + 2):
                opened.append({**row, "visit": visit})
                monkeypatch.setattr(results.time, "time_ns", lambda: 0)
    times = [done["measured_at"] for done in rows_in(tmp_path / "results")]
    assert times == sorted(set(times))
    assert 0 <= times[0] - 2_000_000_000_000_000 < 60e6
    (note,) = notes.notes
    assert "1000000" in note


def test_plans_and_rows_that_are_none(tmp_path: Path) -> None:
    """Of a bundle, and of a folder of results that an earlier run left."""
    bundle = make_micro_bundle(tmp_path / "b.pyz", 4)
    with zipfile.ZipFile(bundle) as archive:
        names = {name: archive.read(name) for name in archive.namelist()}
    for plan in (b"7", b"[]", b"{}", b"[" * 100_000, b"NaN", b'{"format": 1}'):
        with zipfile.ZipFile(tmp_path / "c.pyz", "w") as archive:
            for name, content in {**names, "bundle.json": plan}.items():
                archive.writestr(name, content)
        with pytest.raises(DatasetError, match="damaged"), Bundle(tmp_path / "c.pyz"):
            pass
    assert run_here(bundle, tmp_path / "r") == 0
    journal = tmp_path / "r" / "journal.jsonl"
    rows = journal.read_bytes()
    journal.write_bytes(rows + b"7\n[]\nnull\n" + b"[" * 100_000 + b"\n")
    assert run_here(bundle, tmp_path / "r") == 0
    assert journal.read_bytes().startswith(rows)
    assert b"[[" not in journal.read_bytes()
    (tmp_path / "r" / "dataset.json").write_bytes(b"[" * 100_000)
    assert run_here(bundle, tmp_path / "r") == 1
