"""``benchmarks/gpu.py`` without a GPU: its parts' logic, and that no part's end loses another's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.gpu import choose, known_parts, main, prove
from benchmarks.gpu_parts.child import run as run_part
from benchmarks.gpu_parts.interfaces import provider_names
from benchmarks.gpu_parts.machine import unanswered
from benchmarks.gpu_parts.page import page
from benchmarks.gpu_parts.part import ROOT, Context, Part
from benchmarks.gpu_parts.profiles import judge_host_bound
from benchmarks.gpu_parts.steps import count_launches
from benchmarks.gpu_parts.suites import CONFORMANCE
from latkit.backends import BACKENDS
from latkit.backends.hardware import BACKEND_SUPPORT
from latkit.backends.provider_packages import find_packages
from tests.support.commands import RunLatkit, ok

FAULTS = {
    "raises": ("failed", "ValueError: of no value", 1),
    "hangs": ("timed out", "killed after 8 s; see the log", 2),
    "is_killed": ("killed", "by SIGKILL (what a system that ran out of memory sends)", 3),
    "takes_all_memory": ("out of memory", None, 4),
    "leaves": ("failed", "its process ended with 7; see the log", 5),
    "is_not_so": ("failed", "not so: one", 6),
}


def part(name: str, limit_s: float = 120, *arguments: str, together: bool = False) -> Part:
    function = f"tests.benchmarks.faulty:{name}"
    return Part(".".join((name, *arguments)), "made", function, limit_s, arguments, together)


def run(parts: list[Part], folder: Path, minutes: float = 10) -> dict[str, dict[str, Any]]:
    """The parts' entries as they are on disk."""
    work = folder / "work"
    work.mkdir()
    prove(parts, "cpu", True, folder / "out", work, minutes)
    entries = json.loads((folder / "out" / "gpu.json").read_text())["parts"]
    return {entry["name"]: entry for entry in entries}


def check_it_ends(pid: int) -> None:
    """A process is gone or a zombie; a kill takes its time on a busy machine."""
    stat = Path("/proc", str(pid), "stat")
    for _ in range(300):
        try:
            state = stat.read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state in "ZX":
            return
        time.sleep(0.1)
    pytest.fail(f"process {pid} was left")


def test_a_fault_is_told_by_name_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.gpu_parts.runner.usable_cores", lambda: 2)
    names = (*FAULTS, "cannot_run", "good")
    entries = run(
        [part(name, 8 if name == "hangs" else 120, together=True) for name in names], tmp_path
    )
    for name, (verdict, reason, answer) in FAULTS.items():
        entry = entries[name]
        assert entry["verdict"] == verdict, name
        assert reason is None or entry["reason"] == reason
        assert entry["results"]["answer"] == answer, "what was reported before is kept"
    assert "MemoryError" in entries["takes_all_memory"]["reason"]
    assert entries["cannot_run"]["verdict"] == "skipped"
    assert entries["cannot_run"]["reason"] == "no such device"
    assert entries["good"]["verdict"] == "ok"
    assert entries["good"]["figure"] == "42"
    log = (tmp_path / "out" / "log.txt").read_text()
    assert "ValueError: of no value" in log
    assert "in hangs" in log, "where it hung"
    check_it_ends(entries["hangs"]["results"]["child"])


def test_parts_that_may_run_together_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.gpu_parts.runner.usable_cores", lambda: 2)
    pair = [part("waits", 120, *names, together=True) for names in (("a", "b"), ("b", "a"))]
    entries = run(pair, tmp_path)
    assert {entry["verdict"] for entry in entries.values()} == {"ok"}


def test_without_time_left_a_part_is_not_begun(tmp_path: Path) -> None:
    entries = run([part("good")], tmp_path, minutes=0.01)
    assert entries["good"]["verdict"] == "not run"


