"""PyTorch on the CPU: eager, and compiled by inductor."""

from __future__ import annotations

import contextlib
import time
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from latkit.backends.base import Backend, Clock, Probe, Runner, Samples
from latkit.backends.openmp import exact_regions, region_width
from latkit.backends.registry import BACKENDS
from latkit.backends.torch_modes import (
    autocast,
    compile_whole,
    decide_compiler,
    find_compiler,
    torch_threads,
)
from latkit.core.device import Facts, cpu_name
from latkit.spaces import Architecture, Setting
from latkit.spaces.build import random_input, random_network


class TorchCpuRunner(Runner):
    """A module in eval mode; thread CPU time where one thread does all the work.

    Args:
        network: what computes logits from images.
        images: its input.
        precision: fp32, or what autocast is to take.
        clock: of the samples.
    """

    def __init__(self, network: Any, images: torch.Tensor, precision: str, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self._network: Any = network
        self._input: torch.Tensor | None = images
        self._precision = precision

    def _run(self, n: int) -> Samples:
        network, x = self._network, self._input
        cpu_ms, wall_ms = [], []
        with self._modes():
            for _ in range(n):
                wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
                network(x)
                cpu_ms.append((time.thread_time_ns() - cpu) / 1e6)
                wall_ms.append((time.perf_counter_ns() - wall) / 1e6)
        return Samples(tuple(cpu_ms if self.clock == "cpu" else wall_ms), tuple(wall_ms))

    def _logits(self) -> npt.NDArray[np.float32]:
        with self._modes():
            return np.asarray(self._network(self._input).float().numpy())

    @contextlib.contextmanager
    def _modes(self) -> Any:
        with torch.inference_mode(), autocast("cpu", self._precision):
            yield

    def _close(self) -> None:
        self._network = self._input = None


@BACKENDS.register("torch-cpu")
class TorchCpuBackend(Backend):
    """``torch-cpu``: eager; works wherever PyTorch does. bf16 is autocast."""

    name = "torch-cpu"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "bf16")
    thread_limits = (
        "OMP_THREAD_LIMIT", "OMP_MAX_ACTIVE_LEVELS", "KMP_ALL_THREADS", "GOMP_CPU_AFFINITY",
        "OMP_PLACES",
    )  # fmt: skip

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

    def _compile(self, architecture: Architecture, setting: Setting, seed: int) -> Runner:
        images = random_input(setting, seed)
        network = self._prepare(random_network(architecture, setting, seed), images)
        return TorchCpuRunner(network, images, setting.precision, self.clock)

    def _prepare(self, network: torch.nn.Module, images: torch.Tensor) -> Any:
        """What runs in the network's place."""
        return network

    def _parallel_width(self) -> int | None:
        return region_width()

    def _enter(self) -> None:
        self._host = contextlib.ExitStack()
        self._host.enter_context(torch_threads(self.threads))
        self._host.enter_context(exact_regions())

    def _exit(self) -> None:
        self._host.close()


@BACKENDS.register("torch-cpu-compile")
class TorchCpuCompileBackend(TorchCpuBackend):
    """``torch-cpu-compile``: one graph compiled by inductor, half a minute a network."""

    name = "torch-cpu-compile"
    precisions = ("fp32",)

    @classmethod
    def probe(cls) -> Probe:
        return decide_compiler(find_compiler(), torch.__version__)

    def fingerprint(self) -> Facts:
        return {**super().fingerprint(), "compiler": "inductor", "cxx": find_compiler()}

    def _prepare(self, network: torch.nn.Module, images: torch.Tensor) -> Any:
        return compile_whole(network, images)
