"""The number of threads that is recorded is the number that ran, whatever the environment says.

Runtimes read their environment when they are loaded, so each case is a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from latkit.backends.openmp import exact_regions, region_width
from latkit.backends.torch_cpu import TorchCpuBackend
from latkit.backends.torch_modes import torch_threads
from latkit.core.cores import process_cores, usable_cores
from latkit.core.errors import InputError
from tests.support.commands import MICRO_TEXT, RunLatkit

CPU_BACKENDS = ("torch-cpu", "onnxruntime-cpu", "openvino-cpu", "ncnn-cpu")
two_cores = pytest.mark.skipif(usable_cores() < 2, reason="two threads need two cores")
linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin")

# Profiles one architecture, and looks at the threads while the last network is loaded.
SCRIPT = """
import json, os, sys
name, threads, out, setting = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
from pathlib import Path
from latkit.backends import BACKENDS, probe_backend
from latkit.dataset import LatencyDataset, Target
from latkit.core.errors import LatkitError
from latkit.spaces import parse_setting
from latkit.profiling import loop
from latkit.profiling.protocol import Protocol
from latkit.profiling.session import Session

probe = probe_backend(name)
if not probe.usable:
    sys.exit(json.dumps({"skip": probe.reason}))
cores, ran = set(), set()
def used_ns():
    tasks = os.listdir("/proc/self/task")
    return {t: int(open(f"/proc/self/task/{t}/schedstat").read().split()[0]) for t in tasks}
original = Session.measure
def measure(self, architecture):
    before = used_ns()
    made = original(self, architecture)
    ran.update(t for t, used in used_ns().items() if used > before.get(t, 0))
    for thread in os.listdir("/proc/self/task"):
        cores.update(os.sched_getaffinity(int(thread)))
    return made
loop.Session.measure = measure
cls = BACKENDS.get(name)
setting = parse_setting(f"{setting},memory_format={cls.memory_formats[0]}")
try:
    with cls(threads=threads) as backend:
        target = Target("darts", "this-cpu", name, setting)
        protocol = Protocol(cores=tuple(map(int, sys.argv[5:])), runs=2)
        loop.profile(backend, target, protocol, 1, 0, Path(out))
except LatkitError as error:
    print(json.dumps({"refused": type(error).__name__, "text": str(error)}))
else:
    manifest = LatencyDataset.open(out).manifest
    facts = manifest.fingerprint
    print(json.dumps({"threads": facts["threads"], "protocol": manifest.protocol["threads"],
                      "usable_cores": facts["usable_cores"], "affinity": facts["affinity"],
                      "cores": sorted(cores), "ran": len(ran)}))
