"""Eager PyTorch on a real GPU. Skipped, with the reason, where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from latkit.backends.torch_cuda import TorchCudaBackend
from latkit.dataset import LatencyDataset, Target
from latkit.meters.energy import energy_per_run_mj
from latkit.profiling.loop import profile
from latkit.profiling.protocol import Protocol
from latkit.search.data import load_data
from latkit.search.session import SearchConfig, run_search
from latkit.spaces import get_preset, get_space
from latkit.spaces.darts.zoo import ZOO
from tests.support.synthetic import made_lpm

_probe = TorchCudaBackend.probe()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not _probe.usable, reason=f"torch-cuda is {_probe.status}: {_probe.reason}"),
]


def test_samples_are_event_times_within_the_wall_time() -> None:
    with (
        TorchCudaBackend() as backend,
        backend.compile(ZOO["darts_v2"], get_preset("tiny")) as runner,
    ):
        runner.run(5)
        samples = runner.run(10)
    assert runner.clock == "event"
    assert all(
        event <= 1.05 * wall + 0.05
        for event, wall in zip(samples.clock_ms, samples.wall_ms, strict=True)
    )


def test_a_larger_batch_takes_longer() -> None:
    times = []
    with TorchCudaBackend() as backend:
        for batch in (8, 256):
            setting = get_preset("imagenet").replace(batch=batch)
            with backend.compile(ZOO["darts_v2"], setting) as runner:
                runner.run(3)
                times.append(min(runner.run(5).clock_ms))
    assert times[1] > 2 * times[0]


def test_modes_are_set_and_restored() -> None:
    torch.backends.cudnn.allow_tf32 = True
    with TorchCudaBackend():
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32


def test_closing_frees_device_memory() -> None:
    with TorchCudaBackend() as backend:
        before = torch.cuda.memory_allocated()
        runner = backend.compile(ZOO["darts_v2"], get_preset("imagenet"))
        assert torch.cuda.memory_allocated() > before
        runner.close()
        assert torch.cuda.memory_allocated() == before


def test_peak_memory_grows_with_the_batch_and_is_the_networks_own() -> None:
    def peak_mb(batch: int) -> float:
        setting = get_preset("imagenet").replace(batch=batch)
        with backend.compile(ZOO["darts_v2"], setting) as runner:
            runner.run(1)
            return runner.peak_memory_mb() or 0.0

    with TorchCudaBackend() as backend:
        alone = peak_mb(8)
        assert peak_mb(32) > 1.5 * alone
        with backend.compile(ZOO["darts_v2"], get_preset("imagenet")):
            assert peak_mb(8) == pytest.approx(alone, rel=0.05)


def test_energy() -> None:
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    with TorchCudaBackend() as backend:
        meter = backend.open_meter()
        with backend.compile(ZOO["darts_v2"], get_preset("imagenet")) as runner:
            run_ms = min(runner.run(5).wall_ms)
            used_mj = energy_per_run_mj(meter, runner.run, run_ms)
    # Between 5 W and 2 kW while it runs.
    assert 5 * run_ms < used_mj < 2000 * run_ms


def test_search(tmp_path: Path) -> None:
    config = SearchConfig(cells=3, channels=4, batch=16, epochs=2, limit=96)
    lpm = made_lpm(tmp_path / "d").lpm
    data = load_data("digits", 96, 0)
    space = get_space("darts")
    outcome = run_search(config, space, lpm, "made", data, tmp_path / "s", "cuda")
    assert len(outcome.history) == 2
    assert run_search(config, space, lpm, "made", data, tmp_path / "s", "cuda") == outcome


def test_profile(tmp_path: Path) -> None:
    target = Target("darts", "this-gpu", "torch-cuda", get_preset("tiny"))
    with TorchCudaBackend() as backend:
        profile(backend, target, Protocol(), 5, 0, tmp_path / "d")
    dataset = LatencyDataset.open(tmp_path / "d")
    assert dataset.table["clock"].to_pylist() == ["event"] * dataset.table.num_rows
    assert dataset.manifest.fingerprint["gpu"] == torch.cuda.get_device_name()
    assert dataset.manifest.metrics == ("peak_memory_mb",)
