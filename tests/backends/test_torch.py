"""Eager PyTorch: real runs on the CPU, and the decision whether a GPU is usable."""

from __future__ import annotations

import time

import pytest
import torch

from latkit.backends.torch_cpu import TorchCpuBackend
from latkit.backends.torch_cuda import decide_support
from latkit.spaces import Setting, get_preset
from latkit.spaces.darts.zoo import ZOO

CU126 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
CU130 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


@pytest.mark.parametrize(
    ("capability", "arch_list", "status"),
    [
        ((6, 0), CU126, "ok"),
        ((6, 1), CU126, "ok"),  # machine code of 6.0 runs on 6.1
        ((6, 0), CU130, "unusable"),
        ((7, 0), CU130, "unusable"),
        ((8, 9), CU130, "ok"),
        ((9, 0), CU130, "ok"),
        ((12, 1), CU130, "ok"),
        ((13, 0), CU130, "ok"),  # compute_120 is compiled on the device
        ((8, 0), ["sm_86"], "unusable"),  # never downwards
        ((9, 0), ["sm_90a"], "ok"),
        ((9, 1), ["sm_90a"], "unusable"),  # "a" is that architecture alone
        ((9, 0), [], "unusable"),
    ],
)
def test_cuda_support(capability: tuple[int, int], arch_list: list[str], status: str) -> None:
    probe = decide_support("Some GPU", capability, arch_list, "2.14")
    assert probe.status == status
    assert "Some GPU" in probe.reason


def test_pascal_is_told_which_build_to_install() -> None:
    probe = decide_support("Tesla P100-PCIE-16GB", (6, 0), CU130, "2.14.1+cu130")
    assert "sm_60" in probe.reason
    assert "cu126" in probe.fix


class TestTorchCpu:
    def test_samples(self, micro: Setting) -> None:
        with TorchCpuBackend() as backend, backend.compile(ZOO["darts_v2"], micro) as runner:
            before = time.perf_counter()
            samples = runner.run(5)
            elapsed_ms = 1e3 * (time.perf_counter() - before)
        assert runner.clock == "cpu"
        assert len(samples.clock_ms) == len(samples.wall_ms) == 5
        assert 0 < sum(samples.wall_ms) <= elapsed_ms

    def test_the_cpu_clock_does_not_count_waiting(self, micro: Setting) -> None:
        class Sleeper(torch.nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                time.sleep(0.05)
                return x

        with TorchCpuBackend() as backend, backend.compile(ZOO["darts_v2"], micro) as runner:
            runner._network = Sleeper()  # type: ignore[attr-defined]
            samples = runner.run(2)
        assert min(samples.wall_ms) >= 50
        assert max(samples.clock_ms) < 25

    def test_several_threads_are_timed_by_the_wall(self, micro: Setting) -> None:
        with TorchCpuBackend(threads=2) as backend:
            assert torch.get_num_threads() == 2
            with backend.compile(ZOO["darts_v2"], micro) as runner:
                samples = runner.run(3)
        assert runner.clock == "wall"
        assert samples.clock_ms == samples.wall_ms

    def test_restores_the_number_of_threads(self) -> None:
        before = torch.get_num_threads()
        with TorchCpuBackend(threads=1):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == before

    def test_a_larger_network_takes_longer(self) -> None:
        small = get_preset("tiny")
        large = small.replace(cells=15)
        with TorchCpuBackend() as backend:
            times = []
            for setting in (small, large):
                with backend.compile(ZOO["darts_v2"], setting) as runner:
                    runner.run(2)
                    times.append(min(runner.run(5).clock_ms))
        assert times[1] > 1.5 * times[0]

    def test_closing_frees_the_network(self, micro: Setting) -> None:
        import gc
        import weakref

        with TorchCpuBackend() as backend:
            runner = backend.compile(ZOO["darts_v2"], micro)
            network = weakref.ref(runner._network)  # type: ignore[attr-defined]
            runner.close()
            gc.collect()
        assert network() is None

    def test_fingerprint_is_plain_data(self) -> None:
        facts = TorchCpuBackend(threads=3).fingerprint()
        assert facts["threads"] == 3
        assert facts["torch"] == torch.__version__
        assert all(isinstance(value, (str, int, float, bool)) for value in facts.values())