def test_an_interruption_keeps_what_was_reported_and_leaves_nothing_running(tmp_path: Path) -> None:
    script = (
        "import signal, sys; from pathlib import Path\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        "from tests.benchmarks.test_gpu import part, run\n"
        "run([part('good'), part('hangs', 600)], Path(sys.argv[1]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    results = tmp_path / "out" / "gpu.json"
    while '"child"' not in (results.read_text() if results.exists() else ""):
        assert process.poll() is None
        time.sleep(0.1)
    process.terminate()
    assert process.wait() != 0
    good, hangs = json.loads(results.read_text())["parts"]
    assert good["results"] == {"answer": 42}
    child = Path("/proc") / str(hangs["results"]["child"])
    while child.exists() and "Z" not in (child / "stat").read_text().split()[2]:
        time.sleep(0.1)


def test_every_part_can_be_named_and_the_limits_leave_time_for_most() -> None:
    parts = known_parts("cuda", quick=False)
    names = [p.name for p in parts]
    assert len(set(names)) == len(names)
    assert {p.arguments[0] for p in parts if p.name.startswith("suite.")} <= set(BACKENDS.names())
    on_gpu = {name for name, support in BACKEND_SUPPORT.items() if support.hardware == "GPU"}
    assert {p.arguments[0] for p in parts if p.name.startswith("suite.")} == on_gpu
    assert [p.name for p in choose(parts, ["step.darts", "suite"])] == [
        name for name in names if name == "step.darts" or name.startswith("suite.")
    ]
    with pytest.raises(SystemExit, match="no part profil"):
        choose(parts, ["profil"])
    assert (ROOT / CONFORMANCE).exists()


def test_wheels_come_first_on_the_path_of_all_processes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "made-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("rich/__init__.py", "print('the rich of the wheel')")
    script = (
        "import subprocess, sys; from pathlib import Path\n"
        "from benchmarks.gpu import put_wheels_on_path\n"
        "put_wheels_on_path(Path(sys.argv[1]), Path(sys.argv[1]))\n"
        "import rich; subprocess.run([sys.executable, '-c', 'import rich'])"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.count("the rich of the wheel") == 2


def test_no_gpu_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    missing = {"status": "missing", "reason": "no GPU", "fix": "fit one", "device": ""}
    monkeypatch.setattr("benchmarks.gpu.probe", lambda name: missing)
    with pytest.raises(SystemExit) as ended:
        main()
    signal.signal(signal.SIGTERM, before)
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_host_bound() -> None:
    eager, graph = {"clock": 8.0, "wall": 8.2}, {"clock": 2.0, "wall": 2.1}
    verdict = judge_host_bound(eager, graph)
    assert verdict["host_bound"]
    assert verdict["share_of_eager_time_waiting"] == pytest.approx(0.75)
    assert not judge_host_bound({"clock": 20.0, "wall": 20.1}, {"clock": 19.0, "wall": 19.1})[
        "host_bound"
    ]


def test_launches_are_kernels_and_no_copies() -> None:
    events = [("cudaLaunchKernel", 30), ("cuLaunchKernelEx", 2), ("cudaMemcpyAsync", 9),
              ("aten::add", 50), ("cudaLaunchKernelExC", 1)]  # fmt: skip
    assert count_launches(events) == 33


def test_the_page_shows_tables_and_escapes_them() -> None:
    entry = {
        "name": "p", "title": "t", "verdict": "failed", "reason": "a|b\nc", "figure": "",
        "seconds": 1.0, "commands": ["latkit x"], "results": {
            "few": [{"a": 1, "b": 2.34567}], "many": [{"a": 1}] * 99, "deep": {"x": {"y": None}},
        },
        "checks": [{"name": "so", "passed": False, "detail": ""}],
    }  # fmt: skip
    run = {
        "parts": [entry], "started_at": "2026-01-02T03:04:05", "command": "c", "device": "cpu",
        "latkit_version": "1", "commit": "abc", "seconds": 3.0, "quick": True,
    }  # fmt: skip
    text = page(run)
    assert "a\\|b c" in text
    assert "| 1 | 2.346 |" in text
    assert "99 rows in gpu.json" in text
    assert "| so | **no** |" in text
    assert "numbers mean nothing" in text


def test_providers_without_a_gpu_are_told_with_why(tmp_path: Path) -> None:
    names, reasons = provider_names(Context("cuda", False, tmp_path, (), lambda report: None))
    installed, _ = find_packages()
    if not any(BACKENDS.get(name)().gpu_identity() for name in names):
        assert names == []
    assert len(reasons) >= sum(len(package.providers) for package in installed) - len(names)


def test_calls_that_nvml_does_not_answer() -> None:
    nothing: Any = SimpleNamespace(NVMLError=RuntimeError)
    silent = unanswered(nothing, "gpu")
    assert "nvmlDeviceGetCurrentClocksEventReasons" in silent
    temperature: Any = SimpleNamespace(
        NVMLError=RuntimeError, nvmlDeviceGetTemperature=lambda gpu, sensor: 50
    )
    assert silent.keys() - unanswered(temperature, "gpu").keys() == {"nvmlDeviceGetTemperatureV"}


# Of the quick form: what runs by the command, and what runs here, each with what it builds on.
BY_COMMAND = ("gpu-tests", "suite.torch-cuda")
HERE = (
    ("profile.batch-1", "lpm", "search"), ("profile.batch-32",), ("step.darts",), ("networks",),
    ("protocols",), ("bf16",), ("energy",), ("step.pc-darts",), ("step.second-order",),
    ("doctor",), ("nccl",), ("cuda-packages",), ("plug-ins",), ("captured",),
)  # fmt: skip


def test_the_quick_form_is_run_whole() -> None:
    names = [*BY_COMMAND, *(name for group in HERE for name in group)]
    assert sorted(names) == sorted(p.name for p in known_parts("cpu", quick=True))


@pytest.mark.parametrize("names", HERE, ids="+".join)
def test_the_quick_form_of_parts(
    names: tuple[str, ...], tmp_path: Path, latkit: RunLatkit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts' logic with torch-cpu in place of torch-cuda, and latkit in this process."""
    monkeypatch.setattr(Context, "latkit", lambda context, *arguments: ok(latkit, *arguments))
    parts = {p.name: p for p in known_parts("cpu", quick=True)}
    for name in names:
        one = parts[name]
        task = {"device": "cpu", "quick": True, "work": str(tmp_path), "arguments": one.arguments,
                "function": one.function}  # fmt: skip
        reports: list[dict[str, Any]] = []
        end = run_part(task, reports.append)
        may_be_missing = name in ("energy", "cuda-packages")
        assert end["verdict"] == "ok" or (may_be_missing and end["verdict"] == "skipped"), end
        checks = [report["check"] for report in reports if "check" in report]
        assert all(check["passed"] for check in checks)
        assert json.dumps(reports)
        assert any("figure" in report for report in reports) or end["verdict"] == "skipped"


def test_the_command_in_its_quick_form(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), "--device", "cpu", "--quick"]
    only = [word for name in BY_COMMAND for word in ("--only", name)]
    done = subprocess.run(
        [*command, *only, "--out", str(tmp_path)], capture_output=True, text=True, check=False
    )
    entries = json.loads((tmp_path / "gpu.json").read_text())["parts"]
    verdicts = {entry["name"]: (entry["verdict"], entry["reason"]) for entry in entries}
    assert done.returncode == 0, verdicts
    assert [entry["name"] for entry in entries] == list(BY_COMMAND)
    skipped = {name for name, (verdict, _) in verdicts.items() if verdict == "skipped"}
    assert skipped <= {"gpu-tests"}
    assert (tmp_path / "README.md").read_text().startswith("# latkit on ")