"""


def profiled(
    tmp_path: Path,
    backend: str,
    threads: int,
    environment: dict[str, str] | None = None,
    on: set[int] | None = None,
    cores: tuple[int, ...] = (),
) -> dict[str, Any]:
    """What a dataset records that was made in a process of its own.

    Args:
        tmp_path: for the dataset.
        backend: name of the backend.
        threads: requested.
        environment: further variables.
        on: cores the process may use; all that this one may if None.
        cores: the protocol's.
    """
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, backend, str(threads), str(tmp_path / "d"), MICRO_TEXT,
         *map(str, cores)],
        env={**clean, **(environment or {})},
        preexec_fn=None if on is None else lambda: os.sched_setaffinity(0, on),
        capture_output=True,
        text=True,
    )  # fmt: skip
    if "skip" in done.stderr and done.returncode == 1:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def assert_that_many_ran(backend: str, facts: dict[str, Any]) -> None:
    """As many threads of the process used a core in the measurements as the dataset records."""
    if backend == "openvino-cpu":  # it has threads of its own for compiling
        assert facts["ran"] >= facts["threads"]
    else:
        assert facts["ran"] == facts["threads"]


@two_cores
@linux
class TestRecorded:
    @pytest.mark.parametrize("backend", CPU_BACKENDS)
    def test_two_threads_on_cores_that_openmp_bound(self, tmp_path: Path, backend: str) -> None:
        """``OMP_PROC_BIND`` takes all cores but one from the thread that imports torch."""
        facts = profiled(tmp_path, backend, 2, {"OMP_PROC_BIND": "true"})
        assert facts["threads"] == facts["protocol"] == 2
        assert facts["usable_cores"] == usable_cores()
        assert_that_many_ran(backend, facts)
        # Neither are the runtime's own threads all on that one core.
        assert len(facts["cores"]) > 1

    @pytest.mark.parametrize("backend", ["torch-cpu", "ncnn-cpu"])
    def test_a_limit_that_openmp_keeps_is_told(self, tmp_path: Path, backend: str) -> None:
        done = profiled(tmp_path, backend, 2, {"OMP_THREAD_LIMIT": "1"})
        assert done["refused"] == "BackendError"
        assert "OMP_THREAD_LIMIT" in done["text"]
        assert "--threads 1" in done["text"]
        assert not (tmp_path / "d").exists()

    @pytest.mark.parametrize(
        "binding",
        [{"GOMP_CPU_AFFINITY": "CORE"}, {"OMP_PLACES": "{CORE}", "OMP_PROC_BIND": "close"}],
    )
    def test_threads_that_are_bound_to_one_core(
        self, tmp_path: Path, binding: dict[str, str]
    ) -> None:
        core = str(min(process_cores()))
        environment = {name: value.replace("CORE", core) for name, value in binding.items()}
        done = profiled(tmp_path, "torch-cpu", 2, environment)
        assert done["refused"] == "BackendError"
        assert next(iter(binding)) in done["text"]
        assert not (tmp_path / "d").exists()

    @pytest.mark.parametrize("backend", CPU_BACKENDS[1:3])
    def test_a_limit_that_others_do_not_know(self, tmp_path: Path, backend: str) -> None:
        facts = profiled(tmp_path, backend, 2, {"OMP_THREAD_LIMIT": "1"})
        assert facts["threads"] == facts["protocol"] == 2
        assert_that_many_ran(backend, facts)

    def test_two_threads_on_one_core(self, tmp_path: Path) -> None:
        core = max(process_cores())
        done = profiled(tmp_path, "torch-cpu", 2, on={core})
        assert done["refused"] == "InputError"
        assert "2 threads" in done["text"]
        assert not (tmp_path / "d").exists()

    def test_pinned_though_openmp_binds(self, tmp_path: Path) -> None:
        cores = tuple(sorted(process_cores())[:2])
        facts = profiled(tmp_path, "torch-cpu", 2, {"OMP_PROC_BIND": "true"}, cores=cores)
        assert facts["threads"] == 2
        assert set(facts["cores"]) <= set(cores)
        dash = "-" if cores[1] == cores[0] + 1 else ","
        assert facts["affinity"] == f"{cores[0]}{dash}{cores[1]}"


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@pytest.mark.parametrize("threads", [64, 100_000])
def test_more_threads_than_cores(latkit: RunLatkit, backend: str, threads: int) -> None:
    if usable_cores() >= threads:
        pytest.skip("this machine has the cores")
    done = latkit(
        "profile", "--backend", backend, "--setting", MICRO_TEXT, "--n", 3, "--threads", threads,
        "--out", "d",
    )  # fmt: skip
    assert done.returncode == InputError.exit_code
    assert f"--threads {usable_cores()}" in done.stderr
    assert not Path("d").exists()


def test_a_refused_backend_has_changed_nothing() -> None:
    before = torch.get_num_threads()
    with pytest.raises(InputError):
        TorchCpuBackend(threads=usable_cores() + 1).__enter__()
    assert torch.get_num_threads() == before


class TestRegions:
    @pytest.mark.parametrize("threads", [1, 2, 3])
    def test_are_as_wide_as_asked(self, threads: int) -> None:
        with torch_threads(threads), exact_regions():
            if region_width() is None:
                pytest.skip("this PyTorch has no OpenMP whose width can be read")
            assert region_width() == threads

    def test_dynamic_widths_are_off_while_a_backend_is_open(self) -> None:
        code = (
            "import ctypes\n"
            "from latkit.backends.torch_cpu import TorchCpuBackend\n"
            "dynamic = ctypes.CDLL(None).omp_get_dynamic\n"
            "states = [dynamic()]\n"
            "with TorchCpuBackend():\n"
            "    states.append(dynamic())\n"
            "print([*states, dynamic()])\n"
        )
        if region_width() is None:
            pytest.skip("this PyTorch has no OpenMP whose width can be read")
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "OMP_DYNAMIC": "true"},
            capture_output=True,
            text=True,
        )
        assert done.stdout == "[1, 0, 1]\n", done.stderr
