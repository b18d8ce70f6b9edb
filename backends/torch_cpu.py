"""Eager PyTorch on the CPU."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import torch

from latkit.backends.base import Backend, Clock, Facts, Probe, Runner, Samples
from latkit.device import cpu_name
from latkit.networks.setting import Setting
from latkit.networks.weights import random_input, random_network
from latkit.spaces.genotype import Genotype


class TorchCpuRunner(Runner):
    """A module in eval mode; thread CPU time where one thread does all the work."""

    def __init__(self, genotype: Genotype, setting: Setting, seed: int, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self._network: torch.nn.Module | None = random_network(genotype, setting, seed)
        self._input: torch.Tensor | None = random_input(setting, seed)

    def _run(self, n: int) -> Samples:
        network, x = self._network, self._input
        assert network is not None
        cpu_ms, wall_ms = [], []
        with torch.inference_mode():
            for _ in range(n):
                wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
                network(x)
                cpu_ms.append((time.thread_time_ns() - cpu) / 1e6)
                wall_ms.append((time.perf_counter_ns() - wall) / 1e6)
        return Samples(tuple(cpu_ms if self.clock == "cpu" else wall_ms), tuple(wall_ms))

    def _logits(self) -> npt.NDArray[np.float32]:
        assert self._network is not None
        with torch.inference_mode():
            return np.asarray(self._network(self._input).numpy())

    def _close(self) -> None:
        self._network = self._input = None


class TorchCpuBackend(Backend):
    """``torch-cpu``: works wherever PyTorch does."""

    name = "torch-cpu"

    @classmethod
    def probe(cls) -> Probe:
        return Probe("ok", f"PyTorch {torch.__version__} on {cpu_name()}")

    def fingerprint(self) -> Facts:
        return {
            "torch": torch.__version__,
            "threads": self.threads,
            "interop_threads": torch.get_num_interop_threads(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "mkl": bool(torch.backends.mkl.is_available()),
            "onednn": bool(torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled),
            # Anything but "highest" lets fp32 convolutions and products be computed in less.
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
        }

    @property
    def clock(self) -> Clock:
        return "cpu" if self.threads == 1 else "wall"

    def hardware_name(self) -> str:
        return cpu_name()

    def _compile(self, genotype: Genotype, setting: Setting, seed: int) -> Runner:
        return TorchCpuRunner(genotype, setting, seed, self.clock)

    def _enter(self) -> None:
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(self.threads)

    def _exit(self) -> None:
        torch.set_num_threads(self._threads_before)
