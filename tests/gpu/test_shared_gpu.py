"""A GPU as its users find it: busy, one of several, a part of one (MIG), or without memory left."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from latkit.backends.torch_cuda import TorchCudaBackend, current_gpu_uuid, gpu_fingerprint
from latkit.core.errors import BackendError, SearchError
from latkit.dataset import LatencyDataset, Target
from latkit.dataset.check import check_dataset
from latkit.dataset.flags import OTHER_PROCESSES
from latkit.meters.nvml import GpuState, GpuWatch, ask, find_gpu, gpu_state, load_nvml
from latkit.profiling.loop import profile
from latkit.profiling.protocol import Protocol
from latkit.search.data import load_data
from latkit.search.session import SearchConfig, run_search
from latkit.spaces import get_preset, get_space
from latkit.tasks.doctor import judge_gpu_state
from tests.support.synthetic import made_lpm

_probe = TorchCudaBackend.probe()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not _probe.usable, reason=f"torch-cuda is {_probe.status}: {_probe.reason}"),
]

ROOT = Path(__file__).parents[2]
# Enough for what is small here, and too little for what is large.
LITTLE_MEMORY = 3 * 2**29
WORK = """
import torch
x = torch.randn(4096, 4096, device="cuda")
torch.cuda.synchronize()
print("ready", flush=True)
while True:
    x = (x @ x).clamp_(-1, 1)
    torch.cuda.synchronize()
"""
TELL = """
import json
from latkit.backends import probe_backend
from latkit.backends.torch_cuda import current_gpu_uuid, gpu_fingerprint
usable = probe_backend("torch-cuda").usable
print(json.dumps([usable] + ([current_gpu_uuid(), gpu_fingerprint()] if usable else [])))
"""


@pytest.fixture
def nvml() -> Any:
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    return load_nvml()


@pytest.fixture
def foreign_process() -> Iterator[None]:
    """Another process that keeps the GPU busy."""
    command = [sys.executable, "-c", WORK]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def little_memory() -> Iterator[None]:
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, LITTLE_MEMORY / total))
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def state_now(nvml: Any) -> GpuState:
    torch.zeros(1, device="cuda")
    return gpu_state(nvml, find_gpu(nvml, current_gpu_uuid()))


def under(visible: str) -> Any:
    """What a process says of its GPU under ``CUDA_VISIBLE_DEVICES``."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": visible, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", TELL]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def profile_some(n: int, out: Path) -> LatencyDataset:
    target = Target("darts", "this-gpu", "torch-cuda", get_preset("tiny"))
    with TorchCudaBackend() as backend:
        profile(backend, target, Protocol(), n, 0, out)
    return LatencyDataset.open(out)


@pytest.mark.usefixtures("foreign_process")
def test_a_foreign_process_is_counted_and_doctor_warns(nvml: Any) -> None:
    state = state_now(nvml)
    if not state.processes:
        pytest.skip("the driver lists no processes here, as in some containers")
    others = state.other_processes(own=1)
    if not others:
        pytest.skip("the driver lists only processes of this container")
    row = judge_gpu_state(state, others)
    assert row.status == "warning"
    assert "other process" in row.what


@pytest.mark.usefixtures("foreign_process")
def test_a_busy_gpu_can_be_profiled(tmp_path: Path) -> None:
    dataset = profile_some(5, tmp_path / "d")
    assert dataset.architectures >= 5
    assert all(latency > 0 for latency in dataset.table["latency_ms"].to_pylist())


@pytest.mark.usefixtures("foreign_process")
def test_a_foreign_process_is_in_the_rows(nvml: Any, tmp_path: Path) -> None:
    torch.zeros(1, device="cuda")
    _, others = GpuWatch(nvml, find_gpu(nvml, current_gpu_uuid())).look()
    if not others:
        pytest.skip("the driver does not list processes of others here, as in some containers")
    report = check_dataset(profile_some(3, tmp_path / "d"))
    assert report.rows_by_gpu_state[OTHER_PROCESSES] == report.summary.rows - (
        report.summary.rows_panel
    )


def test_a_gpu_is_chosen_and_looked_up_by_its_uuid(nvml: Any) -> None:
    gpu = find_gpu(nvml, current_gpu_uuid())
    uuid = ask(nvml, "nvmlDeviceGetUUID", gpu)
    assert current_gpu_uuid() in uuid
    usable, seen, facts = under(uuid)
    assert usable
    assert seen == current_gpu_uuid()
    assert facts == gpu_fingerprint()
    assert facts["gpu_driver"]
    assert facts["gpu_clock_max_mhz"]


def test_without_visible_devices_the_backend_is_missing() -> None:
    assert under("") == [False]


def test_of_two_gpus_the_visible_one_is_fingerprinted(nvml: Any) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("this machine shows one GPU")
    seen = []
    for number in ("0", "1"):
        usable, uuid, _ = under(number)
        assert usable
        assert uuid in ask(nvml, "nvmlDeviceGetUUID", find_gpu(nvml, uuid))
        seen.append(uuid)
    assert seen[0] != seen[1]


def test_a_part_of_a_gpu_has_the_clocks_of_the_whole(nvml: Any) -> None:
    facts = gpu_fingerprint()
    if not facts.get("gpu_mig"):
        pytest.skip("this GPU is not parted (MIG)")
    gpu = find_gpu(nvml, current_gpu_uuid())
    assert ask(nvml, "nvmlDeviceGetUUID", gpu).startswith("MIG-")
    assert facts["gpu_clock_max_mhz"]


@pytest.mark.usefixtures("little_memory")
def test_memory_that_runs_out_in_a_profile_loses_nothing(tmp_path: Path) -> None:
    rows = profile_some(3, tmp_path / "d").table.num_rows
    large = get_preset("imagenet").replace(batch=1024)
    target = Target("darts", "this-gpu", "torch-cuda", large)
    with TorchCudaBackend() as backend, pytest.raises(BackendError, match="memory"):
        profile(backend, target, Protocol(), 3, 0, tmp_path / "large")
    # Nothing of the network that did not fit is left on the device.
    torch.cuda.empty_cache()
    assert torch.cuda.memory_allocated() < LITTLE_MEMORY / 10
    assert profile_some(5, tmp_path / "d").table.num_rows > rows


@pytest.mark.usefixtures("little_memory")
def test_memory_that_runs_out_in_a_search_is_one_line(tmp_path: Path) -> None:
    lpm, data, space = (
        made_lpm(tmp_path / "d").lpm,
        load_data("digits", 1024, 0),
        get_space("darts"),
    )
    large = SearchConfig(cells=8, channels=128, batch=512, epochs=1, limit=1024)
    with pytest.raises(SearchError, match="memory ran out"):
        run_search(large, space, lpm, "made", data, tmp_path / "large", "cuda")
    torch.cuda.empty_cache()
    small = dataclasses.replace(large, cells=3, channels=4, batch=16, limit=96)
    data = load_data("digits", 96, 0)
    outcome = run_search(small, space, lpm, "made", data, tmp_path / "small", "cuda")
    assert len(outcome.history) == 1
